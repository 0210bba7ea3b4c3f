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
    do {
      for (wrapper, job) in pairs {
        progress.advance("\(wrapper.name), \(job.rawValue): following it")
        observations.append(try Observer(wrapper, job: job, place: place).run())
      }
    } catch let refusal as Refusal {
      progress.clear()
      printToStandardError(
        "\(name): no calls and states are shown, since no program may be followed here (\(refusal.error)); does a container "
          + "forbid ptrace, or does somebody follow this one?\n")
    }
    Child.endWithThisProgram()
    let figures = try measure(pairs, progress)
    if isJSON {
      for own in observations { write(own.json.line + "\n") }
      for (wrapper, job) in pairs {
        if let figures = figures[Self.key(wrapper, job)] { write(figures.json(wrapper, job).line + "\n") }
      }
    }
    for own in observations where !isJSON && !own.wrapper.isRaw {
      let key = Self.key(own.wrapper, own.job)
      if let raw = observations.first(where: { $0.job == own.job && $0.wrapper.isRaw }) {
        // The calls of `open` are those of `echo`, without the bytes.
        if own.job == .open, jobs.contains(.echo) { continue }
        progress.clear()
        write(page.text(own, beside: raw, figures[key]))
      }
    }
    if !isJSON { write(page.summary(pairs, observations, figures, runs: runs)) }
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
    return output.failure == nil ? ExitStatus.success : ExitStatus.outputClosed
  }

  /// All programs in turn, and again from the beginning; raw right before each of them, since a machine's speed changes.
  private func measure(_ pairs: [(wrapper: Wrapper, job: Job)], _ progress: Progress) throws -> [String:
    Figures]
  {
    let kernel = Kernel()
    var figures: [String: Figures] = [:]
    for run in 0..<runs {
      for (wrapper, job) in pairs {
        progress.advance("\(wrapper.name), \(job.rawValue): timing it, \(run + 1) of \(runs)")
        if wrapper.isRaw { continue }
        let raw = try Measurement(wrapper.raw, job: job, place: place, kernel: kernel)
        let own = try Measurement(wrapper, job: job, place: place, kernel: kernel)
        figures[Self.key(wrapper, job), default: Figures()].raw.append(raw)
        figures[Self.key(wrapper, job), default: Figures()].own.append(own)
      }
    }
    return figures
  }

  private func write(_ text: String) {
    output.write(text)
    output.flush()
  }
}

/// One line at a terminal that says what is being done, and goes away.
final class Progress {
  var total = 0
  private var done = 0
  private let isShown = Terminal(descriptor: STDERR_FILENO).isTerminal

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
