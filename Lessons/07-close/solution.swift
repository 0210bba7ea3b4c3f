// Lesson 7, first exercise: a close for each accept.
//
// The program serves one client after another, for ever. It reads all that the client sends, until the
// client has ended its direction, and answers with one line that says how many bytes that was, "13 bytes".
// A client that breaks off, by a reset or by not reading its answer, is reported on standard error ("client
// gone: …"), as in lessons 5 and 6.
//
// It does all that already. But each client that it has served leaves something behind: a descriptor, and a
// socket in CLOSE_WAIT. Look for them: `ss -tanp` and `ls /proc/PID/fd`, after some clients.
//
// When the client is served, or is gone, its connection is to be closed once, whatever happened to it.
// While the program waits for the next client, it has its listening socket and no other.
//
// - Arguments: PORT, 0 for any.
// - Try it: with 8080, and `printf 'Hello, kernel' | nc -N 127.0.0.1 8080`.
// - Known: close. See: close(2), tcp(7), ss(8)

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

signal(SIGPIPE, SIG_IGN)  // lesson 6 shows why

let listener = listeningSocket()
while true { serve(nextClient()) }

/// Reads what a client sends, and answers. The connection is closed, whichever way this ends.
func serve(_ connection: Int32) {
  defer { close(connection) }
  guard let bytes = readToEnd(connection) else { return complain() }
  guard writeAll(connection, Array("\(bytes.count) bytes\n".utf8)) else { return complain() }
}

func complain() { fputs("client gone: \(lastError())\n", stderr) }

/// Reads until the client has ended its direction. Nil, and errno, where the connection broke before.
func readToEnd(_ connection: Int32) -> [UInt8]? {
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 4096)
  while true {
    let count = read(connection, &buffer, buffer.count)
    if count == 0 { return bytes }
    if count > 0 {
      bytes += buffer[..<count]
    } else if errno != EINTR {  // a signal: nothing was read, and nothing is lost
      return nil
    }
  }
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

// --- what lessons 1 to 6 have shown ---

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
