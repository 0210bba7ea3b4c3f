// Gets a URL again and again through FileHandle, on a connection for each: readToEnd waits for the server to close it.

import Foundation

guard CommandLine.arguments.count == 3, let count = Int(CommandLine.arguments[2]),
  let url = URL(string: CommandLine.arguments[1]), let host = url.host
else { fail("URL COUNT") }
signal(SIGPIPE, SIG_IGN)

func fail(_ what: String) -> Never {
  FileHandle.standardError.write(Data("wrapper-FileHandleClient: \(what)\n".utf8))
  exit(1)
}

// --- the job ---
let port = UInt16(exactly: url.port ?? 80) ?? 0
let path = url.path.isEmpty ? "/" : url.path
let request = "GET \(path) HTTP/1.1\r\nHost: \(host):\(port)\r\nConnection: close\r\n\r\n"
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_port = port.bigEndian
address.sin_addr.s_addr = inet_addr(host)

do {
  for _ in 0..<count {
    let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    let dialled = withUnsafeBytes(of: &address) {
      connect(connection, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
    }
    guard dialled == 0 else { fail("connect: \(String(cString: strerror(errno)))") }
    let handle = FileHandle(fileDescriptor: connection, closeOnDealloc: true)
    try handle.write(contentsOf: Data(request.utf8))
    let answer = try handle.readToEnd() ?? Data()
    try handle.close()
    guard answer.starts(with: Data("HTTP/1.1 200 ".utf8)) || answer.starts(with: Data("HTTP/1.0 200 ".utf8)),
      let head = answer.range(of: Data("\r\n\r\n".utf8)), head.upperBound < answer.endIndex
    else { fail("an answer of \(answer.count) bytes, and no 200 with a body") }
  }
} catch { fail("\(error)") }
