import CLinux
import Glibc
import Sockets
import SystemCalls

/// Who is told what comes over a session.
public protocol WebSocketSessionOwner: AnyObject {
  /// A message, whose bytes live until this returns.
  func received(_ kind: MessageKind, _ bytes: UnsafeRawBufferPointer, on session: WebSocketSession)
  /// It is over: once, and the last that is heard of it. The socket is to be forgotten; it is closed with the session.
  func ended(_ session: WebSocketSession, _ ending: WebSocketEnding)
}

/// How a session has ended.
public struct WebSocketEnding: Sendable {
  /// What the peer has said in its Close; nil where it said none, or its Close has no code.
  public let code: CloseCode?
  /// The reason in the peer's Close.
  public let reason: String
  /// Why it was not closed as RFC 6455 wants it: a violation, a loss, somebody who does not read. Nil where it was.
  public let failure: String?
  /// What the peer was told, where this side has closed it.
  public let told: CloseCode?

  /// "1000 (normal)", "1002 (protocol error): a frame is not masked …"
  public var description: String {
    if let failure {
      // What was said in peace is not why it failed.
      let why = told == .normal || told == .goingAway ? nil : told
      return (why.map { "\($0): " } ?? "") + failure
    }
    return (code.map { "\($0)" } ?? "a Close without a code") + (reason.isEmpty ? "" : ": \(reason)")
  }
}

/// What a session may cost, and how long it waits. Times are milliseconds.
public struct SessionLimits: Sendable {
  /// Bytes that a message of the peer's may have.
  public var message = 16 << 20
  /// Bytes that may wait for a peer, and a message that has come on top of them: with more it is closed.
  public var backlog = 64 << 20
  /// How long the peer may take for its part of the closing, and for taking something of what is still to be sent.
  public var closing = 5000
  /// How long bytes may wait of which the peer takes none.
  public var stall = 20_000
  /// A peer that was silent for so long gets a Ping, and after three times that it is given up; 0 for never.
  public var silence = 30_000

  public init() {}
}

/// Time as its owner counts it, in milliseconds, for all sessions of a thread.
public final class SessionClock {
  public var now = 0
  public init() {}
}

/// One end of an open WebSocket on a socket that never waits: frames in, frames out, and the closing.
///
/// It knows no loop: its owner asks what it waits for, calls `receive` and `flush` when the socket is ready, and `sweep` now and then.
///
/// See: RFC 6455, sections 5 to 7
public final class WebSocketSession {
  private enum Phase {
    case open
    /// A Close was sent, and the peer's is waited for.
    case closing
    /// Nothing that comes means anything any more: the end of the connection is waited for.
    case leaving
    case ended
  }

  private let socket: Descriptor
  public let role: WebSocketRole
  public let limits: SessionLimits
  private let clock: SessionClock
  /// Whether its owner answers what the peer sends.
  private let answers: Bool
  public weak var owner: (any WebSocketSessionOwner)?
  private var reader: WebSocketReader
  private var outbox: WebSocketOutbox
  private var phase = Phase.open
  /// This side's half is to be closed when all is sent.
  private var endsSending = false
  private var hasEndedSending = false
  private var told: CloseCode?
  private var heard: (code: CloseCode?, reason: String)?
  private var failure: String?
  private var deadline = Int.max
  private var lastHeard: Int
  /// When the peer has taken something last, and how much it had not acknowledged then.
  private var lastTaken: Int
  private var unacknowledged = Int.max
  private var lastPing: Int
  /// What has come, and has to wait: the owner does not want it yet, or the answers to what came before wait.
  private var kept: [UInt8] = []
  private var isTaking = false
  private var closing: Int
  /// The peer has sent all it will send.
  private var hasHungUp = false

  /// While this is so, nothing more is handed out, nor read.
  public var isPaused = false

  /// So many bytes may wait before nothing more is read from the peer whose messages they answer.
  private static let highWater = 64 * 1024

  /// - Parameters:
  ///   - socket: connected and non-blocking; the handshake is done, or this side's last words of it are `head`.
  ///   - role: of this side.
  ///   - limits: what it may cost.
  ///   - clock: its owner's, which is looked at by `sweep`.
  ///   - answers: whether its owner answers messages, so that a peer that does not take the answers has to wait with the next ones. Two
  ///     ends that both did so might wait for each other.
  ///   - head: what is to be sent before the first frame.
  public init(
    _ socket: consuming Descriptor, _ role: WebSocketRole, limits: SessionLimits, clock: SessionClock,
    answers: Bool = true, head: [UInt8] = []
  ) {
    self.socket = socket
    self.role = role
    self.limits = limits
    self.clock = clock
    self.answers = answers
    closing = limits.closing
    reader = WebSocketReader(role, limit: limits.message)
    outbox = WebSocketOutbox(role)
    (lastHeard, lastTaken, lastPing) = (clock.now, clock.now, clock.now)
    if !head.isEmpty { outbox.add(raw: head) }
  }

  /// The socket's number: for waiting, and for nothing else.
  public var number: Int32 { socket.number }
  /// Whether messages can be sent.
  public var isOpen: Bool { phase == .open }
  public var hasEnded: Bool { phase == .ended }
  /// Bytes of memory that it holds for the peer, and of the peer's. Frames that are others', too, are not counted.
  public var held: Int { outbox.held + reader.held + kept.count }
  /// Bytes that the kernel has taken for the peer.
  public private(set) var taken = 0
  /// Bytes that the peer has not taken.
  public var waiting: Int { outbox.count }

  /// What its owner is to wait for.
  public var interest: Readiness {
    var interest: Readiness = []
    // What comes after the end is thrown away at once.
    if phase == .leaving ? !hasHungUp : mayTake && kept.isEmpty { interest.insert(.readable) }
    // What was kept is taken in the next turn: a socket is nearly always writable.
    if !outbox.isEmpty || mayTakeKept { interest.insert(.writable) }
    return interest
  }

  /// Whether what comes may be handed out. A peer that does not take the answers has to wait with the next question.
  private var mayTake: Bool {
    (phase == .open || phase == .closing) && !isPaused && (!answers || outbox.count < Self.highWater)
  }

  private var mayTakeKept: Bool { !kept.isEmpty && mayTake }

  // --- sending ---

  /// Sends a message, or keeps it until there is room. A peer that lets too much wait is closed.
  ///
  /// - Returns: false where that cannot be any more.
  @discardableResult
  public func send(_ kind: MessageKind, _ bytes: UnsafeRawBufferPointer) -> Bool {
    guard mayQueue() else { return false }
    outbox.add(kind == .text ? .text : .binary, bytes)
    return true
  }

  /// Sends a text message.
  @discardableResult
  public func send(_ text: String) -> Bool {
    var text = text
    return text.withUTF8 { send(.text, UnsafeRawBufferPointer($0)) }
  }

  /// Sends a frame that was made for many, as a server does.
  @discardableResult
  public func send(_ frame: EncodedFrame) -> Bool {
    guard mayQueue() else { return false }
    outbox.add(frame)
    return true
  }

  private func mayQueue() -> Bool {
    guard phase == .open else { return false }
    if outbox.isEmpty { lastTaken = clock.now }
    if outbox.count > limits.backlog { sendOut() }
    if outbox.count > limits.backlog {
      fail(.policyViolation, "it does not read what it is sent: \(outbox.count) bytes wait")
      return false
    }
    return true
  }

  /// Hands to the kernel what waits, and takes what had to wait for that. To be called after sending, and when the socket is
  /// writable.
  public func flush() {
    sendOut()
    while !isTaking, mayTakeKept {
      var bytes = kept
      kept = []
      bytes.withUnsafeMutableBytes { process($0) }
    }
  }

  /// Hands to the kernel what waits, and no more.
  public func sendOut() {
    while !outbox.isEmpty, phase != .ended {
      var failure = ErrorNumber(0)
      let (count, offered) = outbox.send { bytes in
        let count = Glibc.send(socket.number, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        if count < 0 { failure = .last }
        return count
      }
      if count < 0 {
        switch failure.rawValue {
        case EINTR: continue
        case EAGAIN: return
        default: return lose("send: \(failure)")
        }
      }
      lastTaken = clock.now
      taken &+= count
      if count < offered { return }
    }
    if hasHungUp, phase == .leaving { return end() }
    if endsSending, !hasEndedSending, phase != .ended {
      hasEndedSending = true
      if shutdown(socket.number, Int32(SHUT_WR)) != 0 { lose("shutdown: \(ErrorNumber.last)") }
    }
  }

  // --- receiving ---

  /// Reads once, and tells the owner what has come.
  ///
  /// - Parameter room: where to; its bytes are nobody's afterwards.
  public func receive(into room: UnsafeMutableRawBufferPointer) {
    guard phase != .ended, !hasHungUp else { return }
    let count = recv(socket.number, room.baseAddress, room.count, 0)
    if count > 0 {
      take(UnsafeMutableRawBufferPointer(rebasing: room[..<count]))
    } else if count == 0 {
      hungUp()
    } else {
      let failure = ErrorNumber.last
      if ![EAGAIN, EINTR].contains(failure.rawValue) { lose("recv: \(failure)") }
    }
  }

  /// Takes bytes that have come already.
  public func take(_ bytes: UnsafeMutableRawBufferPointer) {
    lastHeard = clock.now
    // Behind the peer's Close, and after what it should not have sent, nothing means anything.
    guard phase == .open || phase == .closing else { return }
    guard kept.isEmpty, !isTaking else {
      kept += bytes
      return
    }
    process(bytes)
    flush()
  }

  private func process(_ bytes: UnsafeMutableRawBufferPointer) {
    isTaking = true
    var rest = bytes
    do throws(WebSocketViolation) {
      while mayTake, let event = try reader.next(from: &rest) {
        hear(event)
        // What is answered is not to become more than what can be sent.
        if outbox.count >= Self.highWater { sendOut() }
      }
      // It may have stopped behind a message of which nobody needs anything any more.
      reader.letGo()
      // Where it had to stop, between two frames.
      if phase == .open || phase == .closing, !rest.isEmpty { kept = Array(rest) }
    } catch { fail(error.code, error.description) }
    isTaking = false
    sendOut()
  }

  @inline(__always)
  private func hear(_ event: WebSocketEvent) {
    switch event {
    // What crosses this side's Close is handed out, too; it cannot be answered any more.
    case .message(let kind, let bytes): owner?.received(kind, bytes, on: self)
    case .ping(let payload):
      if mayQueue() { outbox.add(.pong, payload) }
    case .pong: break
    case .close(let code, let reason):
      heard = (code, String(decoding: reason, as: UTF8.self))
      if phase == .open {
        told = code
        outbox.addClose(code, "")
      }
      leave()
    }
  }

  /// The peer has sent all it will send.
  private func hungUp() {
    hasHungUp = true
    if phase == .leaving {
      // It may still read: what waits is sent first.
      if outbox.isEmpty { end() }
      return
    }
    lose(
      phase == .closing
        ? "the peer has closed the connection without a Close" : "the connection has ended without a Close")
  }

  // --- the end ---

  /// Begins the closing handshake: nothing more is sent, and the peer's Close is waited for.
  ///
  /// - Parameters:
  ///   - code: why.
  ///   - reason: the same for people.
  ///   - patience: milliseconds that the peer has for its Close; its limits' unless given.
  public func close(_ code: CloseCode, _ reason: String = "", within patience: Int? = nil) {
    guard phase == .open else { return }
    phase = .closing
    isPaused = false
    told = code
    closing = patience ?? limits.closing
    deadline = clock.now + closing
    outbox.addClose(code, reason)
    flush()
  }

  /// Fails the connection: tells the peer why, as well as it can be told, and hears nothing more. See: RFC 6455, section 7.1.7
  public func fail(_ code: CloseCode, _ reason: String) {
    guard phase == .open || phase == .closing else { return }
    failure = reason
    if phase == .open {
      told = code
      // What it does not read is worth less than the reason.
      if outbox.count > Self.highWater || code == .policyViolation { _ = outbox.cut() }
      outbox.addClose(code, reason)
    }
    reader.drop()
    leave()
    sendOut()
  }

  /// Waits for the end of the connection. A close at once would answer what is still on its way with RST, which may destroy what
  /// the peer has not read yet.
  private func leave() {
    phase = .leaving
    kept = []
    deadline = clock.now + closing
    // The server closes first, so that TIME_WAIT is its affair; a client waits for that, unless it has to go on its own account.
    endsSending = role == .server || failure != nil
  }

  /// Ends it at once, for the connection is of no use any more.
  public func lose(_ reason: String) {
    // Once both have said Close, all is said: a reset behind it only says that the other side was faster to close.
    if heard == nil { failure = failure ?? reason }
    end()
  }

  private func end() {
    guard phase != .ended else { return }
    phase = .ended
    if !outbox.isEmpty, failure == nil { failure = "it has not taken the last \(outbox.count) bytes" }
    owner?.ended(
      self, WebSocketEnding(code: heard?.code, reason: heard?.reason ?? "", failure: failure, told: told))
  }

  /// Looks at the time: at deadlines, at a peer that does not read, at one that is silent.
  public func sweep() {
    let now = clock.now
    noteProgress()
    // While nothing is read from it, its silence is none of its own.
    if !interest.contains(.readable) { lastHeard = now }
    switch phase {
    case .ended: return
    case .closing, .leaving:
      // As long as it takes something it is on its way.
      guard now >= deadline, outbox.isEmpty || now - lastTaken >= closing else { return }
      // With its Close said and heard nothing is missing but the end of the connection.
      if heard == nil { failure = failure ?? "no Close came in \(closing / 1000) seconds" }
      end()
    case .open:
      if !outbox.isEmpty, now - lastTaken >= limits.stall {
        return fail(.policyViolation, "it has read nothing for \(limits.stall / 1000) seconds")
      }
      guard limits.silence > 0, now - lastHeard >= limits.silence else { return }
      if now - lastHeard >= 3 * limits.silence {
        return lose(
          "it has been silent for \(3 * limits.silence / 1000) seconds, and has not answered a Ping")
      }
      if now - lastPing >= limits.silence, outbox.isEmpty {
        lastPing = now
        outbox.add(.ping, UnsafeRawBufferPointer(start: nil, count: 0))
        flush()
      }
    }
  }

  /// The socket is reported to be writable only when much of its buffer is free; that the peer takes something shows sooner.
  /// See: tcp(7), SIOCOUTQ
  private func noteProgress() {
    guard !outbox.isEmpty else {
      unacknowledged = .max
      return
    }
    var queued: Int32 = 0
    guard clinux_ioctl(socket.number, UInt(TIOCOUTQ), &queued) == 0 else { return }
    if Int(queued) < unacknowledged { lastTaken = clock.now }
    unacknowledged = Int(queued)
  }
}
