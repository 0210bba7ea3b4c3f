// wrong: what one read brings is taken for one message

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise PORT")
  exit(2)
}
signal(SIGPIPE, SIG_IGN)
let listener = listeningSocket(port)
while true {
  let connection = nextClient()
  serve(connection)
  close(connection)
}

/// Answers each message, until the client has nothing more to say, or has gone.
func serve(_ connection: Int32) {
  while let message = readMessage(connection) {
    guard writeMessage(connection, message.reversed()) else { return }
  }
}

/// A message, without its length. Nil where the stream has ended before.
func readMessage(_ connection: Int32) -> [UInt8]? {
  var buffer = [UInt8](repeating: 0, count: 100_000)
  let count = read(connection, &buffer, buffer.count)
  return count >= 4 ? Array(buffer[4..<count]) : nil
}

/// So many bytes and no more, however many reads that takes; fewer where the stream has ended before.
func readExactly(_ connection: Int32, _ wanted: Int) -> [UInt8] {
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 10_000)
  while bytes.count < wanted {
    // What belongs to the next message stays where it is.
    let count = read(connection, &buffer, min(buffer.count, wanted - bytes.count))
    if count == -1, errno == EINTR { continue }
    if count <= 0 { break }
    bytes += buffer[..<count]
  }
  return bytes
}

/// The length and the message. False where the client has gone.
func writeMessage(_ connection: Int32, _ message: [UInt8]) -> Bool {
  let length = UInt32(truncatingIfNeeded: message.count)  // it was read as four bytes, too
  let prefix = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) }
  // One write: a short one of its own would be a packet of its own, and the next might wait for its answer.
  return writeAll(connection, prefix + message)
}

// --- what earlier exercises have shown ---

/// Waits for a client. A signal, or a client that has gone while it waited in the queue, is no reason to stop.
func nextClient() -> Int32 {
  while true {
    let connection = accept(listener, nil, nil)
    if connection >= 0 { return connection }
    guard errno == EINTR || errno == ECONNABORTED else { fail("accept") }
  }
}

/// Writes all of it: write may take less than it was given. False where the client has gone.
func writeAll(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
  var rest = bytes[...]
  while !rest.isEmpty {
    let written = rest.withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
    if written == -1, errno != EINTR { return false }
    rest = rest.dropFirst(max(0, written))
  }
  return true
}

func listeningSocket(_ port: UInt16) -> Int32 {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return listener
}

/// The cast that C does with `(struct sockaddr *)`: hands the address and its length to a call.
func withSockaddr(_ address: sockaddr_in, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
  withUnsafePointer(to: address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      call($0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
}

/// One line on standard error.
func warn(_ text: String) {
  let line = text + "\n"
  _ = write(STDERR_FILENO, line, line.utf8.count)
}

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  let number = errno  // saved at once: any further call may change it
  let name = strerrorname_np(number).map { String(cString: $0) } ?? "errno \(number)"
  warn("\(call): \(name) (\(String(cString: strerror(number))))")
  exit(1)
}
