import Foundation
import TestSupport
import Testing

/// An exercise of the course.
struct CourseExercise: CustomTestStringConvertible, Sendable {
  /// "03-listen"
  let lesson: String
  /// "" for the first of its lesson, "2" for the second.
  let suffix: String

  var testDescription: String { "\(lesson)/exercise\(suffix)" }

  static let lessons = "\(Place.root)/Lessons"
  static let wrongFolder = "\(Place.root)/Tests/WorkshopTests/Wrong"

  static let all: [CourseExercise] = {
    let folders = (try? FileManager.default.contentsOfDirectory(atPath: lessons)) ?? []
    return folders.sorted().flatMap { folder in
      ["", "2"].filter { FileManager.default.fileExists(atPath: "\(lessons)/\(folder)/check\($0).json") }.map
      {
        CourseExercise(lesson: folder, suffix: $0)
      }
    }
  }()

  func path(_ name: String, _ ending: String = "swift") -> String {
    "\(Self.lessons)/\(lesson)/\(name)\(suffix).\(ending)"
  }

  /// The programs that are wrong, by their short names.
  var wrong: [WrongProgram] {
    let folder = "\(Self.wrongFolder)/\(lesson)"
    let files = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
    return files.compactMap { file in
      let beginning = "exercise\(suffix)-"
      guard file.hasPrefix(beginning), file.hasSuffix(".swift") else { return nil }
      return WrongProgram(
        exercise: self, name: String(file.dropFirst(beginning.count).dropLast(".swift".count)))
    }
  }
}

/// A program that does not do what its exercise asks for.
struct WrongProgram: CustomTestStringConvertible, Sendable {
  let exercise: CourseExercise
  let name: String

  var testDescription: String { "\(exercise.testDescription)-\(name)" }

  private var stem: String { "\(CourseExercise.wrongFolder)/\(exercise.lesson)/exercise\(exercise.suffix)" }
  var source: String { "\(stem)-\(name).swift" }
  /// What the judge is to say.
  var verdict: String { "\(stem)-\(name).verdict" }

  /// What must stand in the verdict, from the file that lists the faults.
  func fault() throws -> String {
    let lines = try String(contentsOfFile: "\(stem).faults", encoding: .utf8).split(separator: "\n")
    let line = try #require(
      lines.first { $0.hasPrefix("\(name): ") }, "\(stem).faults has no line for \(name)")
    return String(line.dropFirst(name.count + 2))
  }
}

/// What `workshop check --format json` prints.
struct JudgedLine: Decodable {
  let exercise: String
  let passed: Bool
  let text: String
  /// Faults that were done to no call.
  let unused: [String]
}

/// A course of one exercise, in a temporary folder.
struct TemporaryCourse {
  let folder: String

  /// `source` is the path of what stands in for the learner's file.
  static func with<Result>(
    _ exercise: CourseExercise, source: String, _ body: (TemporaryCourse) throws -> Result
  ) throws
    -> Result
  {
    try Place.withTemporaryFolder { folder in
      let lesson = "\(folder)/\(exercise.lesson)"
      let files = FileManager.default
      try files.createDirectory(atPath: lesson, withIntermediateDirectories: true)
      try files.copyItem(atPath: source, toPath: "\(lesson)/exercise.swift")
      try files.copyItem(atPath: exercise.path("solution"), toPath: "\(lesson)/solution.swift")
      try files.copyItem(atPath: exercise.path("check", "json"), toPath: "\(lesson)/check.json")
      return try body(TemporaryCourse(folder: folder))
    }
  }

  /// The same of texts.
  static func with<Result>(program: String, check: String, _ body: (TemporaryCourse) throws -> Result) throws
    -> Result
  {
    try Place.withTemporaryFolder { folder in
      let lesson = "\(folder)/01-own"
      try FileManager.default.createDirectory(atPath: lesson, withIntermediateDirectories: true)
      for name in ["exercise", "solution"] {
        try program.write(toFile: "\(lesson)/\(name).swift", atomically: true, encoding: .utf8)
      }
      try check.write(toFile: "\(lesson)/check.json", atomically: true, encoding: .utf8)
      return try body(TemporaryCourse(folder: folder))
    }
  }

  func run(_ words: [String]) throws -> Program.Result {
    try Program.run(
      [Place.product("workshop")] + words + ["--course", folder], environment: environment, deadline: 120)
  }

  private var environment: [String: String] {
    var environment = ["COLUMNS": "80"]
    for name in ["PATH", "HOME"] { environment[name] = ProcessInfo.processInfo.environment[name] }
    return environment
  }

  func judged() throws -> JudgedLine {
    let result = try run(["check", "1", "--format", "json"])
    return try #require(
      try? JSONDecoder().decode(JudgedLine.self, from: Data(result.output.utf8)),
      "\(result.output)\(result.errors)")
  }
}
