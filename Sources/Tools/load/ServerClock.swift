import Contacts
import Glibc
import Sockets
import SystemCalls

/// What a server's clock says: it counts each Update that was taken.
enum ServerClock {
  /// Dials as a server, waits for the HeartBeat that a link begins with, and leaves.
  ///
  /// - Parameters:
  ///   - address: where it listens.
  ///   - interruption: a descriptor that ends the waiting when it becomes readable.
  /// - Returns: the clock; nil where it has not said within five seconds, for it lets nobody speak as a server, say.
  /// - Throws: where it cannot be dialled.
  static func read(of address: SocketAddress, interruption: Int32) throws -> UInt32? {
    let socket = try Descriptor.connected(to: address, patience: 5000, interruption: interruption)
    var hello = MessageWriter()
    hello.hello(try Hello(.server, name: "load"))
    try writeAll(hello.bytes, to: socket.number)
    var reader = MessageReader(ServerLanguage())
    var bytes = [UInt8](repeating: 0, count: 4096)
    while true {
      var entry = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
      guard poll(&entry, 1, 5000) == 1 else { return nil }
      let count = recv(socket.number, &bytes, bytes.count, 0)
      guard count > 0 else { return nil }
      let clock: UInt32? = try bytes.withUnsafeBytes { all in
        var rest = UnsafeRawBufferPointer(rebasing: all[..<count])
        while let message = try reader.next(from: &rest) {
          if case .heartBeat(_, let clock) = message { return clock }
        }
        return nil
      }
      if let clock { return clock }
    }
  }
}
