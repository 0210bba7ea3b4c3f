/// What is to be sent on one connection, in its order, as things rather than as bytes: a contact that waits to be sent is four bytes
/// and is sent with the value that it has then, an answer is read from the book. So a peer that does not read costs little,
/// however much there is for it.
struct Outbox {
  private enum Item {
    case heartBeat(HealthStatus, clock: UInt32)
    case updateClock(UInt32)
    case askForUpdate
    /// So many of `updates`.
    case updates(Int)
    case answer(BookAnswer)
  }

  private let book: Book
  private var items: [Item] = []
  private var updates: [Arena.Address] = []
  /// Of `updates`, those before it were sent.
  private var firstUpdate = 0
  /// A bit for each contact that is in `updates`.
  private var isWaiting: [UInt64] = []
  /// Messages that are being sent, as bytes, and how many of these were taken.
  private var front = MessageWriter()
  private var taken = 0
  /// Puts Updates into an answer. A planted bug: see `ReplicationRules`.
  private let interleaves: Bool

  /// Messages are put into bytes in pieces of about so many.
  private static let pieceSize = 64 * 1024

  init(_ book: Book, interleaves: Bool = false) {
    self.book = book
    self.interleaves = interleaves
  }

  var isEmpty: Bool { items.isEmpty && taken == front.bytes.count }
  /// Contacts that wait to be sent.
  var updatesWaiting: Int { updates.count - firstUpdate }
  /// Answers that are being sent, or wait.
  var answersWaiting: Int {
    items.count { if case .answer = $0 { true } else { false } }
  }
  /// Bytes of answers and of messages that were begun, which are still to be sent.
  var bytesWaiting: Int {
    items.reduce(front.bytes.count - taken) { sum, item in
      if case .answer(let answer) = item { sum + answer.left } else { sum }
    }
  }

  // --- putting in ---

  mutating func hello(_ hello: Hello) { front.hello(hello) }

  /// Of several that wait the last one says it all.
  mutating func heartBeat(_ status: HealthStatus, clock: UInt32) {
    drop { if case .heartBeat = $0 { true } else { false } }
    items.append(.heartBeat(status, clock: clock))
  }

  /// Of several that wait the last one says it all.
  mutating func updateClock(_ clock: UInt32) {
    drop { if case .updateClock = $0 { true } else { false } }
    items.append(.updateClock(clock))
  }

  /// Takes some out. What stood between Updates parts them no more.
  private mutating func drop(_ isIt: (Item) -> Bool) {
    guard items.contains(where: isIt) else { return }
    var rest: [Item] = []
    for item in items where !isIt(item) {
      if case .updates(let more) = item, case .updates(let count)? = rest.last {
        rest[rest.count - 1] = .updates(count + more)
      } else {
        rest.append(item)
      }
    }
    items = rest
  }

  mutating func askForUpdate() { items.append(.askForUpdate) }

  mutating func answer(hasClocks: Bool) { items.append(.answer(BookAnswer(book, hasClocks: hasClocks))) }

  mutating func update(_ address: Arena.Address, number: UInt32) {
    let (word, bit) = (Int(number >> 6), UInt64(1) << UInt64(number & 63))
    if word >= isWaiting.count {
      isWaiting += repeatElement(0, count: max(word + 1 - isWaiting.count, isWaiting.count))
    }
    if isWaiting[word] & bit != 0 { return }
    isWaiting[word] |= bit
    updates.append(address)
    if case .updates(let count)? = items.last {
      items[items.count - 1] = .updates(count + 1)
    } else if interleaves,
      let place = items.firstIndex(where: { if case .answer = $0 { true } else { false } })
    {
      items.insert(.updates(1), at: place)
    } else {
      items.append(.updates(1))
    }
  }

  // --- taking out ---

  /// Lends the next bytes, as many as there is room for, or less.
  ///
  /// - Parameters:
  ///   - room: where an answer is put; it may be used for something else afterwards.
  ///   - body: gets the bytes, and returns how many of them were taken, or less than none where it failed.
  /// - Returns: what `body` has returned; 0 where there is nothing to send.
  mutating func send(by room: UnsafeMutableRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Int) -> Int {
    if taken == front.bytes.count { fillFront() }
    if taken < front.bytes.count {
      let count = front.bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[taken...])) }
      taken += max(0, count)
      if taken == front.bytes.count {
        front.removeAll()
        taken = 0
        if items.isEmpty, updates.isEmpty { front = MessageWriter() }
      }
      return count
    }
    guard case .answer(var answer)? = items.first else { return 0 }
    let filled = answer.fill(room)
    let count = body(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(room)[..<filled]))
    if count > 0 {
      answer.take(count)
      if answer.isDone {
        answer.close()
        items.removeFirst()
      } else {
        items[0] = .answer(answer)
      }
    }
    return count
  }

  /// Nothing of it will be sent.
  mutating func close() {
    for case .answer(let answer) in items { answer.close() }
    items = []
    updates = []
  }

  private mutating func fillFront() {
    while let item = items.first, front.bytes.count < Self.pieceSize {
      switch item {
      case .heartBeat(let status, let clock): front.heartBeat(status, clock: clock)
      case .updateClock(let clock): front.updateClock(clock)
      case .askForUpdate: front.askForUpdate()
      case .updates(let count):
        let left = fillFront(updates: count)
        if left > 0 {
          items[0] = .updates(left)
          continue
        }
      case .answer: return
      }
      items.removeFirst()
    }
  }

  /// Returns how many of them are left.
  private mutating func fillFront(updates count: Int) -> Int {
    var left = count
    while left > 0, front.bytes.count < Self.pieceSize {
      let entry = book[updates[firstUpdate]]
      isWaiting[Int(entry.number >> 6)] &= ~(UInt64(1) << UInt64(entry.number & 63))
      withUnsafeBytes(of: entry.phone) { phone in
        front.update(
          clock: entry.clock, ContactView(user: entry.user, name: entry.name, phone: phone))
      }
      firstUpdate += 1
      left -= 1
    }
    if firstUpdate == updates.count {
      updates.removeAll(keepingCapacity: updates.count < 10_000)
      firstUpdate = 0
    } else if firstUpdate > 100_000 {
      updates.removeFirst(firstUpdate)
      firstUpdate = 0
    }
    return left
  }
}
