// Lesson 6, second exercise: nobody reads any more.
//
// The program of the first exercise, which now survives its clients. One that has gone, though the 1 MiB
// was not all sent, makes write fail: with ECONNRESET, or with EPIPE and a signal, SIGPIPE, which ends a
// program that does not expect it.
//
// The program is to get EPIPE as an error like others, and no signal. It says on standard error that the
// client is gone, with errno's name and text,
//     client gone: EPIPE (Broken pipe)
// closes the connection, and sends the next client its 1 MiB.
//
// - Arguments: PORT, 0 for any.
// - Try it: with 8080, and `nc -z 127.0.0.1 8080`, which hangs up at once; more than once.
// - New: SIGPIPE and EPIPE. See: write(2), send(2) for MSG_NOSIGNAL, signal(2), signal(7)

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

// A write to a client that has gone is to fail with EPIPE. Left alone, SIGPIPE would end the program.
signal(SIGPIPE, SIG_IGN)

let listener = listeningSocket()
let payload = (0..<1_048_576).map { UInt8($0 % 251) }

while true {
  let connection = nextClient()
  if !writeAll(connection, payload) {
    // That is the client's own affair; the server goes on.
    fputs("client gone: \(lastError())\n", stderr)
  }
  guard close(connection) == 0 else { fail("close") }
}

/// Writes all of it: write may take less than it was given. False, and errno, where the client has gone.
func writeAll(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
    if count >= 0 {
      rest = rest.dropFirst(count)
    } else if errno != EINTR {  // a signal: nothing was taken
      return false
    }
  }
  return true
}

/// Waits for a client. A signal, or what goes wrong for one that waits in the queue, is no reason to stop.
func nextClient() -> Int32 {
  while true {
    let connection = accept4(listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
    if connection >= 0 { return connection }
    guard errno == EINTR || errno == ECONNABORTED else { fail("accept4") }
  }
}

// --- what lessons 1 to 4 have shown ---

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
