import Glibc

/// Who speaks on a connection: what the side that has dialled says first.
public enum Role: UInt8, Sendable {
  case server = 1
  case client = 2
}

/// How a server is.
public enum HealthStatus: UInt8, Sendable {
  case healthy = 1
  /// It cannot write its journal, or has refused a contact for want of room.
  case degraded = 2
  case stopping = 3
}

/// The first 257 bytes from the side that has dialled.
public struct Hello: Hashable, Sendable {
  public let role: Role
  /// For logs: nothing is decided by it.
  public let name: [UInt8]

  static let size = 1 + TextField.name.size

  /// - Throws: why that is no name.
  public init(_ role: Role, name: String) throws(ProtocolViolation) {
    self.role = role
    self.name = try TextField.name.bytes(of: name)
  }

  init(role: Role, name: UnsafeRawBufferPointer) {
    self.role = role
    self.name = Array(name)
  }
}

/// What a client says, after its hello.
public enum ClientCommand {
  case update(ContactView)
  case listAll
}

/// What servers say to each other.
public enum ServerMessage {
  case update(clock: UInt32, ContactView)
  case heartBeat(HealthStatus, clock: UInt32)
  case updateClock(UInt32)
  case askForUpdate
  /// An answer to AskForUpdate begins: so many records follow it, and nothing else before the last of them.
  case answer(count: Int)
  case record(clock: UInt32, ContactView)
}

/// The parts of the answer to a client's ListAll.
public enum ListingPart {
  case count(Int)
  case contact(ContactView)
}

/// The numbers that commands begin with.
enum CommandByte {
  static let (clientUpdate, listAll): (UInt8, UInt8) = (1, 2)
  static let (update, heartBeat, updateClock, askForUpdate): (UInt8, UInt8, UInt8, UInt8) = (1, 2, 3, 4)
  /// Where a command would stand, this is the first byte of a ContactLen: an answer begins.
  static let answer: UInt8 = 0
}

/// A book holds no more: the ContactLen of an answer is to begin with a zero byte.
let mostContacts = (1 << 24) - 1

/// Puts messages into bytes.
public struct MessageWriter {
  public private(set) var bytes: [UInt8] = []

  public init() {}

  public mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

  public mutating func hello(_ hello: Hello) {
    bytes.append(hello.role.rawValue)
    bytes += hello.name
    bytes += repeatElement(0, count: max(0, TextField.name.size - hello.name.count))
  }

  /// A client's.
  public mutating func update(_ contact: ContactView) {
    bytes.append(CommandByte.clientUpdate)
    append(contact)
  }

  public mutating func listAll() { bytes.append(CommandByte.listAll) }

  /// A server's.
  public mutating func update(clock: UInt32, _ contact: ContactView) {
    bytes.append(CommandByte.update)
    append(clock)
    append(contact)
  }

  public mutating func heartBeat(_ status: HealthStatus, clock: UInt32) {
    bytes.append(CommandByte.heartBeat)
    bytes.append(status.rawValue)
    append(clock)
  }

  public mutating func updateClock(_ clock: UInt32) {
    bytes.append(CommandByte.updateClock)
    append(clock)
  }

  public mutating func askForUpdate() { bytes.append(CommandByte.askForUpdate) }

  /// The ContactLen of an answer.
  ///
  /// - Parameter count: at most 2^24 - 1, so that its first byte is zero, and is taken for no command.
  public mutating func count(_ count: Int) { append(UInt32(clamping: min(count, mostContacts))) }

  /// A record of an answer: with a clock between servers, without one to a client.
  public mutating func record(clock: UInt32?, _ contact: ContactView) {
    if let clock { append(clock) }
    append(contact)
  }

  private mutating func append(_ number: UInt32) {
    withUnsafeBytes(of: number.bigEndian) { bytes += $0 }
  }

  private mutating func append(_ contact: ContactView) {
    withUnsafeTemporaryAllocation(byteCount: ContactLayout.size, alignment: 8) { room in
      guard let place = room.baseAddress else { return }
      ContactLayout.store(user: contact.user, name: contact.name, phone: contact.phone, to: place)
      bytes += UnsafeRawBufferPointer(room)
    }
  }
}
