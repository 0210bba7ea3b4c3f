// Lesson 8, first exercise: the smallest server, all of it.
//
// One client, one read, one answer. You have made each of these calls before; now make a program of them.
//
//   - It listens on 127.0.0.1, port PORT, and takes one client.
//   - It reads once, at most 10,000 bytes, and prints two lines on standard output:
//         Received Data : this data is from client
//         total bytes : 24
//     The first shows the bytes as text, the second counts them.
//   - It answers OK, and closes the connection and then the listening socket, each with a close of its own.
//   - Its exit status is 0. A call that fails ends it with status 1, and the error's text on standard error.
//
// Arguments: PORT
// Try it: ./exercise 8080, and in a second terminal `nc 127.0.0.1 8080` and a line.
// New: nothing but the whole. See: ip(7) for sockaddr_in, accept(2), read(2), write(2), close(2)

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line goes out at once, in a pipe as well
guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise PORT")
  exit(2)
}

// TODO 1: a listening socket on 127.0.0.1, at `port`. Four calls, if the port is to be free again after a run.

// TODO 2: take one client.

// TODO 3: read once, at most 10,000 bytes, and print the two lines: what has come, and how many bytes.

// TODO 4: answer OK.

// TODO 5: close both sockets.

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
