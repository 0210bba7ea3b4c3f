// Lesson 5: read.
// Follow it with `swift run lesson5-read`; or, without the narrator, `strace .build/debug/lesson5-read --bare`.

import Glibc
import LessonSupport

let lesson = begin()
let stream = Int32(SOCK_STREAM.rawValue)  // an enum in Swift's Glibc
var buffer = [UInt8](repeating: 0, count: 100)

say("A listening socket, a client that dials, and the server's end of the connection, as in lessons 1 to 4.")
let (listener, address) = listeningSocket()
let (client, server) = connection(to: listener, at: address)

say("The client writes twice. Nobody reads: the kernel keeps the bytes in the server's receive queue.")
guard write(client, "Hello, ", 7) == 7 else { fail("write") }
guard write(client, "kernel", 6) == 6 else { fail("write") }

say("One read, with room for \(buffer.count) bytes. Does it get one message?")
guard read(server, &buffer, buffer.count) == 13 else { cannotShow("the bytes of two writes came apart") }

say("Two writes came out of one read: TCP carries bytes, and knows no messages. The other way round:")
guard write(client, "one message", 11) == 11 else { fail("write") }
guard read(server, &buffer, 4) == 4 else { cannotShow("4 of 11 bytes could not be read") }
say("What did not fit waits for the next read.")
guard read(server, &buffer, buffer.count) == 7 else { cannotShow("the other 7 bytes did not come") }

say("Now nothing is there, and the stream goes on: read waits. With SO_RCVTIMEO not for ever: half a second.")
var patience = timeval(tv_sec: 0, tv_usec: 500_000)
guard setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &patience, 16) == 0 else { fail("setsockopt") }
guard read(server, &buffer, buffer.count) == -1, errno == EAGAIN else { cannotShow("read did not give up") }

say("The client says its last word, and that it will send no more: shutdown, and a FIN goes out.")
guard write(client, "bye", 3) == 3 else { fail("write") }
guard shutdown(client, Int32(SHUT_WR)) == 0 else { fail("shutdown") }
say("The FIN stands behind the bytes, with a number of its own in the stream. First come the bytes:")
guard read(server, &buffer, buffer.count) == 3 else { cannotShow("the last bytes did not come") }
say(
  "The read that took the last byte has passed the FIN. Every further one returns 0: the end of the stream.")
guard read(server, &buffer, buffer.count) == 0 else { cannotShow("the stream has no end") }
say("0 is no error and no empty message. It stays: whoever reads on gets 0 again, at once, for ever.")
guard read(server, &buffer, buffer.count) == 0 else { cannotShow("the stream has no end") }

say("A second client leaves without a goodbye: with linger 0, close sends RST in place of FIN.")
let (rude, victim) = connection(to: listener, at: address)
var now = linger(l_onoff: 1, l_linger: 0)
guard setsockopt(rude, SOL_SOCKET, SO_LINGER, &now, 8) == 0 else { fail("setsockopt") }
guard close(rude) == 0 else { fail("close") }
say("The server's socket is CLOSE already. The next read says so, once:")
guard read(victim, &buffer, buffer.count) == -1, errno == ECONNRESET else { cannotShow("no reset came") }
guard read(victim, &buffer, buffer.count) == 0 else { cannotShow("the reset was told twice") }

say("A number of bytes, 0, or an error: whoever calls read must look at all three. In lesson 6, write.")

// --- what lessons 1 to 4 have shown ---

func listeningSocket() -> (Int32, sockaddr_in) {
  let listener = socket(AF_INET, stream, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1  // lesson 7 shows why
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = lesson.port.bigEndian
  guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
  guard withSockaddr(&address, filled: { getsockname(listener, $0, $1) }) == 0 else { fail("getsockname") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return (listener, address)
}

func connection(to listener: Int32, at address: sockaddr_in) -> (client: Int32, server: Int32) {
  let client = socket(AF_INET, stream, 0)
  guard client >= 0 else { fail("socket") }
  guard withSockaddr(address, { connect(client, $0, $1) }) == 0 else { fail("connect") }
  let server = accept(listener, nil, nil)
  guard server >= 0 else { fail("accept") }
  return (client, server)
}
