import CommandLineTool

extension Workshop {
  /// What an exercise asks for, and what to type.
  ///
  /// - Throws: where it cannot be used.
  func taskText(_ exercise: Exercise) throws(Complaint) -> String {
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
    return heading(exercise) + "\n" + page.comment(try exercise.task()) + "\n" + page.rows(rows)
  }

  /// Begins an exercise.
  func start(_ exercise: Exercise) throws(Complaint) {
    let text = try taskText(exercise)
    update { $0.begin(exercise) }
    output.write(
      text
        + page.rows([
          ("check it", place.command("watch")),
          ("stuck?", place.command("hint")),
        ]))
  }
}
