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
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let socket = Descriptor(owning: try systemCall("socket") { Glibc.socket(address.family, type, 0) })
    let number = socket.number
    func failed(_ failure: ErrorNumber) -> SystemCallError {
      SystemCallError(call: "connect", asked: "\(address)", errno: failure)
    }
    if address.withSockaddr({ connect(number, $0, $1) }) != 0 {
      let failure = ErrorNumber.last
      // Interrupted, it goes on by itself, too, and is not to be called again. See: connect(2)
      guard [EINPROGRESS, EINTR].contains(failure.rawValue) else { throw failed(failure) }
      var entries = [
        pollfd(fd: number, events: Int16(POLLOUT), revents: 0),
        pollfd(fd: interruption, events: Int16(POLLIN), revents: 0),
      ]
      if try systemCall("poll", "", { poll(&entries, 2, patience ?? -1) }) == 0 {
        throw failed(ErrorNumber(ETIMEDOUT))
      }
      if entries[0].revents == 0 { throw failed(ErrorNumber(EINTR)) }
      var result: Int32 = 0
      var length = socklen_t(MemoryLayout<Int32>.size)
      try systemCall("getsockopt", "SO_ERROR") { getsockopt(number, SOL_SOCKET, SO_ERROR, &result, &length) }
      if result != 0 { throw failed(ErrorNumber(result)) }
    }
    if address.family != AF_UNIX {
      var on: Int32 = 1
      try systemCall("setsockopt", "TCP_NODELAY") {
        setsockopt(number, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
      }
    }
    return socket
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
