// wrong: SIGPIPE is not ignored, and ends the server

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise PORT")
  exit(2)
}
// A write to a client that has gone is to fail with EPIPE. Left alone, SIGPIPE would end the server.
let listener = listeningSocket(port)
while true {
  let connection = nextClient()
  echo(connection)
  close(connection)
}

/// Waits for a client. A signal, or a client that has gone while it waited in the queue, is no reason to stop.
func nextClient() -> Int32 {
  while true {
    let connection = accept(listener, nil, nil)
    if connection >= 0 { return connection }
    guard errno == EINTR || errno == ECONNABORTED else { fail("accept") }
  }
}

/// Sends back what comes, until the client has nothing more to say, or has gone.
func echo(_ connection: Int32) {
  var buffer = [UInt8](repeating: 0, count: 10_000)
  while true {
    let count = read(connection, &buffer, buffer.count)
    if count == -1, errno == EINTR { continue }
    guard count > 0, writeAll(connection, buffer[..<count]) else { return }
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
