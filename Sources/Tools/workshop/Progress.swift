import CommandLineTool
import Glibc

/// What is known of one exercise: "started 2026-03-01T14:05, done 2026-03-01T14:20, hints 2, gave-up, current".
struct ProgressEntry: Equatable {
  /// When it was begun, as far as that is known.
  var started: String?
  /// When it passed for the first time; empty where that is not known.
  var done: String?
  /// How many hints were shown.
  var hints = 0
  /// Whether its solution was shown before it had passed.
  var isGivenUp = false
  /// Whether it is the one in progress.
  var isCurrent = false
  /// What else stands in its line, and is left there.
  var rest: [String] = []

  var isDone: Bool { done != nil }

  init() {}

  /// Takes apart what stands behind the name.
  ///
  /// - Returns: also the words that make no sense.
  init(_ text: Substring, unknown: inout [String]) {
    let note = text.firstIndex(of: "#") ?? text.endIndex
    var words = text[..<note].split { $0.isWhitespace || $0 == "," }
    while !words.isEmpty {
      let word = words.removeFirst()
      switch word {
      case "started" where words.first.map(Self.isTime) ?? false: started = String(words.removeFirst())
      case "started": started = started ?? ""
      case "done" where words.first.map(Self.isTime) ?? false: done = String(words.removeFirst())
      case "done": done = done ?? ""
      case "hints" where words.first.flatMap { Int($0) }.map { $0 >= 0 } ?? false:
        hints = words.first.flatMap { Int($0) } ?? 0
        words.removeFirst()
      case "gave-up": isGivenUp = true
      case "current": isCurrent = true
      default:
        unknown.append(String(word))
        rest.append(String(word))
      }
    }
    if note < text.endIndex { rest.append(String(text[note...])) }
  }

  /// The same exercise in a second line: git leaves both where two were merged.
  mutating func join(_ other: ProgressEntry) {
    started =
      [started, other.started].compactMap { $0 }.filter { !$0.isEmpty }.min() ?? started ?? other.started
    done = [done, other.done].compactMap { $0 }.filter { !$0.isEmpty }.min() ?? done ?? other.done
    hints = max(hints, other.hints)
    isGivenUp = isGivenUp || other.isGivenUp
    isCurrent = isCurrent || other.isCurrent
    rest += other.rest
  }

  /// What stands behind the name.
  var text: String {
    var phrases: [String] = []
    if let started { phrases.append(started.isEmpty ? "started" : "started \(started)") }
    if let done { phrases.append(done.isEmpty ? "done" : "done \(done)") }
    if hints > 0 { phrases.append("hints \(hints)") }
    if isGivenUp { phrases.append("gave-up") }
    if isCurrent { phrases.append("current") }
    // A remark reaches to the end of its line.
    let remarks = rest.filter { $0.hasPrefix("#") }
    let facts = (phrases + rest.filter { !$0.hasPrefix("#") }).joined(separator: ", ")
    return ([facts] + remarks).filter { !$0.isEmpty }.joined(separator: "  ")
  }

  /// "2026-03-01", "2026-03-01T14:05"
  private static func isTime(_ word: Substring) -> Bool {
    word.wholeMatch(of: /\d{4}-\d\d-\d\d(T\d\d:\d\d)?/) != nil
  }

  /// The time of day, here. See: localtime_r(3)
  static func now(_ format: String = "%Y-%m-%dT%H:%M") -> String {
    var seconds = time(nil)
    var parts = tm()
    localtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, format, &parts)
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}

/// What is done of a course: a text, a line each. What makes no sense in it is kept as it is.
struct Progress {
  private enum Line {
    case entry(name: String, bytes: [UInt8])
    case other([UInt8])
  }

  private var lines: [Line] = []
  private var entries: [String: ProgressEntry] = [:]
  private var changed: Set<String> = []
  /// The exercises' names, in their order.
  private let names: [String]
  /// What makes no sense, and in which line.
  private(set) var remarks: [String] = []

  private static let head = """
    # What is done of this course. 'workshop' writes it; you may edit it, and commit it. A line an exercise:
    # NAME: started WHEN, done WHEN, hints N, gave-up, current
    # Lines that make no sense stay as they are.

    """

  /// Reads a file's bytes, whatever they are; nil for a new one.
  init(_ bytes: [UInt8]?, names: [String]) {
    self.names = names
    var rest = (bytes ?? Array(Self.head.utf8))[...]
    var number = 0
    while !rest.isEmpty {
      let line = Array(rest.prefix { $0 != UInt8(ascii: "\n") })
      rest = rest.dropFirst(line.count + 1)
      number += 1
      read(line, number)
    }
    // A file edited by hand, or merged, may have several.
    let current = names.filter { entries[$0]?.isCurrent ?? false }
    let kept = current.first { entries[$0]?.done == nil } ?? current.first
    for name in current where name != kept { entries[name]?.isCurrent = false }
  }

  private mutating func read(_ bytes: [UInt8], _ number: Int) {
    guard let line = String(validating: bytes, as: UTF8.self) else {
      lines.append(.other(bytes))
      return remarks.append("line \(number) is no text")
    }
    let text = line.drop(while: \.isWhitespace)
    if text.isEmpty || text.hasPrefix("#") { return lines.append(.other(bytes)) }
    let fitting = names.filter { name in
      text.hasPrefix(name) && (text.dropFirst(name.count).first.map { $0 == ":" || $0.isWhitespace } ?? true)
    }
    guard let name = fitting.max(by: { $0.count < $1.count }) else {
      lines.append(.other(bytes))
      return remarks.append(
        "line \(number) is about no exercise of this course: '\(line.printable.truncated(to: 40))'")
    }
    var unknown: [String] = []
    let entry = ProgressEntry(text.dropFirst(name.count).drop { $0 == ":" }, unknown: &unknown)
    lines.append(.entry(name: name, bytes: bytes))
    if let word = unknown.first {
      remarks.append("in line \(number) '\(word.printable.truncated(to: 40))' makes no sense")
    }
    if entries[name] == nil { entries[name] = entry } else { entries[name]?.join(entry) }
  }

  /// What is known of an exercise. What is set is written in its line, or a new one.
  subscript(exercise: Exercise) -> ProgressEntry {
    get { entries[exercise.name] ?? ProgressEntry() }
    set {
      guard entries[exercise.name] != newValue else { return }
      entries[exercise.name] = newValue
      changed.insert(exercise.name)
    }
  }

  /// Whether anything is known of it.
  func knows(_ exercise: Exercise) -> Bool { entries[exercise.name] != nil }

  var isChanged: Bool { !changed.isEmpty }

  /// Makes one the exercise in progress.
  mutating func begin(_ exercise: Exercise) {
    for name in names where name != exercise.name && entries[name]?.isCurrent ?? false {
      entries[name]?.isCurrent = false
      changed.insert(name)
    }
    self[exercise].started = self[exercise].started ?? ProgressEntry.now()
    self[exercise].isCurrent = true
  }

  /// The file's new bytes: lines that have not changed are what they were.
  var bytes: [UInt8] {
    var texts: [(order: Int?, bytes: [UInt8])] = []
    var written: Set<String> = []
    let order = Dictionary(zip(names, 0...), uniquingKeysWith: { first, _ in first })
    for line in lines {
      switch line {
      case .other(let bytes): texts.append((nil, bytes))
      case .entry(let name, let bytes) where !changed.contains(name): texts.append((order[name], bytes))
      case .entry(let name, _):
        // What a second line of it said is in the first one now.
        if written.insert(name).inserted { texts.append((order[name], rendered(name))) }
      }
    }
    for name in names where changed.contains(name) && written.insert(name).inserted {
      let number = order[name] ?? 0
      let after = texts.lastIndex { ($0.order ?? .max) < number }
      let before = texts.firstIndex { ($0.order ?? -1) > number }
      texts.insert((number, rendered(name)), at: after.map { $0 + 1 } ?? before ?? texts.count)
    }
    return texts.flatMap { $0.bytes + [UInt8(ascii: "\n")] }
  }

  private func rendered(_ name: String) -> [UInt8] { Array("\(name): \(entries[name]?.text ?? "")".utf8) }
}
