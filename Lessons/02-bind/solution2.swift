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

guard CommandLine.arguments.count == 2, let wanted = UInt16(CommandLine.arguments[1]) else {
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

guard withSockaddr(&address, filled: { getsockname(descriptor, $0, $1) }) == 0 else { fail("getsockname") }
print("port \(UInt16(bigEndian: address.sin_port))")  // it comes back in network byte order, too
pause()

// --- words, and an address in C's shape ---

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  let number = errno  // saved at once: any further call may change it
  let name = strerrorname_np(number).map { String(cString: $0) } ?? "errno \(number)"
  fputs("\(call): \(name) (\(String(cString: strerror(number))))\n", stderr)
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
