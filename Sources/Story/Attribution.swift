import KernelState
import SystemCalls
import Tracing

/// Whose doing a change is, where several things happen at once: the call's at hand, another thread's that has not returned
/// yet, or somebody else's.
struct Attribution {
  private let call: Call
  /// The sockets that the call is about, as they were before it and as they are.
  private let subjects: [SocketSnapshot]
  private let before: [Int: SocketSnapshot]

  init(call: Call, sockets: [SocketSnapshot], before: [SocketSnapshot]) {
    self.call = call
    self.before = Dictionary(before.map { ($0.id, $0) }) { first, _ in first }
    subjects = (before + sockets).filter { Self.isSubject($0, of: call) }
  }

  private func isSubject(_ socket: SocketSnapshot) -> Bool { subjects.contains { $0.id == socket.id } }

  private static func isSubject(_ socket: SocketSnapshot, of call: Call) -> Bool {
    let numbers = [call.descriptor, call.newDescriptor].compactMap { $0 }
    if socket.holders.contains(where: { $0.process == call.process && numbers.contains($0.descriptor) }) {
      return true
    }
    guard let former = socket.formerDescriptor, socket.holders.isEmpty else { return false }
    return closing.contains(call.systemCall) && (call.descriptor == former || call.systemCall == .closeRange)
  }

  private static let closing: Set<SystemCall> = [.close, .closeRange, .dup2, .dup3]
  private var closesDescriptors: Bool { Self.closing.contains(call.systemCall) }

  private var makesDescriptors: Bool {
    call.systemCall.makesDescriptor || [.socketpair, .fcntl, .recvmsg, .recvmmsg].contains(call.systemCall)
  }

  /// Calls that wait for what others do: whatever happens while they wait is what they report.
  private var waits: Bool {
    switch call.systemCall {
    case .poll, .ppoll, .select, .pselect6, .epollWait, .epollPwait, .epollPwait2, .restartSyscall,
      .ioUringEnter:
      true
    default: false
    }
  }

  /// Calls that only ask.
  private var asks: Bool {
    [.getsockname, .getpeername, .getsockopt, .epollCreate, .epollCreate1, .epollCtl].contains(
      call.systemCall)
  }

  /// Calls that set something up and move no data.
  private var setsUp: Bool {
    [.socket, .socketpair, .bind, .listen, .setsockopt, .fcntl, .ioctl, .dup].contains(call.systemCall)
  }

  /// Whether the call may have done this.
  func covers(_ change: SocketChange) -> Bool {
    if asks { return false }
    if setsUp, case .field(let field) = change.kind, field.from != nil,
      [.receiveQueue, .readable, .sendQueue, .notSent, .acceptQueue].contains(field.field)
    {
      return false
    }
    if case .holders(let from, let to) = change.kind {
      // An accept that has not returned yet: which number it will return is not known.
      if call.result == nil, [.accept, .accept4].contains(call.systemCall), from.isEmpty {
        return to.contains { $0.process == call.process }
          && subjects.contains { listener in
            listener.state.local?.port == change.socket.state.local?.port
          }
      }
      return from.count < to.count
        ? makesDescriptors && isSubject(change.socket) : closesDescriptors && concernsClosed(from, to)
    }
    if isSubject(change.socket) { return true }
    if case .appeared = change.kind, call.result == nil, makesDescriptors {
      return change.socket.holders.contains { $0.process == call.process }
    }
    if subjects.isEmpty { return call.systemCall == .socketpair || call.systemCall == .closeRange }
    return subjects.contains { subject in
      isOtherEnd(change.socket, of: subject) && reachesOtherEnd(change) || isQueue(change.socket, of: subject)
    }
  }

  /// Whether it adopts what nobody else has done.
  var adoptsTheRest: Bool {
    if waits { return true }
    let receives: [SystemCall] = [.accept, .accept4, .read, .readv, .preadv2, .recvfrom, .recvmsg, .recvmmsg]
    return receives.contains(call.systemCall)
  }

  private func concernsClosed(_ from: [SocketSnapshot.Holder], _ to: [SocketSnapshot.Holder]) -> Bool {
    let gone = from.filter { !to.contains($0) }
    return gone.allSatisfy { holder in
      holder.process == call.process
        && (call.systemCall == .closeRange
          || [call.descriptor, call.newDescriptor].contains(holder.descriptor))
    }
  }

  /// What arrives at the other end comes from here; what is read there does not.
  private func reachesOtherEnd(_ change: SocketChange) -> Bool {
    guard case .field(let field) = change.kind, [.receiveQueue, .readable].contains(field.field),
      case .number(let to)? = field.to?.value
    else { return true }
    if case .number(let from)? = field.from?.value { return to > from }
    return true
  }

  /// The addresses of a socket; where a reset has just taken them, those of before.
  private func ends(_ socket: SocketSnapshot) -> (local: SocketAddress?, peer: SocketAddress?) {
    let state = socket.state.peer == nil ? before[socket.id]?.state ?? socket.state : socket.state
    return (state.local?.canonical, state.peer?.canonical)
  }

  private func isOtherEnd(_ socket: SocketSnapshot, of subject: SocketSnapshot) -> Bool {
    guard let local = subject.state.local?.canonical, let peer = subject.state.peer?.canonical else {
      return false
    }
    let other = ends(socket)
    return other.local == peer && (other.peer ?? local) == local
  }

  /// A listening socket and the connections that wait in it, seen from either side.
  private func isQueue(_ socket: SocketSnapshot, of subject: SocketSnapshot) -> Bool {
    let other = ends(socket)
    guard let port = other.local?.port, port != 0 else { return false }
    switch call.systemCall {
    case .connect: return socket.state.isListening && subject.state.peer?.port == port
    case .accept, .accept4, .close, .shutdown, .listen:
      let isListener = subject.state.isListening || call.newDescriptor != nil
      return isListener
        && (subject.state.local?.port == port || subject.state.local?.port == other.peer?.port)
    default: return false
    }
  }
}
