// Lab: a server that forgets close.
// Follow it with `swift run lab-close-wait`; or, without the narrator, `strace .build/debug/lab-close-wait --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "Clients come, ask, are answered and go. The server reads to the end, and forgets to close. What is left, and for how long?",
    choices: [
      "nothing: the client has closed, and with that the connection is gone",
      "a socket in TIME_WAIT for each client, for a minute",
      "a socket in CLOSE_WAIT for each client, for as long as the server runs",
    ]))
let stream = Int32(SOCK_STREAM.rawValue)
let (listener, address) = listeningSocket()
let port = UInt16(bigEndian: address.sin_port)

say("Three clients, one after the other. The server answers each, and reads until the end of its stream.")
var kept: [Int32] = []
for _ in 1...3 {
  kept.append(serve())
}
say(
  """
  Each read has returned 0: the client sends no more. Nothing else happens by itself. The kernel waits for the program to close its
  end, too, and there is no timer for that.
  """)
let left = TCPRow.all(port: port).filter { $0.localPort == port && $0.state == "CLOSE_WAIT" }
guard left.count == 3, left.allSatisfy({ $0.timer == .none && $0.inode != 0 }) else {
  cannotShow("of three sockets, \(left.count) are in CLOSE_WAIT without a timer")
}
verdict(
  .broken,
  """
  /proc/net/tcp has \(left.count) sockets in CLOSE_WAIT on port \(port), none with a timer: they stay until the program closes them,
  or ends. Each holds a descriptor, and this program may have \(limit()).
  """, truth: 3)

say("The cure: read has returned 0, so close. First those that were forgotten …")
for connection in kept { guard close(connection) == 0 else { fail("close") } }
say("… and then in the loop itself. Three more clients.")
for _ in 1...3 {
  let connection = serve()
  guard close(connection) == 0 else { fail("close") }
}
let isOver = wait(atMost: 2) {
  TCPRow.all(port: port).allSatisfy { ["LISTEN", "TIME_WAIT"].contains($0.state) }
}
guard isOver else { cannotShow("there are still sockets that neither listen nor are in TIME_WAIT") }
let rest = TCPRow.all(port: port).filter { $0.state == "TIME_WAIT" }
verdict(
  .cured,
  """
  No socket is in CLOSE_WAIT. Of six connections \(rest.count) are left, in TIME_WAIT, all at the clients' side, which closed first:
  they hold no descriptor, and a timer ends them.
  """)

func limit() -> Int {
  var limit = rlimit()
  guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { fail("getrlimit") }
  return Int(clamping: limit.rlim_cur)
}

// --- what lessons 1 to 7 have shown ---

/// One client's visit. Returns the server's end of it.
func serve() -> Int32 {
  var buffer = [UInt8](repeating: 0, count: 100)
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  guard write(client, "hello", 5) == 5 else { fail("write") }
  guard read(server, &buffer, buffer.count) == 5 else { fail("read") }
  guard write(server, "world", 5) == 5 else { fail("write") }
  guard read(client, &buffer, buffer.count) == 5 else { fail("read") }
  guard close(client) == 0 else { fail("close") }
  guard read(server, &buffer, buffer.count) == 0 else { cannotShow("the stream has no end") }
  return server
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
