import CommandLineTool

extension Workshop {
  /// What an exercise asks for.
  ///
  /// - Parameters:
  ///   - exercise: which.
  ///   - listener: who is told what to do then.
  /// - Returns: a page.
  /// - Throws: where it cannot be used.
  func taskText(_ exercise: Exercise, to listener: Listener) throws(Complaint) -> String {
    let check = try exercise.check.get()
    let page = page
    var rows: [(label: String, value: String)] = []
    if let command = place.run(lesson: check.lesson) {
      rows.append(("run first", command))
    } else if !check.lesson.isEmpty {
      rows.append(("first", check.lesson.printable))
    }
    if let text = exercise.text { rows.append(("read", place.shown(text))) }
    rows.append(("edit", place.shown(exercise.source)))
    if case .shell = listener {
      rows += [("check it", place.command("watch")), ("stuck?", place.command("hint"))]
    }
    return heading(exercise) + "\n" + page.comment(try exercise.task()) + "\n" + page.rows(rows)
  }

  /// Begins an exercise.
  func start(_ exercise: Exercise) throws(Complaint) {
    let text = try taskText(exercise, to: .shell)
    update { $0.begin(exercise) }
    output.write(text)
  }
}
