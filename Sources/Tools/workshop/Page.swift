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

  /// The comment of a source file: its paragraphs are filled anew, lines that are set in are left alone.
  func comment(_ lines: [String]) -> String {
    var text = ""
    var paragraph: [String] = []
    func end() {
      if !paragraph.isEmpty { text += self.paragraph(paragraph.joined(separator: " ")) }
      paragraph = []
    }
    var hang = 0
    for line in lines {
      let indent = line.prefix { $0 == " " }.count
      let isItem = line.drop { $0 == " " }.prefix(2).contains { "-*•".contains($0) }
      if line.allSatisfy(\.isWhitespace) {
        end()
        text += "\n"
        hang = 0
      } else if indent > 0 || isItem || hang > 0 && indent >= hang {
        end()
        hang = isItem ? indent + 2 : indent
        let words = String(line.dropFirst(indent))
        for (number, part) in words.wrapped(to: max(20, width - indent - 4)).enumerated() {
          text += String(repeating: " ", count: 1 + indent + (number > 0 ? 2 : 0)) + part + "\n"
        }
      } else {
        hang = 0
        paragraph.append(line)
      }
    }
    end()
    return text
  }
}
