import CommandLineTool
import Foundation

/// Where a program is compiled, and where it runs: a temporary folder, named after the process that judges.
struct Workplace {
  let folder: String
  var program: String { "\(folder)/program" }
  /// The program's current folder, the same for all trials of a check.
  var current: String { "\(folder)/run" }

  init() throws(Complaint) {
    let parent = FileManager.default.temporaryDirectory
    Self.sweep(parent.path)
    folder = parent.appendingPathComponent("\(Self.beginning)\(getpid())").path
    do {
      if FileManager.default.fileExists(atPath: folder) { try FileManager.default.removeItem(atPath: folder) }
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
      try FileManager.default.createDirectory(atPath: current, withIntermediateDirectories: false)
    } catch {
      throw Complaint(
        "no temporary folder can be made: \(error.localizedDescription). Is the disk full? TMPDIR names another place"
      )
    }
  }

  func remove() { try? FileManager.default.removeItem(atPath: folder) }

  private static let beginning = "socketsteps-workshop-"

  /// Removes what judges have left behind that were killed.
  private static func sweep(_ parent: String) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
    where name.hasPrefix(beginning) {
      // Another user's cannot be removed; that is as well.
      guard let process = pid_t(name.dropFirst(beginning.count)), kill(process, 0) == -1, errno == ESRCH
      else { continue }
      try? FileManager.default.removeItem(atPath: "\(parent)/\(name)")
    }
  }
}
