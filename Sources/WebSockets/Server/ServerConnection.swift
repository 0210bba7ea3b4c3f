import CLinux
import Glibc
import Sockets
import SystemCalls

/// One connection of a server: with somebody who has asked for nothing yet, with a client, or with another server, be it one that
/// has dialled or one that was.
final class ServerConnection: EventHandler, WebSocketSessionOwner {
  private enum Phase {
    /// Was accepted, and has to ask for something.
    case asked(HTTPHeadReader)
    /// Has dialled, and has to be answered.
    case asking(ClientHandshake, HTTPHeadReader)
    /// An HTTP answer is on its way, and then the connection ends.
    case answered
    case client(WebSocketSession)
    case link(WebSocketSession)
    case ended
  }

  /// Until it is a session's.
  private var socket: Descriptor?
  let number: Int32
  private unowned let server: WebSocketServer
  private let address: SocketAddress?
  /// Who has dialled, and whom, where that was this server.
  private let dialler: (redialler: Redialler, url: WebSocketURL)?
  private var phase: Phase
  /// HTTP that the kernel has not taken yet.
  private var outgoing: [UInt8] = []
  private var sent = 0
  private var hasEndedSending = false
  private var deadline: Int
  private var interest = Readiness.readable
  /// Whether it is told who has sent a message for all.
  private(set) var isNamed = false
  /// The other server, once it has said who it is.
  private(set) var other: (instance: UInt64, name: String)?
  /// Whether something was put into its session since it was flushed.
  private var isDirty = false
  private(set) var held = 0
  /// Whether more waits for a client than it should; since when others have had to wait for that, and how much it had taken then.
  private(set) var isFull = false
  private var fullSince: (time: Int, taken: Int)?

  /// One that has to ask for something; or, where this server has dialled, one that it asks for a link.
  init(
    _ socket: consuming Descriptor, _ address: SocketAddress?, _ server: WebSocketServer,
    dialledBy dialler: (redialler: Redialler, url: WebSocketURL)? = nil
  ) {
    number = socket.number
    self.socket = consume socket
    self.address = address
    self.server = server
    self.dialler = dialler
    deadline = server.clock.now + server.options.handshake
    if let dialler {
      let handshake = ClientHandshake(dialler.url, protocols: [LinkMessage.linkProtocol])
      phase = .asking(handshake, HTTPHeadReader(.answers))
      outgoing = handshake.request.bytes
    } else {
      phase = .asked(HTTPHeadReader(.requests))
    }
  }

  /// "127.0.0.1:50000"
  var peer: String { address.map { "\($0)" } ?? "an unknown address" }

  /// A client's session.
  var client: WebSocketSession? { if case .client(let session) = phase { session } else { nil } }
  /// The session of a link whose other end has said who it is.
  var link: WebSocketSession? {
    if case .link(let session) = phase, other != nil { session } else { nil }
  }
  private var session: WebSocketSession? {
    switch phase {
    case .client(let session), .link(let session): session
    default: nil
    }
  }
  var wasDialled: Bool { dialler != nil }
  private var isEnded: Bool { if case .ended = phase { true } else { false } }

  func ready(_ readiness: Readiness) {
    let isOver = readiness.contains(.failed) || readiness.contains(.hungUp)
    if let session {
      if readiness.contains(.writable) || isOver { session.flush() }
      if readiness.contains(.readable) || isOver { session.receive(into: server.loop.scratch) }
    } else {
      if readiness.contains(.writable) || isOver { sendHTTP() }
      if readiness.contains(.readable) || isOver { receiveHTTP() }
    }
    settle()
  }

  /// What is to be waited for, and what it costs, as things stand now.
  func settle() {
    guard !isEnded else { return }
    let wanted = session?.interest ?? (sent < outgoing.count ? [.readable, .writable] : .readable)
    if wanted != interest {
      interest = wanted
      do throws(SystemCallError) { try server.loop.change(number, to: wanted) } catch {
        return end("\(error)")
      }
    }
    let (now, isFull) = (
      session?.held ?? 0, client.map { $0.waiting > WebSocketServer.clientHighWater } ?? false
    )
    count(held: now, isFull: isFull)
  }

  private func count(held now: Int, isFull: Bool) {
    server.held += now - held
    held = now
    if isFull != self.isFull { server.fullClients += isFull ? 1 : -1 }
    self.isFull = isFull
    if !isFull { fullSince = nil }
  }

  /// All connections together hold too much, and this one most of it.
  func relieve() {
    session?.fail(
      .tryAgainLater, "all connections together hold \(server.held) bytes, and this one \(held) of them")
    settle()
  }

  /// Others have to wait because of what waits for this client. It has some time for that, and then it is in the way.
  private func sweepFull() {
    guard isFull, !server.waiting.isEmpty, let session else {
      fullSince = nil
      return
    }
    let now = (time: server.clock.now, taken: session.taken)
    let since = fullSince ?? now
    fullSince = since
    guard now.time - since.time >= WebSocketServer.patienceWithFull else { return }
    // One that reads on is waited for, be the message large, and it slow.
    if now.taken - since.taken >= WebSocketServer.leastWhenFull {
      fullSince = now
      return
    }
    session.fail(
      .policyViolation, "it reads slower than messages for all come: \(session.waiting) bytes wait")
  }

  // --- HTTP ---

  /// Hands to the kernel what waits, to begin with.
  func sendHTTP() {
    while sent < outgoing.count {
      let count = outgoing.withUnsafeBytes { bytes in
        send(number, bytes.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
      }
      if count < 0 {
        let failure = ErrorNumber.last
        switch failure.rawValue {
        case EINTR: continue
        case EAGAIN: return
        default: return end("send: \(failure)")
        }
      }
      sent += count
    }
    (outgoing, sent) = ([], 0)
    // A close at once might destroy what the other side has not read yet.
    if case .answered = phase, !hasEndedSending {
      hasEndedSending = true
      if shutdown(number, Int32(SHUT_WR)) != 0 { end(nil) }
    }
  }

  private func receiveHTTP() {
    let room = server.loop.scratch
    let count = recv(number, room.baseAddress, room.count, 0)
    guard count > 0 else {
      let failure = ErrorNumber.last
      if count < 0, [EAGAIN, EINTR].contains(failure.rawValue) { return }
      return end(count == 0 ? "it has closed the connection" : "recv: \(failure)")
    }
    var bytes = UnsafeMutableRawBufferPointer(rebasing: room[..<count])
    switch phase {
    case .asked(var reader):
      var isHead = false
      do throws(HTTPProblem) {
        guard let head = try reader.next(from: &bytes) else {
          phase = .asked(reader)
          return
        }
        isHead = head.startLine.hasPrefix("HEAD ")
        try answer(try HTTPRequest(head), rest: bytes)
      } catch { refuse(error, isHead: isHead) }
    case .asking(let handshake, var reader):
      do throws(HTTPProblem) {
        guard let head = try reader.next(from: &bytes) else {
          phase = .asking(handshake, reader)
          return
        }
        let chosen = try handshake.check(head)
        guard chosen == LinkMessage.linkProtocol else {
          return end(
            "it is a WebSocket, and no websocket-server: it does not speak \(LinkMessage.linkProtocol)")
        }
        open(.client, rest: bytes, isLink: true)
      } catch { end(error.description) }
    default: break
    }
  }

  private func answer(_ request: HTTPRequest, rest: UnsafeMutableRawBufferPointer) throws(HTTPProblem) {
    let isHead = request.method == "HEAD"
    switch request.path {
    case "/ws":
      let upgrade = try Upgrade(request)
      try OriginRule(server.options.origins).check(request.head)
      if server.isStopping { throw HTTPProblem(503, "the server ends") }
      let chosen = upgrade.protocols.first {
        [LinkMessage.linkProtocol, LinkMessage.namedProtocol].contains($0)
      }
      // Servers have no pages: whoever has one is none.
      if chosen == LinkMessage.linkProtocol, !request.head.all("Origin").isEmpty {
        throw HTTPProblem(403, "a page may not be a link between servers")
      }
      isNamed = chosen == LinkMessage.namedProtocol
      open(
        .server, head: upgrade.answer(subprotocol: chosen).bytes, rest: rest,
        isLink: chosen == LinkMessage.linkProtocol)
    case "/":
      guard request.method == "GET" || isHead else {
        throw HTTPProblem(405, "\(request.method) is not for this page", [.init("Allow", "GET, HEAD")])
      }
      finish(
        HTTPAnswer.bytes(
          200, Page.fields, type: "text/html; charset=utf-8", body: Page.text(of: server.options.name),
          isHead: isHead))
    default:
      finish(
        HTTPAnswer.bytes(
          HTTPProblem(404, "there is nothing here: the page is at /, and the WebSocket at /ws"),
          isHead: isHead))
    }
  }

  private func refuse(_ problem: HTTPProblem, isHead: Bool = false) {
    server.log.tell("refused", "\(peer): \(problem.status): \(problem)")
    finish(HTTPAnswer.bytes(problem, isHead: isHead))
  }

  private func finish(_ answer: [UInt8]) {
    phase = .answered
    deadline = server.clock.now + server.options.limits.closing
    outgoing = answer
    sendHTTP()
  }

  // --- the WebSocket ---

  private func open(
    _ role: WebSocketRole, head: [UInt8] = [], rest: UnsafeMutableRawBufferPointer, isLink: Bool
  ) {
    guard let socket = socket.take() else { return }
    var limits = server.options.limits
    if isLink {
      // A message for all has its sender before it.
      limits.message += LinkMessage.longestHead
      limits.silence = WebSocketServer.linkSilence
      (limits.backlog, limits.stall) = (WebSocketServer.linkBacklog, WebSocketServer.linkStall)
    }
    // What comes over a link goes to others.
    let session = WebSocketSession(
      socket, role, limits: limits, clock: server.clock, answers: !isLink, head: head)
    session.owner = self
    phase = isLink ? .link(session) : .client(session)
    if isLink {
      deadline = server.clock.now + server.options.handshake
      session.send(LinkMessage.hello(instance: server.instance, name: server.options.name).text)
    } else {
      server.log.tell("client connected", peer)
    }
    session.flush()
    // What came behind the head at once are frames already.
    if !rest.isEmpty { session.take(rest) }
  }

  func received(_ kind: MessageKind, _ bytes: UnsafeRawBufferPointer, on session: WebSocketSession) {
    if case .link = phase { return receivedOnLink(kind, bytes, session) }
    // It crosses this server's Close: who sent it learns from that that it was not taken.
    guard session.isOpen else { return }
    if kind == .text, LinkMessage.isMarked(bytes) {
      let text = UnsafeRawBufferPointer(rebasing: bytes[LinkMessage.mark.utf8.count...])
      server.toAll(String(decoding: text, as: UTF8.self), from: self)
      if server.hasToWait(self) { wait(session) }
      return
    }
    server.log.received(kind, bytes) { peer }
    session.send(kind, bytes)
  }

  private func receivedOnLink(
    _ kind: MessageKind, _ bytes: UnsafeRawBufferPointer, _ session: WebSocketSession
  ) {
    do throws(LinkMistake) {
      guard kind == .text else { throw LinkMistake("a link's messages are texts") }
      switch try LinkMessage(bytes) {
      case .hello(let instance, let name):
        guard other == nil else { throw LinkMistake("a link has one hello") }
        guard instance != server.instance else {
          throw LinkMistake("the other end is this server itself")
        }
        other = (instance, name)
        server.addLink(self)
        dialler?.redialler.heard()
        server.log.tell("link up", "with \(linkTitle)")
      case .all(let message):
        guard other != nil else { throw LinkMistake("a link begins with a hello") }
        server.deliver(message, from: self)
        if server.hasToWait(self) { wait(session) }
      }
    } catch { session.fail(.policyViolation, error.description) }
  }

  /// "B at 127.0.0.1:8081, which this server has dialled"
  private var linkTitle: String {
    let name = other?.name.debugDescription ?? "nobody yet"
    return wasDialled
      ? "\(name) at \(peer), which this server has dialled" : "\(name), which has dialled from \(peer)"
  }

  /// Whoever does not take messages as fast as they come is not to be lost for that, nor they: those who send them have to wait.
  private func wait(_ session: WebSocketSession) {
    session.isPaused = true
    server.waiting.append(self)
  }

  /// There is room again.
  func goOn() {
    session?.isPaused = false
    settle()
  }

  /// Has what was put into its session sent at the turn's end, once for all of it.
  func markDirty() {
    if !isDirty { server.dirty.append(self) }
    isDirty = true
  }

  func flushDirty() {
    isDirty = false
    // And no more: in the middle of a message for all others of this client's are not to be taken.
    session?.sendOut()
    settle()
  }

  // --- the end ---

  func ended(_ session: WebSocketSession, _ ending: WebSocketEnding) {
    switch phase {
    case .client:
      server.log.tell(ending.failure == nil ? "client left" : "client lost", "\(peer): \(ending.description)")
    case .link:
      if other != nil {
        server.log.tell("link down", "with \(linkTitle): \(ending.description)")
      } else {
        complain(ending.description)
      }
    default: break
    }
    leave()
  }

  /// Ends what is no WebSocket yet, or no more than HTTP.
  private func end(_ reason: String?) {
    if let session { return session.lose(reason ?? "it cannot be watched") }
    if case .asking = phase { complain(reason ?? "") }
    leave()
  }

  private func complain(_ reason: String) {
    if let dialler {
      dialler.redialler.complain(reason)
    } else {
      server.log.tell("refused", "a link from \(peer): \(reason)")
    }
  }

  private func leave() {
    guard !isEnded else { return }
    phase = .ended
    count(held: 0, isFull: false)
    server.end(self)
    dialler?.redialler.lost()
  }

  /// The server ends: whoever has a WebSocket is told so.
  func stop() {
    if let session {
      session.close(.goingAway, "the server ends", within: WebSocketServer.farewell)
    } else {
      leave()
    }
    settle()
  }

  func sweep() {
    let isLate = server.clock.now >= deadline
    switch phase {
    case .ended: return
    case .asked(let reader):
      guard isLate else { break }
      // Who has said nothing at all is not told, either: a browser keeps such connections for later.
      if reader.isInside {
        refuse(HTTPProblem(408, "the request was not whole after \(server.options.handshake / 1000) seconds"))
      } else {
        leave()
      }
    case .asking: if isLate { end("there was no answer in \(server.options.handshake / 1000) seconds") }
    case .answered: if isLate { leave() }
    case .client(let session):
      sweepFull()
      session.sweep()
    case .link(let session):
      if isLate, other == nil {
        session.fail(.policyViolation, "no hello came in \(server.options.handshake / 1000) seconds")
      }
      session.sweep()
    }
    settle()
  }
}
