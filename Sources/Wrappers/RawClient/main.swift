// Gets a URL again and again with raw calls, on one connection as long as the server keeps it open. It reads answers that
// have a Content-Length, and no others: no chunks, no redirection, no names of hosts, no TLS.

import Glibc

signal(SIGPIPE, SIG_IGN)
let arguments = CommandLine.arguments
guard arguments.count == 3, arguments[1].hasPrefix("http://"), let count = Int(arguments[2]) else { fail("URL COUNT") }

func fail(_ what: String) -> Never {
  perror("wrapper-RawClient: \(what)")
  exit(1)
}

// --- the job ---
let parts = arguments[1].dropFirst(7).split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
let host = parts[0].split(separator: ":")
let path = parts.count == 2 ? "/" + parts[1] : "/"
let request = Array("GET \(path) HTTP/1.1\r\nHost: \(parts[0])\r\n\r\n".utf8)
var address = sockaddr_in()
address.sin_family = sa_family_t(AF_INET)
address.sin_port = (host.count == 2 ? UInt16(host[1]) ?? 0 : 80).bigEndian
address.sin_addr.s_addr = inet_addr(String(host.first ?? ""))
var connection: Int32 = -1

for _ in 0..<count {
  if connection >= 0, get() { continue }
  dial()  // the first time, and where the server has closed the connection since
  guard get() else { fail("no answer") }
}
close(connection)

func dial() {
  if connection >= 0 { close(connection) }
  connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  let dialled = withUnsafeBytes(of: &address) {
    connect(connection, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
  }
  guard dialled == 0 else { fail("connect") }
}

/// One request and its answer. False where the connection ended before the answer did.
func get() -> Bool {
  guard write(connection, request, request.count) == request.count else { return false }
  var (answer, buffer) = ([UInt8](), [UInt8](repeating: 0, count: 65536))
  while true {
    let count = read(connection, &buffer, buffer.count)
    guard count > 0 else { return false }
    answer += buffer[..<count]
    guard let head = String(decoding: answer, as: Unicode.ASCII.self).lowercased().firstRange(of: "\r\n\r\n")
  }
}
