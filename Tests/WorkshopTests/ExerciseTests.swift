import Foundation
import TestSupport
import Testing

/// The exercises of the course: what a learner finds, what is to come out of it, and what the judge says of what is wrong.
///
/// One at a time, here and in the suites of wrong programs: the judge's deadlines are a person's, and the machine has other tests to
/// run.
@Suite(.serialized) struct ExerciseTests {
  @Test func thereAreEnough() {
    #expect(CourseExercise.all.count >= 24)
    #expect(Set(CourseExercise.all.map(\.lesson)).count == 18)
    for exercise in CourseExercise.all { #expect(exercise.wrong.count >= 3, "\(exercise.testDescription)") }
  }

  /// It compiles, does not do what it is to do, and the first hint says where to begin.
  @Test(arguments: CourseExercise.all) func aStarterFails(exercise: CourseExercise) throws {
    try TemporaryCourse.with(exercise, source: exercise.path("exercise")) { course in
      let judged = try course.judged()
      #expect(!judged.passed)
      #expect(!judged.text.contains("does not compile"), "\(judged.text)")
      #expect(!judged.text.contains("warning:"), "\(judged.text)")
      #expect(judged.text.contains("Expected  "), "\(judged.text)")
      let hint = try course.run(["hint", "1"])
      #expect(hint.status == 0)
      let hints = try Hints(path: exercise.path("check", "json")).hints
      #expect(hints.count >= 3)
      #expect(words(hint.output).contains(words(hints[0])), "\(hint.output)")
      #expect(try String(contentsOfFile: exercise.path("exercise"), encoding: .utf8).contains("TODO 1"))
    }
  }

  @Test(arguments: CourseExercise.all) func aSolutionPasses(exercise: CourseExercise) throws {
    try TemporaryCourse.with(exercise, source: exercise.path("solution")) { course in
      let judged = try course.judged()
      #expect(judged.passed, "\(judged.text)")
      // That is what the compiler has warned of.
      #expect(judged.text.isEmpty, "\(judged.text)")
      // What was done to no call proves nothing.
      #expect(judged.unused.isEmpty, "\(judged.unused)")
      #expect(try course.run(["list"]).output.contains("1 of 1"))
    }
  }

  @Test func allAreFormatted() throws {
    let files = CourseExercise.all.flatMap { [$0.path("exercise"), $0.path("solution")] }
    let result = try Program.run(
      ["swift", "format", "lint", "--strict", "--parallel", "--configuration", "\(Place.root)/.swift-format"]
        + files,
      environment: ["PATH": ProcessInfo.processInfo.environment["PATH"] ?? ""], deadline: 120)
    #expect(result.status == 0, "\(result.output)\(result.errors)")
  }

  private struct Hints: Decodable {
    let hints: [String]

    init(path: String) throws {
      let decoder = JSONDecoder()
      decoder.allowsJSON5 = true
      self = try decoder.decode(Hints.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }
  }
}
