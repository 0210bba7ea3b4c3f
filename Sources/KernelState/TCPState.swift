/// The states of a TCP socket, named as the kernel names them, without its prefix. Other families use a few of them.
///
/// See: RFC 9293 section 3.3.2, include/net/tcp_states.h
public enum TCPState: UInt8, Sendable, Hashable, CaseIterable {
  case established = 1
  case synSent
  case synReceived
  case finWait1
  case finWait2
  case timeWait
  case close
  case closeWait
  case lastAck
  case listen
  case closing
  /// A connection request that is not a full socket yet. `ss` and sock_diag's readers know it as SYN_RECV.
  case newSynReceived
  /// Bound to a port and neither listening nor connected. The socket itself is in CLOSE; sock_diag lists it under a bit of
  /// its own (Linux 6.8 and later).
  case boundInactive

  /// "ESTABLISHED", "SYN_SENT", …
  public var name: String {
    switch self {
    case .established: "ESTABLISHED"
    case .synSent: "SYN_SENT"
    case .synReceived, .newSynReceived: "SYN_RECV"
    case .finWait1: "FIN_WAIT1"
    case .finWait2: "FIN_WAIT2"
    case .timeWait: "TIME_WAIT"
    case .close, .boundInactive: "CLOSE"
    case .closeWait: "CLOSE_WAIT"
    case .lastAck: "LAST_ACK"
    case .listen: "LISTEN"
    case .closing: "CLOSING"
    }
  }

  /// Whether a socket on the loopback interface only passes through it, on its way to a state that lasts.
  public var isPassing: Bool {
    switch self {
    case .synSent, .finWait1, .lastAck: true
    default: false
    }
  }

  /// The bit by which sock_diag is asked for it.
  var bit: UInt32 { 1 << UInt32(rawValue) }
}
