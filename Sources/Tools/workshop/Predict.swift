import CommandLineTool

extension Workshop {
  /// Runs the learner's own program under the narrator, which asks before each call what it will do.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where the exercise cannot be used.
  func predict(_ exercise: Exercise) throws(Complaint) -> Int32 {
    _ = try exercise.check.get()
    throw Complaint("'predict' is not there yet")
  }
}
