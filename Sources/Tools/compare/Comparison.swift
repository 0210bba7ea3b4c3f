import CommandLineTool
import Glibc
import KernelState

/// All that is to be found out in a run, and how it is told.
struct Comparison {
  let wrappers: [Wrapper]
  let jobs: [Job]
  let runs: Int
  let triesAttempts: Bool
  let place: Place
  let page: Page
  let isJSON: Bool
  let output: Output

  /// Under which the figures of a program are kept.
  static func key(_ wrapper: Wrapper, _ job: Job) -> String { "\(wrapper.name) \(job.rawValue)" }

  /// - Returns: the exit status.
  /// - Throws: where a program cannot be followed, or does not do its job.
  func run() throws -> Int32 {
    let progress = Progress()
    defer { progress.clear() }
    // Raw comes along, whatever is asked for.
    let pairs = jobs.flatMap { job in
      Wrapper.all.filter { candidate in
        candidate.jobs.contains(job)
          && (wrappers.contains {
            $0.name == candidate.name || $0.isServer == candidate.isServer && candidate.isRaw
          })
      }.map { (wrapper: $0, job: job) }
    }
    progress.total = pairs.count * (1 + runs)
    var observations: [Observation] = []
    var failures = Failures()
    do {
      for (wrapper, job) in pairs {
        progress.advance("\(wrapper.name), \(job.rawValue): following it")
        try failures.note(wrapper, job) {
          observations.append(try Observer(wrapper, job: job, place: place).run())
        }
      }
    } catch let refusal as Refusal {
      progress.clear()
      printToStandardError(
        "\(name): no calls and states are shown, since no program may be followed here (\(refusal.error)); does a container "
          + "forbid ptrace, or does somebody follow this one?\n")
    }
    if let refusal = observations.lazy.compactMap(\.refusal).first {
      progress.clear()
      printToStandardError(
        "\(name): options and flags are not shown, since \(refusal.call) was refused (\(refusal.errno.name)), as Docker's "
          + "default profile does\n")
    }
    Child.endWithThisProgram()
    let figures = try measure(pairs, progress, &failures)
    if isJSON {
      for own in observations { write(own.json.line + "\n") }
      for (wrapper, job) in pairs {
        if let figures = figures[Self.key(wrapper, job)] { write(figures.json(wrapper, job).line + "\n") }
      }
    }
    if !isJSON, !observations.isEmpty {
      progress.clear()
      write(page.introduction)
    }
    for own in observations where !isJSON && !own.wrapper.isRaw {
      let key = Self.key(own.wrapper, own.job)
      if let raw = observations.first(where: { $0.job == own.job && $0.wrapper.isRaw }) {
        // The calls of `open` are those of `echo`, without the bytes.
        if own.job == .open, jobs.contains(.echo) { continue }
        progress.clear()
        let others = own.job == .echo ? figures[Self.key(own.wrapper, .open)].map { [(Job.open, $0)] } : nil
        write(page.text(own, beside: raw, (figures[key].map { [(own.job, $0)] } ?? []) + (others ?? [])))
      }
    }
    if !isJSON { write(page.summary(pairs, observations, figures, runs: runs)) }
    write(isJSON ? failures.lines : page.text(failures))
    if triesAttempts {
      let attempts = try Attempt.all(place) { progress.show("trying \($0)") }
      progress.clear()
      if isJSON {
        for attempt in attempts { write(attempt.json.line + "\n") }
      } else {
        write(page.text(attempts))
      }
    }
    output.flush()
    if let failure = output.failure {
      if failure.rawValue == EPIPE { return ExitStatus.outputClosed }
      throw Complaint("the comparison could not be written: \(failure)")
    }
    return failures.all.isEmpty ? ExitStatus.success : ExitStatus.failure
  }

  /// All programs in turn, and again from the beginning; raw right before each of them, since a machine's speed changes.
  private func measure(
    _ pairs: [(wrapper: Wrapper, job: Job)], _ progress: Progress, _ failures: inout Failures
  ) throws -> [String: Figures] {
    let kernel = Kernel()
    var figures: [String: Figures] = [:]
    for run in 0..<runs {
      for (wrapper, job) in pairs {
        progress.advance("\(wrapper.name), \(job.rawValue): timing it, \(run + 1) of \(runs)")
        // Whoever has failed once is not waited for again.
        if wrapper.isRaw || failures.has(wrapper, job) || failures.has(wrapper.raw, job) { continue }
        var raw: Measurement?
        try failures.note(wrapper.raw, job) {
          raw = try Measurement(wrapper.raw, job: job, place: place, kernel: kernel)
        }
        guard let raw else { continue }
        try failures.note(wrapper, job) {
          let own = try Measurement(wrapper, job: job, place: place, kernel: kernel)
          figures[Self.key(wrapper, job), default: Figures()].raw.append(raw)
          figures[Self.key(wrapper, job), default: Figures()].own.append(own)
        }
      }
    }
    return figures
  }

  private func write(_ text: String) {
    output.write(text)
    output.flush()
  }
}

/// What programs did instead of their job. The others are shown all the same.
struct Failures {
  private(set) var all: [(wrapper: Wrapper, job: Job, reason: String)] = []

  func has(_ wrapper: Wrapper, _ job: Job) -> Bool {
    all.contains { $0.wrapper.name == wrapper.name && $0.job == job }
  }

  /// - Throws: what concerns all programs: that nobody may be followed, or that this one is to end.
  mutating func note(_ wrapper: Wrapper, _ job: Job, _ body: () throws -> Void) throws {
    do { try body() } catch let error where !(error is Refusal || error is Interrupted) {
      all.append((wrapper, job, "\(error)"))
    }
  }
}

/// One line at a terminal that says what is being done, and goes away.
final class Progress {
  var total = 0
  private var done = 0
  private let isShown: Bool
  nonisolated(unsafe) private static var isAnyShown = false

  init() {
    let isDumb = getenv("TERM").map { String(cString: $0) == "dumb" } ?? true
    isShown = Terminal(descriptor: STDERR_FILENO).isTerminal && !isDumb
    Self.isAnyShown = isShown
  }

  /// As `clear`, for a signal handler: one write. See: signal-safety(7)
  static func clearAtSignal() {
    if isAnyShown { _ = Glibc.write(STDERR_FILENO, "\r\u{1b}[K", 4) }
  }

  func advance(_ what: String) {
    done += 1
    show("\(done) of \(total): \(what)")
  }

  func show(_ what: String) {
    let width = Terminal(descriptor: STDERR_FILENO).width
    if isShown { printToStandardError("\r\u{1b}[K\(what.truncated(to: width - 1))") }
  }

  func clear() { if isShown { printToStandardError("\r\u{1b}[K") } }
}
