import CommandLineTool
import SystemCalls
import Tracing

/// Compiles a learner's program, runs it, and holds what the kernel says of it against a check.
public struct Judge {
  /// What the judge's own words need to know.
  public struct Appearance: Sendable {
    public var width = 80
    public var color = false
    public init() {}
  }

  let check: Check
  let source: String
  let headers: String
  let appearance: Appearance

  /// - Parameters:
  ///   - source: the path of the learner's file.
  ///   - headers: the folder of the module map that `import CLinux` needs.
  public init(check: Check, source: String, headers: String, appearance: Appearance = Appearance()) {
    self.check = check
    self.source = source
    self.headers = headers
    self.appearance = appearance
  }

  /// Judges. To be called once in a process, before it has a second thread.
  ///
  /// - Throws: where nothing can be judged here: no compiler, no ptrace.
  public func judge() throws(Complaint) -> Verdict {
    throw Complaint("not yet")
  }

  /// What an executable that judges does first: it is started again as the program that is judged. Nil for any other command line.
  public static func becomeProgram(_ arguments: [String]) -> Never? { nil }
}
