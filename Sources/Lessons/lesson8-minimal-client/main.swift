// Lesson 8: the smallest client. It dials, says one thing, and reads one answer.
// It needs a server: `swift run lesson8-minimal-server` starts both; `swift run lesson8-minimal-server --alone` in another
// terminal names the port that this one is to dial with --port.

import Glibc
import LessonSupport

let lesson = begin(.client(server: "lesson8-minimal-server"))

let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
guard connection >= 0 else { fail("socket") }

var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = lesson.port.bigEndian
// It was never bound: connect does that first, to a port of the kernel's choice.
guard withSockaddr(address, { connect(connection, $0, $1) }) == 0 else { fail("connect") }

let message = "this data is from client"
// It may take a part only: lesson 9.
guard write(connection, message, message.utf8.count) != -1 else { fail("write") }

var buffer = [UInt8](repeating: 0, count: 10_000)
let count = read(connection, &buffer, buffer.count)  // waits for the answer
guard count >= 0 else { fail("read") }
say(String(decoding: buffer[..<count], as: UTF8.self))

guard close(connection) == 0 else { fail("close") }
