import Glibc
import SystemCalls

/// What the kernel has counted in this network namespace since it was made, under the names that `nstat` prints: TcpExtListenOverflows,
/// TcpRetransSegs. In the namespace of the whole machine, all programs' sockets are counted together.
///
/// See: include/uapi/linux/snmp.h, nstat(8)
public struct Counters {
  private var values: [String: Int] = [:]

  /// Reads /proc/self/net/snmp and /proc/self/net/netstat: pairs of lines, one of names and one of numbers.
  public init() {
    for file in ["snmp", "netstat"] {
      let lines = (text(ofFile: "/proc/self/net/\(file)") ?? "").split(separator: "\n")
      for (names, numbers) in zip(lines, lines.dropFirst()) {
        let (names, numbers) = (names.split(separator: " "), numbers.split(separator: " "))
        guard names.count == numbers.count, let prefix = names.first, prefix == numbers.first else {
          continue
        }
        for (name, number) in zip(names, numbers).dropFirst() {
          values["\(prefix.dropLast())\(name)"] = Int(number)
        }
      }
    }
  }

  /// How much it has grown since an earlier reading. Ends the lab where this kernel does not count that.
  public func grown(_ name: String, since earlier: Counters) -> Int {
    guard let now = values[name], let then = earlier.values[name] else {
      cannotShow("this kernel has no counter \(name) in /proc/net/snmp and /proc/net/netstat")
    }
    return now &- then
  }

  /// Says how much each of some counters has grown since.
  public func say(_ names: [String], since earlier: Counters) {
    let rows = names.map { name in
      "  " + name + String(repeating: " ", count: max(1, 30 - name.count)) + "+\(grown(name, since: earlier))"
    }
    LessonSupport.say("The kernel has counted, in this network namespace:\n" + rows.joined(separator: "\n"))
  }
}
