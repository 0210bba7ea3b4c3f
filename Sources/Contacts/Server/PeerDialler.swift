import Sockets
import SystemCalls

/// Keeps a link to another server up: dials, and dials again when it is lost.
final class PeerDialler {
  private let peer: SocketAddress
  private unowned let server: ContactServer
  private var dialling: Dialling?
  private var timer: LoopTimer?
  private var backoff = Backoff()
  private var isClosed = false
  /// Whether a failure was logged since it was last up: others like it are not.
  private var hasComplained = false

  init(_ peer: SocketAddress, of server: ContactServer) throws(SystemCallError) {
    self.peer = peer
    self.server = server
    timer = try LoopTimer(on: server.loop) { [unowned self] _ in dial() }
  }

  func dial() {
    guard !isClosed else { return }
    do throws(SystemCallError) {
      dialling = try Dialling(
        to: peer, on: server.loop,
        connected: { [unowned self] socket in connected(socket) },
        failed: { [unowned self] error in failed("\(error)") })
    } catch { failed("\(error)") }
  }

  private func connected(_ socket: consuming Descriptor) {
    dialling = nil
    // Where nobody listens, a port of the kernel's own choice may meet itself. See: RFC 9293, section 3.5, simultaneous open
    if let own = SocketAddress.local(of: socket.number), own == SocketAddress.remote(of: socket.number) {
      return failed("the socket has connected to itself: nobody listens there")
    }
    let connection = PeerConnection(socket, peer, server, dialledBy: self)
    guard server.add(connection) else {
      server.log.linkDown(connection, "it cannot be watched")
      connection.close()
      return wait()
    }
  }

  /// A whole message has come: it is a server, and it is well.
  func heard() {
    backoff.reset()
    hasComplained = false
  }

  /// The link is down.
  func lost() { wait() }

  private func failed(_ reason: String) {
    dialling = nil
    if !hasComplained { server.log.cannotDial(peer, reason) }
    hasComplained = true
    wait()
  }

  private func wait() {
    guard !isClosed else { return }
    var generator = SystemRandomNumberGenerator()
    timer?.start(milliseconds: backoff.next(using: &generator))
  }

  func close() {
    isClosed = true
    dialling?.close()
    dialling = nil
    timer?.close()
    timer = nil
  }
}
