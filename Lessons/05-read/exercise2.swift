// Lesson 5, second exercise: reads that fail.
//
// The program of the first exercise, which now survives two things.
//
// A signal may interrupt read (EINTR): nothing was read, nothing is lost, and the program reads on. Nothing
// is printed about it.
//
// A client may break its connection off by a reset (ECONNRESET). What came before is not complete, so
// nothing is printed on standard output. The program says on standard error that the client is gone, with
// errno's name and text,
//     client gone: ECONNRESET (Connection reset by peer)
// closes the connection, and serves the next client. Any other error of read is treated alike.
//
// - Arguments: PORT, 0 for any.
// - Try it: with 8080, and a client that breaks off (1, 13 is SO_LINGER):
//     python3 -c 'import socket; c = socket.create_connection(("127.0.0.1", 8080)); c.send(b"half")
//     c.setsockopt(1, 13, bytes([1, 0, 0, 0, 0, 0, 0, 0]))'
// - New: read's errors. See: read(2), recv(2), signal(7) for EINTR, socket(7) for SO_LINGER

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

let listener = listeningSocket()

while true {
  let connection = nextClient()
  let bytes = readToEnd(connection)
  print("\(bytes.count) bytes: \(String(decoding: bytes, as: UTF8.self))")
  guard close(connection) == 0 else { fail("close") }
}

/// Reads until the client has ended its direction.
func readToEnd(_ connection: Int32) -> [UInt8] {
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 4096)
  while true {
    let count = read(connection, &buffer, buffer.count)
    // TODO 1: a signal is no reason to stop.
    // TODO 2: nor is a client that is gone: say so on standard error, and go on with the next one.
    // (lastError() has the words. This function has to tell its caller, for example by returning nil.)
    guard count >= 0 else { fail("read") }
    if count == 0 { return bytes }
    bytes += buffer[..<count]
  }
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
