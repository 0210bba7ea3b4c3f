import CommandLineTool
import Glibc
import Story
import Synchronization
import SystemCalls
import Tracing

/// What is known of a run so far. Two threads share it: the one that follows the program, and the one that is its other side.
final class Record: Sendable {
  struct State: Sendable {
    /// The program itself, once it has begun.
    var process: pid_t = 0
    /// The processes that run, in the order in which they appeared.
    var processes: [pid_t] = []
    /// How the first of its children ended that did not end by itself.
    var childsEnd: Tracer.Status?
    /// The cookies of sockets to which a descriptor of the program has led.
    var held: Set<UInt64> = []
    /// A signal asks the judge to end.
    var isInterrupted = false
    var started = 0
    var end: Tracer.Status?
    var mostThreads = 1
    var opening: StoryItem.Opening?
    /// The latest of what was told.
    var story: [StoryItem] = []
    var steps = 0
    /// How often each call has succeeded, and failed with which errno.
    var successes: [SystemCall: Int] = [:]
    var failures: [SystemCall: [Int32: Int]] = [:]
    /// The number of the step at which each call first succeeded.
    var firstSuccess: [SystemCall: Int] = [:]
    /// The last call that failed, injected ones and those that only say "later" left out.
    var lastFailure: Step?
    /// The last call, and how often it has come to nothing in a row: 0, or the same errno, of the same descriptor.
    var again: (call: SystemCall, descriptor: Int32?, error: ErrorNumber?, times: Int)?
    /// The last call to which something was done, and the number of its step.
    var lastInjected: (step: Step, number: Int)?
    /// The last write that took less than it was given.
    var shortWrite: (wanted: UInt64, taken: Int64)?
    /// Calls that had not returned for a while when they were told; their threads may have ended since.
    var waiting: [pid_t: (call: Call, text: String)] = [:]
    /// When it last made a call or came back from one, in nanoseconds of CLOCK_MONOTONIC.
    var lastCall: UInt64 = 0
    var output: [UInt8] = []
    var errors: [UInt8] = []
    /// A limit that it has gone beyond.
    var violation: Failure?
    /// The other side has done all that it had to, and nobody needs the program any more.
    var isOver = false
    /// What it has found to be otherwise than it is to be.
    var failure: Failure?

    func succeeded(_ name: CallName) -> Int { name.calls.reduce(0) { $0 + (successes[$1] ?? 0) } }
    func failed(_ name: CallName, with errno: ErrorNumber) -> Int {
      name.calls.reduce(0) { $0 + (failures[$1]?[errno.rawValue] ?? 0) }
    }
    func first(_ name: CallName) -> Int? { name.calls.compactMap { firstSuccess[$0] }.min() }
  }

  private let state = Mutex(State())

  /// As it is now.
  var now: State { state.withLock { $0 } }

  func change<Result: Sendable>(_ body: (inout sending State) -> sending Result) -> Result {
    state.withLock(body)
  }
}

/// Takes down what the narrator tells, and says when it is enough.
final class Recorder: Teller {
  let output = Output(descriptor: -1)
  private let record: Record
  private let tick: () -> Void

  /// So much of a story is kept: the rest has been counted.
  private static let kept = 200

  /// - Parameters:
  ///   - record: where it is taken down.
  ///   - tick: is called often, whether anything has happened or not.
  init(_ record: Record, tick: @escaping () -> Void) {
    self.record = record
    self.tick = tick
  }

  func tell(_ item: StoryItem) {
    record.change { state in
      // What comes after the judge has seen enough is the program's being ended.
      if state.isOver { return }
      state.story.append(item)
      if state.story.count > 2 * Self.kept { state.story.removeFirst(Self.kept) }
      switch item {
      case .opening(let opening):
        state.opening = opening
        state.process = opening.process
        state.processes = [opening.process]
        state.started = 1
      case .process(let process, .started):
        state.processes.append(process)
        state.started += 1
      case .process(let process, .ended(let status)):
        state.processes.removeAll { $0 == process }
        if process != state.process, case .killed = status, state.childsEnd == nil {
          state.childsEnd = status
        }
      case .waiting(let call, let text): state.waiting[call.thread] = (call, text)
      case .step(let step): Self.note(step, &state)
      case .ending(let ending):
        if state.end == nil { state.end = ending.status }
        state.processes = []
      default: break
      }
    }
  }

  private static func note(_ step: Step, _ state: inout Record.State) {
    let call = step.call
    state.steps += 1
    state.waiting[call.thread] = nil
    state.lastCall = monotonicNanoseconds()
    for socket in step.after where !socket.holders.isEmpty {
      if let cookie = socket.state.cookie { state.held.insert(cookie) }
    }
    if call.error != nil || call.result == 0 {
      let isAgain =
        state.again.map {
          ($0.call, $0.descriptor, $0.error) == (call.systemCall, call.descriptor, call.error)
        }
        ?? false
      let times = isAgain ? (state.again?.times ?? 0) + 1 : 1
      state.again = (call.systemCall, call.descriptor, call.error, times)
    } else {
      state.again = nil
    }
    // Such a connect has begun, and goes on by itself.
    let hasBegun = call.systemCall == .connect && call.error?.rawValue == EINPROGRESS
    if call.injection != nil { state.lastInjected = (step, state.steps) }
    if let error = call.error {
      state.failures[call.systemCall, default: [:]][error.rawValue, default: 0] += 1
    }
    if call.error != nil, !hasBegun {
      if step.isFailure, call.injection == nil { state.lastFailure = step }
      return
    }
    state.successes[call.systemCall, default: 0] += 1
    if state.firstSuccess[call.systemCall] == nil { state.firstSuccess[call.systemCall] = step.number }
    if [.write, .sendto].contains(call.systemCall), let result = call.result, result >= 0,
      UInt64(result) < (call.injection?.length ?? call.arguments[2])
    {
      state.shortWrite = (call.injection?.length ?? call.arguments[2], result)
    }
  }

  /// Nothing is written: this is where the narrator comes by.
  func flush() -> Bool {
    tick()
    return true
  }

  func willBeInterrupted() { record.change { $0.isInterrupted = true } }

  var wantsMore: Bool { record.change { !$0.isOver && $0.violation == nil } }
}
