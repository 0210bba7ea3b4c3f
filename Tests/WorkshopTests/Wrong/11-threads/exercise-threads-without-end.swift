// wrong: it starts a thread over and over, before there is a client

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise PORT")
  exit(2)
}
let limit = 65_536  // bytes of a message
signal(SIGPIPE, SIG_IGN)
do {
  var thread = pthread_t()
  while pthread_create(
    &thread, nil,
    { _ in
      pause(); return nil
    }, nil) == 0
  {}
}
let listener = listeningSocket(port)
while true {
  let connection = nextClient()
  var thread = pthread_t()
  // The descriptor itself goes to the thread, as a pointer that leads nowhere: `connection` is soon the next one.
  let error = pthread_create(
    &thread, nil, serveInThread, UnsafeMutableRawPointer(bitPattern: Int(connection)))
  if error == 0 {
    pthread_detach(thread)
  } else {
    // No thread is left for this client. Those that are served know nothing of it.
    warn("pthread_create: \(String(cString: strerror(error)))")
    close(connection)
  }
}

/// What a thread does. Its argument is the descriptor.
func serveInThread(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  let connection = Int32(Int(bitPattern: argument))
  serve(connection)
  close(connection)
  return nil
}

// --- what earlier exercises have shown ---

/// Answers each message, until the client has nothing more to say, says too much, or has gone.
func serve(_ connection: Int32) {
  while let message = readMessage(connection) {
    guard writeMessage(connection, message.reversed()) else { return }
  }
}

/// A message, without its length. Nil where no more can be read: the stream has ended, or the length is too large.
func readMessage(_ connection: Int32) -> [UInt8]? {
  let prefix = readExactly(connection, 4)
  if prefix.isEmpty { return nil }  // the end, where it should be
  guard prefix.count == 4 else { return cut() }
  let length = prefix.reduce(0) { $0 << 8 | Int($1) }
  guard length <= limit else {
    // Where the next message begins, nobody can tell any more. There is nothing to do but to close.
    warn("a message of \(length) bytes is refused")
    return nil
  }
  let message = readExactly(connection, length)
  guard message.count == length else { return cut() }
  return message
}

func cut() -> [UInt8]? {
  warn("a stream has ended inside a message")
  return nil
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

/// One line on standard error, with one write: lines of two threads do not mix.
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
