// Lesson 2, first exercise: an address for a socket.
//
// The program binds a TCP socket to 127.0.0.1 and the port that is its only argument, says so, and waits
// (pause) until it is ended from outside, with ctrl-C or kill.
//
// Without exactly one argument, or where it is no port (a number from 1 to 65535), the program makes no
// socket: it prints a line that begins with "usage:" on standard error and ends with status 2. If the
// kernel refuses a call, it says so on standard error and ends with status 1.
//
// - Arguments: PORT.
// - Try it: with 8080, and beside it `nc -l 127.0.0.1 8080`, which is refused.
// - New: bind. See: bind(2), ip(7), byteorder(3)

import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  fputs("usage: exercise PORT\n", stderr)
  exit(2)
}

let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard descriptor >= 0 else { fail("socket") }

var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = port.bigEndian  // network byte order
guard withSockaddr(address, { bind(descriptor, $0, $1) }) == 0 else { fail("bind") }

print("bound to 127.0.0.1, port \(port)")
pause()

// --- words, and an address in C's shape ---

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  perror(call)
  exit(1)
}

/// The cast that C does with `(struct sockaddr *)`: hands the address and its length to a call.
func withSockaddr(_ address: sockaddr_in, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
  withUnsafePointer(to: address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      call($0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
}
