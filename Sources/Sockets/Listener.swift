import CLinux
import Glibc
import SystemCalls

/// A limit on connections, which several listeners may share.
public protocol ConnectionLimit: AnyObject, Sendable {
  /// Takes a place for one connection; false where there is none.
  func take() -> Bool
  /// Gives a place back.
  func giveBack()
}

/// The limit of a server that has one thread.
public final class ThreadLimit: ConnectionLimit, @unchecked Sendable {
  // One thread only has it.
  private var left: Int
  /// Is told when somebody has to wait.
  public var isReached: () -> Void = {}

  public init(_ most: Int) { left = most }

  public func take() -> Bool {
    if left <= 0 {
      isReached()
      return false
    }
    left -= 1
    return true
  }

  public func giveBack() { left += 1 }
}

/// A listening socket on a loop.
public final class Listener: EventHandler {
  private let socket: Descriptor
  private let loop: EventLoop
  private let limit: (any ConnectionLimit)?
  private let accepted: (consuming Descriptor, SocketAddress?) -> Void
  private var rest: LoopTimer?
  private var isResting = false
  /// What is to be done when it has accepted the last that waits.
  private var atItsEnd: (() -> Void)?
  /// Where it listens: with the port that the kernel chose, where 0 was asked for.
  public let address: SocketAddress
  /// Is told why a connection could not be taken: EMFILE, ENFILE, ENOBUFS, ENOMEM. It waits in the queue, and is tried again.
  public var onShortage: (ErrorNumber) -> Void = { _ in }

  /// At most so many are accepted in one turn: those that are connected have to get theirs.
  private static let batch = 64
  /// How long it looks away where it cannot accept, in milliseconds. A listener with somebody in its queue is always ready.
  private static let restTime = 50

  /// Binds, listens and watches.
  ///
  /// - Parameters:
  ///   - address: with port 0 the kernel chooses one.
  ///   - backlog: so many connections may wait; net.core.somaxconn caps it.
  ///   - sharesPort: SO_REUSEPORT, so that each thread may have a listener on the same port.
  ///   - limit: is asked for a place before each accept. The place is its taker's to give back.
  ///   - loop: what watches it.
  ///   - accepted: gets each connection, non-blocking, close-on-exec and with TCP_NODELAY.
  /// - Throws: what `socket`, `bind` or `listen` failed with: EADDRINUSE, EACCES, EADDRNOTAVAIL …
  public init(
    at address: SocketAddress, backlog: Int32 = 4096, sharesPort: Bool = false,
    limit: (any ConnectionLimit)? = nil,
    on loop: EventLoop, _ accepted: @escaping (consuming Descriptor, SocketAddress?) -> Void
  ) throws(SystemCallError) {
    socket = try Self.bound(to: address, sharesPort: sharesPort)
    let number = socket.number
    try systemCall("listen", "\(address)") { listen(number, backlog) }
    self.address = SocketAddress.local(of: number) ?? address
    self.loop = loop
    self.limit = limit
    self.accepted = accepted
    try loop.add(number, for: .readable, self)
    // Made now: when it is needed there may be no descriptor left for it.
    rest = try LoopTimer(on: loop) { [unowned self] _ in resume() }
  }

  /// Whether a listener of one's own could have the address: to be asked before sharing it, for sharing asks nobody.
  ///
  /// - Throws: EADDRINUSE, EACCES, EADDRNOTAVAIL …
  public static func check(_ address: SocketAddress) throws(SystemCallError) {
    _ = try bound(to: address, sharesPort: false)
  }

  private static func bound(to address: SocketAddress, sharesPort: Bool) throws(SystemCallError) -> Descriptor
  {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let socket = Descriptor(owning: try systemCall("socket") { Glibc.socket(address.family, type, 0) })
    let number = socket.number
    func set(_ level: Int32, _ option: Int32, _ name: String) throws(SystemCallError) {
      var on: Int32 = 1
      try systemCall("setsockopt", name) {
        setsockopt(number, level, option, &on, socklen_t(MemoryLayout<Int32>.size))
      }
    }
    if address.family != AF_UNIX {
      // What is left of an earlier run's connections, in TIME_WAIT, does not hold the port back.
      try set(SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR")
      if sharesPort { try set(SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT") }
      // What it accepts inherits this.
      try set(Int32(IPPROTO_TCP), TCP_NODELAY, "TCP_NODELAY")
    }
    try systemCall("bind", "\(address)") { address.withSockaddr { bind(number, $0, $1) } }
    return socket
  }

  public func ready(_ readiness: Readiness) {
    for _ in 0..<Self.batch {
      switch acceptOne() {
      case .next: break
      case .noRoom: return
      case .nobody:
        if let end = atItsEnd {
          close()
          end()
        }
        return
      }
    }
    // Whether that was the last one, nothing would report.
    if atItsEnd != nil { takeRest() }
  }

  /// Lets nobody else into the queue, accepts those that wait in it, as soon as there is room for them, and closes the socket.
  ///
  /// - Parameter end: is called once that is done.
  public func finish(then end: @escaping () -> Void) {
    atItsEnd = end
    // The kernel turns others away, for as long as somebody waits. See: listen(2)
    listen(socket.number, 0)
    // With nobody in its queue it would not be reported.
    if isResting { resume() } else { ready(.readable) }
  }

  /// Looks again, where it has looked away: there may be room now.
  public func resume() {
    guard isResting else { return }
    isResting = false
    rest?.stop()
    try? loop.change(socket.number, to: .readable)
    if atItsEnd != nil { ready(.readable) }
  }

  private enum Outcome {
    /// There may be more.
    case next
    case nobody, noRoom
  }

  private func acceptOne() -> Outcome {
    guard limit?.take() ?? true else {
      takeRest()
      return .noRoom
    }
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let connection = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        accept4(socket.number, $0, &length, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
      }
    }
    if connection >= 0 {
      let peer = withUnsafeBytes(of: &storage) { SocketAddress(bytes: $0.prefix(Int(length))) }
      accepted(Descriptor(owning: connection), peer)
      return .next
    }
    let failure = ErrorNumber.last
    limit?.giveBack()
    switch failure.rawValue {
    case EAGAIN: return .nobody
    // A connection that failed while it waited is the peer's affair, and the network's. See: accept(2), "Error handling"
    case EINTR, ECONNABORTED, EPERM, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
      EOPNOTSUPP,
      ENETUNREACH, ETIMEDOUT:
      return .next
    // EMFILE, ENFILE, ENOBUFS, ENOMEM: there is no room. Whatever else it may be, to try again at once is of no use.
    default:
      onShortage(failure)
      takeRest()
      return .noRoom
    }
  }

  /// Looks away for a while. Clients wait in the accept queue meanwhile.
  private func takeRest() {
    guard !isResting, (try? loop.change(socket.number, to: [])) != nil else { return }
    isResting = true
    rest?.start(milliseconds: Self.restTime)
  }

  /// Watches no more. The socket is closed with its last reference: connections that nobody has accepted are reset.
  public func close() {
    rest?.close()
    rest = nil
    atItsEnd = nil
    loop.forget(socket.number)
  }
}

extension SystemCallError {
  /// What to do about it where listening has failed, to be put behind it; empty where that is not known.
  public var adviceOnListening: String {
    guard ["bind", "listen"].contains(call) else { return "" }
    return switch errno.rawValue {
    case EADDRINUSE: "; 'ss -tlnp' shows who has that port, and --port 0 lets the kernel choose another"
    case EACCES: "; a port below net.ipv4.ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE"
    case EADDRNOTAVAIL: "; no interface of this machine has that address"
    case EINVAL: "; a link-local address needs its interface, as in fe80::1%eth0"
    default: ""
    }
  }
}

extension SocketAddress {
  /// The address that a socket is bound to. See: getsockname(2)
  public static func local(of descriptor: Int32) -> SocketAddress? { named(descriptor, getsockname) }

  /// The address that a socket is connected to. See: getpeername(2)
  public static func remote(of descriptor: Int32) -> SocketAddress? { named(descriptor, getpeername) }

  private static func named(
    _ descriptor: Int32,
    _ call: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
  ) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(descriptor, $0, &length) }
    }
    return result == 0 ? withUnsafeBytes(of: &storage) { SocketAddress(bytes: $0.prefix(Int(length))) } : nil
  }
}
