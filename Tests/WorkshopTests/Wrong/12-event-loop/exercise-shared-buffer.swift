// wrong: one buffer holds what has come from all clients

import CLinux
import Glibc

let limit = 65_536  // bytes of a message

nonisolated(unsafe) var allReceived: [UInt8] = []

/// What the server knows of one client. A thread would have it on its stack.
final class Client {
  let connection: Int32
  var received: [UInt8] {
    get { allReceived }
    set { allReceived = newValue }
  }

  init(_ connection: Int32) { self.connection = connection }
}

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise PORT")
  exit(2)
}
signal(SIGPIPE, SIG_IGN)
let listener = listeningSocket(port)
var clients: [Int32: Client] = [:]  // by descriptor

while true {
  // poll is told all of them anew each time: some have gone, some have come.
  var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
  for descriptor in clients.keys.sorted() {
    entries.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
  }
  guard poll(&entries, nfds_t(entries.count), -1) >= 0 || errno == EINTR else { fail("poll") }
  for entry in entries where entry.revents != 0 {
    if entry.fd == listener {
      acceptClient()
    } else if let client = clients[entry.fd] {
      serve(client)
    }
  }
}

/// One client that dials. One that has gone while it waited is no reason to stop, nor to wait for the next.
func acceptClient() {
  let connection = accept(listener, nil, nil)
  if connection >= 0 {
    clients[connection] = Client(connection)
  } else if errno != EAGAIN, errno != EINTR, errno != ECONNABORTED {
    fail("accept")
  }
}

/// Does for one client what can be done now.
func serve(_ client: Client) {
  if !receive(client) || !answer(client) {
    clients[client.connection] = nil
    close(client.connection)
  }
}

/// Takes what has come: one read, which does not wait, as poll has found something. False where no more will come.
func receive(_ client: Client) -> Bool {
  var bytes = [UInt8](repeating: 0, count: limit)
  let count = read(client.connection, &bytes, bytes.count)
  if count == -1 { return errno == EINTR || errno == EAGAIN }
  if count == 0, !client.received.isEmpty { warn("a stream has ended inside a message") }
  client.received += bytes[..<count]
  return count > 0
}

/// Answers each message that is whole by now, and keeps the rest. False where the client says too much, or has gone.
func answer(_ client: Client) -> Bool {
  var rest = client.received[...]
  while rest.count >= 4 {
    let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
    guard length <= limit else {
      // Where the next message begins, nobody can tell any more.
      warn("a message of \(length) bytes is refused")
      return false
    }
    if rest.count - 4 < length { break }
    let answer = rest.prefix(4) + rest.dropFirst(4).prefix(length).reversed()
    guard writeAll(client.connection, answer) else { return false }
    rest = rest.dropFirst(4 + length)
  }
  client.received = Array(rest)
  return true
}

// --- what earlier exercises have shown ---

/// Writes all of it: write may take less than it was given. False where the client has gone.
func writeAll(_ connection: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
  var rest = bytes
  while !rest.isEmpty {
    let written = rest.withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
    if written == -1, errno != EINTR { return false }
    rest = rest.dropFirst(max(0, written))
  }
  return true
}

func listeningSocket(_ port: UInt16) -> Int32 {
  // Non-blocking: a client that poll has found may be gone when accept comes.
  let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
  let listener = socket(AF_INET, type, 0)
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
