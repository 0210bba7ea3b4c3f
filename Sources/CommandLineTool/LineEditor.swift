import CLinux
import Glibc
import Synchronization
import SystemCalls

/// Reads lines: from a terminal with a prompt, editing, a history and completion; from anything else as they come.
///
/// It edits where both descriptors are terminals and the terminal can move its cursor. Between two lines, and when the process
/// ends by `exit`, the terminal has the settings that it had before; not after a signal that ends the process or stops it from
/// elsewhere. What is typed between two lines is echoed by the kernel and belongs to the next one.
///
/// See: termios(3), tty_ioctl(4)
public final class LineEditor {
  public enum Outcome: Hashable, Sendable {
    /// A line, without its end.
    case line(String)
    /// Ctrl-C at a terminal: the line was given up.
    case interrupted
    /// The input is at its end: ctrl-D at an empty line, the end of a file, a terminal that has gone.
    case end
  }

  /// Called on Tab with the line up to the cursor. Returns what the word there (all after the last space) could become, as
  /// whole words; those that do not begin with it, or hold control characters, are passed over.
  public var complete: (String) -> [String] = { _ in [] }

  /// The lines of this session, the oldest first: no empty ones, none twice in a row, the latest thousand.
  public private(set) var history: [String] = []

  /// Something else that happens while a line is waited for.
  public struct Companion {
    public enum Step {
      case nothing
      /// Lines to be written above the prompt, or as they come where there is none.
      case show(String)
      /// `readLine` returns `end`: there is nothing to be typed for any more.
      case end
    }

    let events: () -> [pollfd]
    let step: () -> Step

    /// - Parameters:
    ///   - events: what to wait for besides the input.
    ///   - step: is called when one of these is ready, and twice a second.
    public init(events: @escaping () -> [pollfd], step: @escaping () -> Step) {
      self.events = events
      self.step = step
    }
  }

  public var companion: Companion?
  /// Whether the input is next where both it and the companion have something: neither is to keep the other waiting.
  private var isInputNext = false

  private let input: Int32
  private let output: Int32
  private let inputIsTerminal: Bool
  private let edits: Bool
  /// What was read and not yet used begins at `next`: a paste may hold several lines.
  private var pending: [UInt8] = []
  private var next = 0
  /// Whether the rest of a line that was too long is still to be passed over.
  private var passesOver = false
  /// Stops the process and all others of its job. Tests have another one.
  var suspend: () -> Void = { kill(0, SIGTSTP) }

  /// Nothing is done to either descriptor before the first line is read; neither is closed.
  public init(
    input: Int32 = STDIN_FILENO, output: Int32 = STDOUT_FILENO,
    terminalType: String? = getenv("TERM").map { String(cString: $0) }
  ) {
    self.input = input
    self.output = output
    inputIsTerminal = Terminal(descriptor: input).isTerminal
    edits = inputIsTerminal && Terminal(descriptor: output).isTerminal && terminalType != "dumb"
  }

  deinit { release() }

  /// Waits for a line. At a terminal the prompt stands before it, in one row; what was written before must have been flushed.
  ///
  /// Throws EMSGSIZE for a line of more than `EditedLine.longest` bytes and EILSEQ for one that is no UTF-8, where the input is
  /// no terminal: the next call goes on with the line after it. Otherwise what the kernel refused.
  public func readLine(prompt: String) throws(SystemCallError) -> Outcome {
    guard edits else { return try readPlainLine() }
    do throws(SystemCallError) {
      defer { release() }
      try take()
      return try edit(prompt: prompt)
    } catch {
      // How a terminal that has hung up answers. See: tty(4)
      guard error.errno.rawValue == EIO else { throw error }
      return .end
    }
  }

  // MARK: At a terminal

  /// How long the rest of an escape sequence may take, in milliseconds: a person's next key comes later.
  private static let escapeTime: Int32 = 50

  private func edit(prompt: String) throws(SystemCallError) -> Outcome {
    var line = EditedLine(history: history)
    var keys = KeyDecoder()
    while true {
      var rings = false
      while let byte = nextByte() {
        for key in keys.take(byte) {
          switch line.apply(key, complete: complete) {
          case .none: break
          case .refused: rings = true
          case .list(let candidates):
            try draw(line, prompt, then: "\r\n" + Self.listing(candidates, width: width))
          case .accepted:
            try drawEnd(line, prompt, then: "\r\n")
            remember(line.text)
            return .line(line.text)
          case .interrupted:
            try drawEnd(line, prompt, then: "^C\r\n")
            return .interrupted
          case .ended:
            try draw(line, prompt, then: "\r\n")
            return .end
          case .suspended:
            try drawEnd(line, prompt, then: "^Z")
            release()
            suspend()
            try take()
          case .clearScreen:
            try write("\u{1b}[H\u{1b}[2J")
          }
        }
      }
      // Only what is there when no more is waiting: of a long paste not every step.
      try draw(line, prompt, then: rings ? "\u{7}" : "")
      switch try receive(timeout: keys.isWithinEscape ? Self.escapeTime : -1) {
      case .nothing: keys.giveUp()
      case .bytes(0): return .end
      case .bytes: break
      case .companion(.nothing): break
      case .companion(.show(let text)):
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n")
        try write("\r\u{1b}[K\(lines)\r\n")
      case .companion(.end):
        try draw(line, prompt, then: "\r\n")
        return .end
      }
    }
  }

  private func nextByte() -> UInt8? {
    guard next < pending.count else { return nil }
    let byte = pending[next]
    next += 1
    // Both ends of a line that came with two are one.
    if byte == UInt8(ascii: "\r"), next < pending.count, pending[next] == UInt8(ascii: "\n") { next += 1 }
    return byte
  }

  private func remember(_ line: String) {
    guard !line.isEmpty, line != history.last else { return }
    history.append(line)
    if history.count > 1000 { history.removeFirst() }
  }

  private func draw(_ line: EditedLine, _ prompt: String, then end: String) throws(SystemCallError) {
    let row = line.row(prompt: prompt, width: width)
    let forward = row.cursor > 0 ? "\u{1b}[\(row.cursor)C" : ""
    try write("\r\(row.text)\u{1b}[K\r\(forward)\(end)")
  }

  /// Draws with the cursor at the end, so that what is written next stands behind the line.
  private func drawEnd(_ line: EditedLine, _ prompt: String, then end: String) throws(SystemCallError) {
    var line = line
    _ = line.apply(.end)
    try draw(line, prompt, then: end)
  }

  /// The terminal's columns as they are now: it may have another size at every key. See: TIOCGWINSZ(2const)
  private var width: Int {
    var size = winsize()
    guard clinux_ioctl(output, CLINUX_TIOCGWINSZ, &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  private func write(_ text: String) throws(SystemCallError) {
    let bytes = Array(text.utf8)
    var failure: SystemCallError?
    bytes.withUnsafeBytes { buffer in
      do throws(SystemCallError) { try writeAll(buffer, to: output) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Candidates side by side, in rows of at most `width` columns; of very many the first.
  static func listing(_ candidates: [String], width: Int) -> String {
    let shown = candidates.prefix(200)
    let cell = (shown.map(\.columns).max() ?? 0) + 2
    let across = max(1, (width - 1) / cell)
    var text = ""
    for (number, candidate) in shown.enumerated() {
      text += candidate
      let isLast = (number + 1) % across == 0 || number + 1 == shown.count
      text += isLast ? "\r\n" : String(repeating: " ", count: cell - candidate.columns)
    }
    let rest = candidates.count - shown.count
    return rest > 0 ? "\(text)and \(counted(rest, "more", plural: "more"))\r\n" : text
  }

  // MARK: The terminal's settings

  /// Takes the terminal: each key arrives by itself, is not echoed, and makes no signal.
  private func take() throws(SystemCallError) {
    _ = Self.restoringAtExit
    var settings = termios()
    try systemCall("tcgetattr", "\(input)") { tcgetattr(input, &settings) }
    let original = settings
    settings.c_iflag &= ~tcflag_t(BRKINT | ICRNL | IGNCR | INLCR | INPCK | ISTRIP | IXON)
    settings.c_lflag &= ~tcflag_t(ECHO | ICANON | IEXTEN | ISIG)
    withUnsafeMutableBytes(of: &settings.c_cc) { characters in
      characters[Int(VMIN)] = 1
      characters[Int(VTIME)] = 0
    }
    Self.taken.withLock { $0[input] = original }
    // At once, and without throwing away what was typed or pasted already.
    try systemCall("tcsetattr", "\(input)") { tcsetattr(input, TCSANOW, &settings) }
    try receiveTypedAhead()
  }

  /// Ctrl-D typed before the terminal was taken lies among the other bytes as a NUL: the kernel meant it for a reader of whole
  /// lines.
  private func receiveTypedAhead() throws(SystemCallError) {
    guard case .bytes(let count) = try receive(timeout: 0) else { return }
    for place in pending.indices.suffix(count) where pending[place] == 0 { pending[place] = 4 }
  }

  /// Gives the terminal back as it was. One that has gone needs nothing.
  private func release() {
    guard var settings = Self.taken.withLock({ $0.removeValue(forKey: input) }) else { return }
    tcsetattr(input, TCSANOW, &settings)
  }

  /// The settings of the terminals that are taken now.
  private static let taken = Mutex<[Int32: termios]>([:])

  /// Another thread may end the process while this one waits for a key.
  private static let restoringAtExit: Void = {
    atexit {
      let terminals = LineEditor.taken.withLock { $0 }
      for (descriptor, settings) in terminals {
        var settings = settings
        tcsetattr(descriptor, TCSANOW, &settings)
      }
    }
  }()

  // MARK: Anywhere else

  private func readPlainLine() throws(SystemCallError) -> Outcome {
    var searched = next
    while true {
      if let newline = pending[searched...].firstIndex(of: UInt8(ascii: "\n")) {
        let bytes = pending[next..<newline]
        next = newline + 1
        searched = next
        if passesOver {
          passesOver = false
          continue
        }
        return .line(try text(of: bytes))
      }
      var unended = pending.count - next
      // One byte more may be the CR of its end.
      if passesOver || unended > EditedLine.longest + 1 {
        pending.removeAll()
        next = 0
        unended = 0
        if !passesOver {
          passesOver = true
          throw Self.tooLong
        }
      }
      switch try receive(timeout: -1) {
      case .bytes(0):
        let bytes = pending[next...]
        next = pending.count
        passesOver = false
        return bytes.isEmpty ? .end : .line(try text(of: bytes))
      case .companion(.show(let text)): try write(text + "\n")
      case .companion(.end): return .end
      case .bytes, .nothing, .companion(.nothing): break
      }
      searched = next + unended
    }
  }

  private static let tooLong = SystemCallError(
    call: "read", asked: "a line of more than \(EditedLine.longest) bytes", errno: ErrorNumber(EMSGSIZE))

  private func text(of bytes: ArraySlice<UInt8>) throws(SystemCallError) -> String {
    let bytes = bytes.last == UInt8(ascii: "\r") ? bytes.dropLast() : bytes
    guard bytes.count <= EditedLine.longest else { throw Self.tooLong }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw SystemCallError(call: "read", asked: "a line that is no UTF-8", errno: ErrorNumber(EILSEQ))
    }
    return text
  }

  // MARK: Bytes

  private enum Received {
    /// So many were appended to `pending`: 0 at the end of the input.
    case bytes(Int)
    /// None came within the time.
    case nothing
    case companion(Companion.Step)
  }

  /// Appends what there is to `pending`, within `timeout` milliseconds, -1 for as long as it takes. Where there is a companion it has
  /// its turn.
  private func receive(timeout: Int32) throws(SystemCallError) -> Received {
    pending.removeSubrange(..<next)
    next = 0
    var chunk = [UInt8](repeating: 0, count: 16 * 1024)
    while true {
      let beside = timeout < 0 ? companion?.events() ?? [] : []
      var entries = [pollfd(fd: input, events: Int16(POLLIN), revents: 0)] + beside
      let most: Int32 = timeout < 0 && companion != nil ? 500 : timeout
      let count = try systemCall("poll", "\(input)") { poll(&entries, nfds_t(entries.count), most) }
      let isInputsTurn = isInputNext && entries[0].revents != 0
      isInputNext = false
      if timeout < 0, let companion, !isInputsTurn,
        count == 0 || entries.dropFirst().contains(where: { $0.revents != 0 })
      {
        isInputNext = true
        switch companion.step() {
        case .nothing: if entries[0].revents == 0 { continue }
        case let step: return .companion(step)
        }
      }
      if count == 0 { return .nothing }
      if entries[0].revents == 0 { continue }
      do throws(SystemCallError) {
        let count = try systemCall("read", "\(input)") { read(input, &chunk, chunk.count) }
        pending += chunk[..<count]
        return .bytes(count)
      } catch {
        switch error.errno.rawValue {
        case EAGAIN: continue  // another reader of a shared, non-blocking descriptor was faster
        case EIO where inputIsTerminal: return .bytes(0)  // it has hung up
        default: throw error
        }
      }
    }
  }
}
