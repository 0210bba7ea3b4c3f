// Lesson 8: the smallest server. One client, one read, one answer.
// Follow it with `swift run lesson8-minimal-server`, which starts its client, lesson8-minimal-client, too; or, in two terminals,
// `swift run lesson8-minimal-server --alone` and then `swift run lesson8-minimal-client --port` and the port that it names.

import Glibc
import LessonSupport

let lesson = begin(.server(client: "lesson8-minimal-client"))

// Close-on-exec: a program that this one starts does not get the socket, too.
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
guard listen(listener, 1) == 0 else { fail("listen") }
lesson.startClient(port: UInt16(bigEndian: address.sin_port))

let connection = accept(listener, nil, nil)  // waits for a client
guard connection >= 0 else { fail("accept") }

var buffer = [UInt8](repeating: 0, count: 10_000)
let count = read(connection, &buffer, buffer.count)  // waits until something is there; takes what is there
guard count >= 0 else { fail("read") }
say("Received Data : \(String(decoding: buffer[..<count], as: UTF8.self))")
say("total bytes : \(count)")

let answer = "OK"
// It may take a part only: lesson 9.
guard write(connection, answer, answer.utf8.count) != -1 else { fail("write") }
say("Sent Data : \(answer)")

guard close(connection) == 0 else { fail("close") }
guard close(listener) == 0 else { fail("close") }
lesson.waitForClient()
