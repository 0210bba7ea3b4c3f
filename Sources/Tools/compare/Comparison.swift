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
            $0.name == candidate.name || $0.raw.name == candidate.name
          })
      }.map { (wrapper: $0, job: job) }
    }
    progress.total = pairs.count + runs * pairs.count { !$0.wrapper.isRaw }
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
    progress.clear()
    if isJSON {
      for own in observations { write(own.json.line + "\n") }
      for (wrapper, job) in pairs {
        if let figures = figures[Self.key(wrapper, job)] { write(figures.json(wrapper, job).line + "\n") }
      }
      write(failures.lines)
    } else {
      writePages(observations, figures)
      write(page.summary(pairs, observations, figures, runs: runs) + page.text(failures))
    }
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
      for (wrapper, job) in pairs where !wrapper.isRaw {
        progress.advance("\(wrapper.name), \(job.rawValue): timing it, \(run + 1) of \(runs)")
        // Whoever has failed once is not waited for again.
        if failures.has(wrapper, job) || failures.has(wrapper.raw, job) { continue }
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

  /// Each wrapper beside raw.
  private func writePages(_ observations: [Observation], _ figures: [String: Figures]) {
    if !observations.isEmpty { write(page.introduction) }
    for own in observations where !own.wrapper.isRaw {
      // The calls of `open` are those of `echo`, without the bytes; its times stand there, too.
      if own.job == .open, jobs.contains(.echo) { continue }
      let raw = observations.first { $0.job == own.job && $0.wrapper.name == own.wrapper.raw.name }
      guard let raw else { continue }
      let timed = own.job == .echo ? [own.job, .open] : [own.job]
      write(
        page.text(
          own, beside: raw, timed.compactMap { job in figures[Self.key(own.wrapper, job)].map { (job, $0) } })
      )
    }
  }

  private func write(_ text: String) {
    output.write(text)
    output.flush()
  }
}
