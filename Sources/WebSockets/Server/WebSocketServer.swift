import CLinux
import Glibc
import Sockets
import SystemCalls

/// A server of WebSockets: its clients, whose messages it echoes, and its links to other servers, over which a message for all goes to
/// their clients, too. On one thread.
///
/// See: RFC 6455
public final class WebSocketServer {
  let loop: EventLoop
  let options: WebSocketServerOptions
  let clock = SessionClock()
  /// Another number each time a server starts.
  let instance = UInt64.random(in: 1...UInt64.max)
  private let limit: ThreadLimit
  private var listener: Listener?
  /// By descriptor.
  private var connections: [Int32: ServerConnection] = [:]
  /// Those of them that are links, from the time on at which they are known to be.
  private var links: [ServerConnection] = []
  private var rediallers: [Redialler] = []
  private var signals: LoopSignals?
  private var sweeps: LoopTimer?
  /// Those whose sessions have something to send since the turn began.
  var dirty: [ServerConnection] = []
  /// Bytes that were put there since they were flushed.
  private var unsent = 0
  /// Those that have to wait with their messages for all.
  var waiting: [ServerConnection] = []
  /// Clients for whom more waits than should.
  var fullClients = 0
  /// Messages for all in this turn, counted for each who gets one.
  private var work = 0
  /// Bytes of messages that all connections have it hold.
  var held = 0
  var log: MessageLog
  private var deliveries = Deliveries()
  /// Messages for all from clients of its own.
  private var number: UInt64 = 0
  private var stopsAt: Int?
  private var untilTick = 1000
  private var sweepTime = 1000
  /// Where it listens.
  public let address: SocketAddress

  /// A link that is silent for so long gets a Ping, and after three times that it is down, in milliseconds: a server that vanishes
  /// without a FIN is to be noticed.
  static let linkSilence = 5000
  /// So many bytes may wait on a link before clients have to wait with their messages for all.
  private static let linkHighWater = 256 * 1024
  /// So many at most: what has come from clients before they had to wait, and from other links, which do not wait for links.
  static let linkBacklog = 64 << 20
  /// A link that takes nothing for so long is given up, in milliseconds: others wait for it.
  static let linkStall = 5000
  /// So many bytes may wait for a client before everybody else has to wait with messages for all; and in how many
  /// milliseconds it has to take how many bytes then, or it is closed.
  static let (clientHighWater, patienceWithFull, leastWhenFull) = (1 << 20, 2000, 1 << 20)
  /// So many messages may be put into sessions in a turn: others are to have their turn.
  private static let mostWork = 10_000
  /// So many bytes may be gathered in a turn before they are sent.
  private static let mostUnsent = 16 << 20
  /// When it ends: how long a peer may take to close, or to take something of what is still to be sent; and how long all of it may
  /// last, in milliseconds.
  static let (farewell, longestFarewell) = (2000, 10_000)

  var isStopping: Bool { stopsAt != nil }

  /// Listens. From before that on signals are minded: whoever has seen where it listens may send one.
  ///
  /// - Parameters:
  ///   - options: what its owner wants.
  ///   - write: gets each event: what has happened, and the rest of the sentence.
  /// - Throws: what stands in the way of listening, or of making a loop.
  public init(
    _ options: WebSocketServerOptions, log write: @escaping (_ event: String, _ text: String) -> Void
  ) throws(SystemCallError) {
    self.options = options
    log = MessageLog(write)
    limit = ThreadLimit(options.maxConnections)
    loop = try EventLoop(scratchSize: 128 * 1024)
    // Only what needs no server yet: `self` is whole when the address is.
    var accept: (consuming Descriptor, SocketAddress?) -> Void = { _, _ in }
    let listener = try Listener(at: options.address, limit: limit, on: loop) { accept($0, $1) }
    self.listener = listener
    address = listener.address
    accept = { [unowned self] in accepted($0, from: $1) }
    limit.isReached = { [unowned self] in log.short(of: "\(options.maxConnections) connections are open") }
    listener.onShortage = { [unowned self] in log.short(of: "accept4: \($0)") }
    signals = try LoopSignals([SIGTERM, SIGINT, SIGHUP, SIGUSR1], on: loop) { [unowned self] in obey($0) }
    let sweeps = try LoopTimer(on: loop) { [unowned self] _ in sweep() }
    sweeps.start(milliseconds: sweepTime, repeats: true)
    self.sweeps = sweeps
    for url in options.peers { rediallers.append(try redialler(to: url)) }
    loop.atTurnsEnd = { [unowned self] in endTurn() }
  }

  /// Serves until a signal ends it: then every peer is told so, with code 1001.
  ///
  /// - Throws: where the loop cannot go on.
  public func run() throws(SystemCallError) {
    for redialler in rediallers { redialler.start(after: options.wait) }
    try loop.run()
    log.tick()
  }

  // --- connections ---

  private func accepted(_ socket: consuming Descriptor, from peer: SocketAddress?) {
    if !add(ServerConnection(socket, peer, self)) { limit.giveBack() }
  }

  private func redialler(to url: WebSocketURL) throws(SystemCallError) -> Redialler {
    try Redialler(url.address, on: loop) { [unowned self] socket, redialler in
      let connection = ServerConnection(socket, url.address, self, dialledBy: (redialler, url))
      guard add(connection) else { return redialler.lost() }
      connection.sendHTTP()
      connection.settle()
    } failed: { [unowned self] reason in
      log.write("no link", "\(url): \(reason); it is tried again")
    }
  }

  private func add(_ connection: ServerConnection) -> Bool {
    do throws(SystemCallError) { try loop.add(connection.number, for: .readable, connection) } catch {
      log.short(of: "\(error)")
      return false
    }
    connections[connection.number] = connection
    return true
  }

  /// A connection has become a link.
  func addLink(_ connection: ServerConnection) { links.append(connection) }

  /// Lets go of a connection, which is closed with its last reference.
  func end(_ connection: ServerConnection) {
    guard connections[connection.number] === connection else { return }
    loop.forget(connection.number)
    connections[connection.number] = nil
    links.removeAll { $0 === connection }
    waiting.removeAll { $0 === connection }
    if !connection.wasDialled {
      limit.giveBack()
      listener?.resume()
    }
    if isStopping, connections.isEmpty { loop.stop() }
  }

  private func endTurn() {
    flushDirty()
    relieve()
    work = 0
    guard !waiting.isEmpty else { return }
    let ready = waiting
    waiting = ready.filter { hasToWait($0) }
    for connection in ready where !hasToWait(connection) { connection.goOn() }
  }

  /// Where too much is held, those go who hold most.
  private func relieve() {
    while held > options.mostHeld, let largest = connections.values.max(by: { $0.held < $1.held }) {
      let before = held
      largest.relieve()
      if held >= before { return }
    }
  }

  private func flushDirty() {
    unsent = 0
    while !dirty.isEmpty {
      let ready = dirty
      dirty = []
      for connection in ready { connection.flushDirty() }
    }
  }

  /// Whether somebody's next message for all has to wait: for clients, and a client's for links, too. Links do not wait for each
  /// other: in a ring they might do so for ever.
  func hasToWait(_ connection: ServerConnection) -> Bool {
    if work > Self.mostWork || fullClients > 0 { return true }
    return connection.client != nil && links.contains { $0.link?.waiting ?? 0 > Self.linkHighWater }
  }

  // --- messages for all ---

  /// A client's message for all.
  func toAll(_ text: String, from connection: ServerConnection) {
    number += 1
    let message = MessageForAll(
      origin: instance, number: number, sender: "\(options.name) \(connection.peer)", text: text)
    deliver(message, from: connection)
  }

  /// Brings a message for all to each client here, and over all links but the one that it came from, once: over another way it may
  /// come again. One of this server's own clients cannot come from elsewhere.
  func deliver(_ message: MessageForAll, from connection: ServerConnection) {
    if connection.link != nil {
      guard message.origin != instance, deliveries.take(message) else { return }
    }
    var plain: EncodedFrame?
    var named: EncodedFrame?
    var clients = 0
    var servers: [String] = []
    // As they stand now: whoever cannot take it may be gone when this returns.
    for receiver in Array(connections.values) {
      if let client = receiver.client, client.isOpen {
        let frame: EncodedFrame
        if receiver.isNamed {
          frame = named ?? EncodedFrame(LinkMessage.named(message))
          named = frame
        } else {
          frame = plain ?? EncodedFrame(message.text)
          plain = frame
        }
        if client.send(frame) { clients += 1 }
        receiver.markDirty()
        unsent += frame.size
      } else if let link = receiver.link, receiver !== connection, receiver.other?.instance != message.origin
      {
        if link.send(LinkMessage.all(message).text), let name = receiver.other?.name, !servers.contains(name)
        {
          servers.append(name)
        }
        receiver.markDirty()
        unsent += message.text.utf8.count + LinkMessage.longestHead
      }
      // Many times a long message would be more than there is memory for.
      if unsent > Self.mostUnsent { flushDirty() }
    }
    work += connections.count
    log.receivedForAll(
      "from \(message.sender): \(Self.shown(message.text)); to \(clients) here"
        + (servers.isEmpty ? "" : ", and to \(servers.sorted().joined(separator: ", "))"))
  }

  private static func shown(_ text: String) -> String {
    var text = text
    return text.withUTF8 { MessageLog.shown(.text, UnsafeRawBufferPointer($0)) }
  }

  // --- time and signals ---

  private func sweep() {
    clock.now += sweepTime
    for connection in Array(connections.values) { connection.sweep() }
    untilTick -= sweepTime
    if untilTick <= 0 {
      untilTick = 1000
      log.tick()
    }
    if let stopsAt, clock.now >= stopsAt { loop.stop() }
  }

  private func obey(_ signal: Int32) {
    if signal == SIGUSR1 { return log.write("figures", figures) }
    guard stopsAt == nil else { return loop.stop() }
    stopsAt = clock.now + Self.longestFarewell
    log.write("ending", "every peer is told so; a second signal ends it at once")
    for redialler in rediallers { redialler.close() }
    listener?.close()
    listener = nil
    sweepTime = 100
    sweeps?.start(milliseconds: sweepTime, repeats: true)
    for connection in Array(connections.values) { connection.stop() }
    if connections.isEmpty { loop.stop() }
  }

  private var figures: String {
    let clients = connections.values.count { $0.client != nil }
    return "\(connections.count) connections, \(clients) of them clients, \(links.count) of them links; "
      + "\(log.messages) messages; \(held) bytes held"
  }
}
