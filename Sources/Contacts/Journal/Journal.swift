import CLinux
import Glibc
import SystemCalls

/// The file that a server's contacts are in, and from which they come back after a crash. One server has it at a time.
///
/// Records are appended, and `sync` has the disk take them: only then may a contact be shown. After a failure the file ends where it
/// ended at the last sync.
///
/// See: write(2), fdatasync(2), flock(2)
public final class Journal {
  public let path: String
  private var file: Descriptor
  /// In bytes: all up to here is on disk.
  public private(set) var length: UInt64
  /// In bytes: all up to here was written, and may be in the kernel's memory only.
  private var written: UInt64
  /// In bytes: room was asked for up to here.
  private var reserved: UInt64 = 0
  /// Whether clients' Updates are to be refused until a peer has answered, for the journal was salvaged.
  public private(set) var awaitsAnswer: Bool
  private let buffer: UnsafeMutableRawBufferPointer
  private var filled = 0
  /// The file has taken another one's place, and that may not be on disk.
  private var hasNewName = false
  /// A smaller one that is being written beside.
  private var compaction: JournalCopy?
  /// The file's length when the last piece of work was done on it.
  private var lengthAtPiece: UInt64 = 0
  /// After a compaction that failed none is begun before the file has this length.
  var compactsFrom: UInt64 = 64 << 20

  /// What was found at the start.
  public struct Findings: Sendable {
    public internal(set) var isNew = false
    public internal(set) var records = 0
    /// Bytes of a torn end that were cut off.
    public internal(set) var tornBytes: UInt64 = 0
    /// Where the damaged file was put, and how many of its bytes were no record.
    public internal(set) var salvaged: (aside: String, bytes: UInt64)?
    /// Contacts for which a book has no room.
    public internal(set) var refused = 0
  }

  private init(_ path: String, _ file: consuming Descriptor, length: UInt64, awaitsAnswer: Bool) {
    self.path = path
    self.file = file
    self.length = length
    self.awaitsAnswer = awaitsAnswer
    written = length
    buffer = .allocate(byteCount: JournalFormat.recordSize * 512, alignment: 16)
  }

  deinit {
    compaction?.discard()
    buffer.deallocate()
  }

  // --- the start ---

  /// Opens a journal, or makes one, and puts its contacts into a book. All that was found is on disk when this returns.
  ///
  /// - Parameters:
  ///   - path: of the file. Its folder has to be there.
  ///   - salvages: keeps what is intact of a damaged one, and the damaged one aside. An intact one is opened as always.
  ///   - book: is empty.
  /// - Returns: the journal, and what was found in it.
  /// - Throws: what is wrong with it.
  public static func open(_ path: String, salvages: Bool = false, into book: Book) throws(JournalProblem)
    -> (Journal, Findings)
  {
    // A link to it stays a link, whatever takes the file's place.
    let path = target(of: path)
    let file = try locked(path)
    var findings = Findings()
    func take(_ clock: UInt32, _ contact: ContactView) {
      let change = book.stage(contact, clock: clock, from: nil, most: mostContacts)
      if change == .noRoom { findings.refused += 1 }
      if book.stagedCount >= 10_000 { book.commit() }
    }
    let scan: JournalScan
    do throws(JournalProblem) {
      scan = try JournalScan(file.number, salvaging: false, take)
    } catch {
      guard salvages, error.canBeSalvaged else { throw error }
      // What came before the damage is taken once more, and changes nothing.
      findings.refused = 0
      let scan = try JournalScan(file.number, salvaging: true, take)
      book.commit()
      findings.records = scan.records
      return try salvage(path, file.number, book, scan, &findings)
    }
    book.commit()
    findings.records = scan.records
    findings.isNew = scan.end == 0
    findings.tornBytes = scan.size - scan.end
    let journal = Journal(path, file, length: scan.end, awaitsAnswer: scan.awaitsAnswer)
    try journal.settle(isNew: findings.isNew)
    // Of a compaction that a crash has ended.
    unlink(compactionPath(path))
    return (journal, findings)
  }

  /// The file's own path, where a symbolic link leads to it. See: realpath(3)
  private static func target(of path: String) -> String {
    guard let target = realpath(path, nil) else { return path }
    defer { free(target) }
    return String(cString: target)
  }

  private static func compactionPath(_ path: String) -> String { path + ".compacted" }

  /// Opens it, and waits for nobody who has it.
  private static func locked(_ path: String) throws(JournalProblem) -> Descriptor {
    while true {
      let file: Descriptor
      do throws(SystemCallError) { file = try Descriptor.open(path, O_RDWR | O_CREAT, mode: 0o600) } catch {
        throw .system(error)
      }
      let number = file.number
      guard try lock(number, path) else { throw .inUse }
      // Whoever had it may have put another file in its place before it let go.
      var (own, named) = (Glibc.stat(), Glibc.stat())
      guard fstat(number, &own) == 0, own.st_mode & S_IFMT == S_IFREG else {
        throw .foreign("it is no regular file")
      }
      if stat(path, &named) == 0, own.st_ino == named.st_ino, own.st_dev == named.st_dev { return file }
    }
  }

  fileprivate static func lock(_ file: Int32, _ path: String) throws(JournalProblem) -> Bool {
    do throws(SystemCallError) {
      try systemCall("flock", path) { flock(file, LOCK_EX | LOCK_NB) }
      return true
    } catch {
      if error.errno.rawValue == EWOULDBLOCK { return false }
      throw .system(error)
    }
  }

  /// Cuts off what is torn, writes the header of a new one, and waits for the disk: after `kill -9` the last records may be in the
  /// kernel's memory only.
  private func settle(isNew: Bool) throws(JournalProblem) {
    do throws(SystemCallError) {
      try cutBack()
      if isNew {
        try writeAll(JournalFormat.header(awaitsAnswer: false), to: file.number)
        written = UInt64(JournalFormat.headerSize)
      }
      try systemCall("fdatasync", path) { fdatasync(file.number) }
      length = written
      // Whatever made the file, or put it into another one's place, may have been killed before it came to this.
      try Self.syncFolder(of: path)
    } catch { throw .system(error) }
  }

  private static func salvage(
    _ path: String, _ damaged: Int32, _ book: Book, _ scan: JournalScan, _ findings: inout Findings
  ) throws(JournalProblem) -> (Journal, Findings) {
    let copy: JournalCopy
    do throws(SystemCallError) {
      copy = try JournalCopy(compactionPath(path), of: book, awaitsAnswer: true)
      while try !copy.step(book, bytes: 16 << 20) {}
      try copy.sync()
      // The damaged one keeps its name until the other takes it, whatever happens in between.
      findings.salvaged = (try linkAside(path), scan.passedOver)
    } catch { throw .system(error) }
    guard try lock(copy.number, path) else { throw .inUse }
    do throws(SystemCallError) {
      try systemCall("rename", path) { rename(compactionPath(path), path) }
      try syncFolder(of: path)
    } catch { throw .system(error) }
    let length = copy.length
    return (Journal(path, copy.release(), length: length, awaitsAnswer: true), findings)
  }

  private static func linkAside(_ path: String) throws(SystemCallError) -> String {
    for number in 1... {
      let aside = path + ".damaged" + (number == 1 ? "" : "-\(number)")
      if link(path, aside) == 0 { return aside }
      let failure = ErrorNumber.last
      if failure.rawValue != EEXIST { throw SystemCallError(call: "link", asked: aside, errno: failure) }
    }
    return path
  }

  /// A new name is on disk only when its folder is. See: fsync(2)
  private static func syncFolder(of path: String) throws(SystemCallError) {
    let slash = path.lastIndex(of: "/")
    let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let descriptor = try Descriptor.open(folder, O_RDONLY | O_DIRECTORY)
    let number = descriptor.number
    try systemCall("fsync", folder) { fsync(number) }
  }

  // --- writing ---

  /// Puts a record behind the others.
  ///
  /// - Throws: what `write` failed with. All since the last sync is lost then.
  func append(_ entry: Entry, clock: UInt32, phone: Phone) throws(SystemCallError) {
    if filled + JournalFormat.recordSize > buffer.count { try flush() }
    guard let start = buffer.baseAddress else { return }
    JournalFormat.store(entry, clock: clock, phone: phone, at: start + filled)
    filled += JournalFormat.recordSize
  }

  private func flush() throws(SystemCallError) {
    let bytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<filled])
    filled = 0
    if written + UInt64(bytes.count) > reserved { reserve(UInt64(bytes.count)) }
    do throws(SystemCallError) { try writeAll(bytes, to: file.number) } catch {
      try? cutBack()
      throw SystemCallError(call: error.call, asked: path, errno: error.errno)
    }
    written += UInt64(bytes.count)
  }

  /// Has the file system find places on the disk for much at once: each sync has less to write down then. Where it cannot, it finds
  /// them one by one, as it would have.
  private func reserve(_ count: UInt64) {
    let size = count + min(4 << 20, max(64 << 10, length))
    _ = clinux_reserve(file.number, Int(clamping: written), Int(clamping: size))
    reserved = written + size
  }

  /// Waits until all that was appended is on disk.
  ///
  /// - Throws: what `write` or `fdatasync` failed with. All since the last sync is lost then: what the kernel could not write once it
  ///   does not try to write again.
  func sync() throws(SystemCallError) {
    try flush()
    do throws(SystemCallError) {
      if hasNewName { try Self.syncFolder(of: path) }
      hasNewName = false
      try systemCall("fdatasync", path) { fdatasync(file.number) }
    } catch {
      try? cutBack()
      throw error
    }
    length = written
  }

  /// Takes away what was written since the last sync.
  private func cutBack() throws(SystemCallError) {
    filled = 0
    compaction?.discard()
    compaction = nil
    written = length
    reserved = length
    let (number, end) = (file.number, off_t(clamping: length))
    try systemCall("lseek", path) { lseek(number, end, SEEK_SET) }
    try systemCall("ftruncate", path) { ftruncate(number, end) }
  }

  /// Tries whether it can be written again, with a contact that is in it already, which changes nothing.
  func tryAgain(_ book: Book) throws(SystemCallError) {
    try cutBack()
    if book.count > 0 {
      let entry = Book.Cursor(book).entry(in: book)
      try append(entry, clock: entry.clock, phone: entry.phone)
    }
    try sync()
  }

  /// Notes in the header that a peer has answered after a salvage.
  func noteAnswered() throws(SystemCallError) {
    guard awaitsAnswer else { return }
    // It has a header that says the opposite. It is begun anew.
    compaction?.discard()
    compaction = nil
    let header = JournalFormat.header(awaitsAnswer: false)
    let number = file.number
    let count = try systemCall("pwrite", path) { pwrite(number, header, header.count, 0) }
    guard count == header.count else {
      throw SystemCallError(call: "pwrite", asked: path, errno: ErrorNumber(EIO))
    }
    try systemCall("fdatasync", path) { fdatasync(number) }
    awaitsAnswer = false
  }

  // --- compaction ---

  /// Whether it has grown to more than twice what is alive in it, and more than 64 MiB, and nothing is done about it yet.
  func wantsCompaction(_ book: Book) -> Bool {
    compaction == nil && length > compactsFrom
      && length > 2 * UInt64(book.count) * UInt64(JournalFormat.recordSize)
  }

  /// Does a piece of work on a smaller file beside this one, where one is wanted. The last piece puts it into this one's place.
  ///
  /// - Returns: nil where there is nothing to do; else whether it is done.
  /// - Throws: why it was given up. This file is as it was.
  func compact(_ book: Book) throws(SystemCallError) -> Bool? {
    // More than what has come since the last piece: else it would never catch up with clients that do not pause.
    let come = compaction == nil ? 0 : length - min(length, lengthAtPiece)
    let piece = max(1 << 20, 4 * Int(clamping: come))
    lengthAtPiece = length
    do throws(SystemCallError) {
      guard let copy = compaction else {
        guard wantsCompaction(book) else { return nil }
        compaction = try JournalCopy(Self.compactionPath(path), of: book, awaitsAnswer: awaitsAnswer)
        compaction?.tail = length
        return false
      }
      guard try copy.step(book, bytes: piece) else { return false }
      // What has come since it was begun.
      guard try copy.copy(from: file.number, upTo: length, bytes: piece) else { return false }
      try copy.sync()
      let number = copy.number
      try systemCall("flock", path) { flock(number, LOCK_EX | LOCK_NB) }
      try systemCall("rename", path) { rename(Self.compactionPath(path), path) }
      compaction = nil
      length = copy.length
      written = length
      reserved = length
      file = copy.release()
      compactsFrom = 64 << 20
      // Before anything else is taken.
      hasNewName = true
      return true
    } catch {
      compaction?.discard()
      compaction = nil
      compactsFrom = length + 64 << 20
      throw error
    }
  }
}

extension JournalProblem {
  var canBeSalvaged: Bool {
    switch self {
    case .damaged, .damagedHeader: true
    case .foreign, .inUse, .system: false
    }
  }
}
