// Lesson 3: listen.
// Follow it with `swift run lesson3-listen`; or, without the narrator, `strace .build/debug/lesson3-listen --bare`.

import Glibc
import LessonSupport

let lesson = begin()
let stream = Int32(SOCK_STREAM.rawValue)  // an enum in Swift's Glibc

say("A server's first calls, as in lessons 1 and 2: a socket, and an address for it.")
let listener = socket(AF_INET, stream, 0)
guard listener >= 0 else { fail("socket") }

var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = lesson.port.bigEndian
guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
let port = UInt16(bigEndian: address.sin_port)

say("Port \(port) is taken, but nobody waits there. Let a client dial it.")
let early = socket(AF_INET, stream, 0)
guard early >= 0 else { fail("socket") }
let dialledEarly = withSockaddr(address) { connect(early, $0, $1) }
guard dialledEarly == -1 else { cannotShow("a socket that does not listen took a connection") }
guard errno == ECONNREFUSED else { fail("connect") }

say(
  """
  The kernel refused by itself: a bound socket waits for nobody.
  listen makes it passive: it will never dial, it answers.
  """)
guard listen(listener, 2) == 0 else { fail("listen") }

say(
  "From here on the kernel answers on port \(port) by itself. Dial once more, and count the calls to accept: none."
)
let client = socket(AF_INET, stream, 0)
guard client >= 0 else { fail("socket") }
let dialled = withSockaddr(address) { connect(client, $0, $1) }
guard dialled == 0 else { fail("connect") }

say(
  """
  The connection is complete, with two ends, and nobody has called accept.
  The server's end has no descriptor yet: it waits in the accept queue.
  """)

say("How long may that queue grow? The backlog is a wish, and listen may be called again to change it.")
guard listen(listener, 1_000_000) == 0 else { fail("listen") }

say(
  "The kernel grants no more than net.core.somaxconn. In lesson 4, accept takes the connection out of the queue."
)
