import CommandLineTool

/// A picture in the making: elements, one a line, with everything in them escaped.
///
/// See: Scalable Vector Graphics (SVG) 2, Extensible Markup Language (XML) 1.0 section 2.2
struct SVG {
  typealias Attributes = KeyValuePairs<String, any CustomStringConvertible>

  private(set) var text = ""

  /// An element without others in it. `title` is what a browser shows beside the pointer.
  mutating func element(
    _ name: String, _ attributes: Attributes, _ content: String? = nil, title: String? = nil
  ) {
    open(name, attributes)
    if content == nil, title == nil {
      text += "/>\n"
    } else {
      text += ">" + (title.map { "<title>\(Self.escaped($0))</title>" } ?? "")
      text += "\(content.map(Self.escaped) ?? "")</\(name)>\n"
    }
  }

  /// An element with others in it.
  mutating func element(
    _ name: String, _ attributes: Attributes, title: String? = nil, _ body: (inout SVG) -> Void
  ) {
    open(name, attributes)
    text += ">\n"
    if let title { element("title", [:], title) }
    body(&self)
    text += "</\(name)>\n"
  }

  /// Text in one line; (x, y) is where its baseline begins, or its middle or end as the style sheet's class has it.
  mutating func words(_ words: String, _ style: String, x: Int, y: Int, title: String? = nil) {
    element("text", ["class": style, "x": x, "y": y], words, title: title)
  }

  mutating func box(_ style: String, x: Int, y: Int, width: Int, height: Int, radius: Int = 0) {
    if radius == 0 {
      element("rect", ["class": style, "x": x, "y": y, "width": width, "height": height])
    } else {
      element("rect", ["class": style, "x": x, "y": y, "width": width, "height": height, "rx": radius])
    }
  }

  mutating func path(_ style: String, _ steps: String) { element("path", ["class": style, "d": steps]) }

  /// Rules of CSS: the toolkit's own text, in which nothing is from elsewhere.
  mutating func styleSheet(_ rules: String) { text += "<style>\n\(rules)</style>\n" }

  private mutating func open(_ name: String, _ attributes: Attributes) {
    text += "<\(name)"
    for (name, value) in attributes { text += " \(name)=\"\(Self.escaped("\(value)"))\"" }
  }

  /// Words from elsewhere as XML may hold them: its own signs as entities; what it forbids, and what would steer a
  /// terminal or turn the direction of a line around, made visible. Lines stay lines.
  static func escaped(_ words: String) -> String {
    var text = ""
    for scalar in words.unicodeScalars {
      switch scalar {
      case "&": text += "&amp;"
      case "<": text += "&lt;"
      case ">": text += "&gt;"
      case "\"": text += "&quot;"
      case "\n": text += "\n"
      case "\u{200e}", "\u{200f}", "\u{2028}"..."\u{202e}", "\u{2066}"..."\u{2069}", "\u{fffe}", "\u{ffff}":
        text += "\\u{\(String(scalar.value, radix: 16))}"
      default: text += String(scalar).printable
      }
    }
    return text
  }
}

/// Letters of one size, and how much room they take at most. A picture carries no font along: the reader's may be narrower
/// or wider than the one it was looked at with, so these are the widths of wide ones.
struct Lettering {
  /// The width of a letter, in hundredths of a pixel.
  let pitch: Int

  /// Calls, 12.5 pixels high; the like in 17, 11 and 10.5 pixels.
  static let call = Lettering(pitch: 763)
  static let heading = Lettering(pitch: 1040)
  static let label = Lettering(pitch: 690)
  static let small = Lettering(pitch: 645)
  /// Words that explain, 13 pixels high and not monospaced: what a line of them takes on average, and a bit.
  static let words = Lettering(pitch: 700)

  func width(_ text: String) -> Int { (Self.columns(text) * pitch + 99) / 100 }

  /// How many letters there is room for.
  func columns(in width: Int) -> Int { max(1, width * 100 / pitch) }

  /// The text, or as much of it as there is room for with an ellipsis.
  func fit(_ text: String, in width: Int) -> String {
    let room = columns(in: width)
    guard Self.columns(text) > room else { return text }
    var start = ""
    var taken = 1
    for character in text {
      taken += Self.columns(character)
      if taken > room { break }
      start.append(character)
    }
    return start + "…"
  }

  /// The same with the ellipsis in front: of an address the end says more.
  func fitEnd(_ text: String, in width: Int) -> String {
    let room = columns(in: width)
    guard Self.columns(text) > room else { return text }
    var end: [Character] = []
    var taken = 1
    for character in text.reversed() {
      taken += Self.columns(character)
      if taken > room { break }
      end.append(character)
    }
    return "…" + String(end.reversed())
  }

  /// The text in lines, at most so many of them.
  func wrap(_ text: String, in width: Int, lines limit: Int = 12) -> [String] {
    let hasWide = text.contains { Self.columns($0) > 1 }
    let room = columns(in: width) / (hasWide ? 2 : 1)
    var lines = text.wrapped(to: room)
    // A last line of one word looks lost: the others give it some of theirs.
    var narrower = room
    while lines.count > 1, let last = lines.last, last.count < room / 3, narrower > room * 2 / 3 {
      narrower -= 1
      let other = text.wrapped(to: narrower)
      if other.count > lines.count { break }
      lines = other
    }
    return cut(lines, to: limit, in: width)
  }

  /// A call in lines, broken after its commas.
  func wrapCall(_ text: String, in width: Int, lines limit: Int) -> [String] {
    let hasWide = text.contains { Self.columns($0) > 1 }
    return cut(text.wrappedCall(to: columns(in: width) / (hasWide ? 2 : 1)), to: limit, in: width)
  }

  private func cut(_ lines: [String], to limit: Int, in width: Int) -> [String] {
    guard lines.count > limit, limit > 0 else { return lines }
    return Array(lines.prefix(limit - 1)) + [fit(lines[limit - 1] + " …", in: width)]
  }

  static func columns(_ text: String) -> Int { text.reduce(0) { $0 + columns($1) } }

  /// Two for what East Asian scripts and emoji take. See: Unicode Standard Annex #11
  private static func columns(_ character: Character) -> Int {
    let isWide = character.unicodeScalars.contains { scalar in
      switch scalar.value {
      case 0x1100...0x115f, 0x2e80...0xa4cf, 0xac00...0xd7a3, 0xf900...0xfaff, 0xfe0f, 0xfe30...0xfe6f,
        0xff00...0xff60, 0xffe0...0xffe6, 0x1f000...0x1faff, 0x20000...0x3fffd:
        true
      default: false
      }
    }
    // A character that is made visible, \u{202e} say.
    return isWide ? 2 : SVG.escaped(String(character)).hasPrefix("\\u") ? 8 : 1
  }
}
