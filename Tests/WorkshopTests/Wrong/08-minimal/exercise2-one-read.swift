// wrong: one read is taken for the whole answer

import CLinux
import Glibc

guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise2 PORT")
  exit(2)
}

let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard connection >= 0 else { fail("socket") }
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = port.bigEndian
guard withSockaddr(address, { connect(connection, $0, $1) }) == 0 else { fail("connect") }

let message = "this data is from client"
// It may take a part only: lesson 9.
guard write(connection, message, message.utf8.count) != -1 else { fail("write") }
// A FIN after the last byte. Without it, a server that reads until the end would wait for more.
guard shutdown(connection, Int32(SHUT_WR)) == 0 else { fail("shutdown") }

var answer: [UInt8] = []
var buffer = [UInt8](repeating: 0, count: 10_000)
do {
  let count = read(connection, &buffer, buffer.count)  // waits until something is there; takes what is there
  guard count >= 0 else { fail("read") }
  answer += buffer[..<count]
}
print(String(decoding: answer, as: UTF8.self))

guard close(connection) == 0 else { fail("close") }

// --- what you need beside the calls ---

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
