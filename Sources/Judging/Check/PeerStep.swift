import Glibc
import Tracing

/// One thing that the judge does as the program's other side.
struct PeerStep: Sendable, Decodable {
  enum Action: Sendable {
    case connect(String)
    case accept(String)
    /// In pieces of so many bytes at most, nil for all at once. Where `reads`, what comes meanwhile is taken in, for the steps that
    /// receive it.
    case send(String, Bytes, pieces: Int?, reads: Bool)
    case receive(String, Bytes)
    /// The end of the stream comes next.
    case end(String)
    /// The connection is over, in one way or the other.
    case gone(String)
    case reset(String)
    case close(String)
    case shutdown(String)
    /// Nothing comes, for so many milliseconds.
    case silence(String, milliseconds: Int)
    case signal(Int32)
    /// To the program's standard input; nil ends it.
    case input(Bytes?)
    case expect(Expectation)
  }

  let action: Action
  let advice: StepAdvice

  private static let verbs = [
    "connect", "accept", "send", "receive", "end", "gone", "reset", "close", "shutdown", "silence", "signal",
    "input",
    "expect",
  ]

  init(from decoder: any Decoder) throws {
    let members = try Members(decoder)
    let verb = try members.verb(of: Self.verbs, "step of the peer")
    var further: [String] = []
    switch verb {
    case "connect": action = .connect(try members.required(verb))
    case "accept": action = .accept(try members.required(verb))
    case "send":
      further = ["bytes", "pieces", "reads"]
      action = .send(
        try members.required(verb), try members.required("bytes"),
        pieces: try members.number("pieces", in: 1...1 << 24), reads: try members.optional("reads") ?? false)
    case "receive":
      further = ["bytes"]
      action = .receive(try members.required(verb), try members.required("bytes"))
    case "end": action = .end(try members.required(verb))
    case "gone": action = .gone(try members.required(verb))
    case "reset": action = .reset(try members.required(verb))
    case "close": action = .close(try members.required(verb))
    case "shutdown": action = .shutdown(try members.required(verb))
    case "silence":
      further = ["milliseconds"]
      action = .silence(
        try members.required(verb), milliseconds: try members.number("milliseconds", in: 1...10_000) ?? 100)
    case "signal":
      let name = try members.required(verb, String.self)
      guard let number = Self.signals.first(where: { $0.name == name })?.number else {
        throw members.mistake(
          "'\(name)' is no signal that can be sent here; there are \(Self.signals.map(\.name).joined(separator: ", "))"
        )
      }
      action = .signal(number)
    case "input": action = .input(members.isNull(verb) ? nil : try members.required(verb))
    default: action = .expect(try members.required(verb))
    }
    if verb == "expect", let name = StepAdvice.names.first(where: members.has) {
      throw members.mistake("'\(name)' stands beside 'expect' here; it belongs inside, to the expectation")
    }
    advice = try StepAdvice(members)
    try members.refuse(allBut: [verb] + further + StepAdvice.names)
  }

  static let signals: [(name: String, number: Int32)] = [
    ("SIGHUP", SIGHUP), ("SIGINT", SIGINT), ("SIGTERM", SIGTERM), ("SIGUSR1", SIGUSR1), ("SIGUSR2", SIGUSR2),
    ("SIGCHLD", SIGCHLD), ("SIGSTOP", SIGSTOP), ("SIGCONT", SIGCONT), ("SIGKILL", SIGKILL),
  ]

  /// The connection that it is about, and whether that begins here.
  var connection: (name: String, isNew: Bool)? {
    switch action {
    case .connect(let name), .accept(let name): (name, true)
    case .send(let name, _, _, _), .receive(let name, _), .end(let name), .gone(let name), .reset(let name),
      .close(let name),
      .shutdown(let name), .silence(let name, _):
      (name, false)
    case .expect(let expectation):
      if case .closed(let name) = expectation.kind { (name, false) } else { nil }
    case .signal, .input: nil
    }
  }
}
