import Glibc
import Sockets
import SystemCalls

/// Sends by a plan, on one thread.
public final class EchoLoad {
  let plan: LoadPlan
  let loop: EventLoop
  private var result = LoadResult()
  private var connections: [LoadConnection] = []
  /// What messages are cut from: each begins at another place.
  let bytes: UnsafeMutableRawBufferPointer
  /// The same as they are sent: masked, where there is a mask.
  let sentBytes: UnsafeMutableRawBufferPointer
  /// Room for messages that are sent in one call.
  let together: UnsafeMutableRawBufferPointer
  private(set) var isCounting = false
  private var isOver = false
  private(set) var begin: UInt64 = 0
  private var processorBegin = 0.0
  private var paceBegin: UInt64 = 0
  /// With a rate: so many messages were to be sent by now.
  private var dueCount: UInt64 = 0
  private var nextConnection = 0
  private var clock: LoopTimer?
  private var pace: LoopTimer?
  private var signals: LoopSignals?
  private let progress: ((LoadResult) -> Void)?
  /// What the server has taken of processors until now, in nanoseconds.
  private let meter: (() -> UInt64?)?
  private var meterBegin: UInt64?
  private var lastSecond = 0

  static let places = 4096
  /// Milliseconds that a connection may take to be made.
  private static let patience: Int32 = 10_000
  /// The generator looks up at most once in so many nanoseconds to see what is due.
  private static let finest: UInt64 = 20_000

  /// Dials.
  ///
  /// - Parameters:
  ///   - plan: what is to be sent.
  ///   - address: where the server listens.
  ///   - meter: what the server has taken of processors until now, in nanoseconds.
  ///   - interruption: a descriptor that ends the dialling when it becomes readable.
  ///   - progress: is called each second with what has come so far.
  /// - Throws: what stands in the way of the first connection, or EINTR of a call. Those that fail later are counted.
  public init(
    _ plan: LoadPlan, to address: SocketAddress, meter: (() -> UInt64?)? = nil, interruption: Int32 = -1,
    progress: ((LoadResult) -> Void)? = nil
  ) throws {
    self.plan = plan
    self.meter = meter
    self.progress = progress
    loop = try EventLoop()
    bytes = .allocate(byteCount: plan.size + Self.places, alignment: 16)
    sentBytes = .allocate(byteCount: plan.size + Self.places, alignment: 16)
    together = .allocate(byteCount: 64 * 1024, alignment: 16)
    Self.fill(bytes)
    sentBytes.copyMemory(from: UnsafeRawBufferPointer(bytes))
    if let mask = plan.envelope?.mask, mask.count == 4 {
      for place in sentBytes.indices { sentBytes[place] ^= mask[place & 3] }
    }
    for number in 0..<plan.connections {
      do {
        let socket = try Descriptor.connected(
          to: address, patience: Self.patience, interruption: interruption)
        try plan.envelope?.open(socket.number)
        connections.append(try LoadConnection(number, socket, load: self))
      } catch {
        if (error as? SystemCallError)?.errno.rawValue == EINTR || number == 0 { throw error }
        fail("\(error)")
      }
    }
  }

  deinit {
    bytes.deallocate()
    sentBytes.deallocate()
    together.deallocate()
  }

  /// Bytes without a pattern; which ones is of no matter.
  private static func fill(_ bytes: UnsafeMutableRawBufferPointer) {
    // xorshift64*. See: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled"
    var state = UInt64.random(in: 1 ... .max)
    for place in bytes.indices {
      state ^= state >> 12
      state ^= state << 25
      state ^= state >> 27
      bytes[place] = UInt8(truncatingIfNeeded: (state &* 0x2545_f491_4f6c_dd1d) >> 56)
    }
  }

  /// Sends until the time is over, or nobody is there any more, or a signal comes.
  public func run() throws(SystemCallError) -> LoadResult {
    signals = try LoopSignals([SIGINT, SIGTERM, SIGHUP], on: loop) { [unowned self] signal in
      result.interruption = signal
      finish()
    }
    clock = try LoopTimer(on: loop) { [unowned self] _ in tick() }
    clock?.start(milliseconds: max(1, Int(plan.warmUp * 1000)))
    paceBegin = monotonicNanoseconds()
    if plan.rate != nil {
      pace = try LoopTimer(on: loop) { [unowned self] _ in sendDue() }
      sendDue()
    } else {
      for connection in connections { connection.send() }
    }
    try loop.run()
    return result
  }

  private func tick() {
    if !isCounting {
      isCounting = true
      let (failures, reason) = (result.failures, result.reason)
      result = LoadResult()
      (result.failures, result.reason) = (failures, reason)
      begin = monotonicNanoseconds()
      processorBegin = processorTime()
      meterBegin = meter?()
      clock?.start(milliseconds: 100, repeats: true)
      return
    }
    result.seconds = Double(monotonicNanoseconds() &- begin) / 1e9
    if result.seconds >= plan.duration {
      finish()
    } else if Int(result.seconds) > lastSecond {
      lastSecond = Int(result.seconds)
      progress?(result)
    }
  }

  /// What has been counted until now is the result.
  private func finish() {
    guard !isOver else { return }
    isOver = true
    loop.stop()
    guard isCounting else { return }
    let end = monotonicNanoseconds()
    result.seconds = Double(end &- begin) / 1e9
    result.processorSeconds = processorTime() - processorBegin
    if let meterBegin, let meterEnd = meter?(), meterEnd >= meterBegin {
      result.serverTime = meterEnd - meterBegin
    }
    countUnanswered(at: end)
  }

  // --- what is due ---

  /// When a message was to be sent, where there is a rate: by its number over all connections.
  private func due(_ message: UInt64) -> UInt64 {
    paceBegin &+ UInt64(Double(message) * 1e9 / (plan.rate ?? 1))
  }

  /// When message `sequence` of a connection was to be sent; now, without a rate. Nil where that is yet to come.
  func due(_ sequence: UInt64, of connection: Int) -> UInt64? {
    guard plan.rate != nil else { return monotonicNanoseconds() }
    let message = sequence &* UInt64(plan.connections) &+ UInt64(connection)
    return message < dueCount ? due(message) : nil
  }

  /// Has those connections send that something is due on.
  private func sendDue() {
    guard let rate = plan.rate, !connections.isEmpty else { return }
    let time = monotonicNanoseconds()
    let before = dueCount
    dueCount = max(before, UInt64(Double(time &- paceBegin) * rate / 1e9) &+ 1)
    // Each connection once at most: it sends what it has room for, and the rest when answers come.
    for _ in 0..<min(dueCount - before, UInt64(connections.count)) {
      connections[nextConnection].send()
      nextConnection = (nextConnection + 1) % connections.count
    }
    pace?.start(at: max(due(dueCount), time &+ Self.finest))
  }

  private func countUnanswered(at end: UInt64) {
    var late: [UInt64] = []
    for connection in connections {
      let oldest = connection.oldest
      if !connection.hasEnded, !connection.hasAnswered, let oldest, oldest <= begin { result.silent += 1 }
      if plan.rate == nil, let oldest, end > oldest { late.append(end - oldest) }
    }
    guard plan.rate != nil else {
      // A message is always under way; it tells something where it has taken longer than all that came.
      let longest = result.latencies.maximum
      for latency in late where latency > longest { result.latencies.add(latency) }
      return
    }
    // Numbers of messages over all connections; their times follow from them.
    let first = UInt64(Double(begin &- paceBegin) * (plan.rate ?? 0) / 1e9) &+ 1
    let last = UInt64(Double(end &- paceBegin) * (plan.rate ?? 0) / 1e9)
    let answered = Dictionary(connections.map { ($0.number, $0.answered) }) { one, _ in one }
    let count = UInt64(plan.connections)
    for number in 0..<count where last >= number {
      let least = first > number ? (first - number + count - 1) / count : 0
      let from = max(answered[Int(number)] ?? 0, least)
      let to = (last - number) / count
      if to >= from { countLate(from...to, of: number, at: end) }
    }
  }

  /// Messages of one connection that have not come back. There may be millions of them, at even distances: one of several stands for
  /// all of these.
  private func countLate(_ sequences: ClosedRange<UInt64>, of number: UInt64, at end: UInt64) {
    let total = sequences.upperBound - sequences.lowerBound + 1
    result.unanswered &+= total
    let strata = min(total, max(10, 10_000 / UInt64(plan.connections)))
    for stratum in 0..<strata {
      let from = total * stratum / strata
      let to = total * (stratum + 1) / strata
      let time = due((sequences.lowerBound + (from + to) / 2) * UInt64(plan.connections) + number)
      result.latencies.add(end > time ? end - time : 0, times: to - from)
    }
  }

  // --- what connections report ---

  func fail(_ reason: String) {
    result.failures += 1
    if result.reason == nil { result.reason = reason }
    if !connections.isEmpty, connections.allSatisfy(\.hasEnded) { finish() }
  }

  func noteWrong() { result.wrong &+= 1 }

  func done(from due: UInt64, isRight: Bool) {
    if !isRight { result.wrong &+= 1 }
    guard isCounting else { return }
    result.messages &+= 1
    // How long it took to come belongs to the time in which it was due.
    guard plan.rate == nil || due >= begin else { return }
    let time = monotonicNanoseconds()
    result.latencies.add(time >= due ? time - due : 0)
  }
}
