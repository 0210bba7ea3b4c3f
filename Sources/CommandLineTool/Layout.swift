extension String {
  /// The text with every control character made visible, "\\u{1b}" say: words from elsewhere must not steer a terminal.
  public var printable: String {
    func isControl(_ scalar: Unicode.Scalar) -> Bool {
      // Those that begin a line of their own, or turn the direction of what follows, are no controls by name.
      scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) || (0x2028...0x202e).contains(scalar.value)
        || (0x2066...0x2069).contains(scalar.value)
    }
    guard unicodeScalars.contains(where: isControl) else { return self }
    return unicodeScalars.map { isControl($0) ? "\\u{\(String($0.value, radix: 16))}" : String($0) }.joined()
  }

  /// The text broken into lines of at most `width` columns, at spaces; a word that is longer is broken too.
  public func wrapped(to width: Int) -> [String] {
    var lines: [String] = []
    for paragraph in split(separator: "\n", omittingEmptySubsequences: false) {
      var line = ""
      let words = paragraph.split(separator: " ").flatMap { word -> [Substring] in
        stride(from: 0, to: word.count, by: max(1, width)).map { word.dropFirst($0).prefix(max(1, width)) }
      }
      for word in words {
        if line.isEmpty {
          line = String(word)
        } else if line.count + 1 + word.count <= width {
          line += " " + word
        } else {
          lines.append(line)
          line = String(word)
        }
      }
      lines.append(line)
    }
    return lines
  }

  /// The text with spaces after it, up to `width` columns. A longer one stays as it is.
  public func padded(to width: Int) -> String {
    self + String(repeating: " ", count: Swift.max(0, width - count))
  }

  /// The text with spaces before it, up to `width` columns.
  public func paddedLeft(to width: Int) -> String {
    String(repeating: " ", count: Swift.max(0, width - count)) + self
  }

  /// The text without the spaces at its end.
  public var trimmedRight: String {
    var text = self
    while text.hasSuffix(" ") { text.removeLast() }
    return text
  }

  /// The text, or as much of it as fits into `width` columns with an ellipsis.
  public func truncated(to width: Int) -> String {
    count <= width ? self : String(prefix(Swift.max(0, width - 1))) + "…"
  }
}

/// A count with its word: "1 call", "3 calls".
public func counted(_ count: Int, _ word: String, plural: String? = nil) -> String {
  "\(count) " + (count == 1 ? word : plural ?? word + "s")
}
