import CLinux
import CommandLineTool
import Glibc
import Judging
import SystemCalls

extension Workshop {
  /// Judges one exercise, in this process.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where it cannot be judged.
  func check(_ exercise: Exercise) throws(Complaint) -> Int32 {
    let isFirst = !progress[exercise].isDone
    if exercise.isUsable { update { $0.begin(exercise) } }
    let isJSON = options["format"] == "json"
    let line = StatusLine()
    if !isJSON { line.show("exercise \(exercise.number): compiling, running …") }
    let begun = monotonicNanoseconds()
    let verdict: Verdict
    do throws(Complaint) { verdict = try judge(exercise, isJSON: isJSON) } catch {
      line.clear()
      guard isJSON, error.status == ExitStatus.failure else { throw error }
      output.write(Self.json(exercise, hasPassed: false, error.description))
      return ExitStatus.failure
    }
    line.clear()
    let time = monotonicNanoseconds() &- begun
    if verdict.hasPassed { pass(exercise) }
    if isJSON {
      output.write(Self.json(exercise, hasPassed: verdict.hasPassed, verdict.text, unused: verdict.unused))
    } else {
      output.write(Self.told(verdict, page))
      output.write(verdict.hasPassed ? success(exercise, time, isFirst: isFirst) : failure(exercise, time))
    }
    return verdict.hasPassed ? ExitStatus.success : ExitStatus.failure
  }

  /// Judges one for the workshop that has started this process: says what the judge says, and nothing else.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where it cannot be judged, with the status `Job.unjudged`.
  func checkForParent(_ exercise: Exercise) throws(Complaint) -> Int32 {
    // Whoever wanted to know may be gone before this ends.
    clinux_prctl(PR_SET_PDEATHSIG, UInt(SIGTERM), 0, 0, 0)
    let isJSON = options["format"] == "json"
    let verdict: Verdict
    do throws(Complaint) { verdict = try judge(exercise, isJSON: isJSON) } catch {
      guard error.status == ExitStatus.failure else { throw error }
      throw Complaint(error.description, status: Job.unjudged)
    }
    output.write(
      isJSON
        ? Self.json(exercise, hasPassed: verdict.hasPassed, verdict.text, unused: verdict.unused)
        : Self.told(verdict, page))
    return verdict.hasPassed ? ExitStatus.success : ExitStatus.failure
  }

  private func judge(_ exercise: Exercise, isJSON: Bool) throws(Complaint) -> Verdict {
    let appearance = isJSON ? Judge.Appearance() : appearance
    let check = try exercise.check.get()
    return try Judge(check: check, source: exercise.source, headers: place.headers, appearance: appearance)
      .judge()
  }

  /// Writes down that an exercise has passed.
  func pass(_ exercise: Exercise) {
    update { progress in
      progress[exercise].started = progress[exercise].started ?? ProgressEntry.now()
      progress[exercise].done = progress[exercise].done ?? ProgressEntry.now()
    }
  }

  /// What the judge says.
  private static func told(_ verdict: Verdict, _ page: Page) -> String {
    guard verdict.hasPassed else { return verdict.text }
    // What the compiler warns of does no harm, and is to be seen.
    let warnings = verdict.text.isEmpty ? "" : verdict.text + "\n"
    return warnings + verdict.trials.map { page.marked("✓", .good, $0) }.joined()
  }

  /// One line of `--format json`. `unused` are faults that were done to no call.
  static func json(_ exercise: Exercise, hasPassed: Bool, _ text: String, unused: [String] = []) -> String {
    JSON.object([
      .init("exercise", .string(exercise.name)), .init("passed", .boolean(hasPassed)),
      .init("text", .string(text)), .init("unused", .array(unused.map(JSON.string))),
    ]).line + "\n"
  }

  /// Who is told what to do next.
  enum Listener {
    case shell
    /// Somebody who watches, and has keys for it; and when it was.
    case watcher(at: String)
  }

  /// What is said after a passed check.
  func success(_ exercise: Exercise, _ time: UInt64, isFirst: Bool, to listener: Listener = .shell) -> String
  {
    let page = page
    var text =
      "\n"
      + page.marked(
        "✓", .good,
        "Exercise \(exercise.number), \(exercise.name), has passed (\(Self.seconds(time))\(listener.words)).")
    text += page.paragraph("You have learnt: \(exercise.title)", indent: 3)
    if isFirst { text += "\n" + page.bar(done: doneCount, of: course.exercises.count) }
    let next = nextSteps(after: exercise, to: listener)
    text += next.isEmpty ? "" : "\n" + next
    guard access(exercise.solution, R_OK) == 0 else { return text }
    return text + page.paragraph("Another way to write it:", style: .quiet)
      + page.rows([("", place.command("solution \(exercise.number)"))])
  }

  /// What is said after a check that has not passed.
  func failure(_ exercise: Exercise, _ time: UInt64, to listener: Listener = .shell) -> String {
    let page = page
    let text =
      "\n"
      + page.marked(
        "✗", .bad,
        "Exercise \(exercise.number), \(exercise.name): not yet (\(Self.seconds(time))\(listener.words)).")
    let left = ((try? exercise.check.get().hints.count) ?? 0) - progress[exercise].hints
    guard left > 0 else { return text }
    let isFirst = progress[exercise].hints == 0
    let count = isFirst ? counted(left, "hint") : counted(left, "more hint")
    let words =
      isFirst
      ? "Stuck? There \(left == 1 ? "is" : "are") \(count)" : "There \(left == 1 ? "is" : "are") \(count)"
    if case .watcher = listener { return text + page.paragraph("\(words): press h.", indent: 3) }
    return text + page.paragraph("\(words):", indent: 3) + page.rows([("", place.command("hint"))])
  }

  /// "2.1 s"
  static func seconds(_ nanoseconds: UInt64) -> String {
    let tenths = (nanoseconds &+ 50_000_000) / 100_000_000
    return "\(tenths / 10).\(tenths % 10) s"
  }
}

extension Workshop.Listener {
  fileprivate var words: String {
    switch self {
    case .shell: ""
    case .watcher(let time): ", at \(time)"
    }
  }
}

/// One line at a terminal that says what is being done, and goes away.
final class StatusLine {
  private let isShown: Bool

  init() {
    let isDumb = getenv("TERM").map { String(cString: $0) == "dumb" } ?? true
    isShown = Terminal(descriptor: STDERR_FILENO).isTerminal && !isDumb
  }

  func show(_ what: String) {
    if isShown {
      printToStandardError("\r\u{1b}[K\(what.truncated(to: Terminal(descriptor: STDERR_FILENO).width - 1))")
    }
  }

  func clear() { if isShown { printToStandardError("\r\u{1b}[K") } }
}
