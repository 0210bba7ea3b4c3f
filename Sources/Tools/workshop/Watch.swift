import CommandLineTool
import Glibc
import Sockets
import SystemCalls

/// Checks an exercise whenever its file is saved, and takes keys meanwhile.
final class Watch {
  /// What is to be seen.
  private enum Scene {
    /// The task, until something is saved.
    case task
    case checking
    /// What the judge has said, with the end of it.
    case verdict
    /// Something else, until a key is pressed or the file is saved.
    case aside(String)
  }

  private let workshop: Workshop
  private var exercise: Exercise
  private let signals: Interruption
  private let keyboard: Keyboard?
  private let polls: Bool
  private let isTerminal: Bool
  private var watcher: FileWatcher
  private var job: Job?
  private var scene = Scene.task
  /// What came of the last check.
  private var verdict: (text: String, end: (Page) -> String)?
  private var hint: String?

  /// - Throws: where the exercise cannot be used.
  init(_ exercise: Exercise, _ workshop: Workshop, polls: Bool) throws(Complaint) {
    _ = try exercise.check.get()
    self.exercise = exercise
    self.workshop = workshop
    self.polls = polls
    do throws(SystemCallError) {
      signals = try Interruption([SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP])
    } catch { throw Complaint("\(error)") }
    keyboard = Keyboard()
    let isDumb = getenv("TERM").map { String(cString: $0) == "dumb" } ?? true
    isTerminal = Terminal(descriptor: STDOUT_FILENO).isTerminal && !isDumb
    watcher = Self.watcher(exercise, polls)
  }

  private static func watcher(_ exercise: Exercise, _ polls: Bool) -> FileWatcher {
    FileWatcher(exercise.source, folder: exercise.sourceFolder, name: exercise.sourceName, polls: polls)
  }

  /// Until somebody quits.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where no check can be started.
  func run() throws(Complaint) -> Int32 {
    keyboard?.take()
    defer {
      job?.end()
      keyboard?.release()
    }
    if let refusal = watcher.refusal {
      workshop.note(
        "the kernel does not tell when files change (\(refusal)); they are looked at three times a second")
    }
    try begin()
    while true {
      var entries = [
        signals.descriptor, keyboard?.descriptor ?? -1, watcher.descriptor, job?.descriptor ?? -1,
      ].map {
        pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
      }
      do throws(SystemCallError) {
        try systemCall("poll") { poll(&entries, nfds_t(entries.count), watcher.timeout) }
      } catch { throw Complaint("\(error)") }
      if entries[0].revents != 0, let signal = signals.signal(), let status = heed(signal) { return status }
      if entries[1].revents != 0 {
        guard let key = keyboard?.read() else { return ExitStatus.success }  // the terminal has gone
        if let status = try press(key) { return status }
      }
      if entries[3].revents != 0 { follow() }
      if watcher.hasChanged() { try check() }
      if workshop.output.failure != nil { return ExitStatus.outputClosed }
    }
  }

  // --- what happens ---

  private func heed(_ signal: Int32) -> Int32? {
    switch signal {
    case SIGWINCH: draw()
    case SIGTSTP:
      keyboard?.release()
      kill(getpid(), SIGSTOP)
      // Here it goes on.
      keyboard?.take()
      draw()
    default:
      job?.end()
      keyboard?.release()
      workshop.output.write("\n")
      return 128 + signal
    }
    return nil
  }

  /// Turns to the exercise. One that somebody has worked at is checked at once.
  private func begin() throws(Complaint) {
    workshop.update { $0.begin(exercise) }
    (verdict, hint, scene) = (nil, nil, .task)
    if workshop.originals.isEdited(exercise) { try check() } else { draw() }
  }

  private func check() throws(Complaint) {
    job?.end()
    job = try Job(exercise, workshop.place, workshop.page)
    (verdict, hint, scene) = (nil, nil, .checking)
    draw()
  }

  /// Takes what the judge says.
  private func follow() {
    guard let job, let status = job.step() else { return }
    self.job = nil
    let (exercise, time, workshop) = (job.exercise, job.time, workshop)
    let listener = listener
    workshop.refresh()
    switch status {
    case ExitStatus.success:
      let isFirst = !workshop.progress[exercise].isDone
      workshop.pass(exercise)
      verdict = (
        job.text, { _ in workshop.success(exercise, time, isFirst: isFirst, to: listener) }
      )
    case ExitStatus.failure:
      verdict = (job.text, { _ in workshop.failure(exercise, time, to: listener) })
    default:
      verdict = (
        job.text,
        { page in
          "\n" + page.marked("✗", .bad, "It was not judged. What is missing here:")
            + page.rows([("", workshop.place.command("doctor"))])
        }
      )
    }
    scene = .verdict
    draw()
  }

  private func press(_ key: Character) throws(Complaint) -> Int32? {
    workshop.refresh()
    switch key {
    case "q", "Q", "\u{4}":
      job?.end()
      workshop.output.write("\n")
      return ExitStatus.success
    case "n", "N":
      guard let next = workshop.next(after: exercise) else {
        show("There is no other exercise left to do.")
        break
      }
      job?.end()
      job = nil
      exercise = next
      watcher = Self.watcher(next, polls)
      try begin()
    case "h", "H":
      hint = try workshop.hintText(exercise)
      if case .aside = scene { scene = back }
      draw()
    case "l", "L":
      if case .aside = scene { scene = back } else { scene = .aside(workshop.list(says: false)) }
      draw()
    case "c", "C": return try checkAll()
    case "\r", "\n", " ":
      if case .aside = scene { scene = back }
      draw()
    default: break
    }
    return nil
  }

  private var listener: Workshop.Listener {
    keyboard == nil ? .shell : .watcher(at: ProgressEntry.now("%H:%M:%S"))
  }

  private var back: Scene { job != nil ? .checking : verdict != nil ? .verdict : .task }

  private func checkAll() throws(Complaint) -> Int32? {
    let exercises = CheckAll.exercises(workshop)
    job?.end()
    let wasChecking = job != nil
    job = nil
    clear()
    workshop.output.write(
      workshop.page.heading(["All that was begun", counted(exercises.count, "exercise"), "any key ends it"])
        + "\n")
    workshop.output.flush()
    let all = CheckAll(exercises, workshop, isJSON: false, showsLine: isTerminal)
    let end = try all.run(signals: signals, keyboard: keyboard)
    switch end {
    case .interrupted(let signal):
      if let status = heed(signal) { return status }
      workshop.output.write(workshop.page.paragraph("Broken off."))
    case .stopped: workshop.output.write(workshop.page.paragraph("Broken off."))
    case .done: workshop.output.write("\n" + all.summary)
    }
    // It stays to be seen until there is something else.
    workshop.output.write(footer)
    workshop.output.flush()
    if wasChecking { try check() }
    return nil
  }

  // --- what is seen ---

  private func show(_ text: String) {
    scene = .aside(workshop.page.paragraph(text))
    draw()
  }

  private func clear() { workshop.output.write(isTerminal ? "\u{1b}[H\u{1b}[2J" : "\n") }

  private func draw() {
    let page = workshop.page
    clear()
    var text = ""
    switch scene {
    case .task:
      // What is broken was told when it was turned to.
      text += (try? workshop.taskText(exercise, to: listener)) ?? workshop.heading(exercise)
      text +=
        "\n" + page.paragraph("Nothing is changed in it yet; it is checked when you save it.", style: .quiet)
    case .checking:
      text += workshop.heading(exercise) + "\n" + page.paragraph("Compiling, running …", style: .quiet)
    case .verdict:
      text += workshop.heading(exercise) + "\n"
      if let verdict { text += verdict.text + verdict.end(page) }
    case .aside(let aside): text += aside
    }
    if let hint, !isAside { text += "\n" + hint }
    workshop.output.write(text + footer)
    workshop.output.flush()
  }

  private var isAside: Bool { if case .aside = scene { true } else { false } }

  private var footer: String {
    let keys =
      keyboard == nil
      ? ["ctrl-C ends this"]
      : (isAside ? ["Enter: back"] : []) + ["n: next", "h: hint", "l: list", "c: check all", "q: quit"]
    // A key and what it does stay in one line.
    let text = keys.map { $0.replacing(" ", with: "\u{a0}") }.joined(separator: " · ")
    return "\n" + workshop.page.paragraph(text, style: .quiet).replacing("\u{a0}", with: " ")
  }
}

extension Workshop {
  /// `watch`.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where the exercise cannot be used, or no check be started.
  func watch(_ exercise: Exercise) throws(Complaint) -> Int32 {
    try Watch(exercise, self, polls: options.has("poll")).run()
  }
}
