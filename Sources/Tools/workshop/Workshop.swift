import CommandLineTool
import Glibc
import Judging
import SystemCalls

/// A course, how far somebody has come in it, and where to write.
final class Workshop {
  let place: Place
  let course: Course
  let file: ProgressFile
  let originals: Originals
  let output: Output
  let options: Arguments
  private(set) var progress: Progress

  /// - Throws: where there is no course, or nobody can read how far it is done.
  init(_ options: Arguments) throws(Complaint) {
    self.options = options
    place = try Place(course: options["course"])
    course = try Course(place)
    file = ProgressFile(place, course)
    originals = Originals(place)
    output = Output(descriptor: STDOUT_FILENO)
    progress = try file.read()
  }

  /// The terminal, as it is now.
  var page: Page {
    let terminal = Terminal(descriptor: STDOUT_FILENO)
    return Page(
      width: terminal.width, color: terminal.wantsColor(options["color"].flatMap(ColorMode.init) ?? .auto))
  }

  /// What is done once, whatever is asked: a copy of each exercise is kept, and nonsense in the progress is told.
  func open() {
    do throws(SystemCallError) { try originals.keep(course.exercises, progress) } catch {
      note("no copies of the exercises are kept for 'reset': \(error)")
    }
    tellRemarks()
  }

  /// Tells what in the progress makes no sense.
  private func tellRemarks() {
    for remark in progress.remarks.prefix(3) {
      note("\(place.shown(file.path)): \(remark); it is left as it is")
    }
    let more = progress.remarks.count - 3
    if more > 0 { note("\(place.shown(file.path)): and so in \(counted(more, "further line"))") }
  }

  /// A line beside what was asked for.
  func note(_ text: String) {
    output.flush()
    printToStandardError("\(name): \(text)\n")
  }

  /// Reads how far it is done; somebody else may have gone on.
  func refresh() { if let now = try? file.read() { progress = now } }

  /// Writes down what has changed. Where that cannot be done it is told, and everything else goes on.
  func update(_ change: (inout Progress) -> Void) {
    do throws(Complaint) { progress = try file.update(change) } catch {
      note(error.description)
      change(&progress)
    }
  }

  // --- which exercise ---

  /// The one in progress; nil where that is done, or none was begun.
  var inProgress: Exercise? { latest.flatMap { progress[$0].isDone ? nil : $0 } }

  /// The one that was begun last, done or not.
  var latest: Exercise? { course.exercises.first { progress[$0].isCurrent } }

  /// What comes next, after an exercise or the latest one.
  func next(after exercise: Exercise? = nil) -> Exercise? { course.next(after: exercise ?? latest, progress) }

  /// The one that is named; else the one in progress, else the next.
  ///
  /// - Throws: where none is named and all are done.
  func exercise(_ word: String?) throws(Complaint) -> Exercise {
    if let word { return try course.exercise(word) }
    if let exercise = inProgress ?? next() { return exercise }
    throw Complaint(
      "all exercises are done; name the one that you mean: a number from 1 to \(course.exercises.count)")
  }

  /// The one that is named; else the latest, done or not, else the next.
  func latestExercise(_ word: String?) throws(Complaint) -> Exercise {
    if word == nil, let latest { return latest }
    return try exercise(word)
  }

  var doneCount: Int { course.exercises.filter { progress[$0].isDone }.count }

  // --- words that several commands have ---

  /// "Exercise 3 of 26 · 03-listen · A listening socket"
  func heading(_ exercise: Exercise) -> String {
    page.heading(["Exercise \(exercise.number) of \(course.exercises.count)", exercise.name, exercise.title])
  }

  /// What comes after an exercise, and what to do for it.
  func nextSteps(after exercise: Exercise? = nil, to listener: Listener = .shell) -> String {
    guard let next = next(after: exercise) else {
      guard doneCount == course.exercises.count else { return "" }
      return page.marked(
        "★", .good,
        course.exercises.count == 1
          ? "The exercise is done." : "All \(course.exercises.count) exercises are done.")
    }
    let words = "Next is exercise \(next.number), \(next.name): \(next.title)"
    if case .watcher = listener { return page.paragraph("\(words). Press n for it.") }
    return page.paragraph(words) + page.rows([("", place.command("start \(next.number)"))])
  }
}
