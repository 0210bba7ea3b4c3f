import SystemCalls

/// Names a link, from 1 on, for as long as the server runs.
public typealias LinkID = UInt32

/// What is told of the replication, for a log.
public enum ReplicaNote: Sendable {
  /// The other one's clock is larger: it is asked for its book.
  case behind(LinkID, own: UInt32, other: UInt32)
  /// The other one's clock is smaller.
  case peerBehind(LinkID, own: UInt32, other: UInt32)
  /// All of an answer has come.
  case answered(LinkID, contacts: Int)
  /// The book is asked for.
  case answering(LinkID, contacts: Int)
  case peerHealth(LinkID, HealthStatus)
  /// A contact from a server was refused: there is no room in the book, or it cannot be written.
  case refusedRecord(LinkID, String)
}

/// Why a client's Update was not taken.
public enum UpdateRefusal: Error, Sendable, CustomStringConvertible {
  case journalFails, noRoom, clockAtMaximum, awaitsAnswer

  public var description: String {
    switch self {
    case .journalFails: "the journal cannot be written"
    case .noRoom: "the book holds \(Replica.mostFromClients) contacts, and clients can add no more"
    case .clockAtMaximum: "the clock is at its maximum, \(UInt32.max)"
    case .awaitsAnswer: "the journal was salvaged, and no other server has answered yet"
    }
  }
}

/// A server's book and its clock, and what it says to other servers: a state machine. It has no socket, no clock of the day and no
/// disk in it: those are told what to do, and tell what happened.
///
/// Events go in: an Update, a message, a link that is up or down, a time that is over, a journal that is synced or has failed. What is
/// to be sent comes to lie in the links' outboxes. What was taken is staged in the book until the owner has had it synced.
public final class Replica {
  public let book: Book
  /// Counts the Updates that it has seen or heard of.
  public private(set) var clock: UInt32 = 0
  /// All that came before the clock reached this is on disk, and lies in the links' outboxes. This is what other servers are told:
  /// told of what is on its way only, they would look behind, and ask for whole books.
  public private(set) var publishedClock: UInt32 = 0
  public private(set) var links: [LinkID: ReplicationLink] = [:]
  private var lastLink: LinkID = 0
  /// Whether the journal could not be written, and was not since.
  public private(set) var isJournalFailing = false
  /// Whether a contact from a server had no room.
  private var isFull = false
  public private(set) var isStopping = false
  /// Whether clients' Updates are refused until a server has answered in full, for contacts may have been lost. The clock may have
  /// been, too: an Update of now would lose against what clients were shown before.
  public private(set) var awaitsAnswer: Bool
  /// Whether an answer has come in full, with contacts that are staged still.
  private var hasAnswer = false
  private let rules: ReplicationRules
  /// Is told what may interest a log.
  public var note: (ReplicaNote) -> Void = { _ in }

  /// Clients can add contacts up to so many.
  public static let mostFromClients = 1 << 20
  /// A clock that is so much larger than one's own is no clock.
  static let largestLead: UInt32 = 1 << 28
  /// Of AskForUpdates that wait on one link for their answers.
  static let mostAnswersWaiting = 16

  /// - Parameters:
  ///   - book: all that the journal had in it.
  ///   - awaitsAnswer: whether the journal was salvaged.
  public convenience init(_ book: Book, awaitsAnswer: Bool = false) {
    self.init(book, awaitsAnswer: awaitsAnswer, rules: .all)
  }

  init(_ book: Book, awaitsAnswer: Bool = false, rules: ReplicationRules) {
    self.book = book
    self.awaitsAnswer = awaitsAnswer
    self.rules = rules
    if rules.contains(.takesClockFromJournal) { clock = book.highestClock }
    publishedClock = clock
  }

  public var health: HealthStatus {
    isStopping ? .stopping : isJournalFailing || isFull ? .degraded : .healthy
  }

  // --- clients ---

  /// A client's Update: is staged.
  ///
  /// - Throws: why it is refused.
  @inline(__always)
  public func update(_ contact: ContactView) throws(UpdateRefusal) {
    if isJournalFailing { throw .journalFails }
    if awaitsAnswer { throw .awaitsAnswer }
    if clock == .max, rules.contains(.refusesAtMaximum) { throw .clockAtMaximum }
    let change = book.stage(
      contact, clock: clock &+ 1, from: nil, most: Self.mostFromClients,
      breaksTies: rules.contains(.breaksTies))
    if change == .noRoom { throw .noRoom }
    clock &+= 1
    if !rules.contains(.syncsFirst) || !rules.contains(.picksLinksAfterSync) { sendEarly() }
  }

  /// Whether something is to be written to the journal and synced, and `synced` or `failed` to be called then.
  public var hasStaged: Bool { book.hasStaged }

  /// Appends what is staged to a journal, each contact once, with its last value.
  ///
  /// - Throws: what `write` failed with: `failed` is to be called.
  func write(to journal: Journal) throws(SystemCallError) {
    var failure: SystemCallError?
    book.forEachStaged { change, entry in
      guard failure == nil else { return }
      do throws(SystemCallError) {
        try journal.append(entry, clock: change.clock, phone: change.phone)
      } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// What is staged is on disk: it is shown from here on, and goes to the links that are up now.
  public func synced() {
    let early = earlyLinks
    earlyLinks = nil
    let links = links.values.filter { $0.takesUpdates(rules) && (early?.contains($0.id) ?? true) }
    let forwards = rules.contains(.forwards)
    book.commit { change, entry in
      for link in links where change.source != link.id && (forwards || change.source == nil) {
        link.outbox.update(change.address, number: entry.number)
      }
    }
    publishedClock = clock
    if hasAnswer { awaitsAnswer = false }
    hasAnswer = false
  }

  /// What is staged could not be written, and is gone. Nothing is taken until `worksAgain`.
  public func failed() {
    book.rollBack()
    isJournalFailing = true
    publishedClock = clock
    // Parts of answers were among it, whole ones too.
    hasAnswer = false
    for link in links.values { link.hasRefused = true }
  }

  /// The journal can be written again. What servers have sent meanwhile was refused: they are asked for it, even those that are
  /// answering, for the beginning of such an answer may have been refused.
  public func worksAgain() {
    isJournalFailing = false
    for link in links.values { ask(link) }
  }

  // --- links ---

  /// A link is up.
  public func open() -> ReplicationLink {
    lastLink += 1
    let link = ReplicationLink(
      lastLink, Outbox(book, interleaves: !rules.contains(.keepsAnswersWhole)))
    links[link.id] = link
    ask(link)
    link.outbox.heartBeat(health, clock: publishedClock)
    return link
  }

  /// A link is down.
  public func close(_ link: ReplicationLink) {
    links[link.id] = nil
    link.outbox.close()
  }

  /// It is time for the HeartBeats.
  public func beat() {
    for link in links.values { link.outbox.heartBeat(health, clock: publishedClock) }
  }

  /// Tells the others that this server is about to stop.
  public func stop() {
    isStopping = true
    beat()
  }

  /// Takes Updates of clients, though no server has answered since the salvage.
  public func acceptLoss() { awaitsAnswer = false }

  private func ask(_ link: ReplicationLink) {
    link.unanswered += 1
    link.outbox.askForUpdate()
  }

  /// A message has come on a link.
  ///
  /// - Parameters:
  ///   - message: is taken apart already.
  ///   - link: on which it has come.
  /// - Returns: whether a contact is to be changed by it.
  /// - Throws: what is not allowed in it. The link is to be closed.
  @discardableResult
  public func received(_ message: ServerMessage, on link: ReplicationLink) throws(ProtocolViolation) -> Bool {
    var isChange = false
    switch message {
    case .update(let clock, let contact): isChange = try take(clock, contact, from: link)
    case .heartBeat(let status, let clock):
      try check(clock)
      if status != link.health { note(.peerHealth(link.id, status)) }
      link.health = status
      link.clock = clock
      if publishedClock >= clock {
        // Told once: it may be one that never takes another's clock.
        if publishedClock > clock, !link.isKnownBehind {
          note(.peerBehind(link.id, own: publishedClock, other: clock))
        }
        link.isKnownBehind = publishedClock > clock
        link.outbox.updateClock(publishedClock)
      } else if self.clock < clock {
        note(.behind(link.id, own: self.clock, other: clock))
        raise(to: clock)
        if link.unanswered == 0 { ask(link) }
      }
    case .updateClock(let clock):
      try check(clock)
      link.clock = clock
      raise(to: max(self.clock, clock))
      if !rules.contains(.endsClockTalk) { link.outbox.updateClock(publishedClock) }
    case .askForUpdate:
      guard link.outbox.answersWaiting < Self.mostAnswersWaiting else {
        throw ProtocolViolation(
          "\(Self.mostAnswersWaiting) AskForUpdates wait for their answers, and one more has come")
      }
      note(.answering(link.id, contacts: book.count))
      link.outbox.answer(hasClocks: true)
    case .answer(let count):
      guard link.unanswered > 0 else { throw ProtocolViolation("an answer to no AskForUpdate has come") }
      link.recordsLeft = count
      link.recordsOfAnswer = count
      link.hasRefused = isJournalFailing
      if count == 0 { answered(link) }
    case .record(let clock, let contact):
      isChange = try take(clock, contact, from: link)
      link.recordsLeft -= 1
      if link.recordsLeft == 0 { answered(link) }
    }
    return isChange
  }

  private func answered(_ link: ReplicationLink) {
    link.unanswered -= 1
    note(.answered(link.id, contacts: link.recordsOfAnswer))
    if link.hasRefused { return }
    if book.hasStaged { hasAnswer = true } else { awaitsAnswer = false }
  }

  private func take(_ clock: UInt32, _ contact: ContactView, from link: ReplicationLink)
    throws(ProtocolViolation) -> Bool
  {
    try check(clock)
    if isJournalFailing {
      link.hasRefused = true
      return false
    }
    let change = book.stage(
      contact, clock: clock, from: link.id, most: mostContacts, breaksTies: rules.contains(.breaksTies))
    if change == .noRoom {
      if !isFull {
        note(.refusedRecord(link.id, "the book holds \(mostContacts) contacts, and can hold no more"))
      }
      isFull = true
      link.hasRefused = true
      return false
    }
    raise(to: max(self.clock, clock))
    if !rules.contains(.syncsFirst) || !rules.contains(.picksLinksAfterSync) { sendEarly() }
    return change == .staged
  }

  /// - Throws: where a clock is too far ahead of this one's to be believed; a new server believes all.
  private func check(_ clock: UInt32) throws(ProtocolViolation) {
    guard clock > self.clock, clock - self.clock > Self.largestLead, book.wholeCount > 0 else { return }
    throw ProtocolViolation(
      "its clock, \(clock), is more than \(Self.largestLead) ahead of this one's, \(self.clock): "
        + "they have been apart for too long, or it is no clock; a server that starts with an empty book takes any clock"
    )
  }

  private func raise(to clock: UInt32) {
    self.clock = clock
    if !book.hasStaged { publishedClock = clock }
  }

  // --- what is done only where a rule is broken ---

  /// Links that were up when something was staged.
  private var earlyLinks: Set<LinkID>?

  private func sendEarly() {
    guard rules.contains(.syncsFirst) else { return synced() }
    if earlyLinks == nil { earlyLinks = Set(links.keys) }
  }
}

/// A connection with another server, as the replication sees it.
public final class ReplicationLink {
  public let id: LinkID
  var outbox: Outbox
  /// AskForUpdates that were not answered in full.
  fileprivate(set) var unanswered = 0
  fileprivate var recordsLeft = 0
  fileprivate var recordsOfAnswer = 0
  /// Whether the other one's clock was smaller, as it said last.
  fileprivate var isKnownBehind = false
  /// Whether a part of the answer that is coming was refused.
  fileprivate var hasRefused = false
  /// What the other one has said last; nil before.
  public fileprivate(set) var clock: UInt32?
  public fileprivate(set) var health = HealthStatus.healthy
  /// What carries it.
  weak var connection: PeerConnection?

  fileprivate init(_ id: LinkID, _ outbox: Outbox) {
    self.id = id
    self.outbox = outbox
  }

  /// All that is to be sent now, for who sends it at once.
  public func takeBytes() -> [UInt8] {
    var bytes: [UInt8] = []
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
    defer { room.deallocate() }
    while !outbox.isEmpty {
      _ = outbox.send(by: room) {
        bytes += $0
        return $0.count
      }
    }
    return bytes
  }

  fileprivate func takesUpdates(_ rules: ReplicationRules) -> Bool {
    rules.contains(.isUpAtOnce) || unanswered == 0
  }
}
