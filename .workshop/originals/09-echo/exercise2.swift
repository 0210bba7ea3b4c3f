// Lesson 9, second exercise: an echo client.
//
// It is to nc what the server before is to any other: small, and right. With it, bytes go out and come back:
// `exercise2 PORT < FILE | cmp - FILE`.
//
//   - It connects to 127.0.0.1, port PORT; where that fails it ends with status 1, and the error's text on standard
//     error.
//   - It sends all of its standard input, whatever the bytes are, until the end of that.
//   - Then it ends its direction, and writes all that comes back to standard output until the end of the stream:
//     these bytes, and no other.
//   - Its exit status is 0. Where the connection breaks off (a reset), it is 1, and the error's text is on standard
//     error.
//   - Reads and writes may be short, and interrupted, at both ends: standard output may be a pipe.
//
// Arguments: PORT
// Try it: ./exercise 8080 of the exercise before, and `./exercise2 8080 < exercise2 | cmp - exercise2` beside it.
// New: descriptors 0 and 1 are read and written as sockets are. See: read(2), write(2), shutdown(2), stdin(3)

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise2 PORT")
  exit(2)
}
// A write to a server that has gone is to fail, so that this program can say why it ends.
signal(SIGPIPE, SIG_IGN)
let connection = dial(port)

// TODO 1: send all of standard input, until its end. `writeAll` is there; the loop that reads is not.

// TODO 2: say that this was all.

// TODO 3: write all that comes back to standard output, until the end of the stream; then close.

/// Writes all of it: write may take less than it was given.
func writeAll(_ target: Int32, _ bytes: ArraySlice<UInt8>) {
  var rest = bytes
  while !rest.isEmpty {
    let written = rest.withUnsafeBytes { write(target, $0.baseAddress, $0.count) }
    guard written >= 0 || errno == EINTR else { fail("write") }
    rest = rest.dropFirst(max(0, written))
  }
}

// --- what earlier exercises have shown ---

func dial(_ port: UInt16) -> Int32 {
  let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  guard connection >= 0 else { fail("socket") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  guard withSockaddr(address, { connect(connection, $0, $1) }) == 0 else { fail("connect") }
  return connection
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
