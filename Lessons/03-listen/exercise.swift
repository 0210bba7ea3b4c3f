// Lesson 3: a queue that nobody empties.
//
// The program listens on 127.0.0.1 and the port that is its only argument, with a backlog of 5, prints
// "listening on port N", and never accepts anybody. The kernel completes its clients' connections by
// itself, and they wait in the accept queue.
//
// For each line on standard input (Enter is enough) the program asks the kernel how long that queue is and
// how long it may grow, and prints it: "0 of 5", and when three clients have dialled, "3 of 5". At the end
// of the input it ends with status 0.
//
// The kernel says so through the option TCP_INFO (level IPPROTO_TCP), which fills in a tcp_info. For a
// listening socket its field tcpi_unacked is the length of the accept queue, and tcpi_sacked the limit; ss
// shows the same two.
//
// - Arguments: PORT, 0 for any. Errors as in lesson 2.
// - Try it: with 8080, `nc 127.0.0.1 8080` in other terminals, and Enter here. `ss -tln` shows it, too.
// - New: listen, getsockopt with TCP_INFO. See: listen(2), getsockopt(2), tcp(7)

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

guard CommandLine.arguments.count == 2, let wanted = UInt16(CommandLine.arguments[1]) else {
  fputs("usage: exercise PORT\n", stderr)
  exit(2)
}

let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard listener >= 0 else { fail("socket") }

var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = wanted.bigEndian
guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }

// TODO 1: let the kernel wait for clients there, at most 5 of them in the queue.
print("listening on port \(UInt16(bigEndian: address.sin_port))")

while readLine() != nil {
  // TODO 2: ask for TCP_INFO, and print the two fields.
  // (getsockopt wants to be told how long the answer may be, and says how long it is: a socklen_t var.)
  print("? of ?")
}

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
