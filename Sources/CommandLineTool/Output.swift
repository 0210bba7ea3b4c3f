import Glibc
import SystemCalls

/// Buffered text to one descriptor. When its reader has gone it says so once and swallows the rest.
public final class Output {
  public let descriptor: Int32
  private var buffer: [UInt8] = []
  /// A descriptor that becomes readable when it is time to end, a signalfd say: then a reader that does not read is not waited
  /// for any longer. -1 for none.
  public var interruption: Int32 = -1
  /// Takes away what the file held before, when the first is written to it; until then it is kept.
  public var emptiesFile = false
  /// Why nothing can be written any more: EPIPE when the reader closed its end, ENOSPC on a full disk …
  public private(set) var failure: ErrorNumber?

  public init(descriptor: Int32) {
    self.descriptor = descriptor
    buffer.reserveCapacity(16 * 1024)
  }

  public func write(_ text: String) { write(bytes: text.utf8) }

  public func write(bytes: some Collection<UInt8>) {
    guard failure == nil else { return }
    buffer.append(contentsOf: bytes)
    if buffer.count >= 16 * 1024 { flush() }
  }

  /// Hands everything to the kernel.
  public func flush() {
    defer { buffer.removeAll(keepingCapacity: true) }
    guard failure == nil, !buffer.isEmpty else { return }
    if emptiesFile {
      _ = ftruncate(descriptor, 0)  // what is no file stays as it is
      emptiesFile = false
    }
    do throws(SystemCallError) {
      var rest = buffer[...]
      while !rest.isEmpty {
        // A pipe that can be written to has room for PIPE_BUF bytes: such a write does not block. See: pipe(7)
        let chunk = Array(rest.prefix(Int(PIPE_BUF)))
        try waitUntilWritable()
        let written = try systemCall("write", "\(descriptor)") { Glibc.write(descriptor, chunk, chunk.count) }
        rest = rest.dropFirst(written)
      }
    } catch {
      failure = error.errno
    }
  }

  private func waitUntilWritable() throws(SystemCallError) {
    var entries = [
      pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0),
      pollfd(fd: interruption, events: Int16(POLLIN), revents: 0),
    ]
    try systemCall("poll", "\(descriptor)") { poll(&entries, 2, -1) }
    if entries[0].revents == 0, entries[1].revents != 0 {
      throw SystemCallError(call: "write", asked: "\(descriptor)", errno: ErrorNumber(EINTR))
    }
  }
}
