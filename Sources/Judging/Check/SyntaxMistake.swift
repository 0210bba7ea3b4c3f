/// Where a text stops being JSON5, for a reader: the decoder says only that it does.
struct SyntaxMistake {
  /// "line 12, column 5: a comma is missing before this"
  let description: String

  private enum Token { case open, close, comma, colon, value }

  /// Nil where brackets, quotes and commas are all right.
  init?(in text: String) {
    var brackets: [(character: Character, line: Int, column: Int)] = []
    var last: Token?
    var (line, column) = (1, 0)
    var rest = text[...]
    func at(_ line: Int, _ column: Int, _ what: String) -> String {
      "line \(line), column \(column): \(what)"
    }
    func take() -> Character? {
      guard let character = rest.popFirst() else { return nil }
      column += 1
      if character.isNewline { (line, column) = (line + 1, 0) }
      return character
    }
    while let character = take() {
      let here = (line, column)
      switch character {
      case _ where character.isWhitespace: continue
      case "/" where rest.first == "/":
        while let next = rest.first, !next.isNewline { _ = take() }
        continue
      case "/" where rest.first == "*":
        while !rest.isEmpty, !rest.hasPrefix("*/") { _ = take() }
        (_, _) = (take(), take())
        continue
      default: break
      }
      let isValue = !",:]}".contains(character)
      if isValue, last == .value || last == .close {
        description = at(here.0, here.1, "a comma is missing before this")
        return
      }
      switch character {
      case "{", "[":
        brackets.append((character, line, column))
        last = .open
      case "}", "]":
        let wanted: Character = character == "}" ? "{" : "["
        guard let open = brackets.popLast(), open.character == wanted else {
          description = at(here.0, here.1, "this \(character) closes nothing that is open")
          return
        }
        last = .close
      case ",": last = .comma
      case ":": last = .colon
      case "\"", "'":
        var isClosed = false
        while let next = take() {
          if next == "\\" { _ = take() } else if next == character { isClosed = true }
          if isClosed || next.isNewline { break }
        }
        if !isClosed {
          description = at(here.0, here.1, "this string does not end in its line")
          return
        }
        last = .value
      default:
        while let next = rest.first, !",:]}[{\"'".contains(next), !next.isWhitespace { _ = take() }
        last = .value
      }
    }
    guard let open = brackets.last else { return nil }
    description = at(open.line, open.column, "this \(open.character) is never closed")
  }
}
