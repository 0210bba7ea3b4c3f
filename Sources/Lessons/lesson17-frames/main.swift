// Lesson 17: frames: masks, fragments, control frames, and how a WebSocket is closed.
// Follow it with `swift run lesson17-frames`; or, without the narrator, `strace .build/debug/lesson17-frames --bare`.

import Glibc
import LessonSupport
import WebSockets

let lesson = begin()
let (listener, address) = listeningSocket()
say("A WebSocket, opened as in lesson 16.")
var (client, server) = openWebSocket()
// What takes apart what is built by hand here: the readers of websocket-client and of websocket-server.
var clientReader = WebSocketReader(.client, limit: 1000)
var serverReader = WebSocketReader(.server, limit: 1000)

say("A text of 5 bytes. RFC 6455 has these very bytes in section 5.7, and most that follow here.")
let hello: [UInt8] = [0x81, 5] + "Hello".utf8
show(hello, frame("final, text", "not masked, 5 bytes", .text("payload", 5)))
send(server, hello)
say("The client has read \(heard(&clientReader, take(client))).")

say("A client masks: four bytes, new ones for each frame, and the payload XORed with them, over and over.")
// In earnest they are random; these are RFC 6455's.
let mask: [UInt8] = [0x37, 0xfa, 0x21, 0x3d]
let masked = [0x81, 0x85] + mask + xor("Hello".utf8, mask)
show(masked, frame("final, text", "masked, 5 bytes", .bytes("mask", 4), .bytes("payload, masked", 5)))
send(client, masked)
let came = take(server)
say("The mask is in the frame: whoever can read the frame can take it off. By hand:")
show(
  came[6...] + mask + mask[..<1] + xor(came[6...], mask),
  [.bytes("as it came", 5), .bytes("XOR the mask", 5), .text("is", 5)])
say("And by the server's reader. It has read \(heard(&serverReader, came)).")

say("The same frame, cut inside its mask: 4 bytes, then 7.")
send(client, Array(masked[..<4]))
say("The server has read \(heard(&serverReader, take(server))).")
send(client, Array(masked[4...]))
say("The server has read \(heard(&serverReader, take(server))).")

say("One message in two frames. The first is not final; the second continues. A Ping may come between them.")
let first = [0x01, 3] + Array("Hel".utf8)
let ping = [0x89, 5] + Array("Hello".utf8)
let second = [0x80, 2] + Array("lo".utf8)
show(first, frame("not final, text", "not masked, 3 bytes", .text("payload", 3)))
show(ping, frame("final, Ping", "not masked, 5 bytes", .text("payload", 5)))
show(second, frame("final, continuation", "not masked, 2 bytes", .text("payload", 2)))
for frame in [first, ping, second] { send(server, frame) }
// As soon as all have come, and not before (lesson 15).
var all = [UInt8](repeating: 0, count: first.count + ping.count + second.count)
guard recv(client, &all, all.count, Int32(MSG_WAITALL)) == all.count else { fail("recv") }
say("Three writes, one recv. The client has read \(heard(&clientReader, all)).")
say("A Ping is answered by a Pong, with the same payload. The client masks that, too.")
send(client, [0x8a, 0x85] + mask + xor("Hello".utf8, mask))
say("The server has read \(heard(&serverReader, take(server))).")

say("Seven bits hold lengths up to 125. 126 says that the length is in the next two bytes; 127, in eight.")
let binary: [UInt8] = [0x82, 126, 1, 0] + [UInt8](repeating: 0, count: 256)
show(binary, frame("final, binary", "not masked, 126", .short("length"), .bytes("payload", 256)))
send(server, binary)
say("One write, and three reads of at most 100 bytes.")
for _ in 1...3 { say("The client has read \(heard(&clientReader, take(client, 100))).") }

say(
  "The end is a frame, too: Close, with a code. 1000 says: done. Whoever has sent it sends nothing after it.")
let done = [0x88, 0x82] + mask + xor([0x03, 0xe8], mask)
show(done, frame("final, Close", "masked, 2 bytes", .bytes("mask", 4), .bytes("03 e8, masked", 2)))
send(client, done)
say("The server has read \(heard(&serverReader, take(server))). It answers in kind.")
send(server, [0x88, 2, 0x03, 0xe8])
say(
  "Now the WebSocket is closed, and the connection is not. The server ends that first: TIME_WAIT is its affair."
)
guard close(server) == 0 else { fail("close") }
say("The client has read \(heard(&clientReader, take(client))).")
guard take(client).isEmpty else { cannotShow("the server has not closed") }
guard close(client) == 0 else { fail("close") }

say("A client that does not mask. From the server the same bytes were right.")
(client, server) = openWebSocket()
serverReader = WebSocketReader(.server, limit: 1000)
send(client, hello)
say("The server has read \(heard(&serverReader, take(server))). It says so, and hears no more.")
let broken = [0x88, 12, 0x03, 0xea] + Array("not masked".utf8)
show(broken, frame("final, Close", "not masked, 12 bytes", .short("code"), .text("reason", 10)))
send(server, broken)
guard close(server) == 0 else { fail("close") }
say("The client has read \(heard(&clientReader, take(client))).")
guard close(client) == 0 else { fail("close") }

say("And a client that just calls close, inside a frame.")
(client, server) = openWebSocket()
serverReader = WebSocketReader(.server, limit: 1000)
send(client, Array(masked[..<4]))
guard close(client) == 0 else { fail("close") }
say("The server has read \(heard(&serverReader, take(server))).")
guard take(server).isEmpty else { cannotShow("the client has not closed") }
say("And then the end. A FIN is the kernel's word; a Close only the program could have sent. There was none.")
guard close(server) == 0, close(listener) == 0 else { fail("close") }

/// A frame's fields: final or not, three reserved bits, the opcode; masked or not, the length; and what follows.
func frame(_ first: String, _ second: String, _ rest: DumpField...) -> [DumpField] {
  [.bits([1, 3, 4], first), .bits([1, 7], second)] + rest
}

/// XOR with the mask's bytes, over and over. Twice is not at all.
func xor(_ bytes: some Sequence<UInt8>, _ mask: [UInt8]) -> [UInt8] {
  bytes.enumerated().map { $1 ^ mask[$0 % 4] }
}

/// What a reader makes of some bytes.
func heard(_ reader: inout WebSocketReader, _ bytes: [UInt8]) -> String {
  var (bytes, told) = (bytes, [String]())
  bytes.withUnsafeMutableBytes { all in
    var rest = all
    func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }
    do throws(WebSocketViolation) {
      while let event = try reader.next(from: &rest) {
        switch event {
        case .message(.text, let bytes): told.append("the text '\(text(bytes))'")
        case .message(.binary, let bytes): told.append("a binary message of \(bytes.count) bytes")
        case .ping(let bytes): told.append("Ping '\(text(bytes))'")
        case .pong(let bytes): told.append("Pong '\(text(bytes))'")
        case .close(let code, let reason):
          told.append("Close \(code?.rawValue ?? 0)" + (reason.isEmpty ? "" : ", '\(text(reason))'"))
        }
      }
      if reader.isInside { told.append("something that is not whole yet") }
    } catch { told.append("\(error), which is \(error.code)") }
  }
  return "\(bytes.count) bytes: \(told.joined(separator: ", "))"
}

// --- what earlier lessons have taught ---

func openWebSocket() -> (Int32, Int32) {
  let (client, server) = connection()
  let key = "dGhlIHNhbXBsZSBub25jZQ=="
  let request = lines([
    "GET /ws HTTP/1.1", "Host: 127.0.0.1:\(UInt16(bigEndian: address.sin_port))", "Upgrade: websocket",
    "Connection: Upgrade", "Sec-WebSocket-Key: \(key)", "Sec-WebSocket-Version: 13",
  ])
  send(client, request)
  guard take(server, 1024) == request else { cannotShow("the request is not whole") }
  let answer = lines([
    "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
    "Sec-WebSocket-Accept: \(WebSocketKey.accept(for: key))",
  ])
  send(server, answer)
  guard take(client, 1024) == answer else { cannotShow("the answer is not whole") }
  return (client, server)
}

func lines(_ lines: [String]) -> [UInt8] { Array((lines + ["", ""]).joined(separator: "\r\n").utf8) }

func send(_ descriptor: Int32, _ bytes: [UInt8]) {
  guard write(descriptor, bytes, bytes.count) == bytes.count else { fail("write") }
}

/// What one read returns; nothing at the end.
func take(_ descriptor: Int32, _ atMost: Int = 1024) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: atMost)
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
