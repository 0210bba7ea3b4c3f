// Lesson 2, second exercise: the port that the kernel chose, and the reason why it refuses.
//
// The program binds a TCP socket to 127.0.0.1 and the port that is its only argument. Now the port may be
// 0: then the kernel chooses one. The program asks the kernel which port the socket has, prints it in one
// line, "port N", and waits until it is ended.
//
// If the kernel refuses a call, the program says on standard error which call, and errno's name and text,
//     bind: EADDRINUSE (Address already in use)
// and ends with status 1. The name can be looked up in the manual page; C's perror does not print it. Wrong
// arguments end with "usage:" and status 2, as before.
//
// - Arguments: PORT, 0 for any.
// - Try it: with 0, and beside it with the port that it has printed.
// - New: getsockname, strerrorname_np. See: getsockname(2), strerror(3), bind(2) for its errors

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

// TODO 1: port 0 is no mistake any more.
guard CommandLine.arguments.count == 2, let wanted = UInt16(CommandLine.arguments[1]), wanted > 0 else {
  fputs("usage: exercise2 PORT\n", stderr)
  exit(2)
}

let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard descriptor >= 0 else { fail("socket") }

var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = wanted.bigEndian
guard withSockaddr(address, { bind(descriptor, $0, $1) }) == 0 else { fail("bind") }

// TODO 2: print the port that the socket has. For port 0 only the kernel knows it: ask.
// (For a call that fills an address in there is a second withSockaddr below.)
print("port \(wanted)")
pause()

// --- words, and an address in C's shape ---

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  // TODO 3: errno's name as well as its text.
  // (strerrorname_np is in CLinux; Swift's Glibc does not have it.)
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
