// Lab: a server that does not accept, and a queue that is full.
// Follow it with `swift run lab-full-accept-queue`; or, without the narrator,
// `strace .build/debug/lab-full-accept-queue --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A server listens with a backlog of 1, and calls accept for nobody. Two clients are connected all the same. And the third?",
    choices: [
      "nobody answers: its SYN is thrown away, and it sends it again and again",
      "it is refused: RST, and its connect fails with ECONNREFUSED",
      "it is connected, too: the queue grows",
    ], ownNetwork: true))
let stream = Int32(SOCK_STREAM.rawValue)
let backlog: Int32 = 1
guard setting("net/core/somaxconn") >= 8 else {
  cannotShow(
    "net.core.somaxconn is \(setting("net/core/somaxconn")); no queue can be longer, and this lab has one for 8"
  )
}
let (listener, address) = listeningSocket()
let port = UInt16(bigEndian: address.sin_port)

say("Two clients. The kernel completes their connections by itself, and queues them for accept.")
for _ in 1...2 { _ = dial() }

let full = tcpInfo(listener)
guard full.tcpi_unacked > full.tcpi_sacked else {
  cannotShow(
    "the accept queue holds \(full.tcpi_unacked) with a backlog of \(full.tcpi_sacked): it is not full")
}

say("The third does not wait in connect (O_NONBLOCK), so that the server, in this same thread, can go on.")
let (before, begun) = (Counters(), nanoseconds())
let late = socket(AF_INET, stream | Int32(SOCK_NONBLOCK.rawValue), 0)
guard late >= 0 else { fail("socket") }
guard withSockaddr(address, { connect(late, $0, $1) }) == -1 else { cannotShow("it was connected at once") }
guard errno == EINPROGRESS else { fail("connect") }
// The timer of a first SYN: TCP_TIMEOUT_INIT, a second (RFC 6298, section 2). No sysctl changes it.
let isSentAgain = whileTheClockRuns { wait(atMost: 5) { lateRow()?.retransmits ?? 0 > 0 } }
guard isSentAgain, let client = lateRow() else {
  cannotShow(
    "within 5 seconds its SYN was not sent again; its socket is in \(lateRow()?.state ?? "no state")")
}
Counters().say(
  ["TcpExtListenOverflows", "TcpExtListenDrops", "TcpExtTCPTimeouts", "TcpRetransSegs"], since: before)
let dropped = drops(listener)
guard dropped > 1 else { cannotShow("the listener has thrown away \(dropped) segments") }
verdict(
  .broken,
  """
  The queue holds \(full.tcpi_unacked) with a backlog of \(full.tcpi_sacked) (TCP_INFO): it is full when it is longer than that. The third client is in \(client.state).
  The listener has thrown away \(dropped) of its SYNs (SO_MEMINFO), of which its timer had sent \(client.retransmits) again.
  """, truth: 1)
say(
  """
  It gives up with ETIMEDOUT: net.ipv4.tcp_syn_retries = \(setting("net/ipv4/tcp_syn_retries")) stands for the time that so many would take, if
  each waited twice as long as the one before.
  net.ipv4.tcp_syncookies = \(setting("net/ipv4/tcp_syncookies")) is no help: cookies are for the queue of
  half-open connections. net.ipv4.tcp_abort_on_overflow = \(setting("net/ipv4/tcp_abort_on_overflow")) is about a client whose handshake has begun when there
  was room, and ends when there is none.
  """)

say(
  "accept makes room. Nobody tells the client; its kernel's next SYN will find out, when the timer has run out."
)
takeOne()
var entry = pollfd(fd: late, events: Int16(POLLOUT), revents: 0)
guard poll(&entry, 1, -1) == 1 else { fail("poll") }
var error: Int32 = 0
var length = socklen_t(4)
guard getsockopt(late, SOL_SOCKET, SO_ERROR, &error, &length) == 0 else { fail("getsockopt") }
guard error == 0 else { cannotShow("connect has failed in the end: \(String(cString: strerror(error)))") }
let milliseconds = (nanoseconds() - begun) / 1_000_000
say("Connected, \(milliseconds) ms after connect was called. Without a full queue it is a fraction of one.")

say("The cure. A longer queue: listen once more, on the same socket, changes its backlog. Two more clients:")
let droppedBefore = drops(listener)
guard listen(listener, 8) == 0 else { fail("listen") }
for _ in 1...2 { _ = dial() }
_ = wait(atMost: 1) { listenerRow()?.receiveQueue == 4 }
let long = tcpInfo(listener)
say("And, as no queue is long enough for a server that does not accept: accept.")
for _ in 0..<long.tcpi_unacked { takeOne() }
let (more, left) = (drops(listener) - droppedBefore, listenerRow())
guard more == 0, left?.receiveQueue == 0 else {
  cannotShow(
    "\(more) more segments were thrown away, and \(left?.receiveQueue ?? 0) connections are in the queue")
}
verdict(
  .cured,
  """
  The queue held \(long.tcpi_unacked) with a backlog of \(long.tcpi_sacked), which net.core.somaxconn = \(setting("net/core/somaxconn")) allows. \(more) SYNs were thrown away, and with
  accept the queue is down to \(left?.receiveQueue ?? 0).
  """)

/// The third client's row of /proc/net/tcp, until it is connected.
@MainActor func lateRow() -> TCPRow? {
  TCPRow.all(port: port).first { $0.peerPort == port && $0.state == "SYN_SENT" }
}

@MainActor func listenerRow() -> TCPRow? { TCPRow.all(port: port).first { $0.state == "LISTEN" } }

/// What this socket has thrown away since it was made. `ss -m` shows it as d. See: socket(7), include/uapi/linux/sock_diag.h
func drops(_ socket: Int32) -> UInt32 {
  var memory = [UInt32](repeating: 0, count: Int(SK_MEMINFO_VARS))
  var length = socklen_t(memory.count * 4)
  guard getsockopt(socket, SOL_SOCKET, SO_MEMINFO, &memory, &length) == 0 else { fail("getsockopt") }
  return memory[Int(SK_MEMINFO_DROPS)]
}

/// Of a listening socket, tcpi_unacked is the length of its accept queue, and tcpi_sacked its backlog.
func tcpInfo(_ socket: Int32) -> tcp_info {
  var info = tcp_info()
  var length = socklen_t(MemoryLayout<tcp_info>.size)
  guard getsockopt(socket, Int32(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 else { fail("getsockopt") }
  return info
}

// --- what earlier lessons have shown ---

@MainActor func dial() -> Int32 {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  return client
}

@MainActor func takeOne() {
  guard accept(listener, nil, nil) >= 0 else { fail("accept") }
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
  guard listen(listener, backlog) == 0 else { fail("listen") }
  return (listener, address)
}
