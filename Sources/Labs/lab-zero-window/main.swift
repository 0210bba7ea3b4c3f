// Lab: a program that does not read.
// Follow it with `swift run lab-zero-window`; or, without the narrator, `strace .build/debug/lab-zero-window --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A server's program hangs: it reads nothing. Its kernel is well. A client sends until there is no more room, and then waits for "
      + "some. For how long?",
    choices: [
      "for ever, for as long as the server's kernel answers",
      "until its kernel has asked some fifteen times in vain: then ETIMEDOUT",
      "until keepalive finds the server dead, after two hours",
    ], ownNetwork: true))
let stream = Int32(SOCK_STREAM.rawValue)
var buffer = [UInt8](repeating: UInt8(ascii: "x"), count: 200_000)
let (listener, address) = listeningSocket()
let port = UInt16(bigEndian: address.sin_port)

say(
  "A connection. The client sends what there is room for: in the server's receive buffer, then in its own send buffer."
)
var (client, server) = connection()
let start = Counters()
// The kernel's clock runs from here on: it asks soon, and then ever more seldom.
let (sent, intervals) = whileTheClockRuns { (fill(client), probes(client, 3)) }
guard intervals.count > 3 else {
  cannotShow(
    "its timer was seen at \(intervals.map(seconds).joined(separator: ", ")) in five seconds, with "
      + "\(Counters().grown("TcpExtTCPWinProbe", since: start)) window probes, where four times were to be seen"
  )
}
// (On a busy machine a timer is seen a little later than it was set.)
guard zip(intervals, intervals.dropFirst()).allSatisfy({ $1 * 10 > $0 * 12 }) else {
  cannotShow("the timer's intervals do not grow: \(intervals.map(seconds).joined(separator: ", "))")
}
let longest = settings("net/ipv4/tcp_rto_max_ms").first ?? 120_000  // TCP_RTO_MAX before Linux 6.15
let (here, there) = (information(client), information(server))
guard here.tcpi_snd_wnd == 0, there.tcpi_rcv_wnd == 0 else { cannotShow("the window is not closed") }
guard here.tcpi_probes == 0 else { cannotShow("nobody has answered the last \(here.tcpi_probes) probes") }
Counters().say(["TcpExtTCPToZeroWindowAdv", "TcpExtTCPWinProbe", "TcpExtTCPACKSkippedSeq"], since: start)
say(
  """
  A window of 0. Should the news of room get lost, both would wait for ever: so the client's kernel asks from time to time (the
  persist timer; ss shows it), with a segment that brings nothing new. The server's kernel answers: still 0; though not more often than
  every \(setting("net/ipv4/tcp_invalid_ratelimit")) ms (net.ipv4.tcp_invalid_ratelimit, TCPACKSkippedSeq). It is alive, and so the
  count of \(setting("net/ipv4/tcp_retries2")) vain attempts (net.ipv4.tcp_retries2) begins anew with every answer.
  """)
verdict(
  .broken,
  """
  tcpi_snd_wnd \(here.tcpi_snd_wnd), at the server tcpi_rcv_wnd \(there.tcpi_rcv_wnd). /proc/net/tcp had a timer of kind 4, with
  \(intervals.map(seconds).joined(separator: ", ")) to go, each time longer: twice as long, up to \(longest / 1000) s. After \(intervals.count - 1) probes tcpi_probes,
  those without an answer, is \(here.tcpi_probes): nothing ends that.
  """, truth: 1)

say("A limit of one's own. SO_SNDTIMEO is one for a call: it returns, and the connection stands.")
var limit = timeval(tv_sec: 0, tv_usec: 300_000)
guard setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, 16) == 0 else { fail("setsockopt") }
guard write(client, buffer, 1) == -1, errno == EAGAIN else { cannotShow("a write did not end with EAGAIN") }
say(
  "Now the program can decide. It is patient, and the server comes to its senses: it reads. Everything is there."
)
guard close(client) == 0 else { fail("close") }
let arrived = recv(server, &buffer, buffer.count, Int32(MSG_WAITALL))
guard arrived == sent else { cannotShow("of \(sent) bytes \(arrived) have come") }
guard read(server, &buffer, buffer.count) == 0 else { cannotShow("the stream has no end") }
guard close(server) == 0 else { fail("close") }
Counters().say(["TcpExtTCPFromZeroWindowAdv"], since: start)

say(
  "TCP_USER_TIMEOUT is one for the connection: for so many milliseconds bytes may wait, for acknowledgement or for room."
)
(client, server) = connection()
var milliseconds: Int32 = 1000
guard setsockopt(client, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &milliseconds, 4) == 0 else {
  fail("setsockopt")
}
let began = nanoseconds()
let answer = whileTheClockRuns { (fill(client), write(client, buffer, 1), errno) }
let waited = seconds((nanoseconds() - began) / 1_000_000)
guard answer.1 == -1, answer.2 == ETIMEDOUT else {
  cannotShow("the write ended with \(answer.1), and not with ETIMEDOUT")
}
say(
  "The kernel has given the connection up, at its own end. The other end knows nothing of it: it has not been told."
)
guard close(client) == 0 else { fail("close") }
guard close(server) == 0 else { fail("close") }
verdict(
  .cured,
  """
  The server has read, and all \(arrived) bytes of \(sent) have come. And with TCP_USER_TIMEOUT a write has failed with ETIMEDOUT
  after \(waited).
  """)

/// Sends until there is no more room, and the window is closed. Returns how many bytes that were.
func fill(_ client: Int32) -> Int {
  let bytes = [UInt8](repeating: UInt8(ascii: "x"), count: 200_000)
  var sum = 0
  var isClosed = false
  while true {
    let count = send(client, bytes, bytes.count, Int32(MSG_DONTWAIT))
    guard count > 0 || errno == EAGAIN else { fail("send") }
    if count <= 0, isClosed { return sum }
    if count > 0 { sum += count }
    // What the server's kernel acknowledges meanwhile makes room once more.
    isClosed = wait(atMost: 1) { clientRow()?.timer == .windowProbe }
  }
}

/// What /proc/net/tcp has of the client's end.
func clientRow() -> TCPRow? {
  TCPRow.all(port: port).first { $0.peerPort == port && $0.state == "ESTABLISHED" }
}

/// Watches a socket's timer in /proc/net/tcp until the kernel has sent some window probes. Returns what the timer was set to before
/// each, and after the last, in milliseconds.
func probes(_ client: Int32, _ count: Int) -> [Int] {
  var intervals: [Int] = []
  var left = 0
  _ = wait(atMost: 5) {
    guard let row = clientRow(), row.timer == .windowProbe else { return false }
    if row.milliseconds > left { intervals.append(row.milliseconds) }
    left = row.milliseconds
    return intervals.count > count
  }
  return intervals
}

func seconds(_ milliseconds: Int) -> String {
  "\((milliseconds + 50) / 1000).\((milliseconds + 50) / 100 % 10) s"
}

func information(_ descriptor: Int32) -> linux_tcp_info {
  var information = linux_tcp_info()
  var length = socklen_t(MemoryLayout<linux_tcp_info>.size)
  guard getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_INFO, &information, &length) == 0 else {
    fail("getsockopt")
  }
  guard Int(length) >= MemoryLayout.offset(of: \linux_tcp_info.tcpi_rehash) ?? .max else {
    cannotShow("this kernel does not tell the windows in TCP_INFO")
  }
  return information
}

// --- what lessons 1 to 7 have shown ---

func connection() -> (client: Int32, server: Int32) {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  var small: Int32 = 16_384  // soon full, for a short story
  guard setsockopt(client, SOL_SOCKET, SO_SNDBUF, &small, 4) == 0 else { fail("setsockopt") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  return (client, server)
}

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, stream, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var small: Int32 = 16_384
  guard setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, 4) == 0 else { fail("setsockopt") }
  var segment: Int32 = 1460  // as on an Ethernet
  guard setsockopt(listener, Int32(IPPROTO_TCP), TCP_MAXSEG, &segment, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lab.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}
