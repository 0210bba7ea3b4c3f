import CLinux
import Glibc
import Sockets
import SystemCalls

/// Why a client could not do what it was asked for.
public struct WebSocketFailure: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  /// Whether the descriptor that may end the waiting has done so.
  public let isInterruption: Bool

  init(_ description: String, isInterruption: Bool = false) {
    self.description = description
    self.isInterruption = isInterruption
  }
}

/// A WebSocket to a server, for a program that waits by itself: `poll` its descriptor, and call `work`.
///
/// See: RFC 6455
public final class WebSocketClient: WebSocketSessionOwner {
  public let session: WebSocketSession
  /// The subprotocol that the server has chosen.
  public let chosen: String?
  /// Gets each message; its bytes live until it returns.
  public var received: (MessageKind, UnsafeRawBufferPointer) -> Void = { _, _ in }
  /// How it has ended, once it has.
  public private(set) var ending: WebSocketEnding?
  private let interruption: Int32
  private let clock: SessionClock
  private let begin = monotonicNanoseconds()
  private let room: UnsafeMutableRawBufferPointer
  /// What came behind the answer's head at once.
  private var rest: [UInt8]

  /// Milliseconds that the handshake may take.
  private static let patience: Int32 = 10_000

  /// Dials, and asks for a WebSocket.
  ///
  /// - Parameters:
  ///   - url: where it is.
  ///   - protocols: subprotocols that this client would speak.
  ///   - limits: what it may cost.
  ///   - answers: whether `received` answers what comes.
  ///   - interruption: a descriptor that ends all waiting when it becomes readable; -1 for none.
  /// - Throws: why there is none.
  public init(
    _ url: WebSocketURL, protocols: [String] = [], limits: SessionLimits = SessionLimits(),
    answers: Bool = false, interruption: Int32 = -1
  ) throws(WebSocketFailure) {
    self.interruption = interruption
    let socket: Descriptor
    do throws(SystemCallError) {
      socket = try Descriptor.connected(to: url.address, patience: Self.patience, interruption: interruption)
    } catch {
      let advice = error.errno.rawValue == ECONNREFUSED ? "; no server listens there" : ""
      throw WebSocketFailure("\(error)\(advice)", isInterruption: error.errno.rawValue == EINTR)
    }
    room = .allocate(byteCount: 128 * 1024, alignment: 16)
    clock = SessionClock()
    let handshake = ClientHandshake(url, protocols: protocols)
    do throws(WebSocketFailure) {
      (chosen, rest) = try handshake.perform(
        on: socket.number, patience: Self.patience, interruption: interruption)
    } catch {
      room.deallocate()
      throw error
    }
    session = WebSocketSession(socket, .client, limits: limits, clock: clock, answers: answers)
    session.owner = self
  }

  deinit { room.deallocate() }

  /// What there is to wait for: the socket, and the interruption.
  public var awaited: [pollfd] {
    let interest = session.interest
    var events: Int32 = interest.contains(.readable) ? POLLIN : 0
    if interest.contains(.writable) { events |= POLLOUT }
    return [
      pollfd(fd: session.number, events: Int16(events), revents: 0),
      pollfd(fd: interruption, events: Int16(POLLIN), revents: 0),
    ]
  }

  /// Waits for at most so many milliseconds, -1 for as long as it takes, and does what there is to do.
  ///
  /// - Throws: an interruption, and why there is no waiting.
  public func wait(_ milliseconds: Int32 = -1) throws(WebSocketFailure) {
    if !rest.isEmpty { return work() }
    var entries = awaited
    // The session looks at the time itself.
    let most: Int32 = milliseconds < 0 ? 500 : min(milliseconds, 500)
    let count = poll(&entries, 2, most)
    if count > 0, entries[1].revents != 0 { throw WebSocketFailure("interrupted", isInterruption: true) }
    work()
  }

  /// Sends and reads what there is, without waiting, and looks at the time.
  public func work() {
    clock.now = Int(clamping: (monotonicNanoseconds() &- begin) / 1_000_000)
    if !rest.isEmpty {
      var bytes = rest
      rest = []
      bytes.withUnsafeMutableBytes { session.take($0) }
    }
    session.flush()
    if session.interest.contains(.readable) { session.receive(into: room) }
    session.sweep()
  }

  public func received(_ kind: MessageKind, _ bytes: UnsafeRawBufferPointer, on session: WebSocketSession) {
    received(kind, bytes)
  }

  public func ended(_ session: WebSocketSession, _ ending: WebSocketEnding) { self.ending = ending }
}
