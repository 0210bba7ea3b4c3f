import CommandLineTool
import Glibc
import SystemCalls

/// The file `.workshop/progress`. Several workshops may change it at the same time.
struct ProgressFile {
  private let folder: String
  private let names: [String]
  private let place: Place

  var path: String { "\(folder)/progress" }

  init(_ place: Place, _ course: Course) {
    folder = "\(place.state)/.workshop"
    names = course.exercises.map(\.name)
    self.place = place
  }

  /// - Throws: where it is there, and cannot be read.
  func read() throws(Complaint) -> Progress {
    guard let bytes = contents(ofFile: path) else {
      let failure = ErrorNumber.last
      guard [ENOENT, ENOTDIR].contains(failure.rawValue) else {
        throw Complaint("\(place.shown(path)) cannot be read: \(failure)")
      }
      return Progress(nil, names: names)
    }
    return Progress(bytes, names: names)
  }

  /// Changes it, as it is now. It is written beside and renamed: nobody ever reads half of it. See: flock(2), rename(2)
  ///
  /// - Throws: where it cannot be written.
  @discardableResult
  func update(_ change: (inout Progress) -> Void) throws(Complaint) -> Progress {
    let lock = try lock()
    var progress = try read()
    change(&progress)
    if progress.isChanged {
      do throws(SystemCallError) { try replaceFile(path, with: progress.bytes) } catch {
        throw unwritable(error)
      }
    }
    try? lock.close()
    return progress
  }

  /// The folder, locked, as long as it is held.
  private func lock() throws(Complaint) -> Descriptor {
    do throws(SystemCallError) {
      try makeFolder(folder)
      let lock = try Descriptor.open(folder, O_RDONLY | O_DIRECTORY)
      // Some network file systems lock no folder; there the later one of two that write at the same moment wins.
      _ = try? systemCall("flock", folder) { flock(lock.number, LOCK_EX) }
      return lock
    } catch { throw unwritable(error) }
  }

  private func unwritable(_ error: SystemCallError) -> Complaint {
    Complaint("\(place.shown(path)) cannot be written, and forgets what was done: \(error.errno)")
  }
}
