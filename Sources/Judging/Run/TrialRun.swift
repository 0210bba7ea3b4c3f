import CLinux
import CommandLineTool
import Foundation
import Glibc
import Story
import SystemCalls
import Tracing

/// One trial: the program under the narrator, and its other side on a second thread.
struct TrialRun {
  private let trial: Trial
  private let port: JudgesPort
  private let place: Workplace

  /// So much may a program print, in bytes.
  private static let printed = 1 << 20
  /// How often limits are looked at when nothing happens, in milliseconds.
  private static let heartbeat = 10

  init(_ trial: Trial, port: JudgesPort, place: Workplace) {
    self.trial = trial
    self.port = port
    self.place = place
  }

  struct Outcome {
    /// What was not as it was to be, nil where all was.
    let failure: Failure?
    /// What is known of the run.
    let now: Record.State
    /// Faults that were never done to any call.
    let unused: [String]
  }

  func run() throws(Complaint) -> Outcome {
    let record = Record()
    let output = try ProgramPipe()
    let errors = try ProgramPipe()
    let input = try ProgramPipe()
    let watch = LimitWatch(trial.limits, record: record, port: port.number)
    try place.prepare()
    guard access(place.program, X_OK) == 0 else {
      throw Complaint("the program has taken itself away: \(place.program) is gone")
    }
    // Not by the recorder itself: each would keep the other.
    weak var narrator: Narrator?
    let recorder = Recorder(record) {
      output.drain(limit: Self.printed) { bytes in record.change { $0.output += bytes } }
      errors.drain(limit: Self.printed) { bytes in record.change { $0.errors += bytes } }
      if let threads = narrator?.mostThreads {
        record.change { $0.mostThreads = max($0.mostThreads, threads) }
      }
      watch.look(printed: max(output.count, errors.count) > Self.printed)
    }
    var options = Narrator.Options()
    options.faults = trial.faults.flatMap(\.faults)
    options.heartbeat = Self.heartbeat
    options.endsAtFirstSignal = true
    options.hearsPackets = false
    options.awaitsArrival = false
    let teller = Narrator(subject: .program([place.program]), options: options, teller: recorder)
    narrator = teller
    let side = try startOtherSide(record, input: input)
    defer { side.finish(record) }
    let start = ProgramStart(
      program: place.program, arguments: trial.arguments.map { $0.withPort(port.number) },
      folder: place.current, limits: trial.limits,
      streams: [input.reading, output.writing, errors.writing])
    let ended = Result { () throws(Complaint) in try teller.run(name: "workshop", arguments: start.words) }
    output.drain(limit: Self.printed) { bytes in record.change { $0.output += bytes } }
    errors.drain(limit: Self.printed) { bytes in record.change { $0.errors += bytes } }
    let status = try end(ended, record, side)
    let now = record.now
    if now.isInterrupted { throw Complaint("interrupted", status: max(status, 129)) }
    guard now.process != 0 else { throw Complaint("the program was not started: status \(status)") }
    let unused = trial.faults.filter { fault in
      fault.faults.allSatisfy { one in teller.faultFigures.first { $0.fault == one }?.injected ?? 0 == 0 }
    }
    if now.violation == nil, now.failure == nil {
      return Outcome(failure: nil, now: now, unused: unused.map(\.description))
    }
    return Outcome(failure: now.violation ?? now.failure, now: now, unused: [])
  }

  private func end(_ ended: Result<Int32, Complaint>, _ record: Record, _ side: Signals)
    throws(Complaint) -> Int32
  {
    if case .failure = ended {
      record.change { $0.violation = Failure("the program can be followed", observed: []) }
    }
    if !record.now.isInterrupted { side.isDone.wait() }
    return try ended.get()
  }

  /// The same with questions, for a reader.
  func predict(appearance: Judge.Appearance, hearsPackets: Bool) throws(Complaint) -> Int32 {
    let record = Record()
    let input = try ProgramPipe()
    var text = TerminalTeller.Options()
    text.color = appearance.color
    text.width = appearance.width
    let teller = Chorus(
      TerminalTeller(output: Output(descriptor: STDOUT_FILENO), options: text),
      beside: [("the record", Recorder(record) {})])
    var options = Narrator.Options()
    options.predicts = true
    options.pauses =
      Terminal(descriptor: STDOUT_FILENO).isTerminal && Terminal(descriptor: STDIN_FILENO).isTerminal
    options.heartbeat = Self.heartbeat
    options.endsAtFirstSignal = true
    options.hearsPackets = hearsPackets
    options.invitesClients = false
    let narrator = Narrator(subject: .program([place.program]), options: options, teller: teller)
    // Whoever is asked has as long as it takes.
    let side = try startOtherSide(record, input: input, isPatient: true)
    defer { side.finish(record) }
    let start = ProgramStart(
      program: place.program, arguments: trial.arguments.map { $0.withPort(port.number) },
      folder: place.current, limits: trial.limits,
      streams: [input.reading, STDOUT_FILENO, STDERR_FILENO])
    return try narrator.run(name: "workshop", arguments: start.words)
  }

  /// Plays the other side on a thread of its own.
  private func startOtherSide(_ record: Record, input: ProgramPipe, isPatient: Bool = false) throws(Complaint)
    -> Signals
  {
    let listener = trial.listens ? try port.listen() : -1
    let signals = Signals()
    let (trial, port, writing) = (trial, port.number, input.takeWriting())
    Thread.detachNewThread {
      let side = OtherSide(
        trial: trial, record: record, port: port, listener: listener, input: writing, isPatient: isPatient)
      let failure = side.run()
      record.change { state in
        state.failure = failure
        state.isOver = true
      }
      signals.isDone.signal()
      // What the program would do if its peers went away is no part of the story.
      signals.mayClose.wait()
      side.close()
      signals.hasClosed.signal()
    }
    return signals
  }
}

/// What the two threads of a trial tell each other.
private struct Signals: Sendable {
  /// The other side has done all that it had to.
  let isDone = DispatchSemaphore(value: 0)
  /// The program has ended, and nobody would see the connections go.
  let mayClose = DispatchSemaphore(value: 0)
  /// They are gone, and the port is free for the next trial.
  let hasClosed = DispatchSemaphore(value: 0)

  func finish(_ record: Record) {
    // It may still wait for something that a program that has ended will not do.
    record.change {
      if !$0.isOver, $0.violation == nil {
        $0.violation = Failure("the program is followed to its end", observed: [])
      }
    }
    mayClose.signal()
    hasClosed.wait()
  }
}

/// Looks that a program stays within its limits.
final class LimitWatch {
  private let limits: Limits
  private let record: Record
  private let start = monotonicNanoseconds()
  private var lastLook: UInt64 = 0
  /// To be asked where it stands.
  private let program: ProgramState

  init(_ limits: Limits, record: Record, port: UInt16) {
    self.limits = limits
    program = ProgramState(record: record, port: port)
    self.record = record
  }

  /// - Parameter printed: whether it has printed more than it may.
  func look(printed: Bool) {
    let now = record.now
    if now.violation != nil { return }
    if let failure = violation(now, printed) { record.change { $0.violation = failure } }
  }

  private func violation(_ state: Record.State, _ printed: Bool) -> Failure? {
    // Counted as the kernel reports each clone: no process runs before it is counted.
    if state.started > limits.processes {
      return Failure(
        "the program starts no more than \(limits.processes) processes",
        observed: ["It has started \(state.started), itself among them; all were ended."],
        hint: "fork returns in the child, too: there it returns 0, and the child must leave the loop.")
    }
    if state.mostThreads > limits.threads {
      return Failure(
        "the program has no more than \(limits.threads) threads",
        observed: ["It had more, and was ended."])
    }
    if printed {
      return Failure(
        "the program prints no more than 1 MiB", observed: ["It has printed more, and was ended."],
        hint: "Does a loop go on after an error, or after the end of the stream?")
    }
    let now = monotonicNanoseconds()
    // The kernel is not to be asked at each call.
    guard now &- lastLook > 5_000_000 else { return nil }
    lastLook = now
    let kibibytes = state.processes.reduce(0) { total, process in
      let status = ProcessStatus(of: process)
      return total + (status?.number("RssAnon") ?? 0) + (status?.number("RssShmem") ?? 0)
    }
    if kibibytes >> 10 > limits.memory {
      return Failure(
        "the program needs no more than \(limits.memory) MiB of memory",
        observed: ["It has taken more, and was ended."],
        hint: "What grows with each turn of a loop?")
    }
    if now &- start > UInt64(limits.seconds) * 1_000_000_000 {
      return Failure(
        "all of this is done in \(limits.seconds) s",
        observed: ["It is not, and the program was ended after \(state.steps) calls."]
          + (program.standing().map { [$0] } ?? []))
    }
    return nil
  }
}

/// A pipe of which the program has one end.
final class ProgramPipe {
  private(set) var reading: Int32 = -1
  private(set) var writing: Int32 = -1
  /// Bytes that have come out of it.
  private(set) var count = 0

  init() throws(Complaint) {
    // Not closed on exec: the program's start takes them over by their numbers.
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw Complaint("pipe: \(ErrorNumber.last)") }
    (reading, writing) = (ends[0], ends[1])
  }

  deinit {
    for descriptor in [reading, writing] where descriptor >= 0 { close(descriptor) }
  }

  /// The end to write to is somebody else's from here on, who closes it. The program does not get it.
  func takeWriting() -> Int32 {
    defer { writing = -1 }
    _ = fcntl(writing, F_SETFD, FD_CLOEXEC)
    _ = fcntl(writing, F_SETFL, O_NONBLOCK)
    return writing
  }

  /// Takes what is there. What is beyond the limit is thrown away.
  func drain(limit: Int, _ take: ([UInt8]) -> Void) {
    _ = fcntl(reading, F_SETFL, O_NONBLOCK)
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let got = read(reading, &buffer, buffer.count)
      guard got > 0 else { return }
      if count < limit { take(Array(buffer.prefix(got).prefix(limit - count))) }
      count += got
      if count > limit { return }
    }
  }
}
