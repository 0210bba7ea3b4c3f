// Lesson 18: two servers, each of which is the other's client: which end has dialled, and what depends on it.
// Follow it with `swift run lesson18-two-servers`; or, without the narrator, `strace .build/debug/lesson18-two-servers --bare`.

import Glibc
import LessonSupport
import WebSockets

let lesson = begin()

final class Server {
  /// A real server takes another instance each time it starts.
  let name, instance: String
  let listener: Int32
  let address: sockaddr_in
  /// Origin and number of what its clients were told.
  var told: Set<[UInt64]> = []

  init(_ name: String, instance: String, port: UInt16) {
    (self.name, self.instance) = (name, instance)
    listener = listeningSocket(port)
    address = ownAddress(listener)
  }
}

/// One end of a connection, and what its server has to remember, for the kernel does not: whether it has dialled.
struct End {
  let server: Server
  let descriptor: Int32
  let hasDialled: Bool
  var title: String { "\(server.name), fd \(descriptor)" }
}
typealias Link = (dialled: End, accepted: End)

/// Where what is read goes to.
let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 1000, alignment: 8)

let a = Server("A", instance: "a11ce", port: lesson.port)
let b = Server("B", instance: "b0b", port: lesson.port == 0 ? 0 : lesson.port &+ 1)

say("Two servers, two listening sockets. Can A dial B with its own?")
guard withSockaddr(b.address, { connect(a.listener, $0, $1) }) == -1, errno == EISCONN else {
  cannotShow("a socket that listens has dialled")
}
say("A socket that listens answers, and never dials. A link needs a further socket. B dials A.")
let first = dial(from: b, to: a)

say("Who is that? A asks its end for the peer's address, and dials it.")
var peer = sockaddr_in()
guard withSockaddr(&peer, filled: { getpeername(first.accepted.descriptor, $0, $1) }) == 0 else {
  fail("getpeername")
}
let back = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
guard back >= 0 else { fail("socket") }
guard withSockaddr(peer, { connect(back, $0, $1) }) == -1, errno == ECONNREFUSED else {
  cannotShow("there was no RST from a port that nobody listens on")
}
guard close(back) == 0 else { fail("close") }
say("Nobody listens there: the kernel chose that port for this end of B's. So B has to say who it is.")
upgrade(first)
send("hello \(b.instance) \(b.name)".utf8, from: b, over: first)

say("Where B listens, A was told beforehand. It dials, too: two connections, four connected ends.")
var second = dial(from: a, to: b)
for end in [first.dialled, first.accepted, second.dialled, second.accepted] {
  let isAccepted = ownAddress(end.descriptor).sin_port == end.server.address.sin_port
  guard isAccepted != end.hasDialled else { cannotShow("the port of \(end.title) does not tell what it is") }
  say("\(end.title): " + (isAccepted ? "its listener's port: accepted" : "the kernel's choice: has dialled"))
}

say("'A server does not mask, and A is one.' At its accepted end that is right. Here A has dialled:")
upgrade(second)
let refusal = send("hello \(a.instance) \(a.name)".utf8, from: a, over: second, masked: false)
guard refusal?.code == .protocolError else { cannotShow("a frame without a mask was not refused") }
send([0x03, 0xea], .close, from: b, over: second)
closeBoth(second)

say("One link is left, the one that B has dialled. A's text for all goes over it.")
send("breakfast".utf8, from: a, over: first)
say("A dials again, and masks: at this end it is the client.")
second = dial(from: a, to: b)
upgrade(second)
send("hello \(a.instance) \(a.name)".utf8, from: a, over: second)

say("Two links. Which one is lost next, nobody knows, so A sends its text for all over both.")
for link in [first, second] { send("lunch".utf8, from: a, over: link) }
say("B's clients have it twice. With an origin and a number before it, B knows what it has had.")
for link in [first, second] { send("all \(a.instance) 1 A\ndinner".utf8, from: a, over: link) }

say("A ends, and says so with 1001 at both its ends, the accepted one and the dialled one. B answers.")
for link in [first, second] {
  for server in [a, b] { send([0x03, 0xe9], .close, from: server, over: link) }
}
say("Of each link the accepted end closes first. So TIME_WAIT is once at A, and once at B.")
for link in [first, second] { closeBoth(link) }
for server in [a, b] { guard close(server.listener) == 0 else { fail("close") } }

/// Sends a frame, masked where its server has dialled, and says what the other one makes of it, or why it refuses it.
@MainActor @discardableResult func send(
  _ text: some Collection<UInt8>, _ opcode: Opcode = .text, from server: Server, over link: Link,
  masked: Bool? = nil
) -> WebSocketViolation? {
  let (own, other) = server === link.dialled.server ? link : (link.accepted, link.dialled)
  // Always the same mask, so that each run shows the same bytes. A client takes a random one for each frame.
  let key: [UInt8] = [0x37, 0xfa, 0x21, 0x3d]
  var mask = masked ?? own.hasDialled ? key.withUnsafeBytes { Mask($0) } : nil
  let header = FrameHeader(opcode, length: text.count, mask: mask).bytes
  var payload = Array(text)
  payload.withUnsafeMutableBytes { mask?.apply(to: $0) }
  var reader = WebSocketReader(other.hasDialled ? .client : .server, limit: 1000)
  var frame = carry(header + payload, own, other)
  do {
    switch try reader.next(from: &frame) {
    case .message(_, let text): say("\(other.title): \(meaning(of: text, at: other.server))")
    case .close(let code?, _): say("\(other.title): Close \(code)")
    default: cannotShow("\(other.title) has read no whole frame")
    }
    return nil
  } catch {
    say("\(other.title) refuses it with \(error.code): \(error)")
    return error
  }
}

/// What a server makes of a text that has come over a link.
func meaning(of text: UnsafeRawBufferPointer, at server: Server) -> String {
  switch try? LinkMessage(text) {
  case .hello(let instance, let name): "this is \(name), instance \(String(instance, radix: 16))"
  case .all(let message):
    server.told.insert([message.origin, message.number]).inserted
      ? "to its clients: \(message.text)"
      : "number \(message.number) of \(String(message.origin, radix: 16)) has been told already"
  case nil: "to its clients: \(String(decoding: text, as: UTF8.self))"
  }
}

// --- what earlier lessons have taught ---

func dial(from dialling: Server, to listening: Server) -> Link {
  let dialled = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard dialled >= 0 else { fail("socket") }
  guard withSockaddr(listening.address, { connect(dialled, $0, $1) }) == 0 else { fail("connect") }
  let accepted = accept(listening.listener, nil, nil)
  guard accepted >= 0 else { fail("accept") }
  return (
    End(server: dialling, descriptor: dialled, hasDialled: true),
    End(server: listening, descriptor: accepted, hasDialled: false)
  )
}

/// Lesson 16's handshake. The key is always the same, as the mask is.
@MainActor func upgrade(_ link: Link) {
  var (asked, answered) = (HTTPHeadReader(.requests), HTTPHeadReader(.answers))
  do {
    let url = try WebSocketURL("ws://127.0.0.1:\(link.accepted.server.address.sin_port.bigEndian)/ws")
    let handshake = ClientHandshake(url, key: "dGhlIHNhbXBsZSBub25jZQ==")
    var request = carry(handshake.request.bytes, link.dialled, link.accepted)
    guard let head = try asked.next(from: &request) else { cannotShow("the request is not whole") }
    var answer = carry(try Upgrade(HTTPRequest(head)).answer().bytes, link.accepted, link.dialled)
    guard let head = try answered.next(from: &answer) else { cannotShow("the answer is not whole") }
    _ = try handshake.check(head)
  } catch { cannotShow("\(error)") }
}

/// Writes at one end, and reads at the other: so few bytes come at once.
@MainActor func carry(_ bytes: [UInt8], _ own: End, _ other: End) -> UnsafeMutableRawBufferPointer {
  guard write(own.descriptor, bytes, bytes.count) == bytes.count else { fail("write") }
  guard read(other.descriptor, room.baseAddress, room.count) == bytes.count else { fail("read") }
  return UnsafeMutableRawBufferPointer(rebasing: room[..<bytes.count])
}

func closeBoth(_ link: Link) {
  for end in [link.accepted, link.dialled] { guard close(end.descriptor) == 0 else { fail("close") } }
}

func ownAddress(_ descriptor: Int32) -> sockaddr_in {
  var address = sockaddr_in()
  guard withSockaddr(&address, filled: { getsockname(descriptor, $0, $1) }) == 0 else { fail("getsockname") }
  return address
}

func listeningSocket(_ port: UInt16) -> Int32 {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1  // for the TIME_WAIT that a server's port is left with (lesson 7)
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard listen(listener, 4) == 0 else { fail("listen") }
  return listener
}
