import CLinux
import Glibc
import SystemCalls

/// Listens to TCP on the loopback interface. Needs CAP_NET_RAW.
///
/// See: packet(7)
public final class PacketTap {
  private let tap: Descriptor
  private var buffer = [UInt8](repeating: 0, count: 64 * 1024)
  private var control = [UInt8](repeating: 0, count: 128)
  /// Packets that came too fast, so far.
  public private(set) var lost: UInt64 = 0

  /// Throws EPERM where this process may not listen.
  public init(interface: String = "lo") throws(SystemCallError) {
    // Protocol 0 keeps the tap shut until it is bound: nothing gets in before the filter is there.
    let type = Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    tap = Descriptor(owning: try systemCall("socket", "AF_PACKET") { socket(AF_PACKET, type, 0) })
    try Self.attachFilter(to: tap.number)
    var on: Int32 = 1
    try systemCall("setsockopt", "SO_TIMESTAMPNS") {
      setsockopt(tap.number, SOL_SOCKET, SO_TIMESTAMPNS, &on, socklen_t(MemoryLayout<Int32>.size))
    }
    var size: Int32 = 8 * 1024 * 1024  // as much as net.core.rmem_max allows
    setsockopt(tap.number, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))

    var address = sockaddr_ll()
    address.sll_family = UInt16(AF_PACKET)
    address.sll_protocol = UInt16(CLINUX_ETH_P_ALL).bigEndian
    // Index 0 would be every interface.
    let index = if_nametoindex(interface)
    if index == 0 { throw SystemCallError(call: "if_nametoindex", asked: interface, errno: .last) }
    address.sll_ifindex = Int32(clamping: index)
    try systemCall("bind", interface) {
      withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(tap.number, $0, socklen_t(MemoryLayout<sockaddr_ll>.size))
        }
      }
    }
  }

  /// To be polled for packets; everything else is this tap's affair.
  public var descriptor: Int32 { tap.number }

  /// The TCP packets since the last time, in the order in which they passed. Never waits; and what passes from now on is for the next
  /// time: it may come faster than it is read.
  public func drain() -> [Packet] {
    var packets: [Packet] = []
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let start = UInt64(clamping: now.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: now.tv_nsec)
    while let packet = next() {
      guard let packet else { continue }
      packets.append(packet)
      if packet.time > start { break }
    }
    var statistics = tpacket_stats()
    var length = socklen_t(MemoryLayout<tpacket_stats>.size)
    // Reading them sets them to zero.
    if getsockopt(tap.number, SOL_PACKET, PACKET_STATISTICS, &statistics, &length) == 0 {
      lost += UInt64(statistics.tp_drops)
    }
    return packets
  }

  /// Nil when there is none; a nil inside where it was not TCP after all.
  private func next() -> Packet?? {
    buffer.withUnsafeMutableBytes { data in
      control.withUnsafeMutableBytes { control in
        var vector = iovec(iov_base: data.baseAddress, iov_len: data.count)
        return withUnsafeMutablePointer(to: &vector) { vector in
          var message = msghdr()
          message.msg_iov = vector
          message.msg_iovlen = 1
          message.msg_control = control.baseAddress
          message.msg_controllen = control.count
          // MSG_TRUNC: the packet's own length, should it be longer than the buffer.
          let count = recvmsg(tap.number, &message, Int32(MSG_TRUNC))
          guard count >= 0 else { return .none }
          let bytes = data.prefix(min(count, data.count))
          return .some(
            Packet(bytes: Array(bytes), time: Self.time(control.prefix(Int(message.msg_controllen)))))
        }
      }
    }
  }

  /// The kernel's time of arrival, in nanoseconds since 1970. See: socket(7), SO_TIMESTAMPNS; cmsg(3)
  private static func time(_ control: UnsafeMutableRawBufferPointer.SubSequence) -> UInt64 {
    let bytes = Array(control)
    let header = MemoryLayout<cmsghdr>.size
    guard bytes.count >= header + MemoryLayout<timespec>.size else { return 0 }
    let time = bytes.load(timespec.self, at: header)
    return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
  }

  /// TCP over IPv4 or IPv6, and each packet once: on loopback the kernel shows it as it leaves and as it arrives.
  private static func attachFilter(to tap: Int32) throws(SystemCallError) {
    let load = UInt16(BPF_LD | BPF_ABS)
    let equal = UInt16(BPF_JMP | BPF_JEQ | BPF_K)
    let packetType = UInt32(bitPattern: CLINUX_SKF_AD_PKTTYPE)
    let protocolNumber = UInt32(bitPattern: SKF_AD_OFF + SKF_AD_PROTOCOL)
    let tcp = UInt32(IPPROTO_TCP)
    var instructions = [
      sock_filter(code: load | UInt16(BPF_W), jt: 0, jf: 0, k: packetType),
      sock_filter(code: equal, jt: 8, jf: 0, k: UInt32(PACKET_OUTGOING)),
      sock_filter(code: load | UInt16(BPF_W), jt: 0, jf: 0, k: protocolNumber),
      sock_filter(code: equal, jt: 0, jf: 2, k: UInt32(CLINUX_ETH_P_IP)),
      sock_filter(code: load | UInt16(BPF_B), jt: 0, jf: 0, k: 9),  // IPv4: protocol
      sock_filter(code: equal, jt: 3, jf: 4, k: tcp),
      sock_filter(code: equal, jt: 0, jf: 3, k: UInt32(CLINUX_ETH_P_IPV6)),
      sock_filter(code: load | UInt16(BPF_B), jt: 0, jf: 0, k: 6),  // IPv6: next header
      sock_filter(code: equal, jt: 0, jf: 1, k: tcp),
      sock_filter(code: UInt16(BPF_RET | BPF_K), jt: 0, jf: 0, k: 0xffff),
      sock_filter(code: UInt16(BPF_RET | BPF_K), jt: 0, jf: 0, k: 0),
    ]
    try systemCall("setsockopt", "SO_ATTACH_FILTER") {
      instructions.withUnsafeMutableBufferPointer { buffer in
        var program = sock_fprog(len: UInt16(buffer.count), filter: buffer.baseAddress)
        return setsockopt(
          tap, SOL_SOCKET, SO_ATTACH_FILTER, &program, socklen_t(MemoryLayout<sock_fprog>.size))
      }
    }
  }
}
