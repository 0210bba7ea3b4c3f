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
