import Foundation

private final class Delegate: NSObject, PortDelegate {
  var messages = 0
  func handle(_ message: PortMessage) { messages += 1 }
}

/// SocketPort, in a run loop, where it is meant to be.
let ports = [
  Attempt(
    name: "SocketPort-receive",
    promise: "a SocketPort in a run loop: the delegate gets what a client sends"
  ) { _ in
    guard let port = SocketPort(tcpPort: 0) else { return "no port" }
    let delegate = Delegate()
    port.setDelegate(delegate)
    port.schedule(in: .main, forMode: .default)
    let before = Pair.sockets()
    let client = try Pair.dial(port.socket)
    write(client, "hello, here is a client", 23)
    var left: Int32 = -1
    let wasRead = Pair.wait {
      for number in Pair.sockets() where Pair.isPeer(number, of: client) {
        _ = ioctl(number, UInt(FIONREAD), &left)
      }
      return left == 0 || delegate.messages > 0
    }
    let new = withExtendedLifetime(port) { Pair.sockets().subtracting(before).subtracting([client]).sorted() }
    return "it accepted as descriptor \(new) and \(wasRead ? "read" : "did not read") what came; "
      + "the delegate got \(delegate.messages) messages"
  },
  Attempt(
    name: "SocketPort-invalidate",
    promise: "invalidate() on a SocketPort that was added to a run loop: it is closed and removed"
  ) { _ in
    guard let port = SocketPort(tcpPort: 0) else { return "no port" }
    let number = port.socket
    RunLoop.main.add(port, forMode: .default)
    port.invalidate()
    return
      "invalidated; descriptor \(number) is \(Pair.sockets().contains(number) ? "still a socket" : "closed")"
  },
  Attempt(
    name: "SocketPort-taken",
    promise: "SocketPort(tcpPort:) for a port that is taken: nil, and nothing left behind"
  ) { _ in
    guard let first = SocketPort(tcpPort: 0) else { return "no port" }
    let bytes = [UInt8](first.address)
    let before = Pair.sockets()
    let second = withExtendedLifetime(first) { SocketPort(tcpPort: UInt16(bytes[2]) << 8 | UInt16(bytes[3])) }
    let left = Pair.sockets().subtracting(before).sorted()
    return "\(second == nil ? "nil" : "a port"); descriptors left behind: \(left)"
  },
]
