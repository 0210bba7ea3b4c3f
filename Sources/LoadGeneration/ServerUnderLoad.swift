import CLinux
import Glibc
import Sockets
import SystemCalls

/// A server that is started for a measurement, and ended after it.
public struct ServerUnderLoad: ~Copyable {
  public let address: SocketAddress
  private let process: pid_t

  /// Why a server cannot be measured.
  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  /// Starts a command, and waits until it prints "listening on ADDRESS" on its standard output.
  ///
  /// - Parameters:
  ///   - command: as a shell reads it.
  ///   - processors: where it is to run, a bit each; nil for wherever this process may.
  /// - Throws: `Failure` where it prints something else, and what `pipe2` or `posix_spawn` failed with.
  public init(_ command: String, on processors: UInt?) throws {
    let (readEnd, writeEnd) = try Descriptor.pipe()
    let output = Descriptor(owning: readEnd)
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, writeEnd, STDOUT_FILENO)
    let words = ["sh", "-c", "exec \(command)"]
    var vector: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }
    var process: pid_t = 0
    // All its threads are to inherit it.
    let own = clinux_processors(0)
    if let processors { _ = clinux_pin(0, processors) }
    // What this process blocks and ignores is not its affair.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    var pipe = sigset_t()
    sigemptyset(&pipe)
    sigaddset(&pipe, SIGPIPE)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &pipe)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    let failure = posix_spawn(&process, "/bin/sh", &actions, &attributes, &vector, environ)
    close(writeEnd)
    if failure != 0 {
      throw SystemCallError(call: "posix_spawn", asked: command, errno: ErrorNumber(failure))
    }
    if processors != nil { _ = clinux_pin(0, own) }
    let text = Self.line(from: output.number)
    guard text.hasPrefix("listening on "),
      let address = try? SocketAddress(String(text.dropFirst("listening on ".count)))
    else {
      Self.end(process)
      throw Failure(
        description: "'\(command)' did not print \"listening on HOST:PORT\" first, but '\(text)'")
    }
    self.address = address
    self.process = process
  }

  /// What it prints within ten seconds, up to the end of a line.
  private static func line(from output: Int32) -> String {
    var line: [UInt8] = []
    var byte: UInt8 = 0
    let deadline = now() &+ 10_000_000_000
    while line.count < 200, now() < deadline {
      var entry = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
      guard poll(&entry, 1, 100) > 0 else { continue }
      guard read(output, &byte, 1) == 1, byte != UInt8(ascii: "\n") else { break }
      line.append(byte)
    }
    return String(decoding: line, as: UTF8.self)
  }

  /// Tells the processor time that it has taken so far, all its threads together, in nanoseconds; nil where the kernel does not
  /// count it.
  ///
  /// See: Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat"
  public var meter: () -> UInt64? {
    let process = process
    return { Self.processorTime(of: process) }
  }

  private static func processorTime(of process: pid_t) -> UInt64? {
    guard let threads = numberedEntries(ofDirectory: "/proc/\(process)/task") else { return nil }
    var sum: UInt64 = 0
    for thread in threads {
      guard
        let time = text(ofFile: "/proc/\(process)/task/\(thread)/schedstat")?.split(separator: " ").first,
        let time = UInt64(time)
      else { return nil }
      sum &+= time
    }
    return sum
  }

  /// Ends it.
  public consuming func end() { Self.end(process) }

  private static func end(_ process: pid_t) {
    kill(process, SIGKILL)
    var status: Int32 = 0
    while waitpid(process, &status, 0) == -1, errno == EINTR {}
  }
}

/// Nanoseconds of CLOCK_MONOTONIC.
func now() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
