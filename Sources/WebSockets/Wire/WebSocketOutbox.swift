/// Frames that are to be sent: what the kernel has not taken yet. Without any it holds no memory.
public struct WebSocketOutbox: ~Copyable {
  private let role: WebSocketRole
  private var place = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  private var from = 0
  private var to = 0
  /// Where the first frame begins that was not sent whole: not before it, and not behind `from`.
  private var frame = 0
  private var masks = MaskSource()

  /// - Parameter role: of this side; so a client masks.
  public init(_ role: WebSocketRole) { self.role = role }

  deinit { place.deallocate() }

  /// Bytes that wait.
  public var count: Int { to - from }
  public var isEmpty: Bool { to == from }

  /// Adds a frame.
  public mutating func add(_ opcode: Opcode, _ payload: UnsafeRawBufferPointer, isFinal: Bool = true) {
    let (size, length) = (payload.count, UInt64(payload.count))
    makeRoom(14 + size)
    guard let start = place.baseAddress else { return }
    start.storeBytes(of: opcode.rawValue | (isFinal ? 0x80 : 0), toByteOffset: to, as: UInt8.self)
    let masked: UInt8 = role == .client ? 0x80 : 0
    switch size {
    case ..<126:
      start.storeBytes(of: masked | UInt8(truncatingIfNeeded: size), toByteOffset: to + 1, as: UInt8.self)
      to += 2
    case ..<65536:
      start.storeBytes(of: masked | 126, toByteOffset: to + 1, as: UInt8.self)
      start.storeBytes(
        of: UInt16(truncatingIfNeeded: length).bigEndian, toByteOffset: to + 2, as: UInt16.self)
      to += 4
    default:
      start.storeBytes(of: masked | 127, toByteOffset: to + 1, as: UInt8.self)
      start.storeBytes(of: length.bigEndian, toByteOffset: to + 2, as: UInt64.self)
      to += 10
    }
    var mask: Mask?
    if role == .client {
      let new = masks.next()
      for byte in new.bytes {
        place[to] = byte
        to += 1
      }
      mask = new
    }
    let room = UnsafeMutableRawBufferPointer(rebasing: place[to..<(to + size)])
    room.copyMemory(from: payload)
    mask?.apply(to: room)
    to += size
  }

  /// Adds a Close, with a code and a reason, of which as much is sent as fits.
  public mutating func addClose(_ code: CloseCode?, _ reason: String) {
    guard let code else { return add(.close, UnsafeRawBufferPointer(start: nil, count: 0)) }
    var payload = [UInt8(code.rawValue >> 8), UInt8(truncatingIfNeeded: code.rawValue)]
    for character in reason {
      let bytes = Array(character.utf8)
      if payload.count + bytes.count > 125 { break }
      payload += bytes
    }
    payload.withUnsafeBytes { add(.close, $0) }
  }

  /// Adds bytes that are no frame: the head of the handshake.
  public mutating func add(raw bytes: some Collection<UInt8>) {
    makeRoom(bytes.count)
    for byte in bytes {
      place[to] = byte
      to += 1
    }
    frame = to
  }

  /// Adds a frame as it stands on the wire, from a server.
  public mutating func add(encoded frame: UnsafeRawBufferPointer) {
    makeRoom(frame.count)
    UnsafeMutableRawBufferPointer(rebasing: place[to..<(to + frame.count)]).copyMemory(from: frame)
    to += frame.count
  }

  /// Hands what waits to a call, and takes out what that has taken.
  ///
  /// - Parameter call: returns how many bytes it has taken; less than 0 for none.
  /// - Returns: what the call returned.
  public mutating func send(_ call: (UnsafeRawBufferPointer) -> Int) -> Int {
    let taken = call(UnsafeRawBufferPointer(rebasing: place[from..<to]))
    guard taken > 0 else { return taken }
    from += min(taken, count)
    if from == to { clear() }
    return taken
  }

  /// Takes out everything but the rest of the frame that is being sent: what comes next is understood all the same.
  ///
  /// - Returns: how many bytes were taken out.
  public mutating func cut() -> Int {
    guard let start = place.baseAddress, from < to else { return 0 }
    skipSentFrames()
    // Bytes of a handshake's head come before all frames, and stay.
    let end = frame < from ? frame + FrameHeader.frameSize(at: start + frame) : frame
    defer {
      to = end
      if isEmpty { clear() }
    }
    return to - end
  }

  private mutating func clear() {
    place.deallocate()
    place = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    (from, to, frame) = (0, 0, 0)
  }

  private mutating func makeRoom(_ size: Int) {
    guard to + size > place.count else { return }
    // What was sent is not needed any more, but for the beginning of a frame that is under way.
    skipSentFrames()
    let kept = min(frame, from)
    let used = to - kept
    let needed = used + size
    if needed <= place.count, kept >= place.count / 2 {
      place.copyMemory(from: UnsafeRawBufferPointer(rebasing: place[kept..<to]))
    } else {
      let larger = UnsafeMutableRawBufferPointer.allocate(
        byteCount: max(2 * place.count, needed <= 4096 ? 4096 : 2 * needed), alignment: 16)
      larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: place[kept..<to]))
      place.deallocate()
      place = larger
    }
    (from, to, frame) = (from - kept, to - kept, frame - kept)
  }

  private mutating func skipSentFrames() {
    guard let start = place.baseAddress else { return }
    while frame < from {
      let next = frame + FrameHeader.frameSize(at: start + frame)
      if next > from { return }
      frame = next
    }
  }
}

/// Masks that nobody can foresee, and not a system call for each. See: RFC 6455, section 10.3; getrandom(2)
struct MaskSource {
  private var generator = SystemRandomNumberGenerator()
  private var spare: UInt32?

  mutating func next() -> Mask {
    if let key = spare {
      spare = nil
      return Mask(key: key)
    }
    let both = generator.next()
    spare = UInt32(truncatingIfNeeded: both >> 32)
    return Mask(key: UInt32(truncatingIfNeeded: both))
  }
}
