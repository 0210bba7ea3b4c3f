import Glibc

/// One of the languages of the protocol: how long its messages are, and what they say.
public protocol WireLanguage {
  associatedtype Message
  /// How many bytes the next message has, which begins with this one: 1 to 537.
  ///
  /// - Throws: where no message begins so.
  func size(beginningWith first: UInt8) throws(ProtocolViolation) -> Int
  /// Takes a message apart.
  ///
  /// - Parameter bytes: exactly as many as `size` has said.
  /// - Returns: the message, which lives no longer than its bytes.
  /// - Throws: what is invalid in it.
  mutating func message(_ bytes: UnsafeRawPointer) throws(ProtocolViolation) -> Message
}

/// Takes messages out of a stream of bytes, however the stream is cut. It keeps the beginning of one message at most.
public struct MessageReader<Language: WireLanguage>: ~Copyable {
  public var language: Language
  /// The beginning of a message whose end has not come.
  private var partial: Partial?
  private var held = 0

  public init(_ language: Language) { self.language = language }

  /// Whether a message has begun, and not ended.
  public var isInside: Bool { held > 0 }

  /// Takes the next message.
  ///
  /// - Parameter bytes: what has come; what was taken is taken out of it.
  /// - Returns: the message, whose parts live until the next call, or nil where there is no whole one: then `bytes` is empty.
  /// - Throws: where it is no message. Who sends that speaks something else, and nothing more is to be read from him.
  public mutating func next(from bytes: inout UnsafeRawBufferPointer) throws(ProtocolViolation)
    -> Language.Message?
  {
    guard let start = bytes.baseAddress, bytes.count > 0 else { return nil }
    if held > 0, let partial { return try completed(partial.place, from: &bytes) }
    let size = try language.size(beginningWith: bytes[0])
    guard bytes.count >= size else {
      keep(&bytes)
      return nil
    }
    bytes = UnsafeRawBufferPointer(rebasing: bytes[size...])
    return try language.message(start)
  }

  private mutating func completed(
    _ partial: UnsafeMutableRawPointer, from bytes: inout UnsafeRawBufferPointer
  )
    throws(ProtocolViolation) -> Language.Message?
  {
    let size = try language.size(beginningWith: partial.load(as: UInt8.self))
    let missing = size - held
    guard bytes.count >= missing else {
      keep(&bytes)
      return nil
    }
    if let start = bytes.baseAddress { memcpy(partial + held, start, missing) }
    bytes = UnsafeRawBufferPointer(rebasing: bytes[missing...])
    held = 0
    return try language.message(UnsafeRawPointer(partial))
  }

  private mutating func keep(_ bytes: inout UnsafeRawBufferPointer) {
    let partial = self.partial ?? Partial()
    self.partial = partial
    if let start = bytes.baseAddress { memcpy(partial.place + held, start, bytes.count) }
    held += bytes.count
    bytes = UnsafeRawBufferPointer(rebasing: bytes[bytes.count...])
  }
}

/// Room for the largest message. An object, for Swift 6.3 does not call the deinit of a generic noncopyable struct from other files
/// where it does not compile a whole module at once.
private final class Partial {
  let place = UnsafeMutableRawPointer.allocate(byteCount: 1 + ContactLayout.sizeWithClock, alignment: 8)

  deinit { place.deallocate() }
}

private func number(_ bytes: UnsafeRawPointer) -> UInt32 {
  UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))
}

/// What the side that has dialled says first.
public struct HelloLanguage: WireLanguage {
  public init() {}

  public func size(beginningWith first: UInt8) throws(ProtocolViolation) -> Int {
    guard Role(rawValue: first) != nil else {
      throw ProtocolViolation("it begins with byte \(first), which is no role: 1 is a server, 2 a client")
    }
    return Hello.size
  }

  public func message(_ bytes: UnsafeRawPointer) throws(ProtocolViolation) -> Hello {
    let name = try TextField.name.value(in: bytes + 1)
    return Hello(role: Role(rawValue: bytes.load(as: UInt8.self)) ?? .client, name: name)
  }
}

/// What a client says, after its hello.
public struct ClientLanguage: WireLanguage {
  public init() {}

  @inline(__always)
  public func size(beginningWith first: UInt8) throws(ProtocolViolation) -> Int {
    switch first {
    case CommandByte.clientUpdate: return 1 + ContactLayout.size
    case CommandByte.listAll: return 1
    default:
      throw ProtocolViolation("\(first) is no command of a client's: 1 is Update, 2 ListAll")
    }
  }

  @inline(__always)
  public func message(_ bytes: UnsafeRawPointer) throws(ProtocolViolation) -> ClientCommand {
    if bytes.load(as: UInt8.self) == CommandByte.listAll { return .listAll }
    return .update(try ContactView(bytes + 1))
  }
}

/// What servers say to each other, after the hello.
public struct ServerLanguage: WireLanguage {
  /// Records that are to come before the next command.
  public private(set) var recordsLeft = 0

  public init() {}

  @inline(__always)
  public func size(beginningWith first: UInt8) throws(ProtocolViolation) -> Int {
    if recordsLeft > 0 { return ContactLayout.sizeWithClock }
    switch first {
    case CommandByte.answer: return 4
    case CommandByte.update: return 1 + ContactLayout.sizeWithClock
    case CommandByte.heartBeat: return 1 + 1 + 4
    case CommandByte.updateClock: return 1 + 4
    case CommandByte.askForUpdate: return 1
    default:
      throw ProtocolViolation(
        "\(first) is no command of a server's: 1 is Update, 2 HeartBeat, 3 UpdateClock, 4 AskForUpdate")
    }
  }

  @inline(__always)
  public mutating func message(_ bytes: UnsafeRawPointer) throws(ProtocolViolation) -> ServerMessage {
    if recordsLeft > 0 {
      recordsLeft -= 1
      return .record(clock: number(bytes), try ContactView(bytes + ContactLayout.clock))
    }
    switch bytes.load(as: UInt8.self) {
    case CommandByte.answer:
      recordsLeft = Int(number(bytes))
      return .answer(count: recordsLeft)
    case CommandByte.update:
      return .update(clock: number(bytes + 1), try ContactView(bytes + 1 + ContactLayout.clock))
    case CommandByte.heartBeat:
      let byte = (bytes + 1).load(as: UInt8.self)
      guard let status = HealthStatus(rawValue: byte) else {
        throw ProtocolViolation("\(byte) is no HealthStatus: 1 is healthy, 2 degraded, 3 stopping")
      }
      return .heartBeat(status, clock: number(bytes + 2))
    case CommandByte.updateClock: return .updateClock(number(bytes + 1))
    default: return .askForUpdate
    }
  }
}

/// What a server answers to a client's ListAlls.
public struct ListingLanguage: WireLanguage {
  /// Contacts that are to come before the next answer; nil before the first.
  public private(set) var contactsLeft: Int?

  public init() {}

  public func size(beginningWith first: UInt8) -> Int { contactsLeft ?? 0 > 0 ? ContactLayout.size : 4 }

  public mutating func message(_ bytes: UnsafeRawPointer) throws(ProtocolViolation) -> ListingPart {
    if let left = contactsLeft, left > 0 {
      contactsLeft = left - 1
      return .contact(try ContactView(bytes))
    }
    let count = Int(number(bytes))
    guard count <= mostContacts else {
      throw ProtocolViolation("the answer announces \(count) contacts; a book holds \(mostContacts) at most")
    }
    contactsLeft = count
    return .count(count)
  }
}
