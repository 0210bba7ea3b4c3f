import Glibc

/// A system call that failed: its name, what was asked of it, and why the kernel refused.
public struct SystemCallError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The call's name, as its manual page has it.
  public let call: String
  /// What it was asked to do: a path, an address, an option. May be empty.
  public let asked: String
  public let errno: ErrorNumber

  public init(call: String, asked: String = "", errno: ErrorNumber) {
    self.call = call
    self.asked = asked
    self.errno = errno
  }

  /// "open /tmp/x: ENOENT (No such file or directory)"
  public var description: String {
    asked.isEmpty ? "\(call): \(errno)" : "\(call) \(asked): \(errno)"
  }
}

/// Makes one system call: -1 becomes a thrown `SystemCallError`, EINTR is retried, and errno is saved before anything else
/// can change it. Not for `close`, which must not be retried.
@inline(__always)
@discardableResult
public func systemCall<Result: SignedInteger>(
  _ call: String, _ asked: @autoclosure () -> String = "", _ body: () -> Result
) throws(SystemCallError) -> Result {
  while true {
    let result = body()
    if result != -1 { return result }
    let failure = ErrorNumber.last
    if failure.rawValue == EINTR { continue }
    throw SystemCallError(call: call, asked: asked(), errno: failure)
  }
}
