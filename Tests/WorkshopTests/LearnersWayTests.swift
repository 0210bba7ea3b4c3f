import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// A learner's whole way, at a terminal: begin, do it wrong, ask, do it right, go on, leave, come back.
@Suite(.serialized) struct LearnersWayTests {
  private func watch(_ course: LittleCourse, _ options: [String] = []) throws -> Program {
    try Program(
      course.command(["watch"] + options), environment: LittleCourse.environment(), onTerminal: true,
      outputOnTerminal: true)
  }

  @Test(arguments: [[], ["--poll"]]) func theWholeWay(options: [String]) throws {
    try LittleCourse.with { course in
      let file = "01-socket/exercise.swift"
      let program = try watch(course, options)
      var place = try program.waitForTerminal("Exercise 1 of 4")
      place = try program.waitForTerminal("it is checked when", from: place)
      place = try program.waitForTerminal("n: next · h: hint", from: place)
      #expect(!program.terminalIsCooked)

      try course.write(file, LittleCourse.wrong)
      place = try program.waitForTerminal("Compiling, running", from: place)
      place = try program.waitForTerminal("Likely missing: ", from: place, deadline: 60)
      place = try program.waitForTerminal("not yet (", from: place)
      place = try program.waitForTerminal("There are 3 hints: press h.", from: place)

      program.press("h")
      place = try program.waitForTerminal(LittleCourse.hints[0], from: place)
      program.press("h")
      place = try program.waitForTerminal(LittleCourse.hints[1], from: place)
      #expect(course.entry("01-socket")?.contains("hints 2") == true)

      // In place, as other editors save.
      let descriptor = try Descriptor.open("\(course.folder)/\(file)", O_WRONLY | O_TRUNC)
      try writeAll(Array(LittleCourse.solution.utf8), to: descriptor.number)
      try descriptor.close()
      place = try program.waitForTerminal("01-socket, has passed", from: place, deadline: 60)
      place = try program.waitForTerminal("You have learnt: A socket", from: place)
      place = try program.waitForTerminal("1 of 4 done", from: place)
      place = try program.waitForTerminal("Next is exercise 2", from: place)
      #expect(course.entry("01-socket")?.contains("done") == true)

      // It does not go on by itself.
      #expect(course.entry("02-bind") == nil)
      program.press("n")
      place = try program.waitForTerminal("Exercise 2 of 4", from: place)
      place = try program.waitForTerminal("\(course.folder)/02-bind/exercise.swift", from: place)
      place = try program.waitForTerminal("q: quit", from: place)

      program.press("l")
      place = try program.waitForTerminal("10-listen/2", from: place)
      place = try program.waitForTerminal("Enter: back", from: place)
      program.press("\n")
      place = try program.waitForTerminal("it is checked when", from: place)
      program.press("c")
      place = try program.waitForTerminal("1 passed, 1 did not.", from: place, deadline: 60)

      program.press("q")
      #expect(try program.finish().status == 0)
      #expect(program.terminalIsCooked)
      #expect(program.errorBytes.isEmpty)

      // Another day.
      let again = try watch(course, options)
      place = try again.waitForTerminal("Exercise 2 of 4")
      place = try again.waitForTerminal("it is checked when", from: place)
      try course.write("02-bind/exercise.swift", LittleCourse.solution)
      place = try again.waitForTerminal("2 of 4 done", from: place, deadline: 60)
      again.press("q")
      #expect(try again.finish().status == 0)
    }
  }

  @Test func aSaveDuringACheckBeginsANewOne() throws {
    try LittleCourse.with { course in
      // Whoever listens is looked at for long.
      try course.write("01-socket/check.json", LittleCourse.longCheck)
      let program = try watch(course)
      var place = try program.waitForTerminal("it is checked when")
      try course.write("01-socket/exercise.swift", LittleCourse.solution)
      place = try program.waitForTerminal("Compiling, running", from: place)
      // Beside it, another file: an editor's.
      try course.write("01-socket/notes.txt", "x")
      try course.write("01-socket/exercise.swift", LittleCourse.wrong)
      place = try program.waitForTerminal("Likely missing: ", from: place, deadline: 60)
      program.press("q")
      #expect(try program.finish().status == 0)
    }
  }

  @Test func whatWasWrittenBeforeIsCheckedAtOnce() throws {
    try LittleCourse.with { course in
      #expect(try course.run("list").status == 0)
      try course.write("01-socket/exercise.swift", LittleCourse.wrong)
      let program = try watch(course)
      try program.waitForTerminal("not yet (", deadline: 60)
      program.press("q")
      #expect(try program.finish().status == 0)
    }
  }

  @Test(arguments: [40, 80]) func theScreenFits(columns: UInt16) throws {
    try LittleCourse.with { course in
      let program = try Program(
        course.command(["watch", "--color", "never"]), environment: LittleCourse.environment(),
        onTerminal: true,
        outputOnTerminal: true, columns: columns)
      var place = try program.waitForTerminal("q: quit")
      try course.write("01-socket/exercise.swift", LittleCourse.wrong)
      place = try program.waitForTerminal("press", from: place, deadline: 60)
      program.press("h")
      place = try program.waitForTerminal("Hint 1", from: place)
      try course.write("01-socket/exercise.swift", LittleCourse.solution)
      place = try program.waitForTerminal("Press n", from: place, deadline: 60)
      program.press("l")
      place = try program.waitForTerminal("Enter: back", from: place)
      place = try program.waitForTerminal("q: quit", from: place)
      program.press("q")
      #expect(try program.finish().status == 0)
      let screen = String(decoding: program.terminalBytes, as: UTF8.self).replacing(
        /\u{1b}\[[0-9;]*[A-Za-z]/, with: "")
      for line in screen.split(whereSeparator: \.isNewline) where !line.contains(course.folder) {
        #expect(line.count <= columns, "\(line)")
      }
    }
  }

  @Test func controlCEndsIt() throws {
    try LittleCourse.with { course in
      let program = try watch(course)
      try program.waitForTerminal("q: quit")
      program.press("\u{3}")
      #expect(try program.finish().status == 130)
      #expect(program.terminalIsCooked)
    }
  }
}
