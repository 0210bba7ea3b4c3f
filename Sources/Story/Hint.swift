import KernelState
import SystemCalls

/// What to try in another terminal while the program stands still.
struct Hint {
  let sockets: [SocketSnapshot]
  /// The process that made the last call.
  let process: Int32
  /// Whether it has one thread, and no other process is followed.
  let isAlone: Bool
  /// The namespaces of its own that another terminal has to enter, as nsenter names them; empty for none.
  let namespaces: String
  /// Whether a client from elsewhere does no harm: a lesson that is going to accept its own takes any for it.
  let invitesClients: Bool

  /// What stands still.
  var heading: String {
    isAlone
      ? "The program stands still now. In another terminal:"
      : "What made this call stands still now, all else until its own next socket call. In another terminal:"
  }

  /// One command a line.
  var lines: [String] {
    guard !namespaces.isEmpty else { return commands }
    let enter =
      "nsenter -t \(process) \(namespaces)" + (namespaces.contains("-U") ? " --preserve-credentials" : "")
    return commands.map { $0.hasPrefix("ls ") ? $0 : "\(enter) \($0)" }
  }

  private var commands: [String] {
    let sockets = self.sockets.filter(\.state.isTCP)
    func ss(_ port: UInt16) -> String { "ss -tanpoe '( sport = :\(port) or dport = :\(port) )'" }
    let own = sockets.filter { !$0.holders.isEmpty }
    if let local = own.first(where: \.state.isListening)?.state.local {
      let dial = "nc \(Self.reachable(local)) \(local.port)    (it connects, though nobody accepts now)"
      return [ss(local.port)] + (invitesClients ? [dial] : [])
    }
    // The port that most of them have to do with: the server's.
    var counts: [UInt16: Int] = [:]
    for socket in sockets {
      for port in Set([socket.state.local?.port, socket.state.peer?.port]) {
        if let port, port != 0 { counts[port, default: 0] += 1 }
      }
    }
    let isKnown = sockets.contains { $0.state.peer != nil }
    if isKnown, let port = counts.max(by: { ($0.value, $1.key) < ($1.value, $0.key) })?.key {
      return [ss(port)]
    }
    return ["ls -l /proc/\(process)/fd"]
  }

  /// The host to dial for a local address.
  private static func reachable(_ address: SocketAddress) -> String {
    guard address.isWildcard else { return address.canonical.host }
    if case .ipv6 = address { return "::1" }
    return "127.0.0.1"
  }
}
