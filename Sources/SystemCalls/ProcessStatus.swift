/// What /proc says of a process, or of one of its threads, at the moment at which it is asked.
///
/// See: proc_pid_status(5), proc_pid_stat(5)
public struct ProcessStatus: Sendable {
  private let lines: [Substring]
  private let fields: [Substring]

  /// Nil where there is no such process.
  public init?(of process: Int32) {
    // Under its own number a thread is found too; in its own folder stands what is its alone.
    let folder = "/proc/\(process)/task/\(process)"
    guard let status = text(ofFile: "\(folder)/status"), let stat = text(ofFile: "\(folder)/stat") else {
      return nil
    }
    lines = status.split(separator: "\n")
    // The name in parentheses may hold spaces, and parentheses.
    fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
  }

  /// A number out of a line such as "TracerPid:  12" or "Uid: 0 0 0 0": its first.
  public func number(_ name: String) -> Int? { words(name).first.flatMap { Int($0) } }

  /// Whether a signal is in a set: "SigBlk", "SigIgn" …
  public func has(_ signal: Int32, in set: String) -> Bool? {
    guard let bits = words(set).first.flatMap({ UInt64($0, radix: 16) }), (1...64).contains(signal) else {
      return nil
    }
    return bits >> UInt64(signal - 1) & 1 == 1
  }

  /// "R", "S", "t" …
  public var state: String { fields.first.map(String.init) ?? "?" }

  /// Whether it has ended, and only its number is left.
  public var hasEnded: Bool { state == "Z" || state == "X" }

  /// Whether it is on its way out: it has no descriptors any more. See: include/linux/sched.h, PF_EXITING
  public var isExiting: Bool { fields.count > 6 ? UInt32(fields[6]).map { $0 & 0x4 != 0 } ?? true : true }

  private func words(_ name: String) -> [Substring] {
    lines.first { $0.hasPrefix("\(name):") }?.dropFirst(name.count + 1).split(whereSeparator: \.isWhitespace)
      ?? []
  }
}
