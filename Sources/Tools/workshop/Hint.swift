import CommandLineTool

extension Workshop {
  /// Tells one hint more; when all are told, all of them.
  ///
  /// - Throws: where the exercise cannot be used.
  func hintText(_ exercise: Exercise) throws(Complaint) -> String {
    let hints = try exercise.check.get().hints
    let page = page
    let told = min(progress[exercise].hints, hints.count)
    guard told < hints.count else {
      var text = page.heading(["All \(hints.count) hints", exercise.name])
      for (number, hint) in hints.enumerated() {
        text += page.marked("\(number + 1)", .strong, hint.printable)
      }
      return text + "\n" + page.paragraph("There are no more. What is left is the solution:")
        + page.rows([
          ("", place.command("solution \(exercise.number)" + (mayBeShown(exercise) ? "" : " --give-up")))
        ])
    }
    update { progress in
      // Two that ask at the same time get two hints.
      progress[exercise].hints = max(progress[exercise].hints, told + 1)
      progress[exercise].started = progress[exercise].started ?? ProgressEntry.now()
    }
    let left = hints.count - told - 1
    return page.heading(["Hint \(told + 1) of \(hints.count)", exercise.name])
      + page.paragraph(hints[told].printable, indent: 3) + "\n"
      + (left == 0
        ? page.paragraph("That was the last one.", style: .quiet)
        : page.paragraph("\(left) more, each tells more than the one before.", style: .quiet))
  }

  /// Whether the solution is a secret no more.
  func mayBeShown(_ exercise: Exercise) -> Bool { progress[exercise].isDone || progress[exercise].isGivenUp }
}
