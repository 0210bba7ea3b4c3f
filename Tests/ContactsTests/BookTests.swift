import Glibc
import TestSupport
import Testing

@testable import Contacts

@Suite struct StagingTests {
  @Test func whatIsStagedIsShownToNobody() throws {
    let book = Book()
    #expect(try book.stage(Line("ann", "bob", "1", clock: 5)) == .staged)
    #expect(book.hasStaged)
    #expect((book.count, book.wholeCount, book.highestClock) == (0, 1, 0))
    #expect(book.value(user: "ann", name: "bob") == nil)
    #expect(book.lines == [])
    book.commit()
    #expect(!book.hasStaged)
    #expect((book.count, book.wholeCount, book.highestClock) == (1, 1, 5))
    #expect(book.value(user: "ann", name: "bob") ?? (0, "") == (5, "1"))
    #expect(try book.stage(Line("ann", "bob", "2", clock: 6)) == .staged)
    #expect(book.lines == [Line("ann", "bob", "1", clock: 5)])
    #expect(book.highestClock == 5)
    book.commit()
    #expect(book.lines == [Line("ann", "bob", "2", clock: 6)])
    #expect(book.highestClock == 6)
    #expect(book.value(user: "ann", name: "ann") == nil)
    #expect(book.value(user: "", name: "") == nil)
  }

  /// Each contact once, with its last value, in the order in which they were staged first.
  @Test func whatIsHandedToTheJournal() throws {
    let book = Book()
    _ = try book.stage(Line("a", "old", "1", clock: 1))
    book.commit()
    _ = try book.stage(Line("a", "new", "2", clock: 2), from: 7)
    _ = try book.stage(Line("a", "old", "3", clock: 3), from: 7)
    _ = try book.stage(Line("a", "new", "4", clock: 4), from: 8)
    #expect(try book.stage(Line("a", "new", "5", clock: 3), from: 9) == .nothing)
    func line(_ change: Book.Staged, _ entry: Entry) -> (String, UInt32, LinkID?, Bool) {
      let phone = withUnsafeBytes(of: change.phone) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      return (
        String(decoding: entry.user, as: UTF8.self) + String(decoding: entry.name, as: UTF8.self) + phone,
        change.clock, change.source, change.isNew
      )
    }
    var staged: [(String, UInt32, LinkID?, Bool)] = []
    book.forEachStaged { staged.append(line($0, $1)) }
    var committed: [(String, UInt32, LinkID?, Bool)] = []
    book.commit { committed.append(line($0, $1)) }
    for lines in [staged, committed] {
      #expect(lines.map(\.0) == ["anew4", "aold3"])
      #expect(lines.map(\.1) == [4, 3])
      #expect(lines.map(\.2) == [8, 7])
      #expect(lines.map(\.3) == [true, false])
    }
    book.forEachStaged { _, _ in Issue.record("something is left") }
  }

  @Test func whatIsRolledBackWasNever() throws {
    let book = Book()
    _ = try book.stage(Line("a", "b", "1", clock: 1))
    book.commit()
    for _ in 0..<3 {
      _ = try book.stage(Line("a", "b", "2", clock: 9))
      _ = try book.stage(Line("a", "c", "3", clock: 10))
      book.rollBack()
      #expect(!book.hasStaged)
      #expect((book.count, book.wholeCount, book.highestClock) == (1, 1, 1))
      #expect(book.value(user: "a", name: "c") == nil)
      #expect(book.lines == [Line("a", "b", "1", clock: 1)])
    }
    // What was forgotten wins over nothing: a smaller clock is taken.
    #expect(try book.stage(Line("a", "b", "4", clock: 2)) == .staged)
    #expect(try book.stage(Line("a", "c", "5", clock: 1)) == .staged)
    book.commit()
    #expect(book.lines == [Line("a", "b", "4", clock: 2), Line("a", "c", "5", clock: 1)])
    book.rollBack()
    #expect(book.count == 2)
  }

  @Test func noRoom() throws {
    let book = Book()
    #expect(try book.stage(Line("a", "1", "1", clock: 1), most: 2) == .staged)
    book.commit()
    #expect(try book.stage(Line("a", "2", "1", clock: 1), most: 2) == .staged)
    // What is staged takes room, too; what has its room may change.
    #expect(try book.stage(Line("a", "3", "1", clock: 1), most: 2) == .noRoom)
    #expect(try book.stage(Line("a", "1", "2", clock: 2), most: 2) == .staged)
    #expect(try book.stage(Line("a", "2", "2", clock: 2), most: 2) == .staged)
    book.rollBack()
    #expect(try book.stage(Line("a", "3", "1", clock: 1), most: 2) == .staged)
    book.commit()
    #expect(try book.stage(Line("a", "2", "1", clock: 1), most: 2) == .noRoom)
    #expect(book.lines.map(\.name) == ["1", "3"])
  }

  private static let ties:
    [(old: (UInt32, String), new: (UInt32, String), wins: Bool, winsWithoutTies: Bool)] = [
      ((5, "1"), (6, "1"), true, true), ((5, "9"), (6, "1"), true, true), ((5, "1"), (4, "9"), false, false),
      ((5, "1"), (5, "1"), false, false), ((5, "1"), (5, "2"), true, false),
      ((5, "2"), (5, "1"), false, false),
      // As bytes, from the left: a longer one is larger than its own beginning, and no number is a number here.
      ((5, "1"), (5, "11"), true, false), ((5, "11"), (5, "1"), false, false),
      ((5, "9"), (5, "10"), false, false),
      ((5, "z"), (5, "é"), true, false), ((5, "é"), (5, "z"), false, false),
      // Composed (C3 A9) and decomposed (65 CC 81), equal as Strings.
      ((5, "e\u{301}"), (5, "\u{e9}"), true, false), ((5, "\u{e9}"), (5, "e\u{301}"), false, false),
      ((.max - 1, "1"), (.max, "1"), true, true), ((.max, "1"), (0, "9"), false, false),
      ((0x7fff_ffff, "1"), (0x8000_0000, "1"), true, true),
    ]

  @Test func whoWins() throws {
    for (old, new, wins, winsWithoutTies) in Self.ties {
      for isCommitted in [true, false] {
        for breaksTies in [true, false] {
          let book = Book()
          _ = try book.stage(Line("a", "b", old.1, clock: old.0))
          if isCommitted { book.commit() }
          let isTaken = breaksTies ? wins : winsWithoutTies
          let change = try book.stage(Line("a", "b", new.1, clock: new.0), breaksTies: breaksTies)
          #expect(change == (isTaken ? .staged : .nothing), "\(old) \(new)")
          book.commit()
          let (clock, phone) = isTaken ? new : old
          let value = try #require(book.value(user: "a", name: "b"))
          // Not as Strings, to which composed and decomposed are one.
          #expect((value.clock, Array(value.phone.utf8)) == (clock, Array(phone.utf8)), "\(old) \(new)")
        }
      }
    }
  }

  /// The comparison of phone numbers, eight bytes at a time, against one byte by byte.
  @Test func phonesAreComparedAsBytes() {
    var random = SplitMix(seed: 4)
    func phone(_ bytes: [UInt8]) -> Phone { bytes.withUnsafeBytes { Phone($0) } }
    for round in 0..<4000 {
      var one = (0..<20).map { _ in UInt8.random(in: 1...255, using: &random) }
      var other = one
      if round % 2 == 0 {
        other[Int.random(in: 0..<20, using: &random)] = UInt8.random(in: 1...255, using: &random)
      }
      if round % 3 == 0 { one.removeLast(Int.random(in: 0..<20, using: &random)) }
      if round % 5 == 0 { other.removeLast(Int.random(in: 0..<20, using: &random)) }
      #expect((phone(one) > phone(other)) == other.lexicographicallyPrecedes(one))
      #expect((phone(one) == phone(other)) == (one == other))
    }
  }

  /// Keys are bytes: what is equal as a `String` may be two contacts, and so may what is equal where the two parts are put together.
  @Test func keysAreComparedAsBytes() throws {
    let book = Book()
    let keys = [
      ("\u{e9}", "x"), ("e\u{301}", "x"), ("x", "\u{e9}"), ("x", "e\u{301}"), ("ab", "c"), ("a", "bc"),
      ("A", "bc"),
      // The Kelvin sign and K, which are equal as Strings.
      ("\u{212a}", "k"), ("K", "k"),
    ]
    for (place, key) in keys.enumerated() {
      #expect(try book.stage(Line(key.0, key.1, "\(place)", clock: 1)) == .staged)
    }
    // Each entry knows its own key among them, whatever their hashes are.
    let contacts = try keys.map { try Contact(user: $0.0, name: $0.1, phone: "1") }
    var own: [[Int]] = []
    book.forEachStaged { _, entry in
      own.append(contacts.indices.filter { contacts[$0].withView { entry.hasKey($0.user, $0.name) } })
    }
    #expect(own == keys.indices.map { [$0] })
    // Lengths count, even where the bytes behind the end of a shorter name would do: "ab" and "b", of "abbc", for "a" and "bc".
    Array("abbc".utf8).withUnsafeBytes { bytes in
      let (user, name) = (bytes[..<2], bytes[2..<3])
      book.forEachStaged { _, entry in
        #expect(!entry.hasKey(UnsafeRawBufferPointer(rebasing: user), UnsafeRawBufferPointer(rebasing: name)))
      }
    }
    book.commit()
    #expect(book.count == keys.count)
    for (place, key) in keys.enumerated() {
      #expect(book.value(user: key.0, name: key.1)?.phone == "\(place)")
    }
    #expect(zip(book.all, keys).allSatisfy { $0.contact.user.elementsEqual($1.0.utf8) })
  }
}

/// Many contacts: the memory has several pieces, and the index has grown.
@Suite struct ManyContactsTests {
  private static let piece = 1 << 20

  /// Names of all lengths, so that pieces end at different places.
  private func line(_ number: Int, clock: UInt32 = 1) -> Line {
    let padding = String(repeating: "x", count: number * 37 % 250)
    return Line("\(number)", padding + "\(number % 10)", "\(number)", clock: clock)
  }

  private func fill(_ book: Book, _ numbers: Range<Int>, clock: UInt32 = 1) throws {
    for number in numbers { #expect(try book.stage(line(number, clock: clock)) == .staged) }
  }

  @Test func theyAreFound() throws {
    let book = Book()
    let count = 15_000
    try fill(book, 0..<count)
    book.commit()
    #expect(book.memory > 2 * Self.piece)
    #expect(book.count == count)
    #expect(book.lines == (0..<count).map { line($0) })
    for number in 0..<count {
      let line = line(number)
      #expect(book.value(user: line.user, name: line.name)?.phone == line.phone)
    }
    #expect(book.value(user: "\(count)", name: "x") == nil)
  }

  @Test func rolledBackAndAddedAgain() throws {
    let book = Book()
    try fill(book, 0..<6000)
    book.commit()
    let committed = book.lines
    let memory = book.memory
    var random = SplitMix(seed: 5)
    for round in 0..<5 {
      // New ones, up to several pieces of them, with changes of old ones between.
      let new = 6000..<6000 + [1, 40, 5000, 12_000, 3000][round]
      for number in new {
        #expect(try book.stage(line(number, clock: 7)) == .staged)
        if number % 5 == 0 {
          _ = try book.stage(line(Int.random(in: 0..<6000, using: &random), clock: UInt32(number)))
        }
      }
      #expect(book.wholeCount == new.upperBound)
      book.rollBack()
      #expect(book.lines == committed, "round \(round)")
      // A piece may be kept that nothing stands in now.
      #expect(book.memory <= memory + Self.piece)
      for number in [0, 2999, 5999] {
        let line = line(number)
        #expect(book.value(user: line.user, name: line.name) ?? (0, "") == (1, line.phone))
      }
      #expect(book.value(user: line(6000).user, name: line(6000).name) == nil)
    }
    // The same once more, the other way round, so that they stand elsewhere; this time to stay.
    for number in (6000..<12_000).reversed() { #expect(try book.stage(line(number, clock: 2)) == .staged) }
    book.commit()
    #expect(book.lines == committed + (6000..<12_000).reversed().map { line($0, clock: 2) })
    for number in 6000..<12_000 {
      let line = line(number)
      #expect(book.value(user: line.user, name: line.name) ?? (0, "") == (2, line.phone))
    }
  }

  /// A walk that began before there was more goes on with what has come since, and over the ends of pieces.
  @Test func anEntryAtTheEndOfAPiece() throws {
    // 36 bytes and 476 of names are 512: 2048 of them fill a piece to its last byte.
    let book = Book()
    let padding = String(repeating: "u", count: 256)
    func line(_ number: Int) -> Line {
      let digits = "\(number)"
      return Line(padding, String(repeating: "0", count: 220 - digits.count) + digits, digits, clock: 1)
    }
    for number in 0..<2048 { _ = try book.stage(line(number)) }
    book.commit()
    #expect(book.memory == Self.piece)
    var answer = BookAnswer(book, hasClocks: true)
    _ = try book.stage(line(2048))
    #expect(book.memory == 2 * Self.piece)
    book.rollBack()
    #expect(book.lines == (0..<2048).map { line($0) })
    for number in 2048..<2050 { _ = try book.stage(line(number)) }
    book.commit()
    #expect(book.lines == (0..<2050).map { line($0) })
    #expect(answer.size == 4 + 2048 * 536)
    #expect(taken(&answer, by: 100_000).count == answer.size)
    answer.close()
  }
}

/// All of an answer, in pieces.
private func taken(_ answer: inout BookAnswer, by size: Int) -> [UInt8] {
  var bytes: [UInt8] = []
  let room = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 1)
  defer { room.deallocate() }
  while !answer.isDone {
    let count = answer.fill(room)
    bytes += room[..<count]
    answer.take(count)
    if count == 0 { break }
  }
  return bytes
}

@Suite struct SnapshotTests {
  private func book(_ lines: Line...) throws -> Book {
    let book = Book()
    for line in lines { _ = try book.stage(line) }
    book.commit()
    return book
  }

  @Test func theAnswerInBytes() throws {
    let book = try book(
      Line("ann", "bob", "1", clock: 0x0102_0304), Line("é", "x", "12345678901234567890", clock: .max))
    let contacts = [fields("ann", "bob", "1"), fields("é", "x", "12345678901234567890")]
    for size in [1, 3, 4, 5, 531, 532, 535, 536, 537, 1000, 2000] {
      var listing = BookAnswer(book, hasClocks: false)
      #expect(taken(&listing, by: size) == [0, 0, 0, 2] + contacts[0] + contacts[1])
      listing.close()
      var answer = BookAnswer(book, hasClocks: true)
      #expect(
        taken(&answer, by: size) == [0, 0, 0, 2] + [1, 2, 3, 4] + contacts[0] + bigEndian(.max) + contacts[1])
      answer.close()
    }
    var empty = BookAnswer(Book(), hasClocks: true)
    #expect(taken(&empty, by: 100) == [0, 0, 0, 0])
    empty.close()
    #expect(book.keptCount == 0)
  }

  /// Where nothing has changed since, two share one.
  @Test func theyAreShared() throws {
    let book = try book(Line("a", "b", "1", clock: 1))
    let first = book.snapshot()
    #expect(book.snapshot() === first)
    // What changes nothing, and what is rolled back, is no change.
    #expect(try book.stage(Line("a", "b", "0", clock: 1)) == .nothing)
    book.commit()
    _ = try book.stage(Line("a", "c", "1", clock: 2))
    book.rollBack()
    #expect(book.snapshot() === first)
    _ = try book.stage(Line("a", "b", "2", clock: 2))
    book.commit()
    let later = book.snapshot()
    #expect(later !== first)
    #expect(book.keptCount == 1)
    // The newest is gone: the one before it is no picture of now.
    book.giveBack(later)
    let latest = book.snapshot()
    #expect(latest !== first)
    book.giveBack(latest)
    for _ in 0..<2 {
      book.giveBack(first)
      #expect(book.keptCount == 1)
    }
    book.giveBack(first)
    #expect(book.keptCount == 0)
  }

  /// What is overwritten is kept once for each time that it differs, and only for as long as somebody may read it.
  @Test func whatIsKept() throws {
    let book = try book(Line("a", "b", "1", clock: 1), Line("a", "c", "1", clock: 1))
    func change(_ name: String, _ clock: UInt32) throws {
      _ = try book.stage(Line("a", name, "\(clock)", clock: clock))
      book.commit()
    }
    try change("b", 2)
    #expect(book.keptCount == 0)
    let first = book.snapshot()
    try change("b", 3)
    try change("b", 4)
    #expect(book.keptCount == 1)
    let second = book.snapshot()
    try change("b", 5)
    try change("c", 6)
    #expect(book.keptCount == 3)
    // A new contact is in neither.
    try change("d", 7)
    try change("d", 8)
    #expect(book.keptCount == 3)
    let third = book.snapshot()
    try change("d", 9)
    #expect(book.keptCount == 4)
    // What the second has of "c" the first needs; its "b" it has itself. Of the third's "d" the second knows nothing.
    book.giveBack(second)
    #expect(book.keptCount == 3)
    book.giveBack(third)
    #expect(book.keptCount == 2)
    book.giveBack(first)
    #expect(book.keptCount == 0)
  }

  // --- against a model ---

  /// A book that is copied whole.
  private struct Model {
    var lines: [Line] = []
    var places: [[String]: Int] = [:]

    mutating func update(_ line: Line) {
      guard let place = places[[line.user, line.name]] else {
        places[[line.user, line.name]] = lines.count
        lines.append(line)
        return
      }
      let old = lines[place]
      let isLarger = Array(old.phone.utf8).lexicographicallyPrecedes(Array(line.phone.utf8))
      if line.clock > old.clock || line.clock == old.clock && isLarger { lines[place] = line }
    }

    func answer(hasClocks: Bool) -> [UInt8] {
      lines.reduce(into: bigEndian(UInt32(lines.count))) { bytes, line in
        if hasClocks { bytes += bigEndian(line.clock) }
        bytes += fields(line.user, line.name, line.phone)
      }
    }
  }

  /// One that is being read.
  private struct Reader {
    var answer: BookAnswer
    let expected: [UInt8]
    var bytes: [UInt8] = []
  }

  @Test(arguments: 1...12) func likeTheModel(seed: UInt64) throws {
    var random = SplitMix(seed: seed)
    let book = Book()
    var model = Model()
    var readers: [Reader] = []
    let names = (0..<Int.random(in: 2...40, using: &random)).map {
      "\($0)" + String(repeating: "n", count: $0 * 6)
    }
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 40_000, alignment: 16)
    defer { room.deallocate() }
    var readCount = 0
    for step in 0..<1500 {
      switch Int.random(in: 0..<10, using: &random) {
      case 0...2:
        // Some changes, which are committed, or rolled back.
        var next = model
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          let line = Line(
            ["ann", "bob"].randomElement(using: &random) ?? "", names.randomElement(using: &random) ?? "",
            "\(Int.random(in: 0...99, using: &random))",
            clock: UInt32.random(in: 0...UInt32(step / 4), using: &random))
          next.update(line)
          _ = try book.stage(line)
        }
        // Nobody sees what is staged.
        try read(&readers, room, &random)
        if Int.random(in: 0..<4, using: &random) == 0 {
          book.rollBack()
        } else {
          book.commit()
          model = next
        }
      case 3 where readers.count < 6:
        let hasClocks = Bool.random(using: &random)
        readers.append(
          Reader(answer: BookAnswer(book, hasClocks: hasClocks), expected: model.answer(hasClocks: hasClocks))
        )
        #expect(readers.last?.answer.size == readers.last?.expected.count)
      case 4 where Int.random(in: 0..<6, using: &random) == 0 && !readers.isEmpty:
        // One that is given up.
        readers.remove(at: Int.random(in: readers.indices, using: &random)).answer.close()
      default:
        try read(&readers, room, &random)
      }
      for place in readers.indices.reversed() where readers[place].answer.isDone {
        #expect(readers[place].bytes == readers[place].expected, "step \(step)")
        readers.remove(at: place).answer.close()
        readCount += 1
      }
      if readers.isEmpty { #expect(book.keptCount == 0) }
    }
    #expect(book.lines == model.lines)
    #expect(readCount > 10)
    for reader in readers.shuffled(using: &random) { reader.answer.close() }
    #expect(book.keptCount == 0)
  }

  /// A piece of one of them; not all of it may be taken.
  private func read(
    _ readers: inout [Reader], _ room: UnsafeMutableRawBufferPointer, _ random: inout SplitMix
  ) throws {
    guard !readers.isEmpty else { return }
    let place = Int.random(in: readers.indices, using: &random)
    let most = [3, 100, 537, 3000, room.count].randomElement(using: &random) ?? 0
    let piece = UnsafeMutableRawBufferPointer(rebasing: room[..<Int.random(in: 1...most, using: &random)])
    let from = readers[place].bytes.count
    #expect(readers[place].answer.left == readers[place].expected.count - from)
    let count = readers[place].answer.fill(piece)
    #expect(count == min(piece.count, readers[place].expected.count - from))
    // What is lent is right even where it is not taken.
    let isRight = readers[place].expected.withUnsafeBytes { expected in
      guard let own = expected.baseAddress, let lent = piece.baseAddress else { return false }
      return memcmp(own + from, lent, count) == 0
    }
    try #require(isRight)
    let part = Bool.random(using: &random) ? count : Int.random(in: 0...count, using: &random)
    readers[place].answer.take(part)
    readers[place].bytes += UnsafeRawBufferPointer(rebasing: piece[..<part])
  }
}
