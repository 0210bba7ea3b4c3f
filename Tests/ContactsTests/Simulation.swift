import Glibc
import TestSupport

@testable import Contacts

extension SplitMix {
  /// From 0 up to, not including, the bound.
  mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: next() >> 1) % max(1, bound) }

  mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}

// --- what is stored ---

/// A value of a contact, in the order in which values win.
struct Stamp: Comparable, CustomStringConvertible {
  let clock: UInt32
  /// Six digits: they compare as their bytes do.
  let phone: Int

  static func < (one: Stamp, other: Stamp) -> Bool {
    one.clock != other.clock ? one.clock < other.clock : one.phone < other.phone
  }

  var description: String { "\(phone)@\(clock)" }
}

struct SimulatedRecord: CustomStringConvertible {
  /// A small number, of which the names are made.
  let key: Int
  let stamp: Stamp

  var description: String { "\(key): \(stamp)" }
}

enum Fields {
  private static let users = (0..<8).map { Array("u\($0)".utf8) }
  private static let names = (0..<8).map { Array("n\($0)".utf8) }

  static func view<Result>(_ key: Int, _ phone: Int, _ body: (ContactView) -> Result) -> Result {
    withUnsafeTemporaryAllocation(byteCount: 6, alignment: 1) { digits in
      var rest = phone
      for place in stride(from: 5, through: 0, by: -1) {
        digits[place] = UInt8(48 + rest % 10)
        rest /= 10
      }
      return users[key].withUnsafeBytes { user in
        names[key].withUnsafeBytes { name in
          body(ContactView(user: user, name: name, phone: UnsafeRawBufferPointer(digits)))
        }
      }
    }
  }

  static func key(_ user: UnsafeRawBufferPointer) -> Int { Int(user[1]) - 48 }

  /// Up to the padding, if there is one.
  static func number(_ digits: UnsafeRawBufferPointer) -> Int {
    var number = 0
    for place in 0..<min(6, digits.count) { number = number * 10 + Int(digits[place]) - 48 }
    return number
  }

  static func record(_ change: Book.Staged, _ entry: Entry) -> SimulatedRecord {
    let phone = withUnsafeBytes(of: change.phone) { number($0) }
    return SimulatedRecord(key: key(entry.user), stamp: Stamp(clock: change.clock, phone: phone))
  }

  /// Whether it may be one of these contacts.
  static func isKnown(_ contact: ContactView, _ keys: Int) -> Bool {
    contact.user.count == 2 && contact.user[0] == 117 && contact.name.count == 2 && contact.name[0] == 110
      && contact.user[1] == contact.name[1] && 0..<keys ~= key(contact.user) && contact.phone.count == 6
  }

  /// What a book says, by key.
  static func values(_ book: Book, _ keys: Int) -> [Stamp?] {
    var values = [Stamp?](repeating: nil, count: keys)
    var cursor = Book.Cursor(book)
    for _ in 0..<book.count {
      let entry = cursor.next(in: book)
      let phone = withUnsafeBytes(of: entry.phone) { number($0) }
      values[key(entry.user)] = Stamp(clock: entry.clock, phone: phone)
    }
    return values
  }
}

/// The file of a server and the kernel's memory of it.
struct SimulatedDisk {
  /// In the file, as far as the kernel is asked.
  private(set) var records: [SimulatedRecord] = []
  /// So many of them survive a power loss for certain.
  private(set) var syncedCount = 0
  /// The largest that is on disk, by key.
  private(set) var synced: [Stamp?]
  /// Written by a try that failed, and cut off: whether the cut lasts is known at the next sync only.
  private var ghosts: [SimulatedRecord] = []
  var isFull = false

  init(keys: Int) { synced = Array(repeating: nil, count: keys) }

  mutating func append(_ record: SimulatedRecord) { records.append(record) }

  mutating func sync() {
    for record in records[syncedCount...] {
      synced[record.key] = max(synced[record.key] ?? record.stamp, record.stamp)
    }
    syncedCount = records.count
    ghosts = []
  }

  /// A write or a sync has failed: the last records are cut off.
  mutating func fail(_ batch: ArraySlice<SimulatedRecord>, cutting count: Int) {
    records.removeLast(count)
    ghosts = Array(batch)
  }

  /// With the power the kernel's memory is lost, too, but for a part that happened to be written back.
  mutating func crash(isPowerLoss: Bool, _ random: inout SplitMix) {
    if isPowerLoss {
      let unsynced = records.count - syncedCount
      if unsynced > 0 {
        records.removeLast(random.below(unsynced + 1))
      } else if !ghosts.isEmpty {
        records += ghosts.prefix(random.below(ghosts.count + 1))
      }
    } else if !ghosts.isEmpty, random.chance(30) {
      // The cut had failed, as the write before.
      records += ghosts.prefix(random.below(ghosts.count + 1))
    }
    ghosts = []
  }
}

// --- what is connected ---

/// Bytes on their way in one direction.
final class Pipe {
  private var room = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
  private var start = 0
  private var end = 0

  deinit { room.deallocate() }

  var count: Int { end - start }

  func append(_ bytes: UnsafeRawBufferPointer) {
    guard let from = bytes.baseAddress else { return }
    if end + bytes.count > room.count {
      let larger = UnsafeMutableRawBufferPointer.allocate(
        byteCount: max(room.count * 2, count + bytes.count), alignment: 8)
      if let old = room.baseAddress, let new = larger.baseAddress { memcpy(new, old + start, count) }
      room.deallocate()
      (room, start, end) = (larger, 0, count)
    }
    if let place = room.baseAddress { memcpy(place + end, from, bytes.count) }
    end += bytes.count
  }

  /// Takes bytes out. They live until the next `append`.
  func take(_ count: Int) -> UnsafeRawBufferPointer {
    let bytes = UnsafeRawBufferPointer(rebasing: room[start..<start + count])
    start += count
    if start == end { (start, end) = (0, 0) }
    return bytes
  }

  /// Loses all but the first bytes.
  func keep(_ count: Int) { end = start + count }
}

/// Two servers, one of which dials the other.
final class SimulatedEdge {
  let dialler: SimulatedServer
  let acceptor: SimulatedServer
  fileprivate(set) var connection: SimulatedConnection?

  init(_ dialler: SimulatedServer, _ acceptor: SimulatedServer) {
    self.dialler = dialler
    self.acceptor = acceptor
  }
}

final class SimulatedConnection {
  let number: Int
  /// By the side that they go to: 0 is the one that has dialled.
  let pipes = [Pipe(), Pipe()]
  fileprivate(set) var ends: [SimulatedEnd] = []
  /// Nothing that is sent on it arrives any more. Either side notices that when it does.
  fileprivate(set) var isDead = false

  init(_ number: Int) { self.number = number }
}

/// What one server has of a connection.
final class SimulatedEnd {
  unowned let connection: SimulatedConnection
  unowned let server: SimulatedServer
  let side: Int
  fileprivate(set) var link: ReplicationLink?
  fileprivate var hello = MessageReader(HelloLanguage())
  fileprivate var messages = MessageReader(ServerLanguage())
  fileprivate(set) var isOpen = true

  init(_ connection: SimulatedConnection, _ server: SimulatedServer, side: Int) {
    self.connection = connection
    self.server = server
    self.side = side
  }

  var incoming: Pipe { connection.pipes[side] }
  var outgoing: Pipe { connection.pipes[1 - side] }
}

/// A client and its connection, with what the server has of it.
final class SimulatedClient {
  let toServer = Pipe()
  let toClient = Pipe()
  fileprivate var commands = MessageReader(ClientLanguage())
  fileprivate var answers: Outbox
  fileprivate var held: [UInt8] = []
  fileprivate var isListing = false
  fileprivate var isClosed = false
  fileprivate var listing = MessageReader(ListingLanguage())
  /// What the answers are to say.
  fileprivate var expected: [[Stamp?]] = []
  fileprivate var contactsLeft = 0
  /// Its own Updates that were taken, before and after their sync.
  fileprivate var staged: [SimulatedRecord] = []
  fileprivate var own: [Stamp?]

  init(_ book: Book, keys: Int) {
    answers = Outbox(book)
    own = Array(repeating: nil, count: keys)
  }
}

final class SimulatedServer {
  let number: Int
  fileprivate(set) var disk: SimulatedDisk
  /// Nil while it is down.
  fileprivate(set) var replica: Replica?
  fileprivate(set) var ends: [SimulatedEnd] = []
  fileprivate var clients: [SimulatedClient] = []
  /// They have asked for all contacts, and wait for the end of the turn.
  fileprivate var listeners: [SimulatedClient] = []
  /// The largest clock that a ListAll has shown here.
  fileprivate var shownClock: UInt32?
  fileprivate var lastPublished: UInt32 = 0
  /// Records that were written before their turn's end, where `syncsFirst` is broken.
  fileprivate var early: [SimulatedRecord] = []

  init(_ number: Int, keys: Int) {
    self.number = number
    disk = SimulatedDisk(keys: keys)
  }
}

// --- what happens ---

/// How a simulated world is, and what happens how often in it.
struct SimulationPlan {
  enum Event: CaseIterable {
    /// A server's whole turn: it reads, syncs, answers and sends.
    case turn
    /// Parts of a turn by themselves: other events come in between.
    case send, receive, endTurn, clientSends, clientReceives
    case commands, beat
    case dial, cut, notice, closeClient
    case kill, losePower, stop, start
    case fillDisk, clearDisk, tryJournal
  }

  var servers = 2
  /// Who dials whom.
  var edges: [(Int, Int)] = []
  var keys = 1
  var steps = 200
  /// The clocks in the journals at the start begin here; nil for empty journals.
  var firstClock: UInt32?
  /// Events and their weights.
  var weights: [(Event, Int)] = [
    (.turn, 24), (.send, 8), (.receive, 8), (.endTurn, 6), (.clientSends, 3), (.clientReceives, 2),
    (.commands, 12), (.beat, 4), (.dial, 6),
  ]
  /// In percent of the commits: the server goes down in the middle.
  var crashesInCommit = 0
  /// In percent: how often a server that has come back lists its contacts and goes down once more.
  var crashesTwice = 0
  /// In percent of the clients' commands.
  var updates = 60

  /// A connected graph, some faults or none.
  static func random(_ random: inout SplitMix) -> SimulationPlan {
    var plan = SimulationPlan()
    plan.servers = 2 + (random.chance(60) ? random.below(3) : random.below(6))
    for server in 1..<plan.servers {
      let other = random.below(server)
      plan.edges.append(random.chance(50) ? (server, other) : (other, server))
    }
    for _ in 0..<random.below(plan.servers) {
      let (one, other) = (random.below(plan.servers), random.below(plan.servers))
      if one != other { plan.edges.append((one, other)) }
    }
    let doubled = [0, 30, 100][random.below(3)]
    for (one, other) in plan.edges where random.chance(doubled) { plan.edges.append((other, one)) }
    plan.keys = 1 + random.below(random.chance(50) ? 2 : 6)
    plan.steps = 60 + random.below(180)
    switch random.below(4) {
    case 0: break
    case 1: plan.firstClock = .max - UInt32(random.below(20))
    default: plan.firstClock = UInt32(1 + random.below(6))
    }
    plan.updates = 30 + random.below(60)
    let (cuts, crashes, disks) = (random.below(3), random.below(3), random.below(3))
    plan.weights += [(.cut, cuts), (.notice, 1 + cuts), (.closeClient, random.below(2))]
    if crashes > 0 {
      plan.weights += [(.kill, random.below(3)), (.losePower, random.below(3)), (.stop, random.below(2))]
      plan.weights += [(.start, 4)]
      plan.crashesInCommit = [0, 5, 40][random.below(3)]
      plan.crashesTwice = [0, 60][random.below(2)]
    }
    if disks == 0 { plan.weights += [(.fillDisk, 1), (.clearDisk, 2), (.tryJournal, 3)] }
    return plan
  }
}

/// What does not hold.
struct SimulationFailure: Error, CustomStringConvertible {
  enum Kind {
    case booksDiffer, clocksDiffer, lost, outrun, listing, published, violation, restless, idleCost, kept
  }

  let kind: Kind
  let text: String
  var description: String { "\(kind): \(text)" }
}

/// Servers that are all here, on one thread, with links and disks that fail: what happens is decided by a seed. The replication is
/// the real one, with its books, its outboxes and the bytes between them.
final class Simulation {
  let plan: SimulationPlan
  private var random: SplitMix
  private let rules: ReplicationRules
  /// Whether published clocks are looked at. Whoever wants to see what comes of a wrong one does not.
  var checksPublished = true
  /// Gets each event.
  var trace: ((String) -> Void)?
  private(set) var servers: [SimulatedServer] = []
  private var edges: [SimulatedEdge] = []
  private var connections: [SimulatedConnection] = []
  private var connectionCount = 0
  private let events: [SimulationPlan.Event]
  private var phones = 0
  /// The largest value of each key that was shown, or was on disk: it may be lost to a larger one only.
  private var kept: [Stamp?]
  private let hello: Hello
  private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 16)
  /// While faults are over everything is moved on in large pieces.
  private var isSettling = false

  /// Messages that have arrived.
  struct Counts {
    var (heartBeats, updateClocks, asks, answers, records, updates) = (0, 0, 0, 0, 0, 0)
  }
  private(set) var counts = Counts()

  convenience init(seed: UInt64, rules: ReplicationRules = .all) throws {
    var random = SplitMix(seed: seed)
    let plan = SimulationPlan.random(&random)
    try self.init(plan, seed: random.next(), rules: rules)
  }

  init(_ plan: SimulationPlan, seed: UInt64, rules: ReplicationRules = .all) throws {
    self.plan = plan
    self.rules = rules
    random = SplitMix(seed: seed)
    events = plan.weights.flatMap { Array(repeating: $0.0, count: $0.1) }
    kept = Array(repeating: nil, count: plan.keys)
    hello = try Hello(.server, name: "simulated")
    servers = (0..<plan.servers).map { SimulatedServer($0, keys: plan.keys) }
    edges = plan.edges.map { SimulatedEdge(servers[$0.0], servers[$0.1]) }
  }

  deinit { room.deallocate() }

  private func say(_ text: @autoclosure () -> String) { trace?(text()) }

  // --- the course ---

  /// All of it: the start, the faults, the time after them, and what has to hold then.
  func run() throws(SimulationFailure) {
    say("\(plan.servers) servers, \(plan.keys) keys, who dials whom: \(plan.edges)")
    begin()
    try step(plan.steps)
    heal()
    try settle()
    try check()
  }

  /// Starts servers, each with a journal of its own.
  func begin() {
    for server in servers {
      if let first = plan.firstClock {
        // Near the maximum none is empty: its first own Update would be too far behind for the others ever after.
        for _ in 0...random.below(3) {
          let clock = min(UInt64(first) + UInt64(random.below(4)), UInt64(UInt32.max))
          server.disk.append(
            SimulatedRecord(
              key: random.below(plan.keys), stamp: Stamp(clock: UInt32(clock), phone: newPhone())))
        }
        server.disk.sync()
      }
      start(server)
    }
  }

  /// So many events.
  func step(_ count: Int) throws(SimulationFailure) {
    for _ in 0..<count {
      let server = servers[random.below(servers.count)]
      try happen(events[random.below(events.count)], at: server)
    }
  }

  /// All faults end, all servers and links are up.
  func heal() {
    say("-- faults are over")
    isSettling = true
    for server in servers {
      server.disk.isFull = false
      if server.replica == nil { start(server) }
      tryJournal(server)
    }
    for connection in connections where connection.isDead {
      for end in connection.ends { close(end) }
    }
    for edge in edges { dial(edge) }
  }

  /// Goes on until nothing is left to be done.
  func settle() throws(SimulationFailure) {
    isSettling = true
    defer { isSettling = false }
    for _ in 0..<250 {
      var hasMoved = false
      let first = random.below(servers.count)
      for place in 0..<servers.count {
        let server = servers[(first + place) % servers.count]
        if try turn(server) { hasMoved = true }
      }
      if !hasMoved { return }
    }
    throw SimulationFailure(kind: .restless, text: "messages go on and on")
  }

  /// All servers beat, and all that follows is done.
  func beatAll() throws(SimulationFailure) {
    for server in servers { server.replica?.beat() }
    try settle()
  }

  private func happen(_ event: SimulationPlan.Event, at server: SimulatedServer) throws(SimulationFailure) {
    switch event {
    case .turn: try turn(server)
    case .send: if let end = anyEnd(server) { send(end) }
    case .receive: if let end = anyEnd(server) { try receive(end) }
    case .endTurn: try endTurn(server)
    case .clientSends: if let client = anyClient(server) { try takeCommands(client, server) }
    case .clientReceives: if let client = anyClient(server) { try takeListing(client, server) }
    case .commands: command(server)
    case .beat:
      say("\(server.number) beats")
      server.replica?.beat()
    case .dial: dial(edges[random.below(edges.count)])
    case .cut:
      guard let end = anyEnd(server), !end.connection.isDead else { return }
      cut(end.connection)
    case .notice: if let end = anyEnd(server), end.connection.isDead || random.chance(10) { close(end) }
    case .closeClient: if let client = anyClient(server) { close(client, server) }
    case .kill: crash(server, isPowerLoss: false)
    case .losePower: crash(server, isPowerLoss: true)
    case .stop:
      server.replica?.stop()
      try endTurn(server)
      crash(server, isPowerLoss: false)
    case .start:
      guard server.replica == nil, !server.disk.isFull else { return }
      start(server)
      guard random.chance(plan.crashesTwice) else { return }
      listAtOnce(server)
      try endTurn(server)
      crash(server, isPowerLoss: random.chance(70))
    case .fillDisk:
      say("\(server.number): its disk is full")
      server.disk.isFull = true
    case .clearDisk: server.disk.isFull = false
    case .tryJournal: tryJournal(server)
    }
  }

  private func anyEnd(_ server: SimulatedServer) -> SimulatedEnd? {
    server.ends.isEmpty ? nil : server.ends[random.below(server.ends.count)]
  }

  private func anyClient(_ server: SimulatedServer) -> SimulatedClient? {
    server.clients.isEmpty ? nil : server.clients[random.below(server.clients.count)]
  }

  private func newPhone() -> Int {
    phones += 1
    // Any order: a later one may be smaller.
    return random.below(1000) * 1000 + phones % 1000
  }

  /// How many of so many bytes are moved at once: often all, or a few only.
  private func piece(of count: Int) -> Int {
    if count <= 1 { return count }
    if random.chance(isSettling ? 85 : 50) { return count }
    return 1 + random.below(random.chance(50) ? count : min(count, 12))
  }

  // --- servers ---

  /// Starts one as the real one starts: what is in its journal is made durable, and put into a book.
  private func start(_ server: SimulatedServer) {
    if rules.contains(.syncsAtStart) { server.disk.sync() }
    let book = Book()
    for record in server.disk.records {
      _ = Fields.view(record.key, record.stamp.phone) {
        book.stage($0, clock: record.stamp.clock, from: nil, most: mostContacts)
      }
    }
    book.commit()
    let replica = Replica(book, rules: rules)
    server.replica = replica
    server.lastPublished = replica.publishedClock
    say("\(server.number) starts: clock \(replica.clock), \(describe(server))")
  }

  private func crash(_ server: SimulatedServer, isPowerLoss: Bool) {
    guard server.replica != nil else { return }
    server.disk.crash(isPowerLoss: isPowerLoss, &random)
    say(
      "\(server.number) \(isPowerLoss ? "loses power" : "is killed"): \(server.disk.records.count) records stay"
    )
    for end in server.ends {
      end.isOpen = false
      cut(end.connection)
      forget(end.connection)
    }
    server.ends = []
    for client in server.clients { client.isClosed = true }
    server.clients = []
    server.listeners = []
    server.early = []
    server.replica = nil
  }

  /// Whether there was something to do.
  @discardableResult
  private func turn(_ server: SimulatedServer) throws(SimulationFailure) -> Bool {
    guard server.replica != nil else { return false }
    var hasMoved = false
    func does() -> Bool { isSettling || random.chance(75) }
    for end in server.ends where does() { if try receive(end) { hasMoved = true } }
    for client in server.clients where does() { if try takeCommands(client, server) { hasMoved = true } }
    if does(), try endTurn(server) { hasMoved = true }
    for end in server.ends where does() { if send(end) { hasMoved = true } }
    for client in server.clients where does() {
      if try sendListing(client, server) { hasMoved = true }
      if try takeListing(client, server) { hasMoved = true }
    }
    return hasMoved
  }

  @discardableResult
  private func endTurn(_ server: SimulatedServer) throws(SimulationFailure) -> Bool {
    let hasCommitted = try commit(server)
    guard server.replica != nil else { return true }
    let ready = server.listeners
    server.listeners = []
    for client in ready where !client.isClosed { try answer(client, server) }
    return hasCommitted || !ready.isEmpty
  }

  /// Writes what is staged, syncs it, and shows it; or fails, or crashes in between.
  private func commit(_ server: SimulatedServer) throws(SimulationFailure) -> Bool {
    guard let replica = server.replica, replica.hasStaged || !server.early.isEmpty else { return false }
    var batch: [SimulatedRecord] = []
    replica.book.forEachStaged { batch.append(Fields.record($0, $1)) }
    if server.disk.isFull {
      say("\(server.number) cannot write \(batch)")
      // What was written too early was so before the turn's end.
      let all = server.early + batch
      server.disk.fail(all.prefix(random.below(all.count + 1)), cutting: server.early.count)
      server.early = []
      for client in server.clients { client.staged = [] }
      replica.failed()
      try checkPublished(server)
      return true
    }
    let crash = !isSettling && random.chance(plan.crashesInCommit) ? random.below(3) : nil
    let count = crash == 0 ? random.below(batch.count + 1) : batch.count
    for record in batch.prefix(count) { server.disk.append(record) }
    if crash == 0 || crash == 1 {
      self.crash(server, isPowerLoss: random.chance(50))
      return true
    }
    server.disk.sync()
    if crash == 2 {
      self.crash(server, isPowerLoss: random.chance(50))
      return true
    }
    say("\(server.number) has synced \(server.early + batch)")
    for record in server.early + batch { keep(record) }
    server.early = []
    replica.synced()
    try checkPublished(server)
    for client in server.clients {
      for record in client.staged { client.own[record.key] = record.stamp }
      client.staged = []
    }
    return true
  }

  private func keep(_ record: SimulatedRecord) {
    kept[record.key] = max(kept[record.key] ?? record.stamp, record.stamp)
  }

  private func tryJournal(_ server: SimulatedServer) {
    guard let replica = server.replica, replica.isJournalFailing, !server.disk.isFull else { return }
    say("\(server.number) can write again")
    server.disk.sync()
    replica.worksAgain()
  }

  /// Where `syncsFirst` is broken a change is shown as soon as it is taken, and lies in the kernel's memory until the turn's end.
  private func writeEarly(_ key: Int, _ stamp: Stamp, _ server: SimulatedServer) {
    guard !rules.contains(.syncsFirst), let replica = server.replica,
      Fields.values(replica.book, plan.keys)[key] == stamp
    else { return }
    let record = SimulatedRecord(key: key, stamp: stamp)
    server.disk.append(record)
    server.early.append(record)
  }

  // --- links ---

  private func dial(_ edge: SimulatedEdge) {
    guard let dialler = edge.dialler.replica, edge.acceptor.replica != nil else { return }
    if let old = edge.connection, old.ends[0].isOpen { return }
    connectionCount += 1
    let connection = SimulatedConnection(connectionCount)
    let ends = [
      SimulatedEnd(connection, edge.dialler, side: 0), SimulatedEnd(connection, edge.acceptor, side: 1),
    ]
    connection.ends = ends
    connections.append(connection)
    edge.connection = connection
    edge.dialler.ends.append(ends[0])
    edge.acceptor.ends.append(ends[1])
    let link = dialler.open()
    link.outbox.hello(hello)
    ends[0].link = link
    say("\(edge.dialler.number) dials \(edge.acceptor.number): connection \(connection.number)")
  }

  /// What is on its way is lost, or a part of it; what is sent from now on is.
  private func cut(_ connection: SimulatedConnection) {
    if connection.isDead { return }
    say("connection \(connection.number) is cut")
    connection.isDead = true
    for pipe in connection.pipes {
      switch random.below(3) {
      case 0: pipe.keep(0)
      case 1: pipe.keep(random.below(pipe.count + 1))
      default: break
      }
    }
  }

  private func close(_ end: SimulatedEnd) {
    guard end.isOpen else { return }
    say("\(end.server.number) closes connection \(end.connection.number)")
    end.isOpen = false
    end.server.ends.removeAll { $0 === end }
    if let link = end.link { end.server.replica?.close(link) }
    cut(end.connection)
    forget(end.connection)
  }

  private func forget(_ connection: SimulatedConnection) {
    if !connection.ends.contains(where: \.isOpen) { connections.removeAll { $0 === connection } }
  }

  @discardableResult
  private func send(_ end: SimulatedEnd) -> Bool {
    guard let link = end.link, !link.outbox.isEmpty else { return false }
    _ = send(&link.outbox, into: end.connection.isDead ? nil : end.outgoing)
    return true
  }

  /// Has a part of an outbox sent, as a socket takes it: all of what is lent, some, or nothing.
  private func send(_ outbox: inout Outbox, into pipe: Pipe?) -> Int {
    let size = random.chance(isSettling ? 90 : 50) ? room.count : 1 + random.below(2000)
    let isBlocked = !isSettling && random.chance(5)
    return outbox.send(by: UnsafeMutableRawBufferPointer(rebasing: room[..<size])) { bytes in
      if isBlocked { return -1 }
      let count = piece(of: bytes.count)
      pipe?.append(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
      return count
    }
  }

  @discardableResult
  private func receive(_ end: SimulatedEnd) throws(SimulationFailure) -> Bool {
    guard end.isOpen, let replica = end.server.replica else { return false }
    let pipe = end.incoming
    if pipe.count == 0 {
      // The end of a stream comes behind all of it.
      if end.connection.isDead, isSettling || random.chance(50) {
        close(end)
        return true
      }
      return false
    }
    var rest = pipe.take(piece(of: pipe.count))
    // Looked at after each message; told after the last one.
    var wrong: SimulationFailure?
    do throws(ProtocolViolation) {
      if end.link == nil, try end.hello.next(from: &rest) != nil { end.link = replica.open() }
      guard let link = end.link else { return true }
      while let message = try end.messages.next(from: &rest) {
        switch message {
        case .update(_, let contact), .record(_, let contact):
          if !Fields.isKnown(contact, plan.keys) { throw ProtocolViolation("a contact that nobody has made") }
        case .heartBeat, .updateClock, .askForUpdate, .answer: break
        }
        count(message, end)
        try replica.received(message, on: link)
        switch message {
        case .update(let clock, let contact), .record(let clock, let contact):
          if !replica.isJournalFailing, !rules.contains(.syncsFirst) {
            let stamp = Stamp(clock: clock, phone: Fields.number(contact.phone))
            writeEarly(Fields.key(contact.user), stamp, end.server)
          }
        case .heartBeat, .updateClock, .askForUpdate, .answer: break
        }
        do throws(SimulationFailure) { try checkPublished(end.server) } catch { wrong = error }
      }
    } catch {
      throw SimulationFailure(
        kind: .violation, text: "server \(end.server.number), connection \(end.connection.number): \(error)")
    }
    if let wrong { throw wrong }
    return true
  }

  private func count(_ message: ServerMessage, _ end: SimulatedEnd) {
    say("\(end.server.number) gets on connection \(end.connection.number): \(describe(message))")
    switch message {
    case .heartBeat: counts.heartBeats += 1
    case .updateClock: counts.updateClocks += 1
    case .askForUpdate: counts.asks += 1
    case .answer: counts.answers += 1
    case .record: counts.records += 1
    case .update: counts.updates += 1
    }
  }

  // --- clients ---

  private func command(_ server: SimulatedServer) {
    guard let replica = server.replica else { return }
    if server.clients.count < 2, server.clients.isEmpty || random.chance(20) {
      server.clients.append(SimulatedClient(replica.book, keys: plan.keys))
    }
    guard let client = anyClient(server) else { return }
    var writer = MessageWriter()
    for _ in 0...random.below(3) {
      if random.chance(plan.updates) {
        Fields.view(random.below(plan.keys), newPhone()) { writer.update($0) }
      } else {
        writer.listAll()
      }
    }
    writer.bytes.withUnsafeBytes { client.toServer.append($0) }
  }

  /// A client that asks for nothing else, right after a start.
  private func listAtOnce(_ server: SimulatedServer) {
    guard let replica = server.replica else { return }
    let client = SimulatedClient(replica.book, keys: plan.keys)
    server.clients.append(client)
    client.isListing = true
    server.listeners.append(client)
  }

  @discardableResult
  private func takeCommands(_ client: SimulatedClient, _ server: SimulatedServer)
    throws(SimulationFailure) -> Bool
  {
    if client.isListing {
      return try sendListing(client, server)
    }
    guard client.toServer.count > 0 else { return false }
    let bytes = client.toServer.take(piece(of: client.toServer.count))
    try takeCommands(bytes, client, server)
    return true
  }

  private func takeCommands(
    _ bytes: UnsafeRawBufferPointer, _ client: SimulatedClient, _ server: SimulatedServer
  ) throws(SimulationFailure) {
    guard let replica = server.replica else { return }
    var rest = bytes
    while true {
      let command: ClientCommand?
      do throws(ProtocolViolation) { command = try client.commands.next(from: &rest) } catch {
        throw SimulationFailure(kind: .violation, text: "server \(server.number), a client: \(error)")
      }
      switch command {
      case nil: return
      case .listAll:
        client.isListing = true
        server.listeners.append(client)
        client.held = Array(rest)
        return
      case .update(let contact): try update(contact, client, server, replica)
      }
    }
  }

  private func update(
    _ contact: ContactView, _ client: SimulatedClient, _ server: SimulatedServer, _ replica: Replica
  ) throws(SimulationFailure) {
    let (key, phone) = (Fields.key(contact.user), Fields.number(contact.phone))
    do throws(UpdateRefusal) { try replica.update(contact) } catch {
      say("\(server.number) refuses \(phone) for \(key): \(error)")
      return
    }
    let stamp = Stamp(clock: replica.clock, phone: phone)
    say("\(server.number) takes \(stamp) for \(key)")
    client.staged.append(SimulatedRecord(key: key, stamp: stamp))
    writeEarly(key, stamp, server)
    try checkPublished(server)
    if let shown = server.shownClock, shown >= stamp.clock {
      throw SimulationFailure(
        kind: .outrun, text: "server \(server.number) stamps \(stamp), and has shown clock \(shown) before")
    }
  }

  /// What was asked for before is synced: the answer begins.
  private func answer(_ client: SimulatedClient, _ server: SimulatedServer) throws(SimulationFailure) {
    guard let replica = server.replica else { return }
    client.answers.answer(hasClocks: false)
    let values = Fields.values(replica.book, plan.keys)
    say("\(server.number) shows \(describe(server))")
    client.expected.append(values)
    for (key, value) in values.enumerated() {
      if let own = client.own[key], value ?? Stamp(clock: 0, phone: 0) < own {
        throw SimulationFailure(
          kind: .listing, text: "server \(server.number): key \(key): \(own) was taken, and is not shown")
      }
      guard let value else { continue }
      keep(SimulatedRecord(key: key, stamp: value))
      server.shownClock = max(server.shownClock ?? 0, value.clock)
    }
  }

  private func sendListing(_ client: SimulatedClient, _ server: SimulatedServer)
    throws(SimulationFailure) -> Bool
  {
    guard client.isListing, !client.answers.isEmpty else { return false }
    _ = send(&client.answers, into: client.toClient)
    guard client.answers.isEmpty else { return true }
    client.isListing = false
    let held = client.held
    client.held = []
    if held.isEmpty { return true }
    // A copy that outlives the call: what follows may put something else into it.
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: held.count, alignment: 1)
    defer { bytes.deallocate() }
    bytes.copyBytes(from: held)
    try takeCommands(UnsafeRawBufferPointer(bytes), client, server)
    return true
  }

  @discardableResult
  private func takeListing(_ client: SimulatedClient, _ server: SimulatedServer)
    throws(SimulationFailure) -> Bool
  {
    guard client.toClient.count > 0 else { return try sendListing(client, server) }
    var rest = client.toClient.take(piece(of: client.toClient.count))
    func fail(_ text: String) -> SimulationFailure {
      SimulationFailure(kind: .listing, text: "server \(server.number): \(text)")
    }
    while true {
      let part: ListingPart?
      do throws(ProtocolViolation) { part = try client.listing.next(from: &rest) } catch {
        throw fail("\(error)")
      }
      switch part {
      case nil: return true
      case .count(let count):
        guard let expected = client.expected.first, count == expected.count(where: { $0 != nil }) else {
          throw fail("an answer has \(count) contacts")
        }
        client.contactsLeft = count
      case .contact(let contact):
        let key = Fields.key(contact.user)
        guard let expected = client.expected.first?[key], expected.phone == Fields.number(contact.phone)
        else {
          throw fail("key \(key) is \(Fields.number(contact.phone)) in an answer")
        }
        // Once only.
        client.expected[0][key] = nil
        client.contactsLeft -= 1
      }
      if client.contactsLeft == 0 { client.expected.removeFirst() }
    }
  }

  private func close(_ client: SimulatedClient, _ server: SimulatedServer) {
    client.isClosed = true
    client.answers.close()
    server.clients.removeAll { $0 === client }
  }

  // --- what has to hold ---

  /// While a published clock grows, all that the server has heard of is on its disk.
  private func checkPublished(_ server: SimulatedServer) throws(SimulationFailure) {
    guard checksPublished, let replica = server.replica else { return }
    func fail(_ text: String) -> SimulationFailure {
      SimulationFailure(kind: .published, text: "server \(server.number): \(text)")
    }
    let published = replica.publishedClock
    if published > replica.clock { throw fail("\(published) is more than its clock, \(replica.clock)") }
    guard published > server.lastPublished else { return }
    server.lastPublished = published
    if replica.hasStaged { throw fail("it publishes \(published), and has something staged") }
    for (key, value) in Fields.values(replica.book, plan.keys).enumerated() {
      guard let value else { continue }
      guard let synced = server.disk.synced[key], synced >= value else {
        throw fail("it publishes \(published), and \(value) of key \(key) is not on disk")
      }
    }
  }

  private func check() throws(SimulationFailure) {
    // A HeartBeat goes one link far.
    for _ in 0..<servers.count where !haveOneClock { try beatAll() }
    say("-- at the end")
    for server in servers { say("\(server.number): \(describe(server))") }
    let books = servers.map { $0.replica.map { Fields.values($0.book, plan.keys) } ?? [] }
    for (server, book) in zip(servers, books) {
      for (key, kept) in kept.enumerated() {
        guard let kept, book[key] ?? Stamp(clock: 0, phone: 0) < kept else { continue }
        let text = "server \(server.number): key \(key) was \(kept) once, and is \(describe(book[key]))"
        // Elsewhere it may be there.
        if books.allSatisfy({ $0 == book }) { throw SimulationFailure(kind: .lost, text: text) }
        throw SimulationFailure(kind: .booksDiffer, text: text)
      }
      if book != books[0] {
        throw SimulationFailure(kind: .booksDiffer, text: "those of servers 0 and \(server.number)")
      }
      if let snapshots = server.replica?.book.keptCount, snapshots > 0 {
        throw SimulationFailure(kind: .kept, text: "server \(server.number) keeps values for no answer")
      }
    }
    guard haveOneClock else { throw SimulationFailure(kind: .clocksDiffer, text: "HeartBeats do not help") }
    let before = counts
    try beatAll()
    let links = edges.count
    guard counts.heartBeats - before.heartBeats == 2 * links,
      counts.updateClocks - before.updateClocks == 2 * links, counts.asks == before.asks,
      counts.updates == before.updates, counts.answers == before.answers
    else { throw SimulationFailure(kind: .idleCost, text: "\(before) became \(counts) on \(links) links") }
  }

  private var haveOneClock: Bool {
    let clock = servers[0].replica?.clock
    return servers.allSatisfy { $0.replica?.clock == clock && $0.replica?.publishedClock == clock }
  }

  // --- for the trace ---

  private func describe(_ stamp: Stamp?) -> String { stamp.map { "\($0)" } ?? "absent" }

  private func describe(_ server: SimulatedServer) -> String {
    guard let book = server.replica?.book else { return "down" }
    let values = Fields.values(book, plan.keys).enumerated()
    return values.map { "\($0.offset): \(describe($0.element))" }.joined(separator: ", ")
  }

  private func describe(_ message: ServerMessage) -> String {
    func contact(_ clock: UInt32, _ contact: ContactView) -> String {
      "\(Fields.number(contact.phone))@\(clock) for \(Fields.key(contact.user))"
    }
    return switch message {
    case .update(let clock, let view): "Update \(contact(clock, view))"
    case .heartBeat(let status, let clock): "HeartBeat \(status) \(clock)"
    case .updateClock(let clock): "UpdateClock \(clock)"
    case .askForUpdate: "AskForUpdate"
    case .answer(let count): "an answer of \(count)"
    case .record(let clock, let view): "a record \(contact(clock, view))"
    }
  }
}
