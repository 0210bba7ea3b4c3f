import CommandLineTool
import Foundation
import TestSupport
import Testing

@testable import Judging

/// Check files: what they may hold, and what is said of one that is wrong.
@Suite struct CheckFormatTests {
  private func read(_ text: String) throws -> Check {
    try Place.withTemporaryFolder { folder in
      try text.write(toFile: "\(folder)/check.json", atomically: true, encoding: .utf8)
      return try Check(path: "\(folder)/check.json")
    }
  }

  private func check(_ trials: String) -> String {
    "{ title: \"t\", lesson: \"lesson3-listen\", hints: [\"h\"], trials: [\(trials)] }"
  }

  @Test func commentsAndBareNames() throws {
    let check = try read(
      """
      // JSON5
      { title: "A title", lesson: 'lesson3-listen', hints: ["one", "two",],
        trials: [ { name: "n", /* all else by default */ expect: [ {listening: {}} ] } ] }
      """)
    #expect(check.title == "A title")
    #expect(check.hints == ["one", "two"])
    let trial = try #require(check.trials.first)
    #expect(trial.arguments == ["PORT"])
    #expect(trial.expectations.count == 1)
    #expect(trial.expectations.first?.advice.within == 1000)
    #expect(!trial.listens && trial.faults.isEmpty && trial.peer.isEmpty && !trial.endsByItself)
  }

  /// Each is refused, and what is said names the place and what may stand there.
  @Test(arguments: [
    (
      "{ name: \"n\", peer: [ {conect: \"a\"} ] }", "trials[0].peer[0]: this is no step of the peer",
      "did you mean 'connect'?"
    ),
    (
      "{ name: \"n\", peer: [ {connect: \"a\", bites: 1} ] }", "trials[0].peer[0]: 'bites' is unknown here",
      "connect"
    ),
    (
      "{ name: \"n\", peer: [ {connect: \"a\", close: \"a\"} ] }", "trials[0].peer[0]",
      "not both: close, connect"
    ),
    (
      "{ name: \"n\", peer: [ {send: \"a\", bytes: \"x\"} ] }", "peer[0]: there is no connection 'a' yet",
      "connect"
    ),
    ("{ name: \"n\", peer: [ {accept: \"a\"} ] }", "the judge accepts only where 'listens' is true", ""),
    ("{ name: \"n\", peer: [ {signal: \"SIGFOO\"} ], expect: [] }", "'SIGFOO' is no signal", "SIGUSR1"),
    ("{ name: \"n\" }", "neither 'peer' nor 'expect' stands here", ""),
    ("{ peer: [ {connect: \"a\"} ] }", "trials[0]: 'name' is missing", ""),
    (
      "{ name: \"n\", inject: [\"red:errno=EINTR\"], expect: [{exit: 0}] }",
      "'red' is no call that is followed", ""
    ),
    ("{ name: \"n\", inject: [\"read:errno=EFOO\"], expect: [{exit: 0}] }", "'EFOO' is no errno", ""),
    (
      "{ name: \"n\", expect: [ {listening: {backlog: 70000}} ] }",
      "'backlog' is 70000; it is to be from 0 to 65535", ""
    ),
    (
      "{ name: \"n\", expect: [ {listening: {backlog: \"5\"}} ] }", "trials[0].expect[0].listening.backlog",
      "a whole number"
    ),
    (
      "{ name: \"n\", expect: [ {socket: {stat: \"LISTEN\"}} ] }", "'stat' is unknown here",
      "did you mean 'state'?"
    ),
    ("{ name: \"n\", expect: [ {socket: {}} ] }", "no field is named", "localPort"),
    (
      "{ name: \"n\", expect: [ {called: \"acept\"} ] }", "'acept' is no call that is followed",
      "did you mean 'accept'?"
    ),
    ("{ name: \"n\", expect: [ {waitsIn: [\"pol\"]} ] }", "'pol' is no call that is followed", ""),
    ("{ name: \"n\", expect: [ {exit: 256} ] }", "'exit' is 256", "0 to 255"),
    ("{ name: \"n\", expect: [ {exit: 0, within: 0} ] }", "'within' is 0", ""),
    ("{ name: \"n\", expect: [ {closed: \"z\"} ] }", "no step of the peer makes a connection 'z'", ""),
    (
      "{ name: \"n\", limits: {second: 1}, expect: [{exit: 0}] }", "'second' is unknown here",
      "did you mean 'seconds'?"
    ),
    (
      "{ name: \"n\", input: {hex: \"0\"}, expect: [{exit: 0}] }", "'0' is no list of bytes in hexadecimal",
      ""
    ),
    ("{ name: \"n\", input: {hex: \"+1\"}, expect: [{exit: 0}] }", "is no list of bytes in hexadecimal", ""),
    ("{ name: \"n\", input: {u8: 256}, expect: [{exit: 0}] }", "trials[0].input", ""),
    (
      "{ name: \"n\", input: {field: \"four\", size: 3}, expect: [{exit: 0}] }",
      "the text has 4 bytes, and the field 3", ""
    ),
    (
      "{ name: \"n\", input: {repeat: {pattern: 60000000}, times: 60000000}, expect: [{exit: 0}] }",
      "that is more than", ""
    ),
    ("{ name: \"n\", input: {pattern: -1}, expect: [{exit: 0}] }", "'pattern' is -1", ""),
    (
      "{ name: \"n\", input: \"x\", peer: [ {input: \"y\"} ] }",
      "'input' is a step here, and a member of the trial, too", ""
    ),
  ])
  func aMistakeIsTold(trial: String, place: String, help: String) throws {
    do {
      _ = try read(check(trial))
      Issue.record("it was taken: \(trial)")
    } catch let complaint as Complaint {
      #expect(complaint.description.contains(place), "\(complaint.description)")
      #expect(help.isEmpty || complaint.description.contains(help), "\(complaint.description)")
      #expect(complaint.description.contains("AUTHORING.md"))
    }
  }

  @Test(arguments: [
    ("", "no JSON"), ("{ title: \"t\" lesson: \"l\" }", "line 1, column 14: a comma is missing before this"),
    ("{ title: \"t }", "line 1, column 10: this string does not end in its line"),
    ("{\n title: [1, 2 }", "line 2, column 15: this } closes nothing that is open"),
    ("{\n\n hints: [\n", "line 3, column 9: this [ is never closed"),
  ])
  func whereItIsNoJSON(text: String, words: String) throws {
    do {
      _ = try read(text)
      Issue.record("it was taken: \(text)")
    } catch let complaint as Complaint {
      #expect(text.isEmpty || complaint.description.contains(words), "\(complaint.description)")
    }
  }

  @Test(arguments: ["title", "lesson", "hints", "trials"]) func nothingIsLeftOut(member: String) throws {
    let all = [
      "title": "\"t\"", "lesson": "\"l\"", "hints": "[\"h\"]",
      "trials": "[{name: \"n\", expect: [{exit: 0}]}]",
    ]
    func text(_ members: [String: String]) -> String {
      "{" + members.map { "\($0.key): \($0.value)" }.joined(separator: ", ") + "}"
    }
    _ = try read(text(all))
    do {
      _ = try read(text(all.filter { $0.key != member }))
      Issue.record("\(member) may be left out")
    } catch let complaint as Complaint {
      #expect(complaint.description.contains("'\(member)' is missing"), "\(complaint.description)")
    }
    let empty = all.merging([member: member == "hints" || member == "trials" ? "[]" : "7"]) { $1 }
    #expect(throws: Complaint.self) { _ = try read(text(empty)) }
  }

  @Test(arguments: CheckFormatTests.coursesChecks) func theCoursesOwn(path: String) throws {
    let check = try Check(path: path)
    #expect(check.title.count <= 60, "\(check.title)")
    #expect(
      FileManager.default.fileExists(atPath: "\(Place.root)/Sources/Lessons/\(check.lesson)"),
      "\(check.lesson)")
  }

  static let coursesChecks: [String] = {
    let lessons = "\(Place.root)/Lessons"
    let folders = (try? FileManager.default.contentsOfDirectory(atPath: lessons)) ?? []
    return folders.sorted().flatMap { folder in
      ["check.json", "check2.json"].map { "\(lessons)/\(folder)/\($0)" }.filter(
        FileManager.default.fileExists)
    }
  }()
}
