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

  /// More sockets than this are not all read at every step: only those that the call is about, and their other ends.
  private static let manySockets = 64
  /// Of sockets without a descriptor so many are kept in sight; the oldest are let go of.
  private static let manyFormer = 256
  /// The same where there are many sockets.
  private static let fewFormer = 32
  /// Addresses that are remembered for the packets of refused connections.
  private static let manyAddresses = 1024

  /// The descriptors of one process that are sockets.
  struct Descriptors {
    let process: pid_t
    /// Nil where the system does not let them be listed.
    let sockets: [Int32]?
    /// The thread by whose number the process is asked.
    let reader: pid_t

    func holders() -> [SocketSnapshot.Holder] {
      (sockets ?? []).map { SocketSnapshot.Holder(process: process, descriptor: $0) }
    }
  }

  /// What one observation has gathered so far.
  private struct Sight {
    let before: [SocketSnapshot]
    let followed: Set<pid_t>
    var found: [SocketSnapshot] = []
    /// Those that were read in this observation, and not carried over from the one before.
    var fresh: Set<Int> = []
    private var places: [Int: Int] = [:]
    private var cookies: [UInt64: Int] = [:]
    private var knownCookies: [UInt64: SocketSnapshot] = [:]
    private var ends: [[SocketAddress]: Int] = [:]

    init(before: [SocketSnapshot], followed: Set<pid_t>) {
      self.before = before
      self.followed = followed
      for socket in before { if let cookie = socket.state.cookie { knownCookies[cookie] = socket } }
    }

    func contains(id: Int) -> Bool { places[id] != nil }

    func contains(local: SocketAddress, peer: SocketAddress) -> Bool { ends[[local, peer]] != nil }

    /// The socket that a state belongs to, found already or known from before.
    func identify(_ state: SocketState) -> SocketSnapshot? { identifyFound(state) ?? identifyKnown(state) }

    func identifyFound(_ state: SocketState) -> SocketSnapshot? {
      if let cookie = state.cookie, let place = cookies[cookie], Self.isSame(found[place].state, state) {
        return found[place]
      }
      return identify(state, byInodeAmong: found)
    }

    func identifyKnown(_ state: SocketState) -> SocketSnapshot? {
      if let cookie = state.cookie, let known = knownCookies[cookie], Self.isSame(known.state, state) {
        return known
      }
      return identify(state, byInodeAmong: before)
    }

    /// What a multipath listener accepts has its cookie (Linux 6.18), and an inode of its own.
    private static func isSame(_ one: SocketState, _ other: SocketState) -> Bool {
      guard let a = one.inode, let b = other.inode, a != 0, b != 0 else { return true }
      return a == b
    }

    /// For where one of the two was read when cookies could not be had, or where two sockets have the same.
    private func identify(_ state: SocketState, byInodeAmong sockets: [SocketSnapshot]) -> SocketSnapshot? {
      guard let inode = state.inode, inode != 0 else { return nil }
      return sockets.first {
        $0.state.inode == inode
          && ($0.state.cookie == nil || state.cookie == nil || $0.state.cookie == state.cookie)
      }
    }

    mutating func add(_ snapshot: SocketSnapshot) {
      if let place = places[snapshot.id] {
        for holder in snapshot.holders where !found[place].holders.contains(holder) {
          found[place].holders.append(holder)
        }
        found[place].closeOnExec.merge(snapshot.closeOnExec) { _, new in new }
        return
      }
      places[snapshot.id] = found.count
      if let cookie = snapshot.state.cookie { cookies[cookie] = found.count }
      if let local = snapshot.state.local?.canonical, let peer = snapshot.state.peer?.canonical {
        ends[[local, peer]] = found.count
      }
      found.append(snapshot)
    }
  }

  // --- reading ---

  /// Asks the kernel again.
  ///
  /// - Parameters:
  ///   - processes: the descriptors to look behind.
  ///   - focus: what the call at hand is about; where there are many sockets, only that is read.
  /// - Returns: what is different from the last time.
  @discardableResult
  func observe(_ processes: [Descriptors], focus: Descriptors? = nil) -> [SocketChange] {
    let before = sockets
    var sight = Sight(before: before, followed: Set(processes.map(\.process)))
    let focus = before.count > Self.manySockets ? focus : nil
    kernel.looksForIdle = focus == nil
    var carried: [SocketSnapshot.Holder: SocketSnapshot] = [:]
    for socket in before { for holder in socket.holders { carried[holder] = socket } }
    let meant = focus.map { Self.neighbourhood(of: $0.holders(), among: before, carried) }
    for process in processes {
      let known =
        process.sockets == nil ? carried.keys.filter { $0.process == process.process } : process.holders()
      for holder in known {
        let isReadable = process.sockets != nil && meant?.contains(holder) ?? true
        if !isReadable, var known = carried[holder] {
          known.holders = [holder]
          known.closeOnExec = known.closeOnExec.filter { $0.key == holder }
          known.wasRead = false
          sight.add(known)
        } else {
          read(holder, by: process.reader, &sight)
        }
      }
    }
    addUnaccepted(&sight)
    let forgotten = addFormer(&sight, limit: focus == nil ? Self.manyFormer : Self.fewFormer)
    addPeers(&sight)
    sockets = sight.found.sorted { $0.id < $1.id }
    return Self.changes(from: before.filter { !forgotten.contains($0.id) }, to: sockets)
  }

  /// What a call about some descriptors may reach: them, the other ends of their connections, and all listening sockets.
  private static func neighbourhood(
    of holders: [SocketSnapshot.Holder], among sockets: [SocketSnapshot],
    _ known: [SocketSnapshot.Holder: SocketSnapshot]
  ) -> Set<SocketSnapshot.Holder> {
    var meant = Set(holders)
    let ends = Set(
      holders.compactMap { holder -> [SocketAddress]? in
        guard let state = known[holder]?.state, let local = state.local, let peer = state.peer else {
          return nil
        }
        return [peer.canonical, local.canonical]
      })
    for socket in sockets {
      guard let local = socket.state.local?.canonical else { continue }
      let isOtherEnd = socket.state.peer.map { ends.contains([local, $0.canonical]) } ?? false
      if isOtherEnd || socket.state.isListening { meant.formUnion(socket.holders) }
    }
    return meant
  }

  /// Whether a socket is in a state that it only passes through.
  var isPassing: Bool { sockets.contains { $0.state.isPassing } }

  /// Whether bytes are on their way that the peer's kernel has not acknowledged; it may take its time, 40 ms. Where the
  /// peer's window is closed, nothing is on its way.
  var isSending: Bool { sockets.contains { $0.state.isTCP && $0.state.text(.timer) == "retransmit" } }

  /// Remembers an address that a call names.
  func note(address: SocketAddress) {
    if addressesNamed.count >= Self.manyAddresses { addressesNamed.removeAll() }
    addressesNamed.insert(address.canonical)
  }

  /// Whether a packet goes to an address that a call named, or comes from it: of a connection that is being made.
  func names(_ packet: Packet) -> Bool {
    addressesNamed.contains(packet.to.canonical) || addressesNamed.contains(packet.from.canonical)
  }

  /// Whether a packet belongs to one of these sockets, as they are or were a moment ago.
  func owns(_ packet: Packet, formerly: [SocketSnapshot]) -> Bool {
    let ends = [(packet.from.canonical, packet.to.canonical), (packet.to.canonical, packet.from.canonical)]
    for socket in sockets + formerly {
      guard socket.state.isTCP, kernel.isInOwnNamespace(socket.state),
        let local = socket.state.local?.canonical
      else {
        continue
      }
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

  private func read(_ holder: SocketSnapshot.Holder, by reader: pid_t, _ sight: inout Sight) {
    guard var state = kernel.socket(descriptor: holder.descriptor, of: reader) else { return }
    let known = sight.identify(state)
    // When the connection behind a descriptor ends in TIME_WAIT, the descriptor is left with a closed socket. The kernel
    // keeps the connection apart from it, under the same cookie; `ss` lists that one.
    if state.isTCP, state.state == TCPState.close.name, let local = known?.state.local,
      let peer = known?.state.peer,
      let waiting = kernel.socket(local: local, peer: peer), waiting.cookie == state.cookie
    {
      state = state.ending(in: waiting)
    }
    var snapshot = SocketSnapshot(id: known?.id ?? takeID(), state: state, holders: [holder])
    snapshot.formerDescriptor = holder.descriptor
    if case .flag(let flag)? = state[.closeOnExec] { snapshot.closeOnExec[holder] = flag }
    sight.add(snapshot)
    sight.fresh.insert(snapshot.id)
  }

  /// Takes in a socket that no followed process has a descriptor for.
  private func add(withoutDescriptor state: SocketState, _ sight: inout Sight) {
    if sight.identifyFound(state) != nil { return }
    let known = sight.identifyKnown(state)
    var snapshot = SocketSnapshot(id: known?.id ?? takeID(), state: state, holders: [])
    snapshot.formerDescriptor = known?.formerDescriptor
    snapshot.isPeer = known?.isPeer ?? false
    if let inode = state.inode, inode != 0, snapshot.formerDescriptor == nil {
      snapshot.owner = known?.owner ?? SocketOwner.find(inode: inode)
      // Accepted a moment ago, by a followed process: the next reading finds its descriptor.
      if let owner = snapshot.owner, sight.followed.contains(owner.process) { snapshot.owner = nil }
      snapshot.isPeer = true
    }
    sight.add(snapshot)
    sight.fresh.insert(snapshot.id)
  }

  /// Connections that the kernel has made, or is making, for a listening socket, and that nobody has accepted.
  private func addUnaccepted(_ sight: inout Sight) {
    let listeners = sight.found.filter {
      $0.state.isListening && $0.state.isTCP && kernel.isInOwnNamespace($0.state)
        && sight.fresh.contains($0.id)
    }
    let addresses = listeners.compactMap { $0.state.local?.canonical }
    guard !addresses.isEmpty else { return }
    let families = listeners.contains { $0.state.family == "AF_INET6" } ? [AF_INET, AF_INET6] : [AF_INET]
    for state in kernel.unacceptedSockets(ports: Set(addresses.map(\.port)), families: families) {
      guard let local = state.local?.canonical else { continue }
      // Another program may listen on the same port of another address.
      if addresses.contains(where: { $0 == local || $0.isWildcard && $0.port == local.port }) {
        add(withoutDescriptor: state, &sight)
      }
    }
  }

  /// Sockets known before that have no descriptor any more: the kernel may still keep them. Returns those that are no longer
  /// looked after.
  private func addFormer(_ sight: inout Sight, limit: Int) -> Set<Int> {
    let former = sight.before.filter { !sight.contains(id: $0.id) }
    for known in former.suffix(limit) {
      guard known.state.isTCP, kernel.isInOwnNamespace(known.state), let local = known.state.local,
        let peer = known.state.peer,
        let state = kernel.socket(local: local, peer: peer), state.cookie == known.state.cookie
      else { continue }
      add(withoutDescriptor: state, &sight)
    }
    return Set(former.dropLast(limit).map(\.id))
  }

  private func addPeers(_ sight: inout Sight) {
    for socket in sight.found where socket.state.isTCP && sight.fresh.contains(socket.id) {
      guard kernel.isInOwnNamespace(socket.state), let local = socket.state.local?.canonical,
        let peer = socket.state.peer?.canonical,
        !sight.contains(local: peer, peer: local), let state = kernel.socket(local: peer, peer: local)
      else { continue }
      // An old connection's TIME_WAIT between the same addresses is not this one's other end.
      if state.state == TCPState.timeWait.name, sight.identifyKnown(state) == nil { continue }
      add(withoutDescriptor: state, &sight)
    }
  }

  /// What is different between two observations.
  static func changes(from before: [SocketSnapshot], to after: [SocketSnapshot]) -> [SocketChange] {
    let old = Dictionary(before.map { ($0.id, $0) }) { first, _ in first }
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
      if !socket.wasRead { continue }
      for holder in socket.holders {
        guard let from = known.closeOnExec[holder], let to = socket.closeOnExec[holder], from != to else {
          continue
        }
        changes.append(SocketChange(socket: socket, kind: .closeOnExec(holder, to)))
      }
      changes += known.state.changes(to: socket.state).compactMap { change in
        if change.field == .closeOnExec { return nil }
        // What could not be asked of a socket without a descriptor has not changed.
        if change.to == nil, ![.peer, .local, .timer].contains(change.field) { return nil }
        if change.from == nil, change.field.weight != .story { return nil }
        return SocketChange(socket: socket, kind: .field(change))
      }
    }
    for socket in before where !new.contains(socket.id) {
      changes.append(SocketChange(socket: socket, kind: .vanished))
    }
    return changes
  }
}
