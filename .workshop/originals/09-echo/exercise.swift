// Lesson 9, first exercise: an echo server.
//
// Lesson 8's server takes one read for all that is said, and one write for done. Put the loops around its calls.
//
//   - It sends back what comes, byte for byte, whatever the bytes are, until the client has ended its direction. By
//     then all has gone back, also where a write takes only a part. Then it closes this connection.
//   - It serves one client after another, for ever; the next one waits in the accept queue.
//   - A signal that interrupts a call (EINTR) changes nothing. Nor does a client that has gone before it was
//     accepted (ECONNABORTED).
//   - A client that resets its connection, or hangs up and reads no answer, costs the others nothing: the server
//     closes its end, and goes on.
//
// Arguments: PORT
// Try it: ./exercise 8080, and in a second terminal `nc -N 127.0.0.1 8080 < exercise.swift | cmp - exercise.swift`.
// New: SIGPIPE, EINTR. See: read(2), write(2), accept(2) for "Error handling", signal(7), signal(2)

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise PORT")
  exit(2)
}
// TODO 4: a write to a client that has gone is not to end the server.
let listener = listeningSocket(port)
// TODO 3: one client after another.
let connection = nextClient()
echo(connection)
close(connection)

/// Waits for a client.
func nextClient() -> Int32 {
  // TODO 5: a signal, or a client that has gone while it waited in the queue, is no reason to stop.
  let connection = accept(listener, nil, nil)
  guard connection >= 0 else { fail("accept") }
  return connection
}

/// Sends back what comes.
func echo(_ connection: Int32) {
  var buffer = [UInt8](repeating: 0, count: 10_000)
  // TODO 1: until the client has ended its direction, or has gone. A signal is neither.
  let count = read(connection, &buffer, buffer.count)
  guard count >= 0 else { fail("read") }
  guard writeAll(connection, buffer[..<count]) else { fail("write") }
}

/// Writes all of it. False where the client has gone.
func writeAll(_ connection: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
  // TODO 2: write may take less than it was given, and a signal may interrupt it.
  bytes.withUnsafeBytes { write(connection, $0.baseAddress, $0.count) } != -1
}

// --- what earlier exercises have shown ---

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
