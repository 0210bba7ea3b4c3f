import CLinux
import Glibc
import Sockets
import SystemCalls

/// One client: what it sends goes back to it.
///
/// While bytes wait that it does not take, nothing more is read from it: its kernel's buffers fill up, and it has to wait. So a
/// deaf client costs one read's worth of memory, and an idle one none.
final class EchoConnection: EventHandler {
  private enum Phase {
    case echoing
    /// What has come is sent back; with the first read that finds nothing it is over.
    case draining
    /// All was sent, FIN included; the client's own end is waited for.
    case finished
  }

  private let socket: Descriptor
  private unowned let worker: EchoWorker
  /// What it has not taken yet, from `sent` on.
  private var pending: [UInt8] = []
  private var sent = 0
  private var phase = Phase.echoing
  /// By the worker's clock.
  private(set) var lastActive: Int

  init(_ socket: consuming Descriptor, worker: EchoWorker) {
    self.socket = socket
    self.worker = worker
    lastActive = worker.now
  }

  var number: Int32 { socket.number }

  /// Whether all has been handed to the kernel, this direction's end with it.
  var isFinished: Bool { phase == .finished }

  /// Bytes that have come and were not taken back, in this process and in the kernel. See: tcp(7), SIOCOUTQ
  var owed: Int {
    var unsent: Int32 = 0
    let isKnown = clinux_ioctl(socket.number, UInt(TIOCOUTQ), &unsent) == 0
    return pending.count - sent + (isKnown ? Int(unsent) : 0)
  }

  func ready(_ readiness: Readiness) {
    if !pending.isEmpty {
      flush()
    } else {
      receive()
    }
  }

  /// Sends back what has come, and then ends the connection.
  func drain() {
    guard phase == .echoing else { return }
    phase = .draining
    if pending.isEmpty { lookAgain() }
  }

  /// While it drains it has a turn, with bytes waiting or without: only a read tells that nothing has come.
  private func lookAgain() { watch([.readable, .writable]) }

  private func receive() {
    let buffer = worker.loop.scratch
    let count = recv(socket.number, buffer.baseAddress, buffer.count, 0)
    if count > 0 {
      lastActive = worker.now
      worker.figures.received(count)
      // After this server's own end nothing goes back any more.
      if phase != .finished { send(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
    } else if count == 0 {
      // It has said all it had to say, and everything has gone back.
      worker.end(self)
    } else {
      switch errno {
      case EINTR: break
      case EAGAIN: if phase == .draining { finish() }
      default: worker.end(self, error: .last)
      }
    }
  }

  private func send(_ bytes: UnsafeRawBufferPointer) {
    let count = Glibc.send(socket.number, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
    if count == bytes.count {
      worker.figures.sent(count)
      return
    }
    guard count >= 0 || errno == EAGAIN || errno == EINTR else { return worker.end(self, error: .last) }
    let taken = max(0, count)
    worker.figures.sent(taken)
    pending = Array(bytes[taken...])
    sent = 0
    watch(.writable)
  }

  private func flush() {
    let count = pending.withUnsafeBytes { bytes in
      Glibc.send(socket.number, bytes.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
    }
    guard count >= 0 else {
      if errno != EAGAIN && errno != EINTR { worker.end(self, error: .last) }
      return
    }
    lastActive = worker.now
    worker.figures.sent(count)
    sent += count
    if sent == pending.count {
      pending = []
      sent = 0
      if phase == .draining { lookAgain() } else { watch(.readable) }
    }
  }

  private func finish() {
    phase = .finished
    watch(.readable)
    // A close now would answer what is still on its way with RST, which may destroy what the client has not read yet.
    if shutdown(socket.number, Int32(SHUT_WR)) != 0 { worker.end(self, error: .last) }
  }

  private func watch(_ readiness: Readiness) {
    do throws(SystemCallError) { try worker.loop.change(socket.number, to: readiness) } catch {
      worker.end(self, error: error.errno)
    }
  }
}
