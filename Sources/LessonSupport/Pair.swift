import Glibc
import SystemCalls

/// Waits until a process waits for something, but a second at most. See: proc_pid_stat(5)
public func waitUntilAsleep(_ process: pid_t) {
  let deadline = nanoseconds() + 1_000_000_000
  while ProcessStatus(of: process)?.state == "R", nanoseconds() < deadline { sched_yield() }
}

/// Starts another of the lessons' programs, without a narrator of its own: this one's story is its story, too. All are built into the
/// same folder. See: posix_spawn(3)
///
/// - Parameters:
///   - program: its name.
///   - arguments: its options.
///   - input: what it gets as its descriptor 0; this program's own unless given.
/// - Returns: its process id.
public func startBeside(_ program: String, _ arguments: [String] = [], input: Int32 = 0) -> pid_t {
  let itself = destination(ofLink: "/proc/self/exe") ?? ""
  let path =
    itself.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    + "/\(program)"
  var vector: [UnsafeMutablePointer<CChar>?] = ([program, "--bare"] + arguments).map { strdup($0) } + [nil]
  defer { for word in vector { free(word) } }
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
  var process: pid_t = 0
  let failure = posix_spawn(&process, path, &actions, nil, &vector, environ)
  if failure != 0 {
    cannotShow(
      "the program beside it, \(path), cannot be started: \(ErrorNumber(failure)); 'swift build' makes it")
  }
  return process
}

/// Waits until a program that was started has ended, and says how: its exit status, or 128 and the signal's number.
@discardableResult
public func waitForEnd(of process: pid_t) -> Int32 {
  var status: Int32 = 0
  while waitpid(process, &status, 0) == -1, errno == EINTR {}
  return status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
}

extension Lesson {
  /// Starts this very program once more, beside itself: there `isCopy` is true.
  ///
  /// - Parameter input: what it gets as its descriptor 0.
  /// - Returns: its process id.
  public func startCopy(input: Int32) -> pid_t {
    setenv(startedBy, "\(getpid())", 1)
    defer { unsetenv(startedBy) }
    let itself = destination(ofLink: "/proc/self/exe")?.split(separator: "/").last.map(String.init)
    return startBeside(itself ?? "", input: input)
  }

  /// The client that was started, until it has ended.
  nonisolated(unsafe) private static var started: pid_t = 0

  /// Starts the server's client, which is to dial this port; with `--alone`, says where it is to dial.
  public func startClient(port: UInt16) {
    guard let client else {
      return say("listening on 127.0.0.1:\(port)")
    }
    setenv(startedBy, "\(getpid())", 1)
    Self.started = startBeside(client, ["--port", "\(port)"])
  }

  /// Waits until the client that it has started has ended, too.
  public func waitForClient() {
    guard Self.started != 0 else { return }
    let status = waitForEnd(of: Self.started)
    Self.started = 0
    if status != 0 { cannotShow("its client failed") }
  }
}
