import Glibc
import SystemCalls

/// Notices when a file's contents have changed.
///
/// Editors save in several ways: they write the file, or write another one and rename it. So the folder is watched, and what
/// counts is what the file holds. See: inotify(7)
final class FileWatcher {
  private let path: String
  private let folder: String
  private let name: String
  private let inotify: Int32
  private var watch: Int32 = -1
  private var known: [UInt8]?
  /// Why the kernel does not tell of changes; the file is looked at from time to time then.
  private(set) var refusal: SystemCallError?

  /// How often is looked where the kernel tells nothing, in milliseconds.
  private static let interval: Int32 = 300
  /// The same where it does: a folder may be replaced, or its file system tell nothing.
  private static let patience: Int32 = 2000

  /// With `polls` it does without the kernel's word, which says nothing of what another machine changes in a shared folder.
  init(_ path: String, folder: String, name: String, polls: Bool) {
    self.path = path
    self.folder = folder
    self.name = name
    known = contents(ofFile: path)
    inotify = polls ? -1 : inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
    if polls { return }
    if inotify < 0 {
      refusal = SystemCallError(call: "inotify_init1", errno: .last)
    } else {
      watchFolder()
      if watch < 0 { refusal = SystemCallError(call: "inotify_add_watch", asked: folder, errno: .last) }
    }
  }

  deinit { if inotify >= 0 { close(inotify) } }

  /// To be waited for; -1 for nothing.
  var descriptor: Int32 { watch >= 0 ? inotify : -1 }

  /// For how long to wait at most, in milliseconds.
  var timeout: Int32 { watch >= 0 ? Self.patience : Self.interval }

  /// Whether the file holds something else than at the last time; to be asked after each wait. One that is gone has not changed
  /// yet: an editor may be about to put it back.
  func hasChanged() -> Bool {
    readEvents()
    guard let now = contents(ofFile: path), now != known else { return false }
    known = now
    return true
  }

  private func watchFolder() {
    watch = inotify_add_watch(
      inotify, folder, UInt32(IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF))
  }

  private func readEvents() {
    guard inotify >= 0 else { return }
    var buffer = [UInt8](repeating: 0, count: 16 * 1024)
    while read(inotify, &buffer, buffer.count) > 0 {}
    // Another folder may have this name by now; to watch the same one twice is to watch it once.
    watchFolder()
  }
}
