/// Looks whether bytes are UTF-8, in pieces that may be cut anywhere.
///
/// See: RFC 3629, section 4; Unicode Standard, table 3-7
public struct UTF8Checker: Sendable {
  /// So many bytes of a character are still to come,
  private var missing: UInt8 = 0
  /// and the next of them is one of these: not all that begin with the bits 10, or what is too long, a surrogate, or beyond U+10FFFF
  /// would pass.
  private var least: UInt8 = 0x80
  private var most: UInt8 = 0xbf

  public init() {}

  /// Whether the last character is whole.
  public var isWhole: Bool { missing == 0 }

  /// - Returns: false from the first byte on that cannot be.
  public mutating func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let start = bytes.baseAddress else { return true }
    var place = 0
    while place < bytes.count {
      if missing == 0 {
        while place + 32 <= bytes.count,
          ((start + place).loadUnaligned(as: SIMD4<UInt64>.self) & 0x8080_8080_8080_8080) == .zero
        {
          place += 32
        }
        while place < bytes.count, bytes[place] < 0x80 { place += 1 }
        guard place < bytes.count else { break }
        switch bytes[place] {
        case 0xc2...0xdf: missing = 1
        case 0xe0: (missing, least) = (2, 0xa0)
        case 0xed: (missing, most) = (2, 0x9f)
        case 0xe1...0xef: missing = 2
        case 0xf0: (missing, least) = (3, 0x90)
        case 0xf1...0xf3: missing = 3
        case 0xf4: (missing, most) = (3, 0x8f)
        default: return false
        }
      } else {
        guard bytes[place] >= least, bytes[place] <= most else { return false }
        (missing, least, most) = (missing - 1, 0x80, 0xbf)
      }
      place += 1
    }
    return true
  }
}
