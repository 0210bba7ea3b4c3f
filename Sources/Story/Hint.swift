import KernelState
import SystemCalls

/// What to try in another terminal while the program stands still.
enum Hint {
  static func text(for sockets: [SocketSnapshot], process: Int32) -> String {
    let own = sockets.filter { !$0.holders.isEmpty && $0.state.isTCP }
    if let listener = own.first(where: { $0.state.isListening }), let local = listener.state.local {
      return "ss -tanoe 'sport = :\(local.port) or dport = :\(local.port)'   or   nc \(reachable(local)) \(local.port)"
    }
    if let port = own.compactMap({ $0.state.local?.port }).first(where: { $0 != 0 }) {
      return "ss -tanoe 'sport = :\(port) or dport = :\(port)'   (needs a connection or LISTEN)"
    }
    return "ls -l /proc/\(process)/fd"
  }

  /// The host to dial for a local address.
  private static func reachable(_ address: SocketAddress) -> String {
    guard address.isWildcard else { return address.canonical.host }
    if case .ipv6 = address { return "::1" }
    return "127.0.0.1"
  }
}

/// All that the kernel says, with where each value came from.
enum Everything {
  static func text(of sockets: [SocketSnapshot]) -> String {
    var text = ""
    for socket in sockets {
      text += "\n   \(socket.label)\n"
      for line in lines(of: socket.state) { text += "     \(line)\n" }
    }
    return text + "\n"
  }

  /// "receive buffer           131072 bytes      getsockopt SO_RCVBUF"
  static func lines(of state: SocketState) -> [String] {
    Field.allCases.compactMap { field in
      guard let reading = state.readings[field] else { return nil }
      let unit = field.unit.isEmpty ? "" : " \(field.unit)"
      return field.label.padded(to: 25) + "\(reading.value)\(unit)".padded(to: 18) + " " + reading.source
    }
  }
}
