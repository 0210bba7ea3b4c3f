/// Which end of the connection: who has dialled masks, and who was dialled does not.
public enum WebSocketRole: Sendable {
  case client, server
}

/// What a frame is. See: RFC 6455, section 11.8
public enum Opcode: UInt8, Sendable {
  case continuation = 0
  case text = 1
  case binary = 2
  case close = 8
  case ping = 9
  case pong = 10

  public var isControl: Bool { rawValue >= 8 }
}

/// What stands before a frame's payload: 2 to 14 bytes.
///
/// See: RFC 6455, section 5.2
public struct FrameHeader: Sendable {
  public var isFinal = true
  public var opcode: Opcode
  /// Bytes of the payload.
  public var length: Int
  public var mask: Mask?

  public init(_ opcode: Opcode, length: Int, isFinal: Bool = true, mask: Mask? = nil) {
    self.opcode = opcode
    self.length = length
    self.isFinal = isFinal
    self.mask = mask
  }

  /// Bytes that a header has at most.
  static let largest = 14

  /// As it stands in the frame.
  public var bytes: [UInt8] {
    [UInt8](unsafeUninitializedCapacity: Self.largest) { room, count in
      if let start = room.baseAddress { count = write(to: start) }
    }
  }

  /// Writes it where there is room for the largest one.
  ///
  /// - Returns: how many bytes it has.
  func write(to start: UnsafeMutableRawPointer) -> Int {
    start.storeBytes(of: opcode.rawValue | (isFinal ? 0x80 : 0), as: UInt8.self)
    let masked: UInt8 = mask == nil ? 0 : 0x80
    var size = 2
    switch length {
    case ..<126:
      start.storeBytes(of: masked | UInt8(truncatingIfNeeded: length), toByteOffset: 1, as: UInt8.self)
    case ..<65536:
      start.storeBytes(of: masked | 126, toByteOffset: 1, as: UInt8.self)
      start.storeBytes(of: UInt16(truncatingIfNeeded: length).bigEndian, toByteOffset: 2, as: UInt16.self)
      size = 4
    default:
      start.storeBytes(of: masked | 127, toByteOffset: 1, as: UInt8.self)
      start.storeBytes(of: UInt64(truncatingIfNeeded: length).bigEndian, toByteOffset: 2, as: UInt64.self)
      size = 10
    }
    for byte in mask?.bytes ?? [] {
      start.storeBytes(of: byte, toByteOffset: size, as: UInt8.self)
      size += 1
    }
    return size
  }

  /// How many bytes a header has whose second byte is this one. See: RFC 6455, section 5.2
  static func size(second: UInt8) -> Int {
    let lengthBytes =
      switch second & 0x7f {
      case 126: 2
      case 127: 8
      default: 0
      }
    return 2 + lengthBytes + (second & 0x80 != 0 ? 4 : 0)
  }

  /// How many bytes the whole frame has, header and payload, that begins here and that this side has written itself.
  static func frameSize(at start: UnsafeRawPointer) -> Int {
    let second = start.load(fromByteOffset: 1, as: UInt8.self)
    let length =
      switch second & 0x7f {
      case 126: Int(UInt16(bigEndian: start.loadUnaligned(fromByteOffset: 2, as: UInt16.self)))
      case 127: Int(clamping: UInt64(bigEndian: start.loadUnaligned(fromByteOffset: 2, as: UInt64.self)))
      default: Int(second & 0x7f)
      }
    return size(second: second) + length
  }
}
