import CLinux
import Glibc
import SystemCalls

/// The other side of a job: raw, non-blocking, and moved on a little whenever there is an occasion.
protocol Peer: AnyObject {
  /// Whether all that it has to do is done.
  var isDone: Bool { get }
  /// Does what can be done without waiting.
  ///
  /// - Throws: where the program did something else than its job, or a call failed.
  func step() throws
}

/// Why a comparison cannot be made.
struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// A client that sends a message, or none, looks at every byte that comes back, ends its direction, and closes at the end of the
/// stream.
final class EchoClient: Peer {
  private let message: [UInt8]
  private var connection: Int32 = -1
  private var sent = 0
  private var received = 0
  private(set) var isDone = false

  init(message: [UInt8]) { self.message = message }

  deinit { if connection >= 0 { close(connection) } }

  /// Dials a server on this machine. See: connect(2)
  func dial(_ port: UInt16) throws {
    connection = try connectedSocket(to: port)
    _ = fcntl(connection, F_SETFL, O_RDWR | O_NONBLOCK)
  }

  var hasDialled: Bool { connection >= 0 || isDone }

  func step() throws {
    guard hasDialled, !isDone else { return }
    while sent < message.count {
      let count = message[sent...].withUnsafeBytes {
        send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count < 0, errno == EAGAIN { break }
      guard count > 0 else { throw SystemCallError(call: "send", asked: "the message", errno: .last) }
      sent += count
      if sent == message.count, message.isEmpty { break }
    }
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      if received == message.count, sent == message.count {
        received += 1  // once
        shutdown(connection, Int32(SHUT_WR))
      }
      let count = recv(connection, &buffer, buffer.count, 0)
      if count < 0, errno == EAGAIN { return }
      guard count >= 0 else { throw SystemCallError(call: "recv", asked: "the echo", errno: .last) }
      if count == 0 {
        guard received > message.count else { throw Failure("it closed before it had sent all back") }
        close(connection)
        connection = -1
        isDone = true
        return
      }
      guard received + count <= message.count,
        buffer[..<count].elementsEqual(message[received..<received + count])
      else { throw Failure("it sent back something else than it was sent") }
      received += count
    }
  }
}

/// Answers GET requests, as many on a connection as the client likes, and notes when each came and when it was answered.
final class HTTPServer: Peer {
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

  /// A server is done when its clients are.
  var isDone: Bool { connections.isEmpty && !arrivals.isEmpty }

  private static let body = "A page, by a server of raw calls.\n"
  private static let answer = Array(
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
  /// Bytes of a request that are read before it is taken for none.
  private static let limit = 65536

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

/// A connected, blocking socket without Nagle's algorithm.
func connectedSocket(to port: UInt16) throws(SystemCallError) -> Int32 {
  let connection = try systemCall("socket") {
    socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  }
  var address = loopback(port)
  do throws(SystemCallError) {
    try systemCall("connect", "127.0.0.1:\(port)") { withAddress(&address) { connect(connection, $0, $1) } }
  } catch {
    close(connection)
    throw error
  }
  var on: Int32 = 1
  setsockopt(connection, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
  return connection
}

private func loopback(_ port: UInt16) -> sockaddr_in {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  return address
}

private func withAddress<Result>(
  _ address: inout sockaddr_in, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
  withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      call($0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
}
