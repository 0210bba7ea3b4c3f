import CLinux
import Glibc
import Sockets
import SystemCalls

/// A server that is started for a measurement, and ended after it with all that it has started.
public struct ServerUnderLoad: ~Copyable {
  public let address: SocketAddress
  /// Of its process group, too.
  private let process: pid_t

  /// Why a server cannot be measured.
  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  /// Starts a command, and waits until it prints "listening on ADDRESS" on its standard output. What it prints later is not looked
  /// at.
  ///
  /// - Parameters:
  ///   - command: as a shell reads it.
  ///   - processors: where it is to run, a bit each; nil for wherever this process may.
  ///   - interruption: a descriptor that ends the waiting when it becomes readable.
  /// - Throws: `Failure` where it prints something else, and what `pipe2`, `posix_spawn` or `pthread_create` failed with; EINTR.
  public init(_ command: String, on processors: UInt?, interruption: Int32 = -1) throws {
    let (readEnd, writeEnd) = try Descriptor.pipe()
    let output = Descriptor(owning: readEnd)
    // All its threads are to inherit it.
    let own = clinux_processors(0)
    if let processors { _ = clinux_pin(0, processors) }
    let started = Result { () throws(SystemCallError) in try Self.start(command, writingTo: writeEnd) }
    if processors != nil { _ = clinux_pin(0, own) }
    Glibc.close(writeEnd)
    let process = try started.get()
    let found = Result {
      let address = try Self.address(from: output.number, of: command, interruption)
      // Were nobody to read it, a server that prints would stop, or be ended by SIGPIPE.
      try Self.discard(output.number)
      return address
    }
    if case .failure = found { Self.end(process) }
    address = try found.get()
    self.process = process
  }

  private static func start(_ command: String, writingTo output: Int32) throws(SystemCallError) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
    // A group of its own, to be ended as one. What this process blocks and ignores is not its affair.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var (none, pipe) = (sigset_t(), sigset_t())
    sigemptyset(&none)
    sigemptyset(&pipe)
    sigaddset(&pipe, SIGPIPE)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &pipe)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
    let words = ["sh", "-c", command]
    var vector: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }
    var process: pid_t = 0
    let failure = posix_spawn(&process, "/bin/sh", &actions, &attributes, &vector, environ)
    if failure != 0 {
      throw SystemCallError(call: "posix_spawn", asked: command, errno: ErrorNumber(failure))
    }
    return process
  }

  /// What it prints first, within ten seconds.
  private static func address(from output: Int32, of command: String, _ interruption: Int32) throws
    -> SocketAddress
  {
    var line: [UInt8] = []
    var byte: UInt8 = 0
    var hasEnded = false
    let deadline = monotonicNanoseconds() &+ 10_000_000_000
    while line.count < 200, monotonicNanoseconds() < deadline {
      var entries = [output, interruption].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      guard poll(&entries, 2, 100) > 0 else { continue }
      if entries[1].revents != 0 { throw SystemCallError(call: "poll", errno: ErrorNumber(EINTR)) }
      guard read(output, &byte, 1) == 1 else {
        hasEnded = true
        break
      }
      if byte == UInt8(ascii: "\n") { break }
      line.append(byte)
    }
    let text = String(decoding: line, as: UTF8.self)
    guard text.hasPrefix("listening on "),
      let address = try? SocketAddress(String(text.dropFirst("listening on ".count)))
    else {
      let found =
        !text.isEmpty
        ? "but '\(text)'" : hasEnded ? "and has closed its output" : "and printed nothing in 10 seconds"
      throw Failure(description: "'\(command)' did not print \"listening on HOST:PORT\" first, \(found)")
    }
    return address
  }

  /// Has a thread read what a descriptor leads to, to its end.
  private static func discard(_ output: Int32) throws(SystemCallError) {
    let descriptor = try systemCall("fcntl", "F_DUPFD_CLOEXEC") { fcntl(output, F_DUPFD_CLOEXEC, 0) }
    var thread = pthread_t()
    let failure = pthread_create(
      &thread, nil,
      { argument in
        let output = Descriptor(owning: Int32(Int(bitPattern: argument)))
        var buffer = [UInt8](repeating: 0, count: 4096)
        while read(output.number, &buffer, buffer.count) > 0 {}
        return nil
      }, UnsafeMutableRawPointer(bitPattern: Int(descriptor)))
    if failure != 0 {
      Glibc.close(descriptor)
      throw SystemCallError(call: "pthread_create", errno: ErrorNumber(failure))
    }
    pthread_detach(thread)
  }

  /// Tells the processor time that it has taken so far, with all that it has started and that still runs, in nanoseconds; nil where
  /// it has ended.
  public var meter: () -> UInt64? {
    let group = process
    return {
      var sum: UInt64?
      for process in numberedEntries(ofDirectory: "/proc") ?? [] where getpgid(process) == group {
        var clock = clockid_t()
        var time = timespec()
        guard clock_getcpuclockid(process, &clock) == 0, clock_gettime(clock, &time) == 0 else { continue }
        sum = (sum ?? 0) &+ UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
      }
      return sum
    }
  }

  /// Ends it.
  public consuming func end() { Self.end(process) }

  private static func end(_ process: pid_t) {
    kill(-process, SIGKILL)
    var status: Int32 = 0
    while waitpid(process, &status, 0) == -1, errno == EINTR {}
  }
}
