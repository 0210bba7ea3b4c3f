import CLinux
import Glibc
import KernelState
import SystemCalls

/// What one run of a program took, not followed by anybody.
struct Measurement {
  /// Of a round trip, say: what half of them took at most, and all but one in a hundred, in nanoseconds.
  let median: UInt64
  let slow: UInt64
  /// Of the program, a round trip, in nanoseconds.
  let processorTime: UInt64
  /// How many were timed.
  let count: Int

  static let messageSize = 64
  static let roundTrips = 10_000
  /// Not counted: the processor's caches, and the allocator's, are filled in them.
  static let warmUp = 500
  /// One so slow that the warm-up's number is not reached in the short time makes no more, in nanoseconds.
  static let shortPatience: UInt64 = 500_000_000
  static let patience: UInt64 = 5_000_000_000
  static let requests = 300
  static let starts = 6

  /// What so many are called.
  static func counted(_ count: Int, _ job: Job) -> String {
    let digits = count < 1000 ? "\(count)" : "\(count / 1000),\(String(count % 1000 + 1000).dropFirst())"
    switch job {
    case .open: return "\(digits) starts"
    case .echo: return "\(digits) round trips"
    case .http: return "\(digits) requests"
    }
  }

  private init(_ times: [UInt64], processorTime: UInt64) {
    let sorted = times.sorted()
    // The nearest rank.
    func percentile(_ percent: Int) -> UInt64 {
      sorted.isEmpty ? 0 : sorted[max(0, (sorted.count * percent + 99) / 100 - 1)]
    }
    median = percentile(50)
    slow = percentile(99)
    count = times.count
    self.processorTime = processorTime / UInt64(max(1, times.count))
  }

  init(_ wrapper: Wrapper, job: Job, place: Place, kernel: Kernel) throws {
    switch job {
    case .open: self = try Self.open(wrapper, place, kernel)
    case .echo: self = try Self.echo(wrapper, place, kernel)
    case .http: self = try Self.http(wrapper, place)
    }
  }

  /// From the start of the program to its end, with a client that closes at once.
  private static func open(_ wrapper: Wrapper, _ place: Place, _ kernel: Kernel) throws -> Measurement {
    var times: [UInt64] = []
    var processorTime: UInt64 = 0
    for _ in 0..<starts {
      let start = monotonicNanoseconds()
      let (child, port) = try server(wrapper, place, kernel)
      close(try connectedSocket(to: port))
      processorTime &+= try end(child)
      times.append(monotonicNanoseconds() &- start)
    }
    return Measurement(times, processorTime: processorTime)
  }

  /// One message at a time on one connection, sent when the one before has come back.
  private static func echo(_ wrapper: Wrapper, _ place: Place, _ kernel: Kernel) throws -> Measurement {
    let (child, port) = try server(wrapper, place, kernel)
    let connection = try connectedSocket(to: port)
    defer { close(connection) }
    // Whoever sends nothing back is not waited for without end. See: socket(7), SO_RCVTIMEO
    var limit = timeval(tv_sec: 5, tv_usec: 0)
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    let message = [UInt8](repeating: 0x2e, count: messageSize)
    var buffer = message
    var times: [UInt64] = []
    times.reserveCapacity(roundTrips)
    func pass() throws -> UInt64 {
      let start = monotonicNanoseconds()
      guard send(connection, message, messageSize, Int32(MSG_NOSIGNAL)) == messageSize else {
        throw SystemCallError(call: "send", asked: "a message", errno: .last)
      }
      guard recv(connection, &buffer, messageSize, Int32(MSG_WAITALL)) == messageSize else {
        throw Failure("it did not send all back in 5 s")
      }
      guard buffer == message else { throw Failure("it sent back something else than it was sent") }
      return monotonicNanoseconds() &- start
    }
    var start = monotonicNanoseconds()
    func elapsed() -> UInt64 { monotonicNanoseconds() &- start }
    for _ in 0..<warmUp where elapsed() < shortPatience { _ = try pass() }
    let before = try child.processorTime()
    start = monotonicNanoseconds()
    repeat {
      times.append(try pass())
    } while times.count < roundTrips
      && (times.count > warmUp || elapsed() < shortPatience) && elapsed() < patience
    let processorTime = try child.processorTime() &- before
    shutdown(connection, Int32(SHUT_WR))
    _ = try end(child)
    return Measurement(times, processorTime: processorTime)
  }

  /// From the server's answer to the arrival of the client's next request: what the client makes of an answer, and of a request.
  private static func http(_ wrapper: Wrapper, _ place: Place) throws -> Measurement {
    let server = try HTTPServer()
    let child = try Child([
      place.program(wrapper.name), "http://127.0.0.1:\(server.port)/", "\(requests + 1)",
    ])
    var readings: [UInt64] = []
    server.onRequest = { if let time = try? child.processorTime() { readings.append(time) } }
    let deadline = monotonicNanoseconds() &+ 20_000_000_000
    while child.wait(atMost: 0) == nil {
      server.wait(milliseconds: 10)
      try server.step()
      guard monotonicNanoseconds() < deadline else {
        throw Failure("it did not get its \(requests + 1) pages in 20 s")
      }
    }
    _ = try end(child)
    let times = zip(server.arrivals.dropFirst(), server.answers).map { $0 &- $1 }
    guard times.count >= requests, let first = readings.first, let last = readings.last else {
      throw Failure("it made \(server.arrivals.count) requests of \(requests + 1)")
    }
    return Measurement(times, processorTime: last &- first)
  }

  private static func server(_ wrapper: Wrapper, _ place: Place, _ kernel: Kernel) throws -> (Child, UInt16) {
    let child = try Child([place.program(wrapper.name)])
    return (child, try child.listeningPort(kernel))
  }

  /// Waits for the program's end. Returns the processor time that it took in all.
  private static func end(_ child: Child) throws -> UInt64 {
    guard let end = child.wait(atMost: 10) else {
      throw Failure("it has not ended, 10 s after its client had gone")
    }
    if end.status != .exited(0) { throw Failure(end.status.words) }
    return end.processorTime
  }
}
