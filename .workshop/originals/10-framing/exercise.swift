// Lesson 10, first exercise: messages.
//
// A server that works on whole messages has to find them in the stream first. Before each message stands its
// length: 4 bytes, the high one first (network byte order), which do not count themselves.
//
//   - It answers each message with the same bytes in reverse order, in the same form: `00 00 00 03 abc` is answered
//     with `00 00 00 03 cba`.
//   - A message may come in one piece or in many, cut anywhere, also inside its length. Several may come at once: each
//     has its answer, in their order.
//   - A message of no bytes is a message: `00 00 00 00` is answered with `00 00 00 00`.
//   - Any bytes, any length, 1 MiB as well.
//   - Otherwise it is lesson 9's server: one client after another, until each has ended its direction; then it
//     closes. Signals and clients that have gone do not stop it.
//
// Arguments: PORT
// Try it: ./exercise 8080, and `printf '\0\0\0\003abc' | nc -N 127.0.0.1 8080 | xxd` beside it.
// New: a loop around read with a number of bytes to wait for. See: read(2), byteorder(3)

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise PORT")
  exit(2)
}
signal(SIGPIPE, SIG_IGN)
let listener = listeningSocket(port)
while true {
  let connection = nextClient()
  serve(connection)
  close(connection)
}

/// Answers each message, until the client has nothing more to say, or has gone.
func serve(_ connection: Int32) {
  while let message = readMessage(connection) {
    // TODO 3: the same bytes in reverse order.
    guard writeMessage(connection, message) else { return }
  }
}

/// A message, without its length. Nil where the stream has ended before.
func readMessage(_ connection: Int32) -> [UInt8]? {
  let prefix = readExactly(connection, 4)
  guard prefix.count == 4 else { return nil }
  // TODO 2: these four bytes are a length. Return so many bytes that follow, or nil where they do not come.
  return prefix
}

/// So many bytes and no more, however many reads that takes; fewer where the stream has ended before.
func readExactly(_ connection: Int32, _ wanted: Int) -> [UInt8] {
  // TODO 1: a loop.
  return []
}

/// The length and the message. False where the client has gone.
func writeMessage(_ connection: Int32, _ message: [UInt8]) -> Bool {
  // TODO 4: the length, in network byte order, before the message.
  return writeAll(connection, message)
}

// --- what earlier exercises have shown ---

/// Waits for a client. A signal, or a client that has gone while it waited in the queue, is no reason to stop.
func nextClient() -> Int32 {
  while true {
    let connection = accept(listener, nil, nil)
    if connection >= 0 { return connection }
    guard errno == EINTR || errno == ECONNABORTED else { fail("accept") }
  }
}

/// Writes all of it: write may take less than it was given. False where the client has gone.
func writeAll(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
  var rest = bytes[...]
  while !rest.isEmpty {
    let written = rest.withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
    if written == -1, errno != EINTR { return false }
    rest = rest.dropFirst(max(0, written))
  }
  return true
}

func listeningSocket(_ port: UInt16) -> Int32 {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return listener
}

/// The cast that C does with `(struct sockaddr *)`: hands the address and its length to a call.
func withSockaddr(_ address: sockaddr_in, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
  withUnsafePointer(to: address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      call($0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
}

/// One line on standard error.
func warn(_ text: String) {
  let line = text + "\n"
  _ = write(STDERR_FILENO, line, line.utf8.count)
}

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  let number = errno  // saved at once: any further call may change it
  let name = strerrorname_np(number).map { String(cString: $0) } ?? "errno \(number)"
  warn("\(call): \(name) (\(String(cString: strerror(number))))")
  exit(1)
}
