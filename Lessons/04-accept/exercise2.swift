// Lesson 4, second exercise: what goes wrong for one client.
//
// In this program the newest client has the line. It accepts a client, prints "client 1" (then "client 2",
// and so on), and keeps the connection open until it has accepted the next one; then it closes the older.
//
// accept may fail although the listening socket is as good as ever: a signal came (EINTR), or the client
// had gone before it was accepted (ECONNABORTED). The program waits for a client again; the one that it has
// keeps the line, and nobody is counted. Any other error ends it: it is said on standard error, and the
// status is 1.
//
// The descriptor of each connection is close-on-exec. A connection does not inherit that from the listening
// socket.
//
// - Arguments: PORT, 0 for any.
// - Try it: with 8080, and `nc 127.0.0.1 8080` in two other terminals.
// - New: accept4 (or fcntl with F_SETFD), and two errors of accept. See: accept(2), fcntl(2)

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

let listener = listeningSocket()

var current: Int32 = -1  // none yet
for number in 1... {
  let newest = nextClient()
  print("client \(number)")
  if current >= 0 {
    guard close(current) == 0 else { fail("close") }
  }
  current = newest
}

/// Waits for a client.
func nextClient() -> Int32 {
  // TODO 1: some errors are no reason to stop.
  // TODO 2: the descriptor is to be close-on-exec.
  let connection = accept(listener, nil, nil)
  guard connection >= 0 else { fail("accept") }
  return connection
}

// --- what lessons 1 to 3 have shown ---

/// A socket that listens on 127.0.0.1 and the port that is the program's only argument.
func listeningSocket() -> Int32 {
  guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]) else {
    fputs("usage: exercise2 PORT\n", stderr)
    exit(2)
  }
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1  // lesson 7 shows why
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  print("listening on port \(UInt16(bigEndian: address.sin_port))")
  return listener
}

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  fputs("\(call): \(lastError())\n", stderr)
  exit(1)
}

/// errno's name and text: "EADDRINUSE (Address already in use)".
func lastError() -> String {
  let number = errno  // saved at once: any further call may change it
  let name = strerrorname_np(number).map { String(cString: $0) } ?? "errno \(number)"
  return "\(name) (\(String(cString: strerror(number))))"
}

/// The cast that C does with `(struct sockaddr *)`: hands the address and its length to a call.
func withSockaddr(_ address: sockaddr_in, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
  withUnsafePointer(to: address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      call($0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
}

/// The same for a call that fills the address in.
func withSockaddr(
  _ address: inout sockaddr_in,
  filled call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
) -> Int32 {
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  return withUnsafeMutablePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, &length) }
  }
}
