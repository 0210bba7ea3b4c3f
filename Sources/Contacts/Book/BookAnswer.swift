import Glibc

/// All contacts of a book at one moment, as the bytes of an answer, from wherever the last piece has ended. Nothing is kept: a piece
/// that was not taken is made again.
struct BookAnswer {
  private let book: Book
  private let snapshot: Snapshot
  private let recordSize: Int
  private let hasClocks: Bool
  /// Bytes that were taken.
  private var taken = 0
  private var cursor: Book.Cursor
  /// The contact that the cursor stands at.
  private var number = 0

  /// - Parameters:
  ///   - book: is to live as long as this.
  ///   - hasClocks: as between servers; without them, as to a client.
  init(_ book: Book, hasClocks: Bool) {
    self.book = book
    self.hasClocks = hasClocks
    snapshot = book.snapshot()
    cursor = Book.Cursor(book)
    recordSize = hasClocks ? ContactLayout.sizeWithClock : ContactLayout.size
  }

  /// It is not read any more.
  func close() { book.giveBack(snapshot) }

  /// Bytes of all of it.
  var size: Int { 4 + snapshot.count * recordSize }
  var isDone: Bool { taken == size }
  var left: Int { size - taken }

  /// Writes the next bytes.
  ///
  /// - Returns: how many; as many as fit, or all that are left.
  func fill(_ room: UnsafeMutableRawBufferPointer) -> Int {
    guard let start = room.baseAddress else { return 0 }
    var filled = 0
    func put(_ bytes: UnsafeRawPointer, _ count: Int) {
      let part = min(count, room.count - filled)
      memcpy(start + filled, bytes, part)
      filled += part
    }
    if taken < 4 {
      withUnsafeBytes(of: UInt32(truncatingIfNeeded: snapshot.count).bigEndian) { bytes in
        if let from = bytes.baseAddress { put(from + taken, 4 - taken) }
      }
    }
    var (cursor, number) = (cursor, number)
    // The first record may have been taken in part.
    var skipped = taken < 4 ? 0 : (taken - 4) % recordSize
    while number < snapshot.count, filled < room.count {
      if skipped == 0, room.count - filled >= recordSize {
        store(cursor.entry(in: book), at: start + filled)
        filled += recordSize
      } else {
        withUnsafeTemporaryAllocation(byteCount: recordSize, alignment: 8) { record in
          guard let place = record.baseAddress else { return }
          store(cursor.entry(in: book), at: place)
          put(place + skipped, recordSize - skipped)
        }
        skipped = 0
      }
      cursor.advance(in: book)
      number += 1
    }
    return filled
  }

  @inline(__always)
  private func store(_ entry: Entry, at place: UnsafeMutableRawPointer) {
    let (clock, phone) = book.value(of: entry, in: snapshot)
    var place = place
    if hasClocks {
      place.storeBytes(of: clock.bigEndian, as: UInt32.self)
      place += ContactLayout.clock
    }
    entry.store(phone: phone, to: place)
  }

  /// So many of the bytes that `fill` has written were taken.
  mutating func take(_ count: Int) {
    taken += count
    let whole = max(0, taken - 4) / recordSize
    while number < whole {
      cursor.advance(in: book)
      number += 1
    }
  }
}
