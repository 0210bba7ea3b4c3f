// Lesson 13: a client's message, byte by byte.
//
// Write a client of the contact server. It dials, says who it is, sends one contact as an Update, and closes.
//
//   arguments: PORT NAME USER CONTACT PHONE
//   - The hello: a byte, 2, which means a client; and NAME in a field of 256 bytes.
//   - The Update: a byte, 1; USER in 256 bytes, CONTACT in 256, PHONE in 20. It has no answer.
//   - A value stands at the beginning of its field, in UTF-8, and NUL behind it. It may fill its field; then
//     there is no NUL.
//   - A value that is empty, has a control character in it, or does not fit is refused: a line on standard
//     error, status 2, and no connection. Nothing is ever cut off: a number that lacks its last digit is
//     somebody else's.
//   - All 790 bytes arrive, however few of them a call takes. Then the connection is closed, and the status
//     is 0.
//   - Where nobody listens: a line on standard error, status 1.
//
// New: nothing of the kernel's. A text's size is in bytes (`utf8.count`), and not in characters. What a
// control character is, Unicode says: a Unicode.Scalar whose properties.generalCategory is .control.
// See: write(2), connect(2), utf-8(7)

import Glibc

let arguments = CommandLine.arguments
guard arguments.count == 6, let port = UInt16(arguments[1]), port > 0 else {
  warn("usage: exercise PORT NAME USER CONTACT PHONE")
  exit(2)
}
// TODO 1: the hello: role 2, and the field of argument 2.
let hello: [UInt8] = []
// TODO 2: the Update: command 1, and the fields of arguments 3 to 5.
let update: [UInt8] = []

signal(SIGPIPE, SIG_IGN)  // a write to a server that has gone is to fail with EPIPE
let connection = dial(port)
writeAll(connection, hello + update)
close(connection)

/// An argument as a field: its bytes, and NUL behind them.
func field(_ number: Int, _ size: Int) -> [UInt8] {
  // TODO 1 and 2: fill the field with NUL up to its size.
  // TODO 4: where the argument is no value of such a field, warn, and exit(2).
  return Array(arguments[number].utf8)
}

// --- what earlier exercises have shown ---

func dial(_ port: UInt16) -> Int32 {
  let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  guard connection >= 0 else { fail("socket") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  let result = withUnsafePointer(to: address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      connect(connection, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
  guard result == 0 else { fail("connect") }
  return connection
}

/// All of it, however many calls that takes.
func writeAll(_ connection: Int32, _ bytes: [UInt8]) {
  // TODO 3: write may take less than it is given, and a signal may interrupt it: EINTR.
  guard write(connection, bytes, bytes.count) != -1 else { fail("write") }
}

/// One line on standard error, with one write.
func warn(_ text: String) {
  let line = text + "\n"
  _ = write(STDERR_FILENO, line, line.utf8.count)
}

func fail(_ call: String) -> Never {
  warn("\(call): \(String(cString: strerror(errno)))")
  exit(1)
}
