import Glibc
import SystemCalls

/// The process that holds a socket.
public struct SocketOwner: Sendable, Hashable {
  public let process: pid_t
  /// Its name, as the kernel keeps it: 15 bytes at most.
  public let name: String

  /// Looks through /proc, as `ss -p` does. Nil where no process that may be looked at holds the socket.
  ///
  /// See: proc_pid_fd(5), proc_pid_comm(5)
  public static func find(inode: UInt64) -> SocketOwner? {
    let wanted = "socket:[\(inode)]"
    for process in numberedEntries(ofDirectory: "/proc") ?? [] {
      let folder = "/proc/\(process)/fd"
      for descriptor in numberedEntries(ofDirectory: folder) ?? []
      where destination(ofLink: "\(folder)/\(descriptor)") == wanted {
        let name = text(ofFile: "/proc/\(process)/comm")?.split(separator: "\n").first
        return SocketOwner(process: process, name: String(name ?? "?"))
      }
    }
    return nil
  }
}
