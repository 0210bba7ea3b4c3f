// Echoes one connection through a FileHandle: Foundation has no call that opens a listening socket and hands out a
// connection, so these come from raw calls.

import Foundation

signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail, not to end the program
guard let port = UInt16(CommandLine.arguments.dropFirst().first ?? "0") else { fail("PORT", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-FileHandle: \(what)")
  exit(1)
}

// --- the job ---
let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
var on: Int32 = 1
guard listener >= 0, setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("socket") }
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_port = port.bigEndian
address.sin_addr.s_addr = inet_addr("127.0.0.1")
let bound = withUnsafeBytes(of: &address) {
  bind(listener, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
}
guard bound == 0, listen(listener, SOMAXCONN) == 0 else { fail("bind, listen") }
let connection = accept(listener, nil, nil)
guard connection >= 0 else { fail("accept") }

let handle = FileHandle(fileDescriptor: connection, closeOnDealloc: true)
do {
  while true {
    let data = handle.availableData  // what one read returns; empty at the end of the stream
    if data.isEmpty { break }
    try handle.write(contentsOf: data)
  }
  try handle.close()
  try FileHandle(fileDescriptor: listener, closeOnDealloc: true).close()
} catch {
  FileHandle.standardError.write(Data("wrapper-FileHandle: \(error)\n".utf8))
  exit(1)
}
