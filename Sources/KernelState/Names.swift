import CLinux
import Glibc

/// The kernel's names for the numbers it answers with.
enum Names {
  /// "AF_INET". See: address_families(7)
  static func family(_ number: Int32) -> String {
    switch number {
    case AF_UNIX: "AF_UNIX"
    case AF_INET: "AF_INET"
    case AF_INET6: "AF_INET6"
    case AF_NETLINK: "AF_NETLINK"
    case AF_PACKET: "AF_PACKET"
    case AF_VSOCK: "AF_VSOCK"
    case 44: "AF_XDP"
    default: "AF_\(number)"
    }
  }

  /// "SOCK_STREAM". See: socket(2)
  static func type(_ number: Int32) -> String {
    switch UInt32(bitPattern: number) {
    case SOCK_STREAM.rawValue: "SOCK_STREAM"
    case SOCK_DGRAM.rawValue: "SOCK_DGRAM"
    case SOCK_RAW.rawValue: "SOCK_RAW"
    case SOCK_SEQPACKET.rawValue: "SOCK_SEQPACKET"
    default: "type \(number)"
    }
  }

  /// "TCP"; for families without protocols the number.
  static func protocolName(_ number: Int32, family: Int32) -> String {
    guard family == AF_INET || family == AF_INET6 else { return "\(number)" }
    switch number {
    case Int32(IPPROTO_TCP): return "TCP"
    case Int32(IPPROTO_UDP): return "UDP"
    case Int32(IPPROTO_ICMP): return "ICMP"
    case 262: return "MPTCP"
    default: return "protocol \(number)"
    }
  }

  /// What the timer is for, or nil where none runs. See: net/ipv4/inet_diag.c, idiag_timer
  static func timer(_ number: UInt8) -> String? {
    switch number {
    case 0: nil
    case 1: "retransmit"
    case 2: "keepalive"
    case 3: "timewait"
    case 4: "window probe"
    default: "timer \(number)"
    }
  }

  /// Which directions were shut down. See: shutdown(2); include/net/sock.h, RCV_SHUTDOWN and SEND_SHUTDOWN
  static func shutdown(_ bits: UInt8) -> String {
    switch bits & 3 {
    case 1: "receiving"
    case 2: "sending"
    case 3: "both ways"
    default: "no"
    }
  }
}
