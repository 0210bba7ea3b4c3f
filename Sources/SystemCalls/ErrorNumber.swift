import CLinux
import Glibc

/// An `errno` value, with the kernel's name and the C library's text for it.
///
/// See: errno(3), strerror(3), strerrorname_np(3)
public struct ErrorNumber: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: Int32

  public init(rawValue: Int32) { self.rawValue = rawValue }
  public init(_ rawValue: Int32) { self.rawValue = rawValue }

  /// The errno with this name, "EADDRINUSE" say, or nil where there is none.
  public init?(name: String) {
    let name = Self.synonyms[name] ?? name
    guard let number = Self.numbers.first(where: { $0.name == name }) else { return nil }
    self = number
  }

  /// Second names on Linux. See: errno(3)
  private static let synonyms = ["EWOULDBLOCK": "EAGAIN", "ENOTSUP": "EOPNOTSUPP", "EDEADLOCK": "EDEADLK"]

  /// The names of all that the C library knows.
  public static var names: [String] { numbers.map(\.name) }

  /// See: errno(3). The kernel's numbers end at 4095; those with a name much sooner.
  private static var numbers: [ErrorNumber] {
    (1...255).map(ErrorNumber.init(_:)).filter { strerrorname_np($0.rawValue) != nil }
  }

  /// The errno that the calling thread's last failed call left. Read it before anything else is called.
  public static var last: ErrorNumber { ErrorNumber(errno) }

  /// "EADDRINUSE"; "errno 9999" where the C library knows no name.
  public var name: String {
    if let name = Self.restarts[rawValue]?.name { return name }
    return strerrorname_np(rawValue).map { String(cString: $0) } ?? "errno \(rawValue)"
  }

  /// "Address already in use".
  public var text: String {
    if let text = Self.restarts[rawValue]?.text { return text }
    return strerror(rawValue).map { String(cString: $0) } ?? "Unknown error \(rawValue)"
  }

  /// "EADDRINUSE (Address already in use)", as strace prints it.
  public var description: String { "\(name) (\(text))" }

  /// Whether the kernel means to run the call again by itself, after a signal. A program never sees such a value; its
  /// tracer does.
  ///
  /// See: include/linux/errno.h, signal(7)
  public var isRestart: Bool { Self.restarts[rawValue] != nil }

  private static let restarts: [Int32: (name: String, text: String)] = [
    512: ("ERESTARTSYS", "To be restarted if SA_RESTART is set"),
    513: ("ERESTARTNOINTR", "To be restarted"),
    514: ("ERESTARTNOHAND", "To be restarted if no handler"),
    516: ("ERESTART_RESTARTBLOCK", "Interrupted by signal"),
  ]
}
