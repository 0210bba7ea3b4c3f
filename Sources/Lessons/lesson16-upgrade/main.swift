// Lesson 16: an HTTP request, and from then on the same socket speaks WebSocket.
// Follow it with `swift run lesson16-upgrade`; or, without the narrator, `strace .build/debug/lesson16-upgrade --bare`.

import Glibc
import LessonSupport
import WebSockets

let lesson = begin()
let (listener, address) = listeningSocket()
let host = "Host: 127.0.0.1:\(UInt16(bigEndian: address.sin_port))"
var (client, server) = connection()

say("A connection like any other. What the kernel says of the server's end, before the first byte:")
let before = identity(of: server)
say(before)

say("The client speaks first, in HTTP: lines that end with CR LF, and an empty one at the end.")
// Sixteen random bytes in base64, new ones each time. These are RFC 6455's own, so that you can compare.
let key = "dGhlIHNhbXBsZSBub25jZQ=="
let request = lines([
  "GET /ws HTTP/1.1", host, "Upgrade: websocket", "Connection: Upgrade",
  "Sec-WebSocket-Key: \(key)", "Sec-WebSocket-Version: 13",
])
show(
  request,
  [
    .line("a GET, as for any page"), .line("the server that is meant"), .line("what to go on with"),
    .line("Upgrade: for this hop alone"), .line("16 bytes in base64, a question"),
    .line("the version of RFC 6455"), .line("the head ends here"),
  ])
say("To TCP it is bytes, and may be cut anywhere (lesson 10). Here inside the line with the key.")
send(client, Array(request[..<(request.count - 50)]))
var requests = HTTPHeadReader(.requests)
guard receive(server, &requests).head == nil else { cannotShow("half a request was taken for a whole one") }
say("No empty line yet: the server keeps what has come, and reads on.")
send(client, Array(request[(request.count - 50)...]))
guard let asked = receive(server, &requests).head else { cannotShow("the request is not whole") }
say("Now it is whole: '\(asked.startLine)', and \(asked.fields.count) fields.")

say("To show that it knows what this is about, the server puts a text from RFC 6455 behind the key:")
let question = (asked.all("Sec-WebSocket-Key").first ?? "") + WebSocketKey.guid
say(question)
say("Of these \(question.utf8.count) bytes it takes SHA-1, and of that base64:")
let digest = sha1(question.utf8)
show(digest, [.bytes("SHA-1: 20 bytes", 20)])
say(Base64.encode(digest))
let answer = lines([
  "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
  "Sec-WebSocket-Accept: \(Base64.encode(digest))",
])
guard answer == libraryAnswer(to: asked) else { cannotShow("websocket-server would answer in another way") }
say("That goes into the answer, which is what websocket-server would say, to the byte. A frame is behind it.")
let hello: [UInt8] = [0x81, 5] + "Hello".utf8
show(
  answer + hello,
  [
    .line("yes, from the next byte on"), .line("what is spoken then"), .line("for this hop"),
    .line("the answer to the key"), .line("here HTTP ends"),
    .byte("a frame: a whole text"), .byte("not masked, 5 bytes"), .text("the text", 5),
  ])
send(server, answer + hello)
var answers = HTTPHeadReader(.answers)
let (told, rest) = receive(client, &answers)
guard let told, told.all("Sec-WebSocket-Accept") == [WebSocketKey.accept(for: key)] else {
  cannotShow("the accept is not the key's")
}
say("One read has returned both. '\(told.startLine)', and the accept is the one that belongs to the key.")
say("\(rest.count) bytes behind the empty line, no HTTP any more: \(message(in: rest, for: .client)).")

say("A frame the other way. A client has to mask what it sends; lesson 17 shows how.")
send(client, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])
say("The server has read \(message(in: take(server), for: .server)).")

say("The kernel's word once more. HTTP is over, the WebSocket is open:")
let after = identity(of: server)
say(after)
guard after == before else { cannotShow("it is not the same socket") }
say("The same, to the letter. Two programs have changed their language. The kernel was not told.")
// In order a WebSocket is closed otherwise: lesson 17.
guard close(server) == 0, close(client) == 0 else { fail("close") }

say("Not everybody who asks for /ws can speak WebSocket. A client that knows nothing but HTTP:")
(client, server) = connection()
send(client, lines(["GET /ws HTTP/1.1", host]))
guard let plain = receive(server, &requests).head else { cannotShow("the request is not whole") }
send(server, libraryAnswer(to: plain))
say("The answer is HTTP, and nothing else comes behind it: the server closes.")
guard close(server) == 0 else { fail("close") }
show(
  take(client),
  [
    .line("not so,"), .line("but so,"), .line("which belongs to it,"), .line("and in this version"),
    .line("a text follows"), .line("of so many bytes"), .line("and then it is over"),
  ])
guard take(client).isEmpty else { cannotShow("the server has not closed") }
say("And the end. That was a connection, and no WebSocket; the other one was both.")
guard close(client) == 0, close(listener) == 0 else { fail("close") }

/// What the server's own library answers: 101, or why not.
func libraryAnswer(to head: HTTPHead) -> [UInt8] {
  do throws(HTTPProblem) { return try Upgrade(HTTPRequest(head)).answer().bytes } catch {
    return HTTPAnswer.bytes(error)
  }
}

/// What makes a socket the one that it is: its inode, its protocol, its two ends.
func identity(of descriptor: Int32) -> String {
  var (file, kind, size, own, peer) = (stat(), Int32(0), socklen_t(4), sockaddr_in(), sockaddr_in())
  guard fstat(descriptor, &file) == 0 else { fail("fstat") }
  guard getsockopt(descriptor, SOL_SOCKET, SO_PROTOCOL, &kind, &size) == 0 else { fail("getsockopt") }
  guard withSockaddr(&own, filled: { getsockname(descriptor, $0, $1) }) == 0 else { fail("getsockname") }
  guard withSockaddr(&peer, filled: { getpeername(descriptor, $0, $1) }) == 0 else { fail("getpeername") }
  let ports = [own, peer].map { UInt16(bigEndian: $0.sin_port) }
  return "inode \(file.st_ino), protocol \(kind) (TCP), port \(ports[0]) here and \(ports[1]) there"
}

/// Reads once: the head, where that makes it whole, and what has come behind it.
func receive(_ descriptor: Int32, _ heads: inout HTTPHeadReader) -> (head: HTTPHead?, rest: [UInt8]) {
  var bytes = take(descriptor)
  return bytes.withUnsafeMutableBytes { all in
    var rest = all
    do throws(HTTPProblem) { return (try heads.next(from: &rest), Array(rest)) } catch {
      cannotShow("\(error)")
    }
  }
}

func message(in bytes: [UInt8], for role: WebSocketRole) -> String {
  var reader = WebSocketReader(role, limit: 1000)
  var bytes = bytes
  return bytes.withUnsafeMutableBytes { all in
    var rest = all
    guard case .message(_, let text)? = try? reader.next(from: &rest) else { cannotShow("no message came") }
    return "the message '\(String(decoding: text, as: UTF8.self))'"
  }
}

// --- what earlier lessons have taught ---

func lines(_ lines: [String]) -> [UInt8] { Array((lines + ["", ""]).joined(separator: "\r\n").utf8) }

func send(_ descriptor: Int32, _ bytes: [UInt8]) {
  guard write(descriptor, bytes, bytes.count) == bytes.count else { fail("write") }
}

/// What one read returns; nothing at the end.
func take(_ descriptor: Int32) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 1024)
  let count = read(descriptor, &bytes, bytes.count)
  guard count >= 0 else { fail("read") }
  return Array(bytes[..<count])
}

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lesson.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 4) == 0 else { fail("listen") }
  return (listener, address)
}

func connection() -> (Int32, Int32) {
  let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  return (client, server)
}
