// Lesson 4, first exercise: one client after another.
//
// The program listens on 127.0.0.1 and its port, and serves one client after another, for ever. It accepts
// the client, prints who that is,
//     client from 127.0.0.1, port 40312
// and closes the connection, so that the client comes to the end of the stream. The listening socket stays
// open. Of a client that has been served nothing is left: while the program waits for the next one, it has
// one socket.
//
// listeningSocket, at the end of the file, is what lessons 2 and 3 have shown.
//
// - Arguments: PORT, 0 for any. Errors as in lesson 2.
// - Try it: with 8080, and `nc 127.0.0.1 8080` in a second terminal, more than once.
// - New: accept. See: accept(2), ip(7)

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

let listener = listeningSocket()

while true {
  var peer = sockaddr_in()
  let connection = withSockaddr(&peer, filled: { accept(listener, $0, $1) })
  guard connection >= 0 else { fail("accept") }
  print("client from 127.0.0.1, port \(UInt16(bigEndian: peer.sin_port))")
  guard close(connection) == 0 else { fail("close") }
}

// --- what lessons 1 to 3 have shown ---

/// A socket that listens on 127.0.0.1 and the port that is the program's only argument.
func listeningSocket() -> Int32 {
  guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]) else {
    fputs("usage: exercise PORT\n", stderr)
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
