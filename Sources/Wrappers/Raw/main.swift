// Echoes one connection with raw calls and nothing between them and the kernel. The other programs beside this one do the
// same job with a wrapper.

import Glibc

signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail, not to end the program
guard let port = UInt16(CommandLine.arguments.dropFirst().first ?? "0") else { fail("PORT", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-Raw: \(what)")
  exit(1)
}

// --- the job ---
let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
var on: Int32 = 1
guard listener >= 0, setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("socket") }
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_port = port.bigEndian
address.sin_addr.s_addr = inet_addr("127.0.0.1")
let bound = withUnsafeBytes(of: &address) {
  bind(listener, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
}
guard bound == 0, listen(listener, SOMAXCONN) == 0 else { fail("bind, listen") }
let connection = accept(listener, nil, nil)
guard connection >= 0 else { fail("accept") }

var buffer = [UInt8](repeating: 0, count: 65536)
while true {
  let count = read(connection, &buffer, buffer.count)
  if count == 0 { break }  // the client has ended its direction
  guard count > 0 else { fail("read") }
  var written = 0
  while written < count {  // write may take less than it is given
    let more = buffer.withUnsafeBytes {
      write(connection, $0.baseAddress.map { $0 + written }, count - written)
    }
    guard more >= 0 else { fail("write") }
    written += more
  }
}
guard close(connection) == 0, close(listener) == 0 else { fail("close") }
