import Glibc
import SystemCalls

/// The exit statuses that every command here uses.
public enum ExitStatus {
  /// It did what was asked.
  public static let success: Int32 = 0
  /// It could not: what a lesson was to show did not happen, or the system refused.
  public static let failure: Int32 = 1
  /// The command line made no sense.
  public static let usage: Int32 = 2
  /// Ended by ctrl-C, as a shell counts it: 128 + SIGINT.
  public static let interrupted: Int32 = 128 + SIGINT
  /// Nobody reads the output any more, as a shell counts it: 128 + SIGPIPE.
  public static let outputClosed: Int32 = 128 + SIGPIPE
}

/// Something that went wrong, in one line that a person can act on.
public struct Complaint: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  /// The exit status that goes with it.
  public let status: Int32

  public init(_ description: String, status: Int32 = ExitStatus.failure) {
    self.description = description
    self.status = status
  }
}

/// Prints one line to standard error, "command: message", and ends the process.
public func exit(command: String, complaint: Complaint) -> Never {
  printToStandardError("\(command): \(complaint.description)\n")
  Glibc.exit(complaint.status)
}

/// Writes to standard error at once. A standard error that nobody reads is no reason to stop.
public func printToStandardError(_ text: String) {
  var text = text
  text.withUTF8 { try? writeAll(UnsafeRawBufferPointer($0), to: STDERR_FILENO) }
}

/// Makes sure that no file opened here gets the number of a standard stream that was closed, and with it its words.
/// Returns the streams that were closed. The reserved numbers are close-on-exec: a started program finds them closed.
public func reserveStandardStreams() -> Set<Int32> {
  var closed: Set<Int32> = []
  var state = stat()
  for number in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fstat(number, &state) == -1 {
    // The lowest free number is this one.
    if open("/dev/null", O_RDWR | O_CLOEXEC) == number { closed.insert(number) }
  }
  return closed
}
