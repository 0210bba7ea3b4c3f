import CLinux
import Glibc
import SystemCalls

/// Asks the kernel for the state of sockets: of this process, of another, or of none.
///
/// What is asked leaves no trace: nothing here reads SO_ERROR, which would clear it, and a duplicate of another process's
/// descriptor is closed before the question is answered, since it would hold back that socket's FIN.
public final class Kernel {
  private let diag: SockDiag?
  private let ownNamespace: UInt64?
  private var processes: [pid_t: Int32] = [:]

  /// Why `NETLINK_SOCK_DIAG` cannot be asked, or nil where it can.
  public let sockDiagRefusal: SystemCallError?
  /// Why descriptors of another process could not be duplicated at the last attempt, or nil where they could.
  public private(set) var duplicateRefusal: SystemCallError?

  public init() {
    var refusal: SystemCallError?
    do throws(SystemCallError) {
      let diag = try SockDiag()
      // Some systems let the socket be made and refuse the question.
      _ = try diag.sockets(family: AF_INET, states: [.listen], ports: [0])
      self.diag = diag
    } catch {
      self.diag = nil
      refusal = error
    }
    sockDiagRefusal = refusal
    let probe = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    ownNamespace =
      probe < 0 ? nil : Self.option(probe, SOL_SOCKET, Option.networkNamespaceCookie, as: UInt64.self)
    if probe >= 0 { close(probe) }
  }

  deinit { for pidfd in processes.values { close(pidfd) } }

  /// Whether sock_diag and the packet tap, which know this process's network namespace only, can speak of a socket.
  public func isInOwnNamespace(_ socket: SocketState) -> Bool {
    socket.number(.networkNamespace).map { $0 == ownNamespace } ?? true
  }

  /// Whether closed, bound sockets are looked for in the list of idle ones: the kernel walks a whole table for each.
  public var looksForIdle = true

  // --- by descriptor ---

  /// The socket behind a descriptor of this process, or nil where it is none.
  public func socket(descriptor: Int32) -> SocketState? {
    socket(duplicate: descriptor, process: getpid(), descriptor: descriptor)
  }

  /// The socket behind a descriptor of another process, or nil where that is no socket.
  public func socket(descriptor: Int32, of process: pid_t) -> SocketState? {
    switch duplicate(descriptor, of: process) {
    case .success(let duplicate):
      duplicateRefusal = nil
      defer { close(duplicate) }
      return socket(duplicate: duplicate, process: process, descriptor: descriptor)
    case .failure(let refusal):
      let path = "/proc/\(process)/fd/\(descriptor)"
      guard let inode = destination(ofLink: path).flatMap(socketInode) else { return nil }
      duplicateRefusal = refusal
      return socketWithoutDuplicate(inode: inode, source: path)
    }
  }

  /// Forgets a process that has ended.
  public func forget(process: pid_t) {
    if let pidfd = processes.removeValue(forKey: process) { close(pidfd) }
  }

  // --- by address, port or cookie ---

  /// The TCP socket with exactly these addresses. `peer` is nil for a listening socket.
  public func socket(local: SocketAddress, peer: SocketAddress?) -> SocketState? {
    let local = local.canonical
    let families =
      if case .ipv6 = local { [AF_INET6] } else { peer == nil ? [AF_INET, AF_INET6] : [AF_INET] }
    for family in families {
      if let found = try? diag?.socket(family: family, local: local, peer: peer?.canonical) { return found }
    }
    return nil
  }

  /// All TCP sockets that have one of these ports at either end, those without a descriptor too.
  public func sockets(ports: Set<UInt16>, families: [Int32] = [AF_INET, AF_INET6]) -> [SocketState] {
    families.flatMap { (try? diag?.sockets(family: $0, ports: ports)) ?? [] }
  }

  /// Connections on these ports that the kernel has made, or is making, and that no process has a descriptor for.
  public func unacceptedSockets(ports: Set<UInt16>, families: [Int32]) -> [SocketState] {
    // Closed sockets that linger have no owner either, but are in other states.
    let states: [TCPState] = [.synReceived, .newSynReceived, .established, .closeWait]
    return families.flatMap {
      (try? diag?.sockets(family: $0, states: states, ports: ports, isUnowned: true)) ?? []
    }
  }

  /// The sockets that keep others from binding a port, those bound and idle too. `protocol` is "TCP" or "UDP".
  public func sockets(boundTo port: UInt16, protocol name: String) -> [SocketState] {
    guard let diag, let number = ["TCP": Int32(IPPROTO_TCP), "UDP": Int32(IPPROTO_UDP)][name] else {
      return []
    }
    let lists: [[SocketState]] = [AF_INET, AF_INET6].flatMap { family in
      [nil, [TCPState.boundInactive]].map { states in
        (try? diag.sockets(family: family, protocol: number, states: states, ports: [port])) ?? []
      }
    }
    return lists.joined().filter { $0.local?.port == port }
  }

  /// The TCP or UDP socket with this cookie. The kernel has no index of them: it lists all, and one is picked.
  public func socket(cookie: UInt64) -> SocketState? { search { $0.cookie == cookie } }

  private func search(_ isMeant: (SocketState) -> Bool) -> SocketState? {
    for number in [Int32(IPPROTO_TCP), Int32(IPPROTO_UDP)] {
      for family in [AF_INET, AF_INET6] {
        if let found = try? diag?.sockets(family: family, protocol: number).first(where: isMeant) {
          return found
        }
      }
    }
    for family in [AF_INET, AF_INET6] {
      let idle = try? diag?.sockets(family: family, states: [.boundInactive])
      if let found = idle?.first(where: isMeant) { return found }
    }
    return nil
  }

  /// What sock_diag says of a socket that was read by descriptor, or nil where it lists none such.
  private func listed(_ socket: SocketState) -> SocketState? {
    guard let diag, let family = socket.family, let cookie = socket.cookie else { return nil }
    if family == "AF_UNIX" { return socket.inode.flatMap { try? diag.unixSocket(inode: $0) } }
    let familyNumber = family == "AF_INET6" ? AF_INET6 : AF_INET
    let number: Int32
    switch socket.text(.protocol) {
    case "TCP": number = Int32(IPPROTO_TCP)
    case "UDP": number = Int32(IPPROTO_UDP)
    default: return nil
    }
    guard let local = socket.local, local.port != 0 else { return nil }  // in none of the kernel's tables
    if number == Int32(IPPROTO_TCP), socket.state == TCPState.close.name {
      guard looksForIdle else { return nil }
      let idle = try? diag.sockets(family: familyNumber, states: [.boundInactive], ports: [local.port])
      guard var found = idle?.first(where: { $0.cookie == cookie }) else { return nil }
      found.set(.listedAs, .text("bound-inactive"), from: "sock_diag TCP_BOUND_INACTIVE")
      return found
    }
    if let exact = try? diag.socket(family: familyNumber, protocol: number, local: local, peer: socket.peer),
      exact.cookie == cookie
    {
      return exact
    }
    // Several sockets may share a listening address (SO_REUSEPORT), and a wildcard hides more exact ones.
    let all = try? diag.sockets(family: familyNumber, protocol: number, ports: [local.port])
    return all?.first { $0.cookie == cookie }
  }

  // --- reading ---

  private func duplicate(_ descriptor: Int32, of process: pid_t) -> Result<Int32, SystemCallError> {
    do throws(SystemCallError) {
      let pidfd: Int32
      if let known = processes[process] {
        pidfd = known
      } else {
        pidfd = try openProcess(process)
        processes[process] = pidfd
      }
      return .success(
        try systemCall("pidfd_getfd", "\(descriptor)") { clinux_pidfd_getfd(pidfd, descriptor, 0) })
    } catch {
      return .failure(error)
    }
  }

  /// A descriptor for a process; of one whose first thread has ended, by a thread that lives (Linux 6.9 and later).
  private func openProcess(_ process: pid_t) throws(SystemCallError) -> Int32 {
    let whole = clinux_pidfd_open(process, 0)
    if whole >= 0 { return whole }
    return try systemCall("pidfd_open", "\(process)") { clinux_pidfd_open(process, CLINUX_PIDFD_THREAD) }
  }

  private func socketWithoutDuplicate(inode: UInt64, source: String) -> SocketState {
    var socket = SocketState()
    socket.set(.inode, number: inode, from: source)
    let listed = search { $0.inode == inode } ?? (try? diag?.unixSocket(inode: inode))
    if let listed { socket.complete(from: listed) }
    return socket
  }

  private func socket(duplicate: Int32, process: pid_t, descriptor: Int32) -> SocketState? {
    func option<Value: BitwiseCopyable>(_ level: Int32, _ name: Int32, as type: Value.Type) -> Value? {
      Self.option(duplicate, level, name, as: type)
    }
    guard let family = option(SOL_SOCKET, SO_DOMAIN, as: Int32.self) else { return nil }
    var socket = SocketState()
    func set(_ field: Field, number level: Int32, _ name: Int32, _ source: String) {
      if let value = option(level, name, as: Int32.self) {
        socket.set(field, number: value, from: "getsockopt \(source)")
      }
    }
    func set(_ field: Field, flag level: Int32, _ name: Int32, _ source: String) {
      if let value = option(level, name, as: Int32.self) {
        socket.set(field, .flag(value != 0), from: "getsockopt \(source)")
      }
    }

    socket.set(.family, .text(Names.family(family)), from: "getsockopt SO_DOMAIN")
    if let type = option(SOL_SOCKET, SO_TYPE, as: Int32.self) {
      socket.set(.type, .text(Names.type(type)), from: "getsockopt SO_TYPE")
    }
    if let number = option(SOL_SOCKET, SO_PROTOCOL, as: Int32.self) {
      socket.set(.protocol, .text(Names.protocolName(number, family: family)), from: "getsockopt SO_PROTOCOL")
    }
    if let cookie = option(SOL_SOCKET, Option.cookie, as: UInt64.self) {
      socket.set(.cookie, number: cookie, from: "getsockopt SO_COOKIE")
    }
    var status = stat()
    if fstat(duplicate, &status) == 0 { socket.set(.inode, number: status.st_ino, from: "fstat st_ino") }
    if let local = Self.address({ getsockname(duplicate, $0, $1) }), !local.isUnspecified,
      local != .unixUnnamed
    {
      socket.set(.local, .address(local), from: "getsockname")
    }
    if let peer = Self.address({ getpeername(duplicate, $0, $1) }), peer != .unixUnnamed {
      socket.set(.peer, .address(peer), from: "getpeername")
    }

    set(.reuseAddress, flag: SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR")
    set(.reusePort, flag: SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT")
    set(.keepAlive, flag: SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE")
    set(.receiveBuffer, number: SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF")
    set(.sendBuffer, number: SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF")
    if let setting = option(SOL_SOCKET, SO_LINGER, as: linger.self) {
      let text = setting.l_onoff == 0 ? "off" : "\(setting.l_linger) s"
      socket.set(.linger, .text(text), from: "getsockopt SO_LINGER")
    }
    for (field, name, source) in [
      (Field.receiveTimeout, SO_RCVTIMEO, "SO_RCVTIMEO"), (.sendTimeout, SO_SNDTIMEO, "SO_SNDTIMEO"),
    ] {
      guard let time = option(SOL_SOCKET, name, as: timeval.self) else { continue }
      // In the kernel's ticks, a few milliseconds each: what was asked for comes back rounded up. 0 waits for ever.
      socket.set(
        field,
        number: UInt64(clamping: min(time.tv_sec, Int.max / 2000)) * 1000
          + UInt64(clamping: time.tv_usec / 1000), from: "getsockopt \(source)")
    }
    if let memory = Self.bytes(duplicate, SOL_SOCKET, Option.memory, limit: 64) {
      socket.fill(memory: memory, source: "getsockopt SO_MEMINFO")
    }
    if family == AF_INET6 { set(.onlyIPv6, flag: Int32(IPPROTO_IPV6), IPV6_V6ONLY, "IPV6_V6ONLY") }
    fillFlags(&socket, process: process, descriptor: descriptor)
    // Of MPTCP the kernel tells here what it tells of its first TCP connection.
    if socket.isTCP || socket.text(.protocol) == "MPTCP" { fillTCP(&socket, duplicate) }
    // sock_diag answers for this process's network namespace only.
    let namespace = option(SOL_SOCKET, Option.networkNamespaceCookie, as: UInt64.self)
    socket.set(.networkNamespace, namespace.map { .number($0) }, from: "getsockopt SO_NETNS_COOKIE")
    if isInOwnNamespace(socket), let listed = listed(socket) { socket.complete(from: listed) }
    if !socket.isListening { fillQueues(&socket, duplicate) }
    return socket
  }

  private func fillTCP(_ socket: inout SocketState, _ descriptor: Int32) {
    let tcp = Int32(IPPROTO_TCP)
    func number(_ name: Int32) -> Int32? { Self.option(descriptor, tcp, name, as: Int32.self) }
    if let value = number(TCP_NODELAY) {
      socket.set(.noDelay, .flag(value != 0), from: "getsockopt TCP_NODELAY")
    }
    if let value = number(TCP_KEEPIDLE) {
      socket.set(.keepAliveIdle, number: value, from: "getsockopt TCP_KEEPIDLE")
    }
    if let value = number(TCP_KEEPINTVL) {
      socket.set(.keepAliveInterval, number: value, from: "getsockopt TCP_KEEPINTVL")
    }
    if let value = number(TCP_KEEPCNT) {
      socket.set(.keepAliveProbes, number: value, from: "getsockopt TCP_KEEPCNT")
    }
    if let value = number(TCP_USER_TIMEOUT) {
      socket.set(.userTimeout, number: value, from: "getsockopt TCP_USER_TIMEOUT")
    }
    if let name = Self.bytes(descriptor, tcp, TCP_CONGESTION, limit: 16) {
      let text = String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
      socket.set(.congestionControl, .text(text), from: "getsockopt TCP_CONGESTION")
    }
    if let bytes = Self.bytes(descriptor, tcp, TCP_INFO, limit: 512) {
      let information = TCPInformation(bytes: bytes)
      socket.set(.state, information.state.map { .text($0.name) }, from: "TCP_INFO tcpi_state")
      if information.state == .listen {
        if let queue = information.acceptQueue {
          socket.set(.acceptQueue, number: queue, from: "TCP_INFO tcpi_unacked")
        }
        if let backlog = information.backlog {
          socket.set(.backlog, number: backlog, from: "TCP_INFO tcpi_sacked")
        }
      }
      information.fill(&socket, source: "TCP_INFO")
    }
  }

  private func fillQueues(_ socket: inout SocketState, _ descriptor: Int32) {
    func queue(_ field: Field, _ request: UInt, _ source: String) {
      var bytes: Int32 = 0
      if socket[field] == nil, clinux_ioctl(descriptor, request, &bytes) == 0 {
        socket.set(field, number: bytes, from: "ioctl \(source)")
      }
    }
    queue(.readable, CLINUX_SIOCINQ, "FIONREAD")
    // What a closed socket answers to these is left over from its last connection.
    guard socket.isTCP, socket.state != TCPState.close.name else { return }
    queue(.sendQueue, CLINUX_SIOCOUTQ, "SIOCOUTQ")
    queue(.notSent, CLINUX_SIOCOUTQNSD, "SIOCOUTQNSD")
  }

  /// O_NONBLOCK belongs to the open file, FD_CLOEXEC to the descriptor: a duplicate has its own. /proc shows both.
  private func fillFlags(_ socket: inout SocketState, process: pid_t, descriptor: Int32) {
    let path = "/proc/\(process)/fdinfo/\(descriptor)"
    guard let lines = text(ofFile: path)?.split(separator: "\n"),
      let line = lines.first(where: { $0.hasPrefix("flags:") }),
      let flags = Int32(line.dropFirst("flags:".count).drop { $0 == "\t" || $0 == " " }, radix: 8)
    else { return }
    socket.set(.nonBlocking, .flag(flags & O_NONBLOCK != 0), from: path)
    socket.set(.closeOnExec, .flag(flags & O_CLOEXEC != 0), from: path)
  }

  // --- getsockopt and its relatives ---

  private enum Option {
    static let memory: Int32 = 55  // SO_MEMINFO
    static let cookie: Int32 = 57  // SO_COOKIE
    static let networkNamespaceCookie: Int32 = 71  // SO_NETNS_COOKIE
  }

  private static func option<Value: BitwiseCopyable>(
    _ descriptor: Int32, _ level: Int32, _ name: Int32, as: Value.Type
  ) -> Value? {
    guard let bytes = bytes(descriptor, level, name, limit: MemoryLayout<Value>.size) else { return nil }
    return bytes.count == MemoryLayout<Value>.size ? bytes.load(Value.self, at: 0) : nil
  }

  private static func bytes(_ descriptor: Int32, _ level: Int32, _ name: Int32, limit: Int) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: limit)
    var length = socklen_t(limit)
    guard getsockopt(descriptor, level, name, &buffer, &length) == 0 else { return nil }
    return Array(buffer.prefix(Int(length)))
  }

  private static func address(
    _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
  )
    -> SocketAddress?
  {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, &length) }
    }
    guard result == 0 else { return nil }
    return withUnsafeBytes(of: &storage) { SocketAddress(bytes: $0.prefix(Int(length))) }
  }
}
