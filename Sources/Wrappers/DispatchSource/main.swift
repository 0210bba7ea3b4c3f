// Echoes one connection with Dispatch's sources: each tells when there is a client, bytes, or room for bytes.

import Dispatch
import Glibc

signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail, not to end the program
guard let port = UInt16(CommandLine.arguments.dropFirst().first ?? "0") else { fail("PORT", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-DispatchSource: \(what)")
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
let accepting = DispatchSource.makeReadSource(fileDescriptor: listener, queue: .main)
accepting.setEventHandler { accepting.cancel() }  // one client is enough
accepting.setCancelHandler {
  let connection = accept(listener, nil, nil)
  guard connection >= 0, fcntl(connection, F_SETFL, O_NONBLOCK) == 0 else { fail("accept") }
  close(listener)
  echo(connection)
}
accepting.resume()
func echo(_ connection: Int32) {
  let readable = DispatchSource.makeReadSource(fileDescriptor: connection, queue: .main)
  let writable = DispatchSource.makeWriteSource(fileDescriptor: connection, queue: .main)  // suspended now
  var (buffer, left) = ([UInt8](repeating: 0, count: 65536), 0..<0)  // left: what could not be written yet
  func send(_ part: Range<Int>) {
    let (start, wasFull) = (part.lowerBound, !left.isEmpty)
    let count = buffer.withUnsafeBytes { write(connection, $0.baseAddress.map { $0 + start }, part.count) }
    guard count >= 0 || errno == EAGAIN else { fail("write") }
    left = start + max(0, count)..<part.upperBound
    if !wasFull, !left.isEmpty { readable.suspend(); writable.resume() }  // read no more until there is room
    if wasFull, left.isEmpty { writable.suspend(); readable.resume() }
  }
  readable.setEventHandler {
    let count = read(connection, &buffer, buffer.count)
    guard count >= 0 else { fail("read") }
    count == 0 ? readable.cancel() : send(0..<count)
  }
  writable.setEventHandler { send(left) }
  readable.setCancelHandler {
    writable.resume(); writable.cancel()  // what is suspended does not end
  }
  writable.setCancelHandler { exit(close(connection) == 0 ? 0 : 1) }
  readable.resume()
}
dispatchMain()
