import Glibc
import KernelState
import Tracing

/// What to do about a call that failed, and what a result means that looks like nothing.
enum Advice {
  /// One sentence, or nil where the result speaks for itself.
  static func text(for step: Step) -> String? {
    let call = step.call
    if let injection = call.injection {
      return ["Injected: \(injection).", call.result == 0 ? remark(on: step) : nil].compactMap { $0 }.joined(
        separator: " ")
    }
    guard let error = call.error else { return remark(on: step) }
    if error.isRestart {
      return "A signal came. The program never sees this: the kernel makes the call again, or returns EINTR."
    }
    let subject = step.after.first(where: step.concerns)?.state
    let isInternet = subject.map { $0.family != "AF_UNIX" } ?? true
    let isTCP = subject?.isTCP ?? true
    if error.rawValue == EAGAIN {
      // Flags stand in the fourth argument of these alone.
      let flags: [SystemCall] = [.sendto, .recvfrom]
      let dontWait = flags.contains(call.systemCall) && call.arguments[3] & 0x40 != 0
      if subject?[.nonBlocking] == .flag(true) {
        return "No error: the socket is non-blocking, and the call would have had to wait."
      }
      if dontWait { return "No error: the call was not to wait (MSG_DONTWAIT), and would have had to." }
      let patience: Field =
        [.accept, .accept4].contains(call.systemCall) || receives(call) ? .receiveTimeout : .sendTimeout
      guard let limit = subject?.number(patience), limit > 0 else { return nil }
      let waited = (call.returned &- call.entered) / 1_000_000
      return "It waited \(waited) ms, and gave up: the socket's \(patience.label) is \(limit) ms."
    }
    switch (call.systemCall, error.rawValue) {
    case (.bind, EADDRINUSE) where !isInternet: return "A file, or another socket, has this name already."
    case (.bind, EADDRINUSE):
      let who = step.portHolder?.printable ?? "Another socket has the port"
      let isOver = step.portHolder?.contains("TIME_WAIT") ?? false
      return "\(who). "
        + (isOver
          ? "SO_REUSEADDR, on both sockets, would let this one have it too."
          : "Port 0 lets the kernel choose a free one.")
    case (.bind, EADDRNOTAVAIL):
      return "No interface of this host has that address. See what there is: ip address"
    case (.bind, EACCES) where isInternet:
      return
        "The port lies below net.ipv4.ip_unprivileged_port_start, and the process lacks CAP_NET_BIND_SERVICE."
    case (.bind, EINVAL) where subject?.local != nil && call.arguments.int(2) >= 16:
      return "The socket has an address already: it cannot be bound twice."
    case (.listen, EADDRINUSE): return "Another socket listens on this port already."
    case (.listen, EINVAL): return "Only a socket that is not connected can be made to listen."
    case (.connect, ECONNREFUSED):
      return "The peer's kernel answered with RST: no socket listens on that port."
    case (.connect, EINPROGRESS) where isTCP:
      return "No error: the socket is non-blocking, and the handshake goes on by itself."
    case (.connect, ETIMEDOUT) where isTCP:
      return "No answer came: the SYNs or their answers were lost, or a firewall dropped them."
    case (.connect, EISCONN) where subject?.state == TCPState.listen.name:
      return "The socket listens: it is there to be dialled, and cannot dial."
    case (.connect, EISCONN): return "The socket is connected already."
    case (.socket, EMFILE), (.accept, EMFILE), (.accept4, EMFILE), (.dup, EMFILE):
      return "The process has as many descriptors as it may: ulimit -n"
    case (.socket, EPROTONOSUPPORT): return "The family has this protocol, but not for this type of socket."
    case (.accept, EINVAL), (.accept4, EINVAL): return "The socket does not listen."
    case (_, EPIPE) where isTCP:
      return
        "This end was shut down, or the peer has closed and answered with RST: nothing can be sent any more."
    case (_, ECONNRESET) where isTCP: return "The peer sent RST: what had not arrived yet is lost."
    case (_, ENOTSOCK): return "The descriptor is open, but it is no socket."
    case (_, EBADF): return "The descriptor is not open. Was it closed before?"
    default: return nil
    }
  }

  private static func receives(_ call: Call) -> Bool {
    [.read, .readv, .preadv2, .recvfrom, .recvmsg, .recvmmsg].contains(call.systemCall)
  }

  private static func remark(on step: Step) -> String? {
    let call = step.call
    let isReset = step.after.contains {
      step.concerns($0) && $0.state.isTCP && $0.state.state == TCPState.close.name
    }
    let isStream = step.after.contains { step.concerns($0) && $0.state.text(.type) == "SOCK_STREAM" }
    switch call.systemCall {
    case .read, .recvfrom:
      guard isStream, call.result == 0, call.arguments[2] > 0 else { return nil }
      return isReset
        ? "0: the connection is over, and why has been told."
        : "0 is the end of the stream: the peer sends no more."
    case .write, .sendto:
      guard isStream, let sent = call.result, sent >= 0, UInt64(sent) < call.arguments[2] else { return nil }
      return
        "Short: the send buffer took \(sent) of \(call.arguments[2]) bytes. The rest is still the program's to send."
    default: return nil
    }
  }
}
