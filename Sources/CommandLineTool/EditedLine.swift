/// A line that is being typed: keys go in, its text and its cursor come out. It knows no terminal.
///
/// The cursor moves by what a reader takes for one character, however many scalars that has.
public struct EditedLine: Sendable {
  public enum Key: Hashable, Sendable {
    /// No control character.
    case text(Unicode.Scalar)
    case left, right, start, end, up, down
    case backspace, delete, eraseToStart, eraseToEnd, eraseWord
    /// Ctrl-D: deletes, or ends the input where the line is empty.
    case deleteOrEnd
    case tab, enter, interrupt, suspend, clearScreen
    /// What is no text: invalid UTF-8, a control character without a meaning.
    case refused
  }

  /// What a key asks of the terminal, beside showing the line again.
  public enum Effect: Hashable, Sendable {
    case none
    /// The key could do nothing.
    case refused
    /// The candidates for the word at the cursor are to be listed.
    case list([String])
    case accepted, interrupted, ended, suspended, clearScreen
  }

  /// The longest line, in bytes.
  public static let longest = 1 << 20

  /// The text on the left of the cursor.
  public private(set) var before = ""
  /// The text on the right of the cursor.
  public private(set) var after = ""

  /// The history and, last, the line itself. What was changed in a line stays with it while another one is looked at.
  private var lines: [String]
  private var place: Int
  /// Whether the key before was a Tab that found several candidates.
  private var sawSeveral = false

  /// An empty line. `history` has the oldest line first.
  public init(history: [String] = []) {
    lines = history + [""]
    place = history.count
  }

  public var text: String { before + after }

  /// How many characters are on the left of the cursor.
  public var cursor: Int { before.count }

  /// Changes the line as a key has it. `complete` is asked on Tab; see `LineEditor.complete`.
  public mutating func apply(_ key: Key, complete: (String) -> [String] = { _ in [] }) -> Effect {
    let sawSeveral = self.sawSeveral
    self.sawSeveral = false
    switch key {
    case .text(let scalar):
      guard before.utf8.count + after.utf8.count + 4 <= Self.longest else { return .refused }
      before.unicodeScalars.append(scalar)
      settle()
    case .left:
      guard let character = before.popLast() else { return .refused }
      after.insert(character, at: after.startIndex)
    case .right:
      guard !after.isEmpty else { return .refused }
      before.append(after.removeFirst())
    case .start:
      after = text
      before = ""
    case .end:
      before = text
      after = ""
    case .up: return show(place - 1)
    case .down: return show(place + 1)
    case .backspace:
      guard before.popLast() != nil else { return .refused }
      settle()
    case .delete: return delete()
    case .deleteOrEnd: return before.isEmpty && after.isEmpty ? .ended : delete()
    case .eraseToStart: before = ""
    case .eraseToEnd: after = ""
    case .eraseWord:
      guard !before.isEmpty else { return .refused }
      while before.last?.isWhitespace == true { before.removeLast() }
      while before.last?.isWhitespace == false { before.removeLast() }
      settle()
    case .tab: return self.complete(with: complete(before), listing: sawSeveral)
    case .enter: return .accepted
    case .interrupt: return .interrupted
    case .suspend: return .suspended
    case .clearScreen: return .clearScreen
    case .refused: return .refused
    }
    return .none
  }

  private mutating func delete() -> Effect {
    guard !after.isEmpty else { return .refused }
    after.removeFirst()
    settle()
    return .none
  }

  private mutating func show(_ other: Int) -> Effect {
    guard lines.indices.contains(other) else { return .refused }
    lines[place] = text
    place = other
    before = lines[other]
    after = ""
    return .none
  }

  /// Moves the cursor out of a character that has come together around it, a letter and the accent after it say.
  private mutating func settle() {
    guard let left = before.last, let right = after.first else { return }
    let both = "\(left)\(right)"
    guard let first = both.first, first.utf8.count != left.utf8.count else { return }
    before.removeLast()
    before.append(first)
    after.removeFirst()
    after.insert(contentsOf: both.dropFirst(), at: after.startIndex)
  }

  private mutating func complete(with candidates: [String], listing: Bool) -> Effect {
    let start = before.lastIndex(where: \.isWhitespace).map(before.index(after:)) ?? before.startIndex
    let word = before[start...]
    var seen: Set<String> = []
    let fitting = candidates.filter {
      !$0.isEmpty && $0.hasPrefix(word) && $0.printable == $0 && seen.insert($0).inserted
    }
    guard let first = fitting.first else { return .refused }
    guard fitting.count > 1 else { return replace(start, with: after.first == " " ? first : first + " ") }
    sawSeveral = true
    var common = first[...]
    for candidate in fitting.dropFirst() {
      let same = zip(common, candidate).prefix { $0 == $1 }.count
      common = common.prefix(same)
    }
    if common.count > word.count { return replace(start, with: String(common)) }
    return listing ? .list(fitting) : .refused
  }

  private mutating func replace(_ start: String.Index, with word: String) -> Effect {
    let kept = before[..<start]
    guard kept.utf8.count + word.utf8.count + after.utf8.count <= Self.longest else { return .refused }
    before = kept + word
    settle()
    return .none
  }

  /// What of the line is shown behind a prompt in one row of a terminal, and the column of the cursor in it, from 0. Where not
  /// all fits it is the part around the cursor. The last column stays free: a terminal may go on to the next row after it.
  public func row(prompt: String, width: Int) -> (text: String, cursor: Int) {
    let room = max(1, width - 1)
    // Of a prompt that leaves little for the line, its end.
    let prompt = Self.fitting(prompt.printable.reversed(), into: max(room / 2, room - 40))
    let available = room - prompt.columns
    // Someone who goes left sees what comes next; someone who types at the end has all the room for what was typed.
    let ahead = Self.fitting(after, into: available / 3)
    let left = Self.fitting(before.reversed(), into: available - ahead.columns)
    let right = Self.fitting(after, into: available - left.columns)
    let shown = String(prompt.characters.reversed()) + String(left.characters.reversed())
    return (shown + String(right.characters), prompt.columns + left.columns)
  }

  /// The first characters that fit, and how many columns they take.
  private static func fitting(
    _ characters: some Sequence<Character>, into columns: Int
  ) -> (characters: [Character], columns: Int) {
    var taken: [Character] = []
    var used = 0
    for character in characters {
      let next = character.columns
      guard used + next <= columns else { break }
      taken.append(character)
      used += next
    }
    return (taken, used)
  }
}
