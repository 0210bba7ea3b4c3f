import Foundation
import Glibc
import Synchronization
import SystemCalls
import Testing
import TestSupport

@testable import CommandLineTool

private let escape = "\u{1b}"

/// The key of a letter with Ctrl, as a terminal sends it.
private func control(_ letter: Unicode.Scalar) -> String {
  String(Unicode.Scalar(UInt8(letter.value & 0x1f)))
}

/// The line, its cursor as "|", and what the keys asked for beside it.
private func typed(
  _ bytes: some Sequence<UInt8>, history: [String] = [], complete: (String) -> [String] = { _ in [] }
) -> (line: String, effects: [EditedLine.Effect]) {
  var line = EditedLine(history: history)
  var decoder = KeyDecoder()
  var effects: [EditedLine.Effect] = []
  for byte in bytes {
    for key in decoder.take(byte) {
      let effect = line.apply(key, complete: complete)
      if effect != .none { effects.append(effect) }
    }
  }
  return ("\(line.before)|\(line.after)", effects)
}

@Suite struct EditedLineTests {
  @Test(arguments: [
    ("", "|"), ("abc", "abc|"), ("naïve 日本 🙂", "naïve 日本 🙂|"),
    // Moving.
    ("abc\u{1b}[D", "ab|c"), ("abc\u{1b}OD\u{1b}OD", "a|bc"), ("abc\u{1b}[D\u{1b}[D\u{1b}[C", "ab|c"),
    ("abc\u{2}\u{2}x\u{6}y", "axby|c"), ("abc\u{1}", "|abc"), ("abc\u{1}x\u{5}y", "xabcy|"),
    ("abc\u{1b}[H", "|abc"), ("abc\u{1b}OH", "|abc"), ("abc\u{1b}[1~", "|abc"), ("abc\u{1b}[7~", "|abc"),
    ("abc\u{1}\u{1b}[F", "abc|"), ("abc\u{1}\u{1b}OF", "abc|"), ("abc\u{1}\u{1b}[4~", "abc|"),
    ("abc\u{1}\u{1b}[8~", "abc|"),
    // Taking away.
    ("abc\u{7f}", "ab|"), ("abc\u{8}\u{8}", "a|"), ("abc\u{2}\u{7f}", "a|c"),
    ("abc\u{1}\u{1b}[3~", "|bc"), ("abc\u{1}\u{4}\u{4}", "|c"),
    ("abcd\u{2}\u{2}\u{15}", "|cd"), ("abcd\u{2}\u{2}\u{b}", "ab|"),
    ("one two\u{17}", "one |"), ("one two  \u{17}", "one |"), ("one\u{17}", "|"),
    ("one two three\u{2}\u{2}\u{17}", "one two |ee"),
    // One character of a reader is one step, however it is composed.
    ("ae\u{301}o\u{2}\u{2}", "a|e\u{301}o"), ("ae\u{301}\u{7f}", "a|"), ("a👩‍👩‍👧\u{2}", "a|👩‍👩‍👧"),
    ("a👩‍👩‍👧\u{7f}", "a|"), ("🇩🇪🇫🇷\u{7f}", "🇩🇪|"), ("x日\u{1}\u{4}\u{4}", "|"),
    // What comes together around the cursor is behind it.
    ("🇩x🇪\u{2}\u{7f}", "🇩🇪|"), ("👩👧\u{2}\u{200d}", "👩\u{200d}👧|"),
    ("x\u{301}\u{1}a\u{1b}[3~\u{301}", "a\u{301}|"),
  ])
  func keysMakeALine(keys: String, expected: String) {
    #expect(typed(keys.utf8).line == expected)
  }

  /// Every sequence stands between two letters, which stay.
  @Test(arguments: [
    "[200~", "[201~", "[1;5D", "[5~", "[24~", "[Z", "[I", "[O", "[?1;2c", "[<0;12;3M", "[[A", "OP", "O5C",
    "x", "\u{7f}", "é", "日", "]0;a title\u{7}", "]11;rgb:0/0/0\u{1b}\\", "P1$r0m\u{1b}\\", "_x\u{1b}\\",
    "[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;17;18;19m", "\u{1b}[5~", "[ q",
  ])
  func unknownSequencesAreSwallowedWhole(sequence: String) {
    let result = typed("a\(escape)\(sequence)b".utf8)
    #expect(result.line == "ab|")
    #expect(result.effects == [])
  }

  @Test func aBrokenSequenceTakesNoControlCharacterWithIt() {
    for beginning in ["", "[", "[1;", "O", "[["] {
      #expect(typed("a\(escape)\(beginning)\(control("C"))".utf8).effects == [.interrupted])
      #expect(typed("a\(escape)\(beginning)\(escape)[Db".utf8).line == "b|a")
    }
  }

  @Test func aGivenUpSequenceIsForgotten() {
    for beginning in ["", "[", "[1;", "O", "[[", "]0;", "]0;\(escape)", "P"] {
      var decoder = KeyDecoder()
      #expect(!decoder.isWithinEscape)
      for byte in "\(escape)\(beginning)".utf8 { #expect(decoder.take(byte) == []) }
      #expect(decoder.isWithinEscape)
      decoder.giveUp()
      #expect(!decoder.isWithinEscape)
      #expect(decoder.take(UInt8(ascii: "D")) == [.text("D")])
    }
  }

  @Test(arguments: [
    (control("D"), [EditedLine.Effect.ended]), ("a" + control("D"), [.refused]),
    (control("C"), [.interrupted]),
    ("a\r", [.accepted]), ("\n", [.accepted]), ("\u{1b}OM", [.accepted]), (control("Z"), [.suspended]),
    (control("L"), [.clearScreen]), ("\u{7f}", [.refused]), ("\u{1b}[D", [.refused]),
    ("\u{1b}[C", [.refused]),
    ("\u{1b}[A", [.refused]), ("\u{1b}[3~", [.refused]), (control("W"), [.refused]), ("\t", [.refused]),
    (control("G"), [.refused]), ("\u{9b}", [.refused]), ("\u{0}", [.refused]),
  ])
  func keysHaveEffects(keys: String, effects: [EditedLine.Effect]) {
    let result = typed(keys.utf8)
    #expect(result.effects == effects)
  }

  @Test(arguments: [
    ("\u{1b}[A", "two|"), ("\u{10}\u{10}", "one|"), ("\u{10}\u{10}\u{10}", "one|"), ("\u{10}\u{e}", "|"),
    ("dra\u{1b}[A\u{1b}[B", "dra|"), ("dra\u{10}\u{10}\u{e}", "two|"), ("dra\u{2}\u{10}\u{e}", "dra|"),
    // A change to a line of the history stays with it until the line is given.
    ("\u{10}!\u{10}\u{e}", "two!|"), ("dra\u{10}!\u{e}ft\u{10}", "two!|"), ("a\u{e}", "a|"),
  ])
  func historyKeepsWhatWasTyped(keys: String, expected: String) {
    #expect(typed(keys.utf8, history: ["one", "two"]).line == expected)
  }

  @Test(arguments: [
    ("fi\t", "find |", [EditedLine.Effect]()), ("f\tx", "find x|", []), ("a\t", "add|", []),
    ("a\t\t", "add|", [.list(["add", "address"])]),
    ("ad\t\t\t", "add|", [.list(["add", "address"]), .list(["add", "address"])]),
    ("add\t", "add|", [.refused]), ("add\t\t", "add|", [.refused, .list(["add", "address"])]),
    ("add\tx\u{7f}\t", "add|", [.refused, .refused]), ("addr\t", "address |", []),
    ("zz\t", "zz|", [.refused]),
    ("find j\t", "find jörg |", []), ("find jörg\t", "find jörg |", []),
    ("addr x\u{2}\u{2}\t", "address| x", []),
    ("addrx\u{2}\t", "address |x", []), ("find b\t", "find b|", [.refused]),
  ])
  func tabCompletes(keys: String, expected: String, effects: [EditedLine.Effect]) {
    var asked = ""
    let result = typed(keys.utf8) { line in
      asked = line
      return line.hasPrefix("find ")
        ? ["jörg", "bad\u{1b}[2J", "", "mia"] : ["add", "find", "address", "add", "list"]
    }
    #expect(result.line == expected)
    #expect(result.effects == effects)
    #expect(!asked.isEmpty)
  }

  @Test(
    arguments: [
      ([0x61, 0xff, 0x62], "ab|", 1), ([0xc0, 0x80], "|", 2), ([0xc3], "|", 0), ([0xc3, 0x61], "a|", 1),
      ([0xe2, 0x82, 0x61], "a|", 1), ([0xe2, 0x82, 0xac], "€|", 0), ([0xed, 0xa0, 0x80], "|", 3),
      ([0xf0, 0x9f, 0x99, 0x82], "🙂|", 0), ([0xf4, 0x90, 0x80, 0x80], "|", 4), ([0xf5], "|", 1),
      ([0xe0, 0x9f, 0xbf], "|", 3), ([0xc3, 0xc3, 0xa9], "é|", 1), ([0x80], "|", 1),
    ] as [([UInt8], String, Int)])
  func invalidBytesAreRefused(bytes: [UInt8], expected: String, refusals: Int) {
    let result = typed(bytes)
    #expect(result.line == expected)
    #expect(result.effects == Array(repeating: .refused, count: refusals))
  }

  /// What the standard library makes of the same bytes is the witness.
  @Test func anyBytesAreTakenAsTheStandardLibraryTakesThem() {
    var random = SplitMix(state: 7)
    let likely: [UInt8] = [
      0x41, 0x80, 0xa9, 0xbf, 0xc3, 0xe0, 0xe2, 0xed, 0xf0, 0xf4, 0x9f, 0x90, 0xcc, 0x81,
    ]
    for _ in 0..<20_000 {
      let bytes = (0..<Int(random.next() % 8)).map { _ in
        let value = random.next()
        return value % 4 == 0
          ? UInt8(value >> 8 & 0xff) | 0x80 : likely[Int(value >> 8 % UInt64(likely.count)) % likely.count]
      }
      // An end, so that nothing stays begun.
      let result = typed(bytes + [0x7a])
      let decoded = String(decoding: bytes + [0x7a], as: UTF8.self).unicodeScalars
      let kept = decoded.filter { $0 != "\u{fffd}" && !(0x80...0x9f).contains($0.value) }
      var expected = String.UnicodeScalarView(kept)
      expected.append("|")
      #expect(Array(result.line.unicodeScalars) == Array(expected), "\(bytes)")
      #expect(result.effects.isEmpty == (decoded.count == kept.count), "\(bytes)")
    }
  }

  /// Any keys at all, at any width: nothing traps, no control character gets in, and the row fits.
  @Test func anyKeysLeaveALineThatFits() {
    var random = SplitMix(state: 1)
    let pieces = [
      "a", " ", "é", "e\u{301}", "日", "🙂", "🇩", "👩‍👩‍👧", "\u{200d}", "\u{301}", "\u{1}", "\u{2}", "\u{4}x",
      "\u{5}", "\u{6}", "\u{7f}",
      "\u{b}", "\u{15}", "\u{17}", "\t", "\u{10}", "\u{e}", "\u{1b}[D", "\u{1b}[C", "\u{1b}[3~", "\u{1b}",
      "[", "\u{1b}]0", "\u{7}",
    ]
    for _ in 0..<300 {
      var line = EditedLine(history: ["one", "日本語", "e\u{301}\u{301}"])
      var decoder = KeyDecoder()
      for _ in 0..<60 {
        var bytes = Array(pieces[Int(random.next() % UInt64(pieces.count))].utf8)
        if random.next() % 10 == 0 { bytes.append(UInt8(random.next() & 0xff)) }
        for key in bytes.flatMap({ decoder.take($0) }) {
          _ = line.apply(key) { [$0 + "日", "b", "a\u{301}c"] }
        }
        #expect(line.text.printable == line.text)
        // Between the two parts a character ends.
        #expect(line.before.count + line.after.count == line.text.count)
        let width = Int(random.next() % 30)
        let row = line.row(prompt: "日> ", width: width)
        #expect(row.text.columns <= max(1, width - 1))
        #expect(row.cursor <= row.text.columns)
      }
    }
  }

  @Test func aLineHasALimit() {
    var line = EditedLine()
    for _ in 0..<EditedLine.longest - 4 { _ = line.apply(.text("x")) }
    #expect(line.apply(.text("é")) == .none)
    #expect(line.apply(.text("x")) == .refused)
    #expect(line.apply(.tab) { _ in [String(repeating: "x", count: EditedLine.longest) + "é"] } == .refused)
    #expect(line.text.utf8.count == EditedLine.longest - 2)
  }

  @Test(arguments: [
    ("", 20, "> ", 2), ("abc", 20, "> abc", 5), ("abc\u{2}", 20, "> abc", 4), ("abc\u{1}", 20, "> abc", 2),
    ("日本\u{2}", 20, "> 日本", 4), ("e\u{301}\u{301}x", 20, "> e\u{301}\u{301}x", 4),
    // 19 columns, two of them the prompt's.
    ("0123456789abcdefg", 20, "> 0123456789abcdefg", 19),
    ("0123456789abcdefgh", 20, "> 123456789abcdefgh", 19),
    ("0123456789abcdefgh\u{1}", 20, "> 0123456789abcdefg", 2),
    // In the middle a third of the room is for what comes next.
    (
      "0123456789abcdefghijklmnopqrstuvwxyz\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}", 20,
      "> ghijklmnopqrstuvw", 14
    ),
    // Half of a wide character is not shown.
    ("日本語日本語日本語", 20, "> 本語日本語日本語", 18),
    ("日本語日本語日本語\u{1}", 20, "> 日本語日本語日本", 2),
    ("abc", 4, " bc", 3), ("abc", 1, "c", 1), ("日", 2, "", 0),
  ])
  func aRowShowsWhatIsAroundTheCursor(keys: String, width: Int, text: String, cursor: Int) {
    var line = EditedLine()
    var decoder = KeyDecoder()
    for key in keys.utf8.flatMap({ decoder.take($0) }) { _ = line.apply(key) }
    let row = line.row(prompt: "> ", width: width)
    #expect(row.text == text)
    #expect(row.cursor == cursor)
  }

  @Test func aPromptLeavesRoomAndSteersNothing() {
    var line = EditedLine()
    _ = line.apply(.text("x"))
    #expect(line.row(prompt: "a very long prompt indeed> ", width: 21).text == "t indeed> x")
    #expect(line.row(prompt: "\u{1b}[2J> ", width: 80).text == "\\u{1b}[2J> x")
  }
}

@Suite struct ColumnTests {
  @Test(arguments: [
    ("a", 1), ("é", 1), ("e\u{301}", 1), ("\u{20dd}", 0), ("\u{200b}", 0), ("\u{200d}", 0), ("\u{ad}", 1),
    ("日", 2), ("ｱ", 1), ("Ａ", 2),
    ("한", 2), ("\u{1112}\u{1161}\u{11ab}", 2), ("🙂", 2), ("☺", 1), ("⌚", 2), ("→", 1), ("🇩🇪", 2), ("—", 1),
    ("\u{3000}", 2), ("\u{e000}", 1),
    ("𠀀", 2), ("⠿", 1), ("│", 1), ("नमस्ते", 4),
  ])
  func scalarsTakeColumns(text: String, columns: Int) {
    #expect(text.columns == columns)
  }

  /// The C library, whose tables are its own, is the witness. It may know another version of Unicode.
  @Test func theCLibraryCountsAlike() throws {
    var different: [String] = []
    try withCLibraryColumns { witness in
      for value in UInt32(0x20)...0x3fffd {
        guard let scalar = Unicode.Scalar(value), !isUnassigned(scalar) else { continue }
        // What is newer (Unicode 16) or ambiguous.
        if [0x2630...0x2637, 0x268a...0x268f, 0x3248...0x324f, 0x1d300...0x1d376]
          .contains(where: { $0.contains(value) })
        {
          continue
        }
        if witness(scalar) >= 0, witness(scalar) != scalar.columns {
          different.append("\(String(value, radix: 16)): \(scalar.columns), not \(witness(scalar))")
        }
      }
    }
    #expect(different.count <= 10, "\(different.count): \(different.joined(separator: ", "))")
  }

  private func isUnassigned(_ scalar: Unicode.Scalar) -> Bool {
    [.unassigned, .control, .privateUse].contains(scalar.properties.generalCategory)
  }
}

/// Gives `body` the C library's opinion on columns; -1 for what it does not know. See: wcwidth(3), uselocale(3)
private func withCLibraryColumns<Result>(_ body: ((Unicode.Scalar) -> Int) throws -> Result) throws -> Result
{
  // Glibc's module does not import it.
  let wcwidth = unsafeBitCast(
    try #require(dlsym(nil, "wcwidth")), to: (@convention(c) (Int32) -> Int32).self)
  let locale = try #require(newlocale(1 << LC_CTYPE, "C.UTF-8", nil))
  let before = uselocale(locale)
  defer {
    _ = uselocale(before)
    freelocale(locale)
  }
  return try body { Int(wcwidth(Int32($0.value))) }
}

/// The same numbers in every run.
private struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

@Suite struct LineEditorTests {
  @Test func linesAreEditedAndShown() throws {
    let person = try Person()
    try person.sees { $0.row == ">" && $0.column == 2 }
    #expect(person.settings() != person.before)
    try person.press("helo\u{1b}[Dl")
    try person.sees { $0.row == "> hello" && $0.column == 6 }
    try person.press("\u{1b}[A")  // no history yet
    try person.sees { $0.bells == 1 && $0.row == "> hello" }
    try person.press("\r")
    #expect(try person.outcomes(1) == [.line("hello")])
    try person.sees { $0.lines.suffix(2) == ["> hello", ">"] }
    try person.press("\u{1b}[A\u{17}again\r")
    #expect(try person.outcomes(2).last == .line("again"))
    try person.press(control("P") + control("P") + "\r")
    #expect(try person.outcomes(3).last == .line("hello"))
    try person.press(control("L"))
    try person.sees { $0.lines == [">"] }
    try person.press("x" + control("C"))
    #expect(try person.outcomes(4).last == .interrupted)
    try person.sees { $0.lines.suffix(2) == ["> x^C", ">"] }
    try person.press(control("D"))
    #expect(try person.outcomes(5).last == .end)
    #expect(person.settings() == person.before)
  }

  @Test func theTerminalIsGivenBackBetweenTwoLines() throws {
    let gate = Gate()
    let person = try Person(between: { gate.pass() })
    try person.sees { $0.column == 2 }
    try person.press("one\r")
    #expect(try person.outcomes(1) == [.line("one")])
    _ = try Clock.poll { gate.isReached ? true : nil }
    #expect(person.settings() == person.before)
    // Typed while nobody reads: the kernel keeps it, and has its own idea of ctrl-D.
    try person.press("two\r" + control("D"))
    try person.sees { $0.lines.contains("two") }
    gate.open()
    #expect(try person.outcomes(3) == [.line("one"), .line("two"), .end])
    #expect(person.settings() == person.before)
  }

  @Test(arguments: ["one\rtwo\rthree", "one\ntwo\nthree", "one\r\ntwo\r\nthree"])
  func aPasteOfSeveralLinesIsSeveralLines(text: String) throws {
    let person = try Person()
    try person.sees { $0.column == 2 }
    try person.press(text)
    #expect(try person.outcomes(2) == [.line("one"), .line("two")])
    try person.sees { $0.lines.suffix(3) == ["> one", "> two", "> three"] }
    try person.press("\r" + control("D"))
    #expect(try person.outcomes(4).suffix(2) == [.line("three"), .end])
  }

  @Test func escapeAloneIsNotTheBeginningOfTheNextKey() throws {
    let person = try Person()
    try person.press("ab")
    try person.sees { $0.column == 4 }
    let position = person.bytes.count
    try person.press(escape)
    // The row is drawn as the key comes, and again when nothing followed.
    try person.sees { _ in person.bytes.dropFirst(position).filter { $0 == UInt8(ascii: "K") }.count == 2 }
    try person.press("[D")
    try person.sees { $0.row == "> ab[D" }
  }

  @Test func invalidBytesRingTheBell() throws {
    let person = try Person()
    try person.press("a")
    try person.sees { $0.row == "> a" && $0.bells == 0 }
    try person.press(bytes: [0xff, 0xc3])
    try person.sees { $0.row == "> a" && $0.bells == 1 }
    // A character may come in parts.
    try person.press(bytes: [0xa9])
    try person.sees { $0.row == "> aé" && $0.bells == 1 }
  }

  @Test func wideCharactersStandWhereTheyBelong() throws {
    let person = try Person()
    try person.press("日本e\u{301}🙂x")
    try person.sees { $0.row == "> 日本e\u{301}🙂x" && $0.column == 10 }
    try person.press("\u{1b}[D\u{1b}[D")
    try person.sees { $0.column == 7 }
    try person.press("\u{7f}")
    try person.sees { $0.row == "> 日本🙂x" && $0.column == 6 }
    try person.press("\u{1b}[D\u{1b}[3~\r")
    #expect(try person.outcomes(1) == [.line("日🙂x")])
  }

  @Test func aLongLineStaysInItsRow() throws {
    let person = try Person(width: 20)
    try person.sees(width: 20) { $0.column == 2 }
    try person.press("0123456789abcdefghijklmn")
    let screen = try person.sees(width: 20) { $0.row == "> 789abcdefghijklmn" && $0.column == 19 }
    #expect(!screen.overflowed && screen.lines.count == 1)
    try person.press(control("A"))
    try person.sees(width: 20) { $0.row == "> 0123456789abcdefg" && $0.column == 2 }
    // Larger and smaller, from the next key on.
    person.resize(to: 30)
    try person.press(control("E"))
    try person.sees(width: 30) { $0.row == "> 0123456789abcdefghijklmn" && $0.column == 26 }
    person.resize(to: 10)
    let position = person.bytes.count
    try person.press("o")
    let small = try person.sees(width: 10, from: position) { $0.column == 9 }
    #expect(small.row == "> ijklmno" && !small.overflowed)
    try person.press("\r")
    #expect(try person.outcomes(1) == [.line("0123456789abcdefghijklmno")])
  }

  @Test func candidatesAreListed() throws {
    let person = try Person(complete: { _ in ["add", "address", "日本"] })
    try person.press("\t")
    try person.sees { $0.bells == 1 }
    try person.press("\t")
    try person.sees { $0.lines == [">", "add      address  日本", ">"] }
    try person.press("a\t")
    try person.sees { $0.row == "> add" && $0.bells == 1 }
    try person.press("r\t")
    try person.sees { $0.row == "> address" && $0.column == 10 }
  }

  @Test func aListingFits() {
    let many = (0..<250).map { "name\($0)" }
    for width in [1, 10, 40, 200] {
      let lines = LineEditor.listing(many, width: width).components(separatedBy: "\r\n")
      #expect(lines.dropLast(2).allSatisfy { $0.count < max(width, 8) })
      #expect(lines.suffix(2) == ["and 50 more", ""])
    }
    #expect(LineEditor.listing(["a", "b", "c"], width: 7) == "a  b\r\nc\r\n")
  }

  @Test func ctrlZGivesTheTerminalBackAndTakesItAgain() throws {
    let person = try Person()
    try person.press("ab\u{1b}[D")
    try person.sees { $0.column == 3 }
    let taken = person.settings()
    try person.press(control("Z"))
    _ = try Clock.poll { person.settingsWhenSuspended == [person.before] ? true : nil }
    try person.sees { $0.row == "> ab" && $0.column == 3 }
    #expect(person.settings() == taken)
    try person.press("x\r")
    #expect(try person.outcomes(1) == [.line("axb")])
  }

  @Test func aTerminalThatHangsUpEndsTheInput() throws {
    let person = try Person()
    try person.press("half a line")
    try person.sees { $0.row == "> half a line" }
    person.hangUp()
    #expect(try person.outcomes(1) == [.end])
  }

  @Test func theTerminalIsGivenBackAfterAnError() throws {
    var other: (outside: Int32, inside: Int32) = (-1, -1)
    try #require(openpty(&other.outside, &other.inside, nil, nil, nil) == 0)
    // A terminal that cannot be written to.
    let unwritable = try Descriptor.open(
      try #require(destination(ofLink: "/proc/self/fd/\(other.inside)")), O_RDONLY | O_NOCTTY)
    defer {
      close(other.outside)
      close(other.inside)
    }
    let person = try Person(output: unwritable.number)
    let error = #expect(throws: SystemCallError.self) { try person.outcomes(1) }
    #expect(error?.call == "write" && error?.errno.rawValue == EBADF)
    #expect(person.settings() == person.before)
  }

  /// Another thread ends the process while this one waits for a key.
  @Test func theTerminalIsGivenBackAtExit() async {
    await #expect(processExitsWith: .exitCode(7)) {
      var (outside, inside): (Int32, Int32) = (-1, -1)
      guard openpty(&outside, &inside, nil, nil, nil) == 0 else { return }
      AtExit.terminal.withLock { $0 = (inside, Person.settings(of: inside)) }
      // Called after the editor's own, which comes later.
      atexit {
        let (terminal, before) = AtExit.terminal.withLock { $0 }
        if Person.settings(of: terminal) == before { _exit(7) }
      }
      let (input, before) = (inside, Person.settings(of: inside))
      Thread {
        _ = try? LineEditor(input: input, output: input, terminalType: "xterm").readLine(prompt: "> ")
      }
      .start()
      _ = try Clock.poll { Person.settings(of: input) != before ? true : nil }
      exit(0)
    }
  }

  @Test func aTerminalWithoutACursorGetsPlainLines() throws {
    let person = try Person(terminalType: "dumb")
    try person.press("plain\r")
    #expect(try person.outcomes(1) == [.line("plain")])
    #expect(person.settings() == person.before)
    #expect(try person.sees { $0.row == "" && $0.lines.count == 2 }.lines.first == "plain")
  }
}

@Suite struct PlainLineTests {
  /// All that an editor makes of bytes that come through a pipe, and what it writes itself.
  private func lines(_ bytes: [UInt8]) throws -> (outcomes: [String], written: [UInt8]) {
    let (input, source) = try Descriptor.pipe()
    let (sink, output) = try Descriptor.pipe()
    let reader = Descriptor(owning: input)
    let written = Descriptor(owning: sink)
    let writer = Thread {
      bytes.withUnsafeBytes { try? writeAll($0, to: source) }
      close(source)
    }
    writer.start()
    let editor = LineEditor(input: reader.number, output: output)
    var outcomes: [String] = []
    while true {
      do throws(SystemCallError) {
        let outcome = try editor.readLine(prompt: "> ")
        guard case .line(let line) = outcome else {
          #expect(outcome == .end)
          break
        }
        outcomes.append(line.utf8.count > 100 ? "\(line.utf8.count) bytes" : line)
      } catch {
        outcomes.append(error.description)
      }
    }
    #expect(try editor.readLine(prompt: "> ") == .end)
    close(output)
    var chunk = [UInt8](repeating: 0, count: 100)
    return (outcomes, Array(chunk[..<read(written.number, &chunk, chunk.count)]))
  }

  @Test(arguments: [
    ("", []), ("a", ["a"]), ("a\n", ["a"]), ("a\nb\n", ["a", "b"]), ("a\r\nb\r\n", ["a", "b"]),
    ("\n\na", ["", "", "a"]),
    ("a\rb\n", ["a\rb"]), ("日本 \u{1b}\t\n", ["日本 \u{1b}\t"]), ("\r\n", [""]),
  ])
  func linesComeAsTheyAre(text: String, expected: [String]) throws {
    let (outcomes, written) = try lines(Array(text.utf8))
    #expect(outcomes == expected)
    #expect(written == [])
  }

  @Test(arguments: [
    (0, "\n", true), (0, "\r\n", true), (0, "", true), (1, "\n", false), (1, "\r\n", false), (1, "", false),
    (500_000, "\n", false),
  ])
  func aLineHasALimit(more: Int, end: String, fits: Bool) throws {
    let long = [UInt8](repeating: 0x78, count: EditedLine.longest + more)
    let rest = end.isEmpty ? "" : "next\n"
    let outcomes = try lines(Array("first\n".utf8) + long + Array("\(end)\(rest)".utf8)).outcomes
    let expected =
      fits ? "1048576 bytes" : "read a line of more than 1048576 bytes: EMSGSIZE (Message too long)"
    #expect(outcomes == ["first", expected] + (end.isEmpty ? [] : ["next"]))
  }

  @Test func whatIsNoTextIsRefusedAndPassedOver() throws {
    let outcomes = try lines([0x61, 0x0a, 0xff, 0x0a, 0x62, 0x0a]).outcomes
    #expect(outcomes.count == 3 && outcomes.first == "a" && outcomes.last == "b")
    #expect(outcomes.dropFirst().first?.hasPrefix("read a line that is no UTF-8: EILSEQ") == true)
  }

  @Test func whatCannotBeReadIsAnError() throws {
    let folder = try Descriptor.open("/", O_RDONLY)
    let error = #expect(throws: SystemCallError.self) {
      try LineEditor(input: folder.number, output: 1).readLine(prompt: "> ")
    }
    #expect(error?.errno.rawValue == EISDIR)
  }
}

/// Holds a thread up until it is opened.
private final class Gate: Sendable {
  private let state = Mutex((isReached: false, isOpen: false))

  var isReached: Bool { state.withLock { $0.isReached } }
  func open() { state.withLock { $0.isOpen = true } }
  func pass() {
    state.withLock { $0.isReached = true }
    _ = try? Clock.poll { state.withLock { $0.isOpen } ? true : nil }
  }
}

/// What a function without a context is to find.
private enum AtExit {
  static let terminal = Mutex<(Int32, String)>((-1, ""))
}

/// What a terminal shows of the bytes written to it, as far as the editor makes use of one. Widths are the C library's.
private struct Screen {
  let width: Int
  /// A cell each; the second one of a wide character is empty.
  private var rows: [[String]] = [[]]
  private(set) var column = 0
  private(set) var bells = 0
  /// Whether anything was written beyond the last column.
  private(set) var overflowed = false

  init(_ bytes: [UInt8], width: Int, columns: (Unicode.Scalar) -> Int) {
    self.width = width
    var rest = String(decoding: bytes, as: UTF8.self).unicodeScalars[...]
    while let scalar = rest.popFirst() {
      switch scalar {
      case "\r": column = 0
      case "\n": rows.append([])
      case "\u{7}": bells += 1
      case "\u{1b}":
        let end = rest.dropFirst().firstIndex { (0x40...0x7e).contains($0.value) } ?? rest.endIndex
        let parameter = String(rest[..<end].dropFirst())
        let final = rest[end...].first
        rest = rest[end...].dropFirst()
        switch final {
        case "C": column = min(width - 1, column + (Int(parameter) ?? 1))
        case "K": change { cells, column in cells.removeLast(max(0, cells.count - column)) }
        case "H": column = 0
        case "J": rows = [[]]
        default: break  // the end of what came so far
        }
      default: put(scalar, columns: columns(scalar))
      }
    }
  }

  /// The row of the cursor, without the spaces at its end.
  var row: String { lines.last ?? "" }
  var lines: [String] {
    rows.map { row in
      let text = row.joined()
      return String(text[..<(text.lastIndex { $0 != " " }.map(text.index(after:)) ?? text.startIndex)])
    }
  }

  private mutating func put(_ scalar: Unicode.Scalar, columns: Int) {
    // What the kernel echoes of control characters is none of the editor's.
    if columns < 0 { return }
    if columns == 0 {
      change { cells, column in
        if column > 0, column <= cells.count { cells[column - 1].unicodeScalars.append(scalar) }
      }
      return
    }
    overflowed = overflowed || column + columns > width
    change { cells, column in
      while cells.count < column + columns { cells.append(" ") }
      cells[column] = String(scalar)
      for second in column + 1..<column + columns { cells[second] = "" }
    }
    column += columns
  }

  private mutating func change(_ body: (_ cells: inout [String], _ column: Int) -> Void) {
    guard var row = rows.popLast() else { return }
    body(&row, column)
    rows.append(row)
  }
}

/// A person at a terminal, with a thread that reads lines there until the input ends.
private final class Person {
  private final class Told: Sendable {
    struct Value {
      var outcomes: [Result<LineEditor.Outcome, SystemCallError>] = []
      var hasEnded = false
      var settingsWhenSuspended: [String] = []
    }
    let value = Mutex(Value())
  }

  private var terminal: Int32 = -1
  private var inside: Int32 = -1
  private let told = Told()
  private(set) var bytes: [UInt8] = []
  let before: String

  /// `between` is done after each line, while the terminal is not the editor's.
  init(
    width: UInt16 = 40, terminalType: String? = "xterm", output: Int32? = nil,
    between: @escaping @Sendable () -> Void = {},
    complete: @escaping @Sendable (String) -> [String] = { _ in [] }
  ) throws {
    var size = winsize(ws_row: 10, ws_col: width, ws_xpixel: 0, ws_ypixel: 0)
    try #require(openpty(&terminal, &inside, nil, nil, &size) == 0)
    _ = fcntl(terminal, F_SETFL, O_NONBLOCK)
    before = Self.settings(of: inside)
    let (inside, told) = (inside, told)
    Thread {
      let editor = LineEditor(input: inside, output: output ?? inside, terminalType: terminalType)
      editor.complete = complete
      editor.suspend = { told.value.withLock { $0.settingsWhenSuspended.append(Self.settings(of: inside)) } }
      while true {
        let outcome = Result { () throws(SystemCallError) in try editor.readLine(prompt: "> ") }
        told.value.withLock { $0.outcomes.append(outcome) }
        guard case .success(let value) = outcome, value != .end else { break }
        between()
      }
      told.value.withLock { $0.hasEnded = true }
    }.start()
    // What is pressed earlier is echoed by the kernel.
    if terminalType != "dumb", output == nil {
      try sees(width: Int(width)) { $0.row == ">" && $0.column == 2 }
    }
  }

  deinit {
    hangUp()
    // Its number must not become another file's while the thread uses it.
    if (try? Clock.poll { told.value.withLock { $0.hasEnded } ? true : nil }) != nil { close(inside) }
  }

  func hangUp() {
    if terminal >= 0 { close(terminal) }
    terminal = -1
  }

  func press(_ keys: String) throws { try press(bytes: Array(keys.utf8)) }

  func press(bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try writeAll($0, to: terminal) } }

  func resize(to width: UInt16) {
    var size = winsize(ws_row: 10, ws_col: width, ws_xpixel: 0, ws_ypixel: 0)
    _ = ioctl(terminal, UInt(TIOCSWINSZ), &size)
  }

  /// Waits until the screen is as wanted. `from`: only what was written after so many bytes counts.
  @discardableResult
  func sees(width: Int = 40, from: Int = 0, _ isWanted: (Screen) -> Bool) throws -> Screen {
    var last: Screen?
    do {
      return try Clock.poll(deadline: 10) {
        var chunk = [UInt8](repeating: 0, count: 65536)
        let count = read(terminal, &chunk, chunk.count)
        if count > 0 { bytes += chunk[..<count] }
        let screen = try withCLibraryColumns {
          Screen(Array(bytes.dropFirst(from)), width: width, columns: $0)
        }
        last = screen
        return isWanted(screen) ? screen : nil
      }
    } catch {
      Issue.record("the screen shows \(last?.lines ?? []), the cursor in column \(last?.column ?? -1)")
      throw error
    }
  }

  /// Waits for so many outcomes.
  func outcomes(_ count: Int) throws -> [LineEditor.Outcome] {
    try Clock.poll(deadline: 10) {
      let outcomes = told.value.withLock { $0.outcomes }
      return outcomes.count >= count ? try outcomes.map { try $0.get() } : nil
    }
  }

  func settings() -> String { Self.settings(of: inside) }
  var settingsWhenSuspended: [String] { told.value.withLock { $0.settingsWhenSuspended } }

  static func settings(of descriptor: Int32) -> String {
    var settings = termios()
    guard tcgetattr(descriptor, &settings) == 0 else { return "none" }
    return "\(settings)"
  }
}
