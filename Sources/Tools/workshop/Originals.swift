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

  /// Keeps a copy of each exercise that has none yet, and a new one where the course has changed under somebody who has not begun
  /// it: then the file is what the repository has. That knows better than the folder, where somebody may have begun to edit already.
  ///
  /// - Throws: where nothing can be written.
  func keep(_ exercises: [Exercise], _ progress: Progress) throws(SystemCallError) {
    let missing = exercises.filter { access(path($0), F_OK) != 0 }
    let other = exercises.filter { exercise in
      !progress.knows(exercise) && isEdited(exercise) && !missing.contains { $0 === exercise }
    }
    guard !(missing + other).isEmpty else { return }
    let knowsGit = ChildProcess.run(["git", "-C", place.course, "rev-parse", "HEAD"])?.status == 0
    func committed(_ exercise: Exercise) -> [UInt8]? {
      let command = ["git", "-C", exercise.sourceFolder, "show", "HEAD:./\(exercise.sourceName)"]
      return knowsGit ? ChildProcess.run(command).flatMap { $0.status == 0 ? $0.output : nil } : nil
    }
    for exercise in missing {
      guard let bytes = committed(exercise) ?? contents(ofFile: exercise.source) else { continue }
      try write(bytes, exercise)
    }
    for exercise in other {
      guard let bytes = committed(exercise), bytes == contents(ofFile: exercise.source) else { continue }
      try write(bytes, exercise)
    }
  }

  private func write(_ bytes: [UInt8], _ exercise: Exercise) throws(SystemCallError) {
    let path = path(exercise)
    try makeFolder(String(path.dropLast(exercise.sourceName.count + 1)))
    try replaceFile(path, with: bytes)
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
