import Glibc
import Sockets
import SystemCalls

/// Moves bytes both ways at once: a client that only sent first, and read then, would wait for ever on a server that does the
/// same, as soon as both have filled each other's buffers.
struct EchoClient: ~Copyable {
  private let socket: Descriptor
  private static let size = 64 * 1024

  /// Connects, and waits until that is done.
  init(to address: SocketAddress) throws(SystemCallError) { socket = try Self.connected(to: address) }

  private static func connected(to address: SocketAddress) throws(SystemCallError) -> Descriptor {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    let socket = Descriptor(owning: try systemCall("socket") { Glibc.socket(address.family, type, 0) })
    let number = socket.number
    if address.withSockaddr({ connect(number, $0, $1) }) != 0 {
      let failure = ErrorNumber.last
      guard failure.rawValue == EINTR else {
        throw SystemCallError(call: "connect", asked: "\(address)", errno: failure)
      }
      // Interrupted, it goes on by itself, and is not to be called again. See: connect(2)
      try waitUntilConnected(number, address)
    }
    let flags = fcntl(number, F_GETFL)
    try systemCall("fcntl", "O_NONBLOCK") { fcntl(number, F_SETFL, flags | O_NONBLOCK) }
    return socket
  }

  private static func waitUntilConnected(_ number: Int32, _ address: SocketAddress) throws(SystemCallError) {
    var entry = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
    try systemCall("poll") { poll(&entry, 1, -1) }
    var failure: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    try systemCall("getsockopt", "SO_ERROR") { getsockopt(number, SOL_SOCKET, SO_ERROR, &failure, &length) }
    if failure != 0 {
      throw SystemCallError(call: "connect", asked: "\(address)", errno: ErrorNumber(failure))
    }
  }

  /// Until the server has ended its direction.
  func run() throws(SystemCallError) {
    var input = [UInt8](repeating: 0, count: Self.size)
    var waiting = 0..<0
    var isInputOver = false
    let answer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.size, alignment: 16)
    defer { answer.deallocate() }
    while true {
      let wantsInput = waiting.isEmpty && !isInputOver
      var entries = [
        pollfd(fd: socket.number, events: Int16(POLLIN | (waiting.isEmpty ? 0 : POLLOUT)), revents: 0),
        pollfd(fd: wantsInput ? STDIN_FILENO : -1, events: Int16(POLLIN), revents: 0),
      ]
      try systemCall("poll") { poll(&entries, 2, -1) }
      if entries[0].revents & Int16(POLLIN | POLLERR | POLLHUP) != 0 {
        if let count = try some("recv", { recv(socket.number, answer.baseAddress, answer.count, 0) }) {
          if count == 0 { return }
          try writeAll(UnsafeRawBufferPointer(rebasing: answer[..<count]), to: STDOUT_FILENO)
        }
      }
      if entries[1].revents != 0 {
        // Another process may have made it non-blocking.
        let count = try some("read") { read(STDIN_FILENO, &input, input.count) }
        waiting = 0..<(count ?? 0)
        if count == 0 {
          isInputOver = true
          try systemCall("shutdown") { shutdown(socket.number, Int32(SHUT_WR)) }
        }
      }
      if !waiting.isEmpty {
        let sent = try some("send") {
          input.withUnsafeBytes {
            send(
              socket.number, $0.baseAddress.map { $0 + waiting.lowerBound }, waiting.count,
              Int32(MSG_NOSIGNAL))
          }
        }
        waiting = (waiting.lowerBound + (sent ?? 0))..<waiting.upperBound
      }
    }
  }

  /// What a call moved, or nil where it would have had to wait.
  private func some(_ call: String, _ body: () -> Int) throws(SystemCallError) -> Int? {
    do throws(SystemCallError) { return try systemCall(call, "", body) } catch {
      if error.errno.rawValue == EAGAIN { return nil }
      throw error
    }
  }
}
