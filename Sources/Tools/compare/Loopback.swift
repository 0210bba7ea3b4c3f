import CLinux
import Glibc
import SystemCalls

// The few raw calls that the other sides of the jobs share.

/// A connected, blocking socket without Nagle's algorithm.
func connectedSocket(to port: UInt16) throws(SystemCallError) -> Int32 {
  let connection = try systemCall("socket") {
    socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  }
  var address = loopback(port)
  do throws(SystemCallError) {
    try systemCall("connect", "127.0.0.1:\(port)") { withAddress(&address) { connect(connection, $0, $1) } }
  } catch {
    close(connection)
    throw error
  }
  var on: Int32 = 1
  setsockopt(connection, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
  return connection
}

func loopback(_ port: UInt16) -> sockaddr_in {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  return address
}

func withAddress<Result>(
  _ address: inout sockaddr_in, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
  withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      call($0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
}
