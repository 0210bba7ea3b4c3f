// wrong: nobody asks for room: a queue waits until its client says something

import CLinux
import Glibc

let limit = 65_536  // bytes of a message

/// What the server knows of one client. A thread would have it on its stack.
final class Client {
  let connection: Int32
  var received: [UInt8] = []  // the beginning of a message
  var queue: [UInt8] = []  // answers that the kernel has not taken yet
  var isEnding = false  // nothing more is read from it; closed as soon as the queue is empty

  init(_ connection: Int32) { self.connection = connection }
}

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise2 PORT")
  exit(2)
}
signal(SIGPIPE, SIG_IGN)
let listener = listeningSocket(port)
var clients: [Int32: Client] = [:]  // by descriptor

while true {
  // poll is told all of them anew each time: some have gone, some have come.
  var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
  for client in clients.values.sorted(by: { $0.connection < $1.connection }) {
    // Room, or bytes: one of them. There is nearly always room, and poll would not wait.
    let event = POLLIN
    entries.append(pollfd(fd: client.connection, events: Int16(event), revents: 0))
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
  let connection = accept4(listener, nil, nil, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
  if connection >= 0 {
    // Or the kernel holds megabytes for each client that does not read.
    var room: Int32 = 64 * 1024
    setsockopt(connection, SOL_SOCKET, SO_SNDBUF, &room, 4)
    clients[connection] = Client(connection)
  } else if errno != EAGAIN, errno != EINTR, errno != ECONNABORTED {
    fail("accept4")
  }
}

/// Does for one client what can be done now. Nothing here waits.
func serve(_ client: Client) {
  do { client.isEnding = !receive(client) || !answer(client) }
  if !client.queue.isEmpty { sendQueue(client) }
  if client.isEnding, client.queue.isEmpty {
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

/// Queues an answer to each message that is whole by now, and keeps the rest. False where the client says too much.
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
    client.queue += rest.prefix(4) + rest.dropFirst(4).prefix(length).reversed()
    rest = rest.dropFirst(4 + length)
  }
  client.received = Array(rest)
  return true
}

/// Hands the kernel as much of the queue as it takes now.
func sendQueue(_ client: Client) {
  let count = write(client.connection, client.queue, client.queue.count)
  if count >= 0 {
    client.queue.removeFirst(count)
  } else if errno != EAGAIN, errno != EINTR {
    client.queue = []  // it has gone, and nobody will take them
    client.isEnding = true
  }
}

// --- what earlier exercises have shown ---

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
