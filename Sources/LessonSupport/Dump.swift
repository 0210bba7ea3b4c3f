/// One field of a message: how long it is, and what it means.
public enum DumpField: Sendable {
  /// One byte, and what it says.
  case byte(String)
  /// Four bytes, the high one first.
  case number(String)
  /// A text, padded with NUL to so many bytes.
  case text(String, Int)
  /// One byte, and what its bits say, which are shown in groups of so many, the high ones first.
  case bits([Int], String)
  /// Two bytes, the high one first.
  case short(String)
  /// So many bytes, as they are.
  case bytes(String, Int)
  /// A line of text, up to its CR LF: shown as text.
  case line(String)
}

/// Says the bytes of a message, field by field: where a field begins, its bytes, what they mean.
public func show(_ bytes: [UInt8], _ fields: [DumpField]) {
  var lines: [String] = []
  var rest = bytes[...]
  for field in fields {
    if case .line(let meaning) = field {
      let end = rest.firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? rest.endIndex
      let text = String(decoding: rest[..<end], as: UTF8.self).replacing("\r\n", with: "\\r\\n")
      let offset = pad("\(rest.startIndex - bytes.startIndex)", 5, before: true) + "  "
      // Beside it where there is room, else below.
      lines.append(offset + (text.count < 30 ? pad(text, 30) + meaning : text))
      if text.count >= 30 { lines.append(pad("", 37) + meaning) }
      rest = rest[end...]
      continue
    }
    let (size, meaning): (Int, String) =
      switch field {
      case .byte(let meaning): (1, meaning)
      case .number(let name): (4, "\(name): \(rest.prefix(4).reduce(0) { $0 << 8 | UInt32($1) })")
      case .short(let name): (2, "\(name): \(rest.prefix(2).reduce(0) { $0 << 8 | UInt32($1) })")
      case .bits(let groups, let meaning): (1, "\(bits(rest.first ?? 0, groups))  \(meaning)")
      case .bytes(let meaning, let size): (size, meaning)
      case .line(let meaning): (0, meaning)
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

private func bits(_ byte: UInt8, _ groups: [Int]) -> String {
  var digits = pad(String(byte, radix: 2), 8, before: true).replacing(" ", with: "0")[...]
  return groups.map { size in
    defer { digits = digits.dropFirst(size) }
    return String(digits.prefix(size))
  }.joined(separator: " ")
}

private func pad(_ text: String, _ width: Int, before: Bool = false) -> String {
  let spaces = String(repeating: " ", count: max(0, width - text.count))
  return before ? spaces + text : text + spaces
}
