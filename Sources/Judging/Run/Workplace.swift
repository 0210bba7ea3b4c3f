import CommandLineTool
import Foundation
import SystemCalls

/// Where a program is compiled, and where it runs: a temporary folder of the judge's own.
struct Workplace {
  let folder: String
  var program: String { "\(folder)/program" }
  /// The program's current folder, the same for all trials of a check.
  var current: String { "\(folder)/run" }
  /// Who lives in the folder holds this lock. What nobody holds was left behind.
  private let lock: Int32

  init() throws(Complaint) {
    let parent = FileManager.default.temporaryDirectory.path
    Self.sweep(parent)
    var made = try Self.make(parent)
    // Another judge that sweeps may have taken it for one that was left behind, before it was locked.
    while access("\(made.folder)/lock", F_OK) != 0 {
      close(made.lock)
      made = try Self.make(parent)
    }
    (folder, lock) = made
    try prepare()
  }

  private static func make(_ parent: String) throws(Complaint) -> (folder: String, lock: Int32) {
    var template = Array("\(parent)/\(beginning)XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw Complaint(
        "no temporary folder can be made in \(parent): \(ErrorNumber.last). TMPDIR names another place")
    }
    let folder = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    let lock = open("\(folder)/lock", O_CREAT | O_RDWR | O_CLOEXEC, 0o600)
    guard lock >= 0, flock(lock, LOCK_EX) == 0 else {
      throw Complaint("\(folder)/lock cannot be made: \(ErrorNumber.last)")
    }
    return (folder, lock)
  }

  /// Makes the program's folder, where there is none; it may have been taken away by the program itself.
  func prepare() throws(Complaint) {
    guard mkdir(current, 0o700) == 0 || errno == EEXIST && chmod(current, 0o700) == 0 else {
      throw Complaint("\(current) cannot be made: \(ErrorNumber.last)")
    }
  }

  func remove() {
    // What the program has closed to everybody cannot be emptied.
    chmod(current, 0o700)
    try? FileManager.default.removeItem(atPath: folder)
    close(lock)
  }

  private static let beginning = "socketsteps-workshop-"

  /// Removes what judges have left behind that were killed.
  private static func sweep(_ parent: String) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
    where name.hasPrefix(beginning) {
      let folder = "\(parent)/\(name)"
      var state = stat()
      guard lstat(folder, &state) == 0, state.st_uid == geteuid(), state.st_mode & S_IFMT == S_IFDIR else {
        continue
      }
      let lock = open("\(folder)/lock", O_RDWR | O_CLOEXEC)
      guard lock >= 0 else { continue }
      defer { close(lock) }
      if flock(lock, LOCK_EX | LOCK_NB) == 0 { try? FileManager.default.removeItem(atPath: folder) }
    }
  }
}
