import CLinux
import Glibc
import SystemCalls

/// Answers GET requests, as many on a connection as the client likes, and notes when each came and when it was answered.
final class HTTPServer {
  let port: UInt16
  private let listener: Int32
  private var connections: [Int32: [UInt8]] = [:]
  /// Nanoseconds of CLOCK_MONOTONIC.
  private(set) var arrivals: [UInt64] = []
  private(set) var answers: [UInt64] = []
  /// Called when a request has come, before it is answered.
  var onRequest: () -> Void = {}

  init() throws {
    let listener = try systemCall("socket") {
      socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
    }
    var address = loopback(0)
    try systemCall("bind", "127.0.0.1:0") { withAddress(&address) { bind(listener, $0, $1) } }
    try systemCall("listen") { listen(listener, 16) }
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    try systemCall("getsockname") {
      withAddress(&address) { pointer, _ in
        getsockname(listener, UnsafeMutablePointer(mutating: pointer), &length)
      }
    }
    self.listener = listener
    port = UInt16(bigEndian: address.sin_port)
  }

  deinit {
    close(listener)
    for connection in connections.keys { close(connection) }
  }

  private static let body = "A page, by a server of raw calls.\n"
  private static let answer = Array(
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
  /// Bytes of a request that are read before it is taken for none.
  private static let limit = 65536

  /// Does what can be done without waiting.
  ///
  /// - Throws: where something else than a request came, or a call failed.
  func step() throws {
    while case let connection = accept4(
      listener, nil, nil, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)),
      connection >= 0
    {
      connections[connection] = []
    }
    var buffer = [UInt8](repeating: 0, count: 4096)
    for connection in connections.keys.sorted() {
      reading: while true {
        let count = recv(connection, &buffer, buffer.count, 0)
        if count < 0, errno == EAGAIN { break reading }
        if count <= 0 {
          close(connection)
          connections[connection] = nil
          break reading
        }
        connections[connection]?.append(contentsOf: buffer[..<count])
        try answer(connection)
      }
    }
  }

  private func answer(_ connection: Int32) throws {
    let end = Array("\r\n\r\n".utf8)
    while let request = connections[connection], let place = request.firstRange(of: end) {
      arrivals.append(monotonicNanoseconds())
      onRequest()
      guard request.starts(with: Array("GET ".utf8)) else { throw Failure("it sent no GET request") }
      let isLast =
        String(decoding: request[..<place.lowerBound], as: UTF8.self).lowercased()
        .contains("\r\nconnection: close")
      connections[connection] = Array(request[place.upperBound...])
      let count = Self.answer.withUnsafeBytes {
        send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count == Self.answer.count else {
        throw SystemCallError(call: "send", asked: "an answer", errno: .last)
      }
      answers.append(monotonicNanoseconds())
      if isLast {
        close(connection)
        connections[connection] = nil
      }
    }
    if connections[connection]?.count ?? 0 > Self.limit { throw Failure("its request has no end") }
  }

  /// Waits until something has come, or for some milliseconds. See: poll(2)
  func wait(milliseconds: Int32) {
    var entries = ([listener] + connections.keys).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    poll(&entries, nfds_t(entries.count), milliseconds)
  }
}
