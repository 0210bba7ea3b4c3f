import CommandLineTool
import Glibc
import KernelState
import SystemCalls
import Tracing

/// An expectation, and what the kernel says of it at this moment.
struct Judgement {
  let kind: Expectation.Kind
  private let program: ProgramState
  private let record: Record
  let port: UInt16
  let connections: [String: Connection]

  init(
    _ expectation: Expectation, program: ProgramState, record: Record, port: UInt16,
    connections: [String: Connection]
  ) {
    kind = expectation.kind
    self.program = program
    self.record = record
    self.port = port
    self.connections = connections
  }

  func holds() -> Bool {
    let now = record.now
    switch kind {
    case .listening(let backlog, let address):
      guard let state = program.listener()?.state else { return false }
      return (backlog.map { state.number(.backlog) == UInt64(clamping: $0) } ?? true)
        && (address.map { state.local?.host == $0 } ?? true)
    case .socket(let fields, let count):
      let found = matching(fields).count
      return count.map { found == $0 } ?? (found > 0)
    case .closed(let name):
      guard let connection = connections[name] else { return false }
      if program.end(of: connection) != nil { return false }
      if let cookie = connection.remoteCookie, program.kernel.sockDiagRefusal == nil {
        return now.held.contains(cookie)
      }
      // Nobody has accepted it: then nobody has closed it either.
      let state = program.remote(of: connection.own, at: connection.peer)?.state
      return ![TCPState.established.name, TCPState.closeWait.name].contains(state)
    case .called(let name, let errno, let count):
      let found = errno.map { now.failed(name, with: $0.number) } ?? now.succeeded(name)
      return count.map { found == $0 } ?? (found > 0)
    case .order(let names):
      let places = names.map { now.first($0) }
      guard !places.contains(where: { $0 == nil }) else { return false }
      return zip(places, places.dropFirst()).allSatisfy { ($0 ?? 0) < ($1 ?? 0) }
    case .exit(let status): return now.end == .exited(status)
    case .output(let text, let isWhole): return Self.holds(now.output, wanted(text), isWhole)
    case .errors(let text, let isWhole): return Self.holds(now.errors, wanted(text), isWhole)
    case .descriptors(let count): return program.descriptors() == count
    case .threads(let count): return now.mostThreads <= count
    case .waitsIn(let calls): return program.waits(in: Set(calls.flatMap(\.calls)))
    }
  }

  func matching(_ fields: [SocketField: String]) -> [ProgramState.Socket] {
    program.sockets().filter { socket in
      fields.allSatisfy { field, value in field.text(of: socket.state) == wanted(value) }
    }
  }

  func wanted(_ text: String) -> String { text.withPort(port) }

  private static func holds(_ bytes: [UInt8], _ text: String, _ isWhole: Bool) -> Bool {
    let printed = String(decoding: bytes, as: UTF8.self)
    return isWhole ? trimmed(printed) == trimmed(text) : printed.contains(text)
  }

  static func trimmed(_ text: String) -> String {
    var text = text[...]
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return String(text)
  }

  /// Whether it may be true for a moment only, since the program has not come to it yet: that must hold when it rests.
  var isOfRest: Bool {
    switch kind {
    case .socket(_, let count), .called(_, _, let count): count != nil
    case .descriptors, .threads: true
    default: false
    }
  }

  // --- in words ---

  /// What is expected.
  var expected: String {
    switch kind {
    case .listening(let backlog, let address):
      "a socket in LISTEN on \(address.map { "\($0):" } ?? "port ")\(port)"
        + (backlog.map { ", with a backlog of \($0)" } ?? "")
    case .socket(let fields, let count):
      Self.sockets(count) + " with "
        + fields.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.key.rawValue) \(wanted($0.value))" }
        .joined(separator: ", ")
    case .closed(let name): "the program closes its end of connection \(name)"
    case .called(let name, let errno, let count):
      Self.calls(name, count) + (errno.map { " that fail with \($0.number.name)" } ?? "")
    case .order(let names): "the calls in this order: " + names.map(\.description).joined(separator: ", ")
    case .exit(let status): "the program ends by itself, with exit status \(status)"
    case .output(let text, let isWhole):
      "standard output \(isWhole ? "is" : "holds") \(ByteDifference.quoted(wanted(text).utf8, limit: 120))"
    case .errors(let text, let isWhole):
      "standard error \(isWhole ? "is" : "holds") \(ByteDifference.quoted(wanted(text).utf8, limit: 120))"
    case .descriptors(let count): "\(counted(count, "descriptor")) open, 0, 1 and 2 among them"
    case .threads(let count): "no more than \(counted(count, "thread"))"
    case .waitsIn(let calls):
      "the program waits in \(calls.map(\.description).joined(separator: " or ")) while there is nothing to do"
    }
  }

  private static func sockets(_ count: Int?) -> String {
    switch count {
    case nil: "a socket"
    case 0: "no socket"
    case let count?: counted(count, "socket")
    }
  }

  private static func calls(_ name: CallName, _ count: Int?) -> String {
    switch count {
    case nil: "a call to \(name)"
    case 0: "no call to \(name)"
    case let count?: "\(counted(count, "call")) to \(name)"
    }
  }
}
