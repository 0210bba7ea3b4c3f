// Lesson 13: a protocol, byte by byte: the one that contact-server and contact-client speak.
// Follow it with `swift run lesson13-contact-wire`; or, without the narrator, `strace .build/debug/lesson13-contact-wire --bare`.

import Contacts
import Glibc
import LessonSupport

let lesson = begin()
let listener = listeningSocket()
let (client, server) = connection()

say("Whoever dials says who it is: a role, and a name in a field of 256 bytes, padded with NUL.")
var message: [UInt8] = [2] + field("ann", 256)
show(message, [.byte("role: 2, a client"), .text("name", 256)])
send(client, message)
// Built by hand above, taken apart here by what the server itself uses. It takes bytes as they come, and keeps the rest.
var hellos = MessageReader(HelloLanguage())
receive(server, message.count) { bytes throws(ProtocolViolation) in
  guard let hello = try hellos.next(from: &bytes) else { return }
  say("The server has read: a \(hello.role), '\(text(hello.name))'.")
}

say("Update: a command byte and three fields, 533 bytes, whatever is in them. It has no answer.")
let fields: [DumpField] = [.text("UserName", 256), .text("ContactName", 256), .text("PhoneNumber", 20)]
let update: [UInt8] = [1] + field("ann", 256) + field("Bob", 256) + field("+43 1 555", 20)
show(update, [.byte("command: 1, Update")] + fields)
send(client, update)
var commands = MessageReader(ClientLanguage())
receive(server, update.count, tell)

say(
  "Fields of one size make a record that is found by counting (lesson 10). Cut it anywhere: 300 bytes, then the rest."
)
send(client, Array(update[..<300]))
receive(server, 300, tell)
say("Nothing to tell yet: \(commands.isInside ? "the beginning is kept" : "nothing is kept").")
say("The rest, and a second command behind it: 2, ListAll, one byte and no more.")
send(client, Array(update[300...]) + [2])
receive(server, 234, tell)

say("The answer has no command byte: a number, the high byte first, and then so many records.")
let answer: [UInt8] = [0, 0, 0, 1] + Array(update[1...])
show(answer, [.number("ContactLen")] + fields)
send(server, answer)
var listing = MessageReader(ListingLanguage())
receive(client, answer.count) { bytes throws(ProtocolViolation) in
  while let part = try listing.next(from: &bytes) {
    switch part {
    case .count(let count): say("The client has read: \(count) contact")
    case .contact(let contact): say("and it is \(title(contact)).")
    }
  }
}

say("Servers speak to each other, too, both ways on one connection. The one who dials says: role 1.")
let (b, a) = connection()
message = [1] + field("server b", 256)
show(message, [.byte("role: 1, a server"), .text("name", 256)])
send(b, message)
receive(a, message.count) { bytes throws(ProtocolViolation) in
  guard let hello = try hellos.next(from: &bytes) else { return }
  say("The other server has read: a \(hello.role), '\(text(hello.name))'.")
}
say("A clock tells which Update is newer.")
let heartBeat: [UInt8] = [2, 1, 0, 0, 0, 7]
show(heartBeat, [.byte("command: 2, HeartBeat"), .byte("HealthStatus: 1, healthy"), .number("Clock")])
let stamped: [UInt8] = [1, 0, 0, 0, 8] + update[1...]
show(stamped, [.byte("command: 1, Update"), .number("Clock")] + fields)
say("Between them an answer may come where a command could. Its first byte is 0, and no command is 0.")
let whole: [UInt8] = [0, 0, 0, 1] + stamped[1...]
show(whole, [.number("ContactLen"), .number("Clock")] + fields)
send(a, heartBeat + stamped + [4] + whole)
var messages = MessageReader(ServerLanguage())
receive(b, heartBeat.count + stamped.count + 1 + whole.count) { bytes throws(ProtocolViolation) in
  while let message = try messages.next(from: &bytes) {
    switch message {
    case .heartBeat(let status, let clock): say("HeartBeat: \(status), clock \(clock).")
    case .update(let clock, let contact): say("Update, clock \(clock): \(title(contact)).")
    case .updateClock(let clock): say("UpdateClock: \(clock).")
    case .askForUpdate: say("AskForUpdate: it wants the whole book.")
    case .answer(let count): say("An answer with \(count) contact begins:")
    case .record(let clock, let contact): say("clock \(clock), \(title(contact)).")
    }
  }
}

say("A peer may send anything. The same Update, with a byte that is no UTF-8 in its phone number:")
var bad = update
bad[513] = 0xff
send(client, bad)
receive(server, bad.count, tell)
say(
  "Whoever sends that speaks another language, or has lost its place: such a connection is closed, and nothing else."
)
for descriptor in [client, server, b, a, listener] { guard close(descriptor) == 0 else { fail("close") } }

/// What a client has said, or why that is nothing.
@MainActor func tell(_ bytes: inout UnsafeRawBufferPointer) throws(ProtocolViolation) {
  while let command = try commands.next(from: &bytes) {
    switch command {
    case .update(let contact): say("The server has read: Update, \(title(contact)).")
    case .listAll: say("The server has read: ListAll.")
    }
  }
}

// --- what earlier lessons have taught ---

func field(_ text: String, _ size: Int) -> [UInt8] {
  Array(text.utf8) + [UInt8](repeating: 0, count: size - text.utf8.count)
}

func text(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }

func title(_ contact: ContactView) -> String {
  "\(text(contact.user))'s \(text(contact.name)) = \(text(contact.phone))"
}

func send(_ descriptor: Int32, _ bytes: [UInt8]) {
  guard write(descriptor, bytes, bytes.count) == bytes.count else { fail("write") }
}

/// Reads until so many bytes have come, and hands on each piece.
func receive(
  _ descriptor: Int32, _ size: Int, _ take: (inout UnsafeRawBufferPointer) throws(ProtocolViolation) -> Void
) {
  var bytes = [UInt8](repeating: 0, count: size)
  var left = size
  while left > 0 {
    let count = read(descriptor, &bytes, left)
    guard count > 0 else { fail("read") }
    left -= count
    bytes.withUnsafeBytes { all in
      var piece = UnsafeRawBufferPointer(rebasing: all[..<count])
      do throws(ProtocolViolation) { try take(&piece) } catch { say("Refused: \(error).") }
    }
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

func connection() -> (Int32, Int32) {
  var address = sockaddr_in()
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  return (client, server)
}
