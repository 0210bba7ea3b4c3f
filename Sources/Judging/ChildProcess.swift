import CLinux
import Glibc
import SystemCalls

/// A program that was started, and whose words are read. It has a process group of its own, and no input.
public final class ChildProcess {
  public let process: pid_t
  private let pipe: Descriptor
  /// How it has ended, as a shell has it.
  public private(set) var status: Int32?
  public private(set) var hasSaidAll = false

  /// See: posix_spawn(3)
  ///
  /// - Parameters:
  ///   - command: its path, or its name, and its arguments.
  ///   - environment: what its environment has besides, or instead.
  ///   - keepsErrors: whether its standard error is read as well; it goes nowhere else.
  /// - Throws: what `pipe2` or `posix_spawn` failed with.
  public init(_ command: [String], environment: [String: String] = [:], keepsErrors: Bool = true)
    throws(SystemCallError)
  {
    let (readEnd, writeEnd) = try Descriptor.pipe()
    pipe = Descriptor(owning: readEnd)
    defer { close(writeEnd) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, writeEnd, STDOUT_FILENO)
    if keepsErrors {
      posix_spawn_file_actions_adddup2(&actions, writeEnd, STDERR_FILENO)
    } else {
      posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // What is blocked or ignored here is not to be so there.
    var (none, pipes) = (sigset_t(), sigset_t())
    sigemptyset(&none)
    sigemptyset(&pipes)
    sigaddset(&pipes, SIGPIPE)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &pipes)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))

    var words: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var variables: [UnsafeMutablePointer<CChar>?] = []
    var variable = environ
    while let text = variable.pointee {
      let name = String(cString: text).prefix { $0 != "=" }
      if environment[String(name)] == nil { variables.append(strdup(text)) }
      variable += 1
    }
    variables += environment.map { strdup("\($0)=\($1)") } + [nil]
    defer { for variable in variables { free(variable) } }
    var process: pid_t = 0
    let failure = posix_spawnp(&process, command.first ?? "", &actions, &attributes, &words, &variables)
    if failure != 0 {
      throw SystemCallError(call: "posix_spawn", asked: command.first ?? "", errno: ErrorNumber(failure))
    }
    self.process = process
  }

  deinit { end() }

  /// To be waited for: it has said something, or has closed its output.
  public var descriptor: Int32 { pipe.number }

  /// What there is to be read, without waiting where `descriptor` is ready. Empty at the end.
  public func read() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 64 * 1024)
    let count = (try? systemCall("read", "", { Glibc.read(pipe.number, &bytes, bytes.count) })) ?? 0
    if count == 0 { hasSaidAll = true }
    return Array(bytes.prefix(count))
  }

  /// Waits until it has ended; to be called when it has said all.
  @discardableResult
  public func wait() -> Int32 {
    if let status { return status }
    var value: Int32 = 0
    let isKnown = (try? systemCall("waitpid") { waitpid(process, &value, 0) }) != nil
    let status = !isKnown ? -1 : value & 0x7f == 0 ? value >> 8 & 0xff : 128 + (value & 0x7f)
    self.status = status
    return status
  }

  /// Ends it, and what it has started: it may put away what it has made, and then has no choice.
  public func end() {
    guard status == nil else { return }
    kill(-process, SIGTERM)
    let deadline = monotonicNanoseconds() &+ 2_000_000_000
    while monotonicNanoseconds() < deadline {
      var value: Int32 = 0
      let found = waitpid(process, &value, WNOHANG)
      if found == process || found < 0 && ErrorNumber.last.rawValue == ECHILD {
        status = 128 + SIGTERM
        break
      }
      usleep(2000)
    }
    kill(-process, SIGKILL)
    if status == nil { wait() }
  }

  /// Runs a program to its end.
  ///
  /// - Returns: what it said, nil where it could not be started, and its status.
  public static func run(_ command: [String], keepsErrors: Bool = false) -> (output: [UInt8], status: Int32)?
  {
    guard let child = try? ChildProcess(command, keepsErrors: keepsErrors) else { return nil }
    var output: [UInt8] = []
    while !child.hasSaidAll { output += child.read() }
    return (output, child.wait())
  }
}
