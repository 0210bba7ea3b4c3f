// Lesson 10, second exercise: what a client may make a server hold.
//
// A length is a claim. Four bytes can claim 4 GiB, and nobody has to send them. And a stream that ends inside a message
// has lost one, which is not the same as an end between two.
//
//   - A message has at most 65,536 bytes. Where a length is larger, the server closes this connection at once: it
//     does not wait for the bytes, and makes no room for them. The messages before it have been answered.
//   - Where a stream ends inside a message, or inside a length, the server says so on standard error, in a line with
//     the words `inside a message`. Where it ends between two messages, it says nothing: that is the right way to end.
//   - Then it closes, and serves the next client.
//   - Otherwise it is the server of the exercise before.
//
// Arguments: PORT
// Try it: ./exercise2 8080, and `printf '\377\0\0\0' | nc 127.0.0.1 8080` beside it, which is to end at once.
// New: no call; two questions to ask of what read returns. See: read(2)

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise2 PORT")
  exit(2)
}
let limit = 65_536  // bytes of a message
signal(SIGPIPE, SIG_IGN)
let listener = listeningSocket(port)
while true {
  let connection = nextClient()
  serve(connection)
  close(connection)
}

/// Answers each message, until the client has nothing more to say, says too much, or has gone.
func serve(_ connection: Int32) {
  while let message = readMessage(connection) {
    guard writeMessage(connection, message.reversed()) else { return }
  }
}

/// A message, without its length. Nil where no more can be read: the stream has ended, or the length is too large.
func readMessage(_ connection: Int32) -> [UInt8]? {
  let prefix = readExactly(connection, 4)
  // TODO 2: an end before the first byte is right. One behind it is inside a message: say so.
  guard prefix.count == 4 else { return nil }
  let length = prefix.reduce(0) { $0 << 8 | Int($1) }
  // TODO 1: refuse what is larger than `limit`.
  let message = readExactly(connection, length)
  // TODO 3: fewer bytes than that: inside a message, too.
  return message.count == length ? message : nil
}

// --- what earlier exercises have shown ---

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
  let length = UInt32(truncatingIfNeeded: message.count)
  let prefix = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) }
  // One write: a short one of its own would be a packet of its own, and the next might wait for its answer.
  return writeAll(connection, prefix + message)
}

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
