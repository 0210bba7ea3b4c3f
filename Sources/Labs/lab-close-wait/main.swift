// Lab: a server that forgets close.
// Follow it with `swift run lab-close-wait`; or, without the narrator, `strace .build/debug/lab-close-wait --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "Clients come, say something and go. The server reads to the end, and forgets to close. What is left, and for how long?",
    choices: [
      "a socket in CLOSE_WAIT for each client, for as long as the server runs",
      "nothing: the client has closed, and with that the connection is gone",
      "a socket in TIME_WAIT for each client, for a minute",
    ]))
let stream = Int32(SOCK_STREAM.rawValue)
let (listener, address) = listeningSocket()
let port = UInt16(bigEndian: address.sin_port)

let earlier = remains()  // of others, who had this port before

say("Two clients, one after the other. The server reads until the end of each stream, and that is all.")
let patience: Int32 = 2  // seconds
var kept = [serve()]
let first = clients()
kept.append(serve(clientWaits: patience))
let began = nanoseconds()
let second = clients().subtracting(first)
guard first.count == 1, second.count == 1 else { cannotShow("the clients' ends do not wait for a FIN") }
let isClientGone = whileTheClockRuns {
  wait(atMost: Double(patience) + 2) { clients().isDisjoint(with: second) }
}
let milliseconds = (nanoseconds() - began) / 1_000_000
guard isClientGone else { cannotShow("the second client's end waits for a FIN after \(milliseconds) ms") }
let left = TCPRow.all(port: port).filter { $0.localPort == port && $0.state == "CLOSE_WAIT" }
guard left.count == 2, left.allSatisfy({ $0.timer == .none && $0.inode != 0 }) else {
  cannotShow("of the server's two ends, \(left.count) are in CLOSE_WAIT with a descriptor and no timer")
}
guard clients() == first else {
  cannotShow(
    "the first client's end has gone, too: net.ipv4.tcp_fin_timeout is \(setting("net/ipv4/tcp_fin_timeout"))"
  )
}
say(
  """
  Each read has returned 0: the client sends no more. Its own end waits in FIN_WAIT2 for the server's FIN, but not for ever. The
  second client's has gone after \(milliseconds) ms (TCP_LINGER2: \(patience) s); the first one's goes after \(setting("net/ipv4/tcp_fin_timeout")) s, net.ipv4.tcp_fin_timeout.
  """)
verdict(
  .broken,
  """
  /proc/net/tcp has \(left.count) sockets in CLOSE_WAIT on port \(port), and no timer for either, not even where the client's end is
  gone. They stay until this program closes them or ends, and each takes one of its \(limit()) descriptors.
  """, truth: 1)

say(
  """
  The cure: read has returned 0, so close. First those that were forgotten. A kernel that still waits for the FIN acknowledges it;
  one that no longer knows of the connection answers with RST.
  """)
for connection in kept { guard close(connection) == 0 else { fail("close") } }
say("Then in the loop itself. A third client:")
guard close(serve()) == 0 else { fail("close") }
let isOver = wait(atMost: 2) {
  TCPRow.all(port: port).allSatisfy { ["LISTEN", "TIME_WAIT"].contains($0.state) }
}
guard isOver else { cannotShow("there are still sockets that neither listen nor are in TIME_WAIT") }
let rest = remains() - earlier
guard rest > 0 else { cannotShow("the third client has left no TIME_WAIT") }
verdict(
  .cured,
  """
  No socket is in CLOSE_WAIT, and the server has none but its listener. Of three connections \(rest) are left, in TIME_WAIT, at
  the side of the clients, which closed first: without a descriptor, and with a timer that ends them.
  """)

func limit() -> Int {
  var limit = rlimit()
  guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { fail("getrlimit") }
  return Int(clamping: limit.rlim_cur)
}

/// The ports of the clients that wait for the server's FIN.
@MainActor func clients() -> Set<UInt16> {
  Set(
    TCPRow.all(port: port).filter { $0.peerPort == port && $0.state.hasPrefix("FIN_WAIT") }.map(\.localPort))
}

/// Clients' ends in TIME_WAIT.
@MainActor func remains() -> Int {
  TCPRow.all(port: port).count { $0.peerPort == port && $0.state == "TIME_WAIT" }
}

// --- what lessons 1 to 7 have shown ---

/// One client's visit. Returns the server's end of it.
func serve(clientWaits patience: Int32 = 0) -> Int32 {
  var buffer = [UInt8](repeating: 0, count: 100)
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  if patience > 0 {
    var patience = patience
    guard setsockopt(client, Int32(IPPROTO_TCP), TCP_LINGER2, &patience, 4) == 0 else { fail("setsockopt") }
  }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  guard write(client, "hello", 5) == 5 else { fail("write") }
  guard read(server, &buffer, buffer.count) == 5 else { fail("read") }
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
