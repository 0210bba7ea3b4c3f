// Lesson 12, first exercise: one thread, many clients.
//
// In lesson 11 each thread waits for its own client, and remembers on its stack how far that one's message has come.
// Here one thread waits for all of them, with poll, and remembers that in a table.
//
//   - One thread serves any number of clients. One that says nothing, or half a message, keeps no other one waiting.
//   - Messages of several clients may come in pieces, and the pieces by turns. Each client has its own answers.
//   - The server waits in poll (epoll is right, too), for clients that dial and for clients that speak at once. Where
//     nobody does, it stands still: it does not ask over and over.
//   - Where a stream has ended, its connection is closed, and poll is not asked about it again.
//   - The protocol is that of lesson 10: lengths of 4 bytes, reversed messages, a limit, and a word on standard error
//     about a stream that ends inside a message. An answer may still be written to its end at once: the second
//     exercise is about clients that do not read.
//
// Arguments: PORT
// Try it: ./exercise 8080, and `nc 127.0.0.1 8080` in two other terminals; then `strace -p $(pgrep -n exercise)`.
// New: poll. See: poll(2)

import CLinux
import Glibc

let limit = 65_536  // bytes of a message

/// What the server knows of one client. A thread would have it on its stack.
final class Client {
  let connection: Int32
  var received: [UInt8] = []  // the beginning of a message

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
  // TODO 1: an entry for each client, too.
  var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
  guard poll(&entries, nfds_t(entries.count), -1) >= 0 || errno == EINTR else { fail("poll") }
  for entry in entries where entry.revents != 0 {
    if entry.fd == listener {
      acceptClient()
    }
    // TODO 2: another descriptor is a client's. `serve` it.
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
    // TODO 5: this client has gone. Nothing is to be left of it.
  }
}

/// Takes what has come. False where no more will come.
func receive(_ client: Client) -> Bool {
  // TODO 3: one read, and no loop: poll has found something, and a second read might wait. Keep what has come in
  // `received`. Where the stream ends inside a message, say so as lesson 10's server does.
  return false
}

/// Answers each message that is whole by now, and keeps the rest. False where the client says too much, or has gone.
func answer(_ client: Client) -> Bool {
  let rest = client.received[...]
  // TODO 4: there may be no whole message in `rest`, or one, or several. Take each from its front, and answer it.
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
