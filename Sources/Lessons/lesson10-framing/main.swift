// Lesson 10: messages out of a stream of bytes.
// Follow it with `swift run lesson10-framing`; or, without the narrator, `strace .build/debug/lesson10-framing --bare`.

import CLinux
import Glibc
import LessonSupport

let lesson = begin()
let listener = listeningSocket()

say("A client sends two orders, each with a write of its own. The server takes one read for one order.")
var (client, server) = connection()
send("buy 10")
send("sell 7")
var bytes = [UInt8](repeating: 0, count: 64)
var count = read(server, &bytes, bytes.count)
guard count > 0 else { fail("read") }
say("The server has understood '\(text(bytes[..<count]))': an order that nobody gave.")
guard count == 12 else { cannotShow("one read took one write") }

say("And an order that comes in two pieces, as any order may. The server reads after the first.")
send("buy 1")
count = read(server, &bytes, bytes.count)
guard count > 0 else { fail("read") }
send("00000")
say("The server has understood '\(text(bytes[..<count]))'. It was 'buy 100000'.")
guard count == 5 else { cannotShow("the read waited for the second piece") }
hangUp()

say("First cure: messages of one size, 8 bytes. The server reads on until it has 8, or the stream ends.")
(client, server) = connection()
send("buy 0010sel")
send("l 007buy")
guard shutdown(client, Int32(SHUT_WR)) == 0 else { fail("shutdown") }
for _ in 1...2 { say("A record: '\(text(readRecord(server, 8)))'") }
let cut = readRecord(server, 8)
say("EOF inside a record, after '\(text(cut))': it was cut off, and is nothing that anybody has ordered.")
guard cut.count == 3, readRecord(server, 8).isEmpty else { cannotShow("the stream has not ended") }
say("EOF between two records, after 0 bytes, is the right way to end. Tell one from the other.")
hangUp()

say("Second cure: before each message its length, 2 bytes, the high one first. Any size, and any bytes.")
(client, server) = connection()
send("\0\u{6}buy 10\0\u{3}s\n\0")
for _ in 1...2 { say("A message of \(readPrefixed(server, limit: 1000)?.count ?? 0) bytes.") }
say("But a length is a claim: 65,535 bytes. Who makes room for a claim can be made to hold anything.")
guard write(client, [0xff, 0xff] as [UInt8], 2) != -1 else { fail("write") }
guard readPrefixed(server, limit: 1000) == nil else { cannotShow("the limit was not kept") }
say("Refused after 2 bytes: the limit comes before the memory. What follows makes no sense any more: close.")
hangUp()

say("Third cure: a delimiter. A line ends with a newline; what was read behind it is kept for the next.")
(client, server) = connection()
var held: [UInt8] = []
send("buy 10\nsell")
say("A line: '\(text(readLine(server, limit: 32) ?? []))'; kept: '\(text(held))'.")
send(" 7\n")
say("A line: '\(text(readLine(server, limit: 32) ?? []))'; kept: '\(text(held))'.")
say("This peer sends no newline. What is held has a limit, too: 32 bytes.")
send(String(repeating: "x", count: 40))
guard readLine(server, limit: 32) == nil else { cannotShow("the limit was not kept") }
say("Refused. TCP keeps order and loses nothing; where a message ends, it never knew.")
hangUp()
guard close(listener.number) == 0 else { fail("close") }

// --- the cures, each a loop ---

/// So many bytes, however many reads that takes; fewer where the stream has ended before.
func readRecord(_ connection: Int32, _ size: Int) -> [UInt8] {
  var record = [UInt8](repeating: 0, count: size)
  var have = 0
  while have < size {
    let count = record[have...].withUnsafeMutableBytes { read(connection, $0.baseAddress, $0.count) }
    guard count >= 0 else { fail("read") }
    if count == 0 { break }
    have += count
  }
  return Array(record[..<have])
}

/// A message behind its length. Nil where it is longer than the limit, or cut off.
func readPrefixed(_ connection: Int32, limit: Int) -> [UInt8]? {
  let prefix = readRecord(connection, 2)
  guard prefix.count == 2 else { return nil }
  let length = Int(prefix[0]) << 8 | Int(prefix[1])
  if length > limit { return nil }
  let message = readRecord(connection, length)
  return message.count == length ? message : nil
}

/// A line without its newline. Nil where none comes within the limit, or before the stream ends.
@MainActor func readLine(_ connection: Int32, limit: Int) -> [UInt8]? {
  while true {
    if let newline = held.firstIndex(of: UInt8(ascii: "\n")) {
      defer { held.removeSubrange(...newline) }
      return Array(held[..<newline])
    }
    if held.count >= limit { return nil }
    var bytes = [UInt8](repeating: 0, count: limit - held.count)
    let count = read(connection, &bytes, bytes.count)
    guard count >= 0 else { fail("read") }
    if count == 0 { return nil }
    held += bytes[..<count]
  }
}

// --- what earlier lessons have shown ---

func text(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }

@MainActor func send(_ text: String) {
  guard write(client, text, text.utf8.count) != -1 else { fail("write") }
}

@MainActor func hangUp() {
  guard close(client) == 0, close(server) == 0 else { fail("close") }
}

func listeningSocket() -> (number: Int32, address: sockaddr_in) {
  let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lesson.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 1) == 0 else { fail("listen") }
  return (listener, address)
}

func connection() -> (client: Int32, server: Int32) {
  let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(listener.address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener.number, nil, nil)
  guard server >= 0 else { fail("accept") }
  return (client, server)
}
