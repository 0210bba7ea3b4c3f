import CLinux
import Glibc
import SystemCalls
import TestSupport
import Testing

@testable import Contacts

// --- what a journal is made of, by hand ---

/// CRC-32C, a bit at a time. See: RFC 3720, appendix B.4
private func slowCheck(_ bytes: some Sequence<UInt8>) -> UInt32 {
  var crc = UInt32.max
  for byte in bytes {
    crc ^= UInt32(byte)
    var bit = 0
    while bit < 8 {
      crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1
      bit += 1
    }
  }
  return ~crc
}

private func header(version: UInt32 = 1, flags: UInt32 = 0) -> [UInt8] {
  let bytes = Array("contacts".utf8) + bigEndian(version) + bigEndian(flags)
  return bytes + bigEndian(slowCheck(bytes))
}

private func record(_ line: Line) -> [UInt8] {
  let bytes = bigEndian(line.clock) + fields(line.user, line.name, line.phone)
  return bytes + bigEndian(slowCheck(bytes))
}

private let headerSize = 20
private let recordSize = 540
private let inUse = "another server has it open; two may not share a journal"

private func sample(_ count: Int) -> [Line] {
  (0..<count).map { Line("user \($0 % 3)", "name \($0)", "+49 \($0)", clock: UInt32($0 + 1)) }
}

private func journalBytes(_ lines: [Line]) -> [UInt8] { lines.reduce(into: header()) { $0 += record($1) } }

/// A journal that is open, and what came out of it.
private final class Opened {
  let journal: Journal
  let findings: Journal.Findings
  let book = Book()

  // It may wait for whoever has it: a program that another test starts holds what is open here until its exec, and so the locks of
  // journals that were just closed.
  init(_ path: String, salvages: Bool = false, waits: Bool = true) throws {
    let end = Clock.now() + (waits ? 20 : 0)
    while true {
      do throws(JournalProblem) {
        (journal, findings) = try Journal.open(path, salvages: salvages, into: book)
        return
      } catch {
        guard case .inUse = error, Clock.now() < end else { throw error }
        Clock.pause()
      }
    }
  }

  func compact() throws -> Bool? { try journal.compact(book) }

  /// As a server does it: stages, writes, syncs, commits.
  func update(_ lines: [Line]) throws {
    for line in lines { _ = try book.stage(line) }
    var failure: SystemCallError?
    book.forEachStaged { change, entry in
      guard failure == nil else { return }
      do throws(SystemCallError) {
        try journal.append(entry, clock: change.clock, phone: change.phone)
      } catch { failure = error }
    }
    do {
      if let failure { throw failure }
      try journal.sync()
    } catch {
      book.rollBack()
      throw error
    }
    book.commit()
  }
}

private func write(_ bytes: [UInt8], to path: String) throws {
  let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
  try writeAll(bytes, to: file.number)
}

private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

/// A folder for one journal, which is not there yet.
/// One that is opened more than a thousand times is in memory, where there is such a file system: a disk that others are using
/// takes milliseconds for each sync.
private func withJournal(isOpenedOften: Bool = false, _ body: (String) throws -> Void) throws {
  let memory = "/dev/shm"
  let place = isOpenedOften && access(memory, W_OK) == 0 ? memory : "/tmp"
  try Place.withTemporaryFolder(in: place) { try body("\($0)/journal") }
}

/// What is said about a journal that does not open, and that it is left as it is; nil where it opens.
private func refusal(_ path: String, salvages: Bool = false, waits: Bool = true) -> String? {
  let before = contents(ofFile: path)
  let refusal = problem { _ = try Opened(path, salvages: salvages, waits: waits) }
  if refusal != nil { #expect(contents(ofFile: path) == before) }
  return refusal
}

@Suite struct ChecksumTests {
  private func inProcessor(_ bytes: some Collection<UInt8>) -> UInt32 {
    Array(bytes).withUnsafeBytes { bytes in
      guard clinux_has_crc32c() != 0, let start = bytes.baseAddress else { return slowCheck(bytes) }
      return ~clinux_crc32c(.max, start, UInt(bytes.count))
    }
  }

  private func byTable(_ bytes: [UInt8]) -> UInt32 {
    bytes.withUnsafeBytes { bytes in bytes.baseAddress.map { ~CRC32C.byTable(.max, $0, bytes.count) } ?? 0 }
  }

  private func check(_ bytes: [UInt8]) -> UInt32 {
    bytes.withUnsafeBytes { bytes in bytes.baseAddress.map { CRC32C.check($0, bytes.count) } ?? 0 }
  }

  /// RFC 3720, appendix B.4, whose bytes are in the order of the wire; the last is an iSCSI command, a read of 10 blocks.
  private static let known: [(bytes: [UInt8], check: UInt32)] = [
    (Array("123456789".utf8), 0xe306_9283),
    ([UInt8](repeating: 0, count: 32), 0x8a91_36aa), ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
    (Array(0..<32), 0x46dd_794e), ((0..<32).reversed(), 0x113f_db5c),
    (
      [0x01, 0xc0] + zeros(14) + [
        0x14, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0,
      ]
        + [2, 0, 0, 0, 0, 0, 0, 0], 0xd996_3a56
    ),
  ]

  @Test func knownValues() {
    for (bytes, value) in Self.known {
      #expect(slowCheck(bytes) == value)
      #expect(byTable(bytes) == value)
      #expect(inProcessor(bytes) == value)
      #expect(check(bytes) == value)
    }
  }

  @Test func allLengths() {
    var random = SplitMix(seed: 6)
    let bytes = (0..<616).map { _ in UInt8.random(in: 0...255, using: &random) }
    for count in 1...600 {
      // From odd addresses, too.
      let part = Array(bytes[(count % 16)...].prefix(count))
      let table = byTable(part)
      #expect(inProcessor(part) == table, "\(count) bytes")
      #expect(check(part) == table, "\(count) bytes")
      let shifted = bytes.withUnsafeBytes { bytes in
        bytes.baseAddress.map { CRC32C.check($0 + count % 16, count) }
      }
      #expect(shifted == table, "\(count) bytes")
      if count % 50 == 0 { #expect(slowCheck(part) == table, "\(count) bytes") }
    }
    #expect(CRC32C.byTable(.max, [0], 0) == .max)
    #expect(CRC32C.check([0], 0) == 0)
  }
}

@Suite struct JournalTests {
  @Test func theFileInBytes() throws {
    try withJournal { path in
      let lines = [
        Line("ann", "bob", "1", clock: 0x0102_0304), Line("é", "x", "12345678901234567890", clock: .max),
      ]
      let opened = try Opened(path)
      #expect(opened.findings.isNew)
      #expect(contents(ofFile: path) == header())
      try opened.update(lines)
      #expect(contents(ofFile: path) == header() + record(lines[0]) + record(lines[1]))
      #expect(opened.journal.length == UInt64(headerSize + 2 * recordSize))
      var status = stat()
      #expect(stat(path, &status) == 0)
      #expect(status.st_mode & 0o777 == 0o600)
    }
  }

  @Test func recordsComeBack() throws {
    try withJournal { path in
      var lines: [Line] = []
      // So many that they fill the buffer for writing, and the one for reading.
      for (round, count) in [1, 2, 600, 2500].enumerated() {
        let opened = try Opened(path)
        #expect(opened.findings.isNew == (round == 0))
        #expect(opened.findings.records == lines.count)
        #expect(opened.findings.tornBytes == 0)
        #expect(opened.findings.salvaged == nil)
        #expect(opened.book.lines == lines)
        #expect(!opened.journal.awaitsAnswer)
        let new = (0..<count).map {
          Line("\(round)", "name \($0)", "\($0)", clock: UInt32(lines.count + $0 + 1))
        }
        try opened.update(new)
        lines += new
      }
      let opened = try Opened(path)
      #expect(opened.book.lines == lines)
      #expect(opened.book.highestClock == UInt32(lines.count))
      #expect(opened.findings.records == lines.count)
    }
  }

  /// The last one of a contact counts; of equal clocks the larger phone number.
  @Test func aContactThatHasChanged() throws {
    try withJournal { path in
      let opened = try Opened(path)
      for (phone, clock) in [("1", 1), ("3", 2), ("2", 3), ("1", 7)] as [(String, UInt32)] {
        try opened.update([Line("a", "b", phone, clock: clock)])
      }
      try opened.update([Line("a", "b", "9", clock: 3)])
      try opened.update([Line("a", "b", "4", clock: 7), Line("a", "c", "1", clock: 5)])
      let again = Book()
      // Not while it is in use.
      let reader = try Descriptor.open(path, O_RDONLY)
      let scan = try JournalScan(reader.number, salvaging: false) { clock, contact in
        _ = again.stage(contact, clock: clock, from: nil, most: mostContacts)
      }
      again.commit()
      #expect(again.lines == [Line("a", "b", "4", clock: 7), Line("a", "c", "1", clock: 5)])
      #expect(again.lines == opened.book.lines)
      #expect(again.highestClock == 7)
      // What has won nothing was not written.
      #expect(scan.records == 6)
    }
  }

  /// What was appended is in the file when it is synced, and not shown as synced before.
  @Test func lengthIsWhatIsSynced() throws {
    try withJournal { path in
      let opened = try Opened(path)
      try opened.update(sample(3))
      let length = opened.journal.length
      for line in sample(600) {
        _ = try opened.book.stage(Line(line.user, line.name, "x", clock: line.clock + 9))
      }
      opened.book.forEachStaged { change, entry in
        try? opened.journal.append(entry, clock: change.clock, phone: change.phone)
      }
      #expect(opened.journal.length == length)
      try opened.journal.sync()
      #expect(opened.journal.length == length + UInt64(600 * recordSize))
      #expect(contents(ofFile: path)?.count == Int(opened.journal.length))
    }
  }

  // --- the end of the file ---

  @Test func cutAtEveryByte() throws {
    let lines = sample(6)
    let bytes = journalBytes(lines)
    try withJournal(isOpenedOften: true) { path in
      for end in headerSize + 3 * recordSize...bytes.count {
        try write(Array(bytes[..<end]), to: path)
        let whole = (end - headerSize) / recordSize
        let opened = try Opened(path)
        #expect(opened.book.count == whole, "cut at \(end)")
        #expect(opened.findings.records == whole, "cut at \(end)")
        #expect(opened.findings.tornBytes == UInt64((end - headerSize) % recordSize), "cut at \(end)")
        #expect(opened.journal.length == UInt64(headerSize + whole * recordSize), "cut at \(end)")
        if end % 90 == 0 {
          // It goes on where it was cut off.
          #expect(opened.book.lines == Array(lines[..<whole]))
          try opened.update(Array(lines[whole...]))
          #expect(contents(ofFile: path) == bytes, "cut at \(end)")
        }
      }
    }
  }

  /// A crash of the machine may leave blocks that were not written as zeros. Each block of the last records, and zeros behind.
  @Test func zerosAtTheEnd() throws {
    let lines = sample(40)
    let bytes = journalBytes(lines)
    try withJournal(isOpenedOften: true) { path in
      for block in stride(from: 512, to: bytes.count, by: 512) {
        for more in [0, 512, 100_000] {
          // Up to the file's end, which is inside a block; or blocks that were to be filled later.
          try write(Array(bytes[..<block]) + zeros(bytes.count - block + more), to: path)
          let whole = (block - headerSize) / recordSize
          let refusal = problem {
            let opened = try Opened(path)
            #expect(opened.findings.records == whole, "zeros from \(block) on")
            #expect(opened.findings.tornBytes == UInt64(bytes.count + more - headerSize - whole * recordSize))
            #expect(opened.book.lines == Array(lines[..<whole]))
          }
          #expect(refusal == nil, "zeros from \(block) on")
        }
      }
    }
  }

  /// Zeros with something behind them are no end.
  @Test func zerosInTheMiddle() throws {
    let bytes = journalBytes(sample(8))
    try withJournal(isOpenedOften: true) { path in
      for block in stride(from: 512, to: bytes.count - 1024, by: 512) {
        try write(Array(bytes[..<block]) + zeros(512) + bytes[(block + 512)...], to: path)
        let number = (block - headerSize) / recordSize
        let offset = headerSize + number * recordSize
        #expect(refusal(path)?.hasPrefix("record \(number + 1), at byte \(offset), is damaged") == true)
      }
      // Nor are zeros up to a last byte that is none.
      try write(bytes + zeros(2000) + [1], to: path)
      #expect(
        refusal(path)?.hasPrefix("record 9, at byte \(bytes.count), is damaged, and was written whole")
          == true)
    }
  }

  @Test func aTornHeader() throws {
    try withJournal(isOpenedOften: true) { path in
      for bytes in [header(), header(flags: 1)] {
        for end in 0..<headerSize {
          try write(Array(bytes[..<end]), to: path)
          let opened = try Opened(path)
          #expect(opened.findings.isNew)
          #expect(opened.findings.tornBytes == UInt64(end))
          #expect(!opened.journal.awaitsAnswer)
          #expect(contents(ofFile: path) == header())
          #expect(opened.journal.length == UInt64(headerSize))
        }
      }
      // Whole, and nothing behind it.
      try write(header(flags: 1), to: path)
      let opened = try Opened(path)
      #expect(!opened.findings.isNew)
      #expect(opened.journal.awaitsAnswer)
    }
  }

  // --- damage ---

  /// The fields of a record, and the bytes at their ends.
  private static let places = [0, 3, 4, 9, 10, 259, 260, 265, 515, 516, 519, 535, 536, 539]

  @Test func aFlippedBit() throws {
    let count = 7
    let bytes = journalBytes(sample(count))
    try withJournal(isOpenedOften: true) { path in
      for number in [0, 3, count - 1] {
        let offset = headerSize + number * recordSize
        let places = number == 3 ? Self.places : Array(stride(from: 0, to: recordSize, by: 3)) + Self.places
        for place in places {
          var damaged = bytes
          damaged[offset + place] ^= 1 << UInt8(place % 8)
          try write(damaged, to: path)
          let end = number < count - 1 ? "and intact ones follow it" : "and was written whole"
          #expect(
            refusal(path) == "record \(number + 1), at byte \(offset), is damaged, \(end); "
              + "--salvage keeps every intact record, and the file as it is aside", "byte \(place)")
        }
      }
    }
  }

  /// A record whose check is right, with fields that are not.
  @Test func anInvalidField() throws {
    try withJournal { path in
      for line in [
        Line("", "b", "1", clock: 1), Line("a", "b\u{7}", "1", clock: 1), Line("a", "b", "", clock: 1),
      ] {
        try write(header() + record(sample(1)[0]) + record(line) + record(sample(2)[1]), to: path)
        #expect(
          refusal(path)?.hasPrefix("record 2, at byte 560, is damaged, and intact ones follow it") == true)
      }
    }
  }

  @Test func aDamagedHeader() throws {
    let bytes = journalBytes(sample(2))
    try withJournal(isOpenedOften: true) { path in
      for place in 0..<headerSize {
        for bit: UInt8 in 0..<8 {
          var damaged = bytes
          damaged[place] ^= 1 << bit
          try write(damaged, to: path)
          #expect(
            refusal(path)
              == "the header, its first 20 bytes, is damaged; --salvage keeps every intact record, "
              + "and the file as it is aside", "bit \(bit) of byte \(place)")
        }
      }
    }
  }

  @Test func whatIsNoJournal() throws {
    try withJournal { path in
      let others: [(bytes: [UInt8], why: String)] = [
        (Array("127.0.0.1 localhost\n".utf8), "it does not begin with \"contacts\""),
        ([0x7f], "it does not begin with \"contacts\""),
        (Array(repeating: 0x20, count: 5000), "it does not begin with \"contacts\""),
        (header(version: 2) + record(sample(1)[0]), "its version is 2, and 1 is known"),
        (header(version: 2), "its version is 2, and 1 is known"),
        (header(flags: 2), "it has flags that this version does not know"),
      ]
      for (bytes, why) in others {
        try write(bytes, to: path)
        // Not even a salvage touches it.
        for salvages in [false, true] {
          #expect(refusal(path, salvages: salvages) == "is no journal of contacts: \(why)")
        }
      }
      unlink(path)
      #expect(mkfifo(path, 0o600) == 0)
      #expect(problem { _ = try Opened(path) } == "is no journal of contacts: it is no regular file")
      unlink(path)
      mkdir(path, 0o700)
      #expect(problem { _ = try Opened(path) } == "open \(path): EISDIR (Is a directory)")
      #expect(problem { _ = try Opened("\(path)/none/journal") }?.contains("ENOENT") == true)
    }
  }

  // --- one owner ---

  @Test func itIsInUse() throws {
    try withJournal { path in
      let torn = journalBytes(sample(2)) + [1, 2, 3]
      let opened = try Opened(path)
      try opened.update(sample(2))
      try withExtendedLifetime(opened) {
        // What is written behind its back shows that the second does not touch it.
        let file = try Descriptor.open(path, O_WRONLY | O_APPEND)
        try writeAll([1, 2, 3], to: file.number)
        for salvages in [false, true] {
          #expect(refusal(path, salvages: salvages, waits: false) == inUse)
        }
        #expect(contents(ofFile: path) == torn)
      }
    }
    try withJournal { path in
      var opened: Opened? = try Opened(path)
      #expect(refusal(path, waits: false) == inUse)
      try opened?.update(sample(1))
      opened = nil
      #expect(try Opened(path).book.lines == sample(1))
    }
  }

  // --- a full disk ---

  /// A file system of 64 KiB, for as long as `body` runs.
  private func withSmallDisk(_ body: (String) throws -> Void) throws {
    try Place.withTemporaryFolder { folder in
      try systemCall("mount", folder) { mount("tmpfs", folder, "tmpfs", 0, "size=64k") }
      defer { umount2(folder, Int32(MNT_DETACH)) }
      try body(folder)
    }
  }

  @Test(.enabled(if: Privilege.isRoot)) func aFullDisk() throws {
    try withSmallDisk { folder in
      let path = "\(folder)/journal"
      let opened = try Opened(path)
      var lines: [Line] = []
      func isSynced() {
        #expect(opened.journal.length == UInt64(headerSize + lines.count * recordSize))
        #expect(contents(ofFile: path) == journalBytes(lines))
        #expect(opened.book.lines == lines)
      }
      func fails(_ lines: [Line]) {
        let problem = problem { try opened.update(lines) }
        #expect(problem?.contains("ENOSPC") == true)
      }
      let all = sample(2000)
      try opened.update(Array(all[..<10]))
      lines = Array(all[..<10])
      // A batch that does not fit, and one that is so large that it fails before the sync.
      fails(Array(all[10..<200]))
      isSynced()
      fails(Array(all[10..<1500]))
      isSynced()
      // One by one, until there is no room for another.
      while lines.count < 200 {
        guard problem({ try opened.update([all[lines.count]]) }) == nil else { break }
        lines.append(all[lines.count])
      }
      #expect(lines.count > 100 && lines.count < 200)
      isSynced()
      fails([all[lines.count]])
      #expect(problem { try opened.journal.tryAgain(opened.book) }?.contains("ENOSPC") == true)
      isSynced()
      // Room is made.
      try systemCall("mount", folder) { mount("tmpfs", folder, "tmpfs", UInt(MS_REMOUNT), "size=256k") }
      try opened.journal.tryAgain(opened.book)
      #expect(contents(ofFile: path) == journalBytes(lines + [lines[0]]))
      try opened.update(Array(all[lines.count..<300]))
      #expect(opened.book.lines == Array(all[..<300]))
      #expect(contents(ofFile: path) == journalBytes(lines + [lines[0]] + all[lines.count..<300]))
    }
  }

  /// A compaction for which there is no room is given up, and nothing is lost by it.
  @Test(.enabled(if: Privilege.isRoot), arguments: [36, 39]) func aFullDiskWhileItIsCompacted(count: Int)
    throws
  {
    try withSmallDisk { folder in
      let path = "\(folder)/journal"
      let opened = try Opened(path)
      for clock in 1...3 as ClosedRange<UInt32> {
        try opened.update(sample(count).map { Line($0.user, $0.name, "\(clock)", clock: clock) })
      }
      let bytes = contents(ofFile: path)
      opened.journal.compactsFrom = 10_000
      // Of 39, each three times, there is no room for another's header.
      if count < 39 { #expect(try opened.compact() == false) }
      #expect(problem { _ = try opened.compact() }?.contains("ENOSPC") == true)
      #expect(!exists(path + ".compacted"))
      #expect(contents(ofFile: path) == bytes)
      #expect(!opened.journal.wantsCompaction(opened.book))
      #expect(try opened.compact() == nil)
      try opened.update([Line("a", "b", "1", clock: 9)])
      #expect(contents(ofFile: path) == (bytes ?? []) + record(Line("a", "b", "1", clock: 9)))
    }
  }
}

@Suite struct SalvageTests {
  private let lines = sample(9)

  /// Whether a record is anywhere in some bytes.
  private func stands(_ record: [UInt8], in bytes: [UInt8]) -> Bool {
    bytes.withUnsafeBytes { bytes in
      guard let start = bytes.baseAddress, bytes.count >= recordSize else { return false }
      return (0...bytes.count - recordSize).contains { memcmp(start + $0, record, recordSize) == 0 }
    }
  }

  /// Salvages a file; what has to come out of it is what stands in it whole.
  private func salvage(_ damaged: [UInt8], hasHeader: Bool = true, _ what: String) throws {
    let intact = lines.filter { stands(record($0), in: damaged) }
    try withJournal(isOpenedOften: true) { path in
      try write(damaged, to: path)
      let reason = refusal(path)
      #expect(
        reason?.contains("--salvage keeps every intact record") == true, "\(what): \(reason ?? "opened")")
      do {
        let opened = try Opened(path, salvages: true)
        #expect(opened.book.lines == intact, "\(what)")
        #expect(opened.findings.records == intact.count, "\(what)")
        #expect(opened.findings.salvaged?.aside == path + ".damaged", "\(what)")
        let lost = damaged.count - (hasHeader ? headerSize : 0) - intact.count * recordSize
        #expect(opened.findings.salvaged?.bytes == UInt64(lost), "\(what)")
        #expect(contents(ofFile: path + ".damaged") == damaged, "\(what)")
        #expect(!exists(path + ".compacted"))
        #expect(opened.journal.awaitsAnswer)
        let good = intact.reduce(into: header(flags: 1)) { $0 += record($1) }
        #expect(contents(ofFile: path) == good, "\(what)")
        #expect(opened.journal.length == UInt64(good.count), "\(what)")
        #expect(refusal(path, waits: false) == inUse)
        try opened.update([Line("new", "one", "1", clock: 99)])
      }
      let again = try Opened(path)
      #expect(again.book.lines == intact + [Line("new", "one", "1", clock: 99)], "\(what)")
    }
  }

  @Test func flippedBits() throws {
    let bytes = journalBytes(lines)
    for (record, place) in [(0, 0), (4, 5), (4, 300), (4, 520), (4, 537), (8, 100)] {
      var damaged = bytes
      damaged[headerSize + record * recordSize + place] ^= 0x10
      try salvage(damaged, "record \(record), byte \(place)")
    }
    // Several of them, and a torn end.
    var damaged = bytes
    for record in [1, 2, 6] { damaged[headerSize + record * recordSize + 9] ^= 0x01 }
    try salvage(damaged, "three records")
    try salvage(Array(damaged.dropLast(77)), "three records, and torn")
  }

  @Test func insertedAndRemovedBytes() throws {
    let bytes = journalBytes(lines)
    var random = SplitMix(seed: 7)
    for count in [1, 5, 540, 1000] {
      for place in [0, 1, 100, 539] {
        let offset = headerSize + 4 * recordSize + place
        let noise = (0..<count).map { _ in UInt8.random(in: 1...255, using: &random) }
        try salvage(Array(bytes[..<offset]) + noise + bytes[offset...], "\(count) bytes inserted at \(place)")
        if count != recordSize {
          try salvage(
            Array(bytes[..<offset] + bytes[(offset + count)...]), "\(count) bytes removed at \(place)")
        }
      }
    }
    // A record that stands twice in it, the second time inside another.
    let inside =
      Array(bytes[..<(headerSize + 5 * recordSize + 200)]) + bytes[(headerSize + 6 * recordSize)...]
    try salvage(inside, "the end of a record is gone")
  }

  @Test func theHeader() throws {
    var damaged = journalBytes(lines)
    damaged[3] ^= 0x20
    try salvage(damaged, hasHeader: false, "the magic")
    damaged = journalBytes(lines)
    damaged[18] ^= 0x01
    try salvage(damaged, hasHeader: false, "the header's check")
    damaged[headerSize + 2 * recordSize + 99] ^= 0x01
    try salvage(damaged, hasHeader: false, "the header's check and a record")
  }

  /// More than is read at once.
  @Test func aLargeOne() throws {
    let many = (0..<5000).map { Line("user", "name \($0)", "\($0)", clock: 1) }
    var bytes = journalBytes(many)
    let damaged = [0, 2046, 2047, 2048, 4095, 4096, 4999]
    for number in damaged { bytes[headerSize + number * recordSize + 300] ^= 0x80 }
    try withJournal { path in
      try write(bytes, to: path)
      #expect(refusal(path)?.hasPrefix("record 1, at byte 20, is damaged, and intact ones follow it") == true)
      let opened = try Opened(path, salvages: true)
      #expect(opened.book.lines == many.enumerated().filter { !damaged.contains($0.offset) }.map(\.element))
      #expect(opened.findings.salvaged?.bytes == UInt64(damaged.count * recordSize))
    }
  }

  /// An intact one, and a torn one, are opened as always.
  @Test func nothingToSalvage() throws {
    try withJournal { path in
      for tail in [[], [1, 2, 3] as [UInt8]] {
        try write(journalBytes(lines) + tail, to: path)
        let opened = try Opened(path, salvages: true)
        #expect(opened.findings.salvaged == nil)
        #expect(opened.findings.tornBytes == UInt64(tail.count))
        #expect(!opened.journal.awaitsAnswer)
        #expect(opened.book.lines == lines)
        #expect(!exists(path + ".damaged"))
      }
    }
  }

  @Test func anAnswerIsAwaited() throws {
    try withJournal { path in
      for number in 1...3 {
        var damaged = journalBytes(lines)
        damaged[headerSize + recordSize * number] ^= 0x01
        try write(damaged, to: path)
        let aside = path + ".damaged" + (number == 1 ? "" : "-\(number)")
        #expect(try Opened(path, salvages: true).findings.salvaged?.aside == aside)
        #expect(contents(ofFile: aside) == damaged)
      }
      for _ in 0..<2 {
        let opened = try Opened(path)
        #expect(opened.journal.awaitsAnswer)
        #expect(opened.findings.salvaged == nil)
        try opened.update([Line("more", "\(opened.book.count)", "1", clock: 50)])
      }
      do {
        let opened = try Opened(path)
        try opened.journal.noteAnswered()
        #expect(!opened.journal.awaitsAnswer)
        #expect(contents(ofFile: path)?.starts(with: header()) == true)
        // It goes on at the end of the file.
        try opened.update([Line("more", "last", "1", clock: 60)])
        try opened.journal.noteAnswered()
      }
      let opened = try Opened(path)
      #expect(!opened.journal.awaitsAnswer)
      #expect(opened.book.count == lines.count - 1 + 3)
      #expect(opened.book.value(user: "more", name: "last")?.clock == 60)
    }
  }
}

@Suite struct CompactionTests {
  /// So many that a compaction takes several steps, and changes of them: three records for each that is alive.
  private func grown(_ path: String, count: Int) throws -> Opened {
    let opened = try Opened(path)
    for clock in 1...3 as ClosedRange<UInt32> {
      try opened.update((0..<count).map { Line("user", "name \($0)", "\(clock)", clock: clock) })
    }
    return opened
  }

  @Test func whenItIsWanted() throws {
    try withJournal { path in
      let opened = try Opened(path)
      opened.journal.compactsFrom = 10_000
      #expect(try opened.compact() == nil)
      // 18 alive and 18 dead are 19,460 bytes: the header makes them more than twice what is alive.
      for clock in 1...2 as ClosedRange<UInt32> {
        try opened.update(sample(18).map { Line($0.user, $0.name, "\(clock)", clock: clock) })
        #expect(opened.journal.wantsCompaction(opened.book) == (clock == 2))
      }
      // Below the limit it is not.
      opened.journal.compactsFrom = opened.journal.length
      #expect(!opened.journal.wantsCompaction(opened.book))
      opened.journal.compactsFrom = opened.journal.length - 1
      #expect(opened.journal.wantsCompaction(opened.book))
      #expect(try opened.compact() == false)
      #expect(!opened.journal.wantsCompaction(opened.book))
      #expect(try opened.compact() == true)
      #expect(try opened.compact() == nil)
      #expect(contents(ofFile: path) == journalBytes(opened.book.lines))
    }
    // Where nothing is said it is 64 MiB.
    try withJournal { path in
      let opened = try Opened(path)
      #expect(opened.journal.compactsFrom == 67_108_864)
    }
  }

  /// Contents are equal before and after, whatever comes between the steps.
  @Test(arguments: [false, true]) func theSameContents(hasUpdates: Bool) throws {
    var random = SplitMix(seed: 8)
    try withJournal { path in
      let opened = try grown(path, count: 8000)
      var inode: ino_t { inodeOf(path) }
      let (length, before) = (opened.journal.length, inode)
      opened.journal.compactsFrom = 1 << 20
      var steps = 0
      var clock: UInt32 = 10
      while try opened.compact() == false {
        steps += 1
        #expect(inode == before)
        #expect(steps < 100)
        // So much at one point that it takes more than one step to copy it.
        for _ in 0..<(!hasUpdates ? 0 : steps == 2 ? 12 : 1) {
          clock += 1
          try opened.update(
            (0..<700).map { _ in
              Line("user", "name \(Int.random(in: 0..<4000, using: &random))", "\(clock)", clock: clock)
            })
        }
      }
      #expect(steps >= 2)
      #expect(inode != before)
      #expect(!exists(path + ".compacted"))
      let lines = opened.book.lines
      if !hasUpdates {
        #expect(opened.journal.length == UInt64(headerSize + lines.count * recordSize))
        #expect(opened.journal.length < length / 2)
        #expect(contents(ofFile: path) == journalBytes(lines))
      }
      #expect(contents(ofFile: path)?.count == Int(opened.journal.length))
      // The new file is the one that is owned, and written to.
      #expect(refusal(path, waits: false) == inUse)
      try opened.update([Line("the", "last", "1", clock: 1000)])
      let again = Book()
      let reader = try Descriptor.open(path, O_RDONLY)
      _ = try JournalScan(reader.number, salvaging: false) { clock, contact in
        _ = again.stage(contact, clock: clock, from: nil, most: mostContacts)
      }
      again.commit()
      #expect(Set(again.lines) == Set(lines + [Line("the", "last", "1", clock: 1000)]))
      #expect(again.count == lines.count + 1)
    }
  }

  private func inodeOf(_ path: String) -> ino_t {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_ino : 0
  }

  /// A crash in the middle of one: the old file is whole, and what was begun is removed.
  @Test func aCrashInTheMiddle() throws {
    try withJournal { path in
      let lines = sample(3)
      try write(journalBytes(lines), to: path)
      try write(Array(journalBytes(sample(2)).dropLast(9)), to: path + ".compacted")
      let opened = try Opened(path)
      #expect(!exists(path + ".compacted"))
      #expect(opened.book.lines == lines)
    }
    try withJournal { path in
      var opened: Opened? = try grown(path, count: 30)
      opened?.journal.compactsFrom = 0
      #expect(try opened?.compact() == false)
      #expect(exists(path + ".compacted"))
      // It is not waited for.
      opened = nil
      #expect(!exists(path + ".compacted"))
      #expect(try Opened(path).book.lines.map(\.clock) == Array(repeating: 3, count: 30))
    }
  }

  /// Where it cannot be begun the journal is as it was, and it is not tried again at once.
  @Test func itCannotBeBegun() throws {
    try withJournal { path in
      let opened = try grown(path, count: 30)
      let (bytes, length) = (contents(ofFile: path), opened.journal.length)
      opened.journal.compactsFrom = 1000
      mkdir(path + ".compacted", 0o700)
      #expect(problem { _ = try opened.compact() }?.contains("EISDIR") == true)
      #expect(contents(ofFile: path) == bytes)
      #expect(opened.journal.compactsFrom == length + 67_108_864)
      #expect(try opened.compact() == nil)
    }
  }

  /// Between the steps an answer has come, after a salvage: it is not forgotten with the old file; before, the wait is not.
  @Test(arguments: [false, true]) func anAnswerBetweenTheSteps(comes: Bool) throws {
    try withJournal { path in
      try write(header(flags: 1), to: path)
      do {
        let opened = try grown(path, count: 30)
        opened.journal.compactsFrom = 1000
        #expect(try opened.compact() == false)
        if comes { try opened.journal.noteAnswered() }
        let end = Clock.now() + 20
        while try opened.compact() == false, Clock.now() < end {}
        #expect(opened.journal.length == UInt64(headerSize + 30 * recordSize))
      }
      #expect(try Opened(path).journal.awaitsAnswer == !comes)
    }
  }
}
