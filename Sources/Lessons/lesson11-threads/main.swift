// Lesson 11: a thread for each client, and what that costs.
// Follow it with `swift run lesson11-threads`; or, without the narrator, `strace -f .build/debug/lesson11-threads --bare`.

import CLinux
import Glibc
import LessonSupport

let lesson = begin()
let (listener, address) = listeningSocket()

say("Three clients dial, and say nothing. Lesson 9's server would wait for the first, and hear nobody else.")
let clients = (1...3).map { _ in dial() }

say("This one starts a thread for each. It waits in a read of its own, until the kernel wakes it.")
var threads: [pthread_t] = []
for _ in clients {
  let connection = accept(listener, nil, nil)
  guard connection >= 0 else { fail("accept") }
  threads.append(thread(echo, UnsafeMutableRawPointer(bitPattern: Int(connection))))
}
say(
  "/proc/self/status: \(number("Threads", in: "/proc/self/status")) threads, one for each client and one to accept."
)

say("The client that came last speaks first, and is answered: who says nothing holds up nobody.")
for (client, word) in zip(clients.reversed(), ["three", "two", "one"]) {
  guard write(client, word, word.utf8.count) != -1 else { fail("write") }
  var answer = [UInt8](repeating: 0, count: 100)
  let count = read(client, &answer, answer.count)
  guard count >= 0 else { fail("read") }
  guard answer[..<count].elementsEqual(word.utf8) else { cannotShow("something else came back") }
}

say("They hang up. Each thread reads the end of its stream, closes its connection, and ends.")
for client in clients { guard close(client) == 0 else { fail("close") } }
for thread in threads { pthread_join(thread, nil) }
guard close(listener) == 0 else { fail("close") }

// --- the price ---

let count = 100
// All of them on one processor, where one gives way to the other: the first that this program may use.
let processors = clinux_processors(0)
guard clinux_pin(0, processors & (~processors &+ 1)) == 0 else { fail("sched_setaffinity") }
say("What does it cost to wait? \(count) threads that do nothing else, as those did for silent clients:")
let gates = UnsafeMutablePointer<sem_t>.allocate(capacity: 2)  // one to be woken by, one to answer at
guard sem_init(gates, 0, 0) == 0, sem_init(gates + 1, 0, 0) == 0 else { fail("sem_init") }
// glibc keeps the stacks of threads that have ended. Those are not to be counted as new ones.
for _ in clients { _ = thread(wait, gates) }
for _ in clients { awaitAnswer() }
let before = memory()
for _ in 1...count { _ = thread(wait, gates) }
for _ in 1...count { awaitAnswer() }  // each says that it is there
let after = memory()
let each = (
  virtual: (after.virtual - before.virtual) / count, resident: (after.resident - before.resident) / count,
  kernel: (after.kernel - before.kernel) / count
)
say(
  """
  For each, \(each.virtual) KiB of address space (VmSize): a stack that may grow so far. Of memory, \(each.resident) KiB
  for what it has touched (VmRSS), and \(each.kernel) KiB of the kernel's own, where its calls run (KernelStack, which
  counts the whole system).
  """)

let rounds = 1000
say(
  "And to be woken? One of them gets a word, and answers, \(rounds) times. One processor, so they take turns."
)
let switchesBefore = switches()
let start = nanoseconds()
for _ in 1...rounds {
  sem_post(gates)
  awaitAnswer()
}
let time = (nanoseconds() - start) / rounds
say(
  "A round took \(time) ns, and the kernel switched from this thread to another \(switches() - switchesBefore) times."
)

// --- what a thread does ---

/// Lesson 9's loop. The thread's argument is the descriptor.
func echo(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  let connection = Int32(Int(bitPattern: argument))
  var buffer = [UInt8](repeating: 0, count: 10_000)
  while true {
    let count = read(connection, &buffer, buffer.count)
    guard count >= 0 else { fail("read") }
    if count == 0 { break }
    guard write(connection, buffer, count) != -1 else { fail("write") }
  }
  guard close(connection) == 0 else { fail("close") }
  return nil
}

/// Says that it is there. Then it waits at the first gate and answers at the second, until the program ends.
func wait(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let gates = argument?.assumingMemoryBound(to: sem_t.self) else { return nil }
  sem_post(gates + 1)
  while true { if sem_wait(gates) == 0 { sem_post(gates + 1) } }
}

@MainActor func awaitAnswer() { while sem_wait(gates + 1) == -1 {} }

func thread(
  _ body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?,
  _ argument: UnsafeMutableRawPointer?
) -> pthread_t {
  var thread = pthread_t()
  errno = pthread_create(&thread, nil, body, argument)  // it returns its error
  guard errno == 0 else { fail("pthread_create") }
  return thread
}

/// How often this thread, the process's first, has lost the processor: by waiting, or to another that was woken.
func switches() -> Int {
  number("voluntary_ctxt_switches", in: "/proc/self/status")
    + number("nonvoluntary_ctxt_switches", in: "/proc/self/status")
}

func memory() -> (virtual: Int, resident: Int, kernel: Int) {
  let status = "/proc/self/status"
  return (
    number("VmSize", in: status), number("VmRSS", in: status), number("KernelStack", in: "/proc/meminfo")
  )
}

// --- what earlier lessons have shown ---

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lesson.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}

func dial() -> Int32 {
  let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  return client
}
