import CLinux

/// CRC-32C (Castagnoli), the check of each record in the journal. See: RFC 9260, appendix A
enum CRC32C {
  /// The check of some bytes: 0xE3069283 for "123456789".
  static func check(_ bytes: UnsafeRawPointer, _ count: Int) -> UInt32 {
    ~(isInProcessor ? clinux_crc32c(.max, bytes, UInt(count)) : byTable(.max, bytes, count))
  }

  private static let isInProcessor = clinux_has_crc32c() != 0

  /// For processors without the instruction.
  static func byTable(_ start: UInt32, _ bytes: UnsafeRawPointer, _ count: Int) -> UInt32 {
    var crc = start
    for place in 0..<count {
      let byte = (bytes + place).load(as: UInt8.self)
      crc = crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)]
    }
    return crc
  }

  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc >> 1 ^ (crc & 1 == 1 ? 0x82f6_3b78 : 0) }
  }
}
