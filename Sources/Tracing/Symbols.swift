import CLinux
import Glibc

/// The kernel's names for the numbers in a system call's arguments, printed as strace prints them.
enum Symbols {
  /// "SOCK_CLOEXEC|0x8": the names of the bits that are set, what is left in hexadecimal, and "0" for none.
  static func flags(_ value: UInt64, _ names: [(UInt64, String)]) -> String {
    var rest = value
    var parts: [String] = []
    for (bit, name) in names where bit != 0 && rest & bit == bit {
      parts.append(name)
      rest &= ~bit
    }
    if rest != 0 { parts.append("0x" + String(rest, radix: 16)) }
    return parts.isEmpty ? "0" : parts.joined(separator: "|")
  }

  /// The name of a value, or the value with a comment, as strace has it.
  static func name(_ value: Int32, _ names: [Int32: String], unknown: String) -> String {
    names[value] ?? "0x\(String(UInt32(bitPattern: value), radix: 16)) /* \(unknown) */"
  }

  static let families: [Int32: String] = [
    0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6", 16: "AF_NETLINK", 17: "AF_PACKET",
    29: "AF_CAN",
    21: "AF_RDS", 30: "AF_TIPC", 43: "AF_SMC",
    31: "AF_BLUETOOTH", 38: "AF_ALG", 40: "AF_VSOCK", 44: "AF_XDP",
  ]
  static let socketTypes: [Int32: String] = [
    1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 6: "SOCK_DCCP",
    10: "SOCK_PACKET",
  ]
  static let socketFlags: [(UInt64, String)] = [(0o2000000, "SOCK_CLOEXEC"), (0o4000, "SOCK_NONBLOCK")]

  static func socketType(_ value: Int32) -> String {
    guard let kind = socketTypes[value & 0xf] else { return name(value, [:], unknown: "SOCK_???") }
    let rest = UInt64(UInt32(bitPattern: value & ~0xf))
    return rest == 0 ? kind : kind + "|" + flags(rest, socketFlags)
  }

  static func protocolName(_ value: Int32, family: Int32) -> String {
    let internet: [Int32: String] = [
      0: "IPPROTO_IP", 1: "IPPROTO_ICMP", 2: "IPPROTO_IGMP", 6: "IPPROTO_TCP", 17: "IPPROTO_UDP",
      58: "IPPROTO_ICMPV6", 132: "IPPROTO_SCTP", 136: "IPPROTO_UDPLITE", 255: "IPPROTO_RAW",
      262: "IPPROTO_MPTCP",
    ]
    let netlink: [Int32: String] = [
      0: "NETLINK_ROUTE", 4: "NETLINK_SOCK_DIAG", 9: "NETLINK_AUDIT", 12: "NETLINK_NETFILTER",
      15: "NETLINK_KOBJECT_UEVENT", 16: "NETLINK_GENERIC",
    ]
    switch family {
    case AF_INET, AF_INET6: return name(value, internet, unknown: "IPPROTO_???")
    case AF_NETLINK: return name(value, netlink, unknown: "NETLINK_???")
    default: return "\(value)"
    }
  }

  static let shutdown: [Int32: String] = [0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR"]

  static let messageFlags: [(UInt64, String)] = [
    (0x1, "MSG_OOB"), (0x2, "MSG_PEEK"), (0x4, "MSG_DONTROUTE"), (0x8, "MSG_CTRUNC"), (0x10, "MSG_PROBE"),
    (0x20, "MSG_TRUNC"), (0x40, "MSG_DONTWAIT"), (0x80, "MSG_EOR"), (0x100, "MSG_WAITALL"),
    (0x200, "MSG_FIN"),
    (0x400, "MSG_SYN"), (0x800, "MSG_CONFIRM"), (0x1000, "MSG_RST"), (0x2000, "MSG_ERRQUEUE"),
    (0x4000, "MSG_NOSIGNAL"), (0x8000, "MSG_MORE"), (0x10000, "MSG_WAITFORONE"), (0x40000, "MSG_BATCH"),
    (0x400_0000, "MSG_ZEROCOPY"), (0x2000_0000, "MSG_FASTOPEN"), (0x4000_0000, "MSG_CMSG_CLOEXEC"),
  ]

  static let pollEvents: [(UInt64, String)] = [
    (0x1, "POLLIN"), (0x2, "POLLPRI"), (0x4, "POLLOUT"), (0x8, "POLLERR"), (0x10, "POLLHUP"),
    (0x20, "POLLNVAL"),
    (0x40, "POLLRDNORM"), (0x80, "POLLRDBAND"), (0x100, "POLLWRNORM"), (0x200, "POLLWRBAND"),
    (0x400, "POLLMSG"),
    (0x1000, "POLLREMOVE"), (0x2000, "POLLRDHUP"),
  ]

  static let epollEvents: [(UInt64, String)] = [
    (0x1, "EPOLLIN"), (0x2, "EPOLLPRI"), (0x4, "EPOLLOUT"), (0x40, "EPOLLRDNORM"), (0x80, "EPOLLRDBAND"),
    (0x100, "EPOLLWRNORM"), (0x200, "EPOLLWRBAND"), (0x400, "EPOLLMSG"), (0x8, "EPOLLERR"),
    (0x10, "EPOLLHUP"),
    (0x2000, "EPOLLRDHUP"), (1 << 28, "EPOLLEXCLUSIVE"), (1 << 29, "EPOLLWAKEUP"), (1 << 30, "EPOLLONESHOT"),
    (1 << 31, "EPOLLET"),
  ]
  static let epollOperations: [Int32: String] = [1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"]
  static let epollCreateFlags: [(UInt64, String)] = [(0o2000000, "EPOLL_CLOEXEC")]

  static let clocks: [Int32: String] = [
    0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 7: "CLOCK_BOOTTIME", 8: "CLOCK_REALTIME_ALARM",
    9: "CLOCK_BOOTTIME_ALARM",
  ]
  static let timerFlags: [(UInt64, String)] = [(0o2000000, "TFD_CLOEXEC"), (0o4000, "TFD_NONBLOCK")]
  static let timerSettings: [(UInt64, String)] = [
    (1, "TFD_TIMER_ABSTIME"), (2, "TFD_TIMER_CANCEL_ON_SET"),
  ]
  static let signalFlags: [(UInt64, String)] = [(0o2000000, "SFD_CLOEXEC"), (0o4000, "SFD_NONBLOCK")]
  static let eventFlags: [(UInt64, String)] = [
    (1, "EFD_SEMAPHORE"), (0o2000000, "EFD_CLOEXEC"), (0o4000, "EFD_NONBLOCK"),
  ]

  static let spliceFlags: [(UInt64, String)] = [
    (1, "SPLICE_F_MOVE"), (2, "SPLICE_F_NONBLOCK"), (4, "SPLICE_F_MORE"), (8, "SPLICE_F_GIFT"),
  ]
  static let closeRangeFlags: [(UInt64, String)] = [(2, "CLOSE_RANGE_UNSHARE"), (4, "CLOSE_RANGE_CLOEXEC")]

  static let ioUringSetupFlags: [(UInt64, String)] = [
    "IOPOLL", "SQPOLL", "SQ_AFF", "CQSIZE", "CLAMP", "ATTACH_WQ", "R_DISABLED", "SUBMIT_ALL", "COOP_TASKRUN",
    "TASKRUN_FLAG", "SQE128", "CQE32", "SINGLE_ISSUER", "DEFER_TASKRUN", "NO_MMAP", "REGISTERED_FD_ONLY",
    "NO_SQARRAY",
  ].enumerated().map { (1 << UInt64($0.offset), "IORING_SETUP_" + $0.element) }
  static let ioUringEnterFlags: [(UInt64, String)] = [
    "GETEVENTS", "SQ_WAKEUP", "SQ_WAIT", "EXT_ARG", "REGISTERED_RING",
  ].enumerated().map { (1 << UInt64($0.offset), "IORING_ENTER_" + $0.element) }

  /// The access mode and the flags of an open file. A few bits differ between processors.
  static func openFlags(_ value: UInt64, on architecture: Architecture) -> String {
    let differing: [(UInt64, String)] =
      architecture == .arm64
      ? [
        (0o200000, "O_DIRECT"), (0o400000, "O_LARGEFILE"), (0o40000, "O_DIRECTORY"), (0o100000, "O_NOFOLLOW"),
      ]
      : [
        (0o40000, "O_DIRECT"), (0o100000, "O_LARGEFILE"), (0o200000, "O_DIRECTORY"), (0o400000, "O_NOFOLLOW"),
      ]
    let mode = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][Int(value & 3)]
    let names: [(UInt64, String)] =
      [
        (0o100, "O_CREAT"), (0o200, "O_EXCL"), (0o400, "O_NOCTTY"), (0o1000, "O_TRUNC"), (0o2000, "O_APPEND"),
        (0o4000, "O_NONBLOCK"), (0o4010000, "O_SYNC"), (0o10000, "O_DSYNC"), (0o20000, "O_ASYNC"),
      ] + differing + [(0o1000000, "O_NOATIME"), (0o2000000, "O_CLOEXEC"), (0o10000000, "O_PATH")]
    let rest = value & ~3
    return rest == 0 ? mode : mode + "|" + flags(rest, names)
  }

  static let fcntlCommands: [Int32: String] = [
    0: "F_DUPFD", 1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 4: "F_SETFL", 5: "F_GETLK", 6: "F_SETLK",
    7: "F_SETLKW",
    8: "F_SETOWN", 9: "F_GETOWN", 10: "F_SETSIG", 11: "F_GETSIG", 15: "F_SETOWN_EX", 16: "F_GETOWN_EX",
    1024: "F_SETLEASE", 1025: "F_GETLEASE", 1030: "F_DUPFD_CLOEXEC", 1031: "F_SETPIPE_SZ",
    1032: "F_GETPIPE_SZ",
    1033: "F_ADD_SEALS", 1034: "F_GET_SEALS",
  ]

  static let ioctls: [UInt32: String] = [
    0x541B: "FIONREAD", 0x5421: "FIONBIO", 0x5411: "TIOCOUTQ", 0x894B: "SIOCOUTQNSD", 0x5452: "FIOASYNC",
    0x5450: "FIONCLEX", 0x5451: "FIOCLEX", 0x8905: "SIOCATMARK", 0x8906: "SIOCGSTAMP_OLD",
    0x8907: "SIOCGSTAMPNS_OLD",
    0x8910: "SIOCGIFNAME", 0x8912: "SIOCGIFCONF", 0x8913: "SIOCGIFFLAGS", 0x8915: "SIOCGIFADDR",
    0x8933: "SIOCGIFINDEX",
    0x8921: "SIOCGIFMTU", 0x8927: "SIOCGIFHWADDR", 0x5401: "TCGETS", 0x5413: "TIOCGWINSZ",
  ]
  /// Those of them whose argument is a pointer to an int: true where the kernel reads it, false where it writes it.
  static let integerIoctls: [UInt32: Bool] = [
    0x541B: false, 0x5421: true, 0x5411: false, 0x894B: false, 0x5452: true, 0x8905: false,
  ]

  static let optionLevels: [Int32: String] = [
    0: "SOL_IP", 1: "SOL_SOCKET", 6: "SOL_TCP", 17: "SOL_UDP", 41: "SOL_IPV6", 58: "SOL_ICMPV6",
    132: "SOL_SCTP",
    255: "SOL_RAW", 263: "SOL_PACKET", 270: "SOL_NETLINK", 282: "SOL_TLS", 284: "SOL_MPTCP", 287: "SOL_VSOCK",
  ]

  static func option(_ name: Int32, level: Int32) -> String {
    switch level {
    case 1: Self.name(name, socketOptions, unknown: "SO_???")
    case 6: Self.name(name, tcpOptions, unknown: "TCP_???")
    case 0: Self.name(name, ipOptions, unknown: "IP_???")
    case 41: Self.name(name, ipv6Options, unknown: "IPV6_???")
    case 263: Self.name(name, packetOptions, unknown: "PACKET_???")
    case 17:
      Self.name(
        name, [1: "UDP_CORK", 100: "UDP_ENCAP", 103: "UDP_SEGMENT", 104: "UDP_GRO"], unknown: "UDP_???")
    default: "0x" + String(UInt32(bitPattern: name), radix: 16)
    }
  }

  private static let socketOptions: [Int32: String] = [
    1: "SO_DEBUG", 2: "SO_REUSEADDR", 3: "SO_TYPE", 4: "SO_ERROR", 5: "SO_DONTROUTE", 6: "SO_BROADCAST",
    7: "SO_SNDBUF",
    8: "SO_RCVBUF", 9: "SO_KEEPALIVE", 10: "SO_OOBINLINE", 11: "SO_NO_CHECK", 12: "SO_PRIORITY",
    13: "SO_LINGER",
    14: "SO_BSDCOMPAT", 15: "SO_REUSEPORT", 16: "SO_PASSCRED", 17: "SO_PEERCRED", 18: "SO_RCVLOWAT",
    19: "SO_SNDLOWAT",
    20: "SO_RCVTIMEO_OLD", 21: "SO_SNDTIMEO_OLD", 25: "SO_BINDTODEVICE", 26: "SO_ATTACH_FILTER",
    27: "SO_DETACH_FILTER",
    28: "SO_PEERNAME", 29: "SO_TIMESTAMP_OLD", 30: "SO_ACCEPTCONN", 31: "SO_PEERSEC", 32: "SO_SNDBUFFORCE",
    33: "SO_RCVBUFFORCE", 34: "SO_PASSSEC", 35: "SO_TIMESTAMPNS_OLD", 36: "SO_MARK",
    37: "SO_TIMESTAMPING_OLD",
    38: "SO_PROTOCOL", 39: "SO_DOMAIN", 40: "SO_RXQ_OVFL", 41: "SO_WIFI_STATUS", 42: "SO_PEEK_OFF",
    43: "SO_NOFCS",
    44: "SO_LOCK_FILTER", 45: "SO_SELECT_ERR_QUEUE", 46: "SO_BUSY_POLL", 47: "SO_MAX_PACING_RATE",
    48: "SO_BPF_EXTENSIONS", 49: "SO_INCOMING_CPU", 50: "SO_ATTACH_BPF", 51: "SO_ATTACH_REUSEPORT_CBPF",
    52: "SO_ATTACH_REUSEPORT_EBPF", 53: "SO_CNX_ADVICE", 55: "SO_MEMINFO", 56: "SO_INCOMING_NAPI_ID",
    57: "SO_COOKIE",
    59: "SO_PEERGROUPS", 60: "SO_ZEROCOPY", 61: "SO_TXTIME", 62: "SO_BINDTOIFINDEX", 63: "SO_TIMESTAMP_NEW",
    64: "SO_TIMESTAMPNS_NEW", 65: "SO_TIMESTAMPING_NEW", 66: "SO_RCVTIMEO_NEW", 67: "SO_SNDTIMEO_NEW",
    68: "SO_DETACH_REUSEPORT_BPF", 69: "SO_PREFER_BUSY_POLL", 70: "SO_BUSY_POLL_BUDGET",
    71: "SO_NETNS_COOKIE",
    72: "SO_BUF_LOCK", 73: "SO_RESERVE_MEM", 74: "SO_TXREHASH", 75: "SO_RCVMARK", 76: "SO_PASSPIDFD",
    77: "SO_PEERPIDFD",
  ]
  private static let tcpOptions: [Int32: String] = [
    1: "TCP_NODELAY", 2: "TCP_MAXSEG", 3: "TCP_CORK", 4: "TCP_KEEPIDLE", 5: "TCP_KEEPINTVL", 6: "TCP_KEEPCNT",
    7: "TCP_SYNCNT", 8: "TCP_LINGER2", 9: "TCP_DEFER_ACCEPT", 10: "TCP_WINDOW_CLAMP", 11: "TCP_INFO",
    12: "TCP_QUICKACK",
    13: "TCP_CONGESTION", 14: "TCP_MD5SIG", 16: "TCP_THIN_LINEAR_TIMEOUTS", 17: "TCP_THIN_DUPACK",
    18: "TCP_USER_TIMEOUT", 19: "TCP_REPAIR", 20: "TCP_REPAIR_QUEUE", 21: "TCP_QUEUE_SEQ",
    22: "TCP_REPAIR_OPTIONS",
    23: "TCP_FASTOPEN", 24: "TCP_TIMESTAMP", 25: "TCP_NOTSENT_LOWAT", 26: "TCP_CC_INFO", 27: "TCP_SAVE_SYN",
    28: "TCP_SAVED_SYN", 29: "TCP_REPAIR_WINDOW", 30: "TCP_FASTOPEN_CONNECT", 31: "TCP_ULP",
    32: "TCP_MD5SIG_EXT",
    33: "TCP_FASTOPEN_KEY", 34: "TCP_FASTOPEN_NO_COOKIE", 35: "TCP_ZEROCOPY_RECEIVE", 36: "TCP_INQ",
    37: "TCP_TX_DELAY",
  ]
  private static let ipOptions: [Int32: String] = [
    1: "IP_TOS", 2: "IP_TTL", 3: "IP_HDRINCL", 4: "IP_OPTIONS", 6: "IP_RECVOPTS", 7: "IP_RETOPTS",
    8: "IP_PKTINFO",
    10: "IP_MTU_DISCOVER", 11: "IP_RECVERR", 12: "IP_RECVTTL", 13: "IP_RECVTOS", 14: "IP_MTU",
    15: "IP_FREEBIND",
    19: "IP_TRANSPARENT", 20: "IP_ORIGDSTADDR", 21: "IP_MINTTL", 24: "IP_BIND_ADDRESS_NO_PORT",
    32: "IP_MULTICAST_IF",
    33: "IP_MULTICAST_TTL", 34: "IP_MULTICAST_LOOP", 35: "IP_ADD_MEMBERSHIP", 36: "IP_DROP_MEMBERSHIP",
    50: "IP_UNICAST_IF", 51: "IP_LOCAL_PORT_RANGE",
  ]
  private static let ipv6Options: [Int32: String] = [
    16: "IPV6_UNICAST_HOPS", 17: "IPV6_MULTICAST_IF", 18: "IPV6_MULTICAST_HOPS", 19: "IPV6_MULTICAST_LOOP",
    20: "IPV6_ADD_MEMBERSHIP", 21: "IPV6_DROP_MEMBERSHIP", 23: "IPV6_MTU_DISCOVER", 24: "IPV6_MTU",
    25: "IPV6_RECVERR",
    26: "IPV6_V6ONLY", 49: "IPV6_RECVPKTINFO", 51: "IPV6_RECVHOPLIMIT", 66: "IPV6_RECVTCLASS",
    67: "IPV6_TCLASS",
    78: "IPV6_FREEBIND",
  ]
  private static let packetOptions: [Int32: String] = [
    1: "PACKET_ADD_MEMBERSHIP", 2: "PACKET_DROP_MEMBERSHIP", 5: "PACKET_RX_RING", 6: "PACKET_STATISTICS",
    8: "PACKET_AUXDATA", 10: "PACKET_VERSION", 18: "PACKET_FANOUT",
  ]

  /// "SIGINT" without its "SIG", as in a signal set. See: signal(7)
  static func signal(_ number: Int) -> String {
    let names = [
      "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
      "ALRM", "TERM",
      "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
      "WINCH", "IO",
      "PWR", "SYS",
    ]
    if number < 1 { return "\(number)" }
    if number <= names.count { return names[number - 1] }
    return number == 32 ? "RTMIN" : "RT_\(number - 32)"
  }
}

/// The name of a signal: "SIGINT". See: signal(7)
public func signalName(_ number: Int32) -> String { "SIG" + Symbols.signal(Int(number)) }
