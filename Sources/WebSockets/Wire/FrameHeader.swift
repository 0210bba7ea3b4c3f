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

  /// As it stands in the frame.
  public var bytes: [UInt8] {
    var bytes = [opcode.rawValue | (isFinal ? 0x80 : 0)]
    let masked: UInt8 = mask == nil ? 0 : 0x80
    switch length {
    case ..<126: bytes.append(masked | UInt8(truncatingIfNeeded: length))
    case ..<65536: bytes += [masked | 126] + Self.bigEndian(length, 2)
    default: bytes += [masked | 127] + Self.bigEndian(length, 8)
    }
    return bytes + (mask?.bytes ?? [])
  }

  private static func bigEndian(_ number: Int, _ count: Int) -> [UInt8] {
    (0..<count).reversed().map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
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
