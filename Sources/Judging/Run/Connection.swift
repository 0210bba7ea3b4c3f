import CLinux
import Glibc
import SystemCalls

/// A connection between the judge and the program, seen from the judge's side.
final class Connection {
  enum Outcome {
    case bytes([UInt8])
    case end
    case reset
    /// Nothing came until the deadline.
    case nothing
  }

  let name: String
  private(set) var descriptor: Int32
  /// This end's address, and the program's.
  let own: SocketAddress
  let peer: SocketAddress
  /// What has come and nobody has looked at.
  private var kept: [UInt8] = []
  /// The cookie of the program's end, where the kernel tells it.
  var remoteCookie: UInt64?

  /// Takes over a connected socket.
  init?(name: String, descriptor: Int32) {
    self.name = name
    self.descriptor = descriptor
    guard let own = Self.address(descriptor, getsockname), let peer = Self.address(descriptor, getpeername)
    else {
      return nil
    }
    self.own = own
    self.peer = peer
    // A piece is to go out when it is sent.
    var on: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
  }

  deinit { if descriptor >= 0 { Glibc.close(descriptor) } }

  private static func address(
    _ descriptor: Int32,
    _ call: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
  ) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(descriptor, $0, &length) }
    }
    guard result == 0 else { return nil }
    return withUnsafeBytes(of: &storage) { SocketAddress(bytes: $0.prefix(Int(length))) }
  }

  /// As many bytes as the kernel takes now. Throws what send(2) failed with; EAGAIN is none.
  func send(_ bytes: ArraySlice<UInt8>) throws(SystemCallError) -> Int {
    let count = bytes.withUnsafeBytes {
      Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
    }
    if count >= 0 { return count }
    let failure = ErrorNumber.last
    if [EAGAIN, EINTR].contains(failure.rawValue) { return 0 }
    throw SystemCallError(call: "send", errno: failure)
  }

  /// What comes next, at most so many bytes, looked for once.
  func look(limit: Int) -> Outcome {
    if !kept.isEmpty {
      let bytes = Array(kept.prefix(limit))
      kept.removeFirst(bytes.count)
      return .bytes(bytes)
    }
    var buffer = [UInt8](repeating: 0, count: max(1, min(limit, 256 << 10)))
    let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    if count > 0 {
      return .bytes(Array(buffer.prefix(count)))
    }
    if count == 0 { return .end }
    return [EAGAIN, EINTR].contains(ErrorNumber.last.rawValue) ? .nothing : .reset
  }

  /// Takes in what is there, for a later `look`. Not without end: who sends more than this is not to fill the judge's memory.
  func takeIn() {
    guard kept.count < 64 << 20 else { return }
    var buffer = [UInt8](repeating: 0, count: 256 << 10)
    let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    guard count > 0 else { return }
    kept += buffer.prefix(count)
  }

  /// Bytes that the program's kernel has not acknowledged.
  var unacknowledged: Int32 {
    var bytes: Int32 = 0
    return clinux_ioctl(descriptor, CLINUX_SIOCOUTQ, &bytes) == 0 ? bytes : 0
  }

  /// Waits for something to come, or for room, for a moment.
  func wait(for events: Int32, milliseconds: Int32) {
    var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    poll(&entry, 1, milliseconds)
  }

  func shutDown() { shutdown(descriptor, Int32(SHUT_WR)) }

  func reset() {
    var option = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    close()
  }

  func close() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }
}
