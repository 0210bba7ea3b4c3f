import CLinux
import CommandLineTool
import Glibc
import KernelState
import SystemCalls

/// The program's other side: does what a trial's peer does, step by step, and looks whether all is as it is to be.
final class OtherSide {
  let trial: Trial
  let record: Record
  let program: ProgramState
  let port: UInt16
  private var connections: [String: Connection] = [:]
  /// Where the judge listens itself.
  private let listener: Int32
  /// The writing end of the program's standard input; -1 once it is closed.
  private var input: Int32
  /// What it is still to get there, and whether that is all.
  private(set) var unfed: ArraySlice<UInt8> = []
  private var endsInput = false
  /// Whether there is no end to what the program may take.
  private let isPatient: Bool

  /// For so long a program may take longer than it is to, while it has something to do.
  private static let grace: UInt64 = 4_000_000_000

  init(trial: Trial, record: Record, port: UInt16, listener: Int32, input: Int32, isPatient: Bool) {
    self.isPatient = isPatient
    self.trial = trial
    self.record = record
    self.port = port
    self.listener = listener
    self.input = input
    program = ProgramState(record: record, port: port)
  }

  /// Returns what was not as it was to be, nil where all was.
  func run() -> Failure? {
    do throws(Failure) {
      if let bytes = trial.input { unfed += bytes.resolved(port: port) }
      // Input that comes step by step ends by a step.
      let isFedByHand = trial.peer.contains { if case .input = $0.action { true } else { false } }
      endsInput = !isFedByHand
      _ = wait(3000) { record.now.process != 0 || record.now.end != nil }
      for step in trial.peer { try take(step) }
      for expectation in trial.expectations { try hold(expectation) }
      // Whoever has asked for a status has got it. Else it goes on, or has ended well.
      if trial.endsByItself { return nil }
      _ = wait(400, mayTakeLonger: false) { program.rests() }
      let now = record.now
      if let end = now.end, end != .exited(0) {
        throw ended(before: "the program goes on when its clients have gone")
      }
      if let end = now.childsEnd {
        throw Failure("no process of the program crashes", observed: ["A child of it was \(end.inWords)."])
      }
      return nil
    } catch {
      return Diagnosis(self).completed(error)
    }
  }

  /// Lets go of what it has open.
  func close() {
    if input >= 0 { Glibc.close(input) }
    input = -1
    for connection in connections.values { connection.close() }
    if listener >= 0 { Glibc.close(listener) }
  }

  // --- the steps ---

  private func take(_ step: PeerStep) throws(Failure) {
    do throws(Failure) {
      switch step.action {
      case .connect(let name): try connect(name, within: step.advice.within)
      case .accept(let name): try accept(name, within: step.advice.within)
      case .send(let name, let bytes, let pieces, let reads):
        try send(
          bytes.resolved(port: port), pieces: pieces, reads: reads, on: try connection(name),
          within: step.advice.within)
      case .receive(let name, let bytes):
        try receive(bytes.resolved(port: port), on: try connection(name), within: step.advice.within)
      case .end(let name):
        try awaitEnd(on: try connection(name), mayBeReset: false, within: step.advice.within)
      case .gone(let name):
        try awaitEnd(on: try connection(name), mayBeReset: true, within: step.advice.within)
      case .reset(let name): try connection(name).reset()
      case .close(let name): try connection(name).close()
      case .shutdown(let name): try connection(name).shutDown()
      case .silence(let name, let milliseconds):
        try silence(on: try connection(name), milliseconds: milliseconds)
      case .signal(let signal):
        // It may not have come to its handler yet.
        _ = wait(step.advice.within) { program.rests() }
        guard let process = record.now.processes.first, kill(process, signal) == 0 else {
          throw ended(before: "the program gets a signal")
        }
      case .input(let bytes):
        if let bytes { unfed += bytes.resolved(port: port) } else { endsInput = true }
        pump()
      case .expect(let expectation): try hold(expectation)
      }
    } catch {
      throw error.advised(by: step.advice)
    }
  }

  private func connection(_ name: String) throws(Failure) -> Connection {
    guard let connection = connections[name], connection.descriptor >= 0 else {
      throw Failure(
        "the check makes sense", observed: ["Connection \(name) is closed already when a step uses it."])
    }
    return connection
  }

  private func connect(_ name: String, within: Int) throws(Failure) {
    let expected = "the program takes connections on port \(port)"
    guard wait(within, until: { program.listener() != nil || record.now.end != nil }), record.now.end == nil
    else {
      throw diagnosis().nobodyListens(expected)
    }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    address.sin_port = port.bigEndian
    let descriptor = socket(
      AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    let dialled = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    let failure = ErrorNumber.last
    var error: Int32 = dialled == 0 || failure.rawValue == EINPROGRESS ? 0 : failure.rawValue
    if error == 0 {
      var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      var size = socklen_t(4)
      if !wait(within, until: { poll(&entry, 1, 5) == 1 }) {
        error = ETIMEDOUT
      } else {
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size)
      }
    }
    guard error == 0, let connection = Connection(name: name, descriptor: descriptor) else {
      Glibc.close(descriptor)
      throw diagnosis().refused(expected, ErrorNumber(error))
    }
    connections[name] = connection
    connection.remoteCookie = program.remote(of: connection.own, at: connection.peer)?.cookie
  }

  private func accept(_ name: String, within: Int) throws(Failure) {
    let expected = "the program dials 127.0.0.1:\(port)"
    var descriptor: Int32 = -1
    _ = wait(within) {
      descriptor = accept4(listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
      return descriptor >= 0 || record.now.end != nil
    }
    // It may have dialled, and ended, before this came.
    if descriptor < 0 {
      descriptor = accept4(listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
    }
    guard descriptor >= 0, let connection = Connection(name: name, descriptor: descriptor) else {
      throw diagnosis().nobodyDials(expected)
    }
    connection.remoteCookie = program.remote(of: connection.own, at: connection.peer)?.cookie
    connections[name] = connection
  }

  private func send(_ bytes: [UInt8], pieces: Int?, reads: Bool, on connection: Connection, within: Int)
    throws(Failure)
  {
    var rest = bytes[...]
    while !rest.isEmpty {
      var piece = rest.prefix(pieces ?? rest.count)
      rest = rest.dropFirst(piece.count)
      while !piece.isEmpty {
        var failure: SystemCallError?
        var sent = 0
        let isTaken = wait(within) {
          do throws(SystemCallError) { sent = try connection.send(piece) } catch { failure = error }
          if reads { connection.takeIn() }
          if sent == 0, failure == nil {
            connection.wait(for: reads ? POLLOUT | POLLIN : POLLOUT, milliseconds: 5)
          }
          return sent > 0 || failure != nil
        }
        let what = "the \(counted(bytes.count, "byte")) sent on connection \(connection.name) are taken"
        if let failure { throw diagnosis().brokenOff(what, connection, failure.errno) }
        guard isTaken else { throw diagnosis().notRead(what, connection) }
        piece = piece.dropFirst(sent)
      }
      guard !rest.isEmpty else { continue }
      // The next piece is to come by itself: when this one has been read, or is not going to be.
      _ = wait(100, mayTakeLonger: false) {
        connection.unacknowledged == 0 && (program.end(of: connection)?.state.number(.readable) ?? 1) == 0
      }
    }
  }

  private func receive(_ bytes: [UInt8], on connection: Connection, within: Int) throws(Failure) {
    let what =
      "\(counted(bytes.count, "byte")) come on connection \(connection.name): \(ByteDifference.quoted(bytes))"
    var got: [UInt8] = []
    while got.count < bytes.count {
      var outcome = Connection.Outcome.nothing
      let isThere = wait(within) {
        outcome = connection.look(limit: bytes.count - got.count)
        if case .nothing = outcome {
          connection.wait(for: POLLIN, milliseconds: 5)
          return false
        }
        return true
      }
      guard isThere, case .bytes(let more) = outcome else {
        throw diagnosis().notAnswered(what, connection, wanted: bytes, got: got, outcome)
      }
      // Only what is new is compared: there may be millions of bytes.
      let isSame = bytes[got.count...].withUnsafeBytes { wanted in
        more.withUnsafeBytes { came in
          guard let one = wanted.baseAddress, let other = came.baseAddress else { return true }
          return memcmp(one, other, came.count) == 0
        }
      }
      got += more
      if !isSame {
        throw diagnosis().otherBytes(what, connection, ByteDifference(expected: bytes, got: got))
      }
    }
  }

  private func awaitEnd(on connection: Connection, mayBeReset: Bool, within: Int) throws(Failure) {
    let what =
      "the program ends connection \(connection.name)"
      + (mayBeReset ? "" : ": the end of the stream comes, and no byte before it")
    var outcome = Connection.Outcome.nothing
    _ = wait(within) {
      outcome = connection.look(limit: 64)
      switch outcome {
      case .nothing:
        connection.wait(for: POLLIN, milliseconds: 5)
        return false
      case .bytes: return !mayBeReset
      default: return true
      }
    }
    switch outcome {
    case .end: return
    case .reset where mayBeReset: return
    case .reset: throw diagnosis().wasReset(what, connection)
    case .bytes(let bytes): throw diagnosis().tooMuch(what, connection, bytes)
    case .nothing: throw diagnosis().notClosed(what, connection)
    }
  }

  private func silence(on connection: Connection, milliseconds: Int) throws(Failure) {
    let what = "nothing comes on connection \(connection.name) for \(milliseconds) ms"
    var outcome = Connection.Outcome.nothing
    _ = wait(milliseconds, mayTakeLonger: false) {
      outcome = connection.look(limit: 64)
      if case .nothing = outcome {
        connection.wait(for: POLLIN, milliseconds: 5)
        return false
      }
      return true
    }
    switch outcome {
    case .nothing: return
    case .bytes(let bytes): throw diagnosis().tooMuch(what, connection, bytes)
    case .end: throw diagnosis().endedEarly(what, connection)
    case .reset: throw diagnosis().wasReset(what, connection)
    }
  }

  /// Hands the program's standard input as much as the pipe takes. The program may read it when it likes.
  private func pump() {
    while input >= 0, !unfed.isEmpty {
      let count = unfed.withUnsafeBytes { write(input, $0.baseAddress, $0.count) }
      if count > 0 {
        unfed = unfed.dropFirst(count)
      } else if [EAGAIN, EINTR].contains(ErrorNumber.last.rawValue) {
        return
      } else {
        unfed = []  // nobody reads it any more
      }
    }
    if endsInput, input >= 0 {
      Glibc.close(input)
      input = -1
    }
  }

  private func ended(before what: String) -> Failure { Failure(what, observed: diagnosis().standing) }

  /// What there is to say of the program, once it has come to rest: it may be about to end, or to say why.
  private func diagnosis() -> Diagnosis {
    _ = wait(400, mayTakeLonger: false) { record.now.end != nil || !program.isBusy }
    return Diagnosis(self)
  }

  // --- looking ---

  func hold(_ expectation: Expectation) throws(Failure) {
    let judgement = Judgement(
      expectation, program: program, record: record, port: port, connections: connections)
    if case .exit = expectation.kind { endsInput = true }
    func isSo() -> Bool {
      judgement.holds() && (!judgement.isOfRest || program.rests() && judgement.holds())
    }
    if wait(expectation.advice.within, until: isSo) { return }
    let diagnosis = diagnosis()
    // It was slow, and is not wrong; and one that never rests shows what it shows.
    if judgement.holds() { return }
    throw diagnosis.not(judgement).advised(by: expectation.advice)
  }

  /// Asks again and again, until it is so or the time is over. A program that has something to do may take longer.
  private func wait(_ milliseconds: Int, mayTakeLonger: Bool = true, until isSo: () -> Bool) -> Bool {
    let start = monotonicNanoseconds()
    let limit = UInt64(milliseconds) * 1_000_000
    var worked: UInt64?
    var sinceEnd: UInt64?
    while true {
      pump()
      if isSo() { return true }
      let spent = monotonicNanoseconds() &- start
      if record.now.end != nil {
        // What it has sent and printed is there, or comes at once.
        let end = sinceEnd ?? monotonicNanoseconds()
        sinceEnd = end
        if monotonicNanoseconds() &- end > 300_000_000 { return isSo() }
      }
      if isPatient {
        if record.now.end != nil { return isSo() }
      } else if spent > limit {
        // On a machine that has no time for it, a program has not had its second yet.
        let hasHadItsTime = worked.map { program.processorTime &- $0 > max(limit, 1_000_000_000) } ?? false
        if !mayTakeLonger || spent > limit + Self.grace || hasHadItsTime || !program.isBusy { return isSo() }
      }
      if worked == nil { worked = program.processorTime }
      // The run is over, whatever becomes of this.
      if record.now.violation != nil { return false }
      _ = poll(nil, 0, 2)
    }
  }
}

extension Failure {
  /// With what a check says beside.
  func advised(by advice: StepAdvice) -> Failure {
    var failure = self
    failure.expected = advice.because ?? expected
    failure.missing = advice.missing ?? missing
    failure.hint = advice.hint ?? hint
    failure.isHintTheChecks = advice.hint != nil
    return failure
  }
}
