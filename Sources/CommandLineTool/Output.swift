import Glibc
import SystemCalls

/// Buffered text to one descriptor. When its reader has gone it says so once and swallows the rest.
public final class Output {
  public let descriptor: Int32
  private var buffer: [UInt8] = []
  /// Why nothing can be written any more: EPIPE when the reader closed its end, ENOSPC on a full disk …
  public private(set) var failure: ErrorNumber?

  public init(descriptor: Int32) {
    self.descriptor = descriptor
    buffer.reserveCapacity(16 * 1024)
  }

  public func write(_ text: String) {
    guard failure == nil else { return }
    buffer.append(contentsOf: text.utf8)
    if buffer.count >= 16 * 1024 { flush() }
  }

  /// Hands everything to the kernel.
  public func flush() {
    defer { buffer.removeAll(keepingCapacity: true) }
    guard failure == nil, !buffer.isEmpty else { return }
    do {
      try buffer.withUnsafeBytes { try writeAll($0, to: descriptor) }
    } catch {
      failure = (error as? SystemCallError)?.errno ?? ErrorNumber(EIO)
    }
  }
}
