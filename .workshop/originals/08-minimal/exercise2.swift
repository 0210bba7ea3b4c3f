// Lesson 8, second exercise: the smallest client.
//
// The other half of the pair: it dials, says one thing, and prints the answer.
//
//   - It connects to 127.0.0.1, port PORT.
//   - It sends: this data is from client
//   - Then it ends its direction, so that the server knows that this was all. The other direction stays open.
//   - The answer is all that comes until the end of the stream, in one piece or in many. It prints the answer on
//     standard output, and a newline.
//   - It closes the connection. Its exit status is 0.
//   - Where nobody listens, it ends with status 1, and the error's text ("Connection refused") on standard error.
//
// Arguments: PORT
// Try it: `nc -l 127.0.0.1 8080`, in a second terminal ./exercise2 8080, and an answer and ctrl-D in the first.
// New: connect. It needs no bind before it: the kernel chooses the client's port.
// See: connect(2), shutdown(2), read(2)

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise2 PORT")
  exit(2)
}

// TODO 1: a socket, and a connection to 127.0.0.1 at `port`. Where that fails, `fail` says why and ends with 1.

// TODO 2: send the message.
let message = "this data is from client"

// TODO 3: end your direction, and keep the other.

// TODO 4: read until the end of the stream, and print all that has come.
var answer: [UInt8] = []

// TODO 5: close the connection.

// --- what you need beside the calls ---

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
