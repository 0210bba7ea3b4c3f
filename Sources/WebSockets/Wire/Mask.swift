/// What a client's bytes are XORed with: four bytes, over and over. It hides nothing; it keeps a client from choosing the bytes on the
/// wire, which a proxy may take for something else.
///
/// See: RFC 6455, sections 5.3 and 10.3
public struct Mask: Hashable, Sendable {
  /// The byte that comes next is the lowest one.
  private var key: UInt32

  /// A mask from its four bytes, as they stand in the frame.
  public init(_ bytes: UnsafeRawBufferPointer) {
    key = bytes.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }

  init(key: UInt32) { self.key = key }

  /// As they stand in the frame.
  public var bytes: [UInt8] { [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: key >> UInt32($0)) } }

  /// Masks bytes, or unmasks them, which is the same; and goes on from there with the next ones.
  public mutating func apply(to bytes: UnsafeMutableRawBufferPointer) {
    guard let start = bytes.baseAddress, bytes.count > 0 else { return }
    let word = (UInt64(key) << 32 | UInt64(key)).littleEndian
    let words = SIMD4<UInt64>(repeating: word)
    var place = 0
    while place + 32 <= bytes.count {
      (start + place).storeBytes(
        of: (start + place).loadUnaligned(as: SIMD4<UInt64>.self) ^ words, as: SIMD4<UInt64>.self)
      place += 32
    }
    while place + 8 <= bytes.count {
      (start + place).storeBytes(of: (start + place).loadUnaligned(as: UInt64.self) ^ word, as: UInt64.self)
      place += 8
    }
    while place < bytes.count {
      bytes[place] ^= UInt8(truncatingIfNeeded: key)
      key = key >> 8 | key << 24
      place += 1
    }
  }
}
