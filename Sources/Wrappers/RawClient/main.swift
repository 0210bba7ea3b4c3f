// Gets a URL again and again with raw calls, on one connection as long as the server keeps it open. It reads answers that
// have a Content-Length, and no others: no chunks, no redirection, no names of hosts, no TLS.

import Glibc

signal(SIGPIPE, SIG_IGN)
let words = CommandLine.arguments
guard words.count == 3, words[1].hasPrefix("http://"), let count = Int(words[2]) else { fail("URL", EINVAL) }

func fail(_ what: String, _ number: Int32 = errno) -> Never {
  errno = number
  perror("wrapper-RawClient: \(what)")
  exit(1)
}
// --- the job ---
let parts = words[1].dropFirst(7).split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
let path = parts.count == 2 ? "/" + parts[1] : "/"
let request = Array("GET \(path) HTTP/1.1\r\nHost: \(parts[0])\r\n\r\n".utf8)
var connection = dial(parts[0].split(separator: ":"))
for _ in 0..<count {
  if get(connection) { continue }
  close(connection)  // as the server has done since the answer before
  connection = dial(parts[0].split(separator: ":"))
  guard get(connection) else { fail("no answer") }
}
guard close(connection) == 0 else { fail("close") }

func dial(_ host: [Substring]) -> Int32 {
  let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = (host.count == 2 ? UInt16(host[1]) ?? 0 : 80).bigEndian
  address.sin_addr.s_addr = inet_addr(String(host.first ?? ""))
  let dialled = withUnsafeBytes(of: &address) {
    connect(connection, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
  }
  guard dialled == 0 else { fail("connect") }
  return connection
}

/// One request and its answer. False where the connection ended before the answer did.
func get(_ connection: Int32) -> Bool {
  guard write(connection, request, request.count) == request.count else { return false }
  var (answer, buffer) = ([UInt8](), [UInt8](repeating: 0, count: 65536))
  while true {
    let count = read(connection, &buffer, buffer.count)
    guard count > 0 else { return false }
    answer += buffer[..<count]
    var (head, body) = (0, 0)  // their lengths
    for line in answer.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      head += line.count + 1
      let text = String(decoding: line, as: UTF8.self).lowercased()
      if text.hasPrefix("content-length:") { body = Int(strtol(String(text.dropFirst(15)), nil, 10)) }
      guard text == "\r", answer.count >= head + body else { continue }
      guard answer.starts(with: "HTTP/1.1 200 ".utf8), body > 0 else { fail("no 200 with a body", EPROTO) }
      return true
    }
  }
}
