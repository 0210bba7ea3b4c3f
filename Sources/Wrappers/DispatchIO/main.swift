// Echoes one connection through a DispatchIO channel, which does the reading and the writing by itself and hands out data.

import Dispatch
import Glibc

signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail, not to end the program
guard let port = UInt16(CommandLine.arguments.dropFirst().first ?? "0") else { fail("PORT", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-DispatchIO: \(what)")
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

let channel = DispatchIO(type: .stream, fileDescriptor: connection, queue: .main) { error in
  // Only now the descriptor is the program's own again.
  guard error == 0, close(connection) == 0, close(listener) == 0 else { fail("close") }
  exit(0)
}
channel.setLimit(lowWater: 1)  // hand out what is there, however little

/// Sends back so many bytes, then as many again, until the stream ends. So no more than that is ever held: a client that does
/// not read would else make the program's memory grow.
func echo(_ length: Int) {
  var left = length
  channel.read(offset: 0, length: length, queue: .main) { done, data, error in
    guard error == 0 else { fail("read", error) }
    let data = data ?? .empty
    left -= data.count
    channel.write(offset: 0, data: data, queue: .main) { isWritten, _, error in
      guard error == 0 else { fail("write", error) }
      if done, isWritten { left > 0 ? channel.close() : echo(length) }
    }
  }
}
echo(65536)
dispatchMain()
