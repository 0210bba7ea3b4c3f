import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `.workshop/progress`: written by the tool and by hand, and merged by git.
@Suite struct ProgressTests {
  @Test func itIsATextForPeople() throws {
    try LittleCourse.with { course in
      _ = try course.run("start", "2")
      _ = try course.run("hint")
      _ = try course.run("start", "1")
      let lines = course.progress.split(separator: "\n")
      #expect(lines.prefix(3).allSatisfy { $0.hasPrefix("# ") })
      let entries = lines.dropFirst(3)
      #expect(entries.count == 2)
      let time = #/\d{4}-\d\d-\d\dT\d\d:\d\d/#
      #expect(entries.first?.replacing(time, with: "T") == "01-socket: started T, current")
      #expect(entries.last?.replacing(time, with: "T") == "02-bind: started T, hints 1")
      #expect(course.progress.hasSuffix("\n"))
      // Nothing else lies beside it but the copies.
      let files = try FileManager.default.contentsOfDirectory(atPath: "\(course.folder)/.workshop")
      #expect(files.sorted() == ["originals", "progress"])
    }
  }

  @Test func whatIsWrittenByHandCounts() throws {
    try LittleCourse.with { course in
      try course.writeProgress(
        Array(
          """
          10-listen/2:done
            02-bind   done 2026-01-02   hints 2 gave-up # the hard one
          01-socket: done
          """.utf8))
      let list = try course.run("list")
      #expect(list.errors == "")
      #expect(list.output.contains("3 of 4 done"))
      #expect(list.output.contains("2026-01-02, solution seen"))
      // The remark stays when the line is written anew.
      #expect(try course.run("hint", "2").output.contains("Hint 3 of 3"))
      #expect(course.entry("02-bind")?.hasSuffix(", hints 3, gave-up  # the hard one") == true)
      #expect(course.progress.hasPrefix("10-listen/2:done\n"))
      #expect(try course.run().output.contains("Exercise 3 of 4 · 10-listen ·"))
    }
  }

  /// What a damaged file may hold.
  private static let damages: [[UInt8]] = [
    Array("what is this?\n01-socket: done\nnor this".utf8),
    Array("<<<<<<< HEAD\n01-socket: done 2026-01-01\n=======\n01-socket: hints 3\n>>>>>>> other\n".utf8),
    Array("01-socket: doen 2026-01-01, done\n99-gone: done 2026-01-01\n".utf8),
    [0xff, 0xfe, 0x00, 0x0a] + Array("01-socket: done\r\n".utf8) + [0x80, 0x0a, 0x0a],
    Array("01-socket: done\n02-bind: hints 99999999999999999999999, started never, hints -3\n".utf8),
    Array("\n\n\n".utf8), [0], Array(repeating: 0x41, count: 1 << 20),
    Array("01-socket: hints 4000000000000000000\n01-socketx: done\n01-socket:: done\n".utf8),
  ]

  @Test(arguments: damages.indices) func damageLosesNoLine(number: Int) throws {
    let damage = Self.damages[number]
    try LittleCourse.with { course in
      try course.writeProgress(damage)
      for words in [["list"], [], ["start", "4"], ["hint", "4"], ["start", "2"]] {
        let result = try Program.run(course.command(words), environment: LittleCourse.environment())
        #expect(result.status == 0, "\(words): \(result.errors)")
      }
      let now = try #require(contents(ofFile: "\(course.folder)/.workshop/progress"))
      let lines = Set(now.split(separator: 0x0a, omittingEmptySubsequences: false).map(Array.init))
      for line in damage.split(separator: 0x0a).map(Array.init) {
        let text = String(decoding: line, as: UTF8.self)
        // A line that was understood may be written anew, with all that stood there.
        if text.hasPrefix("02-bind") {
          for word in ["99999999999999999999999", "never", "-3"] {
            #expect(String(decoding: now, as: UTF8.self).contains(word))
          }
        } else {
          #expect(lines.contains(line), "\(text.prefix(80))")
        }
      }
      #expect(course.entry("10-listen/2")?.contains("hints 1") == true)
    }
  }

  @Test func whatMakesNoSenseIsTold() throws {
    try LittleCourse.with { course in
      try course.writeProgress(Array("what is this?\n01-socket: doen\n\u{1b}[2J\n".utf8) + [0xff, 0x0a])
      let errors = try course.run("list").errors
      #expect(errors.contains("line 1 is about no exercise of this course: 'what is this?'"))
      #expect(errors.contains("in line 2 'doen' makes no sense"))
      #expect(errors.contains("further line"))
      #expect(!errors.contains("\u{1b}"))
    }
  }

  @Test func twoLinesOfOneExerciseAreOne() throws {
    try LittleCourse.with { course in
      try course.writeProgress(
        Array(
          "01-socket: done 2026-03-01, hints 1 # a\n01-socket: done 2026-02-01, hints 3, gave-up # b\n".utf8))
      #expect(try course.run("list").output.contains("2026-02-01, solution seen"))
      _ = try course.run("start", "1")
      let lines = course.progress.split(separator: "\n")
      #expect(lines.count == 1)
      #expect(
        lines.first?.contains("done 2026-02-01, hints 3, gave-up, current  # a  # b") == true, "\(lines)")
    }
  }

  /// Each of many workshops writes its line, and none takes another's away.
  @Test func manyAtTheSameTime() throws {
    try LittleCourse.with { course in
      for number in 20..<40 { try course.add("\(number)-more", title: "More") }
      _ = try course.run("list")  // the copies are made
      let programs = try (20..<40).map {
        try Program(course.command(["hint", "\($0)-more"]), environment: LittleCourse.environment())
      }
      for program in programs {
        program.endInput()
        #expect(try program.finish().status == 0)
      }
      for number in 20..<40 { #expect(course.entry("\(number)-more")?.contains("hints 1") == true) }
      let numbers = course.progress.split(separator: "\n").compactMap { Int($0.prefix(2)) }
      #expect(numbers == numbers.sorted())
      #expect(numbers.count == 20)
    }
  }

  @Test func whatCannotBeKeptIsTold() throws {
    try LittleCourse.with { course in
      // A file where the folder is to be.
      try course.write(".workshop", "")
      let result = try course.run("hint", "1")
      #expect(result.status == 0)
      #expect(result.output.contains("Hint 1 of 3"))
      #expect(result.errors.contains("progress cannot be written"))
      #expect(result.errors.contains("no copies of the exercises are kept"))
    }
    try LittleCourse.with { course in
      try FileManager.default.createDirectory(
        atPath: "\(course.folder)/.workshop/progress", withIntermediateDirectories: true)
      let result = try course.run("list")
      #expect(result.status == 1)
      #expect(result.errors.contains("progress cannot be read: EISDIR"))
    }
  }

  @Test func theOneInProgressIsMeantUntilItIsDone() throws {
    try LittleCourse.with { course in
      try course.writeProgress(Array("10-listen: current\n02-bind: done\n".utf8))
      #expect(try course.run("start").output.contains("Exercise 3 of 4"))
      try course.writeProgress(Array("10-listen: current, done\n02-bind: done\n".utf8))
      #expect(try course.run("start").output.contains("Exercise 4 of 4"))
      // After the last one what was left out is next.
      try course.writeProgress(Array("10-listen/2: current, done\n02-bind: done\n".utf8))
      #expect(try course.run("start").output.contains("Exercise 1 of 4"))
      try course.writeProgress(
        Array("01-socket: done\n02-bind: done\n10-listen: done\n10-listen/2: done, current".utf8))
      let all = try course.run("start")
      #expect(all.status == 1)
      #expect(all.errors.contains("all exercises are done; name the one that you mean"))
      #expect(try course.run().output.contains("All exercises are done."))
      // The last one's solution may be looked at without a name.
      #expect(try course.run("solution").output.contains("10-listen/solution2.swift"))
    }
  }
}
