import CLinux
import Glibc
import Sockets
import SystemCalls

/// How a server is to be run.
public struct ServerOptions: Sendable {
  /// For the logs of others.
  public var hello: Hello
  /// Where it listens; with port 0 the kernel chooses one.
  public var address: SocketAddress
  /// Servers that it dials, again and again.
  public var peers: [SocketAddress] = []
  /// Who may speak as a server, the port apart; nil for everybody.
  public var allowedServers: [SocketAddress]?
  /// Milliseconds between two HeartBeats. A link that is silent for three of these is closed.
  public var heartbeat = 5000
  /// Further ones wait in the accept queue.
  public var maxConnections = Int.max

  /// - Throws: why that is no name.
  public init(name: String, address: SocketAddress) throws(ProtocolViolation) {
    hello = try Hello(.server, name: name)
    self.address = address
  }
}

/// A contact server: its clients, its links to other servers, its journal, on one thread.
///
/// Whatever has come in one turn of the loop shares one sync of the journal, at the turn's end; then it is shown and sent.
public final class ContactServer {
  public let loop: EventLoop
  let replica: Replica
  let options: ServerOptions
  private let journal: Journal?
  private let limit: ThreadLimit
  private var listener: Listener?
  /// By descriptor.
  private var connections: [Int32: PeerConnection] = [:]
  private var diallers: [Redialler] = []
  /// Clients that have asked for all contacts, and wait for the sync.
  private var listeners: [PeerConnection] = []
  private var signals: LoopSignals?
  private var timers: [LoopTimer] = []
  private var retry: LoopTimer?
  private var compaction: LoopTimer?
  /// Where answers are put that are about to be sent.
  let room: UnsafeMutableRawBufferPointer
  var log: ServerLog
  /// Milliseconds in which this server could have heard somebody: time in which it could do nothing is nobody's silence.
  private(set) var now = 0
  /// By the server's clock, and by the world's.
  private var stoppingSince: Int?
  private var stopsAt: UInt64 = 0
  private let sweep: Int
  public let address: SocketAddress

  /// How long a client may take to say its hello, and for each message that it has begun, in milliseconds.
  static let patience = 10_000
  /// Milliseconds between two tries to write the journal again.
  private static let retryTime = 5000
  /// When it stops: how long a connection may move nothing, and how long all of it may last, in milliseconds.
  private static let (courtesy, longest) = (1000, 10_000)

  /// Listens. From before that on signals are minded: whoever has seen where it listens may send one.
  ///
  /// - Parameters:
  ///   - options: what its owner wants.
  ///   - replica: with all contacts that its journal has.
  ///   - journal: nil to keep nothing.
  ///   - write: gets each event.
  /// - Throws: what stands in the way of listening, or of making a loop.
  public init(
    _ options: ServerOptions, _ replica: Replica, journal: Journal?,
    log write: @escaping (ServerEvent) -> Void
  ) throws(SystemCallError) {
    self.options = options
    self.replica = replica
    self.journal = journal
    log = ServerLog(write)
    limit = ThreadLimit(options.maxConnections)
    loop = try EventLoop(scratchSize: 128 * 1024)
    room = .allocate(byteCount: 256 * 1024, alignment: 16)
    sweep = min(1000, max(20, options.heartbeat / 2))
    // Only what needs no server yet: `self` is whole when the address is.
    var accept: (consuming Descriptor, SocketAddress?) -> Void = { _, _ in }
    let listener = try Listener(at: options.address, limit: limit, on: loop) { accept($0, $1) }
    self.listener = listener
    address = listener.address
    accept = { [unowned self] in accepted($0, from: $1) }
    limit.isReached = { [unowned self] in log.shortage("\(options.maxConnections) connections are open") }
    listener.onShortage = { [unowned self] in log.shortage("accept4: \($0)") }
    signals = try LoopSignals([SIGTERM, SIGINT, SIGHUP, SIGUSR1], on: loop) { [unowned self] in obey($0) }
    retry = try LoopTimer(on: loop) { [unowned self] _ in tryJournalAgain() }
    compaction = try LoopTimer(on: loop) { [unowned self] _ in compact() }
    let (beats, sweeps) = (
      try LoopTimer(on: loop) { _ in replica.beat() },
      try LoopTimer(on: loop) { [unowned self] _ in sweepConnections() }
    )
    beats.start(milliseconds: options.heartbeat, repeats: true)
    sweeps.start(milliseconds: sweep, repeats: true)
    timers = [beats, sweeps]
    replica.note = { [unowned self] in log.note($0, about: describe) }
    for peer in options.peers { diallers.append(try dialler(to: peer)) }
    loop.atTurnsEnd = { [unowned self] in endTurn() }
  }

  deinit { room.deallocate() }

  /// Serves until a signal ends it: then it tells the others, does what its clients have asked for until then, and has all of it on
  /// disk.
  ///
  /// - Throws: where the loop cannot go on.
  public func run() throws(SystemCallError) {
    for dialler in diallers { dialler.start(after: 0) }
    noteAnswered()
    compact()
    endTurn()
    try loop.run()
    commit()
    log.flush(all: true)
  }

  // --- connections ---

  private func accepted(_ socket: consuming Descriptor, from peer: SocketAddress?) {
    let connection = PeerConnection(socket, peer, self, dialledBy: nil)
    if !add(connection) { limit.giveBack() }
  }

  private func dialler(to peer: SocketAddress) throws(SystemCallError) -> Redialler {
    try Redialler(peer, on: loop) { [unowned self] socket, dialler in
      let connection = PeerConnection(socket, peer, self, dialledBy: dialler)
      if add(connection) { return }
      log.linkDown(connection, "it cannot be watched")
      connection.close()
      dialler.lost()
    } failed: { [unowned self] reason in
      log.cannotDial(peer, reason)
    }
  }

  /// Watches a connection. False where that is impossible: then it is closed.
  func add(_ connection: PeerConnection) -> Bool {
    do throws(SystemCallError) { try loop.add(connection.number, for: .readable, connection) } catch {
      log.shortage("\(error)")
      return false
    }
    connections[connection.number] = connection
    if stoppingSince != nil { connection.drain() }
    return true
  }

  /// Closes a connection.
  func end(_ connection: PeerConnection) {
    guard connections[connection.number] === connection else { return }
    loop.forget(connection.number)
    connections[connection.number] = nil  // its descriptor is closed with the last reference
    connection.close()
    if connection.dialler == nil {
      limit.giveBack()
      listener?.resume()
    }
    connection.dialler?.lost()
  }

  /// Whether somebody may speak as a server.
  func allows(_ peer: SocketAddress?) -> Bool {
    guard let allowed = options.allowedServers else { return true }
    guard let host = peer?.canonical.host else { return false }
    return allowed.contains { $0.canonical.host == host }
  }

  /// A client wants all contacts, once what has come until now is synced.
  func wantsListing(_ connection: PeerConnection) { listeners.append(connection) }

  // --- the end of a turn ---

  private func endTurn() {
    commit()
    let ready = listeners
    listeners = []
    for connection in ready { connection.answer() }
    for link in replica.links.values where !link.outbox.isEmpty { link.connection?.flushOnce() }
    if stoppingSince != nil { stopIfDone() }
    log.flush()
  }

  /// Has all that is staged on disk, and shows it.
  private func commit() {
    guard replica.hasStaged else { return }
    if let journal {
      do throws(SystemCallError) {
        try replica.write(to: journal)
        try journal.sync()
      } catch {
        replica.failed()
        log.journalFails("\(error)")
        retry?.start(milliseconds: Self.retryTime)
        return
      }
    }
    replica.synced()
    log.synced()
    // Beside what comes, not after it: clients may not pause.
    compact()
  }

  private func tryJournalAgain() {
    guard let journal, replica.isJournalFailing else { return }
    do throws(SystemCallError) {
      try journal.tryAgain(replica.book)
      replica.worksAgain()
      log.journalWorks()
    } catch {
      retry?.start(milliseconds: Self.retryTime)
    }
  }

  private func compact() {
    guard let journal, !replica.isJournalFailing else { return }
    let before = journal.length
    do throws(SystemCallError) {
      switch try journal.compact(replica.book) {
      case nil: break
      case false: compaction?.start(milliseconds: 5)
      case true: log.compacted(from: before, to: journal.length)
      }
    } catch { log.compactionFailed("\(error)") }
  }

  /// Another server has answered in full after a salvage: that is noted where it outlives a restart.
  private func noteAnswered() {
    guard let journal, journal.awaitsAnswer, !replica.awaitsAnswer, !replica.isJournalFailing else { return }
    do throws(SystemCallError) {
      try journal.noteAnswered()
      log.salvageIsOver()
    } catch {
      replica.failed()
      log.journalFails("\(error)")
      retry?.start(milliseconds: Self.retryTime)
    }
  }

  private func sweepConnections() {
    now += sweep
    for connection in connections.values { connection.sweep() }
    noteAnswered()
    limitSnapshots()
    log.tick(sweep)
  }

  /// Values that are kept for answers which nobody reads may not become more than the book.
  private func limitSnapshots() {
    func isTooMuch() -> Bool { replica.book.keptCount * 48 > max(16 << 20, replica.book.memory / 2) }
    guard isTooMuch() else { return }
    for slow in connections.values.filter(\.isAnswering).sorted(by: { $0.lastSent < $1.lastSent }) {
      guard isTooMuch() else { return }
      slow.fail("it does not read the contacts that it has asked for, and they change meanwhile")
    }
  }

  // --- signals ---

  private func obey(_ signal: Int32) {
    if signal == SIGUSR1 { return figures.forEach(log.write) }
    guard stoppingSince == nil else { return loop.stop() }
    stoppingSince = now
    stopsAt = monotonicNanoseconds() + UInt64(Self.longest) * 1_000_000
    log.stopping()
    for dialler in diallers { dialler.close() }
    replica.stop()
    listener?.finish { [unowned self] in
      listener = nil
      stopIfDone()
    }
    for connection in connections.values { connection.drain() }
  }

  private func stopIfDone() {
    guard let since = stoppingSince else { return }
    let isTooLong = monotonicNanoseconds() > stopsAt
    for connection in connections.values where connection.isClient {
      if isTooLong
        || now - max(since, connection.lastActive) > Self.courtesy * (connection.isFinished ? 1 : 5)
      {
        connection.leave()
      }
    }
    guard isTooLong || listener == nil && !connections.values.contains(where: \.isClient) else { return }
    // Links last: they are told what the last clients have said. A close at once would answer what is still on its way from the
    // other one with RST, which may destroy what it has not read yet.
    for connection in connections.values {
      if isTooLong || now - max(since, connection.lastActive) > Self.courtesy * 5 {
        end(connection)
      } else if connection.hasSentAll {
        connection.finish()
      }
    }
    if connections.isEmpty { loop.stop() }
  }

  // --- figures ---

  /// Whom a link is with.
  private func describe(_ link: LinkID) -> (peer: String, name: String) {
    guard let connection = replica.links[link]?.connection else { return ("", "") }
    return (connection.peer, connection.name)
  }

  /// An event for each link: all in one might be longer than what a pipe takes at once.
  private var figures: [ServerEvent] {
    let book = replica.book
    let clients = connections.values.count(where: \.isClient)
    var fields: [(name: String, value: ServerEvent.Value)] = [
      ("clock", .number(replica.clock)), ("publishedClock", .number(replica.publishedClock)),
      ("contacts", .number(book.count)), ("clients", .number(clients)),
      ("links", .number(replica.links.count)), ("health", .number(replica.health.rawValue)),
    ]
    if let journal { fields.append(("journalBytes", .number(journal.length))) }
    let text =
      "clock \(replica.clock) (published \(replica.publishedClock)), contacts: \(book.count), clients: \(clients), "
      + "links: \(replica.links.count), "
      + (journal.map { "bytes in the journal: \($0.length)" } ?? "no journal")
    return [ServerEvent("figures", text, fields)]
      + replica.links.values.sorted { $0.id < $1.id }.compactMap(figures(of:))
  }

  private func figures(of link: ReplicationLink) -> ServerEvent? {
    guard let connection = link.connection else { return nil }
    let age = connection.lastHeartBeat.map { "\((now - $0) / 1000) s ago" } ?? "never"
    let clock = link.clock.map { "\($0)" } ?? "unknown"
    let queue = link.outbox
    var fields: [(name: String, value: ServerEvent.Value)] = [
      ("peer", .text(connection.peer)), ("name", .text(connection.name)),
      ("dialled", .flag(connection.dialler != nil)), ("health", .number(link.health.rawValue)),
      ("contactsWaiting", .number(queue.updatesWaiting)), ("bytesWaiting", .number(queue.bytesWaiting)),
    ]
    if let clock = link.clock { fields.append(("clock", .number(clock))) }
    if let heard = connection.lastHeartBeat {
      fields.append(("heartBeatAgeMilliseconds", .number(now - heard)))
    }
    return ServerEvent(
      "link figures",
      "\(connection.title): its clock \(clock), last HeartBeat \(age), \(link.health), waiting to be sent: "
        + "contacts: \(queue.updatesWaiting), bytes of answers and messages: \(queue.bytesWaiting)", fields)
  }
}
