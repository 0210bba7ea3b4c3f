import Glibc
import SystemCalls

/// The six words that a system call takes.
public struct CallArguments: Sendable, Hashable {
  private let words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)

  public init(_ words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64)) { self.words = words }

  public subscript(index: Int) -> UInt64 {
    switch index {
    case 0: words.0
    case 1: words.1
    case 2: words.2
    case 3: words.3
    case 4: words.4
    default: words.5
    }
  }

  /// The word as the int that the call's prototype declares.
  public func int(_ index: Int) -> Int32 { Int32(truncatingIfNeeded: self[index]) }

  public static func == (a: CallArguments, b: CallArguments) -> Bool { (0..<6).allSatisfy { a[$0] == b[$0] } }
  public func hash(into hasher: inout Hasher) { for index in 0..<6 { hasher.combine(self[index]) } }
}

/// One system call of a followed program, from the stop at its entry to the stop at its exit.
public struct Call: Sendable, Hashable {
  public let systemCall: SystemCall
  public let arguments: CallArguments
  /// The process and the thread in it that made the call.
  public let process: pid_t
  public let thread: pid_t
  /// When it was entered and when it returned, in nanoseconds of CLOCK_MONOTONIC.
  public internal(set) var entered: UInt64
  public internal(set) var returned: UInt64 = 0
  /// What was done to it, where something was.
  public internal(set) var injection: Injection?
  /// What it returned; a negative errno where it failed. Nil until it has.
  public internal(set) var result: Int64?

  public init(
    _ systemCall: SystemCall, _ arguments: CallArguments, process: pid_t = 0, thread: pid_t = 0,
    entered: UInt64 = 0,
    result: Int64? = nil
  ) {
    self.systemCall = systemCall
    self.arguments = arguments
    self.process = process
    self.thread = thread
    self.entered = entered
    self.result = result
  }

  /// Why it failed, or nil where it did not, or has not returned.
  public var error: ErrorNumber? {
    guard let result, (-4095 ... -1).contains(result) else { return nil }
    return ErrorNumber(Int32(-result))
  }

  /// The descriptor that the call is about, where there is one.
  public var descriptor: Int32? { systemCall.descriptorArgument.map { arguments.int($0) } }

  /// All descriptors that the call names or made.
  public var descriptors: [Int32] {
    let further: Int32? =
      switch systemCall {
      case .sendfile, .dup2, .dup3: arguments.int(1)
      case .splice: arguments.int(2)
      default: nil
      }
    return [descriptor, further, newDescriptor].compactMap { $0 }
  }

  /// How many bytes it moved in or out. Read while the program still stands at the call's exit.
  public func bytesMoved(memory: any ProgramMemory) -> UInt64 {
    guard let result, result > 0 else { return 0 }
    if systemCall.movesBytes { return UInt64(result) }
    guard [.sendmmsg, .recvmmsg].contains(systemCall) else { return 0 }
    // These return a number of messages; each struct mmsghdr holds its own length.
    return (0..<UInt64(min(result, 1024))).reduce(0) { total, index in
      let entry = arguments[1] &+ index &* MessageEntry.size
      return total &+ UInt64(memory.value(UInt32.self, at: entry &+ MessageEntry.lengthOffset) ?? 0)
    }
  }

  /// The descriptor that it made, where it made one.
  public var newDescriptor: Int32? {
    guard let result, result >= 0 else { return nil }
    if systemCall.makesDescriptor { return Int32(truncatingIfNeeded: result) }
    if systemCall == .fcntl, [F_DUPFD, F_DUPFD_CLOEXEC].contains(arguments.int(1)) {
      return Int32(truncatingIfNeeded: result)
    }
    return nil
  }
}

/// `struct mmsghdr` as a 64-bit kernel lays it out. See: sendmmsg(2)
enum MessageEntry {
  static let size: UInt64 = 64
  static let lengthOffset: UInt64 = 56
}
