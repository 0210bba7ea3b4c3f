import CommandLineTool
import Foundation
import Story
import SystemCalls
import Tracing

/// Compiles a learner's program, runs it, and holds what the kernel says of it against a check.
public struct Judge {
  /// What the judge's own words need to know.
  public struct Appearance: Sendable {
    /// In columns.
    public var width = 80
    public var color = false
    public init() {}
  }

  let check: Check
  let source: String
  let headers: String
  let appearance: Appearance

  /// - Parameters:
  ///   - check: what the program must do.
  ///   - source: the path of the learner's file.
  ///   - headers: the folder of the module map that `import CLinux` needs.
  ///   - appearance: how the judge's words are to look.
  public init(check: Check, source: String, headers: String, appearance: Appearance = Appearance()) {
    self.check = check
    self.source = source
    self.headers = headers
    self.appearance = appearance
  }

  /// What an executable that judges does first: it is started again as the program that is judged. Returns for any other command
  /// line.
  public static func becomeProgram(_ arguments: [String]) {
    if arguments.first == isolationTrial {
      exit((try? Isolation.enter()) == nil ? ExitStatus.failure : ExitStatus.success)
    }
    guard let words = Launcher.becomeTraced(arguments) else { return }
    _ = ProgramStart.become(words)
    exit(
      command: "workshop",
      complaint: Complaint("\(words.first ?? "") is for this program's own use", status: 2))
  }

  private static let isolationTrial = "--try-isolation"

  /// Moves this process into a network of its own, where that is possible. Else it is judged among others, on a port that is free.
  ///
  /// Somebody else tries it first: there are systems on which the new network is to be had, and its loopback interface stays
  /// down; and there is no way back.
  private static func isolate() -> Bool {
    guard ChildProcess.run(["/proc/self/exe", isolationTrial])?.status == ExitStatus.success else {
      return false
    }
    return (try? Isolation.enter()) != nil
  }

  /// Judges. To be called once in a process, before it has a second thread.
  ///
  /// - Throws: where nothing can be judged here: no compiler, no ptrace. With status 130 where it was interrupted.
  public func judge() throws(Complaint) -> Verdict {
    signal(SIGPIPE, SIG_IGN)
    _ = Self.isolate()
    let place = try Workplace()
    defer { place.remove() }
    let compiled = try Compiler.compile(source, headers: headers, to: place.program)
    guard compiled.succeeded else {
      return Verdict(
        hasPassed: false, text: " ✗ It does not compile. swiftc says:\n\n\(compiled.output)", unused: [],
        trials: [])
    }
    var port = try JudgesPort()
    var unused: [String] = []
    for (number, trial) in check.trials.enumerated() {
      // What is left of a trial's connections would keep a port from the next one.
      if number > 0, !trial.keepsPort { port = try JudgesPort() }
      let outcome = try TrialRun(trial, port: port, place: place).run()
      unused += outcome.unused.map { "\(trial.name): \($0)" }
      guard let failure = outcome.failure else { continue }
      let title =
        check.trials.count == 1 ? trial.name : "trial \(number + 1) of \(check.trials.count): \(trial.name)"
      var text = VerdictText(appearance: appearance, folder: place.folder)
      // What the compiler warns of may be the fault itself.
      let warnings = compiled.output.isEmpty ? "" : "\n   swiftc warns:\n\n\(compiled.output)"
      return Verdict(
        hasPassed: false, text: text.tell(failure, place: title, now: outcome.now) + warnings, unused: [],
        trials: check.trials.prefix(number).map(\.name))
    }
    return Verdict(
      hasPassed: true, text: compiled.output, unused: unused, trials: check.trials.map(\.name))
  }

  /// Runs the learner's program as the first trial does, and asks at each call what it will do.
  ///
  /// - Returns: the status to exit with.
  /// - Throws: where it does not compile, or cannot be followed.
  public func predict() throws(Complaint) -> Int32 {
    signal(SIGPIPE, SIG_IGN)
    let isOwnNetwork = Self.isolate()
    let place = try Workplace()
    defer { place.remove() }
    let compiled = try Compiler.compile(source, headers: headers, to: place.program)
    guard compiled.succeeded else {
      throw Complaint("it does not compile. swiftc says:\n\n\(compiled.output)")
    }
    guard let trial = check.trials.first else { return ExitStatus.failure }
    return try TrialRun(trial, port: try JudgesPort(), place: place).predict(
      appearance: appearance, hearsPackets: isOwnNetwork)
  }
}
