// Lab: a port that is taken, by nobody and by somebody.
// Follow it with `swift run lab-port-taken`; or, without the narrator, `strace .build/debug/lab-port-taken --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A server ends its only connection, and closes its listening socket; the client closes, too. The server starts again at once, on the same port. What does bind say?",
    choices: [
      "0: nobody has the port any more",
      "EADDRINUSE: a socket that no program has any more still uses the port",
      "EADDRINUSE: the client's socket still has that port as its peer's",
    ]))
let stream = Int32(SOCK_STREAM.rawValue)

say(
  "A server with one client. The server closes its end, and the listener; the client reads to the end, and closes."
)
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = lab.port.bigEndian
let old = newSocket()
set(SO_REUSEADDR, old)
guard withSockaddr(address, { bind(old, $0, $1) }) == 0 else { fail("bind") }
guard withSockaddr(&address, filled: { getsockname(old, $0, $1) }) == 0 else { fail("getsockname") }
guard listen(old, 8) == 0 else { fail("listen") }
let port = UInt16(bigEndian: address.sin_port)
let visitor = dial()
let visit = accept(old, nil, nil)
guard visit >= 0 else { fail("accept") }
let visitorPort = TCPRow.all(port: port).first { $0.peerPort == port && $0.state == "ESTABLISHED" }?.localPort
for descriptor in [visit, old] { guard close(descriptor) == 0 else { fail("close") } }
var byte: UInt8 = 0
guard read(visitor, &byte, 1) == 0 else { cannotShow("the client's stream has no end") }
guard close(visitor) == 0 else { fail("close") }

guard wait(atMost: 2, until: { rest().map(\.state) == ["TIME_WAIT"] }) else {
  cannotShow("what is left of the connection is in \(rest().map(\.state)), and not in TIME_WAIT")
}

say("It starts again.")
let server = newSocket()
guard withSockaddr(address, { bind(server, $0, $1) }) == -1 else {
  cannotShow("bind succeeded: no connection of the old server is in TIME_WAIT any more")
}
guard errno == EADDRINUSE else { fail("bind") }
guard let last = rest().first, last.localPort == port else { cannotShow("nothing is left of it any more") }
verdict(
  .broken,
  """
  EADDRINUSE. /proc/net/tcp has \(rest().count) socket that still has port \(port), in \(last.state), without a descriptor (inode \(last.inode)). It goes when its timer
  runs out, in \(last.milliseconds / 1000).\(last.milliseconds / 100 % 10) s (TCP_TIMEWAIT_LEN, which no sysctl changes).
  """, truth: 2)

say("SO_REUSEADDR: TIME_WAIT is no obstacle. The old socket had it as well; it has to be on both.")
set(SO_REUSEADDR, server)
guard withSockaddr(address, { bind(server, $0, $1) }) == 0 else { fail("bind") }
guard listen(server, 8) == 0 else { fail("listen") }
let (listening, waiting) = (count("LISTEN"), rest().count)
guard listening == 1 else { cannotShow("\(listening) sockets listen") }
verdict(.cured, "The port has \(listening) socket in LISTEN beside \(waiting) in TIME_WAIT.")

say("Is it still free for others, then? A second server, with SO_REUSEADDR, while the first listens:")
let second = newSocket()
set(SO_REUSEADDR, second)
guard withSockaddr(address, { bind(second, $0, $1) }) == -1 else { cannotShow("both servers have the port") }
guard errno == EADDRINUSE else { fail("bind") }
verdict(
  .broken, "EADDRINUSE: \(count("LISTEN")) socket listens, and SO_REUSEADDR is not for sharing with it.")

say("SO_REUSEPORT is: each has to set it, before its bind or, as here the first one, before the other's.")
set(SO_REUSEPORT, server)
set(SO_REUSEPORT, second)
guard withSockaddr(address, { bind(second, $0, $1) }) == 0 else { fail("bind") }
guard listen(second, 8) == 0 else { fail("listen") }
say(
  """
  Which of the two gets a client, a hash of addresses and ports decides. So that all runs are alike, here a program of three
  instructions does: the last byte of the client's address, less 1. From 127.0.0.1 one goes to the first, from 127.0.0.2 to the second.
  """)
deal(among: second)
_ = dial()
let late = dial(from: "127.0.0.2")
let shared = settled([1, 1])

say(
  "Two queues, and each is its own socket's. The second server closes its own, before it has accepted its client:"
)
guard close(second) == 0 else { fail("close") }
_ = wait(atMost: 1) { count("ESTABLISHED") == 2 }  // both ends of the first one's
guard recv(late, &byte, 1, Int32(MSG_DONTWAIT)) == -1, errno == ECONNRESET else {
  cannotShow("the client was not reset; net.ipv4.tcp_migrate_req is \(setting("net/ipv4/tcp_migrate_req"))")
}
let ahead = settled([1])
verdict(
  .cured,
  """
  With SO_REUSEPORT two sockets listened, their accept queues holding \(shared[0]) and \(shared[1]). The one that is left still holds \(ahead[0]), but
  closing the other cost its client the connection (ECONNRESET): net.ipv4.tcp_migrate_req is \(setting("net/ipv4/tcp_migrate_req")). With 1 it would have moved.
  """)

/// What is left of the visitor's connection. (Others may have had this port before.)
@MainActor func rest() -> [TCPRow] {
  TCPRow.all(port: port).filter { [$0.localPort, $0.peerPort].contains(visitorPort) }
}

/// How many wait in the accept queue of each listener, once that is as expected: connect is done before the other end is.
@MainActor func settled(_ expected: [Int]) -> [Int] {
  var queues: [Int] = []
  let isSo = wait(atMost: 1) {
    queues = TCPRow.all(port: port).filter { $0.state == "LISTEN" }.map(\.receiveQueue)
    return queues == expected
  }
  guard isSo else { cannotShow("the accept queues hold \(queues), where \(expected) was expected") }
  return queues
}

@MainActor func count(_ state: String) -> Int { TCPRow.all(port: port).count { $0.state == state } }

/// A classic BPF program chooses among the listeners of the port, by the order in which they have begun to listen. The network
/// header begins at SKF_NET_OFF, and an IPv4 address of the sender at its byte 12.
func deal(among listener: Int32) {
  let lastByte = UInt32(bitPattern: SKF_NET_OFF + 15)
  var code = [(BPF_LD | BPF_B | BPF_ABS, lastByte), (BPF_ALU | BPF_SUB | BPF_K, 1), (BPF_RET | BPF_A, 0)]
    .map { sock_filter(code: UInt16($0), jt: 0, jf: 0, k: $1) }
  let result = code.withUnsafeMutableBufferPointer { code in
    var program = sock_fprog(len: UInt16(code.count), filter: code.baseAddress)
    return setsockopt(
      listener, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, socklen_t(MemoryLayout<sock_fprog>.size))
  }
  guard result == 0 else { fail("setsockopt") }
}

// --- what earlier lessons have shown ---

func newSocket() -> Int32 {
  let descriptor = socket(AF_INET, stream, 0)
  guard descriptor >= 0 else { fail("socket") }
  return descriptor
}

func set(_ option: Int32, _ descriptor: Int32) {
  var on: Int32 = 1
  guard setsockopt(descriptor, SOL_SOCKET, option, &on, 4) == 0 else { fail("setsockopt") }
}

@MainActor func dial(from source: String? = nil) -> Int32 {
  let client = newSocket()
  if let source {
    var own = sockaddr_in()
    own.sin_family = sa_family_t(AF_INET)
    own.sin_addr.s_addr = inet_addr(source)
    guard withSockaddr(own, { bind(client, $0, $1) }) == 0 else { fail("bind") }
  }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  return client
}
