/// What kind of message it is. See: RFC 6455, section 5.6
public enum MessageKind: Sendable {
  /// Valid UTF-8.
  case text
  case binary
}

/// What a peer has sent. The bytes live until the reader is asked again.
public enum WebSocketEvent {
  /// A whole message, out of however many frames.
  case message(MessageKind, UnsafeRawBufferPointer)
  case ping(UnsafeRawBufferPointer)
  case pong(UnsafeRawBufferPointer)
  /// The code, where there is one, and a reason in UTF-8, which may be empty.
  case close(CloseCode?, reason: UnsafeRawBufferPointer)
}

/// Takes frames and messages out of a stream of bytes, however the stream is cut, and refuses what RFC 6455 does not allow as soon
/// as it can be known.
///
/// Between two frames, and after a message whose bytes came at once, it holds no memory of its own: such a message stays where it has
/// come to, and is unmasked there. What it keeps grows with what has come, never with what a header promises.
///
/// See: RFC 6455, sections 5 and 8.1
public struct WebSocketReader: ~Copyable {
  private let role: WebSocketRole
  private let limit: Int
  /// The beginning of a header.
  private var header: (UInt64, UInt64) = (0, 0)
  private var headerHeld = 0

  // The frame whose payload is coming.
  private var isInFrame = false
  private var isFinal = false
  private var opcode = Opcode.continuation
  private var mask: Mask?
  private var left = 0

  /// The message whose frames are coming. A control frame may come between two of them.
  private var kind: MessageKind?
  private var utf8 = UTF8Checker()
  private var message: Gathering?
  /// A control frame that comes in parts.
  private var control: Gathering?
  /// What of these two was handed out, and is to be let go of.
  private var isMessageHandedOut = false
  private var isControlHandedOut = false
  private var hasFailed = false

  /// - Parameters:
  ///   - role: of this side; so a server wants masked frames, and a client unmasked ones.
  ///   - limit: bytes that a message may have.
  public init(_ role: WebSocketRole, limit: Int) {
    self.role = role
    self.limit = limit
  }

  /// Bytes that it holds of a message that is not whole.
  public var held: Int { message?.count ?? 0 }

  /// Whether a frame or a message has begun, and not ended.
  public var isInside: Bool { headerHeld > 0 || isInFrame || kind != nil }

  /// Lets go of what it holds: from here on everything is passed over.
  public mutating func drop() {
    hasFailed = true
    (message, control) = (nil, nil)
  }

  /// Lets go of what was handed out last. Taking what comes next does so, too; nobody knows when that will be.
  public mutating func letGo() {
    if isMessageHandedOut {
      isMessageHandedOut = false
      message = nil
    }
    if isControlHandedOut {
      isControlHandedOut = false
      control = nil
    }
  }

  /// Takes what comes next.
  ///
  /// - Parameter bytes: what has come. It is unmasked in its place, and what was taken is taken out of it.
  /// - Returns: nil where nothing is whole: then `bytes` is empty.
  /// - Throws: what the peer has done wrong, once; from then on everything is passed over.
  public mutating func next(from bytes: inout UnsafeMutableRawBufferPointer) throws(WebSocketViolation)
    -> WebSocketEvent?
  {
    letGo()
    if hasFailed {
      bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[bytes.count...])
      return nil
    }
    do throws(WebSocketViolation) {
      while true {
        if !isInFrame {
          guard try beginFrame(&bytes) else { return nil }
        }
        let part = takePayload(&bytes)
        if opcode.isControl {
          if let event = try takeControl(part) { return event }
        } else if let event = try takeData(part) {
          return event
        }
        if left > 0 { return nil }
      }
    } catch {
      hasFailed = true
      message = nil
      throw error
    }
  }

  // --- headers ---

  /// False where the header is not whole.
  private mutating func beginFrame(_ bytes: inout UnsafeMutableRawBufferPointer) throws(WebSocketViolation)
    -> Bool
  {
    if headerHeld == 0, bytes.count >= 2, let start = bytes.baseAddress {
      let size = FrameHeader.size(second: bytes[1])
      if bytes.count >= size {
        try begin(UnsafeRawPointer(start), size)
        bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[size...])
        return true
      }
    }
    while let byte = bytes.first {
      withUnsafeMutableBytes(of: &header) { $0[headerHeld] = byte }
      headerHeld += 1
      bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[1...])
      guard headerHeld >= 2 else { continue }
      let copy = header
      let isWhole = try withBytes(of: copy) { (start) throws(WebSocketViolation) in
        let second = start.load(fromByteOffset: 1, as: UInt8.self)
        // The first two bytes say much: what is wrong in them is refused before the others come.
        if headerHeld == 2 { try check(start.load(as: UInt8.self), second) }
        // So is a length, before the mask has come.
        if headerHeld == FrameHeader.size(second: second & 0x7f) { _ = try length(start) }
        let size = FrameHeader.size(second: second)
        guard headerHeld == size else { return false }
        try begin(start, size)
        return true
      }
      if isWhole {
        headerHeld = 0
        return true
      }
    }
    return false
  }

  /// Looks at the first two bytes of a header.
  private func check(_ first: UInt8, _ second: UInt8) throws(WebSocketViolation) {
    func refuse(_ what: String) -> WebSocketViolation { WebSocketViolation(.protocolError, what) }
    if first & 0x70 != 0 { throw refuse("a reserved bit is set, and no extension was agreed on") }
    guard let opcode = Opcode(rawValue: first & 0x0f) else {
      throw refuse("opcode \(first & 0x0f) is reserved")
    }
    let isMasked = second & 0x80 != 0
    if role == .server, !isMasked { throw refuse("a frame is not masked, and a client has to mask") }
    if role == .client, isMasked { throw refuse("a frame is masked, and a server must not mask") }
    if opcode.isControl {
      if first & 0x80 == 0 { throw refuse("a control frame is fragmented") }
      if second & 0x7f > 125 { throw refuse("a control frame has more than 125 bytes") }
    } else if opcode == .continuation {
      if kind == nil { throw refuse("a continuation continues nothing") }
    } else if kind != nil {
      throw refuse("a new message begins inside another one")
    }
  }

  /// How many bytes the payload has, looked at as soon as all of the length is there.
  private func length(_ start: UnsafeRawPointer) throws(WebSocketViolation) -> Int {
    var length = UInt64(start.load(fromByteOffset: 1, as: UInt8.self) & 0x7f)
    if length == 126 {
      length = UInt64(UInt16(bigEndian: start.loadUnaligned(fromByteOffset: 2, as: UInt16.self)))
      if length < 126 {
        throw WebSocketViolation(.protocolError, "a length of \(length) has more bytes than it needs")
      }
    } else if length == 127 {
      length = UInt64(bigEndian: start.loadUnaligned(fromByteOffset: 2, as: UInt64.self))
      if length < 65536 {
        throw WebSocketViolation(.protocolError, "a length of \(length) has more bytes than it needs")
      }
      if length >> 63 != 0 { throw WebSocketViolation(.protocolError, "a length has its highest bit set") }
    }
    // A control frame's was looked at before.
    if start.load(as: UInt8.self) & 0x08 == 0 {
      let room = limit - held
      if room < 0 || length > UInt64(room) {
        throw WebSocketViolation(.messageTooBig, "a message has more than \(limit) bytes")
      }
    }
    return Int(length)
  }

  private mutating func begin(_ start: UnsafeRawPointer, _ size: Int) throws(WebSocketViolation) {
    let (first, second) = (start.load(as: UInt8.self), start.load(fromByteOffset: 1, as: UInt8.self))
    try check(first, second)
    left = try length(start)
    // What it was checked for above.
    let opcode = Opcode(rawValue: first & 0x0f) ?? .continuation
    if !opcode.isControl, opcode != .continuation {
      kind = opcode == .text ? .text : .binary
      utf8 = UTF8Checker()
    }
    self.opcode = opcode
    isFinal = first & 0x80 != 0
    isInFrame = true
    mask = role == .server ? Mask(UnsafeRawBufferPointer(start: start + (size - 4), count: 4)) : nil
  }

  // --- payloads ---

  /// What there is of the payload, unmasked.
  @inline(__always)
  private mutating func takePayload(_ bytes: inout UnsafeMutableRawBufferPointer) -> UnsafeRawBufferPointer {
    let count = min(left, bytes.count)
    let part = UnsafeMutableRawBufferPointer(rebasing: bytes[..<count])
    bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[count...])
    left -= count
    if left == 0 { isInFrame = false }
    mask?.apply(to: part)
    return UnsafeRawBufferPointer(part)
  }

  @inline(__always)
  private mutating func takeData(_ part: UnsafeRawBufferPointer) throws(WebSocketViolation) -> WebSocketEvent?
  {
    guard let kind else { return nil }
    if kind == .text, !utf8.take(part) {
      throw WebSocketViolation(.invalidData, "a text is not valid UTF-8")
    }
    let isWhole = left == 0 && isFinal
    if isWhole {
      self.kind = nil
      if kind == .text, !utf8.isWhole {
        throw WebSocketViolation(.invalidData, "a text ends in the middle of a character")
      }
      // All of it came at once.
      if message == nil { return .message(kind, part) }
    }
    if !part.isEmpty {
      let message = self.message ?? Gathering()
      self.message = message
      message.append(part, atMost: limit, promised: left)
    }
    guard isWhole else { return nil }
    isMessageHandedOut = true
    return .message(kind, message?.bytes ?? UnsafeRawBufferPointer(start: nil, count: 0))
  }

  private mutating func takeControl(_ part: UnsafeRawBufferPointer) throws(WebSocketViolation)
    -> WebSocketEvent?
  {
    if left == 0, control == nil { return try event(part) }
    let control = self.control ?? Gathering()
    self.control = control
    control.append(part, atMost: 125, promised: left)
    guard left == 0 else { return nil }
    isControlHandedOut = true
    return try event(control.bytes)
  }

  private func event(_ payload: UnsafeRawBufferPointer) throws(WebSocketViolation) -> WebSocketEvent {
    switch opcode {
    case .ping: return .ping(payload)
    case .pong: return .pong(payload)
    default:
      guard payload.count > 0 else { return .close(nil, reason: payload) }
      guard payload.count >= 2 else { throw WebSocketViolation(.protocolError, "a Close has half a code") }
      let code = CloseCode(rawValue: UInt16(payload[0]) << 8 | UInt16(payload[1]))
      guard code.isAllowed else {
        throw WebSocketViolation(.protocolError, "\(code.rawValue) is no code that a Close may have")
      }
      let reason = UnsafeRawBufferPointer(rebasing: payload[2...])
      var checker = UTF8Checker()
      guard checker.take(reason), checker.isWhole else {
        throw WebSocketViolation(.invalidData, "the reason of a Close is not valid UTF-8")
      }
      return .close(code, reason: reason)
    }
  }
}

/// A header that has come in pieces, as bytes in a row.
private func withBytes<Result>(
  of value: (UInt64, UInt64), _ body: (UnsafeRawPointer) throws(WebSocketViolation) -> Result
) throws(WebSocketViolation) -> Result {
  var value = value
  return try withUnsafePointer(to: &value) { (pointer) throws(WebSocketViolation) in
    try body(UnsafeRawPointer(pointer))
  }
}

/// Memory in which the parts of a message come together.
private final class Gathering {
  private var place = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  private(set) var count = 0

  deinit { place.deallocate() }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: place[..<count]) }

  /// - Parameters:
  ///   - part: what has come.
  ///   - limit: it never needs more than this.
  ///   - promised: what the frame's header says is still to come; of that at most 64 KiB are believed.
  func append(_ part: UnsafeRawBufferPointer, atMost limit: Int, promised: Int) {
    let needed = count + part.count
    if needed > place.count {
      let wanted = max(2 * place.count, needed + min(promised, 65536))
      let larger = UnsafeMutableRawBufferPointer.allocate(
        byteCount: max(needed, min(wanted, limit)), alignment: 16)
      larger.copyMemory(from: bytes)
      place.deallocate()
      place = larger
    }
    UnsafeMutableRawBufferPointer(rebasing: place[count..<needed]).copyMemory(from: part)
    count = needed
  }
}
