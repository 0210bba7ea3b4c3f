import Glibc
import KernelState
import SystemCalls
import Tracing

/// The sockets that a program has or had to do with, as the kernel last told of them: those behind its descriptors, those
/// that wait in its accept queues, the other ends of its connections, and those that live on after their close.
final class World {
  let kernel = Kernel()
  private(set) var sockets: [SocketSnapshot] = []
  private var nextID = 1
  /// The addresses that the program's calls named: a refused connection leaves no socket behind, but packets.
  private var addressesNamed: Set<SocketAddress> = []

  /// More sockets than this are not all read at every step: only those that the call is about.
  private static let manySockets = 64

  /// The descriptors of one process that are sockets.
  struct Descriptors {
    let process: pid_t
    let sockets: [Int32]
  }

  // --- reading ---

  /// Asks the kernel again.
  ///
  /// - Parameters:
  ///   - processes: the descriptors to look behind.
  ///   - focus: what the call at hand is about; where there are many sockets, only that is read.
  /// - Returns: what is different from the last time.
  func observe(_ processes: [Descriptors], focus: Descriptors? = nil) -> [SocketChange] {
    let before = sockets
    let isNarrow = focus != nil && before.count > Self.manySockets
    var found: [SocketSnapshot] = []
    for process in processes {
      for descriptor in process.sockets {
        let holder = SocketSnapshot.Holder(process: process.process, descriptor: descriptor)
        if isNarrow, let focus, focus.process == process.process, !focus.sockets.contains(descriptor),
          let known = before.first(where: { $0.holders.contains(holder) })
        {
          add(known, to: &found)
        } else if let state = kernel.socket(descriptor: descriptor, of: process.process) {
          let known = identify(state, among: found) ?? identify(state, among: before)
          var snapshot = SocketSnapshot(id: known?.id ?? takeID(), state: state, holders: [holder])
          snapshot.formerDescriptor = descriptor
          if case .flag(let flag)? = state[.closeOnExec] { snapshot.closeOnExec[holder] = flag }
          add(snapshot, to: &found)
        }
      }
    }
    addUnaccepted(to: &found, before: before)
    addFormer(to: &found, before: before)
    addPeers(to: &found, before: before)
    sockets = found.sorted { $0.id < $1.id }
    return Self.changes(from: before, to: sockets)
  }

  /// Whether a socket is in a state that it only passes through.
  var isPassing: Bool { sockets.contains { $0.state.isPassing } }

  /// Remembers an address that a call names.
  func note(address: SocketAddress) { addressesNamed.insert(address.canonical) }

  /// Whether a packet belongs to one of these sockets, as they are or were a moment ago.
  func owns(_ packet: Packet, formerly: [SocketSnapshot]) -> Bool {
    for socket in sockets + formerly {
      guard socket.state.isTCP, let local = socket.state.local?.canonical else { continue }
      let ends = [(packet.from.canonical, packet.to.canonical), (packet.to.canonical, packet.from.canonical)]
      for (near, far) in ends where near.port == local.port && (near == local || local.isWildcard) {
        // A listening socket, or a bound one, has to do with all that reaches its port.
        guard let peer = socket.state.peer?.canonical else { return true }
        if peer == far { return true }
      }
    }
    // The answer to a connection that was refused comes from a port without a socket.
    return packet.has(.syn) && addressesNamed.contains(packet.to.canonical)
      || packet.has(.rst) && addressesNamed.contains(packet.from.canonical)
  }

  // --- inside ---

  private func takeID() -> Int {
    defer { nextID += 1 }
    return nextID
  }

  private func identify(_ state: SocketState, among sockets: [SocketSnapshot]) -> SocketSnapshot? {
    if let cookie = state.cookie, let known = sockets.first(where: { $0.state.cookie == cookie }) {
      return known
    }
    guard let inode = state.inode, inode != 0 else { return nil }
    // One of the two was read where cookies cannot be had.
    return sockets.first { $0.state.inode == inode && ($0.state.cookie == nil || state.cookie == nil) }
  }

  private func add(_ snapshot: SocketSnapshot, to found: inout [SocketSnapshot]) {
    guard let index = found.firstIndex(where: { $0.id == snapshot.id }) else {
      found.append(snapshot)
      return
    }
    for holder in snapshot.holders where !found[index].holders.contains(holder) {
      found[index].holders.append(holder)
    }
    found[index].closeOnExec.merge(snapshot.closeOnExec) { _, new in new }
  }

  /// Takes in a socket that no followed process has a descriptor for.
  private func add(
    withoutDescriptor state: SocketState, to found: inout [SocketSnapshot], before: [SocketSnapshot]
  ) {
    if identify(state, among: found) != nil { return }
    let known = identify(state, among: before)
    var snapshot = SocketSnapshot(id: known?.id ?? takeID(), state: state, holders: [])
    snapshot.formerDescriptor = known?.formerDescriptor
    snapshot.owner = known?.owner
    if snapshot.owner == nil, snapshot.formerDescriptor == nil, let inode = state.inode, inode != 0 {
      snapshot.owner = SocketOwner.find(inode: inode)
    }
    found.append(snapshot)
  }

  /// Connections that the kernel has made, or is making, for a listening socket, and that nobody has accepted.
  private func addUnaccepted(to found: inout [SocketSnapshot], before: [SocketSnapshot]) {
    let listeners = found.filter { $0.state.isListening && $0.state.isTCP }
    let ports = Set(listeners.compactMap { $0.state.local?.port })
    guard !ports.isEmpty else { return }
    let families = listeners.contains { $0.state.family == "AF_INET6" } ? [AF_INET, AF_INET6] : [AF_INET]
    for state in kernel.sockets(ports: ports, families: families) {
      guard let local = state.local, ports.contains(local.port), state.inode == 0 else { continue }
      // Closed sockets without an owner have no inode either, but other states.
      let unaccepted: [TCPState] = [.synReceived, .established, .closeWait]
      if unaccepted.contains(where: { $0.name == state.state }) {
        add(withoutDescriptor: state, to: &found, before: before)
      }
    }
  }

  /// Sockets known before that have no descriptor any more: the kernel may still keep them.
  private func addFormer(to found: inout [SocketSnapshot], before: [SocketSnapshot]) {
    for known in before where !found.contains(where: { $0.id == known.id }) {
      guard known.state.isTCP, let local = known.state.local, let peer = known.state.peer,
        let state = kernel.socket(local: local, peer: peer), state.cookie == known.state.cookie
      else { continue }
      add(withoutDescriptor: state, to: &found, before: before)
    }
  }

  private func addPeers(to found: inout [SocketSnapshot], before: [SocketSnapshot]) {
    for socket in found where socket.state.isTCP {
      guard let local = socket.state.local?.canonical, let peer = socket.state.peer?.canonical else {
        continue
      }
      let isKnown = found.contains {
        $0.state.local?.canonical == peer && $0.state.peer?.canonical == local
      }
      if !isKnown, let state = kernel.socket(local: peer, peer: local) {
        // An old connection's TIME_WAIT between the same addresses is not this one's other end.
        if state.state == TCPState.timeWait.name, identify(state, among: before) == nil { continue }
        add(withoutDescriptor: state, to: &found, before: before)
      }
    }
  }

  private static func changes(from before: [SocketSnapshot], to after: [SocketSnapshot]) -> [SocketChange] {
    let old = Dictionary(uniqueKeysWithValues: before.map { ($0.id, $0) })
    let new = Set(after.map(\.id))
    var changes: [SocketChange] = []
    for socket in after {
      guard let known = old[socket.id] else {
        changes.append(SocketChange(socket: socket, kind: .appeared))
        continue
      }
      if known.holders != socket.holders {
        changes.append(SocketChange(socket: socket, kind: .holders(from: known.holders, to: socket.holders)))
      }
      for holder in socket.holders {
        guard let from = known.closeOnExec[holder], let to = socket.closeOnExec[holder], from != to else {
          continue
        }
        changes.append(SocketChange(socket: socket, kind: .closeOnExec(holder, to)))
      }
      changes += known.state.changes(to: socket.state).compactMap { change in
        if change.field == .closeOnExec { return nil }
        // What could not be asked of a socket without a descriptor has not changed.
        if change.to == nil, change.field != .peer, change.field != .local, change.field != .timer {
          return nil
        }
        if change.from == nil, change.field.weight != .story { return nil }
        return SocketChange(socket: socket, kind: .field(change))
      }
    }
    for socket in before where !new.contains(socket.id) {
      var last = socket
      last.holders = []
      changes.append(SocketChange(socket: last, kind: .vanished))
    }
    return changes
  }
}
