import Glibc
import KernelState
import SystemCalls

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

  /// All rows that have a port of 127.0.0.1 at one of their ends. (The same port of another address is another matter.)
  public static func all(port: UInt16) -> [TCPRow] {
    (text(ofFile: "/proc/self/net/tcp") ?? "").split(separator: "\n").dropFirst().compactMap { line in
      let words = line.split { $0 == " " || $0 == ":" }
      guard let row = TCPRow(words) else { return nil }
      // The four bytes of an address, as a number of this machine.
      let isOfPort = [(1, row.localPort), (3, row.peerPort)].contains { place, itsPort in
        itsPort == port && UInt32(words[place], radix: 16) == inet_addr("127.0.0.1")
      }
      return isOfPort ? row : nil
    }
  }

  private init?(_ words: [Substring]) {
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
