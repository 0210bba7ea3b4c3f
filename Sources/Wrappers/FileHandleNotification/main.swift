// Echoes one connection by notifications, as a run loop delivers them: one for each time that there is something to read.
// (The notification of an accepted connection has no handle in it on Linux, so a raw accept stands in its place.)

import Foundation

signal(SIGPIPE, SIG_IGN)  // a write to a client that has gone is to fail, not to end the program
guard let port = UInt16(CommandLine.arguments.dropFirst().first ?? "0") else { fail("PORT", EINVAL) }

@Sendable func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-FileHandleNotification: \(what)")
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
let listening = FileHandle(fileDescriptor: listener, closeOnDealloc: true)
nonisolated(unsafe) var connected: FileHandle?  // only touched on the run loop's thread

let observer = NotificationCenter.default.addObserver(
  forName: .NSFileHandleDataAvailable, object: nil, queue: nil
) { _ in
  do { try goOn() } catch {
    FileHandle.standardError.write(Data("wrapper-FileHandleNotification: \(error)\n".utf8))
    exit(1)
  }
}
@Sendable func goOn() throws {
  guard let handle = connected else {
    let connection = accept(listener, nil, nil)
    guard connection >= 0 else { fail("accept") }
    connected = FileHandle(fileDescriptor: connection, closeOnDealloc: true)
    connected?.waitForDataInBackgroundAndNotify()
    return
  }
  let data = handle.availableData
  if data.isEmpty { return try handle.close() }
  try handle.write(contentsOf: data)
  handle.waitForDataInBackgroundAndNotify()  // each call asks for one notification
}
listening.waitForDataInBackgroundAndNotify()
while connected?.fileDescriptor != -1, RunLoop.main.run(mode: .default, before: .distantFuture) {}
try? listening.close()
