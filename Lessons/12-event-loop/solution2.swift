// Lesson 12, second exercise: a client that does not read stops nobody.
//
// The server of the exercise before writes each answer to its end. While one client does not read, its buffers
// fill, that write waits, and with it the only thread: nobody is served. Give each client a queue, and wait with
// poll for room as well as for bytes.
//
//   arguments: PORT
//   - Each connection is non-blocking. What the kernel does not take now stays in this client's queue.
//   - A client whose queue is not empty is watched for room (POLLOUT) and for nothing else: it sends no more until
//     it has read, so its queue stays short. One whose queue is empty is watched for bytes (POLLIN) and not for
//     room: there is always room, and poll would never wait.
//   - A client gets all of its answers in the end, also when it has ended its direction in the meantime.
//   - One thread, as before; poll or epoll.
//
// New: O_NONBLOCK, EAGAIN, POLLOUT. See: accept4(2), poll(2), write(2) for EAGAIN, fcntl(2)

import CLinux
import Glibc

let limit = 65_536  // bytes of a message

/// What the server knows of one client. A thread would have that on its stack.
final class Client {
  let connection: Int32
  var received: [UInt8] = []  // the beginning of a message
  var queue: [UInt8] = []  // answers that the kernel has not taken yet
  var isEnding = false  // nothing more is read from it; closed when the queue is empty

  init(_ connection: Int32) { self.connection = connection }
}

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise2 PORT")
  exit(2)
}
signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail with EPIPE, and not to end the server
let listener = listeningSocket(port)
var clients: [Int32: Client] = [:]  // by descriptor

while true {
  var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
  for client in clients.values {
    let event = client.queue.isEmpty ? POLLIN : POLLOUT
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

/// It is there, or it was: one that has hung up while it waited is no reason to stop, or to wait for the next.
func acceptClient() {
  let connection = accept4(listener, nil, nil, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
  if connection >= 0 {
    clients[connection] = Client(connection)
  } else if errno != EAGAIN, errno != EINTR, errno != ECONNABORTED {
    fail("accept4")
  }
}

/// Does for one client what can be done without waiting.
func serve(_ client: Client) {
  var isThere = true
  if client.queue.isEmpty {
    isThere = receive(client)
    answer(client)
  }
  if isThere, !client.queue.isEmpty { isThere = send(client) }
  if !isThere || client.isEnding && client.queue.isEmpty {
    clients[client.connection] = nil
    close(client.connection)
  }
}

/// Takes what has come. False where the connection is broken.
func receive(_ client: Client) -> Bool {
  var bytes = [UInt8](repeating: 0, count: limit)
  let count = read(client.connection, &bytes, bytes.count)
  if count == -1 { return errno == EAGAIN || errno == EINTR }
  client.received += bytes[..<count]
  client.isEnding = count == 0
  return true
}

/// Puts an answer into the queue for each message that is whole by now.
func answer(_ client: Client) {
  var rest = client.received[...]
  while rest.count >= 4 {
    let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
    guard length <= limit else {
      // Where the next message begins, nobody can tell any more.
      warn("a message of \(length) bytes is refused")
      client.isEnding = true
      rest = []
      break
    }
    guard rest.count - 4 >= length else { break }
    client.queue += rest.prefix(4)
    client.queue += rest.dropFirst(4).prefix(length).reversed()
    rest = rest.dropFirst(4 + length)
  }
  client.received = Array(rest)
  if client.isEnding, !rest.isEmpty { warn("a stream has ended inside a message") }
}

/// Hands the kernel as much of the queue as it takes now. False where the connection is broken.
func send(_ client: Client) -> Bool {
  let count = write(client.connection, client.queue, client.queue.count)
  if count == -1 { return errno == EAGAIN || errno == EINTR }
  client.queue.removeFirst(count)
  return true
}

// --- what earlier exercises have shown ---

func listeningSocket(_ port: UInt16) -> Int32 {
  // Non-blocking, too: a client that poll has found may be gone when accept comes.
  let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
  let listener = socket(AF_INET, type, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  let bound = withUnsafePointer(to: address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
  guard bound == 0 else { fail("bind") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return listener
}

/// One line on standard error, with one write, so that lines of several threads do not mix.
func warn(_ text: String) {
  let line = text + "\n"
  _ = write(STDERR_FILENO, line, line.utf8.count)
}

func fail(_ call: String) -> Never {
  warn("\(call): \(String(cString: strerror(errno)))")
  exit(1)
}
