// Lab: many accepters, one connection.
// Follow it with `swift run lab-wakeups`; or, without the narrator, `strace -f .build/debug/lab-wakeups --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "Four threads wait for clients, each in an epoll_wait of its own, for the same listening socket. One client dials. How many threads does the kernel wake?",
    choices: [
      "one: there is one connection to be had", "all four", "none, until one of them calls accept",
    ], ownNetwork: true))
let count = 4
let (listener, address) = listeningSocket()

say("Each thread has an epoll of its own, and in it the one listening socket.")
let answers = gate()
let workers = UnsafeMutablePointer<Worker>.allocate(capacity: count)
var threads: [pthread_t] = []
for index in 0..<count {
  let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
  guard epoll >= 0 else { fail("epoll_create1") }
  watch(epoll, EPOLLIN)
  (workers + index).initialize(
    to: Worker(epoll: epoll, listener: listener, gate: gate(), answers: answers))
  threads.append(start(workers + index))
  awaitAnswer()  // it is about to wait
  awaitSleep()
}

say("All four sleep in epoll_wait. One client dials.")
let asleep = switches()
dial()
let returned = answers(atMost: count)
let woken = zip(asleep, switches()).filter { $0 < $1 }.count
guard returned == count, woken == count else {
  cannotShow("of \(count) threads \(woken) have been woken, and \(returned) epoll_wait have returned")
}

say(
  """
  Each has been told that there is somebody to accept, before anybody has accepted. A gate of this program has held them there, so that
  it shows. Now they call accept, one after the other.
  """)
for index in 0..<count { letOn(index) }
let got = (0..<count).map { workers[$0].accepted }.reduce(0, +)
guard got == 1 else { cannotShow("of \(count) threads \(got) have accepted the one connection") }
verdict(
  .broken,
  """
  For one connection \(woken) of \(count) threads were woken: voluntary_ctxt_switches in /proc/self/task/…/status has grown for each.
  \(returned) epoll_wait returned, \(got) accept4 got the connection, \(count - got) got EAGAIN, and were woken for nothing.
  """, truth: 2)

say("The cure: EPOLLEXCLUSIVE. It cannot be added to what is registered already; so out, and in again.")
for index in 0..<count {
  guard epoll_ctl(workers[index].epoll, EPOLL_CTL_DEL, listener, nil) == 0 else { fail("epoll_ctl") }
  watch(workers[index].epoll, EPOLLIN, EPOLLEXCLUSIVE)
}
for index in 0..<count {
  letOn(index)
  awaitSleep()
}

say("All four sleep again. One client dials.")
let asleepAgain = switches()
dial()
let returnedNow = answers(atMost: count)
let wokenNow = zip(asleepAgain, switches()).filter { $0 < $1 }.count
guard (1..<count).contains(returnedNow), wokenNow == returnedNow else {
  cannotShow("of \(count) threads \(wokenNow) have been woken, and \(returnedNow) epoll_wait have returned")
}

say("The others have slept on. A client for each of them, and then all call accept.")
for client in returnedNow..<count {
  dial()
  guard answers(atMost: 1) == 1 else { cannotShow("client \(client + 1) has woken nobody") }
}
for index in 0..<count { letOn(index) }
let gotNow = (0..<count).map { workers[$0].accepted }.reduce(0, +) - got
guard gotNow == count else { cannotShow("of \(count) connections \(gotNow) have been accepted") }
for index in 0..<count {
  sem_post(workers[index].gate)
  pthread_join(threads[index], nil)
}
verdict(
  .cured,
  """
  With EPOLLEXCLUSIVE one connection woke \(wokenNow) of \(count) threads; the others' voluntary_ctxt_switches had not moved. (The kernel
  promises "one or more": epoll_ctl(2).) In all, \(count) clients: \(gotNow) accepted, and nobody got EAGAIN.
  """)

// --- what is new ---

func watch(_ epoll: Int32, _ events: EPOLL_EVENTS...) {
  var event = epoll_event()
  for one in events { event.events |= one.rawValue }
  event.data.fd = listener
  guard epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0 else { fail("epoll_ctl") }
}

struct Worker {
  let epoll: Int32
  let listener: Int32
  /// Where it waits until it is let on, and where it says how far it is.
  let gate: UnsafeMutablePointer<sem_t>
  let answers: UnsafeMutablePointer<sem_t>
  var accepted = 0
}

/// Twice: says that it is about to wait, waits for a client, says that it is back, and calls accept once it is let on.
func work(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let worker = argument?.assumingMemoryBound(to: Worker.self) else { return nil }
  let (epoll, gate, answers) = (worker.pointee.epoll, worker.pointee.gate, worker.pointee.answers)
  var event = epoll_event()
  for _ in 1...2 {
    sem_post(answers)
    guard epoll_wait(epoll, &event, 1, -1) == 1 else { fail("epoll_wait") }
    sem_post(answers)
    while sem_wait(gate) == -1 {}
    let connection = accept4(worker.pointee.listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
    guard connection >= 0 || errno == EAGAIN else { fail("accept4") }
    if connection >= 0 { worker.pointee.accepted += 1 }
    sem_post(answers)
    while sem_wait(gate) == -1 {}
  }
  return nil
}

/// How often each thread has given up the processor to wait for something, once all of them wait. See: proc_pid_status(5)
func switches() -> [Int] {
  awaitSleep()
  return otherThreads().map { number("voluntary_ctxt_switches", in: "/proc/self/task/\($0)/status") }
}

func awaitSleep() { while !otherThreads().allSatisfy(isAsleep) { usleep(1000) } }

/// How many answers come, until there are enough, or all threads have been seen asleep a hundred times in a row.
@MainActor func answers(atMost most: Int) -> Int {
  var (count, quiet) = (0, 0)
  while count < most, quiet < 100 {
    if sem_trywait(answers) == 0 { count += 1 }
    quiet = otherThreads().allSatisfy(isAsleep) ? quiet + 1 : 0
    usleep(2000)
  }
  return count
}

@MainActor func awaitAnswer() { while sem_wait(answers) == -1 {} }

@MainActor func letOn(_ index: Int) {
  sem_post(workers[index].gate)
  awaitAnswer()
}

// --- what lessons 1 to 12 have shown ---

func gate() -> UnsafeMutablePointer<sem_t> {
  let gate = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
  guard sem_init(gate, 0, 0) == 0 else { fail("sem_init") }
  return gate
}

func start(_ worker: UnsafeMutablePointer<Worker>) -> pthread_t {
  var thread = pthread_t()
  errno = pthread_create(&thread, nil, work, worker)  // it returns its error
  guard errno == 0 else { fail("pthread_create") }
  return thread
}

func dial() {
  let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
}

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lab.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}
