/// The contacts of a server.
///
/// A change is staged first, and shown to nobody. When the journal has it on disk, `commit` makes it what the book says; when that
/// fails `rollBack` forgets it. There is no removal in the protocol: a contact stays where it was put, so an answer with all of them
/// is read from the book itself while it is sent, and costs no copy.
public final class Book {
  private var arena = Arena()
  private var index = Index()
  private var staged: [Staged] = []
  /// Contacts that are committed.
  public private(set) var count = 0
  /// The largest clock that was ever committed.
  public private(set) var highestClock: UInt32 = 0
  /// Contacts that are new in what is staged.
  private var newCount = 0
  private var snapshots: [Snapshot] = []
  /// Values that snapshots have kept, all together.
  public private(set) var keptCount = 0
  private var isChangedSinceSnapshot = true

  struct Staged {
    let address: Arena.Address
    var clock: UInt32
    var phone: Phone
    /// The link that it came on; nil for a client, or the journal.
    var source: LinkID?
    let isNew: Bool
  }

  /// What has become of a change.
  enum Change {
    case staged
    /// What is there wins.
    case nothing
    /// It would be one contact more than there may be.
    case noRoom
  }

  public init() {}

  /// Bytes that the contacts take in memory, about.
  public var memory: Int { arena.size }

  public var hasStaged: Bool { !staged.isEmpty }
  var stagedCount: Int { staged.count }
  /// Contacts, with those that are staged.
  var wholeCount: Int { count + newCount }

  /// Stages a contact, if it wins over what is there: its clock is larger, or equal with a larger phone number.
  ///
  /// - Parameters:
  ///   - contact: is copied.
  ///   - clock: what it is stamped with.
  ///   - source: the link that it came on.
  ///   - most: so many contacts may be in the book.
  ///   - breaksTies: whether a larger phone number decides where clocks are equal.
  /// - Returns: what has become of it.
  @inline(__always)
  func stage(
    _ contact: ContactView, clock: UInt32, from source: LinkID?, most: Int, breaksTies: Bool = true
  ) -> Change {
    let phone = Phone(contact.phone)
    let hash = Index.hash(contact.user, contact.name)
    if let address = index.find(hash, { arena[$0].hasKey(contact.user, contact.name) }) {
      let entry = arena[address]
      let place = Int(entry.staged) - 1
      let (oldClock, oldPhone) =
        place >= 0 ? (staged[place].clock, staged[place].phone) : (entry.clock, entry.phone)
      guard clock > oldClock || clock == oldClock && breaksTies && phone > oldPhone else { return .nothing }
      if place >= 0 {
        staged[place].clock = clock
        staged[place].phone = phone
        staged[place].source = source
      } else {
        staged.append(Staged(address: address, clock: clock, phone: phone, source: source, isNew: false))
        entry.staged = UInt32(truncatingIfNeeded: staged.count)
      }
      return .staged
    }
    guard wholeCount < most else { return .noRoom }
    let address = arena.allocate(Entry.size(user: contact.user.count, name: contact.name.count))
    let entry = arena[address]
    entry.setUp(
      number: UInt32(truncatingIfNeeded: wholeCount), user: contact.user, name: contact.name)
    index.add(hash, address)
    staged.append(Staged(address: address, clock: clock, phone: phone, source: source, isNew: true))
    entry.staged = UInt32(truncatingIfNeeded: staged.count)
    newCount += 1
    return .staged
  }

  /// Hands on what is staged, each contact once, with its last value.
  func forEachStaged(_ body: (Staged, Entry) -> Void) {
    for change in staged { body(change, arena[change.address]) }
  }

  /// What is staged is what the book says from here on.
  ///
  /// - Parameter body: gets each change once it is made.
  func commit(_ body: (Staged, Entry) -> Void = { _, _ in }) {
    for change in staged {
      let entry = arena[change.address]
      if !change.isNew, let newest = snapshots.last { keep(entry, in: newest) }
      entry.clock = change.clock
      entry.phone = change.phone
      entry.staged = 0
      highestClock = max(highestClock, change.clock)
      body(change, entry)
    }
    count += newCount
    newCount = 0
    isChangedSinceSnapshot = isChangedSinceSnapshot || !staged.isEmpty
    staged.removeAll(keepingCapacity: staged.count < 100_000)
  }

  /// Forgets what is staged.
  func rollBack() {
    for change in staged.reversed() {
      arena[change.address].staged = 0
      if change.isNew { arena.takeBack(change.address) }
    }
    staged = []
    guard newCount > 0 else { return }
    newCount = 0
    index.removeAll()
    var cursor = Cursor(self)
    for _ in 0..<count {
      let address = cursor.address
      let entry = cursor.next(in: self)
      index.add(Index.hash(entry.user, entry.name), address)
    }
  }

  // --- reading ---

  subscript(address: Arena.Address) -> Entry { arena[address] }

  /// The committed clock and phone number of a contact.
  public func value(user: String, name: String) -> (clock: UInt32, phone: String)? {
    let (user, name) = (Array(user.utf8), Array(name.utf8))
    return user.withUnsafeBytes { user in
      name.withUnsafeBytes { name in
        guard let address = index.find(Index.hash(user, name), { arena[$0].hasKey(user, name) }) else {
          return nil
        }
        let entry = arena[address]
        guard entry.number < count else { return nil }
        return (entry.clock, withUnsafeBytes(of: entry.phone) { Self.text(upToNUL: $0) })
      }
    }
  }

  /// All contacts, in the order in which they came.
  public var all: [(contact: Contact, clock: UInt32)] {
    var cursor = Cursor(self)
    return (0..<count).map { _ in
      let entry = cursor.next(in: self)
      let contact = withUnsafeBytes(of: entry.phone) { phone in
        let number = UnsafeRawBufferPointer(rebasing: phone.prefix(ContactLayout.phone).prefix { $0 != 0 })
        return Contact(ContactView(user: entry.user, name: entry.name, phone: number))
      }
      return (contact, entry.clock)
    }
  }

  private static func text(upToNUL bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix(ContactLayout.phone).prefix { $0 != 0 }, as: UTF8.self)
  }

  /// A walk over the entries, in the order in which they came.
  struct Cursor {
    private(set) var address: Arena.Address

    init(_ book: Book) { address = book.arena.start }

    /// The entry that it stands at. There has to be one.
    @inline(__always)
    func entry(in book: Book) -> Entry { book.arena[address] }

    @inline(__always)
    mutating func advance(in book: Book) {
      address = book.arena.address(after: address, of: book.arena[address].size)
    }

    mutating func next(in book: Book) -> Entry {
      let entry = entry(in: book)
      advance(in: book)
      return entry
    }
  }

  // --- snapshots ---

  /// What the book says now, for as long as it is kept: values that are overwritten later are kept aside for it. To be given back.
  public func snapshot() -> Snapshot {
    if !isChangedSinceSnapshot, let newest = snapshots.last {
      newest.readers += 1
      return newest
    }
    let snapshot = Snapshot(count: count)
    snapshots.append(snapshot)
    isChangedSinceSnapshot = false
    return snapshot
  }

  /// Nobody reads it through this reference any more.
  public func giveBack(_ snapshot: Snapshot) {
    snapshot.readers -= 1
    guard snapshot.readers == 0, let place = snapshots.firstIndex(where: { $0 === snapshot }) else { return }
    snapshots.remove(at: place)
    keptCount -= snapshot.kept.count
    if place == snapshots.count { isChangedSinceSnapshot = true }
    // An older one may have to look here for what was overwritten after it.
    guard place > 0 else { return }
    let older = snapshots[place - 1]
    keptCount -= older.kept.count
    older.kept.merge(snapshot.kept.filter { $0.key < older.count }) { own, _ in own }
    keptCount += older.kept.count
  }

  private func keep(_ entry: Entry, in snapshot: Snapshot) {
    guard entry.number < snapshot.count, snapshot.kept[entry.number] == nil else { return }
    snapshot.kept[entry.number] = (entry.clock, entry.phone)
    entry.isKept = true
    keptCount += 1
  }

  /// What an entry said when the snapshot was taken.
  @inline(__always)
  func value(of entry: Entry, in snapshot: Snapshot) -> (clock: UInt32, phone: Phone) {
    if keptCount > 0, entry.isKept, let old = kept(entry.number, since: snapshot) { return old }
    return (entry.clock, entry.phone)
  }

  /// Each snapshot keeps what was overwritten until the next one was taken: the first that has the entry has the right value.
  private func kept(_ number: UInt32, since snapshot: Snapshot) -> (clock: UInt32, phone: Phone)? {
    guard let from = snapshots.firstIndex(where: { $0 === snapshot }) else { return nil }
    for later in snapshots[from...] { if let old = later.kept[number] { return old } }
    return nil
  }
}

/// What a book said at one moment.
public final class Snapshot {
  /// So many contacts it has: the first ones of the book.
  public let count: Int
  fileprivate var kept: [UInt32: (clock: UInt32, phone: Phone)] = [:]
  fileprivate var readers = 1

  fileprivate init(count: Int) { self.count = count }
}
