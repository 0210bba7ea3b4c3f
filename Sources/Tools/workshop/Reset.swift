import CommandLineTool
import Glibc
import SystemCalls

extension Workshop {
  /// Makes an exercise's file what it was at first. What stands in it is kept in another one.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where that is not possible.
  func reset(_ exercise: Exercise, asks: Bool) throws(Complaint) -> Int32 {
    let shown = place.shown(exercise.source)
    guard let original = originals.bytes(exercise) else {
      throw Complaint("there is no copy of \(shown) as it was at first; 'git checkout' may have one")
    }
    let own = contents(ofFile: exercise.source)
    if own == original {
      output.write(page.paragraph("\(shown) is what it was at first."))
      return ExitStatus.success
    }
    if asks, !(try isWanted(shown)) {
      output.write(page.paragraph("Nothing was changed."))
      return ExitStatus.failure
    }
    var kept: String?
    do throws(SystemCallError) {
      if let own { kept = try keep(own, of: exercise) }
      try replaceFile(exercise.source, with: original)
    } catch {
      throw Complaint("\(shown) was not changed: \(error)")
    }
    update { progress in
      guard progress.knows(exercise) else { return }
      progress[exercise].done = nil
      progress[exercise].hints = 0
    }
    output.write(page.marked("✓", .good, "Exercise \(exercise.number) is what it was at first."))
    if let kept { output.write(page.rows([("your file is kept as", place.shown(kept))])) }
    return ExitStatus.success
  }

  private func isWanted(_ shown: String) throws(Complaint) -> Bool {
    output.write(
      page.paragraph("\(shown) will be what it was at first. What stands in it now is kept beside it."))
    output.flush()
    do throws(SystemCallError) {
      switch try LineEditor().readLine(prompt: " Go on? [y/N] ") {
      case .line(let answer): return ["y", "yes"].contains(answer.lowercased().filter { !$0.isWhitespace })
      case .interrupted: exit(ExitStatus.interrupted)
      case .end: return false
      }
    } catch {
      throw Complaint("your answer cannot be read (\(error)); --yes needs none")
    }
  }

  /// Keeps a copy under the first name that is free.
  private func keep(_ bytes: [UInt8], of exercise: Exercise) throws(SystemCallError) -> String {
    var number = 1
    while true {
      do throws(SystemCallError) {
        try makeFile(exercise.copy(number), bytes)
        return exercise.copy(number)
      } catch {
        guard error.errno.rawValue == EEXIST, number < 10_000 else { throw error }
        number += 1
      }
    }
  }
}
