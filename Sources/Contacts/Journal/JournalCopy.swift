import CLinux
import Glibc
import SystemCalls

/// A journal that is written from a book, piece by piece, to be put into the place of another.
final class JournalCopy {
  private let path: String
  private var file: Descriptor?
  /// Bytes that were written.
  private(set) var length: UInt64
  private var cursor: Book.Cursor
  private var recordsLeft: Int
  /// How far the other journal was copied: what was written to it before stands in the book.
  var tail: UInt64 = 0
  private let buffer: UnsafeMutableRawBufferPointer

  /// Begins one. A file of that name is overwritten.
  init(_ path: String, of book: Book, awaitsAnswer: Bool) throws(SystemCallError) {
    self.path = path
    cursor = Book.Cursor(book)
    recordsLeft = book.count
    length = UInt64(JournalFormat.headerSize)
    let opened = try Descriptor.open(path, O_RDWR | O_CREAT | O_TRUNC, mode: 0o600)
    let header = JournalFormat.header(awaitsAnswer: awaitsAnswer)
    buffer = .allocate(byteCount: JournalFormat.recordSize * 512, alignment: 16)
    file = consume opened
    do throws(SystemCallError) { try writeAll(header, to: number) } catch {
      discard()
      throw error
    }
  }

  deinit { buffer.deallocate() }

  var number: Int32 { file?.number ?? -1 }

  /// Writes the next contacts, with their values of now. The disk is asked to begin with them.
  ///
  /// - Returns: whether all contacts are written that were there at the beginning.
  func step(_ book: Book, bytes: Int) throws(SystemCallError) -> Bool {
    guard let start = buffer.baseAddress else { return true }
    let before = length
    while recordsLeft > 0, length - before < UInt64(bytes) {
      var filled = 0
      while recordsLeft > 0, filled < buffer.count {
        let entry = cursor.next(in: book)
        JournalFormat.store(entry, clock: entry.clock, phone: entry.phone, at: start + filled)
        filled += JournalFormat.recordSize
        recordsLeft -= 1
      }
      try writeAll(UnsafeRawBufferPointer(start: start, count: filled), to: number)
      length += UInt64(filled)
    }
    if length > before {
      _ = clinux_begin_sync(number, Int(clamping: before), Int(clamping: length - before))
    }
    return recordsLeft == 0
  }

  /// Copies what has come to the other journal since.
  ///
  /// - Parameters:
  ///   - other: the other journal's file.
  ///   - end: how far it is to be copied.
  ///   - bytes: at most so many, but for the rest of a record.
  /// - Returns: whether it has come to the end.
  /// - Throws: what `pread` or `write` failed with.
  func copy(from other: Int32, upTo end: UInt64, bytes: Int) throws(SystemCallError) -> Bool {
    guard let start = buffer.baseAddress else { return true }
    var left = bytes
    while tail < end, left > 0 {
      let (place, most) = (Int(clamping: tail), min(buffer.count, Int(clamping: end - tail)))
      let count = try systemCall("pread", path) { pread(other, start, most, place) }
      if count == 0 { throw SystemCallError(call: "pread", asked: path, errno: ErrorNumber(EIO)) }
      try writeAll(UnsafeRawBufferPointer(start: start, count: count), to: number)
      tail += UInt64(count)
      length += UInt64(count)
      left -= count
    }
    return tail == end
  }

  func sync() throws(SystemCallError) {
    let file = number
    try systemCall("fdatasync", path) { fdatasync(file) }
  }

  /// Removes it.
  func discard() {
    file = nil
    unlink(path)
  }

  /// Gives the file away.
  func release() -> Descriptor {
    // Taken once, when it is whole.
    file.take() ?? Descriptor(owning: -1)
  }
}
