// Lesson 7: close.
// Follow it with `swift run lesson7-close`; or, without the narrator, `strace .build/debug/lesson7-close --bare`.

import Glibc
import LessonSupport

let lesson = begin()
let stream = Int32(SOCK_STREAM.rawValue)  // an enum in Swift's Glibc
var buffer = [UInt8](repeating: 0, count: 100)

say(
  "A listening socket and a connection, as in lessons 1 to 4. The server has a second descriptor for its end."
)
let (listener, address) = listeningSocket()
var (client, server) = connection(to: listener, at: address)
let duplicate = dup(server)
guard duplicate >= 0 else { fail("dup") }

say("close takes one descriptor away. Another one is left: nothing goes out, the connection stands.")
guard close(server) == 0 else { fail("close") }
say("The last one. Now the kernel sends FIN: I shall send no more. The client's kernel answers by itself.")
guard close(duplicate) == 0 else { fail("close") }
say(
  """
  FIN_WAIT2 at this end: its FIN was acknowledged, and it waits for the other one. CLOSE_WAIT at the other: it waits for its own
  program to close. If that forgets to, the socket stays so for ever.
  """)
guard close(client) == 0 else { fail("close") }
say(
  """
  The second FIN (LAST_ACK) and its ACK, and the client's socket is gone. The end that closed first keeps TIME_WAIT, for a
  minute, with nobody's descriptor: should the last ACK have been lost, it must be there to answer again.
  """)

say("Half a close: shutdown ends one direction. A client that has asked all it wanted to can still listen.")
(client, server) = connection(to: listener, at: address)
guard shutdown(client, Int32(SHUT_WR)) == 0 else { fail("shutdown") }
guard write(server, "answer", 6) == 6 else { fail("write") }
guard read(client, &buffer, buffer.count) == 6 else { fail("read") }
guard close(server) == 0 else { fail("close") }
say("This time the client was first, and the TIME_WAIT is the client's. Its descriptor is still open.")
guard close(client) == 0 else { fail("close") }

say("Rude ends. The server closes with 4 bytes unread: they are lost, and the client is told so by RST.")
(client, server) = connection(to: listener, at: address)
guard write(client, "lost", 4) == 4 else { fail("write") }
guard close(server) == 0 else { fail("close") }
guard close(client) == 0 else { fail("close") }
say("The same on purpose: linger with 0 seconds.")
(client, server) = connection(to: listener, at: address)
var now = linger(l_onoff: 1, l_linger: 0)
guard setsockopt(server, SOL_SOCKET, SO_LINGER, &now, 8) == 0 else { fail("setsockopt") }
guard close(server) == 0 else { fail("close") }
guard close(client) == 0 else { fail("close") }
say("No FIN, and no TIME_WAIT at either end.")

say("FIN_WAIT1 and LAST_ACK pass too fast to be seen. Hold them: fill the peer's window, then close.")
(client, server) = connection(to: listener, at: address)
fill(client)
guard close(client) == 0 else { fail("close") }
say("close has returned; the FIN stands behind bytes that nobody reads. FIN_WAIT1, until the server reads:")
drain(server)
guard close(server) == 0 else { fail("close") }
say(
  "And LAST_ACK: the server ends its direction first, and the client closes with its bytes still on the way.")
(client, server) = connection(to: listener, at: address)
guard shutdown(server, Int32(SHUT_WR)) == 0 else { fail("shutdown") }
fill(client)
guard close(client) == 0 else { fail("close") }
drain(server)
guard close(server) == 0 else { fail("close") }

say("Within the minute the server stops, and starts again: nobody has the port, but TIME_WAIT still uses it.")
guard close(listener) == 0 else { fail("close") }
let again = socket(AF_INET, stream, 0)
guard again >= 0 else { fail("socket") }
guard withSockaddr(address, { bind(again, $0, $1) }) == -1 else {
  cannotShow("no connection is in TIME_WAIT any more; it lasts a minute, and this run took longer")
}
guard errno == EADDRINUSE else { fail("bind") }
say(
  "SO_REUSEADDR, on the old socket and on the new one, says that TIME_WAIT is no obstacle. Nearly every server sets it."
)
var on: Int32 = 1
guard setsockopt(again, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
guard withSockaddr(address, { bind(again, $0, $1) }) == 0 else { fail("bind") }

say(
  "So close frees a number, and perhaps sends a FIN; what else happens is up to TCP and the peer.")

// --- what lessons 1 to 6 have shown ---

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, stream, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1  // the end of this lesson shows why
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var room: Int32 = 16_384  // so that a window is filled soon
  guard setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, 4) == 0 else { fail("setsockopt") }
  var segment: Int32 = 1460  // as on an Ethernet; loopback would carry 65483 bytes at once
  guard setsockopt(listener, Int32(IPPROTO_TCP), TCP_MAXSEG, &segment, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lesson.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}

func connection(to listener: Int32, at address: sockaddr_in) -> (client: Int32, server: Int32) {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  return (client, server)
}

/// Writes until the peer's window and the own send buffer are full, as in lesson 6.
func fill(_ descriptor: Int32) {
  var room: Int32 = 16_384
  guard setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &room, 4) == 0 else { fail("setsockopt") }
  guard fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK) == 0 else { fail("fcntl") }
  let bytes = [UInt8](repeating: 0x78, count: 200_000)
  while case let count = write(descriptor, bytes, bytes.count), count != -1 || errno != EAGAIN {
    guard count > 0 else { fail("write") }
  }
}

/// Reads to the end of the stream: with MSG_WAITALL, one call goes on until the buffer is full or the stream ends.
func drain(_ descriptor: Int32) {
  var bytes = [UInt8](repeating: 0, count: 200_000)
  guard recv(descriptor, &bytes, bytes.count, Int32(MSG_WAITALL)) > 0 else { fail("recv") }
  guard read(descriptor, &bytes, bytes.count) == 0 else { cannotShow("the stream has no end") }
}
