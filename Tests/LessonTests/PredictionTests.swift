import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `--predict`: asked before the call runs, answered by the kernel.
@Suite struct PredictionTests {
  /// Runs a lesson and answers each question.
  private func run(_ lesson: String, _ answer: (StoryLine, Int) -> String) throws -> [StoryLine] {
    let program = try Program([Place.product(lesson), "--predict", "--format", "json"])
    var lines: [StoryLine] = []
    var step = 1
    while let text = try program.line() {
      let line = try StoryLine(text)
      lines.append(line)
      if line.isStep { step += 1 }
      if line["question"] != nil { program.write(answer(line, step) + "\n") }
    }
    #expect(try program.finish().status == 0)
    return lines
  }

  private func score(_ lines: [StoryLine]) throws -> (right: Int, of: Int) {
    let score = try #require(lines.last?["score"] as? [String: Int])
    return (try #require(score["right"]), try #require(score["of"]))
  }

  @Test(arguments: Course.lessons) func theKernelAnswers(lesson: String) throws {
    // Without a guess every question is asked, and tells what was right.
    let silent = try run(lesson) { _, _ in "" }
    let predictions = silent.filter { $0.members["prediction"] != nil }
    #expect(predictions.count >= 5)
    #expect(predictions.allSatisfy { $0["right"] == nil })
    #expect(try score(silent) == (0, 0))
    // Where several threads are asked in turn, a question and its answer do not follow each other.
    if Course.concurrent.contains(lesson) { return }
    var truth: [Int: String] = [:]
    for prediction in predictions {
      truth[try #require(prediction["ofStep"] as? Int)] = prediction["actual"] as? String
    }
    // What was right is what the step says, which another piece of code tells.
    var question = ""
    for line in silent {
      question = line["question"] as? String ?? question
      guard let actual = line["actual"] as? String,
        let step = silent.first(where: { $0["step"] as? Int == line["ofStep"] as? Int })
      else { continue }
      if let number = question.firstMatch(of: /Which state will fd (\d+) be in/)?.output.1 {
        let socket = step.sockets.first { $0.fd == Int(number) }
        // One that is no descriptor's any more has no number to be found by.
        if let state = socket?.state, step.call != "close" { #expect(actual == state, "\(step.callText)") }
      }
      if question.hasPrefix("What will \(step.call) ") || question.hasPrefix("How many bytes will read") {
        let result = step.errno ?? "\(step["result"] as? Int ?? 0)"
        let isKnown =
          actual.hasSuffix(result) || ["less than", "a new descriptor"].contains { actual.contains($0) }
        #expect(isKnown, "\(question) \(actual): \(step.callText)")
      }
    }
    // Whoever knows it all is right each time, and is not asked the same again.
    let knowing = try run(lesson) { question, step in
      let choices = question["choices"] as? [String] ?? []
      return
        "\((choices.firstIndex(of: (truth[step] ?? "").components(separatedBy: ", then ").first ?? "") ?? choices.count - 1) + 1)"
    }
    let (right, of) = try score(knowing)
    #expect(of >= 2 && of <= predictions.count)
    // A number of bytes may be another one in another run; "something else" is right then, or wrong.
    #expect(right >= of - 1)
    var choices: [String] = []
    for prediction in knowing {
      choices = prediction["choices"] as? [String] ?? choices
      guard prediction.members["prediction"] != nil else { continue }
      let actual = (prediction["actual"] as? String ?? "").components(separatedBy: ", then ")
      let choice = prediction["prediction"] as? String ?? ""
      let isSame = actual.contains(choice)
      let isElse = choice == "something else" && !choices.contains(where: actual.contains)
      #expect(prediction["right"] as? Bool == (isSame || isElse))
    }
  }

  @Test func theCallHasNotRunWhenItIsAsked() throws {
    let program = try Program([Place.product("lesson3-listen"), "--predict", "--format", "json"])
    var wasAsked = false
    while let text = try program.line() {
      let line = try StoryLine(text)
      guard line["question"] != nil else { continue }
      if (line["text"] as? String)?.hasPrefix("listen(3, 2") == true {
        let child = try #require(Self.child(of: program.process))
        #expect((SystemCalls.text(ofFile: "/proc/\(child)/stat") ?? "").contains(") t "))
        // Nobody listens yet: the child's only bound socket is in no list of listeners.
        if let ss = Witness.path("ss") {
          let rows = try Program.run([ss, "-tlnpH"]).output
          #expect(!rows.contains("pid=\(child),"))
        }
        #expect(line["choices"] as? [String] == ["CLOSE", "LISTEN", "ESTABLISHED", "something else"])
        wasAsked = true
      }
      program.write("2\n")
    }
    #expect(try program.finish().status == 0)
    #expect(wasAsked)
  }

  private static func child(of process: pid_t) -> pid_t? {
    SystemCalls.text(ofFile: "/proc/\(process)/task/\(process)/children")?.split(separator: " ").first.flatMap
    { pid_t($0) }
  }

  @Test func nonsenseIsNoAnswer() throws {
    let result = try Program.run([Place.product("lesson3-listen"), "--predict"], input: "9\nfoo\n2\n\n")
    #expect(result.status == 0)
    #expect(result.output.contains("'9' is no answer; the choices are 1 to "))
    #expect(result.output.contains("'foo' is no answer"))
    #expect(result.output.contains("as you said: fd 3"))
    #expect(result.output.contains("(no guess; it is: 0)"))
    #expect(result.output.components(separatedBy: "Standard input has ended").count == 2)
    #expect(result.output.contains("You foresaw 1 of 1."))
    #expect(result.errors == "")
  }

  @Test func keysAreAnswersAtATerminal() throws {
    let program = try Program(
      [Place.product("lesson3-listen"), "--predict"], onTerminal: true, outputOnTerminal: true)
    var position = try program.waitForTerminal("what will it be?")
    program.press("2")
    position = try program.waitForTerminal("as you said: fd 3", from: position)
    position = try program.waitForTerminal("What will bind return?", from: position)
    position = try program.waitForTerminal("what will it be?", from: position)
    program.press("2")
    position = try program.waitForTerminal("you said EADDRINUSE, and it is: 0", from: position)
    // Calls that nothing is asked about are waited for as ever. Then no more questions.
    for _ in 0..<2 {
      position = try program.waitForTerminal("Enter: next step", from: position)
      program.press("\n")
    }
    position = try program.waitForTerminal("what will it be?", from: position)
    program.press("c")
    #expect(try program.finish().status == 0)
    try program.waitForTerminal("You foresaw 1 of 2.", from: position)
  }

  @Test func aSignalEndsItWhileItAsks() throws {
    let program = try Program([Place.product("lesson3-listen"), "--predict", "--format", "json"])
    while let text = try program.line() { if try StoryLine(text)["question"] != nil { break } }
    let child = try #require(Self.child(of: program.process))
    program.send(SIGINT)
    #expect(try program.finish().status == 130)
    #expect(kill(child, 0) == -1)
  }

  @Test func withoutANarratorNobodyAsks() throws {
    let result = try Program.run([Place.product("lesson3-listen"), "--bare", "--predict"])
    #expect(result.status == 2)
    #expect(result.errors.contains("--predict needs the narrator"))
  }
}
