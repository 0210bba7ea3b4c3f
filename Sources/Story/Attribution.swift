import Glibc
import KernelState
import SystemCalls
import Tracing

/// Whose doing a change or a packet is, where several things happen at once: a call says how well it would explain it.
///
/// Made once a call, from the sockets as they were at its entry, and once more when it has returned and its result is known.
struct Attribution {
  /// How well a call explains a change. The best claim wins; without one, it happened by itself.
  enum Claim: Int, Comparable {
    case none, far, near
    static func < (a: Claim, b: Claim) -> Bool { a.rawValue < b.rawValue }
  }

  private enum Kind {
    /// It asks, or waits; it changes nothing itself.
    case asks
    /// It sets its own socket up and moves no data.
    case setsUp
    case connects, accepts, sends, receives, closes
  }

  private let call: Call
  private let kind: Kind
  private let numbers: [Int32]
  private let before: [Int: SocketSnapshot]
  /// The address that a connect dials.
  private let target: SocketAddress?
  /// The sockets that the call is about.
  private var subjects: [Int: SocketSnapshot] = [:]

  init(call: Call, target: SocketAddress? = nil, before: [SocketSnapshot], after: [SocketSnapshot] = []) {
    self.call = call
    self.target = target?.canonical
    kind = Self.kind(of: call)
    numbers = call.descriptors
    self.before = Dictionary(before.map { ($0.id, $0) }) { first, _ in first }
    // A number that a call has closed may be another socket's by now.
    for socket in kind == .closes ? before : before + after where isNamed(socket) {
      // Where the call has closed it or lost its connection, as it was before.
      if subjects[socket.id]?.state.peer == nil { subjects[socket.id] = socket }
    }
  }

  private static func kind(of call: Call) -> Kind {
    switch call.systemCall {
    case .socket, .socketpair, .bind, .listen, .fcntl, .ioctl, .dup: return .setsUp
    case .setsockopt:
      // These push out what was held back.
      let isPush =
        call.arguments.int(1) == Int32(IPPROTO_TCP)
        && [TCP_NODELAY, TCP_CORK].contains(call.arguments.int(2))
      return isPush ? .sends : .setsUp
    case .connect: return .connects
    case .accept, .accept4: return .accepts
    case .write, .writev, .pwritev2, .sendto, .sendmsg, .sendmmsg, .sendfile, .splice: return .sends
    case .read, .readv, .preadv2, .recvfrom, .recvmsg, .recvmmsg: return .receives
    case .shutdown, .close, .closeRange, .dup2, .dup3: return .closes
    default: return .asks
    }
  }

  /// Whether a packet of its connection that passes while it runs is its doing. What passes while it reads or waits is the
  /// peer's, or may be.
  static func sends(_ call: Call) -> Bool {
    switch kind(of: call) {
    case .connects, .sends, .closes: true
    case .asks, .setsUp, .accepts, .receives: false
    }
  }

  /// Whether it may open or close descriptors. While a call waits, others of its process may do so.
  static func changesDescriptors(_ call: Call) -> Bool {
    switch kind(of: call) {
    case .setsUp, .accepts, .closes: true
    case .asks, .connects, .sends, .receives: call.systemCall.makesDescriptor
    }
  }

  /// Whether it may put packets on the wire by itself, so that what follows them is worth waiting for.
  var maySend: Bool {
    switch kind {
    case .connects: true
    case .sends: call.error == nil
    case .closes:
      subjects.values.contains { socket in
        socket.state.peer != nil || (socket.state.number(.acceptQueue) ?? 0) > 0
      }
    case .asks: call.systemCall == .ioUringEnter
    case .setsUp, .accepts, .receives: false
    }
  }

  /// Whether it reports what others do, so that it adopts, alone, what nobody has done.
  var adoptsTheRest: Bool {
    switch call.systemCall {
    case .poll, .ppoll, .select, .pselect6, .epollWait, .epollPwait, .epollPwait2, .restartSyscall,
      .ioUringEnter:
      true
    default: kind == .accepts || kind == .receives
    }
  }

  // --- changes ---

  func claim(_ change: SocketChange) -> Claim {
    if kind == .asks { return .none }
    let socket = change.socket
    let isSubject = subjects[socket.id] != nil
    switch change.kind {
    case .appeared: return claim(appeared: socket)
    case .vanished:
      // A send to a peer that is gone is answered with RST, and that ends what was left of it.
      guard kind == .closes || kind == .sends else { return .none }
      return isSubject ? .near : isReached(socket) ? .far : .none
    case .closeOnExec:
      return isSubject && [.fcntl, .ioctl, .closeRange].contains(call.systemCall) ? .near : .none
    case .holders(let from, let to):
      let gained = to.filter { !from.contains($0) }
      if !gained.isEmpty { return claim(gained: gained, by: socket) }
      return kind == .closes && from.allSatisfy({ to.contains($0) || isClosed($0) }) ? .near : .none
    case .field(let field): return claim(field, of: socket, isSubject: isSubject)
    }
  }

  private func claim(appeared socket: SocketSnapshot) -> Claim {
    if socket.holders.isEmpty || kind == .accepts {
      // The other end of a connection that this call makes, or one that waits to be accepted.
      return kind == .connects && isReached(socket)
        ? .near : kind == .accepts && isFromListener(socket) ? .near : .none
    }
    guard socket.holders.contains(where: { $0.process == call.process }) else {
      return kind == .connects && isReached(socket) ? .near : .none
    }
    if call.result != nil, call.systemCall != .socketpair {
      return subjects[socket.id] != nil || takesDescriptors ? .near : .none
    }
    // It has not returned: what it makes is known by its kind only.
    return [.socket, .socketpair].contains(call.systemCall) && socket.state.peer == nil
      ? .near
      : takesDescriptors ? .far : .none
  }

  private func claim(gained: [SocketSnapshot.Holder], by socket: SocketSnapshot) -> Claim {
    guard gained.contains(where: { $0.process == call.process }) else { return .none }
    if takesDescriptors { return .near }
    if kind == .accepts { return isFromListener(socket) ? .near : .none }
    if call.result != nil { return gained.contains { $0.descriptor == call.newDescriptor } ? .near : .none }
    return [.dup, .dup2, .dup3, .fcntl].contains(call.systemCall) && subjects[socket.id] != nil
      ? .near : .none
  }

  private func claim(_ change: FieldChange, of socket: SocketSnapshot, isSubject: Bool) -> Claim {
    let grows = Self.grows(change)
    let isIncoming = [.receiveQueue, .readable].contains(change.field)
    let isOutgoing = [.sendQueue, .notSent].contains(change.field)
    switch kind {
    case .asks: return .none
    case .setsUp:
      // A queue that is there for the first time is empty; one that fills is filled by others.
      let isQueue = isIncoming || isOutgoing || change.field == .acceptQueue
      return isSubject && (!isQueue || change.from == nil) ? .near : .none
    case .receives:
      if isSubject { return isIncoming && !grows ? .near : .none }
      return isReached(socket) && isOutgoing && !grows ? .far : .none
    case .accepts:
      // What it accepted is a file from here on.
      if change.field == .inode { return isSubject ? .near : .none }
      return isSubject && [.acceptQueue, .backlog].contains(change.field) && !grows ? .near : .none
    case .connects, .sends, .closes:
      // What comes in here was sent by others, unless a datagram was sent to oneself.
      if isSubject {
        return isIncoming && grows && kind == .sends ? (isReached(socket) ? .far : .none) : .near
      }
      if isIncoming && !grows { return .none }
      return isReached(socket) ? .far : .none
    }
  }

  private static func grows(_ change: FieldChange) -> Bool {
    guard case .number(let to)? = change.to?.value else { return false }
    if case .number(let from)? = change.from?.value { return to > from }
    return true
  }

  // --- packets ---

  /// Whether the call may have sent a packet, or have been answered by it.
  func covers(_ packet: Packet) -> Bool {
    switch kind {
    case .asks, .setsUp, .accepts: return false
    case .connects, .sends, .receives, .closes: break
    }
    let ends = [packet.from.canonical, packet.to.canonical]
    if kind == .connects, let target, ends.contains(target) {
      // Before it returns, and where it was refused, the socket does not say whom it dialled.
      let near = ends[0] == target ? ends[1] : ends[0]
      return subjects.values.allSatisfy { ($0.state.local?.port ?? near.port) == near.port }
    }
    return subjects.values.contains { socket in
      guard let local = socket.state.local?.canonical, local.port != 0 else { return false }
      if let peer = socket.state.peer?.canonical { return ends == [local, peer] || ends == [peer, local] }
      return kind == .closes && ends.contains { $0.port == local.port }
    }
  }

  // --- which socket ---

  private func isNamed(_ socket: SocketSnapshot) -> Bool {
    if call.systemCall == .closeRange { return socket.holders.contains { isClosed($0) } }
    return socket.holders.contains { $0.process == call.process && numbers.contains($0.descriptor) }
  }

  private func isClosed(_ holder: SocketSnapshot.Holder) -> Bool {
    guard holder.process == call.process else { return false }
    switch call.systemCall {
    case .closeRange:
      let number = UInt32(bitPattern: holder.descriptor)
      let (first, last) = (
        UInt32(truncatingIfNeeded: call.arguments[0]), UInt32(truncatingIfNeeded: call.arguments[1])
      )
      return number >= first && number <= last
    case .dup2, .dup3: return holder.descriptor == call.arguments.int(1)
    default: return holder.descriptor == call.arguments.int(0)
    }
  }

  /// Whether descriptors may come to it by way of a message. See: unix(7), SCM_RIGHTS
  private var takesDescriptors: Bool { [.recvmsg, .recvmmsg].contains(call.systemCall) }

  private func ends(_ socket: SocketSnapshot) -> (local: SocketAddress?, peer: SocketAddress?) {
    // A reset takes a socket's addresses: then those of before count.
    let state = socket.state.peer == nil ? before[socket.id]?.state ?? socket.state : socket.state
    return (state.local?.canonical, state.peer?.canonical)
  }

  /// Whether a socket is at the other end of what the call is about.
  private func isReached(_ socket: SocketSnapshot) -> Bool {
    let other = ends(socket)
    return subjects.values.contains { subject in
      // Datagrams and Unix sockets: the kernel does not say which other socket is meant, but of which family it is.
      if !subject.state.isTCP { return subject.state.family == socket.state.family && !socket.state.isTCP }
      guard let local = subject.state.local?.canonical else { return false }
      if let peer = subject.state.peer?.canonical {
        if socket.state.isListening { return kind == .connects && other.local?.port == peer.port }
        return other.local == peer && (other.peer ?? local) == local
      }
      // A listening socket, and what waits in it, seen from either side.
      return kind == .closes && (isFrom(local, other.local) || isFrom(local, other.peer))
    }
  }

  private func isFromListener(_ socket: SocketSnapshot) -> Bool {
    subjects.values.contains { subject in
      guard let local = subject.state.local?.canonical else { return false }
      return subject.state.isListening && isFrom(local, ends(socket).local)
    }
  }

  private func isFrom(_ listener: SocketAddress, _ address: SocketAddress?) -> Bool {
    address == listener || listener.isWildcard && address?.port == listener.port
  }
}
