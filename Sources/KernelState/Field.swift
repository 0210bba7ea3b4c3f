import SystemCalls

/// One thing that the kernel says of a socket.
public enum Field: String, CaseIterable, Sendable, Hashable {
  // What it is.
  case inode, cookie, family, type, `protocol`, state, listedAs, local, peer, uid, networkNamespace
  // What waits in it.
  case receiveQueue, readable, sendQueue, notSent, acceptQueue, backlog
  // What it waits for.
  case timer, timerRemaining, timerRetransmits
  case shutdown
  // How it was set up.
  case nonBlocking, closeOnExec, reuseAddress, reusePort, keepAlive, keepAliveIdle, keepAliveInterval,
    keepAliveProbes
  case linger, receiveTimeout, sendTimeout, noDelay, userTimeout, receiveBuffer, sendBuffer,
    congestionControl, onlyIPv6
  // What it costs.
  case receiveMemory, sendMemory, queuedMemory, forwardMemory, optionMemory, backlogMemory, drops
  // How the connection fares (TCP_INFO).
  case rtt, rttVariance, minimumRTT, congestionWindow, slowStartThreshold, mss, receiveMSS, pathMTU
  case sendWindow, receiveWindow, unacknowledged, lost, retransmits, retransmitTimeout
  case bytesSent, bytesAcknowledged, bytesReceived, segmentsSent, segmentsReceived, deliveryRate

  /// How much a reader wants to hear of a change.
  public enum Weight: Sendable {
    /// The story itself: told whenever it changes.
    case story
    /// Told where the call was about it, and by `--verbose`.
    case setting
    /// A measurement that moves all the time: told by `--verbose`.
    case measure
  }

  /// The object of the JSON form under which it stands.
  public enum Group: String, Sendable {
    case socket, timer, options, memory, tcp
  }

  /// How a person reads it.
  public var label: String { definition.label }
  /// The unit of a number, or an empty string for a plain count or no number at all.
  public var unit: String { definition.unit }
  public var group: Group { definition.group }
  public var weight: Weight { definition.weight }

  private var definition: (label: String, unit: String, group: Group, weight: Weight) {
    switch self {
    case .inode: ("inode", "", .socket, .measure)
    case .cookie: ("cookie", "", .socket, .measure)
    case .family: ("family", "", .socket, .measure)
    case .type: ("type", "", .socket, .measure)
    case .protocol: ("protocol", "", .socket, .measure)
    case .state: ("state", "", .socket, .story)
    case .listedAs: ("sock_diag lists it", "", .socket, .story)
    case .local: ("local address", "", .socket, .story)
    case .peer: ("peer address", "", .socket, .story)
    case .uid: ("user id", "", .socket, .measure)
    case .networkNamespace: ("network namespace", "", .socket, .measure)
    case .receiveQueue: ("receive queue", "bytes", .socket, .story)
    case .readable: ("readable", "bytes", .socket, .measure)
    case .sendQueue: ("send queue", "bytes", .socket, .story)
    case .notSent: ("not yet sent", "bytes", .socket, .story)
    case .acceptQueue: ("accept queue", "", .socket, .story)
    case .backlog: ("backlog", "", .socket, .story)
    case .timer: ("timer", "", .timer, .story)
    case .timerRemaining: ("timer remaining", "ms", .timer, .measure)
    case .timerRetransmits: ("retransmits so far", "", .timer, .measure)
    case .shutdown: ("shut down", "", .socket, .story)
    case .nonBlocking: ("non-blocking", "", .options, .setting)
    case .closeOnExec: ("close-on-exec", "", .options, .setting)
    case .reuseAddress: ("SO_REUSEADDR", "", .options, .setting)
    case .reusePort: ("SO_REUSEPORT", "", .options, .setting)
    case .keepAlive: ("SO_KEEPALIVE", "", .options, .setting)
    case .keepAliveIdle: ("TCP_KEEPIDLE", "s", .options, .setting)
    case .keepAliveInterval: ("TCP_KEEPINTVL", "s", .options, .setting)
    case .keepAliveProbes: ("TCP_KEEPCNT", "", .options, .setting)
    case .linger: ("SO_LINGER", "", .options, .setting)
    case .receiveTimeout: ("SO_RCVTIMEO", "ms", .options, .setting)
    case .sendTimeout: ("SO_SNDTIMEO", "ms", .options, .setting)
    case .noDelay: ("TCP_NODELAY", "", .options, .setting)
    case .userTimeout: ("TCP_USER_TIMEOUT", "ms", .options, .setting)
    case .receiveBuffer: ("receive buffer", "bytes", .options, .setting)
    case .sendBuffer: ("send buffer", "bytes", .options, .setting)
    case .congestionControl: ("congestion control", "", .options, .setting)
    case .onlyIPv6: ("IPV6_V6ONLY", "", .options, .setting)
    case .receiveMemory: ("memory for receiving", "bytes", .memory, .measure)
    case .sendMemory: ("memory on its way out", "bytes", .memory, .measure)
    case .queuedMemory: ("memory in the send queue", "bytes", .memory, .measure)
    case .forwardMemory: ("memory in reserve", "bytes", .memory, .measure)
    case .optionMemory: ("memory of options", "bytes", .memory, .measure)
    case .backlogMemory: ("memory of waiting packets", "bytes", .memory, .measure)
    case .drops: ("packets dropped", "", .memory, .measure)
    case .rtt: ("round-trip time", "µs", .tcp, .measure)
    case .rttVariance: ("its variance", "µs", .tcp, .measure)
    case .minimumRTT: ("least round-trip time", "µs", .tcp, .measure)
    case .congestionWindow: ("congestion window", "segments", .tcp, .measure)
    case .slowStartThreshold: ("slow start threshold", "segments", .tcp, .measure)
    case .mss: ("maximum segment size", "bytes", .tcp, .measure)
    case .receiveMSS: ("the peer's segment size", "bytes", .tcp, .measure)
    case .pathMTU: ("path MTU", "bytes", .tcp, .measure)
    case .sendWindow: ("peer's window", "bytes", .tcp, .measure)
    case .receiveWindow: ("own window", "bytes", .tcp, .measure)
    case .unacknowledged: ("unacknowledged", "segments", .tcp, .measure)
    case .lost: ("taken for lost", "segments", .tcp, .measure)
    case .retransmits: ("retransmitted", "segments", .tcp, .measure)
    case .retransmitTimeout: ("retransmission timeout", "µs", .tcp, .measure)
    case .bytesSent: ("bytes sent", "bytes", .tcp, .measure)
    case .bytesAcknowledged: ("bytes acknowledged", "bytes", .tcp, .measure)
    case .bytesReceived: ("bytes received", "bytes", .tcp, .measure)
    case .segmentsSent: ("segments sent", "segments", .tcp, .measure)
    case .segmentsReceived: ("segments received", "segments", .tcp, .measure)
    case .deliveryRate: ("delivery rate", "bytes/s", .tcp, .measure)
    }
  }
}

/// What the kernel said of one field, and through which call.
public struct Reading: Hashable, Sendable {
  public enum Value: Hashable, Sendable, CustomStringConvertible {
    case number(UInt64)
    case flag(Bool)
    case text(String)
    case address(SocketAddress)

    public var description: String {
      switch self {
      case .number(let number): String(number)
      case .flag(let flag): flag ? "on" : "off"
      case .text(let text): text
      case .address(let address): address.description
      }
    }
  }

  public let value: Value
  /// "getsockopt SO_RCVBUF", "sock_diag idiag_rqueue", "TCP_INFO tcpi_rtt", "/proc/12/fdinfo/3"
  public let source: String

  public init(_ value: Value, from source: String) {
    self.value = value
    self.source = source
  }
}
