import CLinux
import Glibc

/// A `struct tcp_info`, as long as this kernel made it.
///
/// See: tcp(7), TCP_INFO; include/uapi/linux/tcp.h
struct TCPInformation {
  private var info = linux_tcp_info()
  private let length: Int

  init(bytes: some Collection<UInt8>) {
    length = min(bytes.count, MemoryLayout<linux_tcp_info>.size)
    let bytes = Array(bytes.prefix(length))
    withUnsafeMutableBytes(of: &info) { $0.copyBytes(from: bytes) }
  }

  /// The value of a member, or nil where this kernel's structure ends before it.
  private func value<Number: BinaryInteger>(_ member: KeyPath<linux_tcp_info, Number>) -> UInt64? {
    guard let offset = MemoryLayout<linux_tcp_info>.offset(of: member) else { return nil }
    return offset + MemoryLayout<Number>.size <= length ? UInt64(clamping: info[keyPath: member]) : nil
  }

  var state: TCPState? { value(\.tcpi_state).flatMap { TCPState(rawValue: UInt8(clamping: $0)) } }

  /// On a listening socket: how many connections wait for accept.
  var acceptQueue: UInt64? { value(\.tcpi_unacked) }
  /// On a listening socket: how many may.
  var backlog: UInt64? { value(\.tcpi_sacked) }

  /// Adds what it says of a connection. A listening socket has none, and uses some members for its accept queue.
  func fill(_ socket: inout SocketState, source: String) {
    guard let state, state != .listen, state != .close else { return }
    for (field, name, read) in Self.members {
      guard let number = read(self) else { continue }
      // The kernel's "not known yet".
      if field == .slowStartThreshold && number >= 0x7fff_ffff { continue }
      if field == .minimumRTT && number == UInt64(UInt32.max) { continue }
      socket.set(field, number: number, from: "\(source) \(name)")
    }
  }

  private typealias Member = (field: Field, name: String, read: @Sendable (TCPInformation) -> UInt64?)

  private static let members: [Member] = [
    (.rtt, "tcpi_rtt", { $0.value(\.tcpi_rtt) }),
    (.rttVariance, "tcpi_rttvar", { $0.value(\.tcpi_rttvar) }),
    (.minimumRTT, "tcpi_min_rtt", { $0.value(\.tcpi_min_rtt) }),
    (.congestionWindow, "tcpi_snd_cwnd", { $0.value(\.tcpi_snd_cwnd) }),
    (.slowStartThreshold, "tcpi_snd_ssthresh", { $0.value(\.tcpi_snd_ssthresh) }),
    (.mss, "tcpi_snd_mss", { $0.value(\.tcpi_snd_mss) }),
    (.receiveMSS, "tcpi_rcv_mss", { $0.value(\.tcpi_rcv_mss) }),
    (.pathMTU, "tcpi_pmtu", { $0.value(\.tcpi_pmtu) }),
    (.sendWindow, "tcpi_snd_wnd", { $0.value(\.tcpi_snd_wnd) }),
    (.receiveWindow, "tcpi_rcv_wnd", { $0.value(\.tcpi_rcv_wnd) }),
    (.unacknowledged, "tcpi_unacked", { $0.value(\.tcpi_unacked) }),
    (.lost, "tcpi_lost", { $0.value(\.tcpi_lost) }),
    (.retransmits, "tcpi_total_retrans", { $0.value(\.tcpi_total_retrans) }),
    (.retransmitTimeout, "tcpi_rto", { $0.value(\.tcpi_rto) }),
    (.bytesSent, "tcpi_bytes_sent", { $0.value(\.tcpi_bytes_sent) }),
    (.bytesAcknowledged, "tcpi_bytes_acked", { $0.value(\.tcpi_bytes_acked) }),
    (.bytesReceived, "tcpi_bytes_received", { $0.value(\.tcpi_bytes_received) }),
    (.segmentsSent, "tcpi_segs_out", { $0.value(\.tcpi_segs_out) }),
    (.segmentsReceived, "tcpi_segs_in", { $0.value(\.tcpi_segs_in) }),
    (.deliveryRate, "tcpi_delivery_rate", { $0.value(\.tcpi_delivery_rate) }),
  ]
}

extension SocketState {
  /// Adds what SO_MEMINFO or INET_DIAG_SKMEMINFO says. See: include/uapi/linux/sock_diag.h, SK_MEMINFO_*
  mutating func fill(memory bytes: some Collection<UInt8>, source: String) {
    let bytes = Array(bytes)
    let members: [(Int, Field, String)] = [
      (0, .receiveMemory, "SK_MEMINFO_RMEM_ALLOC"), (2, .sendMemory, "SK_MEMINFO_WMEM_ALLOC"),
      (4, .forwardMemory, "SK_MEMINFO_FWD_ALLOC"), (5, .queuedMemory, "SK_MEMINFO_WMEM_QUEUED"),
      (6, .optionMemory, "SK_MEMINFO_OPTMEM"), (7, .backlogMemory, "SK_MEMINFO_BACKLOG"),
      (8, .drops, "SK_MEMINFO_DROPS"),
    ]
    for (index, field, name) in members where bytes.count >= (index + 1) * 4 {
      set(field, number: bytes.load(UInt32.self, at: index * 4), from: "\(source) \(name)")
    }
  }
}
