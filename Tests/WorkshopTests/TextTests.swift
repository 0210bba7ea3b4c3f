import Foundation
import TestSupport
import Testing

/// What the texts say of the exercises: numbers, titles, and a verdict.
@Suite(.serialized) struct TextTests {
  private struct Check: Decodable {
    let title: String

    init(_ exercise: CourseExercise) throws {
      let decoder = JSONDecoder()
      decoder.allowsJSON5 = true
      let path = exercise.path("check", "json")
      self = try decoder.decode(Check.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }
  }

  private static func text(_ path: String) throws -> String {
    try String(contentsOfFile: "\(Place.root)/\(path)", encoding: .utf8)
  }

  private static func words(_ text: some StringProtocol) -> String {
    text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  @Test func everyExerciseIsInTheTexts() throws {
    let course = try Self.text("Lessons/README.md")
    let teaching = Self.words(try Self.text("Lessons/TEACHING.md"))
    for (number, exercise) in zip(1..., CourseExercise.all) {
      let title = try Check(exercise).title
      #expect(
        course.contains(
          "| [\(title)](\(exercise.lesson)/exercise\(exercise.suffix).swift) |"), "\(title)")
      #expect(
        course.contains(
          try Regex("\n\\| \(number) \\| \\d+ \\| \\[\(NSRegularExpression.escapedPattern(for: title))\\]")))
      #expect(teaching.contains("\(number), *\(title)*"), "\(number), \(title)")
      // At the end of the lesson's own exercise.
      let lesson = try Self.text("Lessons/\(exercise.lesson)/README.md")
      let start = try #require(lesson.range(of: "\n## Exercise\n"))
      let end = try #require(lesson.range(of: "\n## Read on", range: start.upperBound..<lesson.endIndex))
      #expect(
        Self.words(lesson[start.upperBound..<end.lowerBound]).contains("\(number), *\(title)*"),
        "\(exercise.lesson)")
    }
    #expect(try Self.text("README.md").contains("\(CourseExercise.all.count) exercises"))
  }

  /// Where the plans name an exercise, its number and its title belong together.
  @Test func numbersAndTitlesBelongTogether() throws {
    let titles = try CourseExercise.all.map { try Check($0).title }
    for path in ["Lessons/README.md", "Lessons/TEACHING.md"] {
      for match in try Self.text(path).matches(of: /exercise (\d+), \*([^*]+)\*/) {
        let number = try #require(Int(match.1))
        #expect(titles.indices.contains(number - 1) && titles[number - 1] == match.2, "\(path): \(match.0)")
      }
    }
  }

  /// The verdict in the README, but for its steps, of which only the last are shown there, and for ports.
  @Test func theReadmesVerdictIsWhatTheJudgeSays() throws {
    let readme = try Self.text("README.md")
    let start = try #require(readme.range(of: "<!-- transcript: workshop check 12 -->\n```text\n"))
    let end = try #require(readme.range(of: "```", range: start.upperBound..<readme.endIndex))
    func lasting(_ text: String) throws -> String {
      let steps = try #require(text.range(of: "   The last steps:"))
      let rest = try #require(text.range(of: "   Its standard", range: steps.upperBound..<text.endIndex))
      return Self.words(masked(String(text[..<steps.lowerBound] + text[rest.lowerBound...])))
    }
    let exercise = CourseExercise.all[11]
    let judged = try TemporaryCourse.with(exercise, source: exercise.path("exercise")) { try $0.judged() }
    #expect(try lasting(judged.text) == lasting(String(readme[start.upperBound..<end.lowerBound])))
  }
}
