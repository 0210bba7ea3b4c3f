/// One field of a message: how long it is, and what it means.
public enum DumpField: Sendable {
  /// One byte, and what it says.
  case byte(String)
  /// Four bytes, the high one first.
  case number(String)
  /// A text, padded with NUL to so many bytes.
  case text(String, Int)
}

/// Says the bytes of a message, field by field: where a field begins, its bytes, what they mean.
public func show(_ bytes: [UInt8], _ fields: [DumpField]) {
  var lines: [String] = []
  var rest = bytes[...]
  for field in fields {
    let (size, meaning): (Int, String) =
      switch field {
      case .byte(let meaning): (1, meaning)
      case .number(let name): (4, "\(name): \(rest.prefix(4).reduce(0) { $0 << 8 | UInt32($1) })")
      case .text(let name, let size):
        (size, "\(name): \(String(decoding: rest.prefix(size).prefix { $0 != 0 }, as: UTF8.self))")
      }
    let part = rest.prefix(size)
    // Padding is counted, not shown: 250 times the same says no more than once.
    let padding = part.count - (part.lastIndex { $0 != 0 }.map { $0 + 1 - part.startIndex } ?? 0)
    let shown = padding > 4 ? part.dropLast(padding) : part
    var hex = shown.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }
    if padding > 4 { hex.append("00×\(padding)") }
    for from in stride(from: 0, to: max(1, hex.count), by: 8) {
      let row = hex[min(from, hex.count)..<min(from + 8, hex.count)].joined(separator: " ")
      let offset = from == 0 ? "\(part.startIndex - bytes.startIndex)" : ""
      lines.append(pad(offset, 5, before: true) + "  " + (from == 0 ? pad(row, 30) + meaning : row))
    }
    rest = rest.dropFirst(size)
  }
  say(lines.joined(separator: "\n"))
}

private func pad(_ text: String, _ width: Int, before: Bool = false) -> String {
  let spaces = String(repeating: " ", count: max(0, width - text.count))
  return before ? spaces + text : text + spaces
}
