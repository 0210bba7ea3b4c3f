// Lesson 6: write.
// Follow it with `swift run lesson6-write`; or, without the narrator, `strace .build/debug/lesson6-write --bare`.

import Glibc
import LessonSupport

let lesson = begin()
let stream = Int32(SOCK_STREAM.rawValue)  // an enum in Swift's Glibc

say("A connection, as in lessons 1 to 4; with small buffers, so that they fill soon.")
let (listener, address) = listeningSocket()
let (client, server) = connection(to: listener, at: address)

say("The client writes 5 bytes. The server does not read.")
guard write(client, "hello", 5) == 5 else { fail("write") }
say(
  """
  write has returned, and the peer's kernel has acknowledged the bytes: the send queue is empty. They are in the peer's
  receive queue. Its program knows nothing of them.
  """)

say("Much more, without waiting (O_NONBLOCK): the peer's queue fills up, then one's own.")
guard fcntl(client, F_SETFL, fcntl(client, F_GETFL) | O_NONBLOCK) == 0 else { fail("fcntl") }
let much = [UInt8](repeating: 0x78, count: 200_000)
var taken = write(client, much, much.count)
guard taken > 0 else { fail("write") }
guard taken < much.count else { cannotShow("the buffers took all of \(much.count) bytes") }
say(
  "A short write: the kernel took \(taken) bytes of \(much.count), and said so. The rest is the program's. Go on:"
)
while case let count = write(client, much, much.count), count != -1 || errno != EAGAIN {
  guard count > 0 else { fail("write") }
  taken += count
}
say(
  """
  EAGAIN: no room at all. (Without O_NONBLOCK, write would wait here until the peer reads.) The peer's window is 0: it has no
  room left, and told so. What it did not take waits here, in the send queue; a timer runs, to ask again.
  """)

say("The server reads, and room appears at its end: it opens the window again, and more comes over.")
var buffer = [UInt8](repeating: 0, count: 5 + taken)
let some = read(server, &buffer, buffer.count)
guard some > 0 else { fail("read") }
let rest = 5 + taken - some
guard recv(server, &buffer, rest, Int32(MSG_WAITALL)) == rest else { cannotShow("bytes were lost") }
say("All \(some + rest) bytes: 5 and \(taken). Nothing was lost. Now the server closes.")
guard close(server) == 0 else { fail("close") }

say(
  "The client's kernel knows (CLOSE_WAIT): no more will come. It may still send, says TCP. But nobody reads:")
guard write(client, "hello?", 6) == 6 else { fail("write") }
say("It succeeds: write had only to queue the bytes. What came back is an RST; the next write hears of it:")
signal(SIGPIPE, SIG_IGN)
guard write(client, "hello?", 6) == -1 else { cannotShow("the peer is still there") }
guard errno == EPIPE else { fail("write") }
say(
  """
  EPIPE, and a signal with it: SIGPIPE, which kills a program that does not expect it. This one ignores it, by a call made just
  before. send can do without: MSG_NOSIGNAL.
  """)
guard send(client, "hello?", 6, Int32(MSG_NOSIGNAL)) == -1, errno == EPIPE else { fail("send") }

say("So write means: queued. Only an answer from the peer's program means delivered. In lesson 7, close.")

// --- what lessons 1 to 4 have shown ---

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, stream, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1  // lesson 7 shows why
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var room: Int32 = 16_384  // what the listener accepts will have it too
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
  var room: Int32 = 16_384
  guard setsockopt(client, SOL_SOCKET, SO_SNDBUF, &room, 4) == 0 else { fail("setsockopt") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  return (client, server)
}
