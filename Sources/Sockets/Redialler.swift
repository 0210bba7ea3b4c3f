import SystemCalls

/// Keeps a connection to a server up: dials, and dials again when it is lost, later each time.
public final class Redialler {
  public let address: SocketAddress
  private unowned let loop: EventLoop
  private let connected: (consuming Descriptor, Redialler) -> Void
  private let failed: (String) -> Void
  private var dialling: Dialling?
  private var timer: LoopTimer?
  private var backoff = Backoff()
  private var isClosed = false
  /// Whether a failure was told since all was well last: others like it are not.
  private var hasComplained = false

  /// One that does not dial yet.
  ///
  /// - Parameters:
  ///   - address: where somebody listens.
  ///   - loop: what watches the socket and the time.
  ///   - connected: gets the socket: non-blocking, close-on-exec, with TCP_NODELAY. Of the redialler beside
  ///     it, it calls `heard` when the other side has shown that it is the right one, and `lost` when the connection is over.
  ///   - failed: is told why nobody can be reached, once until all is well again.
  /// - Throws: where no timer can be had.
  public init(
    _ address: SocketAddress, on loop: EventLoop,
    connected: @escaping (consuming Descriptor, Redialler) -> Void,
    failed: @escaping (String) -> Void
  ) throws(SystemCallError) {
    self.address = address
    self.loop = loop
    self.connected = connected
    self.failed = failed
    timer = try LoopTimer(on: loop) { [unowned self] _ in dial() }
  }

  /// Dials after so many milliseconds, 0 for at once.
  public func start(after wait: Int) {
    if wait > 0 { timer?.start(milliseconds: wait) } else { dial() }
  }

  private func dial() {
    guard !isClosed else { return }
    do throws(SystemCallError) {
      dialling = try Dialling(
        to: address, on: loop,
        connected: { [unowned self] socket in taken(socket) },
        failed: { [unowned self] error in fail("\(error)") })
    } catch { fail("\(error)") }
  }

  private func taken(_ socket: consuming Descriptor) {
    dialling = nil
    // Where nobody listens, a port of the kernel's own choice may meet itself. See: RFC 9293, section 3.5, simultaneous open
    if let own = SocketAddress.local(of: socket.number), own == SocketAddress.remote(of: socket.number) {
      return fail("the socket has connected to itself: nobody listens there")
    }
    connected(socket, self)
  }

  /// The other side is well.
  public func heard() {
    backoff.reset()
    hasComplained = false
  }

  /// The connection is over.
  public func lost() {
    guard !isClosed else { return }
    var generator = SystemRandomNumberGenerator()
    timer?.start(milliseconds: backoff.next(using: &generator))
  }

  private func fail(_ reason: String) {
    dialling = nil
    complain(reason)
    lost()
  }

  /// Tells that it is of no use, unless that was told since all was well.
  public func complain(_ reason: String) {
    if !hasComplained { failed(reason) }
    hasComplained = true
  }

  public func close() {
    isClosed = true
    dialling?.close()
    dialling = nil
    timer?.close()
    timer = nil
  }
}
