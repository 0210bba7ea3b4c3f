import CommandLineTool
import Judging

extension Workshop {
  /// Runs the learner's own program under the narrator, which asks before each call what it will do.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where the exercise cannot be used, or the program cannot be followed.
  func predict(_ exercise: Exercise) throws(Complaint) -> Int32 {
    let check = try exercise.check.get()
    output.flush()
    return try Judge(
      check: check, source: exercise.source, headers: place.headers, appearance: appearance
    ).predict()
  }

  /// What the judge's words are laid out for.
  var appearance: Judge.Appearance {
    var appearance = Judge.Appearance()
    (appearance.width, appearance.color) = (page.width, page.color)
    return appearance
  }
}
