// wrong: takes EINTR for an error

import Glibc

let arguments = CommandLine.arguments
guard arguments.count == 6, let port = UInt16(arguments[1]), port > 0 else {
  warn("usage: exercise PORT NAME USER CONTACT PHONE")
  exit(2)
}
let hello: [UInt8] = [2] + field(2, 256)
let update: [UInt8] = [1] + field(3, 256) + field(4, 256) + field(5, 20)

signal(SIGPIPE, SIG_IGN)  // a write to a server that has gone is to fail with EPIPE
let connection = dial(port)
writeAll(connection, hello + update)
close(connection)

/// An argument as a field: its bytes, and NUL behind them.
func field(_ number: Int, _ size: Int) -> [UInt8] {
  // Where an argument is no UTF-8, CommandLine.arguments has another one in its place.
  guard let value = CommandLine.unsafeArgv[number].flatMap({ String(validatingCString: $0) }), !value.isEmpty,
    value.utf8.count <= size,
    !value.unicodeScalars.contains(where: { $0.properties.generalCategory == .control })
  else {
    warn("argument \(number) is to be a text of 1 to \(size) bytes, without control characters")
    exit(2)
  }
  return Array(value.utf8) + [UInt8](repeating: 0, count: size - value.utf8.count)
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
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(connection, $0.baseAddress, $0.count) }
    guard count >= 0 else { fail("write") }
    rest = rest.dropFirst(max(0, count))
  }
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
