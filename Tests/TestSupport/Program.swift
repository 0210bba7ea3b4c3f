import Foundation
import Glibc
import SystemCalls

/// A program that a test started. It is ended, with all that it started, when the test lets go of it.
public final class Program {
  /// What a program printed, and how it ended.
  public struct Result: Sendable {
    public let output: String
    public let errors: String
    /// As a shell has it: 128 and the number for a signal.
    public let status: Int32
    public var lines: [String] {
      output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }
  }

  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  private static let spawning = NSLock()

  public let process: pid_t
  private var input: Int32
  private var output: Int32
  private var errors: Int32
  private var terminal: Int32 = -1
  /// The program's side of it, kept open so that the terminal lives while no other descriptor leads to it.
  private var inside: Int32 = -1
  private var unread: [UInt8] = []
  private var status: Int32?
  /// All that came on standard error so far.
  public private(set) var errorBytes: [UInt8] = []
  /// All that the program wrote to its terminal so far.
  public private(set) var terminalBytes: [UInt8] = []

  /// Starts a program. With `onTerminal` it has a terminal of its own, `columns` wide, for the keys that `press` sends; its
  /// standard output stays a pipe unless `outputOnTerminal`.
  public init(
    _ command: [String], environment: [String: String] = [:], onTerminal: Bool = false,
    outputOnTerminal: Bool = false,
    columns: UInt16 = 80
  ) throws {
    // One at a time: what is open in the middle of this must not get into another program.
    Self.spawning.lock()
    defer { Self.spawning.unlock() }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    let (inputRead, inputWrite) = try Descriptor.pipe()
    let (outputRead, outputWrite) = try Descriptor.pipe()
    let (errorRead, errorWrite) = try Descriptor.pipe()
    (input, output, errors) = (inputWrite, outputRead, errorRead)
    defer { for end in [inputRead, outputWrite, errorWrite] { close(end) } }

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var mask = sigset_t()
    sigemptyset(&mask)
    posix_spawnattr_setsigmask(&attributes, &mask)
    // A program may end before it has read all that is written to it. That is its affair, and no end of the tests.
    signal(SIGPIPE, SIG_IGN)
    sigaddset(&mask, SIGPIPE)
    posix_spawnattr_setsigdefault(&attributes, &mask)
    let newSession: Int32 = 0x80  // POSIX_SPAWN_SETSID: a session of its own, whose group can be ended as one
    posix_spawnattr_setflags(
      &attributes, Int16(newSession | Int32(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)))

    if onTerminal {
      var size = winsize(ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
      var name = [CChar](repeating: 0, count: 256)
      guard openpty(&terminal, &inside, nil, nil, &size) == 0, ttyname_r(inside, &name, name.count) == 0
      else {
        throw Failure(description: "no terminal could be had")
      }
      // Opened by the leader of a new session it becomes that session's terminal.
      posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, name, O_RDWR, 0)
    } else {
      posix_spawn_file_actions_adddup2(&actions, inputRead, STDIN_FILENO)
    }
    if outputOnTerminal {
      posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO)
    } else {
      posix_spawn_file_actions_adddup2(&actions, outputWrite, STDOUT_FILENO)
    }
    posix_spawn_file_actions_adddup2(&actions, errorWrite, STDERR_FILENO)
    // What a test runner leaves open is none of the program's business.
    for number in numberedEntries(ofDirectory: "/proc/self/fd") ?? [] where number > 2 {
      _ = fcntl(number, F_SETFD, FD_CLOEXEC)
    }

    var words: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    var variables = [
      "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "xterm",
      "LANG": "C.UTF-8",
    ]
    for name in ["HOME", "LD_LIBRARY_PATH"] { variables[name] = getenv(name).map { String(cString: $0) } }
    variables.merge(environment) { _, new in new }
    var environment: [UnsafeMutablePointer<CChar>?] = variables.map { strdup("\($0)=\($1)") } + [nil]
    defer { for word in words + environment { free(word) } }
    var process: pid_t = 0
    let failure = posix_spawnp(&process, command[0], &actions, &attributes, &words, &environment)
    guard failure == 0 else { throw Failure(description: "\(command[0]): \(ErrorNumber(failure))") }
    self.process = process
  }

  deinit {
    if status == nil {
      kill(-process, SIGKILL)
      kill(process, SIGKILL)
      var end: Int32 = 0
      waitpid(process, &end, 0)
    } else {
      kill(-process, SIGKILL)  // whatever it left behind
    }
    for end in [input, output, errors, terminal, inside] where end >= 0 { close(end) }
  }

  /// Runs a program to its end.
  public static func run(
    _ command: [String], input: String = "", environment: [String: String] = [:], deadline: Double = 60
  ) throws -> Result {
    let program = try Program(command, environment: environment)
    // Beside the reading: a program that answers as it reads would else wait for its reader, and that for it.
    let end = program.input
    program.input = -1
    DispatchQueue.global().async {
      var text = input
      text.withUTF8 { try? writeAll(UnsafeRawBufferPointer($0), to: end) }
      Glibc.close(end)
    }
    return try program.finish(deadline: deadline)
  }

  public func write(_ text: String) {
    guard input >= 0 else { return }
    var text = text
    text.withUTF8 { try? writeAll(UnsafeRawBufferPointer($0), to: input) }
  }

  public func endInput() {
    if input >= 0 { close(input) }
    input = -1
  }

  /// Presses keys at the program's terminal.
  public func press(_ keys: String) {
    var keys = keys
    keys.withUTF8 { try? writeAll(UnsafeRawBufferPointer($0), to: terminal) }
  }

  /// Whether its terminal edits lines and echoes keys by itself, as it did at first. See: termios(3)
  public var terminalIsCooked: Bool {
    var modes = termios()
    return tcgetattr(inside, &modes) == 0
      && modes.c_lflag & tcflag_t(ICANON | ECHO) == tcflag_t(ICANON | ECHO)
  }

  public func send(_ signal: Int32) { kill(process, signal) }

  /// Closes the reading end of its standard output.
  public func closeOutput() {
    close(output)
    output = -1
  }

  /// The next line of its standard output, or nil at the end of it.
  public func line(deadline: Double = 30) throws -> String? {
    let end = Clock.now() + deadline
    while true {
      if let newline = unread.firstIndex(of: UInt8(ascii: "\n")) {
        let line = String(decoding: unread[..<newline], as: UTF8.self)
        unread.removeSubrange(...newline)
        return line
      }
      if output < 0 { return nil }
      try receive(until: end)
    }
  }

  /// Waits until its terminal has shown a text after byte `position`, and returns the position behind it.
  @discardableResult
  public func waitForTerminal(_ text: String, from position: Int = 0, deadline: Double = 30) throws -> Int {
    let end = Clock.now() + deadline
    let wanted = Array(text.utf8)
    while true {
      let seen = terminalBytes
      if let found = seen.indices.first(where: { $0 >= position && seen[$0...].starts(with: wanted) }) {
        return found + wanted.count
      }
      try receive(until: end)
    }
  }

  /// What comes next.
  public enum Event: Equatable {
    case line(String)
    /// The terminal has shown a text, up to this position.
    case shown(Int)
    case end
  }

  /// The next line of its standard output; or, where there is none yet, a text that its terminal has shown after byte `position`.
  public func next(_ text: String, from position: Int, deadline: Double = 30) throws -> Event {
    let end = Clock.now() + deadline
    let wanted = Array(text.utf8)
    while true {
      if unread.contains(UInt8(ascii: "\n")), let line = try line() { return .line(line) }
      let seen = terminalBytes
      if let found = seen.indices.first(where: { $0 >= position && seen[$0...].starts(with: wanted) }) {
        // What was written before that may not have been looked at yet.
        if try receive(until: Clock.now(), throwing: false) { continue }
        return .shown(found + wanted.count)
      }
      if output < 0 { return .end }
      try receive(until: end)
    }
  }

  /// A line of its standard output, where one comes within some seconds.
  public func lineIfAny(within seconds: Double) -> String? { try? line(deadline: seconds) }

  /// Reads all there is until the program has ended.
  public func finish(deadline: Double = 60) throws -> Result {
    let end = Clock.now() + deadline
    while output >= 0 || errors >= 0 {
      // A process that it left behind may hold the pipes: its own end counts.
      if hasEnded, !(try receive(until: Clock.now() + 0.2, throwing: false)) { break }
      if !hasEnded { try receive(until: end) }
    }
    while !hasEnded {
      if Clock.now() > end { throw Failure(description: "still running at the deadline") }
      Clock.pause()
    }
    return Result(
      output: String(decoding: unread, as: UTF8.self), errors: String(decoding: errorBytes, as: UTF8.self),
      status: status ?? -1)
  }

  /// Whether it has ended; never waits.
  public var hasEnded: Bool {
    if status != nil { return true }
    var value: Int32 = 0
    guard waitpid(process, &value, WNOHANG) == process else { return false }
    status = value & 0x7f == 0 ? value >> 8 & 0xff : 128 + (value & 0x7f)
    return true
  }

  @discardableResult
  private func receive(until end: Double, throwing: Bool = true) throws -> Bool {
    var entries = [output, errors, terminal].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    let left = max(0, Int32((end - Clock.now()) * 1000))
    if poll(&entries, nfds_t(entries.count), min(left, 200)) == 0 {
      if Clock.now() >= end {
        if !throwing { return false }
        let shown = String(decoding: (unread + errorBytes + terminalBytes).suffix(2000), as: UTF8.self)
        throw Failure(description: "nothing came before the deadline; so far: \(shown)")
      }
      return true
    }
    var chunk = [UInt8](repeating: 0, count: 65536)
    for (index, entry) in entries.enumerated() where entry.revents != 0 {
      let count = read(entry.fd, &chunk, chunk.count)
      let bytes = chunk[..<max(0, count)]
      switch index {
      case 0: unread += bytes
      case 1: errorBytes += bytes
      default: terminalBytes += bytes
      }
      if count <= 0 {
        if index == 0 { close(output) }
        if index == 1 { close(errors) }
        if index == 2 { close(terminal) }
        if index == 0 { output = -1 } else if index == 1 { errors = -1 } else { terminal = -1 }
      }
    }
    return true
  }
}

/// Time for deadlines.
public enum Clock {
  /// Seconds of CLOCK_MONOTONIC.
  public static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// A few milliseconds, between two looks at something.
  public static func pause() { _ = poll(nil, 0, 5) }

  /// Looks again and again until there is a value.
  public static func poll<Value>(deadline: Double = 20, _ look: () throws -> Value?) throws -> Value {
    let end = now() + deadline
    while true {
      if let value = try look() { return value }
      if now() > end { throw Program.Failure(description: "did not happen before the deadline") }
      pause()
    }
  }

  private static func poll(_ entries: UnsafeMutablePointer<pollfd>?, _ count: nfds_t, _ timeout: Int32)
    -> Int32
  {
    Glibc.poll(entries, count, timeout)
  }
}
