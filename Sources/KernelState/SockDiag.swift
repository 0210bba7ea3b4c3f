import CLinux
import Glibc
import SystemCalls

/// The kernel's own list of sockets, over netlink: also those that have no descriptor. No privilege is needed.
///
/// See: sock_diag(7), netlink(7)
public final class SockDiag {
  private let netlink: Descriptor
  private var sequence: UInt32 = 0
  private var buffer = [UInt8](repeating: 0, count: 64 * 1024)

  public init() throws(SystemCallError) {
    let type = Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue)
    netlink = Descriptor(
      owning: try systemCall("socket", "NETLINK_SOCK_DIAG") {
        Glibc.socket(AF_NETLINK, type, NETLINK_SOCK_DIAG)
      })
  }

  /// The socket with exactly these two addresses, or nil. For a listening socket `peer` is nil.
  ///
  /// The kernel falls back to a listening socket where no connection has these addresses; that answer is not passed on.
  public func socket(
    family: Int32, protocol number: Int32 = Int32(IPPROTO_TCP), local: SocketAddress, peer: SocketAddress?
  ) throws(SystemCallError) -> SocketState? {
    var request = inet_diag_req_v2()
    request.sdiag_family = UInt8(family)
    request.sdiag_protocol = UInt8(number)
    request.idiag_ext = Self.extensions
    request.idiag_states = ~0
    request.id.idiag_sport = local.port.bigEndian
    request.id.idiag_dport = (peer?.port ?? 0).bigEndian
    Self.fill(&request.id.idiag_src, with: local, family: family)
    if let peer { Self.fill(&request.id.idiag_dst, with: peer, family: family) }
    request.id.idiag_cookie = (~0, ~0)

    var found: SocketState?
    do {
      try ask(request, flags: 0) { found = Self.internetSocket($0, protocol: number) }
    } catch  where error.errno.rawValue == ENOENT {
      return nil
    }
    guard let found else { return nil }
    let isSameLocal = found.local?.canonical == local.canonical || found.isListening && peer == nil
    let foundPeer = found.peer?.canonical
    let isSamePeer = peer.map { $0.canonical == foundPeer } ?? (foundPeer?.isUnspecified ?? true)
    return isSameLocal && isSamePeer ? found : nil
  }

  /// All sockets of a family that have one of `ports` at either end; all there are where `ports` is nil. With `isUnowned` only
  /// those that belong to no process.
  public func sockets(
    family: Int32, protocol number: Int32 = Int32(IPPROTO_TCP), states: [TCPState]? = nil,
    ports: Set<UInt16>? = nil,
    isUnowned: Bool = false
  ) throws(SystemCallError) -> [SocketState] {
    if let ports, ports.isEmpty { return [] }
    if let ports, ports.count > Self.portLimit {
      // A jump in the kernel's filter language has 16 bits.
      let sorted = ports.sorted()
      var found: [SocketState] = []
      for start in stride(from: 0, to: sorted.count, by: Self.portLimit) {
        let some = Set(sorted[start..<min(sorted.count, start + Self.portLimit)])
        found += try sockets(
          family: family, protocol: number, states: states, ports: some, isUnowned: isUnowned)
      }
      return found
    }
    var request = inet_diag_req_v2()
    request.sdiag_family = UInt8(family)
    request.sdiag_protocol = UInt8(number)
    request.idiag_ext = Self.extensions
    // Without states, all but the bound, inactive ones: the kernel walks another table for those.
    request.idiag_states = states.map { $0.reduce(0) { $0 | $1.bit } } ?? ~TCPState.boundInactive.bit
    var found: [SocketState] = []
    try ask(request, flags: UInt16(NLM_F_DUMP), filter: ports.map(Self.program)) { message in
      if isUnowned, message.count >= MemoryLayout<inet_diag_msg>.size,
        message.load(inet_diag_msg.self, at: 0).idiag_inode != 0
      {
        return
      }
      if let socket = Self.internetSocket(message, protocol: number) { found.append(socket) }
    }
    return found
  }

  /// The Unix socket with this inode, or nil.
  public func unixSocket(inode: UInt64) throws(SystemCallError) -> SocketState? {
    guard let inode = UInt32(exactly: inode) else { return nil }
    var request = unix_diag_req()
    request.sdiag_family = UInt8(AF_UNIX)
    request.udiag_states = ~0
    request.udiag_ino = inode
    request.udiag_show = UInt32(UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN)
    request.udiag_cookie = (~0, ~0)
    var found: SocketState?
    do {
      try ask(request, flags: 0) { found = Self.unixSocket($0) }
    } catch  where error.errno.rawValue == ENOENT {
      return nil
    }
    return found
  }

  // --- asking ---

  private static let portLimit = 512

  private static let extensions: UInt8 = [
    INET_DIAG_INFO, INET_DIAG_CONG, INET_DIAG_SKMEMINFO, INET_DIAG_SHUTDOWN,
  ].reduce(0) { $0 | 1 << (UInt8($1) - 1) }

  private static func fill(
    _ words: inout (UInt32, UInt32, UInt32, UInt32), with address: SocketAddress, family: Int32
  ) {
    withUnsafeMutableBytes(of: &words) { destination in
      switch address {
      case .ipv4(let bytes, _) where family == AF_INET6:
        destination[10] = 0xff
        destination[11] = 0xff
        for (index, byte) in bytes.prefix(4).enumerated() { destination[12 + index] = byte }
      case .ipv4(let bytes, _), .ipv6(let bytes, _, _, _):
        for (index, byte) in bytes.prefix(16).enumerated() { destination[index] = byte }
      default: break
      }
    }
  }

  /// The kernel's filter language: conditional jumps forward. A jump to the end accepts, four bytes beyond it refuses.
  ///
  /// See: include/uapi/linux/inet_diag.h, struct inet_diag_bc_op
  private static func program(ports: Set<UInt16>) -> [UInt8] {
    let ports = ports.sorted()
    let codes = [
      (INET_DIAG_BC_S_GE, INET_DIAG_BC_S_LE), (INET_DIAG_BC_D_GE, INET_DIAG_BC_D_LE),
    ].flatMap { pair in ports.map { (pair, $0) } }
    let block = 20  // GE and its port, LE and its port, a jump to the end
    let length = codes.count * block
    var bytes: [UInt8] = []
    func emit(_ code: Int, _ yes: Int, _ no: Int) {
      bytes += [UInt8(truncatingIfNeeded: code), UInt8(truncatingIfNeeded: yes)]
      withUnsafeBytes(of: UInt16(truncatingIfNeeded: no)) { bytes += $0 }
    }
    for (index, ((least, most), port)) in codes.enumerated() {
      let isLast = index == codes.count - 1
      let start = index * block
      let otherwise = isLast ? length + 4 : start + block
      emit(Int(least), 8, otherwise - start)
      emit(0, 0, Int(port))
      emit(Int(most), 8, otherwise - start - 8)
      emit(0, 0, Int(port))
      emit(Int(INET_DIAG_BC_JMP), 4, length - start - 16)
    }
    return bytes
  }

  private func ask<Request>(
    _ request: Request, flags: UInt16, filter: [UInt8]? = nil, each: (ArraySlice<UInt8>) -> Void
  ) throws(SystemCallError) {
    sequence &+= 1
    var header = nlmsghdr()
    header.nlmsg_type = UInt16(SOCK_DIAG_BY_FAMILY)
    header.nlmsg_flags = UInt16(NLM_F_REQUEST) | flags
    header.nlmsg_seq = sequence
    var message: [UInt8] = []
    func append<Value>(_ value: Value) { withUnsafeBytes(of: value) { message += $0 } }
    let attributeLength = filter.map { 4 + $0.count } ?? 0
    header.nlmsg_len = UInt32(MemoryLayout<nlmsghdr>.size + MemoryLayout<Request>.size + attributeLength)
    append(header)
    append(request)
    if let filter {
      append(UInt16(truncatingIfNeeded: attributeLength))
      append(UInt16(INET_DIAG_REQ_BYTECODE))
      message += filter
    }
    try systemCall("sendto", "NETLINK_SOCK_DIAG") { send(netlink.number, message, message.count, 0) }

    let isDump = flags & UInt16(NLM_F_DUMP) != 0
    while true {
      let count = try systemCall("recvfrom", "NETLINK_SOCK_DIAG") {
        recv(netlink.number, &buffer, buffer.count, 0)
      }
      var rest = buffer[..<count]
      while rest.count >= MemoryLayout<nlmsghdr>.size {
        let header = rest.load(nlmsghdr.self, at: 0)
        let length = Int(header.nlmsg_len)
        guard length >= MemoryLayout<nlmsghdr>.size, length <= rest.count else { break }
        let payload = rest.dropFirst(MemoryLayout<nlmsghdr>.size).prefix(length - MemoryLayout<nlmsghdr>.size)
        rest = rest.dropFirst((length + 3) & ~3)
        if header.nlmsg_seq != sequence { continue }  // the tail of an answer that was given up
        if Int32(header.nlmsg_type) == NLMSG_DONE { return }
        if Int32(header.nlmsg_type) == NLMSG_ERROR {
          let code = payload.count >= 4 ? payload.load(Int32.self, at: 0) : -EPROTO
          if code == 0 { return }
          throw SystemCallError(call: "sock_diag", errno: ErrorNumber(code == .min ? EPROTO : -code))
        }
        each(payload)
        if !isDump { return }
      }
    }
  }

  // --- taking answers apart ---

  private static func attributes(_ bytes: ArraySlice<UInt8>, each: (Int, ArraySlice<UInt8>) -> Void) {
    var rest = bytes
    while rest.count >= 4 {
      let length = Int(rest.load(UInt16.self, at: 0))
      let type = Int(rest.load(UInt16.self, at: 2))
      guard length >= 4, length <= rest.count else { return }
      each(type, rest.dropFirst(4).prefix(length - 4))
      rest = rest.dropFirst((length + 3) & ~3)
    }
  }

  private static func internetSocket(_ message: ArraySlice<UInt8>, protocol number: Int32) -> SocketState? {
    let size = MemoryLayout<inet_diag_msg>.size
    guard message.count >= size else { return nil }
    let row = message.load(inet_diag_msg.self, at: 0)
    let isTCP = number == Int32(IPPROTO_TCP)
    guard let state = TCPState(rawValue: row.idiag_state) else { return nil }

    var socket = SocketState()
    let family = Int32(row.idiag_family)
    func address(_ words: (UInt32, UInt32, UInt32, UInt32), _ port: UInt16) -> SocketAddress {
      let bytes = withUnsafeBytes(of: words) { Array($0) }
      let port = UInt16(bigEndian: port)
      return family == AF_INET6
        ? .ipv6(address: bytes, port: port) : .ipv4(address: Array(bytes[..<4]), port: port)
    }
    let cookie = UInt64(row.id.idiag_cookie.1) << 32 | UInt64(row.id.idiag_cookie.0)
    socket.set(.cookie, number: cookie, from: "sock_diag idiag_cookie")
    socket.set(.inode, number: row.idiag_inode, from: "sock_diag idiag_inode")
    socket.set(.uid, number: row.idiag_uid, from: "sock_diag idiag_uid")
    socket.set(.family, .text(Names.family(family)), from: "sock_diag idiag_family")
    socket.set(.type, .text(isTCP ? "SOCK_STREAM" : "SOCK_DGRAM"), from: "sock_diag sdiag_protocol")
    socket.set(.protocol, .text(Names.protocolName(number, family: family)), from: "sock_diag sdiag_protocol")
    socket.set(.state, .text(state.name), from: "sock_diag idiag_state")
    socket.set(.local, .address(address(row.id.idiag_src, row.id.idiag_sport)), from: "sock_diag idiag_src")
    let peer = address(row.id.idiag_dst, row.id.idiag_dport)
    if !peer.isUnspecified { socket.set(.peer, .address(peer), from: "sock_diag idiag_dst") }
    if state == .listen {
      socket.set(.acceptQueue, number: row.idiag_rqueue, from: "sock_diag idiag_rqueue")
      socket.set(.backlog, number: row.idiag_wqueue, from: "sock_diag idiag_wqueue")
    } else if state != .timeWait {
      socket.set(.receiveQueue, number: row.idiag_rqueue, from: "sock_diag idiag_rqueue")
      // What a closed socket has there is left over from its last connection.
      if !isTCP || state != .close && state != .boundInactive {
        socket.set(.sendQueue, number: row.idiag_wqueue, from: "sock_diag idiag_wqueue")
      }
    }
    if isTCP, let timer = Names.timer(row.idiag_timer) {
      socket.set(.timer, .text(timer), from: "sock_diag idiag_timer")
      socket.set(.timerRemaining, number: row.idiag_expires, from: "sock_diag idiag_expires")
      // In TIME_WAIT, and where no timer runs, the field means nothing.
      if row.idiag_timer != 3 {
        socket.set(.timerRetransmits, number: row.idiag_retrans, from: "sock_diag idiag_retrans")
      }
    }
    let isWhole = state != .timeWait && state != .synReceived && state != .newSynReceived
    attributes(message.dropFirst(size)) { type, bytes in
      switch type {
      case INET_DIAG_INFO where isWhole:
        TCPInformation(bytes: bytes).fill(&socket, source: "sock_diag INET_DIAG_INFO")
      case INET_DIAG_CONG:
        let name = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        socket.set(.congestionControl, .text(name), from: "sock_diag INET_DIAG_CONG")
      case INET_DIAG_SKMEMINFO:
        socket.fill(memory: bytes, source: "sock_diag INET_DIAG_SKMEMINFO")
      case INET_DIAG_SHUTDOWN:
        if isWhole, let bits = bytes.first {
          socket.set(.shutdown, .text(Names.shutdown(bits)), from: "sock_diag INET_DIAG_SHUTDOWN")
        }
      default: break
      }
    }
    return socket
  }

  private static func unixSocket(_ message: ArraySlice<UInt8>) -> SocketState? {
    let size = MemoryLayout<unix_diag_msg>.size
    guard message.count >= size else { return nil }
    let row = message.load(unix_diag_msg.self, at: 0)
    var socket = SocketState()
    let cookie = UInt64(row.udiag_cookie.1) << 32 | UInt64(row.udiag_cookie.0)
    socket.set(.cookie, number: cookie, from: "sock_diag udiag_cookie")
    socket.set(.inode, number: row.udiag_ino, from: "sock_diag udiag_ino")
    socket.set(.family, .text("AF_UNIX"), from: "sock_diag udiag_family")
    socket.set(.type, .text(Names.type(Int32(row.udiag_type))), from: "sock_diag udiag_type")
    socket.set(
      .state, TCPState(rawValue: row.udiag_state).map { .text($0.name) }, from: "sock_diag udiag_state")
    attributes(message.dropFirst(size)) { type, bytes in
      switch type {
      case UNIX_DIAG_NAME:
        let family = withUnsafeBytes(of: UInt16(AF_UNIX)) { Array($0) }
        if let address = SocketAddress(bytes: family + bytes) {
          socket.set(.local, .address(address), from: "sock_diag UNIX_DIAG_NAME")
        }
      case UNIX_DIAG_RQLEN where bytes.count >= 8:
        let queue = bytes.load(UInt32.self, at: 0)
        let other = bytes.load(UInt32.self, at: 4)
        if row.udiag_state == TCPState.listen.rawValue {
          socket.set(.acceptQueue, number: queue, from: "sock_diag UNIX_DIAG_RQLEN")
          socket.set(.backlog, number: other, from: "sock_diag UNIX_DIAG_RQLEN")
        } else {
          socket.set(.receiveQueue, number: queue, from: "sock_diag UNIX_DIAG_RQLEN")
          socket.set(.sendQueue, number: other, from: "sock_diag UNIX_DIAG_RQLEN")
        }
      case UNIX_DIAG_SHUTDOWN:
        if let bits = bytes.first {
          socket.set(.shutdown, .text(Names.shutdown(bits)), from: "sock_diag UNIX_DIAG_SHUTDOWN")
        }
      default: break
      }
    }
    return socket
  }
}

extension Collection<UInt8> where Index == Int {
  /// The value whose bytes begin `offset` bytes in. The caller has checked the length.
  func load<Value: BitwiseCopyable>(_: Value.Type, at offset: Int) -> Value {
    let bytes = Array(dropFirst(offset).prefix(MemoryLayout<Value>.size))
    precondition(bytes.count == MemoryLayout<Value>.size)
    return bytes.withUnsafeBytes { $0.loadUnaligned(as: Value.self) }
  }
}
