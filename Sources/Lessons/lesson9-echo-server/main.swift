// Lesson 9: an echo server, which is lesson 8's server and the loops that make it right.
// Follow it with `swift run lesson9-echo-server`, which starts its client, too; or, in two terminals,
// `swift run lesson9-echo-server --alone` and then `swift run lesson9-echo-client --port` and the port that it names.

import Glibc
import LessonSupport

let lesson = begin(.server(client: "lesson9-echo-client"))

// A write to a client that has gone is to fail with EPIPE. Left alone, SIGPIPE would end the server.
signal(SIGPIPE, SIG_IGN)
// SIGUSR1 asks how much was echoed. Without SA_RESTART a call that waits returns EINTR, once the handler has run.
var action = sigaction()
action.__sigaction_handler.sa_handler = { _ in }
guard sigaction(SIGUSR1, &action, nil) == 0 else { fail("sigaction") }

let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard listener >= 0 else { fail("socket") }
var on: Int32 = 1  // lesson 7 shows why
guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = lesson.port.bigEndian
guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
guard listen(listener, 8) == 0 else { fail("listen") }
lesson.startClient(port: UInt16(bigEndian: address.sin_port))

// One client after another; the others wait in the accept queue. The client of this lesson dials three times; others may dial
// as often as they like, until ctrl-C.
for number in 1...(lesson.isAlone ? Int.max : 3) {
  let connection = nextClient()
  say("Client \(number) is served.")
  echo(connection)
  guard close(connection) == 0 else { fail("close") }
}

guard close(listener) == 0 else { fail("close") }
lesson.waitForClient()

/// Waits for a client. A signal, or what goes wrong for one that waits in the queue, is no reason to stop.
func nextClient() -> Int32 {
  while true {
    let connection = accept(listener, nil, nil)
    if connection >= 0 { return connection }
    guard errno == EINTR || errno == ECONNABORTED else { fail("accept") }
  }
}

/// Sends back what comes, until the client has nothing more to say. By then all of it has gone back, whatever the bytes were:
/// they are counted, and never taken for text.
func echo(_ connection: Int32) {
  var buffer = [UInt8](repeating: 0, count: 10_000)
  var total = 0
  while true {
    let count = read(connection, &buffer, buffer.count)
    if count == 0 {
      return say("0 bytes, and no error: it has ended its direction. All of its answer was handed over.")
    }
    if count == -1, errno == EINTR {
      say("EINTR: no bytes, but a signal. \(total) bytes have gone back to this client. Read again.")
    } else if count == -1 || !writeAll(connection, buffer[..<count]) {
      let reason = String(cString: strerror(errno))
      return say("This client has gone: \(reason). That is its own affair; the server goes on.")
    }
    total += max(0, count)
  }
}

/// Writes all of it: write may take less than it was given. False where the client has gone.
func writeAll(_ connection: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
  var rest = bytes
  while !rest.isEmpty {
    let written = rest.withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
    if written == -1, errno != EINTR { return false }
    rest = rest.dropFirst(max(0, written))
  }
  return true
}
