// Lab: a socket that connects to itself.
// Follow it with `swift run lab-self-connect`; or, without the narrator, `strace .build/debug/lab-self-connect --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A server on a port of this machine is down. Its client dials again and again, until it is back. What can a connect return?",
    choices: [
      "ECONNREFUSED each time: nobody listens on that port",
      "0, one day, though nobody listens",
      "EADDRINUSE, one day: a port cannot be both ends of a connection",
    ], ownNetwork: true))
let stream = Int32(SOCK_STREAM.rawValue)
/// IP_LOCAL_PORT_RANGE narrows the kernel's choice of a source port, for one socket. Glibc's headers do not have it yet.
/// See: ip(7), include/uapi/linux/in.h, Linux 6.3
let localPortRange: Int32 = 51
let range = settings("net/ipv4/ip_local_port_range")
guard range.count == 2 else { cannotShow("/proc/sys/net/ipv4/ip_local_port_range has no two numbers") }

say("A server has a fixed port, and nobody else has it. The server is down.")
let former = tcpSocket()
var port = lab.port != 0 ? lab.port : someNumber()
while withSockaddr(loopback(port), { bind(former, $0, $1) }) == -1 {
  guard errno == EADDRINUSE, lab.port == 0 else { fail("bind") }
  port = someNumber()
}
guard close(former) == 0 else { fail("close") }

say("Its client dials, and is refused.")
let refused = tcpSocket()
guard dial(refused, port) == -1, errno == ECONNREFUSED else {
  cannotShow("the dial was not refused: somebody listens on port \(port)")
}
guard close(refused) == 0 else { fail("close") }

guard (range[0]...max(range[0], range[1])).contains(Int(port)) else {
  cannotShow(
    "port \(port) is outside \(range[0]) to \(range[1]) (ip_local_port_range): the kernel chooses it for nobody, and each dial is refused"
  )
}
let isSoon = (Int(port) - range[0]) % 2 == 0
say(
  """
  It dials again, and again. Each time the kernel chooses another source port, of every second one from \(range[0]) to \(range[1])
  (ip_local_port_range). \(port) is chosen \(isSoon ? "once in \((range[1] - range[0]) / 2 + 1) dials, on average" : "when all of those are in use").
  So that nobody has to wait for that, this socket leaves it no other choice.
  """)
let client = tcpSocket()
narrow(client, to: port)
let result = dial(client, port)
guard result == 0 else {
  let end =
    errno == ECONNREFUSED ? "was refused" : errno == EADDRNOTAVAIL ? "found the port in use" : "failed"
  cannotShow("connect \(end), with port \(port) as its only choice; is that one of ip_local_reserved_ports?")
}
guard write(client, "hello", 5) == 5 else { fail("write") }
var buffer = [UInt8](repeating: 0, count: 100)
guard read(client, &buffer, buffer.count) == 5 else { fail("read") }

say(
  """
  connect says: connected. What it writes, it reads, as though a server answered. And now that one wants to start. SO_REUSEADDR is of
  no use: the port is not in TIME_WAIT, it is in use.
  """)
let server = tcpSocket()
var on: Int32 = 1
guard setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
let bound = withSockaddr(loopback(port), { bind(server, $0, $1) })
guard bound == -1, errno == EADDRINUSE else { cannotShow("the server could bind port \(port)") }
let rows = TCPRow.all(port: port)
guard rows.count == 1, let row = rows.first, row.localPort == row.peerPort, row.state == "ESTABLISHED" else {
  cannotShow("/proc/net/tcp has \(rows.count) rows of port \(port), and not one in ESTABLISHED")
}
verdict(
  .broken,
  """
  /proc/net/tcp has \(rows.count) row where a connection on one machine has two: \(row.state), from port \(row.localPort) to port
  \(row.peerPort). Its "server" has answered "\(String(decoding: buffer.prefix(5), as: UTF8.self))", its own word. The real server gets
  EADDRINUSE, for as long as the client is content.
  """, truth: 2)

say(
  """
  The cure at the client's: after connect, compare the two ends. A plain close would leave the port in TIME_WAIT for a minute,
  with the server shut out; linger 0 drops it at once.
  """)
guard isItsOwnPeer(client) else { cannotShow("its two ends have different addresses") }
var now = linger(l_onoff: 1, l_linger: 0)
guard setsockopt(client, SOL_SOCKET, SO_LINGER, &now, 8) == 0 else { fail("setsockopt") }
guard close(client) == 0 else { fail("close") }
guard withSockaddr(loopback(port), { bind(server, $0, $1) }) == 0 else { fail("bind") }
guard listen(server, 8) == 0 else { fail("listen") }
let again = tcpSocket()
guard dial(again, port) == 0 else { fail("connect") }
guard !isItsOwnPeer(again) else { cannotShow("it is connected to itself again") }
let ends = TCPRow.all(port: port).filter { $0.state == "ESTABLISHED" }
guard ends.count == 2, ends.allSatisfy({ $0.localPort != $0.peerPort }) else {
  cannotShow("/proc/net/tcp has \(ends.count) rows in ESTABLISHED, and not two with different ports")
}

// The first below the range, or above it.
let outside = range[0] > 1024 ? range[0] - 1 : range[1] + 1
guard outside < 65536 else { cannotShow("ip_local_port_range leaves no port outside of it") }
say(
  """
  The cure at the server's: a port outside ip_local_port_range, \(outside) say. The kernel does not choose it as a source, not
  even when it is asked to: what lies outside of its own range it ignores.
  """)
let last = tcpSocket()
narrow(last, to: UInt16(outside))
guard dial(last, UInt16(outside)) == -1, errno == ECONNREFUSED else {
  cannotShow("a dial of port \(outside) was not refused")
}
verdict(
  .cured,
  """
  The server listens on port \(port), and /proc/net/tcp has \(ends.count) rows of its client's connection, each with two different ports. On
  port \(outside), outside \(range[0]) to \(range[1]), a dial while the server is down is refused, and can be nothing else.
  """)

// --- what is new ---

/// A port as the kernel's connect takes them first: of the parity of the range's lower end. (A bind to port 0 takes the others first.)
/// See: net/ipv4/inet_hashtables.c (__inet_hash_connect)
@MainActor func someNumber() -> UInt16 {
  let steps = Int.random(in: 0...max(0, (range[1] - range[0]) / 2))
  return UInt16(clamping: range[0] + 2 * steps)
}

/// Has the kernel choose a socket's source port from a range of one. The upper half is its upper end.
func narrow(_ socket: Int32, to port: UInt16) {
  var range = UInt32(port) << 16 | UInt32(port)
  guard setsockopt(socket, Int32(IPPROTO_IP), localPortRange, &range, 4) == 0 else {
    if errno == ENOPROTOOPT {
      cannotShow("this kernel has no IP_LOCAL_PORT_RANGE, which came with Linux 6.3")
    }
    fail("setsockopt")
  }
}

/// Whether a connection's two ends have the same address. See: getsockname(2), getpeername(2)
func isItsOwnPeer(_ socket: Int32) -> Bool {
  var (local, peer) = (sockaddr_in(), sockaddr_in())
  guard withSockaddr(&local, filled: { getsockname(socket, $0, $1) }) == 0 else { fail("getsockname") }
  guard withSockaddr(&peer, filled: { getpeername(socket, $0, $1) }) == 0 else { fail("getpeername") }
  return local.sin_port == peer.sin_port && local.sin_addr.s_addr == peer.sin_addr.s_addr
}

// --- what lessons 1 to 3 have shown ---

func tcpSocket() -> Int32 {
  let descriptor = socket(AF_INET, stream, 0)
  guard descriptor >= 0 else { fail("socket") }
  return descriptor
}

func loopback(_ port: UInt16) -> sockaddr_in {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  return address
}

func dial(_ socket: Int32, _ port: UInt16) -> Int32 {
  withSockaddr(loopback(port)) { connect(socket, $0, $1) }
}
