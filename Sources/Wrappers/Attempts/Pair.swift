import Foundation

/// A connection to try something on: both ends of it are in this program, and raw.
struct Pair {
  let listener: Int32
  let client: Int32
  let server: Int32

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  init() throws {
    listener = try Pair.listen()
    client = try Pair.dial(listener)
    server = accept(listener, nil, nil)
    guard server >= 0 else { throw Failure(description: "accept: \(Pair.reason())") }
  }

  static func reason(_ number: Int32 = errno) -> String { String(cString: strerror(number)) }

  static func listen() throws -> Int32 {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let bound = withUnsafeBytes(of: &address) {
      bind(listener, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
    }
    guard bound == 0, Glibc.listen(listener, SOMAXCONN) == 0 else {
      throw Failure(description: "bind, listen: \(reason())")
    }
    return listener
  }

  /// Dials the address that a listening socket has, by way of the loopback interface.
  static func dial(_ listener: Int32) throws -> Int32 {
    var address = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    let dialled = withUnsafeMutableBytes(of: &address) { bytes in
      let pointer = bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self)
      return getsockname(listener, pointer, &size) == 0 ? connect(client, pointer, size) : -1
    }
    guard dialled == 0 else { throw Failure(description: "connect: \(reason())") }
    return client
  }

  /// The client goes with a RST instead of a FIN. See: socket(7), SO_LINGER
  func reset() {
    var option = linger(l_onoff: 1, l_linger: 0)
    setsockopt(client, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    close(client)
  }

  /// The descriptors of this program that lead to sockets, as the kernel has them.
  static func sockets() -> Set<Int32> {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
    return Set(
      names.compactMap { Int32($0) }.filter {
        let link = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")
        return link?.hasPrefix("socket:") ?? false
      })
  }

  /// Whether a descriptor leads to the other end of this connection.
  static func isPeer(_ number: Int32, of client: Int32) -> Bool {
    var (own, peer) = (sockaddr_in(), sockaddr_in())
    var (ownSize, peerSize) = (socklen_t(16), socklen_t(16))
    let ask = { (address: UnsafeMutableRawBufferPointer) in
      address.baseAddress?.assumingMemoryBound(to: sockaddr.self)
    }
    let isKnown =
      withUnsafeMutableBytes(of: &own) { getsockname(client, ask($0), &ownSize) == 0 }
      && withUnsafeMutableBytes(of: &peer) { getpeername(number, ask($0), &peerSize) == 0 }
    return isKnown && own.sin_port == peer.sin_port
  }

  /// Looks again and again, while the main run loop runs, until it is so or the time is over.
  static func wait(_ seconds: Double = 1, until isSo: () -> Bool) -> Bool {
    let end = Date() + seconds
    while !isSo(), Date() < end { _ = RunLoop.main.run(mode: .default, before: Date() + 0.01) }
    return isSo()
  }
}
