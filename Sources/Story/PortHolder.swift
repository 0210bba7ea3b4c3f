import KernelState
import SystemCalls

extension World {
  /// Who has the port that a socket cannot be bound to, in words, or nil where nobody is found.
  func holder(of wanted: SocketAddress, besides holder: SocketSnapshot.Holder) -> String? {
    guard wanted.port != 0, let asking = sockets.first(where: { $0.holders.contains(holder) }) else {
      return nil
    }
    let holders = kernel.sockets(boundTo: wanted.port, protocol: asking.state.text(.protocol) ?? "").filter {
      socket in
      guard let local = socket.local?.canonical, socket.cookie != asking.state.cookie else { return false }
      return local == wanted || local.isWildcard || wanted.isWildcard
    }
    let cookies = Set(holders.map(\.cookie))
    // Where somebody has it besides what is over, that one is the obstacle, whatever is set.
    let owned = sockets.filter { cookies.contains($0.state.cookie) }
    if let own = owned.first(where: { !$0.holders.isEmpty }) ?? owned.first {
      let state = own.state.state ?? "?"
      return own.holders.isEmpty
        ? "A connection that is over, once \(own.label.replacing("was ", with: "")) of this program, still has the port, in \(state)"
        : "\(own.label) of this program has the port, in \(state)"
    }
    guard let other = holders.first(where: { $0.state != TCPState.timeWait.name }) ?? holders.first else {
      return nil
    }
    if other.state == TCPState.timeWait.name {
      let left = other.number(.timerRemaining).map { ", for another \($0 / 1000 + 1) s" } ?? ""
      return "What is left of a connection has the port, in TIME_WAIT\(left)"
    }
    let state = other.state.map { ", in \($0)" } ?? ""
    if let owner = other.inode.flatMap({ $0 == 0 ? nil : SocketOwner.find(inode: $0) }) {
      return "\(owner.name), pid \(owner.process), has the port\(state)"
    }
    let user = other.number(.uid).map { " of user \($0)" } ?? ""
    return "A socket\(user) has the port\(state)"
  }
}
