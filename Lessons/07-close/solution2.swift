// Lesson 7, second exercise: the last words arrive.
//
// The program greets one client after another, for ever: it sends "Hello!" and a newline as soon as it has
// accepted the client, whether or not that has sent something. Then it has nothing more to say, and ends
// its own direction: the client comes to the end of the stream. But the program does not close yet. Unread
// bytes would make of close a reset (RST), and a reset may cost the client the greeting. So it reads, and
// throws away, what the client still sends, until the client has ended its direction, too. Then it closes.
//
// The program has ended its direction first, so the connection stays in TIME_WAIT for a minute. It is to be
// possible to start the program again at once, on the same port.
//
// Clients that break off are reported on standard error, as before. (A real server sets a limit to its
// patience, too.)
//
// - Arguments: PORT, 0 for any.
// - Try it: with 8080, and `echo hello | nc -N 127.0.0.1 8080`; end it with ctrl-C, and start it again.
// - New: shutdown, setsockopt with SO_REUSEADDR. See: shutdown(2), socket(7), tcp(7)

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

signal(SIGPIPE, SIG_IGN)  // lesson 6 shows why

let listener = listeningSocket()
while true { serve(nextClient()) }

/// Greets a client, ends the own direction, and waits until the client has ended its own.
func serve(_ connection: Int32) {
  defer { close(connection) }
  guard writeAll(connection, Array("Hello!\n".utf8)) else { return complain() }
  guard shutdown(connection, Int32(SHUT_WR)) == 0 else { return complain() }
  guard drain(connection) else { return complain() }
}

func complain() { fputs("client gone: \(lastError())\n", stderr) }

/// Throws away what comes until the client has ended its direction. False, and errno, where it has gone.
func drain(_ connection: Int32) -> Bool {
  var buffer = [UInt8](repeating: 0, count: 4096)
  while true {
    let count = read(connection, &buffer, buffer.count)
    if count == 0 { return true }
    if count < 0, errno != EINTR { return false }
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
    fputs("usage: exercise2 PORT\n", stderr)
    exit(2)
  }
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  // Connections of an earlier run that are in TIME_WAIT are no obstacle to bind, if they had the option, too:
  // they inherited it from their listening socket.
  var on: Int32 = 1
  let size = socklen_t(MemoryLayout<Int32>.size)
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, size) == 0 else { fail("setsockopt") }
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
