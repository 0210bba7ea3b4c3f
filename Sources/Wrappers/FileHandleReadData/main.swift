// Echoes one connection through a FileHandle and read(upToCount:). Its name says "up to", and yet it waits until it has as
// much as that or the stream ends (readData(ofLength:) is the same call under its older name): a client that waits for its
// echo before it sends more gets it at once only if it is asked for one byte at a time.

import Foundation

signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail, not to end the program
guard let port = UInt16(CommandLine.arguments.dropFirst().first ?? "0") else { fail("PORT", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-FileHandleReadData: \(what)")
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
  while let data = try handle.read(upToCount: 1) { try handle.write(contentsOf: data) }
  try handle.close()
  try FileHandle(fileDescriptor: listener, closeOnDealloc: true).close()
} catch {
  FileHandle.standardError.write(Data("wrapper-FileHandleReadData: \(error)\n".utf8))
  exit(1)
}
