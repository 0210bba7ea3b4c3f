// Lab: a program that writes to a peer that has closed.
// Follow it with `swift run lab-broken-pipe`; or, without the narrator, `strace -f .build/debug/lab-broken-pipe --bare`.

import CLinux
import Glibc
import LessonSupport

let lab = begin(
  .lab(
    asks:
      "A server has closed its end. A client that has not looked writes to it twice. What becomes of the two writes?",
    choices: [
      "both fail: the client's kernel has had the server's FIN, and knows",
      "the first returns its count, the second fails, and the program goes on with that",
      "the first returns its count, and in the second the program is ended",
    ], ownNetwork: true))

// The client: a program of its own, which this lab starts beside itself, with the connection as its descriptor 0.
if lab.isCopy {
  let first = write(0, "one", 3)
  let second = write(0, "two", 3)
  say("The client goes on: its writes have returned \(first) and \(second).")
  exit(0)
}

// Not for the client that is started: that has one of them as its descriptor 0.
let stream = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
let readHangUp = Int16(0x2000)  // POLLRDHUP, which Glibc has under _GNU_SOURCE alone
var buffer = [UInt8](repeating: 0, count: 100)
let (listener, address) = listeningSocket()

say("A connection whose server has closed. The client's kernel has had the FIN: CLOSE_WAIT.")
var start = Counters()
var client = abandonedClient()
say(
  """
  For all that its kernel knows, the server may still read: a FIN says no more than that it sends nothing. So the first write goes
  out. It is the answer to it that tells the client's kernel: RST.
  """)
let status = waitForEnd(of: lab.startCopy(input: client))
guard status == 128 + SIGPIPE else {
  cannotShow(
    "the client has ended with status \(status); SIGPIPE did not end it. Was it ignored by whoever started this?"
  )
}
guard state(of: client) == nil else { cannotShow("the first write was not answered with RST") }
guard close(client) == 0 else { fail("close") }
let resets = Counters().grown("TcpOutRsts", since: start)
guard resets > 0 else { cannotShow("the first write was not answered with RST") }
verdict(
  .broken,
  """
  waitpid says that signal \(status - 128), SIGPIPE, has ended the client, which a shell shows as \(status); it got no further than
  its second write. /proc/net/tcp has its end no more: the answer to the first was RST. TcpOutRsts has grown by \(resets).
  """, truth: 3)

say("A cure for one call: MSG_NOSIGNAL. The same two writes.")
client = abandonedClient()
guard send(client, "one", 3, Int32(MSG_NOSIGNAL)) == 3 else { fail("send") }
guard send(client, "two", 3, Int32(MSG_NOSIGNAL)) == -1, errno == EPIPE else {
  cannotShow("the second write did not fail with EPIPE")
}
guard close(client) == 0 else { fail("close") }

say(
  "For all calls: signal(SIGPIPE, SIG_IGN). What a program starts inherits that. The same client as before:")
signal(SIGPIPE, SIG_IGN)
client = abandonedClient()
let statusNow = waitForEnd(of: lab.startCopy(input: client))
guard statusNow == 0 else { cannotShow("the client has ended with status \(statusNow) all the same") }
guard close(client) == 0 else { fail("close") }

say(
  "Either way somebody has to look at what write returns. And one can look before: the end of the stream is readable."
)
start = Counters()
client = abandonedClient()
var entry = pollfd(fd: client, events: Int16(POLLOUT) | readHangUp, revents: 0)
guard poll(&entry, 1, 0) == 1, entry.revents == Int16(POLLOUT) | readHangUp else {
  cannotShow("poll has reported \(entry.revents)")
}
guard read(client, &buffer, buffer.count) == 0 else { cannotShow("the stream has no end") }
let last = state(of: client) ?? "gone"
guard last == "CLOSE_WAIT" else { cannotShow("its end is \(last), and not in CLOSE_WAIT") }
guard close(client) == 0 else { fail("close") }
say(
  """
  That saves a write, and proves nothing: POLLOUT says that there is room, POLLRDHUP that the server sends no more. It may still
  read. Whether it does, the protocol of the two has to say.
  """)
verdict(
  .cured,
  """
  After the same two writes the client has ended with status \(statusNow), and this program goes on: EPIPE is a result like others.
  Who looked before writing had no RST: its end stayed in \(last). TcpOutRsts has grown by
  \(Counters().grown("TcpOutRsts", since: start)).
  """)

/// What /proc/net/tcp has of a socket; nil where the kernel has ended its connection.
func state(of descriptor: Int32) -> String? {
  var file = stat()
  guard fstat(descriptor, &file) == 0 else { fail("fstat") }
  return TCPRow.all(port: UInt16(bigEndian: address.sin_port)).first { $0.inode == Int(file.st_ino) }?.state
}

// --- what lessons 1 to 7 have shown ---

/// The client's end of a connection whose other end was closed.
func abandonedClient() -> Int32 {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  guard close(server) == 0 else { fail("close") }
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
