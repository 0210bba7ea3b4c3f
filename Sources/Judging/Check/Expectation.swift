import Glibc
import SystemCalls
import KernelState
import Tracing

/// Something that must be true: of the kernel's state, of the program's calls so far, or of what it printed.
struct Expectation: Sendable, Decodable {
  enum Kind: Sendable {
    case listening(backlog: Int?, address: String?)
    /// As the kernel's values print; PORT may stand in them.
    case socket([SocketField: String], count: Int?)
    case closed(String)
    case called(CallName, errno: ErrorNumberName?, count: Int?)
    case order([CallName])
    case exit(Int32)
    case output(String, isWhole: Bool)
    case errors(String, isWhole: Bool)
    case descriptors(Int)
    case threads(Int)
    case waitsIn([CallName])
  }

  let kind: Kind
  var advice: StepAdvice

  static let verbs = [
    "listening", "socket", "closed", "called", "order", "exit", "output", "errors", "descriptors", "threads",
    "waitsIn",
  ]

  init(from decoder: any Decoder) throws {
    let members = try Members(decoder)
    let verb = try members.verb(of: Self.verbs, "expectation")
    var further: [String] = []
    switch verb {
    case "listening":
      let wanted = try members.required(verb, Listening.self)
      kind = .listening(backlog: wanted.backlog, address: wanted.address)
    case "socket":
      further = ["count"]
      kind = .socket(
        try members.required(verb, SocketFields.self).values,
        count: try members.number("count", in: 0...100_000))
    case "closed": kind = .closed(try members.required(verb))
    case "called":
      further = ["count", "errno"]
      kind = .called(
        try members.required(verb), errno: try members.optional("errno"),
        count: try members.number("count", in: 0...1_000_000))
      if case .called(_, let errno?, _) = kind, errno.number.rawValue == EBADF {
        throw members.mistake(
          "calls on a descriptor that is not open are not followed, and would never be seen")
      }
    case "order":
      let names = try members.required(verb, [CallName].self)
      if names.isEmpty { throw members.mistake("'order' names no call") }
      kind = .order(names)
    case "exit": kind = .exit(Int32(try members.number(verb, in: 0...255) ?? 0))
    case "output", "errors":
      further = ["whole"]
      let text = try members.required(verb, String.self)
      let isWhole = try members.optional("whole") ?? false
      if text.isEmpty, !isWhole {
        throw members.mistake("every text holds an empty one; is 'whole: true' meant?")
      }
      kind = verb == "output" ? .output(text, isWhole: isWhole) : .errors(text, isWhole: isWhole)
    case "descriptors": kind = .descriptors(try members.number(verb, in: 0...1_000_000) ?? 0)
    case "threads": kind = .threads(try members.number(verb, in: 1...100_000) ?? 1)
    default: kind = .waitsIn(try members.required(verb))
    }
    advice = try StepAdvice(members)
    try members.refuse(allBut: [verb] + further + StepAdvice.names)
  }

  private struct Listening: Decodable {
    let backlog: Int?
    let address: String?
    init(from decoder: any Decoder) throws {
      let members = try Members(decoder)
      backlog = try members.number("backlog", in: 0...65535)
      address = try members.optional("address")
      try members.refuse(allBut: ["backlog", "address"])
    }
  }

  private struct SocketFields: Decodable {
    let values: [SocketField: String]
    init(from decoder: any Decoder) throws {
      let members = try Members(decoder)
      try members.refuse(allBut: SocketField.allCases.map(\.rawValue))
      var values: [SocketField: String] = [:]
      for field in SocketField.allCases where members.has(field.rawValue) {
        if field.isFlag {
          values[field] = try members.required(field.rawValue, Bool.self) ? "on" : "off"
        } else if let flag: Bool = try? members.required(field.rawValue) {
          throw members.mistake("'\(field.rawValue)' is \(flag) here, and is no flag")
        } else if let number: Int = try? members.required(field.rawValue) {
          values[field] = "\(number)"
        } else {
          values[field] = try members.required(field.rawValue)
        }
      }
      let states = TCPState.allCases.map(\.name)
      if let state = values[.state], !states.contains(state) {
        throw members.mistake(
          "'\(state)' is no state; there are \(Array(Set(states)).sorted().joined(separator: ", "))")
      }
      if values.isEmpty {
        throw members.mistake(
          "no field is named; there are \(SocketField.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      self.values = values
    }
  }
}

/// What a step or an expectation may say beside itself, for the verdict.
struct StepAdvice: Sendable {
  /// Until when it must be so, in milliseconds.
  let within: Int
  let because: String?
  let missing: String?
  let hint: String?

  static let names = ["within", "because", "missing", "hint"]

  init(_ members: Members) throws {
    within = try members.number("within", in: 1...600_000) ?? 1000
    because = try members.optional("because")
    missing = try members.optional("missing")
    hint = try members.optional("hint")
  }
}

/// What can be asked of a socket in a check.
enum SocketField: String, CaseIterable, Sendable {
  case state, localPort, peerPort, localAddress, peerAddress, acceptQueue, backlog, receiveQueue, sendQueue,
    nonBlocking
  case closeOnExec, reuseAddress, noDelay, keepAlive, family, type

  /// Whether it is true or false.
  var isFlag: Bool { [.nonBlocking, .closeOnExec, .reuseAddress, .noDelay, .keepAlive].contains(self) }

  /// The field's value of a socket, nil where the kernel does not tell it.
  func text(of state: SocketState) -> String? {
    let field: Field
    switch self {
    case .localPort: return state.local.map { "\($0.port)" }
    case .peerPort: return state.peer.map { "\($0.port)" }
    case .localAddress: return state.local?.host
    case .peerAddress: return state.peer?.host
    case .state: field = .state
    case .acceptQueue: field = .acceptQueue
    case .backlog: field = .backlog
    case .receiveQueue: field = .receiveQueue
    case .sendQueue: field = .sendQueue
    case .nonBlocking: field = .nonBlocking
    case .closeOnExec: field = .closeOnExec
    case .reuseAddress: field = .reuseAddress
    case .noDelay: field = .noDelay
    case .keepAlive: field = .keepAlive
    case .family: field = .family
    case .type: field = .type
    }
    return state[field]?.description
  }
}

/// A call, by the name that a learner writes: `accept` also stands for what else accepts, `read` and `write` for all that reads
/// and writes.
struct CallName: Sendable, Hashable, Decodable, CustomStringConvertible {
  let description: String
  let calls: Set<SystemCall>

  private static let families: [String: Set<SystemCall>] = [
    "accept": [.accept, .accept4],
    "read": [.read, .readv, .preadv2, .recvfrom, .recvmsg, .recvmmsg],
    "write": [.write, .writev, .pwritev2, .sendto, .sendmsg, .sendmmsg, .sendfile, .splice],
    "poll": [.poll, .ppoll],
    "select": [.select, .pselect6],
    "epoll_wait": [.epollWait, .epollPwait, .epollPwait2],
    "dup": [.dup, .dup2, .dup3],
  ]

  init?(_ name: String) {
    guard let calls = Self.families[name] ?? SystemCall(rawValue: name).map({ [$0] }) else { return nil }
    description = name
    self.calls = calls
  }

  /// All calls that do the same as this one, nil where it is alone.
  init?(family call: SystemCall) {
    guard let family = Self.families.first(where: { $0.value.contains(call) }) else { return nil }
    description = family.key
    calls = family.value
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let name = try container.decode(String.self)
    guard let call = CallName(name) else {
      let near = Members.nearest(to: name, among: SystemCall.allCases.map(\.rawValue))
      throw DecodingError.dataCorruptedError(
        in: container,
        debugDescription: "'\(name)' is no call that is followed"
          + (near.map { "; did you mean '\($0)'?" } ?? ""))
    }
    self = call
  }
}

/// "EADDRINUSE"
struct ErrorNumberName: Sendable, Hashable, Decodable {
  let number: ErrorNumber

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let name = try container.decode(String.self)
    guard let number = ErrorNumber(name: name) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(name)' is no errno")
    }
    self.number = number
  }
}
