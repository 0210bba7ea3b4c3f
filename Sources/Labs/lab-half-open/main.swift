// Lab: a peer that vanishes.
// Follow it with `swift run lab-half-open`; or, without the narrator, `strace .build/debug/lab-half-open --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A server waits in read for its client. The client's machine loses its power. When does read return?",
    choices: [
      "never: the kernel does not notice, and does not even look",
      "at once, with ECONNRESET: a connection has two ends",
      "after some minutes, with ETIMEDOUT: TCP notices, it only takes its time",
    ], ownNetwork: true))
let stream = Int32(SOCK_STREAM.rawValue)
let tcp = Int32(IPPROTO_TCP)
let (listener, address) = listeningSocket()
let port = UInt16(bigEndian: address.sin_port)

say("Four clients. The server's end of each connection will wait for its client, with other precautions.")
let (silent, probed, sender, limited) = (pair(), pair(), pair(), pair())

say(
  """
  The first client's machine loses its power. Linger 0 ends the client's socket; and so that the server is not told, its end gets an
  IP_MINTTL of 255. The kernel then drops all that comes with a smaller time to live, before TCP sees it: here everything, as
  if the cable were cut.
  """)
cut(silent.server)
var now = linger(l_onoff: 1, l_linger: 0)
guard setsockopt(silent.client, SOL_SOCKET, SO_LINGER, &now, 8) == 0 else { fail("setsockopt") }
guard close(silent.client) == 0 else { fail("close") }

say("The others' cables are cut in the same way, at the client's end: the client neither hears nor answers.")
for pair in [probed, sender, limited] { cut(pair.client) }

say(
  """
  The second end will ask for keepalive: after 1 s of silence a probe, and if nobody answers, an end 1 s later. By default it would take
  \(setting("net/ipv4/tcp_keepalive_time")) s of silence (tcp_keepalive_time), then \(setting("net/ipv4/tcp_keepalive_probes")) probes, \
  \(setting("net/ipv4/tcp_keepalive_intvl")) s apart. The fourth has TCP_USER_TIMEOUT: so many milliseconds at most may bytes stay
  unacknowledged.
  """)
set(probed.server, tcp, TCP_KEEPIDLE, 1)
set(probed.server, tcp, TCP_KEEPINTVL, 1)
set(probed.server, tcp, TCP_KEEPCNT, 1)
set(limited.server, tcp, TCP_USER_TIMEOUT, 1000)

say("Now the kernel's clocks run. Keepalive on; the third and the fourth send; one poll watches all four.")
var byte: UInt8 = 0
let before = Counters()
let told = whileTheClockRuns {
  let start = nanoseconds()
  set(probed.server, SOL_SOCKET, SO_KEEPALIVE, 1)
  for pair in [sender, limited] { guard write(pair.server, "hello", 5) == 5 else { fail("write") } }
  let first = heard(of: [silent, probed, sender, limited], since: start)
  guard first.ends == [limited.server], read(limited.server, &byte, 1) == -1, errno == ETIMEDOUT else {
    cannotShow("poll has heard of \(first.ends) first, and not that \(limited.server) has timed out")
  }
  let second = heard(of: [silent, probed, sender], since: start)
  guard second.ends == [probed.server], read(probed.server, &byte, 1) == -1, errno == ETIMEDOUT else {
    cannotShow("poll has heard of \(second.ends) next, and not that \(probed.server) has timed out")
  }
  return (limited: first.milliseconds, probed: second.milliseconds)
}
let after = Counters()
guard let quiet = row(of: silent), quiet.state == "ESTABLISHED", quiet.timer == .none else {
  cannotShow("the first server's end is not ESTABLISHED without a timer")
}
guard let trying = row(of: sender), trying.state == "ESTABLISHED", trying.timer == .retransmit,
  trying.retransmits > 0, trying.sendQueue == 5
else { cannotShow("the third server's end does not try again") }
after.say(
  ["TcpRetransSegs", "TcpExtTCPTimeouts", "TcpExtTCPKeepAlive", "TcpExtTCPMinTTLDrop"], since: before)
verdict(
  .broken,
  """
  The first end: in \(told.probed) ms poll has heard nothing of it. /proc/net/tcp has it ESTABLISHED, without a timer: a read would wait
  for ever. The third: ESTABLISHED, 5 bytes unacknowledged. Its timer has run out \(trying.retransmits) times, after twice as long each
  time; it gives up after \(setting("net/ipv4/tcp_retries2")) times (tcp_retries2), or \(patience() / 1000) s.
  """, truth: 1)

say(
  "Why so patient? The cables are whole again. The third's bytes arrive with the next attempt, as if nothing had been."
)
whileTheClockRuns {
  for pair in [probed, sender, limited] { mend(pair.client) }
  guard row(of: sender)?.state == "ESTABLISHED" else {
    cannotShow("the third server's end has given up meanwhile: the last pause was longer than its patience")
  }
  guard read(sender.client, &byte, 1) == 1 else { cannotShow("the bytes have not come") }
}

say(
  "The first client's machine runs again, too, and has never heard of a connection. The server learns that once it writes."
)
mend(silent.server)
guard write(silent.server, "hello", 5) == 5 else { fail("write") }
guard read(silent.server, &byte, 1) == -1, errno == ECONNRESET else { cannotShow("no ECONNRESET") }

let aborted = after.grown("TcpExtTCPAbortOnTimeout", since: before)
guard aborted >= 2, row(of: probed) == nil, row(of: limited) == nil else {
  cannotShow("the kernel has ended \(aborted) connections by timeout, and not two")
}
verdict(
  .cured,
  """
  Keepalive told the second server's end of its dead peer after \(told.probed) ms, TCP_USER_TIMEOUT the fourth after \(told.limited) ms: both
  ETIMEDOUT (TcpExtTCPAbortOnTimeout +\(aborted)), both gone from /proc/net/tcp. Without either, only writing to the machine that had
  started anew told the first: ECONNRESET.
  """)

// --- what is new ---

/// Has the kernel drop what arrives for a socket, before TCP sees it, as if its cable were cut. Packets leave with 64
/// (net.ipv4.ip_default_ttl), and each router on the way takes 1. See: ip(7), RFC 5082
func cut(_ descriptor: Int32) { set(descriptor, Int32(IPPROTO_IP), IP_MINTTL, 255) }

func mend(_ descriptor: Int32) { set(descriptor, Int32(IPPROTO_IP), IP_MINTTL, 0) }

/// Which of some servers' ends have something to tell, the first time that one has, and when; none where none has for 10 s.
func heard(of pairs: [Pair], since start: Int) -> (ends: [Int32], milliseconds: Int) {
  var entries = pairs.map { pollfd(fd: $0.server, events: Int16(POLLIN), revents: 0) }
  guard poll(&entries, nfds_t(entries.count), 10_000) >= 0 else { fail("poll") }
  return (entries.filter { $0.revents != 0 }.map(\.fd), (nanoseconds() - start) / 1_000_000)
}

/// For how many milliseconds bytes are sent again, at most: first after 200 (TCP_RTO_MIN), then after twice as long each time, up to
/// TCP_RTO_MAX. See: net/ipv4/tcp_timer.c (tcp_model_timeout), ip-sysctl
func patience() -> Int {
  let longest = settings("net/ipv4/tcp_rto_max_ms").first ?? 120_000
  let retries = min(max(setting("net/ipv4/tcp_retries2"), 0), 255)
  return (0...retries).reduce(0) { $0 + min(200 << min($1, 20), longest) }
}

/// The server's end in /proc/net/tcp.
func row(of pair: Pair) -> TCPRow? {
  TCPRow.all(port: pair.port).first { $0.localPort == port }
}

// --- what lessons 1 to 7 have shown ---

typealias Pair = (client: Int32, server: Int32, port: UInt16)

func pair() -> Pair {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  var peer = sockaddr_in()
  let server = withSockaddr(&peer, filled: { accept(listener, $0, $1) })
  guard server >= 0 else { fail("accept") }
  return (client, server, UInt16(bigEndian: peer.sin_port))
}

func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
  var value = value
  guard setsockopt(descriptor, level, option, &value, 4) == 0 else { fail("setsockopt") }
}

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, stream, 0)
  guard listener >= 0 else { fail("socket") }
  set(listener, SOL_SOCKET, SO_REUSEADDR, 1)
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lab.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}
