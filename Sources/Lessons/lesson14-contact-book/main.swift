// Lesson 14: what is taken is kept: a server's book in a journal, and `kill -9` in the middle.
// Follow it with `swift run lesson14-contact-book`. The server is a program of its own; this one starts it, is its client, and ends it.

import Glibc
import LessonSupport

let lesson = begin()

// The journal: a file that has no name any more, and lasts while this program has it open, whatever becomes of the server, which finds
// it through /proc. (A server for use has a file with a name: lesson 14's text.)
var name = Array("/tmp/lesson14-XXXXXX".utf8CString)
let file = mkstemp(&name)
guard file >= 0, unlink(name) == 0 else { fail("mkstemp") }
let journal = fcntl(file, F_DUPFD_CLOEXEC, 100)  // out of the way of the sockets' numbers
guard journal >= 0, close(file) == 0 else { fail("fcntl") }
setenv("JOURNAL", "/proc/\(getpid())/fd/\(journal)", 1)

// The listening socket is made here and handed to the server: it outlives that, as inetd's and systemd's do.
let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard listener >= 0 else { fail("socket") }
var on: Int32 = 1  // lesson 7 shows why
guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = lesson.port.bigEndian
guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
guard listen(listener, 4) == 0 else { fail("listen") }
var server = startBeside("lesson14-contact-book-server", input: listener)

say(
  "A client adds a contact, and asks for all of them. The Update itself has no answer: a write that succeeded says that this "
    + "kernel has it (lesson 6). Only the list says that the server has it, on disk.")
var connection = dial()
send(update("Bob", "555"))
guard list() == ["Bob = 555"] else { cannotShow("the contact is not there") }

say(
  "One more, while the server is busy: SIGSTOP has it stand still. This write succeeds all the same, and nobody asks for a list. "
    + "Then SIGKILL: no handler runs, no buffer is emptied.")
guard kill(server, SIGSTOP) == 0 else { fail("kill") }
send(update("Eve", "777"))
guard kill(server, SIGKILL) == 0 else { fail("kill") }
waitForEnd(of: server)
var byte: UInt8 = 0
guard read(connection, &byte, 1) == -1, errno == ECONNRESET else { cannotShow("there was no RST") }
say(
  "A reset, for the server's kernel held bytes that nobody had read. Had it read them, and not written them down, there would be "
    + "a FIN, as after a right end. Neither says what became of Eve.")
guard close(connection) == 0 else { fail("close") }

say("The same program again, on the same socket, with the same file.")
server = startBeside("lesson14-contact-book-server", input: listener)
connection = dial()
guard list() == ["Bob = 555"] else { cannotShow("what was shown is not what is there") }
say(
  "Bob was listed before, and is here. Eve was never shown to anybody, and is lost. Who sends an Update and no ListAll has only "
    + "wished for it. So send again what was not listed: the same Update twice is the same contact.")
send(update("Eve", "777"))
guard list() == ["Bob = 555", "Eve = 777"] else { cannotShow("the contacts are not there") }

guard kill(server, SIGKILL) == 0 else { fail("kill") }
waitForEnd(of: server)
for descriptor in [connection, listener, journal] { guard close(descriptor) == 0 else { fail("close") } }

func update(_ contact: String, _ phone: String) -> [UInt8] {
  [1] + field("ann", 256) + field(contact, 256) + field(phone, 20)
}

/// ListAll, and its answer: a number, and so many records.
@MainActor func list() -> [String] {
  send([2])
  let count = receive(4).reduce(0) { $0 << 8 | Int($1) }
  let contacts = (0..<count).map { _ in
    let record = receive(532)
    return "\(text(record[256..<512])) = \(text(record[512...]))"
  }.sorted()
  say("The list: " + contacts.joined(separator: ", "))
  return contacts
}

// --- what earlier lessons have taught ---

@MainActor func dial() -> Int32 {
  let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  guard connection >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(connection, $0, $1) }) == 0 else { fail("connect") }
  guard write(connection, [2] + field("ann", 256), 257) == 257 else { fail("write") }
  return connection
}

@MainActor func send(_ bytes: [UInt8]) {
  guard write(connection, bytes, bytes.count) == bytes.count else { fail("write") }
}

@MainActor func receive(_ size: Int) -> [UInt8] {
  var bytes: [UInt8] = []
  while bytes.count < size {
    var piece = [UInt8](repeating: 0, count: size - bytes.count)
    let count = read(connection, &piece, piece.count)
    guard count > 0 else { fail("read") }
    bytes += piece[..<count]
  }
  return bytes
}

func field(_ text: String, _ size: Int) -> [UInt8] {
  Array(text.utf8) + [UInt8](repeating: 0, count: size - text.utf8.count)
}

func text(_ field: ArraySlice<UInt8>) -> String { String(decoding: field.prefix { $0 != 0 }, as: UTF8.self) }
