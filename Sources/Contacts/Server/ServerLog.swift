import Sockets
import SystemCalls

/// What a server tells of itself: a line an event, of those that come by the thousand only the first ones of each second, and how many
/// there were more.
struct ServerLog {
  let write: (ServerEvent) -> Void
  private var events: [ServerEvent] = []
  /// What is told when the journal is synced, and not if that fails.
  private var taken: [ServerEvent] = []
  private var takenMore = 0
  private var stagedMore = 0
  private var refusedMore = 0
  /// Contacts that may still be told one by one in this second.
  private var budget = Self.perSecond
  private var millisecond = 0
  /// Notes on the replication that may still be told in this second, and those that were not.
  private var noteBudget = Self.notesPerSecond
  private var notesMore = 0
  /// Milliseconds until a shortage may be told again.
  private var shortage = 0

  private static let (perSecond, notesPerSecond) = (10, 100)

  init(_ write: @escaping (ServerEvent) -> Void) { self.write = write }

  private mutating func add(
    _ name: String, _ text: String, _ fields: [(name: String, value: ServerEvent.Value)] = []
  ) {
    events.append(ServerEvent(name, text, fields))
  }

  /// Writes what has come together.
  mutating func flush(all: Bool = false) {
    if all { tick(1000) }
    for event in events { write(event) }
    events.removeAll(keepingCapacity: true)
  }

  /// Time has gone by.
  mutating func tick(_ milliseconds: Int) {
    millisecond += milliseconds
    shortage = max(0, shortage - milliseconds)
    guard millisecond >= 1000 else { return }
    millisecond = 0
    budget = Self.perSecond
    noteBudget = Self.notesPerSecond
    if notesMore > 0 {
      add("replication", "\(notesMore) more events in the last second", [("count", .number(notesMore))])
      notesMore = 0
    }
    if takenMore > 0 {
      add("contacts taken", "\(takenMore) more in the last second", [("count", .number(takenMore))])
    }
    if refusedMore > 0 {
      add("updates refused", "\(refusedMore) more in the last second", [("count", .number(refusedMore))])
    }
    (takenMore, refusedMore) = (0, 0)
  }

  // --- contacts ---

  @inline(__always)
  mutating func took(_ contact: ContactView, clock: UInt32, from connection: PeerConnection) {
    guard budget > 0 else {
      stagedMore += 1
      return
    }
    budget -= 1
    taken.append(
      Self.event("contact taken", contact, connection, "clock \(clock)", ("clock", .number(clock))))
  }

  mutating func refused(_ contact: ContactView, _ reason: UpdateRefusal, from connection: PeerConnection) {
    guard budget > 0 else {
      refusedMore += 1
      return
    }
    budget -= 1
    events.append(
      Self.event("update refused", contact, connection, "\(reason)", ("reason", .text("\(reason)"))))
  }

  private static func event(
    _ name: String, _ contact: ContactView, _ connection: PeerConnection, _ what: String,
    _ field: (name: String, value: ServerEvent.Value)
  ) -> ServerEvent {
    let (user, contact, phone) = (text(contact.user), text(contact.name), text(contact.phone))
    return ServerEvent(
      name, "\(user)/\(contact) = \(phone), from \(connection.title): \(what)",
      [
        ("user", .text(user)), ("contact", .text(contact)), ("phone", .text(phone)),
        ("peer", .text(connection.peer)), ("name", .text(connection.name)), field,
      ])
  }

  /// What was staged is on disk.
  mutating func synced() {
    events += taken
    taken.removeAll(keepingCapacity: true)
    takenMore += stagedMore
    stagedMore = 0
  }

  /// What was staged is lost.
  mutating func journalFails(_ reason: String) {
    let count = taken.count + stagedMore
    taken = []
    stagedMore = 0
    add(
      "journal fails",
      "\(reason); Updates are refused until it can be written again, and of those that came last \(count)",
      [("reason", .text(reason)), ("refused", .number(count))])
  }

  mutating func journalWorks() {
    add(
      "journal works",
      "it can be written again, and other servers are asked for what they have sent meanwhile")
  }

  mutating func salvageIsOver() {
    add(
      "salvage over",
      "clients' Updates are taken again: another server has answered in full, or the loss is accepted")
  }

  mutating func compacted(from before: UInt64, to after: UInt64) {
    add(
      "journal compacted", "from \(before) to \(after) bytes",
      [("before", .number(before)), ("after", .number(after))])
  }

  mutating func compactionFailed(_ reason: String) {
    add("journal not compacted", "\(reason); it goes on as it was", [("reason", .text(reason))])
  }

  // --- connections ---

  private static func fields(_ connection: PeerConnection) -> [(name: String, value: ServerEvent.Value)] {
    [
      ("peer", .text(connection.peer)), ("name", .text(connection.name)),
      ("dialled", .flag(connection.dialler != nil)),
    ]
  }

  mutating func linkUp(_ connection: PeerConnection) {
    add("link up", "with \(connection.title)", Self.fields(connection))
  }

  mutating func linkDown(_ connection: PeerConnection, _ reason: String) {
    add(
      "link down", "with \(connection.title): \(reason)",
      Self.fields(connection) + [("reason", .text(reason))])
  }

  mutating func refused(_ connection: PeerConnection, _ reason: String) {
    add(
      "connection refused", "\(connection.title): \(reason)",
      Self.fields(connection) + [("reason", .text(reason))])
  }

  mutating func cannotDial(_ peer: SocketAddress, _ reason: String) {
    add(
      "peer not reached", "\(reason); it is tried again and again",
      [("peer", .text("\(peer)")), ("reason", .text(reason))])
  }

  mutating func lost(_ connection: PeerConnection, _ reason: String) {
    add(
      "connection lost", "\(connection.title): \(reason)",
      Self.fields(connection) + [("reason", .text(reason))])
  }

  /// Told once a minute: it may come twenty times a second.
  mutating func shortage(_ reason: String) {
    if shortage > 0 { return }
    shortage = 60_000
    add(
      "connections wait", "\(reason): further ones wait until others have gone", [("reason", .text(reason))])
  }

  mutating func stopping() {
    add("stopping", "the other servers are told, and clients get what they have asked for")
  }

  // --- the replication ---

  mutating func note(_ note: ReplicaNote, about describe: (LinkID) -> (peer: String, name: String)) {
    guard noteBudget > 0 else {
      notesMore += 1
      return
    }
    noteBudget -= 1
    func fields(_ link: LinkID, _ more: [(name: String, value: ServerEvent.Value)])
      -> (who: String, [(name: String, value: ServerEvent.Value)])
    {
      let (peer, name) = describe(link)
      return (
        peer + (name.isEmpty ? "" : " '\(name)'"), [("peer", .text(peer)), ("name", .text(name))] + more
      )
    }
    switch note {
    case .behind(let link, let own, let other):
      let (who, fields) = fields(link, [("clock", .number(own)), ("peerClock", .number(other))])
      add(
        "behind", "this server's clock is \(own), that of \(who) \(other): it is asked for its book", fields)
    case .peerBehind(let link, let own, let other):
      let (who, fields) = fields(link, [("clock", .number(own)), ("peerClock", .number(other))])
      add("peer behind", "the clock of \(who) is \(other), this server's \(own): it is told", fields)
    case .answered(let link, let contacts):
      let (who, fields) = fields(link, [("contacts", .number(contacts))])
      add("book received", "from \(who), contacts: \(contacts)", fields)
    case .answering(let link, let contacts):
      let (who, fields) = fields(link, [("contacts", .number(contacts))])
      add("book asked for", "by \(who), contacts: \(contacts)", fields)
    case .peerHealth(let link, let status):
      let (who, fields) = fields(link, [("status", .number(status.rawValue))])
      add("peer health", "\(who) is \(status)", fields)
    case .refusedRecord(let link, let reason):
      let (who, fields) = fields(link, [("reason", .text(reason))])
      add("contact refused", "one from \(who): \(reason)", fields)
    }
  }
}
