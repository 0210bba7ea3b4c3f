import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// What `workshop` says of a course, and does with its files.
@Suite struct CourseTests {
  @Test func whereYouAreAndWhatIsNext() throws {
    try LittleCourse.with { course in
      let first = try course.run()
      #expect(first.status == 0)
      #expect(first.errors == "")
      #expect(first.output.contains("0 of 4 done"))
      #expect(first.output.contains("Exercise 1 of 4 · 01-socket · A socket"))
      #expect(first.output.contains("start 1 --course \(course.folder)"))
      #expect(first.output.contains("doctor"))

      #expect(try course.run("start").status == 0)
      let begun = try course.run()
      #expect(begun.output.contains("In progress"))
      #expect(begun.output.contains("\(course.folder)/01-socket/exercise.swift"))
      for command in ["watch", "check", "hint"] { #expect(begun.output.contains("\(command) --course")) }
    }
  }

  @Test func theListHasAllInTheirOrder() throws {
    try LittleCourse.with { course in
      try course.writeProgress(Array("01-socket: done 2026-02-03T10:00\n".utf8))
      let result = try course.run("list")
      #expect(result.status == 0)
      let lines = result.lines.filter { $0.contains("  01-") || $0.contains("  02-") || $0.contains("  10-") }
      #expect(lines.count == 4)
      #expect(lines[0].hasPrefix(" ✓ 1  01-socket    A socket"))
      #expect(lines[0].hasSuffix("2026-02-03"))
      #expect(lines[1].hasPrefix(" ▸ 2  02-bind "))
      #expect(lines[2].hasPrefix("   3  10-listen "))
      #expect(lines[3].hasPrefix("   4  10-listen/2  A longer queue"))
      #expect(result.output.contains("1 of 4 done"))
      #expect(result.output.contains("start 2 --course"))
    }
  }

  @Test func anExerciseHasSeveralNames() throws {
    try LittleCourse.with { course in
      for (word, name) in [
        ("3", "10-listen"), ("listen", "10-listen"), ("10-listen", "10-listen"), ("Listen/2", "10-listen/2"),
        ("10-listen/2", "10-listen/2"), ("\(course.folder)/10-listen/exercise2.swift", "10-listen/2"),
        ("02-bind/exercise.swift", "02-bind"),
      ] {
        let result = try course.run("start", word)
        #expect(result.output.contains(" · \(name) · "), "\(word): \(result.output)\(result.errors)")
      }
      try course.add("11-listen", title: "Another")
      let ambiguous = try course.run("start", "listen")
      #expect(ambiguous.status == 2)
      #expect(ambiguous.errors.contains("'listen' may be 10-listen or 11-listen"))
    }
  }

  @Test func whatIsUnknownIsTold() throws {
    try LittleCourse.with { course in
      for (words, text) in [
        (["start", "lisen"], "there is no exercise 'lisen'; did you mean listen?"),
        (["start", "qqqqqqqq"], "there is no exercise 'qqqqqqqq'; 'workshop list' shows"),
        (["start", "5"], "there is no exercise 5; there are 1 to 4"),
        (["start", "0"], "there are 1 to 4"), (["start", "99999999999999999999"], "there is no exercise"),
        (["strat"], "there is no command 'strat'; did you mean start?"),
        (["list", "3"], "'3' was not expected after list"), (["start", "1", "2"], "'2' was not expected"),
        (["list", "--poll"], "--poll is for 'watch'"), (["check", "--yes"], "--yes is for 'reset'"),
        (["--colour", "never"], "did you mean --color?"), (["check", "--format", "xml"], "--format is"),
      ] {
        let result = try Program.run(course.command(words))
        #expect(result.status == 2, "\(words)")
        #expect(result.errors.contains(text), "\(words): \(result.errors)")
        #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)")
        #expect(result.output == "")
      }
      let nowhere = try Program.run([Place.product("workshop"), "list", "--course", "\(course.folder)/none"])
      #expect(nowhere.status == 2)
      #expect(nowhere.errors.contains("there is no such folder"))
      #expect(try course.run("--help").status == 0)
    }
  }

  @Test func aCourseWithoutExercisesIsTold() throws {
    try Place.withTemporaryFolder { folder in
      let result = try Program.run([Place.product("workshop"), "--course", folder])
      #expect(result.status == 1)
      #expect(result.errors.contains("there are no exercises in \(folder)"))
    }
  }

  @Test func theStartIsTheTask() throws {
    try LittleCourse.with { course in
      let result = try course.run("start", "10-listen")
      #expect(result.status == 0)
      #expect(
        flowing(result.output).contains("is longer than any line of a terminal is wide, so that it must be"))
      #expect(result.output.contains("\n   - an item of it\n"))
      #expect(result.output.contains("New: socket(2).\n"))
      #expect(!result.output.contains("import Glibc"))
      #expect(result.output.contains("swift run lesson3-listen"))
      #expect(result.output.contains("\(course.folder)/10-listen/exercise.swift"))
      #expect(result.output.contains("watch --course"))
      #expect(course.entry("10-listen")?.hasSuffix("current") == true)
      // Another one is the one in progress then, and the only one.
      _ = try course.run("start", "1")
      #expect(course.progress.components(separatedBy: "current").count == 3)
      #expect(course.entry("01-socket")?.hasSuffix("current") == true)
    }
  }

  @Test func eachHintTellsMore() throws {
    try LittleCourse.with { course in
      for (number, hint) in LittleCourse.hints.enumerated() {
        let result = try course.run("hint")
        #expect(result.status == 0)
        #expect(result.output.contains("Hint \(number + 1) of 3"))
        #expect(result.output.contains(hint))
        for other in LittleCourse.hints where other != hint { #expect(!result.output.contains(other)) }
        #expect(result.output.contains(number < 2 ? "\(2 - number) more" : "the last one"))
        #expect(course.entry("01-socket")?.contains("hints \(number + 1)") == true)
      }
      let all = try course.run("hint")
      for hint in LittleCourse.hints { #expect(all.output.contains(hint)) }
      #expect(all.output.contains("solution 1 --give-up"))
      // Hints of another exercise are its own.
      #expect(try course.run("hint", "2").output.contains("Hint 1 of 3"))
    }
  }

  @Test func aSolutionIsShownToWhoGivesUp() throws {
    try LittleCourse.with { course in
      let refused = try course.run("solution", "2")
      #expect(refused.status == 1)
      #expect(refused.output == "")
      #expect(refused.errors.contains("exercise 2 has not passed yet"))
      #expect(refused.errors.contains("--give-up"))
      #expect(course.entry("02-bind") == nil)

      let shown = try course.run("solution", "2", "--give-up")
      #expect(shown.status == 0)
      #expect(shown.output.contains("\n-print(\"nothing yet\")\n"))
      #expect(shown.output.contains("\n+while true { pause() }\n"))
      #expect(shown.output.contains("\n import Glibc\n"))
      #expect(shown.output.hasPrefix("--- \(course.folder)/02-bind/exercise.swift\n+++ "))
      #expect(course.entry("02-bind")?.contains("gave-up") == true)
      #expect(try course.run("solution", "2").output == shown.output)
      #expect(try course.run("list").output.contains("solution seen"))

      try course.write("02-bind/exercise.swift", LittleCourse.solution)
      #expect(flowing(try course.run("solution", "2").output).contains("is the solution, line by line"))
    }
  }

  /// What is printed is a difference in the form that patch(1) and git take.
  @Test(.enabled(if: Witness.have("git"))) func theDifferenceMakesTheSolution() throws {
    try LittleCourse.with { course in
      try course.write(
        "01-socket/solution.swift", LittleCourse.starter.replacing("New:", with: "Old:") + "// end\n")
      let difference = try course.run("solution", "1", "--give-up").output
        .replacing("--- \(course.folder)/", with: "--- a/").replacing("+++ \(course.folder)/", with: "+++ b/")
        .replacing("b/01-socket/solution.swift", with: "b/01-socket/exercise.swift")
      _ = try Place.file("patch", in: course.folder, difference)
      let result = try Program.run(["git", "-C", course.folder, "apply", "patch"])
      #expect(result.status == 0, "\(result.errors)\(difference)")
      #expect(course.text("01-socket/exercise.swift") == course.text("01-socket/solution.swift"))
    }
  }

  @Test func aResetKeepsWhatWasWritten() throws {
    try LittleCourse.with { course in
      let file = "01-socket/exercise.swift"
      #expect(try course.run("start", "1").status == 0)
      #expect(flowing(try course.run("reset", "1").output).contains("is what it was at first"))

      try course.write(file, "// mine\n")
      let refused = try course.run("reset", "1", input: "no\n")
      #expect(refused.status == 1)
      #expect(refused.output.contains("Nothing was changed"))
      #expect(try course.run("reset", "1").status == 1)  // nobody answers
      #expect(course.text(file) == "// mine\n")

      let done = try course.run("reset", "1", input: "y\n")
      #expect(done.status == 0)
      #expect(done.output.contains("\(course.folder)/01-socket/exercise-kept-1.swift"))
      #expect(course.text(file) == LittleCourse.starter)
      #expect(course.text("01-socket/exercise-kept-1.swift") == "// mine\n")

      // A second one has its own name, and asks nobody.
      try course.write(file, "// mine again\n")
      #expect(try course.run("reset", "socket", "--yes").status == 0)
      #expect(course.text("01-socket/exercise-kept-1.swift") == "// mine\n")
      #expect(course.text("01-socket/exercise-kept-2.swift") == "// mine again\n")
      #expect(course.text(file) == LittleCourse.starter)
      // What is kept is no exercise.
      #expect(try course.run().output.contains("of 4 done"))
    }
  }

  @Test func aResetTakesWhatWasDoneBack() throws {
    try LittleCourse.with { course in
      _ = try course.run("start", "2")
      try course.write("02-bind/exercise.swift", "// mine\n")
      try course.writeProgress(Array("02-bind: done 2026-01-01, hints 2, current\n".utf8))
      #expect(try course.run("reset", "2", "-y").status == 0)
      #expect(course.entry("02-bind") == "current")
      #expect(try course.run("hint").output.contains("Hint 1 of 3"))
    }
  }

  /// Somebody may have begun to edit before the tool is used for the first time.
  @Test(.enabled(if: Witness.have("git"))) func theRepositoryKnowsWhatItWas() throws {
    try LittleCourse.with { course in
      let git = ["git", "-C", course.folder, "-c", "user.name=x", "-c", "user.email=x@example.org"]
      for words in [["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]] {
        #expect(try Program.run(git + words).status == 0)
      }
      try course.write("01-socket/exercise.swift", "// begun\n")
      #expect(try course.run("reset", "1", "--yes").status == 0)
      #expect(course.text("01-socket/exercise.swift") == LittleCourse.starter)
      // Once it is begun the copy counts, whatever is committed.
      #expect(try course.run("start", "1").status == 0)
      try course.write("01-socket/exercise.swift", "// done\n")
      #expect(try Program.run(git + ["commit", "-q", "-a", "-m", "y"]).status == 0)
      #expect(try course.run("reset", "1", "--yes").status == 0)
      #expect(course.text("01-socket/exercise.swift") == LittleCourse.starter)
    }
  }

  /// A course that is mended while somebody takes it.
  @Test(.enabled(if: Witness.have("git"))) func aCourseMayChange() throws {
    try LittleCourse.with { course in
      let git = ["git", "-C", course.folder, "-c", "user.name=x", "-c", "user.email=x@example.org"]
      for words in [["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]] {
        #expect(try Program.run(git + words).status == 0)
      }
      #expect(try course.run("start", "2").status == 0)
      for name in ["01-socket", "02-bind"] { try course.write("\(name)/exercise.swift", "// mended\n") }
      #expect(try Program.run(git + ["commit", "-q", "-a", "-m", "y"]).status == 0)
      #expect(try course.run("list").status == 0)
      // What nobody has begun is what it is now; what was begun may be the learner's own.
      #expect(course.text(".workshop/originals/01-socket/exercise.swift") == "// mended\n")
      #expect(course.text(".workshop/originals/02-bind/exercise.swift") == LittleCourse.starter)
    }
  }

  @Test func aBrokenCheckSpoilsNothingElse() throws {
    try LittleCourse.with { course in
      try course.write("01-socket/check.json", "{title: \"x\", lesson: \"y\", hint: []}")
      try course.write("02-bind/check.json", "no JSON")
      try FileManager.default.removeItem(atPath: "\(course.folder)/10-listen/exercise2.swift")
      let list = try course.run("list")
      #expect(list.status == 0)
      #expect(flowing(list.output).contains("01-socket/check.json: 'hints' is missing"))
      #expect(flowing(list.output).contains("10-listen/exercise2.swift cannot be read: ENOENT"))
      #expect(list.output.components(separatedBy: "✗").count == 4)
      for words in [["start", "1"], ["hint", "2"], ["check", "4"], ["watch", "1"]] {
        let result = try Program.run(course.command(words), environment: LittleCourse.environment())
        #expect(result.status == 1, "\(words)")
        #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)")
      }
      // What is next is what can be used.
      #expect(try course.run("start").output.contains("Exercise 3 of 4 · 10-listen"))
    }
  }

  /// The package itself: found from below, with its paths as somebody there would type them.
  @Test func thePackageIsFoundFromBelow() throws {
    try LittleCourse.with { course in
      try Place.withTemporaryFolder { package in
        _ = try Place.file("Package.swift", in: package, "// swift-tools-version: 6.0\n")
        try FileManager.default.copyItem(atPath: course.folder, toPath: "\(package)/Lessons")
        func run(in folder: String, _ words: String) throws -> Program.Result {
          try Program.run([
            "sh", "-c", "cd \(package)/\(folder) && exec \(Place.product("workshop")) \(words)",
          ])
        }
        let top = try run(in: ".", "start 2")
        #expect(top.output.contains("   Lessons/02-bind/exercise.swift\n"))
        #expect(try run(in: "Lessons/02-bind", "start 2").output.contains("   exercise.swift\n"))
        #expect(try run(in: "Lessons/02-bind", "start 1").output.contains("   ../01-socket/exercise.swift\n"))
        #expect(try run(in: "Lessons", "start 10-listen/exercise2.swift").status == 0)
        #expect(FileManager.default.fileExists(atPath: "\(package)/.workshop/progress"))
        #expect(!FileManager.default.fileExists(atPath: "\(package)/Lessons/.workshop"))
        // Nothing has to be said of the course where it is the package's.
        #expect(!top.output.contains("--course"))
        #expect(top.output.contains("swift run workshop watch\n"))
      }
    }
  }

  @Test(arguments: [40, 80]) func itFitsTheTerminal(columns: Int) throws {
    try LittleCourse.with { course in
      try course.write("02-bind/check.json", "{}")
      let words = [[], ["list"], ["start", "3"], ["hint", "3"], ["doctor"], ["--help"]]
      for words in words {
        let result = try Program.run(
          course.command(words), environment: LittleCourse.environment(columns: columns))
        for line in result.lines {
          // Commands and paths are to be copied, and are not broken.
          if line.contains(course.folder) || line.contains("swift run") { continue }
          #expect(line.count <= columns, "\(words): \(line)")
        }
        // Colour says nothing that the words do not say.
        let colored = try Program.run(
          course.command(words + ["--color", "always"]),
          environment: LittleCourse.environment(columns: columns))
        if words == ["hint", "3"] || words == ["doctor"] { continue }  // the next hint; a time
        #expect(colored.output.replacing(/\u{1b}\[[0-9;]*m/, with: "") == result.output)
        #expect(words == ["--help"] || colored.output.contains("\u{1b}["))
      }
    }
  }

  @Test func theDoctorLooksAtEverything() throws {
    try LittleCourse.with { course in
      let well = try course.run("doctor")
      for thing in ["ptrace", "pidfd_getfd", "sock_diag", "namespaces", "packets", "compiler", "disk"] {
        #expect(well.lines.contains { $0.contains(" \(thing) ") }, "\(well.output)")
      }
      #expect(well.status == 0)
      #expect(well.output.contains("Exercises can be judged here."))

      let ill = try Program.run(course.command(["doctor"]), environment: ["PATH": "/none", "COLUMNS": "80"])
      #expect(ill.status == 1)
      #expect(flowing(ill.output).contains("✗ compiler there is no swiftc in PATH"))
      let homeless = try Program.run(
        course.command(["doctor"]),
        environment: LittleCourse.environment().merging(["TMPDIR": "\(course.folder)/none"]) { _, new in new }
      )
      #expect(homeless.status == 1)
      #expect(flowing(homeless.output).contains("set TMPDIR to another folder"))
    }
  }

  @Test func aReaderThatLeavesIsNoTrouble() throws {
    try LittleCourse.with { course in
      let command = course.command(["list"]).joined(separator: " ")
      let result = try Program.run(["bash", "-c", "\(command) | true; echo ${PIPESTATUS[0]}"])
      #expect(["0\n", "141\n"].contains(result.output), "\(result.output)")
      #expect(result.errors == "")
    }
  }
}
