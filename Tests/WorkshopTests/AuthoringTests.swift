import Foundation
import TestSupport
import Testing

/// Lessons/AUTHORING.md shows a whole course of one exercise, with what the judge says of it. All of that is run here.
@Suite(.serialized) struct AuthoringTests {
  private static let path = "\(Place.root)/Lessons/AUTHORING.md"

  /// The text of a fenced block behind a marker, which is a comment that nobody sees in the rendered page.
  private static func block(_ marker: String) throws -> String {
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let comment = try #require(text.range(of: "<!-- \(marker) -->\n```"), "no block '\(marker)'")
    let start = try #require(text[comment.upperBound...].firstIndex(of: "\n"))
    let end = try #require(text.range(of: "\n```\n", range: start..<text.endIndex))
    return String(text[text.index(after: start)..<end.lowerBound]) + "\n"
  }

  /// The course as the text has it.
  private static func withCourse<Result>(_ body: (TemporaryCourse) throws -> Result) throws -> Result {
    let starter = try block("file: 01-quote/exercise.swift")
    let first = try #require(starter.range(of: "// TODO 1"))
    let last = try #require(starter.range(of: "\npause()\n", range: first.lowerBound..<starter.endIndex))
    let solution = starter.replacingCharacters(
      in: first.lowerBound..<last.upperBound,
      with: try block("file: 01-quote/solution.swift, where exercise.swift has its TODOs"))
    let check = try block("file: 01-quote/check.json")
    return try Place.withTemporaryFolder { folder in
      let lesson = "\(folder)/01-quote"
      try FileManager.default.createDirectory(atPath: lesson, withIntermediateDirectories: true)
      _ = try Place.file("exercise.swift", in: lesson, starter)
      _ = try Place.file("solution.swift", in: lesson, solution)
      _ = try Place.file("check.json", in: lesson, check)
      return try body(TemporaryCourse(folder: folder))
    }
  }

  /// A verdict without its steps, which hang on the time at which each packet came, and without its layout, which hangs on
  /// the lengths of ports.
  private static func lasting(_ verdict: String) -> String {
    let start = verdict.range(of: "   Its steps:") ?? verdict.range(of: "   The last steps:")
    let steps = start.flatMap {
      verdict.range(of: "   Likely missing:", range: $0.upperBound..<verdict.endIndex)
    }
    var text = verdict
    if let start, let steps { text.removeSubrange(start.lowerBound..<steps.lowerBound) }
    return masked(text).split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  @Test func theStartersVerdictIsTheText() throws {
    try Self.withCourse { course in
      let result = try course.run(["check", "1"])
      #expect(result.status == 1)
      let end = try #require(result.output.range(of: " ✗ Exercise 1"), "\(result.output)\(result.errors)")
      let shown = try Self.block("transcript: workshop check 1 --course my-course")
      #expect(Self.lasting(String(result.output[..<end.lowerBound])) == Self.lasting(shown))
    }
  }

  /// The commands of the text, in the course's folder: the starter, the solution, and programs that are wrong.
  @Test func theScriptSaysWhatTheTextSays() throws {
    try Self.withCourse { course in
      let script = try Place.file("wrong.sh", in: course.folder, try Self.block("script"))
      var environment = ["COLUMNS": "80"]
      for name in ["PATH", "HOME"] { environment[name] = ProcessInfo.processInfo.environment[name] }
      environment["PATH"] = "\(Place.products):\(environment["PATH"] ?? "")"
      let result = try Program.run(
        ["bash", "-c", "cd \(course.folder) && bash \(script)"], environment: environment, deadline: 120)
      #expect(result.status == 0)
      #expect(result.errors == "")
      #expect(result.output == (try Self.block("output")))
      // What was wrong has left nothing behind.
      #expect(
        try String(contentsOfFile: "\(course.folder)/01-quote/exercise.swift", encoding: .utf8)
          == Self.block("file: 01-quote/exercise.swift"))
    }
  }

  @Test func itsFilesAreFormatted() throws {
    try Self.withCourse { course in
      let result = try Program.run(
        ["swift", "format", "lint", "--strict", "--configuration", "\(Place.root)/.swift-format"]
          + ["exercise", "solution"].map { "\(course.folder)/01-quote/\($0).swift" },
        environment: ["PATH": ProcessInfo.processInfo.environment["PATH"] ?? ""], deadline: 120)
      #expect(result.status == 0, "\(result.output)\(result.errors)")
    }
  }

  /// Each verb, member and field that the judge knows stands in the text.
  @Test func everyNameOfTheFormatIsThere() throws {
    let text = try String(contentsOfFile: Self.path, encoding: .utf8)
    func names(in source: some StringProtocol) -> [String] {
      String(source).matches(of: /"(\w+)"/).map { String($0.1) }
    }
    var count = 0
    for file in ["Check", "PeerStep", "Expectation", "Bytes"] {
      let source = try String(
        contentsOfFile: "\(Place.root)/Sources/Judging/Check/\(file).swift", encoding: .utf8)
      // What is read from a check file is asked for by its name, in quotes.
      for match in source.matches(of: /(?:required|optional|number)\("(\w+)"/) {
        #expect(
          text.contains("`\(match.1)`") || text.contains("\(match.1): "), "\(match.1), in \(file).swift")
        count += 1
      }
      for match in source.matches(of: /(?:verbs|kinds) = \[([^\]]*)\]/) {
        for name in names(in: match.1) {
          #expect(text.contains("{\(name): "), "{\(name): …}, in \(file).swift")
          count += 1
        }
      }
      for match in source.matches(of: /enum SocketField[^{]*\{([^\/]*)\/\/\//) {
        for field in match.1.replacing("case", with: "").split(whereSeparator: { " ,\n".contains($0) }) {
          #expect(text.contains("`\(field)`"), "\(field), of a socket")
          count += 1
        }
      }
    }
    #expect(count > 70)
  }
}
