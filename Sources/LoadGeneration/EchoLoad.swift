import CLinux
import Glibc
import Sockets
import SystemCalls

/// Messages to an echo server, each looked at when it has come back.
public struct LoadPlan: Sendable {
  public var connections = 64
  /// Bytes a message, from 1 on.
  public var size = 64
  /// So many messages may be on their way on each connection.
  public var pipelining = 1
  /// Seconds that are counted, and seconds before, that are not.
  public var duration = 2.0
  public var warmUp = 0.3
  /// Messages a second over all connections; nil for as many as come back.
  ///
  /// With a rate a message's latency is counted from the time at which it was to be sent, be it sent later for want of room: a server
  /// that stands still for a second makes a second's worth of messages late, not one.
  public var rate: Double?

  public init() {}
}

public struct LoadResult: Sendable {
  public internal(set) var latencies = Histogram()
  public internal(set) var messages: UInt64 = 0
  /// Messages that came back with other bytes.
  public internal(set) var wrong: UInt64 = 0
  /// With a rate: messages that were due in the counted time and had not come back at its end. The histogram has them, with the
  /// time that they have taken until then.
  public internal(set) var unanswered: UInt64 = 0
  /// Connections that ended, or could not be made.
  public internal(set) var failures: UInt64 = 0
  public internal(set) var firstFailure: SystemCallError?
  /// Of the counted time, in seconds.
  public internal(set) var seconds = 0.0
  /// What the generator itself took of a processor in that time, in seconds.
  public internal(set) var processorSeconds = 0.0
  /// What the server took of processors in that time, in nanoseconds, where that was measured.
  public internal(set) var serverTime: UInt64?
  /// The signal that has ended it early.
  public internal(set) var interruption: Int32?

  public var perSecond: Double { seconds > 0 ? Double(messages) / seconds : 0 }
  /// The generator had no time left: the server may be faster than this.
  public var isGeneratorBusy: Bool { seconds > 0 && processorSeconds / seconds > 0.97 }
}

/// Sends by a plan, on one thread.
public final class EchoLoad {
  let plan: LoadPlan
  let loop: EventLoop
  private(set) var result = LoadResult()
  private var connections: [LoadConnection] = []
  /// What messages are cut from: each begins at another place.
  let bytes: UnsafeMutableRawBufferPointer
  private var isCounting = false
  private var begin: UInt64 = 0
  private var processorBegin = 0.0
  /// The message that is due next, counted from the first.
  private var nextMessage: UInt64 = 0
  private var paceBegin: UInt64 = 0
  private var timer: LoopTimer?
  private var pace: LoopTimer?
  private let progress: ((LoadResult) -> Void)?
  /// What the server has taken of processors until now, in nanoseconds.
  private let meter: (() -> UInt64?)?
  private var meterBegin: UInt64?
  private var signals: LoopSignals?

  static let places = 4096

  /// Dials.
  ///
  /// - Parameters:
  ///   - plan: what is to be sent.
  ///   - address: where the server listens.
  ///   - meter: what the server has taken of processors until now, in nanoseconds.
  ///   - progress: is called each second with what has come so far.
  /// - Throws: what stands in the way of the first connection. Those that fail later are counted.
  public init(
    _ plan: LoadPlan, to address: SocketAddress, meter: (() -> UInt64?)? = nil,
    progress: ((LoadResult) -> Void)? = nil
  ) throws(SystemCallError) {
    self.plan = plan
    self.meter = meter
    self.progress = progress
    loop = try EventLoop()
    bytes = .allocate(byteCount: plan.size + Self.places, alignment: 16)
    var random = SystemRandomNumberGenerator()
    for place in bytes.indices { bytes[place] = UInt8.random(in: .min ... .max, using: &random) }
    for number in 0..<plan.connections {
      do throws(SystemCallError) {
        connections.append(try LoadConnection(number, to: address, load: self))
      } catch {
        fail(error)
      }
    }
    if connections.isEmpty, let failure = result.firstFailure { throw failure }
  }

  deinit { bytes.deallocate() }

  /// Sends until the time is over.
  public func run() throws(SystemCallError) -> LoadResult {
    signals = try LoopSignals([SIGINT, SIGTERM, SIGHUP], on: loop) { [unowned self] signal in
      result.interruption = signal
      loop.stop()
    }
    timer = try LoopTimer(on: loop) { [unowned self] in phase() }
    timer?.start(milliseconds: max(1, Int(plan.warmUp * 1000)))
    if plan.rate != nil {
      paceBegin = now()
      pace = try LoopTimer(on: loop) { [unowned self] in sendDue() }
      sendDue()
    } else {
      for connection in connections { for _ in 0..<plan.pipelining { connection.enqueue(due: nil) } }
    }
    try loop.run()
    return result
  }

  private var lastSecond = 0

  private func phase() {
    if !isCounting {
      isCounting = true
      let before = result
      result = LoadResult()
      result.failures = before.failures
      result.firstFailure = before.firstFailure
      begin = now()
      processorBegin = Self.processorTime()
      meterBegin = meter?()
      timer?.start(milliseconds: 100, repeats: true)
      return
    }
    result.seconds = Double(now() &- begin) / 1e9
    if result.seconds >= plan.duration {
      result.processorSeconds = Self.processorTime() - processorBegin
      if let meterBegin, let meterEnd = meter?() { result.serverTime = meterEnd &- meterBegin }
      if plan.rate != nil { for connection in connections { connection.forEachUnanswered(countUnanswered) } }
      loop.stop()
    } else if Int(result.seconds) > lastSecond {
      lastSecond = Int(result.seconds)
      progress?(result)
    }
  }

  /// The messages that were to be sent by now, in turn on all connections.
  private func sendDue() {
    guard let rate = plan.rate, !connections.isEmpty else { return }
    func due() -> UInt64 { paceBegin &+ UInt64(Double(nextMessage) * 1e9 / rate) }
    let time = now()
    while due() <= time {
      connections[Int(nextMessage % UInt64(connections.count))].enqueue(due: due())
      nextMessage &+= 1
    }
    pace?.start(at: due())
  }

  /// What was due and has not come back has taken so long already.
  private func countUnanswered(_ due: UInt64) {
    let time = now()
    guard due >= begin, due <= time else { return }
    result.unanswered &+= 1
    result.latencies.add(time - due)
  }

  func fail(_ error: SystemCallError) {
    result.failures += 1
    if result.firstFailure == nil { result.firstFailure = error }
    if connections.allSatisfy(\.hasEnded), !connections.isEmpty { loop.stop() }
  }

  func done(from due: UInt64, isRight: Bool) {
    guard isCounting else {
      if !isRight {
        fail(SystemCallError(call: "recv", asked: "other bytes came back", errno: ErrorNumber(EBADMSG)))
      }
      return
    }
    result.messages &+= 1
    if !isRight { result.wrong &+= 1 }
    // How long it took to come belongs to the time in which it was due.
    guard plan.rate == nil || due >= begin else { return }
    let time = now()
    result.latencies.add(time >= due ? time - due : 0)
  }

  /// Of this process, in seconds.
  static func processorTime() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }
}

/// One connection of a load: what is to be sent, and what is to come back.
final class LoadConnection: EventHandler {
  private let socket: Descriptor
  private unowned let load: EchoLoad
  private let number: Int
  /// Messages that wait for room: when each was to be sent.
  private var waiting: [UInt64] = []
  private var waitingFrom = 0
  /// Messages on their way, oldest first.
  private var due: [UInt64] = []
  private var dueFrom = 0
  private var sequenceOut = 0
  private var sequenceIn = 0
  /// Of the message that is being sent; the whole size where none is.
  private var sent: Int
  private var received = 0
  private var isRight = true
  private var wantsRoom = false
  private(set) var hasEnded = false

  init(_ number: Int, to address: SocketAddress, load: EchoLoad) throws(SystemCallError) {
    self.number = number
    self.load = load
    sent = load.plan.size
    socket = try Self.connect(to: address)
    try load.loop.add(socket.number, for: .readable, self)
  }

  private static func connect(to address: SocketAddress) throws(SystemCallError) -> Descriptor {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    let socket = Descriptor(owning: try systemCall("socket") { Glibc.socket(address.family, type, 0) })
    let number = socket.number
    // A server whose queue is full does not answer: connect gives up after this, with EINPROGRESS. See: socket(7)
    var patience = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    do throws(SystemCallError) {
      try systemCall("connect", "\(address)") { address.withSockaddr { Glibc.connect(number, $0, $1) } }
    } catch {
      guard error.errno.rawValue == EINPROGRESS else { throw error }
      throw SystemCallError(call: "connect", asked: "\(address)", errno: ErrorNumber(ETIMEDOUT))
    }
    var on: Int32 = 1
    setsockopt(number, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    let flags = fcntl(number, F_GETFL)
    try systemCall("fcntl", "O_NONBLOCK") { fcntl(number, F_SETFL, flags | O_NONBLOCK) }
    return socket
  }

  /// A message to be sent as soon as there is room. With `due` nil it is due now.
  func enqueue(due time: UInt64?) {
    guard !hasEnded else { return }
    waiting.append(time ?? now())
    send()
  }

  /// When each message was due that has not come back whole.
  func forEachUnanswered(_ body: (UInt64) -> Void) {
    for time in due[dueFrom...] { body(time) }
    for time in waiting[waitingFrom...] { body(time) }
  }

  func ready(_ readiness: Readiness) {
    if readiness.contains(.writable) { send() }
    if readiness != .writable { receive() }
  }

  /// Where message `sequence` of this connection stands in the bytes.
  private func place(_ sequence: Int) -> Int { (number &* 251 &+ sequence &* 17) & (EchoLoad.places - 1) }

  private func send() {
    let size = load.plan.size
    while !hasEnded {
      if sent == size {
        guard waitingFrom < waiting.count, due.count - dueFrom < load.plan.pipelining else { break }
        due.append(waiting[waitingFrom])
        waitingFrom += 1
        Self.compact(&waiting, &waitingFrom)
        sent = 0
        sequenceOut &+= 1
      }
      let count = Glibc.send(
        socket.number, load.bytes.baseAddress.map { $0 + place(sequenceOut &- 1) + sent }, size - sent,
        Int32(MSG_NOSIGNAL))
      if count < 0 {
        guard errno == EAGAIN || errno == EINTR else { return end("send") }
        watch(true)
        return
      }
      sent += count
    }
    watch(false)
  }

  private func receive() {
    let buffer = load.loop.scratch
    let count = recv(socket.number, buffer.baseAddress, buffer.count, 0)
    guard count > 0 else {
      if count < 0, errno == EAGAIN || errno == EINTR { return }
      return end("recv")
    }
    let size = load.plan.size
    var from = 0
    while from < count {
      guard dueFrom < due.count else {
        isRight = false
        return end("recv")  // more than was sent
      }
      let part = min(size - received, count - from)
      let expected = load.bytes.baseAddress.map { $0 + place(sequenceIn) + received }
      if let expected, let got = buffer.baseAddress, memcmp(got + from, expected, part) != 0 {
        isRight = false
      }
      received += part
      from += part
      guard received == size else { break }
      load.done(from: due[dueFrom], isRight: isRight)
      dueFrom += 1
      Self.compact(&due, &dueFrom)
      sequenceIn &+= 1
      received = 0
      isRight = true
      if load.plan.rate == nil { waiting.append(now()) }
    }
    send()
  }

  /// Forgets what lies before the first that is needed.
  private static func compact(_ list: inout [UInt64], _ first: inout Int) {
    if first == list.count {
      list.removeAll(keepingCapacity: true)
      first = 0
    } else if first > 1024 {
      list.removeFirst(first)
      first = 0
    }
  }

  private func watch(_ room: Bool) {
    guard room != wantsRoom else { return }
    wantsRoom = room
    try? load.loop.change(socket.number, to: room ? [.readable, .writable] : .readable)
  }

  private func end(_ call: String) {
    let failure = errno == 0 ? ErrorNumber(ECONNRESET) : ErrorNumber.last
    hasEnded = true
    load.loop.forget(socket.number)
    load.fail(SystemCallError(call: call, asked: "connection \(number)", errno: failure))
  }
}
