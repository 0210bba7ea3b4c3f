import CLinux
import Glibc
import SystemCalls

/// When to colour.
public enum ColorMode: String, CaseIterable, Sendable {
  case auto, always, never
}

/// What can be known of a terminal behind a descriptor.
public struct Terminal: Sendable {
  public let descriptor: Int32

  public init(descriptor: Int32) { self.descriptor = descriptor }

  public var isTerminal: Bool { isatty(descriptor) == 1 }

  /// Its width in columns: what the kernel says (TIOCGWINSZ), else COLUMNS, else 80. From 40 to 200.
  public var width: Int {
    var size = winsize()
    var columns = 0
    if clinux_ioctl(descriptor, CLINUX_TIOCGWINSZ, &size) == 0 { columns = Int(size.ws_col) }
    if columns == 0 { columns = getenv("COLUMNS").flatMap { Int(String(cString: $0)) } ?? 80 }
    return min(max(columns, 40), 200)
  }

  /// Whether to colour what is written to it. NO_COLOR and TERM=dumb turn `auto` off (no-color.org).
  public func wantsColor(_ mode: ColorMode) -> Bool {
    switch mode {
    case .always: return true
    case .never: return false
    case .auto:
      let noColor = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
      let dumb = getenv("TERM").map { String(cString: $0) == "dumb" } ?? true
      return isTerminal && !noColor && !dumb
    }
  }
}

/// How a piece of text stands out, where colour is wanted. Nothing is said by colour alone.
public enum Style: String, Sendable {
  case plain = ""
  case heading = "1"
  case strong = "1;36"
  case good = "32"
  case bad = "1;31"
  case changed = "33"
  case quiet = "2"
  case packet = "35"
  case words = "36"

  /// The text between the escape sequences of this style (ECMA-48 SGR), or as it is without colour.
  public func callAsFunction(_ text: String, color: Bool) -> String {
    !color || self == .plain || text.isEmpty ? text : "\u{1b}[\(rawValue)m\(text)\u{1b}[0m"
  }
}

/// Single keys from the terminal itself, whatever standard input is. The terminal is put back as it was when this goes away.
///
/// See: termios(3), tty(4)
public final class Keyboard {
  private let terminal: Descriptor
  private let before: termios
  private var isRaw = false

  /// Nil where the process has no terminal.
  public init?() {
    guard let terminal = try? Descriptor.open("/dev/tty", O_RDWR) else { return nil }
    var settings = termios()
    guard tcgetattr(terminal.number, &settings) == 0 else { return nil }
    self.terminal = terminal
    self.before = settings
  }

  deinit { release() }

  /// The descriptor to poll for a key.
  public var descriptor: Int32 { terminal.number }

  /// From here on a key arrives without Enter and is not echoed. Ctrl-C still makes a signal.
  public func take() {
    guard !isRaw else { return }
    var settings = before
    settings.c_lflag &= ~tcflag_t(ICANON | ECHO)
    isRaw = tcsetattr(terminal.number, TCSANOW, &settings) == 0
  }

  /// The terminal as it was.
  public func release() {
    guard isRaw else { return }
    var settings = before
    tcsetattr(terminal.number, TCSANOW, &settings)
    isRaw = false
  }

  /// Writes a prompt to the terminal itself.
  public func prompt(_ text: String) {
    var text = text
    text.withUTF8 { try? writeAll(UnsafeRawBufferPointer($0), to: terminal.number) }
  }

  /// The next key, or nil when the terminal has gone.
  public func read() -> Character? {
    var byte: UInt8 = 0
    guard let count = try? systemCall("read", "/dev/tty", { Glibc.read(terminal.number, &byte, 1) }),
      count == 1
    else {
      return nil
    }
    return Character(Unicode.Scalar(byte))
  }
}
