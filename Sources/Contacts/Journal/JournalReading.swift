import Glibc
import SystemCalls

/// Why a journal cannot be used.
public enum JournalProblem: Error, Sendable, CustomStringConvertible {
  /// Something else stands in the file.
  case foreign(String)
  /// Records in the middle of it are not what was written.
  case damaged(record: Int, offset: UInt64, intactAfter: Bool)
  /// The header is not what was written.
  case damagedHeader
  /// Another server has it.
  case inUse
  case system(SystemCallError)

  public var description: String {
    switch self {
    case .foreign(let why): "is no journal of contacts: \(why)"
    case .damaged(let record, let offset, let intactAfter):
      "record \(record), at byte \(offset), is damaged"
        + (intactAfter ? ", and intact ones follow it" : ", and was written whole")
        + "; --salvage keeps every intact record, and the file as it is aside"
    case .damagedHeader:
      "the header, its first \(JournalFormat.headerSize) bytes, is damaged; --salvage keeps every intact record, "
        + "and the file as it is aside"
    case .inUse: "another server has it open; two may not share a journal"
    case .system(let error): "\(error)"
    }
  }
}

/// Goes through the records of a journal's file.
struct JournalScan {
  private(set) var awaitsAnswer = false
  /// Whole records that were handed on.
  private(set) var records = 0
  /// Where the last intact record ends: what follows is torn, and to be cut off.
  private(set) var end: UInt64 = 0
  /// The file's size.
  private(set) var size: UInt64 = 0
  /// Bytes that were passed over while records were looked for, in a salvage.
  private(set) var passedOver: UInt64 = 0

  private static let pieceSize = JournalFormat.recordSize * 2048

  /// Reads all of it.
  ///
  /// - Parameters:
  ///   - file: is read from its beginning.
  ///   - salvaging: goes on behind what is damaged, at the next intact record, wherever it stands.
  ///   - take: gets each intact record.
  /// - Throws: what is wrong with it.
  init(_ file: Int32, salvaging: Bool, _ take: (UInt32, ContactView) -> Void) throws(JournalProblem) {
    do throws(SystemCallError) {
      size = UInt64(try systemCall("lseek") { lseek(file, 0, SEEK_END) })
      try systemCall("lseek") { lseek(file, 0, SEEK_SET) }
    } catch { throw .system(error) }
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.pieceSize, alignment: 16)
    defer { room.deallocate() }
    guard let start = room.baseAddress else { return }
    var filled = 0
    var offset: UInt64 = 0
    var hasMore = true
    /// Moves what is left to the front, and reads behind it.
    func refill(from place: Int) throws(JournalProblem) {
      memmove(start, start + place, filled - place)
      filled -= place
      offset += UInt64(place)
      while hasMore, filled < room.count {
        do throws(SystemCallError) {
          let count = try systemCall("read") { read(file, start + filled, room.count - filled) }
          hasMore = count > 0
          filled += count
        } catch { throw .system(error) }
      }
    }
    try refill(from: 0)
    var place = try header(UnsafeRawBufferPointer(start: start, count: filled), salvaging)
    end = UInt64(place)
    let recordSize = JournalFormat.recordSize
    while true {
      if filled - place < recordSize, hasMore {
        try refill(from: place)
        place = 0
      }
      guard filled - place >= recordSize else { break }
      if let (clock, contact) = JournalFormat.record(at: start + place) {
        take(clock, contact)
        records += 1
        place += recordSize
        end = offset + UInt64(place)
        continue
      }
      if !salvaging {
        try judge(file, damagedAt: offset + UInt64(place))
        return
      }
      place += 1
      passedOver += 1
    }
    if salvaging { passedOver += UInt64(filled - place) }
  }

  /// Returns where the records begin.
  private mutating func header(_ bytes: UnsafeRawBufferPointer, _ salvaging: Bool) throws(JournalProblem)
    -> Int
  {
    let headerSize = JournalFormat.headerSize
    // A crash of the machine while it was made.
    if bytes.count <= headerSize, bytes.allSatisfy({ $0 == 0 }) { return 0 }
    for flag in [false, true] {
      let header = JournalFormat.header(awaitsAnswer: flag)
      if bytes.starts(with: header) {
        awaitsAnswer = flag
        return headerSize
      }
      // A crash while it was made.
      if bytes.count < headerSize, header.starts(with: bytes) { return 0 }
    }
    if salvaging { return 0 }
    guard bytes.starts(with: JournalFormat.magic) else {
      // One flipped bit in the magic does not make it something else.
      if bytes.count >= headerSize + JournalFormat.recordSize, let start = bytes.baseAddress,
        JournalFormat.record(at: start + headerSize) != nil
      {
        throw .damagedHeader
      }
      throw .foreign("it does not begin with \"contacts\"")
    }
    guard bytes.count >= headerSize else { throw .damagedHeader }
    let version = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
    let check = bytes.baseAddress.map { CRC32C.check($0, 16) } ?? 0
    guard UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self)) == check else {
      throw .damagedHeader
    }
    throw .foreign(
      version == JournalFormat.version
        ? "it has flags that this version does not know" : "its version is \(version), and 1 is known")
  }

  /// A record that is not whole is no loss: nobody has seen what was not synced. A crash of the machine leaves the blocks that it
  /// has not written as zeros, up to the file's end. Everything else was written, and is not what it was.
  private func judge(_ file: Int32, damagedAt offset: UInt64) throws(JournalProblem) {
    do throws(SystemCallError) {
      if try endsInZeros(file, from: offset) { return }
    } catch { throw .system(error) }
    var intactAfter = false
    var rest = JournalFormat.recordSize + Int(clamping: offset)
    var bytes = [UInt8](repeating: 0, count: JournalFormat.recordSize)
    while !intactAfter, UInt64(rest + bytes.count) <= size {
      guard pread(file, &bytes, bytes.count, rest) == bytes.count else { break }
      intactAfter = bytes.withUnsafeBytes {
        $0.baseAddress.map { JournalFormat.record(at: $0) != nil } ?? false
      }
      rest += bytes.count
    }
    let number = (Int(clamping: offset) - JournalFormat.headerSize) / JournalFormat.recordSize + 1
    throw .damaged(record: number, offset: offset, intactAfter: intactAfter)
  }

  /// Whether, from some block's beginning in this record on, there is nothing but zeros.
  private func endsInZeros(_ file: Int32, from offset: UInt64) throws(SystemCallError) -> Bool {
    let block: UInt64 = 512
    // A record is longer than a block: where two begin in it, the second may be the first that was not written.
    var from = (offset + UInt64(JournalFormat.recordSize) - 1) / block * block
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    while from < size {
      let place = Int(clamping: from)
      let count = try systemCall("pread") { pread(file, &bytes, bytes.count, place) }
      if count == 0 { break }
      guard bytes[..<count].allSatisfy({ $0 == 0 }) else { return false }
      from += UInt64(count)
    }
    return true
  }
}
