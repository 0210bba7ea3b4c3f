import CLinux
import Glibc
import SystemCalls

extension ClientHandshake {
  /// Asks for the WebSocket, and waits for the answer.
  ///
  /// - Parameters:
  ///   - socket: connected, and non-blocking.
  ///   - patience: milliseconds for all of it.
  ///   - interruption: a descriptor that ends the waiting when it becomes readable; -1 for none.
  /// - Returns: the subprotocol that the server has chosen, and what has come behind the answer's head at once.
  /// - Throws: why there is no WebSocket.
  public func perform(on socket: Int32, patience: Int32, interruption: Int32 = -1) throws(WebSocketFailure)
    -> (
      chosen: String?, rest: [UInt8]
    )
  {
    let deadline = monotonicNanoseconds() &+ UInt64(max(0, patience)) * 1_000_000
    func wait(_ event: Int32) throws(WebSocketFailure) {
      let now = monotonicNanoseconds()
      let left = now >= deadline ? 0 : Int32(clamping: (deadline - now) / 1_000_000 + 1)
      var entries = [
        pollfd(fd: socket, events: Int16(event), revents: 0),
        pollfd(fd: interruption, events: Int16(POLLIN), revents: 0),
      ]
      let count = poll(&entries, 2, left)
      if count == 0 {
        throw WebSocketFailure(
          "\(url): there was no answer in \(patience / 1000) seconds; is that a WebSocket server?")
      }
      if count > 0, entries[0].revents == 0 { throw WebSocketFailure("interrupted", isInterruption: true) }
    }
    func mayGoOn(_ call: String, _ event: Int32) throws(WebSocketFailure) {
      let failure = ErrorNumber.last
      guard [EAGAIN, EINTR].contains(failure.rawValue) else {
        throw WebSocketFailure("\(call) \(url): \(failure)")
      }
      try wait(event)
    }
    let request = request.bytes
    var sent = 0
    while sent < request.count {
      let count = request.withUnsafeBytes { bytes in
        send(socket, bytes.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
      }
      if count < 0 { try mayGoOn("send", POLLOUT) } else { sent += count }
    }
    var reader = HTTPHeadReader(.answers)
    var room = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = recv(socket, &room, room.count, 0)
      if count < 0 {
        try mayGoOn("recv", POLLIN)
        continue
      }
      if count == 0 {
        throw WebSocketFailure("\(url): the server has closed the connection without an answer")
      }
      let result = room.withUnsafeMutableBytes { bytes in
        Result { () throws(HTTPProblem) -> (String?, [UInt8])? in
          var bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[..<count])
          guard let head = try reader.next(from: &bytes) else { return nil }
          return (try check(head), Array(bytes))
        }
      }
      do throws(HTTPProblem) {
        if let answer = try result.get() { return answer }
      } catch {
        // The likeliest mistake: the server is there, and has a page.
        let isElsewhere = [200, 404].contains(error.status) && url.target.prefix { $0 != "?" } != "/ws"
        throw WebSocketFailure(
          "\(url): \(error)" + (isElsewhere ? "; a websocket-server has its WebSocket at /ws" : ""))
      }
    }
  }
}
