// Gets a URL again and again with raw calls, on a connection for each: the server is asked to close it, and the end of the
// stream is the end of the answer.

import Glibc

signal(SIGPIPE, SIG_IGN)
let words = CommandLine.arguments
guard words.count == 3, words[1].hasPrefix("http://"), let count = Int(words[2]) else { fail("URL", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-RawClientAnew: \(what)")
  exit(1)
}

// --- the job ---
let parts = words[1].dropFirst(7).split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
let path = parts.count == 2 ? "/" + parts[1] : "/"
let request = Array("GET \(path) HTTP/1.1\r\nHost: \(parts[0])\r\nConnection: close\r\n\r\n".utf8)
let host = parts[0].split(separator: ":")
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_port = (host.count == 2 ? UInt16(host[1]) ?? 0 : 80).bigEndian
address.sin_addr.s_addr = inet_addr(String(host.first ?? ""))

var buffer = [UInt8](repeating: 0, count: 65536)
for _ in 0..<count {
  let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  let dialled = withUnsafeBytes(of: &address) {
    connect(connection, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
  }
  guard dialled == 0 else { fail("connect") }
  guard write(connection, request, request.count) == request.count else { fail("write") }
  var answer: [UInt8] = []
  while true {
    let count = read(connection, &buffer, buffer.count)
    if count == 0 { break }
    guard count > 0 else { fail("read") }
    answer += buffer[..<count]
  }
  guard close(connection) == 0 else { fail("close") }
  guard answer.starts(with: "HTTP/1.1 200 ".utf8) || answer.starts(with: "HTTP/1.0 200 ".utf8),
    let head = answer.firstRange(of: Array("\r\n\r\n".utf8)), head.upperBound < answer.endIndex
  else { fail("no 200 with a body", EPROTO) }
}
