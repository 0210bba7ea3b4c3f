import CommandLineTool
import SystemCalls

extension Workshop {
  /// Shows a solution beside what the learner has, to whoever has found one, or gives up.
  ///
  /// - Throws: where it is to be found yet.
  func showSolution(_ exercise: Exercise, givesUp: Bool) throws(Complaint) {
    guard givesUp || mayBeShown(exercise) else {
      throw Complaint(
        "exercise \(exercise.number) has not passed yet. Its solution is shown when it has, or with --give-up; '\(place.command("hint \(exercise.number)"))' tells less"
      )
    }
    guard let solution = text(ofFile: exercise.solution) else {
      throw Complaint("\(place.shown(exercise.solution)) cannot be read: \(ErrorNumber.last)")
    }
    guard let own = text(ofFile: exercise.source) else {
      throw Complaint("\(place.shown(exercise.source)) cannot be read: \(ErrorNumber.last)")
    }
    if !mayBeShown(exercise) {
      update { progress in
        progress[exercise].isGivenUp = true
        progress[exercise].started = progress[exercise].started ?? ProgressEntry.now()
      }
    }
    let page = page
    let difference = LineDifference(from: Self.lines(own), to: Self.lines(solution))
    if difference.hunks.isEmpty {
      return output.write(page.paragraph("\(place.shown(exercise.source)) is the solution, line by line."))
    }
    let terminal = Terminal(descriptor: output.descriptor)
    output.write(
      difference.text(
        old: place.shown(exercise.source), new: place.shown(exercise.solution),
        width: terminal.isTerminal ? page.width : nil, color: page.color))
    if terminal.isTerminal {
      output.write("\n" + page.paragraph("- stands in your file, + in the solution.", style: .quiet))
    }
  }

  private static func lines(_ text: String) -> [String] {
    var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map {
      String($0.last == "\r" ? $0.dropLast() : $0)
    }
    if lines.last == "" { lines.removeLast() }
    return lines
  }
}
