import CommandLineTool

/// How the workshop's words are laid out.
struct Page {
  let width: Int
  let color: Bool

  private var isNarrow: Bool { width < 60 }

  /// A line that says what the rest is about: bold parts, with dots between them.
  func heading(_ parts: [String]) -> String {
    let lines = parts.map(\.printable).joined(separator: " · ").wrapped(to: width - 2)
    return lines.map { " \(Style.heading($0, color: color))\n" }.joined()
  }

  /// Running text.
  func paragraph(_ text: String, indent: Int = 1, style: Style = .plain) -> String {
    text.wrapped(to: width - indent - 1).map {
      String(repeating: " ", count: indent) + style($0, color: color) + "\n"
    }.joined()
  }

  /// A mark, and text beside it.
  func marked(_ mark: String, _ style: Style, _ text: String) -> String {
    let lines = text.wrapped(to: width - 4)
    return lines.enumerated().map { number, line in
      number == 0
        ? " \(style(mark, color: color)) \(style(line, color: color))\n" : "   \(style(line, color: color))\n"
    }.joined()
  }

  /// Commands and paths, each behind what it is for. They are to be copied, so none of them is broken.
  func rows(_ rows: [(label: String, value: String)]) -> String {
    let column = (rows.map(\.label.count).max() ?? 0) + 3
    let fits = !isNarrow && rows.allSatisfy { column + $0.value.count + 3 < width }
    return rows.map { label, value in
      let shown = Style.words(value, color: color)
      if fits { return "   \(label.padded(to: column))\(shown)\n" }
      return (label.isEmpty ? "" : paragraph(label, indent: 3)) + "     \(shown)\n"
    }.joined()
  }

  /// How much is done: a bar and a count.
  func bar(done: Int, of total: Int) -> String {
    let count = "\(done) of \(total) done"
    let room = min(40, width - count.count - 5)
    // What is not nothing is to be seen, and what is not all is not to look like it.
    let exact = room * done / max(1, total)
    let filled = done == 0 ? 0 : done == total ? room : min(max(1, exact), room - 1)
    let bar = Style.good(String(repeating: "█", count: filled), color: color)
    let rest = Style.quiet(String(repeating: "░", count: room - filled), color: color)
    return " \(bar)\(rest)  \(count)\n"
  }

  /// The comment of a source file. Its paragraphs and the items of its lists are filled anew; code, which is set in, is to be
  /// copied, and left as it is.
  func comment(_ lines: [String]) -> String {
    var text = ""
    var words: [String] = []
    /// What an item's first line begins with, and where its others begin; nil in a paragraph.
    var item: (start: String, hang: Int)?
    func end() {
      let filled = words.joined(separator: " ")
      words = []
      guard !filled.isEmpty else { return }
      guard let (start, hang) = item else {
        text += paragraph(filled)
        return
      }
      item = nil
      for (number, line) in filled.wrapped(to: max(20, width - hang - 2)).enumerated() {
        text += " " + (number == 0 ? start : String(repeating: " ", count: hang)) + line + "\n"
      }
    }
    for line in lines {
      let indent = line.prefix { $0 == " " }.count
      let body = line.dropFirst(indent)
      if body.isEmpty {
        end()
        text += "\n"
      } else if let marker = body.prefixMatch(of: #/([-*•]|\d+[.)])\ +/#) {
        end()
        item = (String(line.prefix(indent)) + marker.0, indent + marker.0.count)
        words = [String(body.dropFirst(marker.0.count))]
      } else if let item, (item.hang - 1...item.hang + 1).contains(indent) {
        words.append(String(body))
      } else if indent >= 4 {
        end()
        text += " \(line)\n"
      } else if indent > 0 {
        end()
        item = (String(line.prefix(indent)), indent)
        words = [String(body)]
        end()
      } else {
        // "Arguments: …", "New: …"
        if item != nil || body.prefixMatch(of: #/[A-Z][A-Za-z ]{1,14}: /#) != nil { end() }
        words.append(line)
      }
    }
    end()
    return text
  }
}
