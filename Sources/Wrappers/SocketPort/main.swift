// Echoes one connection that was opened by SocketPort, which makes, binds and listens in one go, on every interface. A run
// loop would accept for it and read, but keep only what is a message of its own format; so accept, read and write are raw.

import Foundation

signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail, not to end the program
guard let port = UInt16(CommandLine.arguments.dropFirst().first ?? "0") else { fail("PORT", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-SocketPort: \(what)")
  exit(1)
}

// --- the job ---
guard let listening = SocketPort(tcpPort: port) else { fail("SocketPort") }
let connection = accept(listening.socket, nil, nil)
guard connection >= 0 else { fail("accept") }

var buffer = [UInt8](repeating: 0, count: 65536)
while true {
  let count = read(connection, &buffer, buffer.count)
  if count == 0 { break }
  guard count > 0 else { fail("read") }
  var written = 0
  while written < count {
    let more = buffer.withUnsafeBytes {
      write(connection, $0.baseAddress.map { $0 + written }, count - written)
    }
    guard more >= 0 else { fail("write") }
    written += more
  }
}
guard close(connection) == 0 else { fail("close") }
listening.invalidate()
