import Glibc
import KernelState
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

/// One row of /proc/net/tcp: a TCP socket over IPv4, with or without a descriptor. A socket that neither listens nor has ever been
/// connected has no row.
///
/// See: proc_pid_net(5), net/ipv4/tcp_ipv4.c (get_tcp4_sock)
public struct TCPRow {
  public enum Timer: Int, Sendable {
    case none, retransmit, keepalive, timeWait, windowProbe
  }

  public let localPort: UInt16
  public let peerPort: UInt16
  /// As the kernel names it, without its prefix: ESTABLISHED, TIME_WAIT.
  public let state: String
  /// Bytes written and not acknowledged.
  public let sendQueue: Int
  /// Bytes arrived and not read; of a listening socket, the connections that wait for accept.
  public let receiveQueue: Int
  public let timer: Timer
  /// What is left of the timer, in milliseconds, in steps of a clock tick (10 ms).
  public let milliseconds: Int
  /// How often the retransmission timer has run out in a row. (Unanswered probes, of keepalive or of a closed window, are not in it.)
  public let retransmits: Int
  /// 0 where no file leads to it: not accepted yet, or closed.
  public let inode: Int

  /// All rows that have a port at one of their ends.
  public static func all(port: UInt16) -> [TCPRow] {
    (text(ofFile: "/proc/self/net/tcp") ?? "").split(separator: "\n").dropFirst().compactMap(TCPRow.init)
      .filter { $0.localPort == port || $0.peerPort == port }
  }

  private init?(_ line: Substring) {
    let words = line.split { $0 == " " || $0 == ":" }
    func number(_ index: Int, radix: Int = 16) -> Int? {
      words.indices.contains(index) ? Int(words[index], radix: radix) : nil
    }
    guard let local = number(2), let peer = number(4), let state = number(5), let send = number(6),
      let receive = number(7), let timer = number(8), let left = number(9), let again = number(10),
      let inode = number(13, radix: 10)
    else { return nil }
    localPort = UInt16(clamping: local)
    peerPort = UInt16(clamping: peer)
    self.state = TCPState(rawValue: UInt8(clamping: state))?.name ?? "\(state)"
    sendQueue = send
    receiveQueue = receive
    self.timer = Timer(rawValue: timer) ?? .none
    milliseconds = left &* 10
    retransmits = again
    self.inode = inode
  }
}

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
