import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `check`, of one and of many: what it says, prints for programs, and writes down.
@Suite(.serialized) struct CheckTests {
  @Test func wrongThenRight() throws {
    try LittleCourse.with { course in
      _ = try course.run("start", "1")
      try course.write("01-socket/exercise.swift", LittleCourse.wrong)
      let wrong = try course.run("check")
      #expect(wrong.status == 1)
      #expect(wrong.output.contains("Likely missing: listen"))
      #expect(wrong.output.contains("Exercise 1, 01-socket: not yet"))
      #expect(wrong.output.contains("There are 3 hints"))
      #expect(wrong.output.contains(" hint --course"))
      #expect(wrong.errors == "")
      #expect(course.entry("01-socket")?.contains("done") == false)

      try course.write("01-socket/exercise.swift", LittleCourse.solution)
      let right = try course.run("check")
      #expect(right.status == 0)
      #expect(right.output.contains("✓ a client dials"))
      #expect(right.output.contains("You have learnt: A socket\n"))
      #expect(right.output.contains("1 of 4 done"))
      #expect(right.output.contains("Next is exercise 2, 02-bind: An address for it"))
      #expect(right.output.contains("start 2 --course"))
      #expect(course.entry("01-socket")?.contains("done 2") == true)
      // Now its solution is no secret.
      #expect(try course.run("solution").status == 0)
    }
  }

  @Test func whatDoesNotCompileIsTold() throws {
    try LittleCourse.with { course in
      try course.write("01-socket/exercise.swift", "let number: Int = \"text\"\n")
      let result = try course.run("check", "1")
      #expect(result.status == 1)
      #expect(result.output.contains("exercise.swift:1:19: error: cannot convert value of type 'String'"))
    }
  }

  @Test func aLineForPrograms() throws {
    try LittleCourse.with { course in
      let failed = try course.run("check", "2", "--format", "json")
      #expect(failed.status == 1)
      #expect(failed.lines.count == 2)
      let line = try JSONDecoder().decode(JudgedLine.self, from: Data(failed.output.utf8))
      #expect(line.exercise == "02-bind")
      #expect(!line.passed)
      #expect(line.text.contains("Likely missing"))
      #expect(!line.text.contains("\u{1b}"))

      try course.write("02-bind/exercise.swift", LittleCourse.solution)
      let passed = try course.run("check", "2", "--format", "json", "--color", "always")
      #expect(passed.status == 0)
      #expect(passed.output == "{\"exercise\":\"02-bind\",\"passed\":true,\"text\":\"\",\"unused\":[]}\n")

      let without = try Program.run(
        course.command(["check", "2", "--format", "json"]), environment: ["PATH": "/none"])
      #expect(without.status == 1)
      let unjudged = try JSONDecoder().decode(JudgedLine.self, from: Data(without.output.utf8))
      #expect(!unjudged.passed)
      #expect(unjudged.text.contains("swiftc"), "\(unjudged.text)")
    }
  }

  @Test func allThatWereBegun() throws {
    try LittleCourse.with { course in
      let none = try course.run("check", "all")
      #expect(none.status == 0)
      #expect(none.output.contains("Nothing was begun yet"))

      for name in ["01-socket/exercise.swift", "10-listen/exercise2.swift"] {
        try course.write(name, LittleCourse.solution)
      }
      let right = try course.run("check", "all")
      #expect(right.status == 0, "\(right.output)\(right.errors)")
      #expect(right.output.contains("All 2 passed."))
      #expect(right.lines.filter { $0.hasPrefix(" ✓ 1  01-socket ") }.count == 1)
      #expect(right.lines.filter { $0.hasPrefix(" ✓ 4  10-listen/2 ") }.count == 1)
      #expect(course.entry("01-socket")?.contains("done") == true)
      #expect(course.entry("10-listen/2")?.contains("done") == true)

      _ = try course.run("start", "2")
      try course.write("10-listen/check.json", "{}")
      try course.write("10-listen/exercise.swift", "// begun\n")
      let mixed = try course.run("check", "all")
      #expect(mixed.status == 1)
      #expect(mixed.output.contains("2 passed, 2 did not."))
      #expect(mixed.lines.filter { $0.hasPrefix(" ✗ 2  02-bind ") && $0.contains("not passed") }.count == 1)
      #expect(flowing(mixed.output).contains("check.json: 'title' is missing"))
      // What has passed once stays done; what was broken afterwards is told.
      try course.write("01-socket/exercise.swift", LittleCourse.wrong)
      let lines = try course.run("check", "all", "--format", "json").lines.filter { !$0.isEmpty }
      let judged = try lines.map { try JSONDecoder().decode(JudgedLine.self, from: Data($0.utf8)) }
      #expect(judged.count == 4)
      #expect(judged.filter(\.passed).map(\.exercise) == ["10-listen/2"])
      #expect(course.entry("01-socket")?.contains("done") == true)
    }
  }

  @Test func withoutACompilerNothingIsJudged() throws {
    try LittleCourse.with { course in
      _ = try course.run("start", "1")
      let one = try Program.run(course.command(["check"]), environment: ["PATH": "/none"])
      #expect(one.status == 1)
      #expect(one.errors.contains("workshop: ") && one.errors.contains("swiftc"), "\(one.errors)")
      let all = try Program.run(
        course.command(["check", "all"]), environment: ["PATH": "/none", "COLUMNS": "80"])
      #expect(all.status == 1)
      #expect(flowing(all.output).contains("not judged: "), "\(all.output)")
    }
  }

  /// Who ends it leaves nobody behind.
  @Test(arguments: [SIGINT, SIGTERM], [["check", "1"], ["check", "all"], ["watch", "1"]])
  func aSignalEndsAll(signal: Int32, words: [String]) throws {
    try LittleCourse.with { course in
      _ = try course.run("list")  // keeps what it was at first
      try course.write("01-socket/exercise.swift", LittleCourse.solution)
      try course.write("01-socket/check.json", LittleCourse.longCheck)
      let program = try Program(course.command(words), environment: LittleCourse.environment())
      // The learner's program runs: it is the only one that has its port for an argument.
      let learners = try Clock.poll(deadline: 60) {
        Self.descendants(of: program.process).first { Self.isLearners($0) }
      }
      let family = Self.descendants(of: program.process)
      program.send(signal)
      let status = try program.finish(deadline: 20).status
      #expect(status == 128 + signal)
      #expect(family.contains(learners))
      for process in family {
        _ = try Clock.poll {
          kill(process, 0) != 0 || ProcessStatus(of: process)?.hasEnded ?? true ? true : nil
        }
      }
    }
  }

  private static func isLearners(_ process: pid_t) -> Bool {
    let path = destination(ofLink: "/proc/\(process)/exe") ?? ""
    return path.hasSuffix("/program")
  }

  private static func descendants(of process: pid_t) -> [pid_t] {
    let threads = numberedEntries(ofDirectory: "/proc/\(process)/task") ?? []
    let children = threads.flatMap { thread in
      (text(ofFile: "/proc/\(process)/task/\(thread)/children") ?? "").split(separator: " ").compactMap {
        pid_t($0)
      }
    }
    return children + children.flatMap(descendants)
  }
}
