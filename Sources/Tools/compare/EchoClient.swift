import CLinux
import Glibc
import SystemCalls

/// A client that sends a message, or none, looks at every byte that comes back, ends its direction, and closes at the end of the
/// stream. It is moved on a little whenever there is an occasion, and never waits.
final class EchoClient {
  private let message: [UInt8]
  private var connection: Int32 = -1
  private var sent = 0
  private var received = 0
  private var hasEnded = false
  /// Whether the server has closed, too.
  private(set) var isDone = false

  init(message: [UInt8]) { self.message = message }

  deinit { if connection >= 0 { close(connection) } }

  var hasDialled: Bool { connection >= 0 || isDone }

  /// Dials a server on this machine. See: connect(2)
  func dial(_ port: UInt16) throws {
    connection = try connectedSocket(to: port)
    _ = fcntl(connection, F_SETFL, O_RDWR | O_NONBLOCK)
  }

  /// Does what can be done without waiting.
  ///
  /// - Throws: where the server did something else than its job, or a call failed.
  func step() throws {
    guard hasDialled, !isDone else { return }
    while sent < message.count {
      let count = message[sent...].withUnsafeBytes {
        send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count < 0, errno == EAGAIN { break }
      guard count > 0 else { throw SystemCallError(call: "send", asked: "the message", errno: .last) }
      sent += count
    }
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      if received == message.count, !hasEnded {
        shutdown(connection, Int32(SHUT_WR))
        hasEnded = true
      }
      let count = recv(connection, &buffer, buffer.count, 0)
      if count < 0, errno == EAGAIN { return }
      guard count >= 0 else { throw SystemCallError(call: "recv", asked: "the echo", errno: .last) }
      if count == 0 { break }
      guard received + count <= message.count,
        buffer[..<count].elementsEqual(message[received..<received + count])
      else { throw Failure("it sent back something else than it was sent") }
      received += count
    }
    guard hasEnded else { throw Failure("it closed before it had sent all back") }
    close(connection)
    connection = -1
    isDone = true
  }
}
