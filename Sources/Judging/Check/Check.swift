import CommandLineTool
import FoundationEssentials
import SystemCalls
import Tracing

/// What an exercise's program must do, as its check file says it. The format is described in Lessons/AUTHORING.md.
public struct Check: Sendable, Decodable {
  /// One short line.
  public let title: String
  /// The lesson to run first: "lesson3-listen".
  public let lesson: String
  /// Each more telling than the one before.
  public let hints: [String]
  let trials: [Trial]

  public init(from decoder: any Decoder) throws {
    let members = try Members(decoder)
    title = try members.required("title")
    lesson = try members.required("lesson")
    hints = try members.required("hints")
    trials = try members.required("trials")
    try members.refuse(allBut: ["title", "lesson", "hints", "trials"])
    if hints.isEmpty { throw members.mistake("'hints' is empty; one is to stand there at least") }
    if trials.isEmpty { throw members.mistake("'trials' is empty, and nothing would be checked") }
  }

  /// Reads a check file.
  ///
  /// - Throws: a `Complaint` that says what is wrong with it, and where.
  public init(path: String) throws(Complaint) {
    guard let bytes = contents(ofFile: path) else {
      throw Complaint("\(path) cannot be read: \(ErrorNumber.last)")
    }
    let decoder = JSONDecoder()
    decoder.allowsJSON5 = true
    do { self = try decoder.decode(Check.self, from: Data(bytes)) } catch {
      var reason = (error as? DecodingError)?.inWords ?? "\(error)"
      if let mistake = SyntaxMistake(in: String(decoding: bytes, as: UTF8.self)) {
        reason = "it is no JSON5: \(mistake.description)"
      }
      throw Complaint("\(path): \(reason) (the format: Lessons/AUTHORING.md)")
    }
  }
}

/// One run of the program.
struct Trial: Sendable, Decodable {
  let name: String
  /// PORT stands for the port that the judge chose.
  let arguments: [String]
  let input: Bytes?
  let faults: [TrialFault]
  let limits: Limits
  /// Whether the judge listens on the port, for a program that dials.
  let listens: Bool
  /// Whether the port is that of the trial before; else it is a new one.
  let keepsPort: Bool
  let peer: [PeerStep]
  let expectations: [Expectation]

  init(from decoder: any Decoder) throws {
    let members = try Members(decoder)
    name = try members.required("name")
    arguments = try members.optional("arguments") ?? ["PORT"]
    input = try members.optional("input")
    limits = try members.optional("limits") ?? Limits()
    listens = try members.optional("listens") ?? false
    keepsPort = try members.optional("keepsPort") ?? false
    peer = try members.optional("peer") ?? []
    expectations = try members.optional("expect") ?? []
    try members.refuse(allBut: [
      "name", "arguments", "input", "inject", "limits", "listens", "keepsPort", "peer", "expect",
    ])
    faults = try (members.optional("inject", [String].self) ?? []).map {
      do throws(Fault.Mistake) { return try TrialFault($0) } catch {
        throw members.mistake("inject: \($0): \(error)")
      }
    }
    if peer.isEmpty, expectations.isEmpty {
      throw members.mistake("neither 'peer' nor 'expect' stands here, and nothing would be checked")
    }
    var connections: Set<String> = []
    for (place, step) in peer.enumerated() {
      if input != nil, case .input = step.action {
        throw members.mistake(
          "peer[\(place)]: 'input' is a step here, and a member of the trial, too; take one away")
      }
      if !listens, case .accept = step.action {
        throw members.mistake("peer[\(place)]: the judge accepts only where 'listens' is true")
      }
      guard let (name, isNew) = step.connection else { continue }
      if isNew {
        connections.insert(name)
      } else if !connections.contains(name) {
        throw members.mistake(
          "peer[\(place)]: there is no connection '\(name)' yet; 'connect' or 'accept' makes one")
      }
    }
    for (place, expectation) in expectations.enumerated() {
      if case .closed(let name) = expectation.kind, !connections.contains(name) {
        throw members.mistake("expect[\(place)]: no step of the peer makes a connection '\(name)'")
      }
    }
  }

  /// Whether the program is to end with a status that tells of a failure.
  var refuses: Bool {
    expectations.contains { if case .exit(let status) = $0.kind { status != 0 } else { false } }
  }

  /// Whether it is left to end by itself.
  var endsByItself: Bool { expectations.contains { if case .exit = $0.kind { true } else { false } } }
}

/// What a program may take. What is beyond is ended, and told.
struct Limits: Sendable, Decodable {
  /// For the whole trial.
  var seconds = 10
  /// Processes that it may start, itself among them.
  var processes = 8
  var threads = 64
  /// In MiB.
  var memory = 512

  init() {}

  init(from decoder: any Decoder) throws {
    let members = try Members(decoder)
    seconds = try members.number("seconds", in: 1...600) ?? seconds
    processes = try members.number("processes", in: 1...10_000) ?? processes
    threads = try members.number("threads", in: 1...10_000) ?? threads
    memory = try members.number("memory", in: 16...65536) ?? memory
    try members.refuse(allBut: ["seconds", "processes", "threads", "memory"])
  }
}
