// Lab: no descriptor is left, and a client waits.
// Follow it with `swift run lab-descriptor-limit`; or, without the narrator,
// `strace .build/debug/lab-descriptor-limit --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A server has as many descriptors as it may have, and one more client is connected. Its loop polls, and accepts whoever is there. What does it do now?",
    choices: [
      "accept fails, the client is turned away, and the loop waits for the next one",
      "accept waits until a descriptor is free",
      "accept fails, poll reports the same client again at once, and so on: a loop that never waits",
    ]))
let stream = Int32(SOCK_STREAM.rawValue)
let (listener, address) = listeningSocket()

say("Ann and Bob dial. (They are in this program, too: their descriptors count.) Ann is accepted.")
let (ann, bob) = (dial(), dial())
var reserve = open("/dev/null", O_RDONLY)  // for later
guard reserve >= 0 else { fail("open") }
let annHere = accept(listener, nil, nil)
guard annHere >= 0 else { fail("accept") }
// A program may lower its own soft limit. Real ones meet it at 1024, or whatever `ulimit -n` says.
var limit = rlimit()
guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { fail("getrlimit") }
limit.rlim_cur = rlim_t(annHere) + 1
guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { fail("setrlimit") }
say(
  "From here on RLIMIT_NOFILE is \(limit.rlim_cur): descriptors 0 to \(limit.rlim_cur - 1), and all are open. The loop, for four rounds:"
)

let rounds = 4
let begun = processorTime()
for _ in 1...rounds {
  guard isReady(listener, atMost: -1) else { cannotShow("poll returned without a client") }
  guard accept(listener, nil, nil) == -1 else { cannotShow("accept found a descriptor that is free") }
  guard errno == EMFILE else { fail("accept") }
}
let work = processorTime() - begun
let queued = queueLength()  // by getsockopt: to read /proc takes a descriptor
guard queued == 1 else { cannotShow("the accept queue holds \(queued), where Bob should be") }
verdict(
  .broken,
  """
  poll might have waited without a limit, and has returned \(rounds) times of \(rounds). Bob is still in the accept queue (TCP_INFO: \(queued)),
  and while he is, the listener is ready. A round costs \(work / rounds) ns of processor time, and nothing makes the loop wait.
  """, truth: 3)

say("A cure: a descriptor in reserve. Close it, accept, close the client, and open it again.")
guard close(reserve) == 0 else { fail("close") }
let bobHere = accept(listener, nil, nil)
guard bobHere >= 0 else { fail("accept") }
guard close(bobHere) == 0 else { fail("close") }
reserve = open("/dev/null", O_RDONLY)
guard reserve >= 0 else { fail("open") }
guard !isReady(listener, atMost: 0) else { cannotShow("the listener is still ready") }
var byte: UInt8 = 0
guard read(bob, &byte, 1) == 0, close(bob) == 0 else { cannotShow("Bob was not turned away") }
say("Bob has been turned away, but at once, and nothing is ready any more. Now one that serves him as well:")

say(
  "Do not watch the listener while there is no descriptor for whom it reports. Carl dials; Ann is watched alone."
)
let carl = dial()
let idle = processorTime()
guard !isReady(annHere, atMost: 100) else { cannotShow("Ann has sent something") }
let used = processorTime() - idle
guard queueLength() == 1 else { cannotShow("Carl is not in the accept queue") }
say(
  "Ann has said all she had to. Her connection is closed, a descriptor is free, and the listener is watched again."
)
guard shutdown(ann, Int32(SHUT_WR)) == 0 else { fail("shutdown") }
guard isReady(annHere, atMost: -1), read(annHere, &byte, 1) == 0 else {
  cannotShow("Ann's stream has no end")
}
guard close(annHere) == 0 else { fail("close") }
guard isReady(listener, atMost: -1) else { cannotShow("the listener is not ready") }
guard accept(listener, nil, nil) >= 0 else { fail("accept") }
let left = queueLength()
guard left == 0 else { cannotShow("the accept queue holds \(left)") }
verdict(
  .cured,
  """
  While there was no descriptor for Carl, poll waited out its 100 ms, with \(used) ns of processor time. When there was one he was
  accepted: the accept queue holds \(left).
  """)

func isReady(_ descriptor: Int32, atMost milliseconds: Int32) -> Bool {
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  let count = poll(&entry, 1, milliseconds)
  guard count >= 0 else { fail("poll") }
  return count == 1
}

/// Nanoseconds that processors have worked for this program, in its own code and in the kernel's. See: clock_gettime(2)
func processorTime() -> Int {
  var time = timespec()
  guard clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0 else { fail("clock_gettime") }
  return time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Of a listening socket, tcpi_unacked is the length of its accept queue.
@MainActor func queueLength() -> UInt32 {
  var info = tcp_info()
  var length = socklen_t(MemoryLayout<tcp_info>.size)
  guard getsockopt(listener, Int32(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 else { fail("getsockopt") }
  return info.tcpi_unacked
}

// --- what earlier lessons have shown ---

@MainActor func dial() -> Int32 {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  return client
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
