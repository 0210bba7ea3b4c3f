// wrong: accept on a socket that does not listen yet

import CLinux
import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line goes out at once, in a pipe as well
guard CommandLine.arguments.count == 2, let port = UInt16(CommandLine.arguments[1]), port > 0 else {
  warn("usage: exercise PORT")
  exit(2)
}

let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard listener >= 0 else { fail("socket") }
var on: Int32 = 1  // or nobody may bind this port for a minute after a run
guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_addr.s_addr = inet_addr("127.0.0.1")
address.sin_port = port.bigEndian
guard withSockaddr(address, { bind(listener, $0, $1) }) == 0 else { fail("bind") }
let connection = accept(listener, nil, nil)  // waits for a client
guard connection >= 0 else { fail("accept") }
guard listen(listener, 1) == 0 else { fail("listen") }

var buffer = [UInt8](repeating: 0, count: 10_000)
let count = read(connection, &buffer, buffer.count)  // waits until something is there; takes what is there
guard count >= 0 else { fail("read") }
print("Received Data : \(String(decoding: buffer[..<count], as: UTF8.self))")
print("total bytes : \(count)")

let answer = "OK"
// It may take a part only: lesson 9.
guard write(connection, answer, answer.utf8.count) != -1 else { fail("write") }

guard close(connection) == 0 else { fail("close") }
guard close(listener) == 0 else { fail("close") }

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
