import CLinux
import Glibc
import SystemCalls

extension Descriptor {
  /// Dials, and waits until the connection is there. Its socket is non-blocking, close-on-exec, and has TCP_NODELAY.
  ///
  /// - Parameters:
  ///   - address: where somebody listens.
  ///   - patience: milliseconds; nil to wait for as long as the kernel tries.
  ///   - interruption: a descriptor that ends the waiting when it becomes readable, with EINTR.
  /// - Returns: the connected socket.
  /// - Throws: ECONNREFUSED, ETIMEDOUT, ENETUNREACH …, as connect(2) has them.
  public static func connected(
    to address: SocketAddress, patience: Int32? = nil, interruption: Int32 = -1
  ) throws(SystemCallError) -> Descriptor {
    let socket = try dialling(address)
    var entries = [
      pollfd(fd: socket.number, events: Int16(POLLOUT), revents: 0),
      pollfd(fd: interruption, events: Int16(POLLIN), revents: 0),
    ]
    if try systemCall("poll", "", { poll(&entries, 2, patience ?? -1) }) == 0 {
      throw SystemCallError(call: "connect", asked: "\(address)", errno: ErrorNumber(ETIMEDOUT))
    }
    if entries[0].revents == 0 {
      throw SystemCallError(call: "connect", asked: "\(address)", errno: ErrorNumber(EINTR))
    }
    try socket.checkConnected(to: address)
    return socket
  }

  /// Begins to dial: the socket is writable when that is over, one way or the other.
  fileprivate static func dialling(_ address: SocketAddress) throws(SystemCallError) -> Descriptor {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let socket = Descriptor(owning: try systemCall("socket") { Glibc.socket(address.family, type, 0) })
    let number = socket.number
    if address.family != AF_UNIX {
      var on: Int32 = 1
      try systemCall("setsockopt", "TCP_NODELAY") {
        setsockopt(number, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
      }
    }
    if address.withSockaddr({ connect(number, $0, $1) }) != 0 {
      let failure = ErrorNumber.last
      // Interrupted, it goes on by itself, too, and is not to be called again. See: connect(2)
      guard [EINPROGRESS, EINTR].contains(failure.rawValue) else {
        throw SystemCallError(call: "connect", asked: "\(address)", errno: failure)
      }
    }
    return socket
  }

  /// - Throws: why the dialling has failed.
  fileprivate func checkConnected(to address: SocketAddress) throws(SystemCallError) {
    var result: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    let number = number
    try systemCall("getsockopt", "SO_ERROR") { getsockopt(number, SOL_SOCKET, SO_ERROR, &result, &length) }
    if result != 0 {
      throw SystemCallError(call: "connect", asked: "\(address)", errno: ErrorNumber(result))
    }
  }
}

/// Dials on a loop, and keeps nobody waiting.
public final class Dialling: EventHandler {
  private var socket: Descriptor?
  private let address: SocketAddress
  private unowned let loop: EventLoop
  private let connected: (consuming Descriptor) -> Void
  private let failed: (SystemCallError) -> Void

  /// Begins. One of the two is called later, once, unless `close` is called before.
  ///
  /// - Parameters:
  ///   - address: where somebody listens.
  ///   - loop: what watches the socket.
  ///   - connected: gets the socket: non-blocking, close-on-exec, with TCP_NODELAY, and forgotten by the loop.
  ///   - failed: gets the reason: ECONNREFUSED, ETIMEDOUT, ENETUNREACH …
  /// - Throws: where it fails at once.
  public init(
    to address: SocketAddress, on loop: EventLoop, connected: @escaping (consuming Descriptor) -> Void,
    failed: @escaping (SystemCallError) -> Void
  ) throws(SystemCallError) {
    self.address = address
    self.loop = loop
    self.connected = connected
    self.failed = failed
    let socket = try Descriptor.dialling(address)
    let number = socket.number
    self.socket = consume socket
    try loop.add(number, for: .writable, self)
  }

  public func ready(_ readiness: Readiness) {
    guard let socket = socket.take() else { return }
    do throws(SystemCallError) {
      try socket.checkConnected(to: address)
      // Taken out of the kernel's list, too, for its taker adds it anew.
      try loop.remove(socket.number)
    } catch {
      return failed(error)
    }
    connected(socket)
  }

  /// Gives it up.
  public func close() {
    if let socket = socket.take() { loop.forget(socket.number) }
  }
}

/// Allows as many descriptors as this process may have, for each connection is one, and says how many those are.
///
/// See: getrlimit(2), RLIMIT_NOFILE
@discardableResult
public func raiseDescriptorLimit() -> Int {
  var limit = rlimit()
  let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
  guard getrlimit(resource, &limit) == 0 else { return .max }
  limit.rlim_cur = limit.rlim_max
  setrlimit(resource, &limit)
  return Int(clamping: limit.rlim_max)
}
