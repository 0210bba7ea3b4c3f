// Lesson 9: a client that tries an echo server: with bytes of every kind, a half-close, a signal, and a client that just leaves.
// It needs a server: `swift run lesson9-echo-server` starts both; `swift run lesson9-echo-server --alone` in another terminal
// names the port that this one is to dial with --port.

import Glibc
import LessonSupport

let lesson = begin(.client(server: "lesson9-echo-server"))

// Every byte there is, NUL among them, and twice as much as the server reads at once.
let message = (65..<20_065).map { UInt8(truncatingIfNeeded: $0) }

say("I dial, and say hello.")
let connection = dial()
writeAll(connection, Array("hello".utf8))
guard readExactly(connection, 5) == Array("hello".utf8) else { cannotShow("hello did not come back") }

if let server = lesson.server {
  say("The server waits for more. While it waits, it gets a signal; and then more.")
  waitUntilAsleep(server)  // a signal that comes before is handled, and interrupts nothing
  kill(server, SIGUSR1)
  waitUntilAsleep(server)
}
writeAll(connection, Array("again".utf8))
guard readExactly(connection, 5) == Array("again".utf8) else { cannotShow("again did not come back") }

say("Another one dials while I am served, says much, and leaves without reading any answer.")
let rude = dial()
writeAll(rude, message)
guard close(rude) == 0 else { fail("close") }

say("I send \(message.count) bytes. Then I end my direction only: I have said all, and want the answer.")
writeAll(connection, message)
guard shutdown(connection, Int32(SHUT_WR)) == 0 else { fail("shutdown") }
guard readAll(connection) == message else { cannotShow("other bytes came back") }
say("All \(message.count) came back, each as it was, and then the end of the stream.")
guard close(connection) == 0 else { fail("close") }

say("Is the server still there, after that rude client?")
let last = dial()
writeAll(last, Array("still there?".utf8))
guard shutdown(last, Int32(SHUT_WR)) == 0 else { fail("shutdown") }
guard readAll(last) == Array("still there?".utf8) else { cannotShow("the server does not answer") }
say("It is.")
guard close(last) == 0 else { fail("close") }

func dial() -> Int32 {
  let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard connection >= 0 else { fail("socket") }
  // All that is said at once is to have room here, however little the server takes.
  var room: Int32 = 64 * 1024
  guard setsockopt(connection, SOL_SOCKET, SO_SNDBUF, &room, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lesson.port.bigEndian
  guard withSockaddr(address, { connect(connection, $0, $1) }) == 0 else { fail("connect") }
  return connection
}

/// All of it, however many calls that takes. This much has room in the send buffer; who has more to say has to read at the same
/// time, or both wait for each other for ever: see `echo-client`.
func writeAll(_ connection: Int32, _ bytes: [UInt8]) {
  var sent = 0
  while sent < bytes.count {
    let written = bytes[sent...].withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
    guard written >= 0 || errno == EINTR else { fail("write") }
    sent += max(0, written)
  }
}

/// So many bytes, however many calls that takes; fewer where the stream ends before.
func readExactly(_ connection: Int32, _ wanted: Int) -> [UInt8] {
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 10_000)
  while bytes.count < wanted {
    let count = read(connection, &buffer, min(buffer.count, wanted - bytes.count))
    if count == 0 { break }
    guard count > 0 || errno == EINTR else { fail("read") }
    bytes += buffer[..<max(0, count)]
  }
  return bytes
}

/// All that comes until the end of the stream.
func readAll(_ connection: Int32) -> [UInt8] { readExactly(connection, Int.max) }
