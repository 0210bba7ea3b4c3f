import Glibc
import Sockets
import SystemCalls

/// One connection of a server: with a client, with another server, or with somebody who has not said yet.
final class PeerConnection: EventHandler {
  private enum Phase {
    case greeting, client
    case link(ReplicationLink)
  }

  private let socket: Descriptor
  let peer: String
  private let address: SocketAddress?
  private unowned let server: ContactServer
  /// Who has dialled it, where that was this server.
  let dialler: Redialler?
  private var phase = Phase.greeting
  private(set) var name = ""
  private var hello = MessageReader(HelloLanguage())
  private var commands = MessageReader(ClientLanguage())
  private var messages = MessageReader(ServerLanguage())
  /// Answers to a client.
  private var answers: Outbox
  /// What has come from a client behind a ListAll, from `heldFrom` on: it is taken when that is answered, a ListAll a turn.
  private var held: [UInt8] = []
  private var heldFrom = 0
  /// Whether a client waits for an answer, or for the rest of it. Nothing more is read from it meanwhile.
  private(set) var isListing = false
  private var interest = Readiness.readable
  /// Whether a link was told to be up.
  private var isUp = false
  private var isDraining = false
  /// All was sent, FIN included; the other's end is waited for.
  private(set) var isFinished = false
  private var isClosed = false
  /// By the server's clock, as all times here.
  private(set) var lastActive: Int
  /// When a byte has come last; `lastActive` counts what was sent, too.
  private var lastHeard: Int
  /// When it has taken a byte last, or was about to get its answer.
  private(set) var lastSent: Int
  private let begin: Int
  /// Since when a message has been coming.
  private var insideSince: Int?
  private(set) var lastHeartBeat: Int?

  init(
    _ socket: consuming Descriptor, _ address: SocketAddress?, _ server: ContactServer,
    dialledBy dialler: Redialler?
  ) {
    self.socket = socket
    self.address = address
    self.server = server
    self.dialler = dialler
    peer = address.map { "\($0)" } ?? "an unknown address"
    answers = Outbox(server.replica.book)
    lastActive = server.now
    begin = server.now
    lastHeard = server.now
    lastSent = server.now
    if dialler != nil {
      let link = openLink()
      link.outbox.hello(server.options.hello)
    }
  }

  var number: Int32 { socket.number }
  var isClient: Bool { link == nil }
  /// Whether an answer is on its way to it, for which the book keeps old values.
  var isAnswering: Bool { isListing || link?.outbox.answersWaiting ?? 0 > 0 }
  var hasSentAll: Bool { link?.outbox.isEmpty ?? answers.isEmpty }

  /// For logs: "127.0.0.1:4000 'beta', which was dialled".
  var title: String {
    peer + (name.isEmpty ? "" : " '\(name)'") + (dialler != nil ? ", which was dialled" : "")
  }

  private var link: ReplicationLink? { if case .link(let link) = phase { link } else { nil } }

  private func openLink() -> ReplicationLink {
    let link = server.replica.open()
    link.connection = self
    phase = .link(link)
    // Whoever was dialled may be no contact server: it has to say something first.
    if dialler == nil { hasSpoken() }
    return link
  }

  /// The other side of a link has said something that makes sense.
  private func hasSpoken() {
    if isUp { return }
    isUp = true
    server.log.linkUp(self)
  }

  /// The server has let go of it.
  func close() {
    isClosed = true
    if let link { server.replica.close(link) }
    answers.close()
  }

  /// Ends it, for a reason that is logged.
  func fail(_ reason: String) {
    guard !isClosed else { return }
    if link == nil {
      server.log.refused(self, reason)
    } else if isUp {
      server.log.linkDown(self, reason)
    } else if let address {
      server.log.cannotDial(
        address, "\(address) has never said anything that makes sense: \(reason); is that a contact-server?")
    }
    server.end(self)
  }

  /// Ends it, where the connection is gone.
  private func lose(_ reason: String) {
    guard !isClosed else { return }
    if link != nil { return fail(reason) }
    server.log.lost(self, reason)
    server.end(self)
  }

  // --- reading ---

  func ready(_ readiness: Readiness) {
    if readiness.contains(.writable) || readiness.contains(.failed) || readiness.contains(.hungUp) { flush() }
    guard !isClosed, !isListing else { return }
    if !held.isEmpty {
      takeHeld()
    } else if readiness != .writable || isDraining {
      receive()
    }
    watch()
  }

  private func receive() {
    let buffer = server.loop.scratch
    let count = recv(socket.number, buffer.baseAddress, buffer.count, 0)
    if count > 0 {
      lastActive = server.now
      lastHeard = server.now
      // After this server's own end nothing is taken any more.
      if isFinished { return }
      take(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    } else if count == 0 {
      hungUp()
    } else {
      let failure = ErrorNumber.last
      switch failure.rawValue {
      case EINTR: break
      case EAGAIN: if isDraining, !isListing, answers.isEmpty, isClient { finish() }
      default: lose("recv: \(failure)")
      }
    }
  }

  private func hungUp() {
    if isInside, !isFinished { return fail("it has closed the connection in the middle of a message") }
    if link != nil { return fail("the other side has closed it") }
    server.end(self)
  }

  private var isInside: Bool { hello.isInside || commands.isInside || messages.isInside }

  private func take(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    var hasTaken = false
    do throws(ProtocolViolation) {
      if case .greeting = phase, let hello = try hello.next(from: &rest) {
        hasTaken = true
        guard greet(hello) else { return }
      }
      switch phase {
      case .greeting: break
      case .client: hasTaken = try takeCommands(from: &rest) || hasTaken
      case .link(let link): hasTaken = try takeMessages(from: &rest, on: link) || hasTaken
      }
    } catch {
      return fail(error.description)
    }
    if held.isEmpty {
      held = Array(rest)
      heldFrom = 0
    } else {
      heldFrom = held.count - rest.count
      if rest.isEmpty { held = [] }
    }
    insideSince = !isInside ? nil : hasTaken ? server.now : insideSince ?? server.now
  }

  /// False where it is sent away.
  private func greet(_ hello: Hello) -> Bool {
    name = text(hello.name)
    switch hello.role {
    case .client: phase = .client
    case .server:
      guard server.allows(address) else {
        fail("it wants to speak as a server, and its address is not allowed to")
        return false
      }
      _ = openLink()
    }
    return true
  }

  private func takeCommands(from bytes: inout UnsafeRawBufferPointer) throws(ProtocolViolation) -> Bool {
    var hasTaken = false
    let replica = server.replica
    while let command = try commands.next(from: &bytes) {
      hasTaken = true
      switch command {
      case .update(let contact):
        do throws(UpdateRefusal) {
          try replica.update(contact)
          server.log.took(contact, clock: replica.clock, from: self)
        } catch { server.log.refused(contact, error, from: self) }
      case .listAll:
        isListing = true
        server.wantsListing(self)
        return true
      }
    }
    return hasTaken
  }

  private func takeMessages(from bytes: inout UnsafeRawBufferPointer, on link: ReplicationLink)
    throws(ProtocolViolation) -> Bool
  {
    var hasTaken = false
    while let message = try messages.next(from: &bytes) {
      let isChange = try server.replica.received(message, on: link)
      if !hasTaken {
        dialler?.heard()
        hasSpoken()
      }
      hasTaken = true
      switch message {
      case .heartBeat: lastHeartBeat = server.now
      case .update(let clock, let contact):
        if isChange { server.log.took(contact, clock: clock, from: self) }
      case .updateClock, .askForUpdate, .answer, .record: break
      }
    }
    return hasTaken
  }

  // --- writing ---

  /// What was asked for is synced.
  func answer() {
    guard !isClosed else { return }
    lastSent = server.now
    answers.answer(hasClocks: false)
    flush()
  }

  /// Sends, unless it waits for room already.
  func flushOnce() { if !interest.contains(.writable) { flush() } }

  private func flush() {
    guard !isClosed else { return }
    // So much at once: others are to have their turn.
    for _ in 0..<16 where !hasSentAll {
      var failure = ErrorNumber(0)
      let count = send { bytes in
        let count = Glibc.send(socket.number, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        if count < 0 { failure = .last }
        return count
      }
      if count < 0 {
        if [EAGAIN, EINTR].contains(failure.rawValue) { break }
        return lose("send: \(failure)")
      }
      lastActive = server.now
      lastSent = server.now
    }
    // The next turn takes what has come behind its question.
    if isListing, answers.isEmpty { isListing = false }
    watch()
  }

  private func send(_ body: (UnsafeRawBufferPointer) -> Int) -> Int {
    if let link { return link.outbox.send(by: server.room, body) }
    return answers.send(by: server.room, body)
  }

  private func takeHeld() {
    // `take` sets it anew: what it reads from is kept by this.
    let bytes = held
    bytes.withUnsafeBytes { take(UnsafeRawBufferPointer(rebasing: $0[heldFrom...])) }
  }

  private func watch() {
    guard !isClosed else { return }
    var wanted: Readiness = []
    if !isListing, held.isEmpty { wanted.insert(.readable) }
    if !isListing, !held.isEmpty { wanted.insert(.writable) }
    // While it drains it has a turn with bytes or without: only a read tells that nothing has come.
    if !hasSentAll || isDraining && isClient && !isListing && !isFinished { wanted.insert(.writable) }
    guard wanted != interest else { return }
    do throws(SystemCallError) {
      try server.loop.change(socket.number, to: wanted)
      interest = wanted
    } catch { fail("\(error)") }
  }

  // --- time ---

  func sweep() {
    let now = server.now
    if case .greeting = phase, now - begin > ContactServer.patience {
      return fail("it has not said who it is in \(ContactServer.patience / 1000) seconds")
    }
    if let insideSince, !isListing, now - insideSince > ContactServer.patience {
      return fail("a message that it has begun is not whole after \(ContactServer.patience / 1000) seconds")
    }
    if link != nil, now - lastHeard > 3 * server.options.heartbeat {
      fail("it is silent for three HeartBeats' time, \(Double(3 * server.options.heartbeat) / 1000) seconds")
    }
  }

  // --- the end ---

  /// Does what was asked for until now, and ends.
  func drain() {
    isDraining = true
    watch()
  }

  /// All that was for it is sent: what comes from it from here on is read, and passed over.
  func finish() {
    guard !isFinished else { return }
    isFinished = true
    if let link { server.replica.close(link) }
    // A close now would answer what is still on its way with RST, which may destroy what the client has not read yet.
    if shutdown(socket.number, Int32(SHUT_WR)) != 0 { return server.end(self) }
    watch()
  }

  /// It has had its time.
  func leave() {
    if !isFinished { server.log.refused(self, "the server stops, and it has not ended in time") }
    server.end(self)
  }
}
