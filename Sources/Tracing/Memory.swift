import CLinux
import Glibc

/// A program's memory, at a stop: of a process, or of a recording.
public protocol ProgramMemory {
  /// As many of `count` bytes from `address` on as can be read; empty where none can.
  func read(_ address: UInt64, _ count: Int) -> [UInt8]
}

/// The memory of a process that stands still.
///
/// See: process_vm_readv(2)
public struct ProcessMemory: ProgramMemory {
  public let process: pid_t

  public init(process: pid_t) { self.process = process }

  public func read(_ address: UInt64, _ count: Int) -> [UInt8] {
    guard address != 0, count > 0 else { return [] }
    // Page by page: a range that runs into an unmapped page gives what stands before it.
    let page: UInt64 = 4096
    let wanted = min(count, 1 << 20)
    return [UInt8](unsafeUninitializedCapacity: wanted) { buffer, filled in
      while filled < wanted, let base = buffer.baseAddress {
        let start = address &+ UInt64(filled)
        let chunk = min(wanted - filled, Int(page - start % page))
        let got = clinux_process_vm_read(process, base + filled, UInt(start), UInt(chunk))
        if got <= 0 { break }
        filled += got
      }
    }
  }
}

extension ProcessMemory {
  /// Writes to it; false where that is not possible. See: process_vm_writev(2)
  func write(_ bytes: [UInt8], to address: UInt64) -> Bool {
    bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return true }
      return clinux_process_vm_write(process, base, UInt(address), UInt(buffer.count)) == buffer.count
    }
  }
}

extension ProgramMemory {
  /// The value at an address, or nil where it cannot be read whole.
  func value<Value: BitwiseCopyable>(_: Value.Type, at address: UInt64) -> Value? {
    let bytes = read(address, MemoryLayout<Value>.size)
    guard bytes.count == MemoryLayout<Value>.size else { return nil }
    return bytes.withUnsafeBytes { $0.loadUnaligned(as: Value.self) }
  }

  /// `count` values from an address on, as many as can be read.
  func values<Value: BitwiseCopyable>(_: Value.Type, at address: UInt64, count: Int) -> [Value] {
    let size = MemoryLayout<Value>.stride
    let bytes = read(address, count * size)
    return bytes.withUnsafeBytes { buffer in
      (0..<(bytes.count / size)).map { buffer.loadUnaligned(fromByteOffset: $0 * size, as: Value.self) }
    }
  }
}
