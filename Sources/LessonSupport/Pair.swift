import Glibc
import SystemCalls

/// Waits until a process waits for something, but a second at most. See: proc_pid_stat(5)
public func waitUntilAsleep(_ process: pid_t) {
  let deadline = nanoseconds() + 1_000_000_000
  while ProcessStatus(of: process)?.state == "R", nanoseconds() < deadline { sched_yield() }
}

extension Lesson {
  /// The client that was started, until it has ended.
  nonisolated(unsafe) private static var started: pid_t = 0

  /// Starts the server's client, which is to dial this port; with `--alone`, says where it is to dial.
  public func startClient(port: UInt16) {
    guard let client else {
      return say("listening on 127.0.0.1:\(port)")
    }
    // Both are built into the same folder.
    let itself = destination(ofLink: "/proc/self/exe") ?? ""
    let path =
      itself.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
      + "/\(client)"
    let words = [client, "--bare", "--port", "\(port)"]
    var vector: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }
    var process: pid_t = 0
    setenv(startedBy, "\(getpid())", 1)
    let failure = posix_spawn(&process, path, nil, nil, &vector, environ)
    if failure != 0 {
      cannotShow("its client, \(path), cannot be started: \(ErrorNumber(failure)); 'swift build' makes it")
    }
    Self.started = process
  }

  /// Waits until the client that it has started has ended, too.
  public func waitForClient() {
    guard Self.started != 0 else { return }
    var status: Int32 = 0
    while waitpid(Self.started, &status, 0) == -1, errno == EINTR {}
    Self.started = 0
    if status != 0 { cannotShow("its client failed") }
  }
}
