import CommandLineTool
import Glibc
import SystemCalls

/// A port that nobody has, for one check.
struct JudgesPort {
  let number: UInt16

  /// - Throws: where there is none.
  init() throws(Complaint) {
    for _ in 0..<200 {
      guard let (descriptor, port) = Self.bound(to: 0) else { break }
      close(descriptor)
      // Somebody who forgets the byte order is to be able to bind, so that it shows; and not by chance to be right.
      if port.byteSwapped >= 1024, port.byteSwapped != port {
        number = port
        return
      }
    }
    throw Complaint("the kernel gives no port: \(ErrorNumber.last)")
  }

  /// Listens on it.
  func listen() throws(Complaint) -> Int32 {
    guard let (descriptor, _) = Self.bound(to: number) else {
      throw Complaint("port \(number) was taken by another program meanwhile: \(ErrorNumber.last). Try again")
    }
    guard Glibc.listen(descriptor, 128) == 0 else { throw Complaint("listen: \(ErrorNumber.last)") }
    return descriptor
  }

  private static func bound(to port: UInt16) -> (descriptor: Int32, port: UInt16)? {
    let descriptor = socket(
      AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    var on: Int32 = 1
    if port != 0 { setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    address.sin_port = port.bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
      }
    }
    guard isBound else {
      close(descriptor)
      return nil
    }
    return (descriptor, UInt16(bigEndian: address.sin_port))
  }
}
