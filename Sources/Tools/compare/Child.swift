import CLinux
import Glibc
import KernelState
import SystemCalls
import Tracing

/// A program that runs by itself, for a measurement or an attempt. It is ended when this goes away.
final class Child {
  let process: pid_t
  private var end: (status: Tracer.Status, processorTime: UInt64)?
  /// Whom a signal that ends this program is to end, too; 0 for nobody.
  nonisolated(unsafe) private static var running: pid_t = 0

  /// Starts it. See: posix_spawn(3)
  ///
  /// - Parameters:
  ///   - command: its path, or its name, and its arguments.
  ///   - output: a descriptor to be its standard output and error; nil for this program's own.
  /// - Throws: what `posix_spawn` failed with.
  init(_ command: [String], output: Int32? = nil) throws(SystemCallError) {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    if let output {
      posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
      posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO)
    }
    // What this program ignores, the other is not to.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var defaults = sigset_t()
    sigemptyset(&defaults)
    sigaddset(&defaults, SIGPIPE)
    posix_spawnattr_setsigdefault(&attributes, &defaults)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
    // A signal in the middle of this would leave the other behind.
    var (all, before) = (sigset_t(), sigset_t())
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    posix_spawnattr_setsigmask(&attributes, &before)
    var words: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var process: pid_t = 0
    let failure = posix_spawnp(&process, command.first ?? "", &actions, &attributes, &words, environ)
    if failure != 0 {
      throw SystemCallError(call: "posix_spawn", asked: command.first ?? "", errno: ErrorNumber(failure))
    }
    self.process = process
    Self.running = process
  }

  deinit {
    if end == nil {
      kill(process, SIGKILL)
      _ = wait(atMost: 10)
    }
  }

  /// A signal that ends this program ends what it has started, too.
  static func endWithThisProgram() {
    for signal in Tracer.ownSignals {
      Glibc.signal(signal) { number in
        // Nothing but what signal-safety(7) allows.
        if Child.running > 0 { kill(Child.running, SIGKILL) }
        Progress.clearAtSignal()
        _exit(128 + number)
      }
    }
  }

  /// Waits until it has ended.
  ///
  /// - Parameter seconds: for how long at most.
  /// - Returns: how it ended, and its processor time in nanoseconds; nil where it still runs. See: wait4(2)
  func wait(atMost seconds: Double) -> (status: Tracer.Status, processorTime: UInt64)? {
    if let end { return end }
    let deadline = monotonicNanoseconds() &+ UInt64(seconds * 1e9)
    while true {
      var status: Int32 = 0
      var usage = rusage()
      if wait4(process, &status, WNOHANG, &usage) == process {
        let time = [usage.ru_utime, usage.ru_stime].reduce(UInt64(0)) {
          $0 &+ UInt64(clamping: $1.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: $1.tv_usec) &* 1000
        }
        end = (status & 0x7f == 0 ? .exited(status >> 8 & 0xff) : .killed(signal: status & 0x7f), time)
        // Its number may become another's.
        Self.running = 0
        return end
      }
      if monotonicNanoseconds() >= deadline { return nil }
      usleep(200)
    }
  }

  /// The processor time that it has taken so far, all threads together, in nanoseconds. See: clock_getcpuclockid(3)
  func processorTime() throws -> UInt64 {
    var clock = clockid_t()
    var time = timespec()
    guard clock_getcpuclockid(process, &clock) == 0, clock_gettime(clock, &time) == 0 else {
      throw Failure("its processor time cannot be read")
    }
    return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
  }

  /// The port on which it listens, as soon as it does.
  func listeningPort(_ kernel: Kernel) throws -> UInt16 {
    let deadline = monotonicNanoseconds() &+ 10_000_000_000
    while monotonicNanoseconds() < deadline {
      if let end = wait(atMost: 0) {
        throw Failure("it ended before it listened: \(end.status.words)")
      }
      for number in numberedEntries(ofDirectory: "/proc/\(process)/fd") ?? [] {
        let state = kernel.socket(descriptor: number, of: process)
        if let state, state.isListening, let port = state.local?.port { return port }
      }
      usleep(200)
    }
    throw Failure("it did not begin to listen in 10 s")
  }
}
