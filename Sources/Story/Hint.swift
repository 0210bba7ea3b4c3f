import KernelState
import SystemCalls

/// What to try in another terminal while the program stands still.
struct Hint {
  let sockets: [SocketSnapshot]
  /// The process that made the last call.
  let process: Int32
  /// Whether it has one thread, and no other process is followed.
  let isAlone: Bool
  /// It has a network namespace of its own, which another terminal has to enter.
  let isIsolated: Bool

  /// What stands still.
  var heading: String {
    isAlone
      ? "The program stands still now. In another terminal:"
      : "What made this call stands still now, all else until its own next socket call. In another terminal:"
  }

  /// One command a line.
  var lines: [String] {
    guard isIsolated else { return commands }
    return commands.map {
      $0.hasPrefix("ls ") ? $0 : "nsenter -t \(process) -U -n --preserve-credentials \($0)"
    }
  }

  private var commands: [String] {
    let own = sockets.filter { !$0.holders.isEmpty && $0.state.isTCP }
    func ss(_ port: UInt16) -> String { "ss -tanpoe '( sport = :\(port) or dport = :\(port) )'" }
    if let listener = own.first(where: { $0.state.isListening }), let local = listener.state.local {
      return [
        ss(local.port),
        "nc \(Self.reachable(local)) \(local.port)    (it connects, though nobody accepts now)",
      ]
    }
    if let connected = own.first(where: { $0.state.peer != nil }), let local = connected.state.local {
      return [ss(local.port)]
    }
    let former = sockets.first { $0.state.isTCP && $0.state.peer != nil && $0.formerDescriptor != nil }
    if let local = former?.state.local { return [ss(local.port)] }
    return ["ls -l /proc/\(process)/fd"]
  }

  /// The host to dial for a local address.
  private static func reachable(_ address: SocketAddress) -> String {
    guard address.isWildcard else { return address.canonical.host }
    if case .ipv6 = address { return "::1" }
    return "127.0.0.1"
  }
}
