// wrong: the argument is taken for a number without a look

import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

guard CommandLine.arguments.count == 2 else {
  fputs("usage: exercise PORT\n", stderr)
  exit(2)
}
guard let number = Int(CommandLine.arguments[1]), number > 0 else {
  fputs("usage: exercise PORT\n", stderr)
  exit(2)
}
let port = UInt16(number)

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
