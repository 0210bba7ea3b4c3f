import CommandLineTool

extension Workshop {
  /// Where you are, what is next, and what to type.
  var overview: String {
    let page = page
    var text = page.bar(done: doneCount, of: course.exercises.count) + "\n"
    guard let exercise = inProgress ?? next() else {
      let broken = course.exercises.filter { !$0.isUsable }
      if broken.isEmpty {
        return text + page.marked("★", .good, "All exercises are done.") + "\n"
          + page.paragraph("Whether they still pass, and what there is:")
          + page.rows([("", place.command("check all")), ("", place.command("list"))])
      }
      return text
        + page.paragraph("What is left cannot be used: \(broken.map(\.name).joined(separator: ", "))")
        + page.rows([("", place.command("list"))])
    }
    let isBegun = inProgress != nil
    if doneCount == 0, !isBegun {
      text +=
        page.paragraph(
          "An exercise is a small program with something missing. You write that, and save the file; the workshop compiles it, runs it, "
            + "plays the other side, and says what the kernel has seen.") + "\n"
    }
    text += page.paragraph(isBegun ? "In progress" : "Next", style: .quiet) + heading(exercise) + "\n"
    guard isBegun else {
      text += page.rows([
        ("what to do", place.command("start \(exercise.number)")),
        ("all exercises", place.command("list")),
      ])
      // Once, at the beginning, is the time to look whether everything is there.
      return doneCount > 0 ? text : text + page.rows([("is all there?", place.command("doctor"))])
    }
    let told = progress[exercise].hints
    let count = (try? exercise.check.get().hints.count) ?? 0
    return text
      + page.rows([
        ("the file", place.shown(exercise.source)),
        ("the task", place.command("start")),
        ("check it whenever you save", place.command("watch")),
        ("check it once", place.command("check")),
        (told == 0 ? "a hint" : "a hint (\(min(told, count)) of \(count) told)", place.command("hint")),
      ])
  }
}
