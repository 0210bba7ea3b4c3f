/// A frame as a server sends it, made once for many who get it: none of them has a copy of its own where it is large.
public final class EncodedFrame {
  fileprivate let memory: Memory

  public init(_ opcode: Opcode, _ payload: some Collection<UInt8>) {
    let header = FrameHeader(opcode, length: payload.count).bytes
    memory = Memory(header.count + payload.count)
    memory.append(header)
    memory.append(payload)
  }

  /// A text message.
  public convenience init(_ text: String) { self.init(.text, text.utf8) }

  /// Bytes on the wire.
  public var size: Int { memory.count }
}

/// Bytes in a row, with room for more behind them.
private final class Memory {
  let place: UnsafeMutableRawBufferPointer
  var count = 0

  init(_ capacity: Int) { place = .allocate(byteCount: capacity, alignment: 16) }

  deinit { place.deallocate() }

  var room: Int { place.count - count }
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: place[..<count]) }

  func append(_ bytes: some Collection<UInt8>) {
    UnsafeMutableRawBufferPointer(rebasing: place[count...]).copyBytes(from: bytes)
    count += bytes.count
  }
}

/// Frames that are to be sent: what the kernel has not taken yet. Without any it holds no memory.
public struct WebSocketOutbox: ~Copyable {
  /// A row of whole frames, or the head of a handshake.
  private struct Part {
    let block: Memory
    var to: Int
    let kind: Kind
    enum Kind { case own, shared, head }
  }

  private let role: WebSocketRole
  private var parts: [Part] = []
  /// Of the first part so many bytes were sent,
  private var from = 0
  /// and here the first frame begins that was not sent whole.
  private var frame = 0
  private var masks = MaskSource()
  /// Bytes that wait.
  public private(set) var count = 0
  /// Bytes of memory that are this outbox's alone.
  public private(set) var held = 0

  /// Larger frames for many are shared; smaller ones are copied, so that many of them lie in a row.
  private static let largest = 16 * 1024

  /// - Parameter role: of this side; so a client masks.
  public init(_ role: WebSocketRole) { self.role = role }

  public var isEmpty: Bool { count == 0 }

  /// Adds a frame.
  public mutating func add(_ opcode: Opcode, _ payload: UnsafeRawBufferPointer, isFinal: Bool = true) {
    let size = payload.count
    let block = room(FrameHeader.largest + size)
    guard let start = block.place.baseAddress else { return }
    let first = start + block.count
    var mask = role == .client ? masks.next() : nil
    let header = FrameHeader(opcode, length: size, isFinal: isFinal, mask: mask).write(to: first)
    let room = UnsafeMutableRawBufferPointer(start: first + header, count: size)
    room.copyMemory(from: payload)
    mask?.apply(to: room)
    grow(block, header + size)
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

  /// Adds bytes that are no frame: the head of the handshake, before all frames.
  public mutating func add(raw bytes: some Collection<UInt8>) {
    let block = Memory(bytes.count)
    block.append(bytes)
    append(block, .head)
  }

  /// Adds a frame that others get, too. Only a server may: a client has a mask for each.
  public mutating func add(_ shared: EncodedFrame) {
    if shared.size >= Self.largest { return append(shared.memory, .shared) }
    let block = room(shared.size)
    UnsafeMutableRawBufferPointer(rebasing: block.place[block.count...]).copyMemory(from: shared.memory.bytes)
    grow(block, shared.size)
  }

  /// Hands what waits first to a call, and takes out what that has taken.
  ///
  /// - Parameter call: returns how many bytes it has taken; less than 0 for none.
  /// - Returns: what the call returned, and how many bytes it was offered.
  public mutating func send(_ call: (UnsafeRawBufferPointer) -> Int) -> (taken: Int, offered: Int) {
    guard let part = parts.first else { return (0, 0) }
    let rest = UnsafeRawBufferPointer(rebasing: part.block.place[from..<part.to])
    let taken = call(rest)
    guard taken > 0 else { return (taken, rest.count) }
    from += min(taken, rest.count)
    count -= min(taken, rest.count)
    if from == part.to { removeFirst() }
    return (taken, rest.count)
  }

  /// Takes out everything but the rest of the frame that is being sent: what comes next is understood all the same.
  ///
  /// - Returns: how many bytes were taken out.
  public mutating func cut() -> Int {
    let before = count
    guard let first = parts.first else { return 0 }
    var end = first.to
    if first.kind == .own, let start = first.block.place.baseAddress {
      while frame < from {
        let next = frame + FrameHeader.frameSize(at: start + frame)
        if next > from { break }
        frame = next
      }
      end = frame < from ? frame + FrameHeader.frameSize(at: start + frame) : from
    } else if from == 0, first.kind == .shared {
      end = 0
    }
    for part in parts.dropFirst() where part.kind != .shared { held -= part.block.place.count }
    parts.removeSubrange(1...)
    parts[0].to = end
    if first.kind == .own { first.block.count = end }
    count = end - from
    if count == 0 { removeFirst() }
    return before - count
  }

  private mutating func append(_ block: Memory, _ kind: Part.Kind) {
    parts.append(Part(block: block, to: block.count, kind: kind))
    count += block.count
    if kind != .shared { held += block.place.count }
  }

  /// Memory of its own with so much room in a row, at the end.
  private mutating func room(_ size: Int) -> Memory {
    if let last = parts.last, last.kind == .own, last.block.room >= size { return last.block }
    let least = parts.isEmpty && size <= 4096 ? 4096 : 64 * 1024
    let block = Memory(max(size, least))
    append(block, .own)
    return block
  }

  private mutating func grow(_ block: Memory, _ size: Int) {
    block.count += size
    parts[parts.count - 1].to = block.count
    count += size
  }

  private mutating func removeFirst() {
    let part = parts.removeFirst()
    if part.kind != .shared { held -= part.block.place.count }
    (from, frame) = (0, 0)
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
