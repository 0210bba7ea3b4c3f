import Glibc
import Sockets
import SystemCalls

/// Moves bytes both ways at once: a client that only sent first, and read then, would wait for ever on a server that does the
/// same, as soon as both have filled each other's buffers.
struct EchoClient: ~Copyable {
  private let socket: Descriptor
  private static let size = 64 * 1024

  /// What went out, and what came back, in bytes.
  struct Outcome {
    var sent = 0
    var received = 0
    /// The server has ended its direction when all had been sent, and not before.
    var isComplete = false
  }

  /// Connects, and waits until that is done.
  init(to address: SocketAddress) throws(SystemCallError) { socket = try Descriptor.connected(to: address) }

  /// Until the server has ended its direction.
  ///
  /// - Returns: how much that was.
  /// - Throws: what a call failed with.
  func run() throws(SystemCallError) -> Outcome {
    var outcome = Outcome()
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
          if count == 0 {
            outcome.isComplete = isInputOver
            return outcome
          }
          outcome.received += count
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
        outcome.sent += sent ?? 0
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
