import CLinux
import CommandLineTool
import Glibc
import Sockets
import SystemCalls

/// Judges several exercises, as many at a time as there are processors, each in a process of its own.
final class CheckAll {
  enum End {
    case done
    /// Somebody at the keyboard does not want to wait for the rest.
    case stopped
    case interrupted(Int32)
  }

  private let workshop: Workshop
  private let isJSON: Bool
  private var waiting: [Exercise]
  private let total: Int
  private var jobs: [Job] = []
  private(set) var passed = 0
  private(set) var failed: [Exercise] = []
  private let line: StatusLine?

  /// With `showsLine` a line at the terminal says how far it is.
  init(_ exercises: [Exercise], _ workshop: Workshop, isJSON: Bool, showsLine: Bool) {
    self.workshop = workshop
    self.isJSON = isJSON
    waiting = exercises
    total = exercises.count
    line = showsLine ? StatusLine() : nil
  }

  /// Those that are done, or were begun.
  static func exercises(_ workshop: Workshop) -> [Exercise] {
    workshop.course.exercises.filter { workshop.progress.knows($0) || workshop.originals.isEdited($0) }
  }

  /// How many processors this process may run on.
  private static var processors: Int {
    let mask = clinux_processors(0)
    return mask == 0 ? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) : mask.nonzeroBitCount
  }

  /// Runs them all.
  ///
  /// - Parameters:
  ///   - signals: what ends it.
  ///   - keyboard: a key ends it, too.
  /// - Returns: why it has ended.
  /// - Throws: where no process can be started.
  func run(signals: Interruption, keyboard: Keyboard?) throws(Complaint) -> End {
    defer { line?.clear() }
    while !waiting.isEmpty || !jobs.isEmpty {
      while !waiting.isEmpty, jobs.count < Self.processors { try startNext() }
      line?.show("\(passed + failed.count) of \(total) judged …")
      var entries = [signals.descriptor, keyboard?.descriptor ?? -1].map {
        pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
      }
      entries += jobs.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
      guard (try? systemCall("poll", "", { poll(&entries, nfds_t(entries.count), -1) })) != nil else {
        continue
      }
      if entries[0].revents != 0, let signal = signals.signal(), signal != SIGWINCH {
        endAll()
        return .interrupted(signal)
      }
      if entries[1].revents != 0 {
        _ = keyboard?.read()
        endAll()
        return .stopped
      }
      let ready = zip(jobs, entries.dropFirst(2)).filter { $0.1.revents != 0 }.map(\.0)
      for job in ready {
        guard let status = job.step() else { continue }
        jobs.removeAll { $0 === job }
        line?.clear()
        tell(job, status)
      }
    }
    return .done
  }

  private func endAll() {
    for job in jobs { job.end() }
    jobs = []
  }

  private func startNext() throws(Complaint) {
    let exercise = waiting.removeFirst()
    guard case .failure(let complaint) = exercise.check else {
      jobs.append(try Job(exercise, workshop.place, workshop.page, isJSON: isJSON))
      return
    }
    failed.append(exercise)
    if isJSON {
      workshop.output.write(Workshop.json(exercise, hasPassed: false, complaint.description))
    } else {
      workshop.output.write(row(exercise, "✗", .bad, complaint.description))
    }
    workshop.output.flush()
  }

  private func tell(_ job: Job, _ status: Int32) {
    let exercise = job.exercise
    let hasPassed = status == ExitStatus.success
    if hasPassed {
      passed += 1
      if !workshop.progress[exercise].isDone { workshop.pass(exercise) }
    } else {
      failed.append(exercise)
    }
    if isJSON {
      let isLine = [ExitStatus.success, ExitStatus.failure].contains(status)
      workshop.output.write(
        isLine ? job.text : Workshop.json(exercise, hasPassed: false, Self.why(job, status)))
    } else if hasPassed {
      workshop.output.write(row(exercise, "✓", .good, Workshop.seconds(job.time)))
    } else {
      let why =
        status == ExitStatus.failure ? "not passed (\(Workshop.seconds(job.time)))" : Self.why(job, status)
      workshop.output.write(row(exercise, "✗", .bad, why))
    }
    workshop.output.flush()
  }

  /// Why one was not judged.
  private static func why(_ job: Job, _ status: Int32) -> String {
    let last = job.text.split(separator: "\n").last.map { String($0).printable } ?? "status \(status)"
    return "not judged: \(last.hasPrefix("\(name): ") ? String(last.dropFirst(name.count + 2)) : last)"
  }

  private func row(_ exercise: Exercise, _ mark: String, _ style: Style, _ end: String) -> String {
    let page = workshop.page
    let number = "\(exercise.number)".paddedLeft(to: "\(workshop.course.exercises.count)".count)
    let names = workshop.course.exercises.map(\.name.count).max() ?? 0
    let text =
      page.width < 60
      ? "\(number)  \(exercise.name)  \(end)" : "\(number)  \(exercise.name.padded(to: names))  \(end)"
    let lines = text.wrapped(to: page.width - 5)
    // The spaces between are for the eye; a row that does not fit is running text.
    guard lines.count > 1 else { return " \(style(mark, color: page.color)) \(text)\n" }
    return page.marked(mark, style, text)
  }

  /// How it went.
  var summary: String {
    let page = workshop.page
    guard !failed.isEmpty else {
      return page.marked("✓", .good, passed == 1 ? "It has passed." : "All \(passed) passed.")
    }
    let first = failed.min { $0.number < $1.number }
    return page.marked("✗", .bad, "\(passed) passed, \(failed.count) did not.")
      + page.rows([("what is wrong", workshop.place.command("check \(first?.number ?? 1)"))])
  }
}

extension Workshop {
  /// `check all`.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where no process can be started.
  func checkAll() throws(Complaint) -> Int32 {
    let exercises = CheckAll.exercises(self)
    let isJSON = options["format"] == "json"
    if exercises.isEmpty {
      if !isJSON { output.write(page.paragraph("Nothing was begun yet.") + nextSteps()) }
      return ExitStatus.success
    }
    let signals: Interruption
    do throws(SystemCallError) { signals = try Interruption() } catch { throw Complaint("\(error)") }
    let all = CheckAll(exercises, self, isJSON: isJSON, showsLine: !isJSON)
    switch try all.run(signals: signals, keyboard: nil) {
    case .interrupted(let signal): return 128 + signal
    case .done, .stopped: break
    }
    if !isJSON { output.write("\n" + all.summary) }
    return all.failed.isEmpty ? ExitStatus.success : ExitStatus.failure
  }
}
