import Glibc
import SystemCalls

/// The number behind a name in a file of /proc, as in "Threads:  4": in KiB where it is a size. Ends the lesson where there is
/// none.
///
/// See: proc_pid_status(5), proc_meminfo(5)
public func number(_ name: String, in file: String) -> Int {
  for line in (text(ofFile: file) ?? "").split(separator: "\n") {
    let words = line.split { $0 == ":" || $0.isWhitespace }
    if words.count > 1, words[0] == name, let number = Int(words[1]) { return number }
  }
  cannotShow("\(file) has no \(name)")
}

/// Nanoseconds of CLOCK_MONOTONIC. See: clock_gettime(2)
public func nanoseconds() -> Int { Int(monotonicNanoseconds()) }

/// The threads of this program besides its first, in the order in which they were started. See: proc_pid_task(5)
public func otherThreads() -> [pid_t] {
  (numberedEntries(ofDirectory: "/proc/self/task") ?? []).filter { $0 != getpid() }.sorted()
}

/// Whether a thread waits for something: it is not on a processor, waits for none, and nobody has stopped it. See: proc_pid_stat(5)
public func isAsleep(_ thread: pid_t) -> Bool { ProcessStatus(of: thread)?.state == "S" }

/// A number that the kernel goes by, from /proc/sys: `setting("net/ipv4/tcp_syn_retries")`. Ends the lab where there is none.
///
/// See: ip-sysctl (Documentation/networking/ip-sysctl.rst)
public func setting(_ name: String) -> Int {
  guard let first = settings(name).first else { cannotShow("/proc/sys/\(name) has no number") }
  return first
}

/// The same where there are several, as in net/ipv4/ip_local_port_range; none where this kernel has no such setting.
public func settings(_ name: String) -> [Int] {
  (text(ofFile: "/proc/sys/\(name)") ?? "").split { $0.isWhitespace }.compactMap { Int($0) }
}
