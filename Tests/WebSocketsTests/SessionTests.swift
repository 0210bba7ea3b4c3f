import Glibc
import Sockets
import SystemCalls
import TestSupport
import Testing

@testable import WebSockets

/// Two ends of a stream that never wait, each for an owner. See: socketpair(2)
private func pair() throws -> (Int32, Int32) {
  var ends: [Int32] = [-1, -1]
  let flags = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
  try systemCall("socketpair") { socketpair(AF_UNIX, flags, 0, &ends) }
  return (ends[0], ends[1])
}

/// Two ends of a TCP connection over the loopback interface, neither of which waits.
private func connection() throws -> (Int32, Int32) {
  let flags = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
  let listener = Descriptor(owning: try systemCall("socket") { socket(AF_INET, flags, 0) })
  let any = try SocketAddress("127.0.0.1:0")
  try systemCall("bind") { any.withSockaddr { bind(listener.number, $0, $1) } }
  try systemCall("listen") { listen(listener.number, 1) }
  let address = try #require(SocketAddress.local(of: listener.number))
  let client = Descriptor(owning: try systemCall("socket") { socket(AF_INET, flags, 0) })
  try systemCall("connect") { address.withSockaddr { connect(client.number, $0, $1) } }
  let server = Descriptor(owning: try systemCall("accept") { accept(listener.number, nil, nil) })
  for number in [client.number, server.number] {
    try systemCall("fcntl") { fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK) }
    _ = fcntl(number, F_SETFD, FD_CLOEXEC)
  }
  return (client.release(), server.release())
}

/// A session, and what its owner was told.
private final class End: WebSocketSessionOwner {
  let clock = SessionClock()
  let session: WebSocketSession
  var heard: [Heard] = []
  var endings: [WebSocketEnding] = []
  /// What is done with a message, besides.
  var onMessage: (End) -> Void = { _ in }
  private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 1)

  init(
    _ socket: Int32, _ role: WebSocketRole, limits: SessionLimits = SessionLimits(), answers: Bool = true,
    head: [UInt8] = []
  ) {
    session = WebSocketSession(
      Descriptor(owning: socket), role, limits: limits, clock: clock, answers: answers, head: head)
    session.owner = self
  }

  deinit { room.deallocate() }

  var ending: WebSocketEnding? { endings.first }

  func received(_ kind: MessageKind, _ bytes: UnsafeRawBufferPointer, on session: WebSocketSession) {
    heard.append(kind == .text ? .text(Array(bytes)) : .binary(Array(bytes)))
    onMessage(self)
  }

  func ended(_ session: WebSocketSession, _ ending: WebSocketEnding) {
    endings.append(ending)
    if endings.count > 1 { Issue.record("it has ended twice") }
  }

  /// Does what there is to do, as an owner with a loop does.
  func work() {
    guard !session.hasEnded else { return }
    let interest = session.interest
    var entry = pollfd(fd: session.number, events: 0, revents: 0)
    if interest.contains(.readable) { entry.events |= Int16(POLLIN) }
    if interest.contains(.writable) { entry.events |= Int16(POLLOUT) }
    guard poll(&entry, 1, 0) > 0 else { return }
    if Int32(entry.revents) & (POLLOUT | POLLERR | POLLHUP) != 0 { session.flush() }
    if Int32(entry.revents) & (POLLIN | POLLERR | POLLHUP) != 0 { session.receive(into: room) }
  }

  func send(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { session.send(.binary, $0) } }

  /// A time on, and a look at it.
  func pass(_ milliseconds: Int) {
    clock.now += milliseconds
    session.sweep()
  }
}

/// The other side, which says what it likes.
private final class Peer {
  private var socket: Descriptor?
  let descriptor: Int32
  private(set) var bytes: [UInt8] = []
  private(set) var hasEnded = false
  private(set) var failure: ErrorNumber?

  init(_ socket: Int32) {
    descriptor = socket
    self.socket = Descriptor(owning: socket)
  }

  func send(_ bytes: [UInt8]) throws { try writeAll(bytes, to: descriptor) }
  func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// Reads what there is, at most so many bytes.
  func read(most: Int = .max) {
    var room = [UInt8](repeating: 0, count: 65536)
    var left = most
    while left > 0, !hasEnded, failure == nil {
      let count = recv(descriptor, &room, min(room.count, left), 0)
      if count < 0 {
        if errno != EAGAIN { failure = .last }
        return
      }
      if count == 0 { hasEnded = true }
      bytes += room[..<count]
      left -= count
    }
  }

  /// Whether that is what it has read, as a reader understands it.
  func heard(_ role: WebSocketRole, behind head: Int = 0) -> Reading {
    WebSocketsTests.read(Array(bytes.dropFirst(head)), role)
  }

  /// Ends the connection, with RST where that is asked for. See: socket(7), SO_LINGER
  func leave(resetting: Bool = false) throws {
    var now = linger(l_onoff: resetting ? 1 : 0, l_linger: 0)
    try systemCall("setsockopt") {
      setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
    }
    socket = nil
  }
}

/// Lets all work until something holds; fails at the deadline.
private func until(_ holds: () -> Bool, _ work: () -> Void) throws {
  _ = try Clock.poll { () -> Bool? in
    work()
    return holds() ? true : nil
  }
}

private let maskKey: [UInt8] = [9, 8, 7, 6]
private func close(_ code: UInt16, _ reason: String = "", mask: [UInt8]? = nil) -> [UInt8] {
  frame(0x88, [UInt8(code >> 8), UInt8(code & 255)] + Array(reason.utf8), mask: mask)
}

@Suite struct SessionTests {
  /// A session and a raw peer.
  private func make(
    _ role: WebSocketRole, overTCP: Bool = false, head: [UInt8] = [],
    _ change: (inout SessionLimits) -> Void = { _ in }
  ) throws -> (End, Peer) {
    var limits = SessionLimits()
    change(&limits)
    if overTCP {
      let (one, other) = try connection()
      return (End(one, role, limits: limits, head: head), Peer(other))
    }
    let (one, other) = try pair()
    return (End(one, role, limits: limits, head: head), Peer(other))
  }

  /// What a peer of a session of that role sends.
  private func from(_ role: WebSocketRole, _ first: UInt8, _ payload: [UInt8] = []) -> [UInt8] {
    frame(first, payload, mask: role.incomingMask)
  }
  private func otherSide(_ role: WebSocketRole) -> WebSocketRole { role == .server ? .client : .server }

  // --- two sessions ---

  @Test(arguments: [false, true]) func twoSessionsAndMessagesBothWays(overTCP: Bool) throws {
    let (one, other) = overTCP ? try connection() : try pair()
    // Did both wait for the other to take something, they would wait for ever.
    let (client, server) = (End(one, .client, answers: false), End(other, .server))
    var random = SplitMix(seed: 4)
    let messages = [0, 1, 125, 126, 65535, 65536, 300_000].map { random.bytes($0) }
    for message in messages {
      #expect(client.send(message) && server.send(message))
      #expect(client.session.send("Grüße \(message.count)") && server.session.send("zurück"))
      client.session.flush()
      server.session.flush()
    }
    try until({ client.heard.count == 14 && server.heard.count == 14 }) {
      client.work()
      server.work()
    }
    #expect(server.heard == messages.flatMap { [.binary($0), .text("Grüße \($0.count)")] })
    #expect(client.heard == messages.flatMap { [.binary($0), .text("zurück")] })
    #expect(client.session.held == 0 && server.session.held == 0)
    #expect(client.session.interest == .readable)
  }

  /// A client that sends without end, and a server that answers: neither waits for ever, and neither holds much.
  @Test(arguments: [false, true]) func aFloodThatIsAnswered(overTCP: Bool) throws {
    let (one, other) = overTCP ? try connection() : try pair()
    let (client, server) = (End(one, .client, answers: false), End(other, .server))
    let message = [UInt8](repeating: 6, count: 40_000)
    server.onMessage = { _ = $0.send(message) }
    var sent = 0
    var most = 0
    try until({ client.heard.count == 500 }) {
      for _ in 0..<20 {
        while sent < 500, client.session.waiting < 900_000, client.send(message) { sent += 1 }
        client.session.flush()
        client.work()
        server.work()
        server.session.flush()
        most = max(most, server.session.held)
      }
    }
    #expect(client.heard.allSatisfy { $0 == .binary(message) })
    #expect(most < 64 * 1024 + 2 * 40_100)
  }

  /// The closing handshake, begun by either or by both at once: both know how it has ended. See: RFC 6455, section 7.1.2
  @Test(arguments: [(true, false), (false, true), (true, true)], [false, true])
  func closing(who: (client: Bool, server: Bool), overTCP: Bool) throws {
    let (one, other) = overTCP ? try connection() : try pair()
    var (client, server): (End?, End?) = (End(one, .client), End(other, .server))
    if who.client { client?.session.close(.normal, "from the client") }
    if who.server { server?.session.close(.goingAway, "from the server") }
    #expect(client?.session.isOpen == !who.client)
    #expect(!who.client || client?.session.send("too late") == false)
    var endings: (client: WebSocketEnding?, server: WebSocketEnding?)
    try until({ endings.client != nil && endings.server != nil }) {
      client?.work()
      server?.work()
      // The socket is closed with the session.
      if let ending = client?.ending { (endings.client, client) = (ending, nil) }
      if let ending = server?.ending { (endings.server, server) = (ending, nil) }
    }
    let (ofClient, ofServer) = (try #require(endings.client), try #require(endings.server))
    #expect(ofClient.failure == nil && ofServer.failure == nil)
    #expect(
      ofClient.code == (who.server ? .goingAway : .normal)
        && ofServer.code == (who.client ? .normal : .goingAway))
    #expect(
      ofClient.told == (who.client ? .normal : .goingAway)
        && ofServer.told == (who.server ? .goingAway : .normal))
    #expect(ofClient.reason == (who.server ? "from the server" : ""))
    #expect(ofServer.reason == (who.client ? "from the client" : ""))
  }

  // --- what is answered ---

  @Test(arguments: [WebSocketRole.server, .client]) func pingsAreAnswered(role: WebSocketRole) throws {
    let (end, peer) = try make(role)
    let pings =
      from(role, 0x89, [1, 2, 3]) + from(role, 0x01, [0x61]) + from(role, 0x89) + from(role, 0x8a, [7])
    try peer.send(pings + from(role, 0x89, [UInt8](repeating: 5, count: 125)) + from(role, 0x80, [0x62]))
    try until({ end.heard == [.text("ab")] }) { end.work() }
    peer.read()
    #expect(
      peer.heard(otherSide(role))
        == Reading(events: [.pong([1, 2, 3]), .pong([]), .pong([UInt8](repeating: 5, count: 125))]))
    #expect(end.session.isOpen)
  }

  /// A Close is answered with its code, and nothing is heard that comes behind it. The server ends first, and the client waits for that.
  @Test(arguments: [WebSocketRole.server, .client], [nil, 1000, 1001, 3000, 4999] as [UInt16?])
  func aCloseIsAnswered(role: WebSocketRole, code: UInt16?) throws {
    let (end, peer) = try make(role, overTCP: true)
    let mask = role.incomingMask
    let goodbye = code.map { WebSocketsTests.close($0, "bye", mask: mask) } ?? from(role, 0x88)
    try peer.send(from(role, 0x82, [1]) + goodbye + from(role, 0x82, [2]) + from(role, 0x89) + [0xff, 0xff])
    try until({ !end.session.isOpen }) { end.work() }
    #expect(!end.session.hasEnded && !end.send([3]))
    try until({ peer.bytes.count >= (code == nil ? 2 : 4) }) { peer.read() }
    #expect(peer.heard(otherSide(role)) == Reading(events: [.close(code, "")]))
    if role == .server { try until({ peer.hasEnded }) { peer.read() } }
    #expect(peer.hasEnded == (role == .server))
    // More that comes means nothing.
    try peer.send(from(role, 0x82, [4]))
    end.work()
    peer.endSending()
    try until({ end.session.hasEnded }) { end.work() }
    #expect(end.heard == [.binary([1])])
    let ending = try #require(end.ending)
    #expect(ending.failure == nil && ending.code?.rawValue == code && ending.told?.rawValue == code)
    #expect(ending.reason == (code == nil ? "" : "bye"))
  }

  /// What crosses this side's Close is heard, and not answered.
  @Test(arguments: [WebSocketRole.server, .client]) func crossing(role: WebSocketRole) throws {
    let (end, peer) = try make(role)
    end.session.close(.goingAway, "enough")
    end.session.close(.normal)
    try peer.send(from(role, 0x82, [1]) + from(role, 0x89, [2]) + from(role, 0x82, [3]))
    try peer.send(WebSocketsTests.close(1001, mask: role.incomingMask))
    if role == .client { peer.endSending() }
    try until({ end.heard.count == 2 && (role == .server || end.session.hasEnded) }) {
      end.work()
      peer.read()
    }
    #expect(end.heard == [.binary([1]), .binary([3])])
    peer.read()
    #expect(peer.heard(otherSide(role)) == Reading(events: [.close(1001, "enough")]))
    peer.endSending()
    try until({ end.session.hasEnded }) { end.work() }
    #expect(end.ending?.failure == nil)
  }

  /// A peer that breaks the protocol is told why, though it sends on and on, and then the connection ends.
  @Test(arguments: [WebSocketRole.server, .client]) func violations(role: WebSocketRole) throws {
    let wrong = frame(0x81, [0x61], mask: role == .server ? nil : maskKey)
    for (bytes, code) in [
      (wrong, UInt16(1002)), (from(role, 0xf1), 1002), (from(role, 0x81, [0xff]), 1007),
      (from(role, 0x82, [UInt8](repeating: 0, count: 101)), 1009),
      (WebSocketsTests.close(1005, mask: role.incomingMask), 1002),
    ] {
      let (end, peer) = try make(role, overTCP: true) { $0.message = 100 }
      try peer.send(from(role, 0x82, [1]) + bytes + [UInt8](repeating: 0x55, count: 50_000))
      try until({ peer.hasEnded }) {
        end.work()
        peer.read()
      }
      #expect(peer.failure == nil)
      #expect(end.heard == [.binary([1])])
      let reading = peer.heard(otherSide(role))
      guard case .close(code, let reason) = reading.events.first, reading.events.count == 1 else {
        Issue.record("\(reading)")
        continue
      }
      #expect(!reason.isEmpty)
      #expect(!end.session.hasEnded && !end.session.isOpen)
      peer.endSending()
      try until({ end.session.hasEnded }) { end.work() }
      #expect(end.ending?.told?.rawValue == code && end.ending?.failure == reason && end.ending?.code == nil)
    }
  }

  // --- ends that are none ---

  @Test(arguments: [WebSocketRole.server, .client]) func endsWithoutAClose(role: WebSocketRole) throws {
    for begun in [[], from(role, 0x01, [0x61]), [0x82]] as [[UInt8]] {
      let (end, peer) = try make(role)
      try peer.send(begun)
      peer.endSending()
      try until({ end.session.hasEnded }) { end.work() }
      #expect(end.ending?.failure == "the connection has ended without a Close" && end.ending?.code == nil)
    }
    let (end, peer) = try make(role)
    end.session.close(.normal)
    peer.endSending()
    try until({ end.session.hasEnded }) { end.work() }
    #expect(end.ending?.failure == "the peer has closed the connection without a Close")
    #expect(end.ending?.told == .normal)
  }

  @Test(arguments: [WebSocketRole.server, .client]) func aPeerThatResets(role: WebSocketRole) throws {
    // While it reads, while it sends, and in the middle of the closing.
    for step in 0..<3 {
      let (end, peer) = try make(role, overTCP: true)
      if step == 2 { end.session.close(.normal) }
      try peer.leave(resetting: true)
      if step == 1 {
        try until({ end.session.hasEnded }) {
          _ = end.send([1])
          end.session.flush()
        }
      } else {
        try until({ end.session.hasEnded }) { end.work() }
      }
      #expect(end.ending?.failure != nil && end.ending?.code == nil)
      // Nothing happens any more.
      #expect(!end.send([1]))
      end.session.flush()
      end.session.close(.normal)
      end.session.fail(.normal, "x")
      end.session.lose("x")
      end.pass(1_000_000)
      #expect(end.endings.count == 1)
    }
  }

  /// With both Closes said nothing is missing but the end of the connection: a reset is one. See: RFC 6455, section 7.1.4
  @Test(arguments: [WebSocketRole.server, .client]) func aResetBehindTheClosing(role: WebSocketRole) throws {
    for begins in [true, false] {
      let (end, peer) = try make(role, overTCP: true)
      if begins { end.session.close(.normal) }
      try peer.send(from(role, 0x82, [1]) + WebSocketsTests.close(1000, mask: role.incomingMask))
      // One piece has both.
      try until({ !end.heard.isEmpty && !peer.bytes.isEmpty }) {
        end.work()
        peer.read()
      }
      #expect(!end.session.isOpen && !end.session.hasEnded)
      try peer.leave(resetting: true)
      try until({ end.session.hasEnded }) { end.work() }
      #expect(end.ending?.failure == nil && end.ending?.code == .normal)
    }
  }

  // --- deadlines ---

  @Test func noCloseComes() throws {
    let (end, peer) = try make(.server)
    end.session.close(.goingAway)
    end.pass(4999)
    #expect(!end.session.hasEnded)
    // Messages do not help.
    try peer.send(from(.server, 0x82, [1]))
    try until({ end.heard.count == 1 }) { end.work() }
    end.pass(1)
    #expect(end.ending?.failure == "no Close came in 5 seconds" && end.ending?.told == .goingAway)
  }

  /// A peer that does not end the connection behind the Closes, or after it was refused.
  @Test(arguments: [WebSocketRole.server, .client]) func noEndComes(role: WebSocketRole) throws {
    let (end, peer) = try make(role) { $0.closing = 700 }
    end.clock.now = 50_000
    try peer.send(WebSocketsTests.close(1000, mask: role.incomingMask))
    try until({ !end.session.isOpen }) { end.work() }
    end.pass(699)
    #expect(!end.session.hasEnded)
    end.pass(1)
    #expect(end.session.hasEnded && end.ending?.failure == nil && end.ending?.code == .normal)

    let (refused, other) = try make(role) { $0.closing = 700 }
    try other.send([0xff, 0xff])
    try until({ !refused.session.isOpen }) { refused.work() }
    for _ in 0..<6 {
      try other.send([1, 2, 3])
      refused.work()
      refused.pass(100)
    }
    #expect(!refused.session.hasEnded)
    refused.pass(100)
    #expect(refused.ending?.told == .protocolError && refused.ending?.failure != nil)
  }

  /// Somebody who reads nothing for 20 seconds is told 1008; who reads a little now and then is not.
  @Test(arguments: [WebSocketRole.server, .client]) func stall(role: WebSocketRole) throws {
    let (end, peer) = try make(role) {
      $0.backlog = 1 << 24
      $0.silence = 0
    }
    let message = [UInt8](repeating: 1, count: 500_000)
    for _ in 0..<8 { #expect(end.send(message)) }
    end.session.flush()
    #expect(end.session.waiting > 3_000_000)
    end.pass(19_999)
    #expect(end.session.isOpen)
    // It takes some.
    let before = end.session.waiting
    try until({ end.session.waiting < before }) {
      peer.read(most: 100_000)
      end.work()
    }
    end.pass(19_999)
    #expect(end.session.isOpen)
    end.pass(1)
    #expect(!end.session.isOpen && !end.session.hasEnded)
    #expect(end.session.waiting < 500_020 + 125)
    // What it reads after all is whole messages, and why it ends.
    try until({ end.session.waiting == 0 }) {
      peer.read()
      end.work()
    }
    peer.read()
    let reading = peer.heard(otherSide(role))
    #expect(reading.problem == nil && !reading.isInside)
    #expect(reading.events.dropLast().allSatisfy { $0 == .binary(message) } && reading.events.count < 8)
    #expect(reading.events.last == .close(1008, "it has read nothing for 20 seconds"))
    #expect(peer.hasEnded)
    peer.endSending()
    try until({ end.session.hasEnded }) { end.work() }
    #expect(
      end.ending?.told == .policyViolation && end.ending?.failure == "it has read nothing for 20 seconds")
  }

  /// The time counts from when something waits, and not from when the last was taken.
  @Test func stallAfterSilence() throws {
    let (end, peer) = try make(.server) {
      $0.backlog = 1 << 24
      $0.silence = 0
    }
    #expect(end.send([1]))
    end.session.flush()
    end.pass(1_000_000)
    for _ in 0..<20 { #expect(end.send([UInt8](repeating: 1, count: 500_000))) }
    end.pass(19_999)
    #expect(end.session.isOpen)
    end.session.flush()
    end.pass(19_999)
    #expect(end.session.isOpen)
    end.pass(1)
    #expect(!end.session.isOpen)
    _ = peer
  }

  /// A silent peer gets a Ping every 30 seconds, and is given up after 90. A Pong is enough, and so is anything else.
  @Test(arguments: [WebSocketRole.server, .client]) func silence(role: WebSocketRole) throws {
    let (end, peer) = try make(role)
    func pings() -> Int {
      peer.read()
      let reading = peer.heard(otherSide(role))
      #expect(reading.events.allSatisfy { $0 == .ping([]) })
      return reading.events.count
    }
    end.pass(29_999)
    #expect(pings() == 0)
    end.pass(1)
    #expect(pings() == 1)
    end.pass(29_999)
    #expect(pings() == 1)
    try peer.send(from(role, 0x8a))
    end.work()
    end.pass(29_999)
    #expect(pings() == 1)
    end.pass(1)
    #expect(pings() == 2)
    for _ in 0..<59 { end.pass(1000) }
    #expect(pings() == 3 && end.session.isOpen)
    // Half a frame is a sign of life, too.
    try peer.send([0x82])
    end.work()
    for _ in 0..<89 { end.pass(1000) }
    #expect(end.session.isOpen)
    end.pass(1000)
    #expect(end.session.hasEnded)
    #expect(end.ending?.failure == "it has been silent for 90 seconds, and has not answered a Ping")
    #expect(end.ending?.told == nil)
  }

  @Test func silenceForEver() throws {
    let (end, peer) = try make(.server) { $0.silence = 0 }
    for _ in 0..<1000 { end.pass(100_000) }
    peer.read()
    #expect(end.session.isOpen && peer.bytes.isEmpty)
  }

  // --- memory ---

  /// A peer that does not read, and is sent more and more, is closed: it gets the frame that it was getting, and why.
  @Test(arguments: [WebSocketRole.server, .client]) func backlog(role: WebSocketRole) throws {
    let (end, peer) = try make(role) { $0.backlog = 100_000 }
    let message = [UInt8](repeating: 7, count: 30_000)
    var sent = 0
    while end.send(message), sent < 1000 {
      sent += 1
      end.session.flush()
      #expect(end.session.waiting <= 100_000 + 30_014)
    }
    #expect(sent < 1000 && !end.session.isOpen)
    #expect(end.session.waiting < 30_014 + 127)
    try until({ peer.hasEnded }) {
      peer.read()
      end.work()
    }
    let reading = peer.heard(otherSide(role))
    #expect(reading.problem == nil && reading.events.dropLast().allSatisfy { $0 == .binary(message) })
    guard case .close(1008, let reason) = reading.events.last else {
      Issue.record("no Close: \(reading.events.count) events")
      return
    }
    #expect(reason.hasPrefix("it does not read what it is sent") && end.session.hasEnded == false)
    peer.endSending()
    try until({ end.session.hasEnded }) { end.work() }
    #expect(end.ending?.failure == reason)
  }

  /// Pings by the thousand from a peer that reads nothing: it is not read from while its Pongs wait.
  @Test func pingsByTheThousand() throws {
    let (end, peer) = try make(.server)
    let pings = Array(
      repeatElement(from(.server, 0x89, [UInt8](repeating: 1, count: 125)), count: 500).joined())
    var sent = 0
    // Until it is not taken any more, for a while.
    var idle = 0
    while idle < 20, sent < 400 * pings.count {
      var room = pollfd(fd: peer.descriptor, events: Int16(POLLOUT), revents: 0)
      if poll(&room, 1, 0) > 0 {
        let count = pings.dropFirst(sent % pings.count).withUnsafeBytes {
          Glibc.send(peer.descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        sent += max(0, count)
        idle = 0
      } else {
        idle += 1
      }
      end.work()
      #expect(end.session.held <= 64 * 1024 + 8192)
    }
    #expect(sent < 400 * pings.count && end.session.isOpen)
    #expect(end.session.interest == .writable)
    // When it reads after all, each whole Ping is answered.
    try until({ end.session.waiting == 0 && peer.bytes.count >= sent / 131 * 127 }) {
      peer.read()
      end.work()
    }
    #expect(peer.heard(.client).events.count == sent / 131)
  }

  /// What a frame promises costs nothing, and a message that is whole neither.
  @Test func heldBytes() throws {
    let (end, peer) = try make(.server)
    try peer.send([0x82, 0xff, 0, 0, 0, 0, 0, 0xff, 0, 0] + maskKey + [1, 2, 3])
    try until({ end.session.held == 3 }) { end.work() }
    #expect(end.session.waiting == 0 && end.session.isOpen)
  }

  // --- failing in the middle ---

  /// In the middle of a frame: its rest is sent, so that the Close behind it is understood; frames that wait behind it are left out,
  /// for they are much, and nobody knows whether the peer reads.
  @Test(arguments: [WebSocketRole.server, .client], [CloseCode.tryAgainLater, .policyViolation])
  func failingInTheMiddle(role: WebSocketRole, code: CloseCode) throws {
    let (end, peer) = try make(role) { $0.backlog = 1 << 24 }
    var random = SplitMix(seed: 12)
    let (long, short) = (random.bytes(2_000_000), random.bytes(300))
    #expect(end.send(short) && end.send(long) && end.send(short) && end.send(long))
    end.session.flush()
    peer.read(most: 150_000)
    end.work()
    #expect(end.session.waiting > 2_000_300)
    end.session.fail(code, "in the middle")
    #expect(!end.session.isOpen && !end.send(short))
    try until({ peer.hasEnded }) {
      peer.read()
      end.work()
    }
    #expect(
      peer.heard(otherSide(role))
        == Reading(events: [.binary(short), .binary(long), .close(code.rawValue, "in the middle")]))
    peer.endSending()
    try until({ end.session.hasEnded }) { end.work() }
    #expect(end.ending?.failure == "in the middle" && end.ending?.told == code)
  }

  /// The handshake's head was not sent whole: it is, and the Close comes behind it.
  @Test func failingInTheHead() throws {
    let head = [UInt8](repeating: 0x48, count: 1_500_000)
    let (end, peer) = try make(.server, head: head) { $0.backlog = 1 << 24 }
    #expect(end.send([1, 2, 3]))
    end.session.flush()
    peer.read(most: 1000)
    end.work()
    #expect(end.session.waiting > 500_000)
    end.session.fail(.policyViolation, "early")
    try until({ peer.hasEnded }) {
      peer.read()
      end.work()
    }
    #expect(peer.bytes.prefix(head.count) == head[...])
    #expect(peer.heard(.client, behind: head.count) == Reading(events: [.close(1008, "early")]))
  }

  /// Failing while it closes: the Close was sent already, and is not sent twice.
  @Test(arguments: [WebSocketRole.server, .client]) func failingWhileClosing(role: WebSocketRole) throws {
    let (end, peer) = try make(role)
    end.session.close(.normal, "bye")
    try peer.send([0xff, 0xff])
    try until({ peer.hasEnded }) {
      end.work()
      peer.read()
    }
    #expect(peer.heard(otherSide(role)) == Reading(events: [.close(1000, "bye")]))
    peer.endSending()
    try until({ end.session.hasEnded }) { end.work() }
    #expect(end.ending?.failure?.contains("reserved bit") == true && end.ending?.told == .normal)
  }

  // --- the owner ---

  /// What an owner does while he is told of a message holds for those that came with it.
  @Test func theOwnerEndsIt() throws {
    let three = from(.server, 0x82, [1]) + from(.server, 0x82, [2]) + from(.server, 0x89)
    for step in 0..<3 {
      let (end, peer) = try make(.server)
      end.onMessage = { end in
        switch step {
        case 0: end.session.close(.normal, "thanks")
        case 1: end.session.fail(.unsupportedData, "no such thing")
        default: end.session.lose("gone")
        }
      }
      try peer.send(three)
      try until({ !end.heard.isEmpty }) { end.work() }
      peer.read()
      switch step {
      case 0:
        #expect(end.heard == [.binary([1]), .binary([2])])
        #expect(peer.heard(.client) == Reading(events: [.close(1000, "thanks")]))
      case 1:
        #expect(end.heard == [.binary([1])])
        #expect(peer.heard(.client) == Reading(events: [.close(1003, "no such thing")]) && peer.hasEnded)
      default:
        #expect(end.heard == [.binary([1])] && end.ending?.failure == "gone" && peer.bytes.isEmpty)
      }
    }
  }

  /// Frames that were made for many, among its own.
  @Test func encodedFrames() throws {
    let (end, peer) = try make(.server)
    let frame = EncodedFrame("all")
    #expect(end.send([1]) && end.session.send(frame) && end.send([2]))
    end.session.flush()
    peer.read()
    #expect(peer.heard(.client) == Reading(events: [.binary([1]), .text("all"), .binary([2])]))
    end.session.close(.normal)
    #expect(!end.session.send(frame))
  }

  @Test func inWords() {
    func words(_ code: CloseCode?, _ reason: String, _ failure: String?, _ told: CloseCode?) -> String {
      WebSocketEnding(code: code, reason: reason, failure: failure, told: told).description
    }
    #expect(words(.normal, "", nil, .normal) == "1000 (normal)")
    #expect(words(.goingAway, "bye", nil, nil) == "1001 (going away): bye")
    #expect(words(nil, "", nil, nil) == "a Close without a code")
    #expect(words(nil, "", "why", .protocolError) == "1002 (protocol error): why")
    #expect(words(nil, "", "recv: EIO", nil) == "recv: EIO")
  }
}

/// The client's side of the handshake on a socket: the answer is there already.
@Suite struct HandshakeOnASocketTests {
  private static let key = "dGhlIHNhbXBsZSBub25jZQ=="
  private static let answer = Array(
    ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").utf8)

  private func perform(
    _ answer: [UInt8], ends: Bool = false, patience: Int32 = 10_000, interruption: Int32 = -1
  ) throws
    -> (chosen: String?, rest: [UInt8], asked: [UInt8])
  {
    let (socket, other) = try pair()
    let one = Descriptor(owning: socket)
    let peer = Peer(other)
    try peer.send(answer)
    if ends { peer.endSending() }
    let handshake = ClientHandshake(try WebSocketURL("ws://127.0.0.1:1/ws"), key: Self.key)
    let (chosen, rest) = try handshake.perform(on: one.number, patience: patience, interruption: interruption)
    peer.read()
    #expect(peer.bytes == handshake.request.bytes)
    return (chosen, rest, peer.bytes)
  }

  private func failure(_ body: () throws -> Void) -> WebSocketFailure? {
    do { try body() } catch { return error as? WebSocketFailure }
    return nil
  }

  /// Frames that come behind the head at once are not lost.
  @Test func whatComesBehindTheHead() throws {
    for rest in [
      [], [0x81, 1, 0x61], [UInt8](repeating: 1, count: 3800), [UInt8](repeating: 1, count: 6000),
    ] as [[UInt8]] {
      let result = try perform(Self.answer + rest)
      #expect(result.chosen == nil)
      // The rest of what was not read with it is still in the socket.
      #expect(result.rest == Array(rest.prefix(4096 - Self.answer.count)))
    }
  }

  @Test func noAnswer() throws {
    let late = failure { _ = try perform(Array(Self.answer.dropLast()), patience: 50) }
    #expect(late?.description.contains("there was no answer") == true && late?.isInterruption == false)
    let gone = failure { _ = try perform(Array(Self.answer.dropLast()), ends: true) }
    #expect(gone?.description.contains("without an answer") == true)
    let refused = failure { _ = try perform(Array("HTTP/1.1 404 Not Found\r\n\r\n".utf8)) }
    #expect(refused?.description.contains("404 Not Found") == true)
    let nonsense = failure { _ = try perform(Array("SSH-2.0-x\n".utf8)) }
    #expect(nonsense != nil && nonsense?.isInterruption == false)
    let (read, write) = try Descriptor.pipe()
    let reading = Descriptor(owning: read)
    let writing = Descriptor(owning: write)
    try writeAll([1], to: writing.number)
    let interrupted = failure { _ = try perform([], interruption: reading.number) }
    #expect(interrupted?.isInterruption == true)
  }
}
