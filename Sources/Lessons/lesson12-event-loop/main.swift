// Lesson 12: one thread, many clients: poll, epoll, and what else can be waited for.
// Follow it with `swift run lesson12-event-loop`; or, without the narrator, `strace .build/debug/lesson12-event-loop --bare`.

import CLinux
import Glibc
import LessonSupport

let lesson = begin()
let (listener, address) = listeningSocket()

say("Two clients, and one thread for both. It must never wait for one of them: O_NONBLOCK.")
let (ann, bob) = (dial(), dial())
let (annHere, bobHere) = (acceptNonblocking(), acceptNonblocking())
var bytes = [UInt8](repeating: 0, count: 1 << 20)
guard read(annHere, &bytes, 100) == -1, errno == EAGAIN else { cannotShow("no EAGAIN") }

say("EAGAIN: nothing is there yet. To ask over and over burns a processor; poll waits for any of several.")
send(bob, "hi")
var entries = [listener, annHere, bobHere].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
guard poll(&entries, 3, -1) == 1, entries[2].revents == POLLIN else { cannotShow("poll did not find bob") }
guard read(bobHere, &bytes, 100) == 2 else { fail("read") }

say("It was descriptor \(bobHere). But each poll has the kernel look at the whole list, be it 10,000 long.")
say("epoll keeps the list in the kernel: add a descriptor once, and each wait returns those that are ready.")
let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
guard epoll >= 0 else { fail("epoll_create1") }
for descriptor in [listener, annHere, bobHere] { watch(EPOLL_CTL_ADD, descriptor, EPOLLIN) }
send(ann, "12345678")
guard wait() == [annHere] else { cannotShow("epoll did not find ann") }

say("Level-triggered, the default: reported for as long as it is so. Read a part, and the rest is reported.")
guard read(annHere, &bytes, 4) == 4 else { fail("read") }
guard wait() == [annHere] else { cannotShow("the rest was not reported") }

say("Edge-triggered: reported once, when it becomes so. Who reads only a part waits for what is there.")
watch(EPOLL_CTL_MOD, annHere, EPOLLIN, EPOLLET)
guard wait() == [annHere] else { cannotShow("the change was not reported") }
guard read(annHere, &bytes, 2) == 2 else { fail("read") }
guard wait(atMost: 0) == [] else { cannotShow("the rest was reported again") }
guard read(annHere, &bytes, 100) == 2 else { fail("read") }
watch(EPOLL_CTL_MOD, annHere, EPOLLIN)

say("Backpressure: Bob is sent much, and reads nothing. Write what the kernel takes, and wait for no room.")
var small: Int32 = 16 * 1024
guard setsockopt(bobHere, SOL_SOCKET, SO_SNDBUF, &small, 4) == 0 else { fail("setsockopt") }
while write(bobHere, &bytes, bytes.count) > 0 {}
guard errno == EAGAIN else { fail("write") }

say("Keep the rest, and read no more from him: now he has to wait. EPOLLOUT reports when there is room.")
watch(EPOLL_CTL_MOD, bobHere, EPOLLOUT)
guard wait(atMost: 0) == [] else { cannotShow("there was room") }
guard read(bob, &bytes, bytes.count) > 0 else { fail("read") }
guard wait() == [bobHere] else { cannotShow("no room was reported") }
guard write(bobHere, &bytes, 1000) != -1 else { fail("write") }
watch(EPOLL_CTL_MOD, bobHere, EPOLLIN)

say("Time is a descriptor, too: a timer is readable once it has run out. The wait needs no timeout.")
let timer = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_NONBLOCK | TFD_CLOEXEC))
guard timer >= 0 else { fail("timerfd_create") }
watch(EPOLL_CTL_ADD, timer, EPOLLIN)
var setting = itimerspec(it_interval: timespec(), it_value: timespec(tv_sec: 0, tv_nsec: 30_000_000))
guard timerfd_settime(timer, 0, &setting, nil) == 0 else { fail("timerfd_settime") }
guard wait() == [timer] else { cannotShow("the timer was not reported") }
guard read(timer, &bytes, 8) == 8 else { fail("read") }  // how often it has run out

say("And a signal: blocked, so that it interrupts nothing, and read in its turn. No handler, no EINTR.")
var set = sigset_t()
sigemptyset(&set)
sigaddset(&set, SIGTERM)
guard sigprocmask(SIG_BLOCK, &set, nil) == 0 else { fail("sigprocmask") }
let signals = signalfd(-1, &set, Int32(SFD_NONBLOCK | SFD_CLOEXEC))
guard signals >= 0 else { fail("signalfd") }
watch(EPOLL_CTL_ADD, signals, EPOLLIN)
kill(getpid(), SIGTERM)
guard wait() == [signals] else { cannotShow("the signal was not reported") }
var info = signalfd_siginfo()
guard read(signals, &info, MemoryLayout.size(ofValue: info)) == 128 else { fail("read") }

say(
  "Signal \(info.ssi_signo): time to end. One wait for clients, room, time, signals: that is echo-server's loop."
)

// --- what is new ---

func watch(_ operation: Int32, _ descriptor: Int32, _ events: EPOLL_EVENTS...) {
  var event = epoll_event()
  for one in events { event.events |= one.rawValue }
  event.data.fd = descriptor
  guard epoll_ctl(epoll, operation, descriptor, &event) == 0 else { fail("epoll_ctl") }
}

/// The descriptors that are ready, of at most 8. Waits for one as long as it takes, or for some milliseconds.
func wait(atMost milliseconds: Int32 = -1) -> [Int32] {
  var events = [epoll_event](repeating: epoll_event(), count: 8)
  let count = epoll_wait(epoll, &events, 8, milliseconds)
  guard count >= 0 else { fail("epoll_wait") }
  return events[..<Int(count)].map(\.data.fd)
}

func acceptNonblocking() -> Int32 {
  let connection = accept4(listener, nil, nil, Int32(SOCK_NONBLOCK.rawValue))
  guard connection >= 0 else { fail("accept4") }
  return connection
}

// --- what earlier lessons have shown ---

func send(_ connection: Int32, _ text: String) {
  guard write(connection, text, text.utf8.count) != -1 else { fail("write") }
}

func listeningSocket() -> (Int32, sockaddr_in) {
  let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
  let listener = socket(AF_INET, type, 0)
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
  var small: Int32 = 16 * 1024  // soon full, for a short story
  guard setsockopt(client, SOL_SOCKET, SO_RCVBUF, &small, 4) == 0 else { fail("setsockopt") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  return client
}
