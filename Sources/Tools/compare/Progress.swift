import CommandLineTool
import Glibc

/// One line at a terminal that says what is being done, and goes away.
final class Progress {
  var total = 0
  private var done = 0
  private let isShown: Bool
  nonisolated(unsafe) private static var isAnyShown = false

  init() {
    let isDumb = getenv("TERM").map { String(cString: $0) == "dumb" } ?? true
    isShown = Terminal(descriptor: STDERR_FILENO).isTerminal && !isDumb
    Self.isAnyShown = isShown
  }

  /// As `clear`, for a signal handler: one write. See: signal-safety(7)
  static func clearAtSignal() {
    if isAnyShown { _ = Glibc.write(STDERR_FILENO, "\r\u{1b}[K", 4) }
  }

  func advance(_ what: String) {
    done += 1
    show("\(done) of \(total): \(what)")
  }

  func show(_ what: String) {
    let width = Terminal(descriptor: STDERR_FILENO).width
    if isShown { printToStandardError("\r\u{1b}[K\(what.truncated(to: width - 1))") }
  }

  func clear() { if isShown { printToStandardError("\r\u{1b}[K") } }
}
