import Glibc
import SystemCalls

/// Writes events, a line each, and does not wait for whoever reads a pipe: lines that nobody takes are counted instead. (What is no
/// pipe is asked whether it takes anything, and waited for until it has taken a line.)
public final class EventLog {
  private let descriptor: Int32
  private let isJSON: Bool
  private var dropped = 0

  /// - Parameters:
  ///   - descriptor: where to.
  ///   - isJSON: an object a line, for programs.
  public init(_ descriptor: Int32 = STDERR_FILENO, isJSON: Bool = false) {
    self.descriptor = descriptor
    self.isJSON = isJSON
  }

  /// Writes what has happened, the rest of the sentence for people, and the same for programs.
  public func write(_ event: String, _ text: String, _ fields: [JSON.Member] = []) {
    var line = ""
    if dropped > 0 {
      line = self.line("lines lost", "\(dropped), for nobody read them", [.init("count", .number(dropped))])
    }
    line += self.line(event, text, fields)
    // A pipe that can be written to has room for PIPE_BUF bytes. See: pipe(7)
    var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    guard line.utf8.count <= Int(PIPE_BUF), poll(&entry, 1, 0) == 1 else {
      dropped += 1
      return
    }
    dropped = 0
    line.withUTF8 { try? writeAll(UnsafeRawBufferPointer($0), to: descriptor) }
  }

  private func line(_ event: String, _ text: String, _ fields: [JSON.Member]) -> String {
    if isJSON {
      return JSON.object([.init("time", .string(time())), .init("event", .string(event))] + fields).line
        + "\n"
    }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { String($0).printable }
    return "\(time()) \(event): \(lines.joined(separator: "\n"))\n"
  }

  /// "2026-01-31T12:00:00.123Z". See: RFC 3339
  private func time() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    gmtime_r(&now.tv_sec, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &parts)
    let milliseconds = String(now.tv_nsec / 1_000_000)
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      + "." + String(repeating: "0", count: 3 - milliseconds.count) + milliseconds + "Z"
  }
}
