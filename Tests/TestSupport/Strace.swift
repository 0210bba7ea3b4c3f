import Foundation

/// What `strace -y` printed of a program's socket calls, in the order in which they returned.
public enum Strace {
  /// The calls that the toolkit tells.
  public static let calls =
    "socket,socketpair,bind,listen,accept,accept4,connect,read,write,readv,writev,sendto,sendmsg,sendmmsg,recvfrom,"
    + "recvmsg,recvmmsg,shutdown,close,dup,dup2,dup3,fcntl,setsockopt,getsockopt,getsockname,getpeername,ioctl,"
    + "sendfile,splice,poll,ppoll,select,pselect6,epoll_create,epoll_create1,epoll_ctl,epoll_wait,epoll_pwait,"
    + "timerfd_create,timerfd_settime,signalfd4,eventfd2,fsync,fdatasync,kill"

  /// Runs a program under strace and returns the lines of each thread that concern a socket, without the decoration of -y.
  public static func socketCalls(of command: [String], within place: ([String]) -> [String] = { $0 }) throws
    -> [Int: [String]]
  {
    guard let strace = Witness.path("strace") else {
      throw Program.Failure(description: "strace is not installed")
    }
    return try Place.withTemporaryFolder { folder in
      let path = "\(folder)/strace"
      let result = try Program.run(
        place([strace, "-y", "-ff", "-o", path, "-e", "trace=\(calls)", "-e", "signal=none"] + command))
      guard result.status == 0 else {
        throw Program.Failure(description: "under strace it ended with \(result.status): \(result.errors)")
      }
      var threads: [Int: [String]] = [:]
      for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
        let lines = try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8).split(separator: "\n")
        let thread = Int(name.split(separator: ".").last ?? "") ?? 0
        // What is written to a file is told from its first sync on.
        var synced: Set<Substring> = []
        threads[thread] = lines.map(String.init).filter { line in
          if line.hasPrefix("fsync(") || line.hasPrefix("fdatasync(") {
            synced.insert(line.drop { $0 != "(" }.dropFirst().prefix { $0.isNumber })
            return true
          }
          // A signal to itself is no word between two programs.
          if line.hasPrefix("kill(\(thread),") { return false }
          // In the middle of it the program was killed.
          if line.contains("<unfinished ...>") { return false }
          return concernsSocket(line) || synced.contains { line.hasPrefix("write(\($0)<") }
        }.map(plain)
      }
      return threads
    }
  }

  /// -y shows what a descriptor leads to: `3<socket:[12]>`, `3<TCP:[…]>`, `3<anon_inode:[eventpoll]>`.
  private static func concernsSocket(_ line: String) -> Bool {
    if line.hasPrefix("socket(") || line.hasPrefix("socketpair(") || line.hasPrefix("epoll_create")
      || line.hasPrefix("timerfd_") || line.hasPrefix("signalfd") || line.hasPrefix("eventfd")
      || line.hasPrefix("kill(")
    {
      return true
    }
    let arguments = line.prefix { $0 != "\"" }
    if ["timerfd", "signalfd", "eventfd"].contains(where: { arguments.contains("<anon_inode:[\($0)]>") }) {
      return true
    }
    if line.hasPrefix("epoll_wait") || line.hasPrefix("epoll_ctl") || line.hasPrefix("close(") {
      if arguments.contains("<anon_inode:[eventpoll]>") { return true }
    }
    return arguments.contains("<socket:[") || arguments.contains("<TCP:[") || arguments.contains("<UDP:[")
      || arguments.contains("<UNIX") || arguments.contains("<TCPv6:[")
  }

  private static func plain(_ line: String) -> String {
    line.replacing(/(\d)<[^<>]*(->[^<>]*)?>(\(deleted\))?/, with: { "\($0.output.1)" })
      .replacing(/\) +=/, with: ") =")
  }
}
