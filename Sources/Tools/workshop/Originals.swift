import CommandLineTool
import Glibc
import Judging
import SystemCalls

/// The exercises as they were at first, for whoever wants to begin anew.
struct Originals {
  private let folder: String
  private let place: Place

  init(_ place: Place) {
    folder = "\(place.state)/.workshop/originals"
    self.place = place
  }

  /// Keeps a copy of each exercise that has none yet. The repository knows better than the folder, where somebody may have
  /// begun to edit already.
  ///
  /// - Throws: where nothing can be written.
  func keep(_ exercises: [Exercise]) throws(SystemCallError) {
    let missing = exercises.filter { access(path($0), F_OK) != 0 }
    guard !missing.isEmpty else { return }
    let knowsGit = ChildProcess.run(["git", "-C", place.course, "rev-parse", "HEAD"])?.status == 0
    for exercise in missing {
      let committed =
        knowsGit
        ? ChildProcess.run(["git", "-C", exercise.sourceFolder, "show", "HEAD:./\(exercise.sourceName)"])
        : nil
      let bytes = committed.flatMap { $0.status == 0 ? $0.output : nil } ?? contents(ofFile: exercise.source)
      guard let bytes else { continue }
      let path = path(exercise)
      try makeFolder(String(path.dropLast(exercise.sourceName.count + 1)))
      try replaceFile(path, with: bytes)
    }
  }

  /// An exercise as it was at first; nil where no copy was kept.
  func bytes(_ exercise: Exercise) -> [UInt8]? { contents(ofFile: path(exercise)) }

  /// Whether somebody has edited it. Where no copy was kept that may be.
  func isEdited(_ exercise: Exercise) -> Bool { bytes(exercise) != contents(ofFile: exercise.source) }

  private func path(_ exercise: Exercise) -> String {
    let lesson = exercise.name.split(separator: "/").first ?? ""
    return "\(folder)/\(lesson)/\(exercise.sourceName)"
  }
}
