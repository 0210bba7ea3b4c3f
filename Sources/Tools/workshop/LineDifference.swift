import CommandLineTool

/// What must be taken out of one text, and put in, to make it another: by lines, with some of those around.
struct LineDifference {
  enum Line: Equatable {
    case same(String)
    case removed(String)
    case added(String)
  }

  /// Lines that belong together, and where they begin in both texts, from 1 on.
  struct Hunk {
    let from: Int
    let to: Int
    let lines: [Line]
  }

  /// Lines that stay the same, before and after one that does not.
  private static let context = 3

  let hunks: [Hunk]

  init(from old: [String], to new: [String]) {
    var removed: Set<Int> = []
    var added: Set<Int> = []
    for change in new.difference(from: old) {
      switch change {
      case .remove(let offset, _, _): removed.insert(offset)
      case .insert(let offset, _, _): added.insert(offset)
      }
    }
    var all: [(line: Line, from: Int, to: Int)] = []
    var (from, to) = (0, 0)
    while from < old.count || to < new.count {
      if from < old.count, removed.contains(from) {
        all.append((.removed(old[from]), from, to))
        from += 1
      } else if to < new.count, added.contains(to) {
        all.append((.added(new[to]), from, to))
        to += 1
      } else if from < old.count {
        all.append((.same(old[from]), from, to))
        (from, to) = (from + 1, to + 1)
      } else {
        break  // a difference that is none of these texts'
      }
    }
    func isChange(_ place: Int) -> Bool { if case .same = all[place].line { false } else { true } }
    var hunks: [Hunk] = []
    var place = 0
    while let first = (place..<all.count).first(where: isChange) {
      var last = first
      while let further = (last + 1..<all.count).first(where: isChange),
        further - last <= 2 * Self.context + 1
      {
        last = further
      }
      let range = max(place, first - Self.context)..<min(all.count, last + Self.context + 1)
      hunks.append(
        Hunk(
          from: all[range.lowerBound].from + 1, to: all[range.lowerBound].to + 1,
          lines: all[range].map(\.line)))
      place = range.upperBound
    }
    self.hunks = hunks
  }

  /// As diff -u prints it. Lines are folded at `width`; nowhere where it is nil.
  func text(old: String, new: String, width: Int?, color: Bool) -> String {
    var text = "\(Style.heading("--- \(old)", color: color))\n\(Style.heading("+++ \(new)", color: color))\n"
    for hunk in hunks {
      let counts = [("-", hunk.from, true), ("+", hunk.to, false)].map { sign, start, isOld in
        let count = hunk.lines.filter {
          switch $0 {
          case .same: true
          case .removed: isOld
          case .added: !isOld
          }
        }.count
        return "\(sign)\(count == 0 ? start - 1 : start),\(count)"
      }
      text += Style.words("@@ \(counts.joined(separator: " ")) @@", color: color) + "\n"
      for line in hunk.lines {
        let (sign, style, words): (String, Style, String) =
          switch line {
          case .same(let words): (" ", .plain, words)
          case .removed(let words): ("-", .bad, words)
          case .added(let words): ("+", .good, words)
          }
        for part in Self.folded(words.printable, width.map { $0 - 2 }) {
          text += style(sign + part, color: color) + "\n"
        }
      }
    }
    return text
  }

  /// A line of code in parts that fit: those after the first are set in a little further.
  private static func folded(_ line: String, _ width: Int?) -> [String] {
    guard let width, line.count > width, width > 20 else { return [line] }
    let indent = String(repeating: " ", count: min(line.prefix { $0 == " " }.count + 4, width / 2))
    var parts: [String] = []
    var rest = Substring(line)
    while rest.count > (parts.isEmpty ? width : width - indent.count) {
      let room = parts.isEmpty ? width : width - indent.count
      let head = rest.prefix(room)
      let start = parts.isEmpty ? rest.prefix { $0 == " " }.endIndex : rest.startIndex
      // At a space where there is one, else in the middle of a word.
      let space = head[start...].lastIndex(of: " ")
      let end =
        space.flatMap { head.distance(from: head.startIndex, to: $0) > room / 3 ? $0 : nil } ?? head.endIndex
      parts.append((parts.isEmpty ? "" : indent) + rest[..<end])
      rest = rest[end...].drop { $0 == " " }
    }
    if !rest.isEmpty { parts.append(indent + rest) }
    return parts
  }
}
