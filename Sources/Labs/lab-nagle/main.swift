// Lab: two small writes, and then a read.
// Follow it with `swift run lab-nagle`; or, without the narrator, `strace -r .build/debug/lab-nagle --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A client sends each request in two small writes, a head and a body, and waits for the answer. All on one machine, nobody else "
      + "there. How long does such a request take?",
    choices: [
      "far less than a millisecond: memory is copied, and that is all",
      "about 40 ms: the body waits until the server's kernel acknowledges the head",
      "about 200 ms: the second segment collides with the answer, and is sent again",
    ], ownNetwork: true))
let stream = Int32(SOCK_STREAM.rawValue)
let (listener, address) = listeningSocket()
let (client, server) = connection()

say("The first request, and two more of the same kind. The time is taken from the first write to the answer.")
let first = request(inOneWrite: false)
var slow: [Cost] = []
for _ in 1...10 where slow.count < 2 {
  let cost = request(inOneWrite: false)
  if cost.hasWaited { slow.append(cost) }  // on a busy machine anything may pass between two calls
}
guard slow.count == 2 else { cannotShow("the body has not waited for a delayed acknowledgement") }
say(
  """
    the first      \(first)
    another        \(slow[0])
    and another    \(slow[1])
  Two rules meet. Nagle's algorithm, at the client: while a small segment is out that nobody has acknowledged, no other goes out. And
  delayed acknowledgement, at the server: who is going to answer anyhow can send the ACK along, and so it waits a little. The server
  cannot answer, for it does not have the body. (A new connection is acknowledged at once, until it has answered. A narrator, too,
  takes its time, one to three milliseconds a call, and that is in the figures: --bare has them without.)
  """)
verdict(
  .broken,
  """
  Two requests took \(slow[0].time) and \(slow[1].time). After both writes \(slow[0].unsent) and \(slow[1].unsent) bytes were not sent
  (SIOCOUTQNSD), and TcpExtDelayedACKs grew by \(slow[0].delayed) and \(slow[1].delayed).
  """, truth: 2)

say(
  "The cure that costs nothing: hand the kernel the whole request at once. writev takes head and body in one call."
)
let whole = quickest(inOneWrite: true)
say("And where that cannot be: TCP_NODELAY, no waiting. The two writes of before.")
var on: Int32 = 1
guard setsockopt(client, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4) == 0 else { fail("setsockopt") }
let quick = [quickest(inOneWrite: false), quickest(inOneWrite: false)]
say(
  """
    one write      \(whole)
    TCP_NODELAY    \(quick[0])
    TCP_NODELAY    \(quick[1])
  With TCP_NODELAY there are two segments to a request, and the server may wake up for each; with writev there is one.
  """)
let cured = [whole] + quick
guard cured.allSatisfy({ $0.unsent == 0 }) else { cannotShow("bytes have waited all the same") }
guard cured.allSatisfy({ $0.nanoseconds < Cost.wait.lowerBound }) else {
  cannotShow(
    "this machine is too busy: without any wait a request took \(cured.map(\.time).joined(separator: ", "))")
}
verdict(
  .cured,
  """
  In one write a request took \(whole.time), with TCP_NODELAY \(quick[0].time) and \(quick[1].time). Nothing was left unsent;
  TcpExtDelayedACKs grew by \(cured.map(\.delayed).reduce(0, +)).
  """)

/// What a request has cost.
struct Cost: CustomStringConvertible {
  /// From the first write to the answer.
  var nanoseconds = 0
  /// Bytes that had not been sent when all was written.
  var unsent: Int32 = 0
  /// Delayed acknowledgements that the kernel counted meanwhile.
  var delayed = 0

  /// What a delayed acknowledgement makes of it: TCP_DELACK_MIN, 40 ms, and what the machine adds. See: include/net/tcp.h
  static let wait = 35_000_000..<200_000_000
  var hasWaited: Bool { Self.wait.contains(nanoseconds) && unsent > 0 && delayed > 0 }

  var time: String {
    let tenths = (nanoseconds + 50_000) / 100_000
    let hundredths = (nanoseconds + 5000) / 10_000
    return hundredths < 100 ? "0.\(hundredths / 10)\(hundredths % 10) ms" : "\(tenths / 10).\(tenths % 10) ms"
  }
  var description: String { "\(time), \(unsent) bytes unsent, TcpExtDelayedACKs +\(delayed)" }
}

/// One request; on a busy machine the first of several that nothing else has held up.
func quickest(inOneWrite: Bool) -> Cost {
  var cost = request(inOneWrite: inOneWrite)
  for _ in 1...6 where cost.unsent == 0 && cost.nanoseconds >= Cost.wait.lowerBound {
    cost = request(inOneWrite: inOneWrite)
  }
  return cost
}

/// A request and its answer. Both ends are here, one after the other: the server's recv waits until head and body are there.
func request(inOneWrite: Bool) -> Cost {
  var (head, body) = (Array("head......".utf8), Array("body......".utf8))
  var bytes = [UInt8](repeating: 0, count: 20)
  var cost = Cost()
  let before = Counters()
  whileTheClockRuns {
    let start = nanoseconds()
    if inOneWrite {
      guard gather(client, &head, &body) == 20 else { fail("writev") }
    } else {
      guard write(client, head, 10) == 10 else { fail("write") }
      guard write(client, body, 10) == 10 else { fail("write") }
    }
    guard clinux_ioctl(client, CLINUX_SIOCOUTQNSD, &cost.unsent) == 0 else { fail("ioctl") }
    guard recv(server, &bytes, 20, Int32(MSG_WAITALL)) == 20 else { fail("recv") }
    guard write(server, "answer", 6) == 6 else { fail("write") }
    guard read(client, &bytes, 20) == 6 else { fail("read") }
    cost.nanoseconds = nanoseconds() - start
    cost.delayed = Counters().grown("TcpExtDelayedACKs", since: before)
  }
  return cost
}

/// One write of two parts. See: writev(2)
func gather(_ descriptor: Int32, _ head: inout [UInt8], _ body: inout [UInt8]) -> Int {
  head.withUnsafeMutableBytes { head in
    body.withUnsafeMutableBytes { body in
      let parts = [head, body].map { iovec(iov_base: $0.baseAddress, iov_len: $0.count) }
      return writev(descriptor, parts, 2)
    }
  }
}

// --- what lessons 1 to 7 have shown ---

func connection() -> (client: Int32, server: Int32) {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
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
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lab.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}
