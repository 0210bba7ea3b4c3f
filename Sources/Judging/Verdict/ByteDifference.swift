/// Bytes that came, and bytes that were to come.
struct ByteDifference: Sendable, Hashable {
  let expected: [UInt8]
  let got: [UInt8]

  /// The place of the first byte that differs, from 0 on; where one ends, that is its end.
  var offset: Int {
    zip(expected, got).enumerated().first { $0.element.0 != $0.element.1 }?.offset
      ?? min(expected.count, got.count)
  }

  /// Both around the first difference, one below the other, with a caret under it.
  ///
  /// - Parameter width: columns.
  /// - Returns: three lines.
  func lines(width: Int) -> [String] {
    let place = offset
    let room = max(8, width - 12)
    // A few bytes before it say where one is, as far as they leave room for it.
    var start = place
    var before = 0
    while start > 0, place - start < 8, before + Self.escaped(expected[start - 1]).count <= room / 3 {
      start -= 1
      before += Self.escaped(expected[start]).count
    }
    func row(_ bytes: [UInt8]) -> (text: String, caret: Int) {
      var text = start > 0 ? "…" : ""
      var caret = text.count
      for (index, byte) in bytes.enumerated().dropFirst(start) {
        if index == place { caret = text.count }
        let piece = Self.escaped(byte)
        if text.count + piece.count >= room { return (text + "…", caret) }
        text += piece
      }
      if place >= bytes.count { caret = text.count }
      return (text + (bytes.count <= place ? " (end)" : ""), caret)
    }
    let (wanted, came) = (row(expected), row(got))
    return [
      "expected  \(wanted.text)", "got       \(came.text)",
      String(repeating: " ", count: 10 + came.caret) + "^ byte \(place)\(value(at: place))",
    ]
  }

  private func value(at place: Int) -> String {
    func name(_ bytes: [UInt8]) -> String {
      bytes.indices.contains(place) ? "0x" + Self.hexadecimal(bytes[place]) : "nothing"
    }
    return ": \(name(got)) instead of \(name(expected))"
  }

  static func escaped(_ byte: UInt8) -> String {
    switch byte {
    case 0x0a: "\\n"
    case 0x0d: "\\r"
    case 0x09: "\\t"
    case 0x00: "\\0"
    case 0x5c: "\\\\"
    case 0x20..<0x7f: String(UnicodeScalar(byte))
    default: "\\x" + hexadecimal(byte)
    }
  }

  private static func hexadecimal(_ byte: UInt8) -> String {
    let text = String(byte, radix: 16)
    return text.count == 1 ? "0" + text : text
  }

  /// Bytes as a short text in quotes: "hello\\n", "…" for what is too long.
  static func quoted(_ bytes: some Collection<UInt8>, limit: Int = 40) -> String {
    var text = ""
    for byte in bytes {
      let piece = escaped(byte)
      if text.count + piece.count > limit { return "\"\(text)…\"" }
      text += piece
    }
    return "\"\(text)\""
  }
}
