import CommandLineTool
import Glibc
import Judging
import SystemCalls

/// A check in a process of its own: this executable, started again.
final class Job {
  /// The hidden word that makes it say what the judge says, and nothing else.
  static let word = "--for-its-parent"
  /// The status of one that could not judge.
  static let unjudged: Int32 = 3

  let exercise: Exercise
  let begun = monotonicNanoseconds()
  private let child: ChildProcess
  private(set) var bytes: [UInt8] = []

  /// What it says is laid out for `page`, or is JSON.
  ///
  /// - Throws: where it cannot be started.
  init(_ exercise: Exercise, _ place: Place, _ page: Page, isJSON: Bool = false) throws(Complaint) {
    self.exercise = exercise
    let itself = destination(ofLink: "/proc/self/exe") ?? ""
    // A new build may have taken its place; the old one is still there under this name.
    let path = access(itself, X_OK) == 0 ? itself : "/proc/self/exe"
    let command =
      [path, "check", "\(exercise.number)", Job.word, "--color", page.color ? "always" : "never"]
      + ["--format", isJSON ? "json" : "text"] + place.courseWords
    do throws(SystemCallError) {
      child = try ChildProcess(command, environment: ["COLUMNS": "\(page.width)"])
    } catch { throw Complaint("\(error)") }
  }

  /// To be waited for.
  var descriptor: Int32 { child.descriptor }

  /// Takes what it has said.
  ///
  /// - Returns: its status where it has ended.
  func step() -> Int32? {
    bytes += child.read()
    return child.hasSaidAll ? child.wait() : nil
  }

  func end() { child.end() }

  /// All that it has said.
  var text: String { String(decoding: bytes, as: UTF8.self) }

  var time: UInt64 { monotonicNanoseconds() &- begun }
}
