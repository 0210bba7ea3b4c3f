// Lesson 15: two servers and one book: what they say to each other, and what a cut link does to them.
// Follow it with `swift run lesson15-replication`; or, without the narrator, `strace .build/debug/lesson15-replication --bare`.

import Contacts
import Glibc
import LessonSupport

let lesson = begin()

/// A server: its book and its clock, a state machine that knows of no socket; and the socket that carries what it says.
final class Server {
  let name: String
  let replica = Replica(Book())
  var link: ReplicationLink?
  var reader = MessageReader(ServerLanguage())
  var connection: Int32 = -1

  init(_ name: String) { self.name = name }
}

let (a, b) = (Server("A"), Server("B"))
let listener = listeningSocket()

say("Two servers, and no link yet. A client of A adds a contact: A's clock counts it.")
add("Bob", "555", at: a)
table()

say(
  "B dials, and the link comes up. Both ask for the other's book, and both say in a HeartBeat how far their clock is."
)
connectServers()
talk()
say("Both have Bob, with the clock that A gave him.")

say("From here on an Update goes over the link as soon as it is taken.")
add("Eve", "777", at: b)
talk()

say("The link is cut. Clients go on at both servers, and both change the same contact, at the same clock.")
for server in [a, b] {
  guard close(server.connection) == 0 else { fail("close") }
  server.connection = -1
  if let link = server.link { server.replica.close(link) }
}
add("Bob", "100", at: a)
add("Bob", "200", at: b)
add("Dan", "333", at: b)
table()
say("The books differ, and the clocks, too. Nobody knows it.")

say("The link is healed. What each of them has missed comes with the answers.")
connectServers()
talk()
say(
  "Of two Updates the larger clock wins; where clocks are equal the larger phone number does, at both alike. So both keep 200, "
    + "whoever comes first. The client that gave 100 had written before it could know.")
guard contacts(of: a) == contacts(of: b) else { cannotShow("the books do not agree") }

say("In peace a HeartBeat is all there is to say. The one who is not behind answers with its own clock.")
a.replica.beat()
talk()
guard a.replica.clock == b.replica.clock else { cannotShow("the clocks do not agree") }
for descriptor in [a.connection, b.connection, listener] {
  guard close(descriptor) == 0 else { fail("close") }
}

/// A client's Update. A real server syncs its journal here (lesson 14); then it is shown, and goes over the link.
func add(_ contact: String, _ phone: String, at server: Server) {
  guard let new = try? Contact(user: "ann", name: contact, phone: phone) else {
    cannotShow("that is no contact")
  }
  new.withView { try? server.replica.update($0) }
  server.replica.synced()
  say("Update at \(server.name): \(contact) = \(phone)")
}

/// Sends what there is to send, and reads it at the other end, until both are silent.
@MainActor func talk() {
  var hasSpoken = true
  while hasSpoken {
    hasSpoken = false
    for (from, to) in [(a, b), (b, a)] {
      guard let bytes = from.link?.takeBytes(), !bytes.isEmpty else { continue }
      hasSpoken = true
      guard write(from.connection, bytes, bytes.count) == bytes.count else { fail("write") }
      hear(bytes.count, from, at: to)
    }
  }
}

/// Reads so many bytes, takes the messages out of them one by one, and shows what each has changed.
@MainActor func hear(_ size: Int, _ other: Server, at server: Server) {
  var bytes = [UInt8](repeating: 0, count: size)
  let count = recv(server.connection, &bytes, size, Int32(MSG_WAITALL))
  guard count == size, let link = server.link else { fail("recv") }
  bytes.withUnsafeBytes { bytes in
    var rest = bytes
    do throws(ProtocolViolation) {
      while let message = try server.reader.next(from: &rest) {
        say("\(other.name) → \(server.name): \(describe(message))")
        try server.replica.received(message, on: link)
        server.replica.synced()
        table()
      }
    } catch { cannotShow("\(error)") }
  }
}

func describe(_ message: ServerMessage) -> String {
  switch message {
  case .update(let clock, let contact): "Update, clock \(clock), \(title(contact))"
  case .heartBeat(let status, let clock): "HeartBeat, \(status), clock \(clock)"
  case .updateClock(let clock): "UpdateClock, \(clock)"
  case .askForUpdate: "AskForUpdate"
  case .answer(let count): "an answer, ContactLen \(count)"
  case .record(let clock, let contact): "a record of it, clock \(clock), \(title(contact))"
  }
}

func title(_ contact: ContactView) -> String {
  "\(String(decoding: contact.name, as: UTF8.self)) = \(String(decoding: contact.phone, as: UTF8.self))"
}

/// Both servers side by side: the clock, and the book with the clock of each contact.
@MainActor func table() {
  let columns = [a, b].map { ["\($0.name), clock \($0.replica.clock)"] + contacts(of: $0) }
  let rows = (0..<max(columns[0].count, columns[1].count)).map { row in
    let cells = columns.map { row < $0.count ? $0[row] : "" }
    return "    " + cells[0] + String(repeating: " ", count: 22 - cells[0].count) + cells[1]
  }
  say(rows.joined(separator: "\n"))
}

func contacts(of server: Server) -> [String] {
  server.replica.book.all.map { contact, clock in
    let (name, phone) = (
      String(decoding: contact.name, as: UTF8.self), String(decoding: contact.phone, as: UTF8.self)
    )
    return "  \(name) = \(phone) (\(clock))"
  }.sorted()
}

// --- what earlier lessons have taught ---

@MainActor func connectServers() {
  var address = sockaddr_in()
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  b.connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard b.connection >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(b.connection, $0, $1) }) == 0 else { fail("connect") }
  a.connection = accept(listener, nil, nil)
  guard a.connection >= 0 else { fail("accept") }
  // The hello, 257 bytes: role 1, a server, and its name.
  let hello = [1, UInt8(ascii: "B")] + [UInt8](repeating: 0, count: 255)
  guard write(b.connection, hello, hello.count) == hello.count else { fail("write") }
  var bytes = [UInt8](repeating: 0, count: 257)
  guard recv(a.connection, &bytes, 257, Int32(MSG_WAITALL)) == 257, bytes[0] == 1 else {
    fail("recv")
  }
  for server in [a, b] {
    server.link = server.replica.open()
    server.reader = MessageReader(ServerLanguage())
  }
}

func listeningSocket() -> Int32 {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1  // lesson 7 shows why
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lesson.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard listen(listener, 4) == 0 else { fail("listen") }
  return listener
}
