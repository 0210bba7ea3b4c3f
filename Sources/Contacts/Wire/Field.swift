import Glibc

/// The text fields of the protocol: each has a size, and what is shorter is padded with NUL.
public enum TextField: Sendable, CaseIterable {
  /// A server's or a client's own name.
  case name
  case userName, contactName, phoneNumber

  /// Bytes on the wire.
  public var size: Int { self == .phoneNumber ? 20 : 256 }

  public var title: String {
    switch self {
    case .name: "name"
    case .userName: "user name"
    case .contactName: "contact name"
    case .phoneNumber: "phone number"
    }
  }

  /// What a person has written, as the bytes of this field, without padding.
  ///
  /// - Parameter text: is to be not empty, without control characters, and to fit: nothing is ever cut off.
  /// - Returns: its UTF-8.
  /// - Throws: what is wrong with it.
  public func bytes(of text: String) throws(ProtocolViolation) -> [UInt8] {
    let bytes = Array(text.utf8)
    var problem: ProtocolViolation?
    bytes.withUnsafeBytes { bytes in
      do throws(ProtocolViolation) { try check(bytes) } catch { problem = error }
    }
    if let problem { throw problem }
    return bytes
  }

  /// The value in a field, without its padding: what stands before the first NUL.
  ///
  /// - Throws: what is wrong with it.
  func value(in field: UnsafeRawPointer) throws(ProtocolViolation) -> UnsafeRawBufferPointer {
    let end = memchr(field, 0, size)
    let length = end.map { field.distance(to: UnsafeRawPointer($0)) } ?? size
    let value = UnsafeRawBufferPointer(start: field, count: length)
    try check(value)
    return value
  }

  /// A value is UTF-8 without control characters, not empty, and no longer than its field.
  private func check(_ value: UnsafeRawBufferPointer) throws(ProtocolViolation) {
    if value.isEmpty { throw ProtocolViolation("the \(title) is empty") }
    if value.count > size {
      throw ProtocolViolation("the \(title) has \(value.count) bytes, and there is room for \(size)")
    }
    if Self.isPlain(value) { return }
    guard let text = String(validating: value, as: UTF8.self) else {
      throw ProtocolViolation("the \(title) is not valid UTF-8")
    }
    // C0 and C1 controls, and DEL. See: the Unicode Standard, general category Cc
    if let scalar = text.unicodeScalars.first(where: { $0.properties.generalCategory == .control }) {
      let digits = String(scalar.value, radix: 16, uppercase: true)
      let code = String(repeating: "0", count: max(0, 4 - digits.count)) + digits
      throw ProtocolViolation("the \(title) has the control character U+\(code) in it")
    }
  }

  /// Whether all of it is printable ASCII, as most text is: eight bytes at a time.
  private static func isPlain(_ value: UnsafeRawBufferPointer) -> Bool {
    let (ones, highs): (UInt64, UInt64) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080)
    var place = 0
    while place + 8 <= value.count {
      let word = value.loadUnaligned(fromByteOffset: place, as: UInt64.self)
      // The high bit of a byte is set where the byte is below 0x20, is 0x7f, or has it itself; in a word with such a byte the
      // bytes above it may be taken for one, too, and are looked at again.
      let isLow = word &- ones &* 0x20
      let isDelete = (word ^ ones &* 0x7f) &- ones
      if (word | isLow | isDelete) & highs != 0 { return false }
      place += 8
    }
    while place < value.count {
      if value[place] < 0x20 || value[place] >= 0x7f { return false }
      place += 1
    }
    return true
  }
}

/// Why bytes are no value of a field, or no message.
public struct ProtocolViolation: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
