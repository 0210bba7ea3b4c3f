/// Bytes as 64 letters, six bits each.
///
/// See: RFC 4648, section 4
public enum Base64 {
  private static let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  private static let padding = UInt8(ascii: "=")

  public static func encode(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
      for place in 0..<4 {
        text.append(place <= group.count ? letters[Int(bits >> UInt32(18 - 6 * place) & 63)] : padding)
      }
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Nil where that is no such text: another letter, padding that is missing, or bits behind the last byte.
  public static func decode(_ text: String) -> [UInt8]? {
    let text = Array(text.utf8)
    guard text.count % 4 == 0 else { return nil }
    var bytes: [UInt8] = []
    for start in stride(from: 0, to: text.count, by: 4) {
      let group = text[start..<(start + 4)]
      let missing = start + 4 == text.count ? group.reversed().prefix { $0 == padding }.count : 0
      guard missing <= 2 else { return nil }
      var bits: UInt32 = 0
      for letter in group.dropLast(missing) {
        guard let value = letters.firstIndex(of: letter) else { return nil }
        bits = bits << 6 | UInt32(value)
      }
      bits <<= UInt32(6 * missing)
      let whole = [16, 8, 0].map { UInt8(truncatingIfNeeded: bits >> UInt32($0)) }
      guard whole.suffix(missing).allSatisfy({ $0 == 0 }) else { return nil }
      bytes += whole.dropLast(missing)
    }
    return bytes
  }
}
