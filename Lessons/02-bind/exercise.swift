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

// TODO 1: the port is what CommandLine.arguments has behind the program's name. Refuse what is none.
// (fputs("…\n", stderr) prints on standard error, exit(2) ends the program.)
let port: UInt16 = 0

let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard descriptor >= 0 else { fail("socket") }

// TODO 2: fill in the address: its family, the host and the port.
let address = sockaddr_in()

// TODO 3: give the socket this address. withSockaddr, below, makes of it what the call takes.

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
