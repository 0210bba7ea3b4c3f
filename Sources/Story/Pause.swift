import CLinux
import CommandLineTool
import Glibc
import SystemCalls

/// Waits for the reader at a terminal.
final class Pause {
  enum Answer {
    case next
    /// On to the end, without further pauses.
    case run
    case everything
    case quit
    /// From 1 on.
    case choice(Int)
    case interrupted(Int32)
  }

  private let keyboard: Keyboard
  private var isOver = false

  /// Nil without a terminal.
  init?() {
    guard let keyboard = Keyboard() else { return nil }
    self.keyboard = keyboard
  }

  /// The terminal's, in columns.
  var width: Int { Terminal(descriptor: keyboard.descriptor).width }

  func stop() { isOver = true }

  /// See: tcflush(3)
  func forgetKeys() { tcflush(keyboard.descriptor, TCIFLUSH) }

  func show(_ text: String) { keyboard.prompt(text) }

  /// Waits for a key. With `choices` from 1 on, their numbers are answers too.
  func wait(
    hint: Hint, choices: Int, signals: Int32, meanwhile: (descriptor: Int32, action: () -> Void)?
  ) -> Answer {
    if isOver { return .next }
    let room = width - 4
    let next = choices == 0 ? "Enter: next step" : "1 to \(choices): what will it be? · Enter: no guess"
    let lines =
      "\(next) · ?: all that the kernel says · c: on to the end · q: quit".wrapped(to: room)
      + hint.heading.wrapped(to: room)
      + hint.lines.flatMap { $0.wrapped(to: room - 2).map { "  " + $0 } }
    keyboard.take()
    defer { keyboard.release() }
    keyboard.prompt("\n" + lines.map { "   \($0)\n" }.joined())
    while true {
      var entries = [
        pollfd(fd: keyboard.descriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
        pollfd(fd: meanwhile?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
      ]
      guard (try? systemCall("poll", "", { poll(&entries, 3, -1) })) != nil else { return .quit }
      if entries[2].revents != 0 { meanwhile?.action() }
      if entries[1].revents != 0, let signal = Self.signal(from: signals) { return .interrupted(signal) }
      guard entries[0].revents != 0 else { continue }
      guard let key = keyboard.read() else { return .quit }  // the terminal has gone
      switch key {
      case "\n", "\r", " ":
        erase(rows: lines.count + 1)
        return .next
      case "?":
        erase(rows: lines.count + 1)
        return .everything
      case "c":
        erase(rows: lines.count + 1)
        return .run
      case "q", "\u{4}":
        erase(rows: lines.count + 1)
        return .quit
      default:
        guard let number = key.wholeNumberValue, number > 0, number <= choices else { continue }
        erase(rows: lines.count + 1)
        return .choice(number)
      }
    }
  }

  /// The signal that a signalfd holds, or nil. See: signalfd(2)
  static func signal(from descriptor: Int32) -> Int32? {
    var info = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    return read(descriptor, &info, size) == size ? Int32(bitPattern: info.ssi_signo) : nil
  }

  /// Takes the prompt away again, so that the story reads as one.
  private func erase(rows: Int) {
    guard let term = getenv("TERM"), String(cString: term) != "dumb" else { return }
    keyboard.prompt("\u{1b}[\(rows)A\u{1b}[J")
  }
}
