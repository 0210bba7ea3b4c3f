import SystemCalls

/// Everything the kernel said of one socket at one moment. A field that the kernel did not tell is absent.
public struct SocketState: Sendable, Hashable {
  public private(set) var readings: [Field: Reading] = [:]

  public init() {}

  public subscript(field: Field) -> Reading.Value? { readings[field]?.value }

  /// The field as a number, where it is one.
  public func number(_ field: Field) -> UInt64? {
    if case .number(let number)? = self[field] { number } else { nil }
  }

  /// The field as text, where it is text.
  public func text(_ field: Field) -> String? {
    if case .text(let text)? = self[field] { text } else { nil }
  }

  /// The field as an address, where it is one.
  public func address(_ field: Field) -> SocketAddress? {
    if case .address(let address)? = self[field] { address } else { nil }
  }

  mutating func set(_ field: Field, _ value: Reading.Value?, from source: @autoclosure () -> String) {
    if let value { readings[field] = Reading(value, from: source()) }
  }

  mutating func set(_ field: Field, number: some BinaryInteger, from source: @autoclosure () -> String) {
    set(field, .number(UInt64(clamping: number)), from: source())
  }

  mutating func remove(_ field: Field) { readings[field] = nil }

  /// Takes from `other` what is not known here.
  mutating func complete(from other: SocketState) {
    readings.merge(other.readings) { own, _ in own }
  }

  /// This socket, whose connection goes on without it, in TIME_WAIT say: what sock_diag says of that connection, and the rest
  /// as it was read through the descriptor.
  public func ending(in connection: SocketState) -> SocketState {
    var state = connection
    state.remove(.inode)
    state.complete(from: self)
    return state
  }

  // --- what is asked for most ---

  /// The socket's identity: the same from the accept queue through the descriptor to TIME_WAIT. See: socket(7), SO_COOKIE
  public var cookie: UInt64? { number(.cookie) }
  /// The inode by which /proc/PID/fd and `ss -e` name it; 0 where no descriptor was ever made for it.
  public var inode: UInt64? { number(.inode) }
  /// "AF_INET"
  public var family: String? { text(.family) }
  /// "LISTEN"
  public var state: String? { text(.state) }
  public var local: SocketAddress? { address(.local) }
  public var peer: SocketAddress? { address(.peer) }
  public var isListening: Bool { state == TCPState.listen.name }
  public var isTCP: Bool { text(.protocol) == "TCP" }

  /// Whether it is in a state that a socket on loopback only passes through.
  public var isPassing: Bool {
    guard isTCP, let state else { return false }
    return TCPState.allCases.contains { $0.isPassing && $0.name == state }
  }
}

/// A field of one socket that was different at the second of two readings.
public struct FieldChange: Sendable, Hashable {
  public let field: Field
  public let from: Reading?
  public let to: Reading?

  public init(field: Field, from: Reading?, to: Reading?) {
    self.field = field
    self.from = from
    self.to = to
  }
}

extension SocketState {
  /// What is different in `later`, in the order of `Field`.
  public func changes(to later: SocketState) -> [FieldChange] {
    Field.allCases.compactMap { field in
      let from = readings[field]
      let to = later.readings[field]
      // An address may come with a scope one time and without it the next.
      if case .address(let one)? = from?.value, case .address(let other)? = to?.value,
        one.canonical == other.canonical
      {
        return nil
      }
      return from?.value == to?.value ? nil : FieldChange(field: field, from: from, to: to)
    }
  }
}
