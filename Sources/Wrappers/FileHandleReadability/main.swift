// Echoes one connection with a FileHandle's readabilityHandler, which Dispatch calls on a queue of the handle's own.

import Foundation

signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail, not to end the program
guard let port = UInt16(CommandLine.arguments.dropFirst().first ?? "0") else { fail("PORT", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-FileHandleReadability: \(what)")
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
let ended = DispatchSemaphore(value: 0)
handle.readabilityHandler = { handle in
  let data = handle.availableData
  if data.isEmpty {
    handle.readabilityHandler = nil  // else it would be called again and again: the end stays readable
    ended.signal()
    return
  }
  do { try handle.write(contentsOf: data) } catch {
    FileHandle.standardError.write(Data("wrapper-FileHandleReadability: \(error)\n".utf8))
    exit(1)
  }
}
ended.wait()
do {
  try handle.close()  // not in the handler: it waits for the queue that the handler runs on
  try FileHandle(fileDescriptor: listener, closeOnDealloc: true).close()
} catch {
  FileHandle.standardError.write(Data("wrapper-FileHandleReadability: \(error)\n".utf8))
  exit(1)
}
