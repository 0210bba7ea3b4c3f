import Foundation
import TestSupport
import Testing

/// The wrong programs of the first lessons.
@Suite(.serialized) struct WrongCallsTests {
  @Test(arguments: CourseExercise.all.filter { $0.lesson < "08" }.flatMap(\.wrong)) func isToldWhy(
    program: WrongProgram
  ) throws { try program.isToldWhy() }
}

/// Those of the programs that are made of them.
@Suite(.serialized) struct WrongProgramsTests {
  @Test(arguments: CourseExercise.all.filter { $0.lesson >= "08" && $0.lesson < "13" }.flatMap(\.wrong))
  func isToldWhy(
    program: WrongProgram
  ) throws { try program.isToldWhy() }
}

/// Those of the contact server.
@Suite(.serialized) struct WrongContactServersTests {
  @Test(arguments: CourseExercise.all.filter { $0.lesson >= "13" }.flatMap(\.wrong)) func isToldWhy(
    program: WrongProgram
  ) throws { try program.isToldWhy() }
}

extension WrongProgram {
  /// What the judge says of each wrong program is kept beside it, and names the fault. With SOCKETSTEPS_WRITE_TRANSCRIPTS in the
  /// environment it is written anew.
  func isToldWhy() throws {
    try TemporaryCourse.with(exercise, source: source) { course in
      func told() throws -> String {
        let judged = try course.judged()
        #expect(!judged.passed)
        #expect(!judged.text.contains("does not compile"), "\(judged.text)")
        #expect(words(judged.text).contains(words(try fault())), "\(judged.text)")
        return lasting(judged.text)
      }
      var verdict = try told()
      let kept = try? String(contentsOfFile: self.verdict, encoding: .utf8)
      if getenv("SOCKETSTEPS_WRITE_TRANSCRIPTS") != nil {
        if kept != verdict { try verdict.write(toFile: self.verdict, atomically: true, encoding: .utf8) }
        return
      }
      // The fault is named each time. Where the program stands when it is looked at, and whether a reset or the bytes before it came
      // first, the kernel's schedule decides: one of three is told in the same words.
      for _ in 0..<2 where verdict != kept { verdict = try told() }
      #expect(verdict == kept)
    }
  }
}

/// A text without its layout.
func words(_ text: String) -> String {
  masked(text).split(whereSeparator: \.isWhitespace).joined(separator: " ")
}

/// What is the same in each run of a program: without the steps, which hang on the time at which each packet came; without
/// numbers of ports, and without the layout that hangs on their lengths.
func lasting(_ text: String) -> String {
  var isInSteps = false
  let lines = text.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
    if line.hasPrefix("   The last steps:") || line.hasPrefix("   Its steps:") { isInSteps = true }
    if ["   Its standard", "   Likely missing:", "   ▸"].contains(where: line.hasPrefix) {
      isInSteps = false
    }
    return !isInSteps
  }
  var paragraphs: [String] = []
  for line in lines {
    // How long a poll still waits; and whether a reset has come before the byte that meets it, or after.
    let text = masked(String(line)).replacing(/(poll\(.*, )\d+\)/) { "\($0.output.1)N)" }
      .replacing("EPIPE (Broken pipe)", with: "ECONNRESET (Connection reset by peer)")
    // What is indented further goes on with the line above it.
    let isContinued = line.hasPrefix("     ") && !line.contains("^")
    if isContinued, let last = paragraphs.popLast() {
      paragraphs.append(last + " " + text.trimmingCharacters(in: .whitespaces))
    } else {
      paragraphs.append(text)
    }
  }
  return paragraphs.joined(separator: "\n")
}
