// Lab: a server that closes before it has read all.
// Follow it with `swift run lab-reset`; or, without the narrator, `strace .build/debug/lab-reset --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A client uploads more than the server wants. The server reads the beginning, writes a long answer that says no, and closes; "
      + "write has taken the whole answer. What does the client read?",
    choices: [
      "the whole answer, and then the end of the stream",
      "the beginning of the answer, and then an error",
      "nothing of the answer: an error at once",
    ], ownNetwork: true))
let stream = Int32(SOCK_STREAM.rawValue)
let counted = ["TcpExtTCPAbortOnClose", "TcpOutRsts", "TcpEstabResets"]
let body = [UInt8](repeating: UInt8(ascii: "b"), count: 50_000)
let head = "POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: \(body.count)\r\n\r\n"
let page = String(repeating: "Too much. ", count: 20_000)
let answer =
  "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: \(page.utf8.count)\r\n\r\n\(page)"
var buffer = [UInt8](repeating: 0, count: 300_000)
let (listener, address) = listeningSocket()
let port = UInt16(bigEndian: address.sin_port)

say(
  "A client sends a request with \(body.count) bytes of body. The server reads 4096 bytes, and has seen enough."
)
var start = Counters()
var (client, server) = connection()
ask(client)
guard read(server, &buffer, 4096) == 4096 else { fail("read") }
say("The client's window has no room for the whole answer; the send queue has. Then the server closes.")
var taken = write(server, answer, answer.utf8.count)
guard taken > 0 else { fail("write") }
let left = queues(of: server)
guard close(server) == 0 else { fail("close") }
say(
  """
  No FIN but RST: there was unread input. And with the receive queue the kernel has thrown away the send queue. The client reads
  what has come so far, as much as there is:
  """)
var arrived = recv(client, &buffer, buffer.count, Int32(MSG_WAITALL))
guard arrived > 0 else { cannotShow("nothing of the answer has come") }
let end = read(client, &buffer, buffer.count)
guard end == -1, errno == ECONNRESET else {
  cannotShow("the client's stream has ended with \(end), and not with ECONNRESET")
}
guard close(client) == 0 else { fail("close") }
guard arrived < taken else {
  cannotShow("all \(arrived) bytes of the answer had come before the RST did; nothing was lost")
}
Counters().say(counted, since: start)
guard Counters().grown("TcpExtTCPAbortOnClose", since: start) > 0,
  Counters().grown("TcpOutRsts", since: start) > 0
else {
  cannotShow("the kernel has counted no RST for unread input")
}
verdict(
  .broken,
  """
  write had taken \(taken) bytes of the answer, and \(arrived) came; then read failed with ECONNRESET. When the server closed,
  /proc/net/tcp had \(left.send) bytes in its send queue, and \(left.receive) unread ones in its receive queue.
  """, truth: 2)

say(
  "The cure: end the own direction only, with shutdown; then read until the client has ended its own; then close."
)
start = Counters()
(client, server) = connection()
ask(client)
guard read(server, &buffer, 4096) == 4096 else { fail("read") }
taken = write(server, answer, answer.utf8.count)
guard taken > 0 else { fail("write") }
guard shutdown(server, Int32(SHUT_WR)) == 0 else { fail("shutdown") }
say(
  "The FIN stands behind the answer, in the send queue. The client reads all of it, and the end; and closes.")
arrived = recv(client, &buffer, buffer.count, Int32(MSG_WAITALL))
guard arrived == taken else { cannotShow("of \(taken) bytes \(arrived) have come") }
guard read(client, &buffer, buffer.count) == 0 else { cannotShow("the answer has no end") }
guard close(client) == 0 else { fail("close") }
say(
  "What is left of the upload nobody wants, but it has to be read; a real server sets itself a limit for that."
)
let thrown = recv(server, &buffer, buffer.count, Int32(MSG_WAITALL))
guard thrown > 0 else { fail("recv") }
guard read(server, &buffer, buffer.count) == 0 else { cannotShow("the request has no end") }
guard close(server) == 0 else { fail("close") }
Counters().say(counted, since: start)
verdict(
  .cured,
  """
  write had taken \(taken) bytes, and \(arrived) came, and then the end of the stream. TcpExtTCPAbortOnClose has grown by
  \(Counters().grown("TcpExtTCPAbortOnClose", since: start)).
  """)

/// What /proc/net/tcp has of a socket: bytes not acknowledged, and bytes not read.
func queues(of descriptor: Int32) -> (send: Int, receive: Int) {
  var file = stat()
  guard fstat(descriptor, &file) == 0 else { fail("fstat") }
  let row = TCPRow.all(port: port).first { $0.inode == Int(file.st_ino) }
  guard let row else { cannotShow("/proc/net/tcp does not have the server's socket") }
  return (row.sendQueue, row.receiveQueue)
}

/// The request: a head, and a body that is far too long.
func ask(_ client: Int32) {
  guard write(client, head, head.utf8.count) == head.utf8.count else { fail("write") }
  guard write(client, body, body.count) == body.count else { fail("write") }
}

// --- what lessons 1 to 7 have shown ---

func connection() -> (client: Int32, server: Int32) {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  // Its write takes what there is room for, and does not wait.
  let server = accept4(listener, nil, nil, Int32(SOCK_NONBLOCK.rawValue))
  guard server >= 0 else { fail("accept4") }
  return (client, server)
}

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, stream, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lab.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}
