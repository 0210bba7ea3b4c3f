import CLinux
import Glibc

/// A file descriptor with one owner. It is closed when its owner lets go of it, and cannot be closed twice.
///
/// See: close(2)
public struct Descriptor: ~Copyable, Sendable {
  /// The descriptor's number in this process. Only to be handed to a system call.
  public let number: Int32

  /// Takes over an open descriptor.
  public init(owning number: Int32) { self.number = number }

  deinit { _ = Glibc.close(number) }

  /// Closes it, and reports what an automatic close would swallow.
  ///
  /// EINTR is no reason to try again: Linux has released the descriptor by then.
  public consuming func close() throws(SystemCallError) {
    let number = number
    discard self
    if Glibc.close(number) == 0 { return }
    let failure = ErrorNumber.last
    if failure.rawValue != EINTR { throw SystemCallError(call: "close", asked: "\(number)", errno: failure) }
  }

  /// Gives the number away; the caller closes it.
  public consuming func release() -> Int32 {
    let number = number
    discard self
    return number
  }
}

extension Descriptor {
  /// See: open(2). The descriptor is close-on-exec.
  public static func open(_ path: String, _ flags: Int32, mode: mode_t = 0o666) throws(SystemCallError)
    -> Descriptor
  {
    let number = try systemCall("open", path) { Glibc.open(path, flags | O_CLOEXEC, mode) }
    return Descriptor(owning: number)
  }

  /// A pipe, close-on-exec: the numbers of its two ends, each to be given to a `Descriptor`. See: pipe(2)
  public static func pipe() throws(SystemCallError) -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    try systemCall("pipe2") { clinux_pipe2(&ends, O_CLOEXEC) }
    return (ends[0], ends[1])
  }
}

/// Writes all of `bytes`, however many calls it takes, and waits for room where the descriptor is non-blocking. See: write(2)
public func writeAll(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) throws(SystemCallError) {
  var rest = bytes[...]
  while !rest.isEmpty {
    let chunk = UnsafeRawBufferPointer(rebasing: rest)
    do throws(SystemCallError) {
      let written = try systemCall("write", "\(descriptor)") {
        write(descriptor, chunk.baseAddress, chunk.count)
      }
      rest = rest.dropFirst(written)
    } catch {
      guard error.errno.rawValue == EAGAIN else { throw error }
      var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      try systemCall("poll") { poll(&entry, 1, -1) }
    }
  }
}

/// Writes all of `bytes`, as above.
public func writeAll(_ bytes: [UInt8], to descriptor: Int32) throws(SystemCallError) {
  let result = bytes.withUnsafeBytes { bytes in
    Result { () throws(SystemCallError) in try writeAll(bytes, to: descriptor) }
  }
  try result.get()
}

/// The whole of a file, or nil where it cannot be read. Meant for /proc, whose files have no size.
public func contents(ofFile path: String) -> [UInt8]? {
  guard let file = try? Descriptor.open(path, O_RDONLY) else { return nil }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 16 * 1024)
  while true {
    guard let count = try? systemCall("read", path, { read(file.number, &chunk, chunk.count) }) else {
      return nil
    }
    if count == 0 { return bytes }
    bytes += chunk[..<count]
  }
}

/// The whole of a text file, or nil where it cannot be read.
public func text(ofFile path: String) -> String? {
  contents(ofFile: path).map { String(decoding: $0, as: UTF8.self) }
}

/// What a symbolic link points to, or nil. See: readlink(2)
public func destination(ofLink path: String) -> String? {
  var buffer = [CChar](repeating: 0, count: 4096)
  let length = readlink(path, &buffer, buffer.count)
  return length < 0 ? nil : String(decoding: buffer[..<length].map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// The inode in a link such as "socket:[12345]", or nil where the link leads to something else. See: proc_pid_fd(5)
public func socketInode(ofLink link: String) -> UInt64? {
  guard link.hasPrefix("socket:["), link.hasSuffix("]") else { return nil }
  return UInt64(link.dropFirst("socket:[".count).dropLast())
}

/// The entries of a directory whose names are numbers, in ascending order: processes in /proc, descriptors in
/// /proc/PID/fd. Nil where the directory cannot be read.
public func numberedEntries(ofDirectory path: String) -> [Int32]? {
  guard let directory = opendir(path) else { return nil }
  defer { closedir(directory) }
  var numbers: [Int32] = []
  while let entry = readdir(directory) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if let number = Int32(name) { numbers.append(number) }
  }
  return numbers.sorted()
}
