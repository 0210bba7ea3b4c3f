// Lesson 4: accept.
// Follow it with `swift run lesson4-accept`; or, without the narrator, `strace .build/debug/lesson4-accept --bare`.

import CLinux
import Glibc
import LessonSupport

let lesson = begin()
let stream = Int32(SOCK_STREAM.rawValue)  // an enum in Swift's Glibc

say("A listening socket, as in lesson 3. It is never to make the program wait: O_NONBLOCK.")
let (listener, address) = listeningSocket()
guard fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK) == 0 else { fail("fcntl") }

say("And it is to probe a silent peer: SO_KEEPALIVE. Will what it accepts have both?")
var on: Int32 = 1
let size = socklen_t(MemoryLayout<Int32>.size)
guard setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, size) == 0 else { fail("setsockopt") }

say("Two clients dial, one after the other. The kernel makes both connections, and queues them.")
let first = dial(address)
let second = dial(address)

say("Now accept. No packet will pass: the connection is there already, and only gets a descriptor.")
var peer = sockaddr_in()
let connection = withSockaddr(&peer, filled: { accept(listener, $0, $1) })
guard connection >= 0 else { fail("accept") }

say(
  """
  A second socket: its own descriptor, its own inode, a peer; and the same local port \(port(address)) as the listener,
  which listens on. Accept uses up no port: a connection is told from another by both of its ends.
  """)
var ownAddress = sockaddr_in()
guard withSockaddr(&ownAddress, filled: { getsockname(connection, $0, $1) }) == 0 else { fail("getsockname") }
guard ownAddress.sin_port == address.sin_port else { cannotShow("the connection has another port") }

say(
  "Who was served? The peer's port is \(port(peer)). Ask the client that dialled first, descriptor \(first), for its own:"
)
var dialler = sockaddr_in()
guard withSockaddr(&dialler, filled: { getsockname(first, $0, $1) }) == 0 else { fail("getsockname") }
guard dialler.sin_port == peer.sin_port else { cannotShow("another client was served first") }

say("First come, first served. And what did it inherit? What belongs to the socket, like SO_KEEPALIVE:")
var length = size
var inherited: Int32 = -1
guard getsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &inherited, &length) == 0 else { fail("getsockopt") }
guard inherited == 1 else { cannotShow("SO_KEEPALIVE was not inherited") }

say("But, on Linux, not O_NONBLOCK: that belongs to the open file, and this one is new.")
let flags = fcntl(connection, F_GETFL)
guard flags >= 0 else { fail("fcntl") }
guard flags & O_NONBLOCK == 0 else { cannotShow("O_NONBLOCK was inherited") }

say(
  "accept4 sets O_NONBLOCK and close-on-exec with the same call: no other thread can fork and exec in between."
)
let both = Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
let other = accept4(listener, nil, nil, both)
guard other >= 0 else { fail("accept4") }
guard fcntl(other, F_GETFD) == FD_CLOEXEC else { cannotShow("close-on-exec was not set") }
guard fcntl(other, F_GETFL) & O_NONBLOCK != 0 else { cannotShow("O_NONBLOCK was not set") }

say("The queue is empty. A listener that may wait would wait here; this one returns EAGAIN.")
guard accept(listener, nil, nil) == -1 else { cannotShow("a third connection came from elsewhere") }
guard errno == EAGAIN else { fail("accept") }

say("Two connections and one listener, on one port. In lesson 5, read takes out what a client has sent.")

// --- what lessons 1 to 3 have shown ---

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, stream, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1  // lesson 7 shows why
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lesson.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}

func dial(_ address: sockaddr_in) -> Int32 {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  return client
}

func port(_ address: sockaddr_in) -> UInt16 { UInt16(bigEndian: address.sin_port) }
