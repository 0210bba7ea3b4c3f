import CommandLineTool
import Glibc
import KernelState
import SystemCalls
import Tracing

/// A story as its picture shows it: bands from the top down, and what happened in each to which socket. It holds the end of
/// the story only, so that it stays small while a server is followed for days.
struct Picture {
  private(set) var bands: [Band] = []
  private(set) var lifelines: [Int: Lifeline] = [:]
  /// Steps that changed something, and stand no longer here.
  private(set) var stepsLeftOut = 0
  private(set) var socketsLeftOut = 0

  private var steps = 0
  private var nextBand = 0
  private var nextAddress = -1
  private var newestSocket = 0
  /// The lifelines of connections, by local and peer address, and those that are an address only.
  private var ends: [[SocketAddress]: Int] = [:]
  private var addresses: [SocketAddress: Int] = [:]
  /// The process that made the first call; others are named.
  private var firstProcess: pid_t?
  private var names = ProcessNames()
  /// Processes that made a call.
  private var processes: Set<pid_t> = []
  /// Advice is given once.
  private var adviceGiven: Set<String> = []

  private static let stepLimit = 200
  private static let bandLimit = 500
  /// Sockets that are drawn at one time.
  private static let liveLimit = 64
  /// Packets that are drawn of one step.
  private static let arrowLimit = 20
  /// Calls without effect that are drawn in a row.
  private static let quietLimit = 3
  private static let missesLimit = 8

  // --- what happens ---

  mutating func add(_ step: Step) {
    if firstProcess == nil {
      firstProcess = step.call.process
      names.begin(with: step.call.process)
      inherit(step)
    }
    addMeanwhile(step.meanwhile, step.strayPackets, among: step.before + step.after)
    var band = Band(serial: nextBand, kind: .meanwhile)
    let changes = Dictionary(grouping: step.changes) { $0.socket.id }
    // What else is different is the doing of a call that has not returned, and is told with that.
    for socket in step.after {
      if let changes = changes[socket.id] { update(socket, changes, by: step, in: &band) }
    }
    endAll(except: Set(step.after.map(\.id)), changes, in: &band)
    add(step.ownPackets, among: step.before + step.after, in: &band)
    let process = step.call.process
    var line = Band.CallLine(step, prefix: names.prefix(step.call))
    // Each sentence once; but what was done to a call stands beside each such call.
    if let advice = Advice.text(for: step),
      step.call.injection != nil || adviceGiven.count < 64 && adviceGiven.insert(advice).inserted
    {
      line.advice = advice
    }
    processes.insert(process)
    if band.isEmpty, line.advice == nil {
      addQuiet(line)
    } else {
      band.kind = .step(line)
      append(band)
    }
  }

  mutating func add(words: String, of process: pid_t) {
    append(Band(serial: nextBand, kind: .words(Self.flowing(names.speech(words, of: process)))))
  }

  mutating func add(note: String) { append(Band(serial: nextBand, kind: .note(Self.flowing(note)))) }

  mutating func add(_ opening: StoryItem.Opening) { names.note(opening) }

  mutating func add(_ event: StoryItem.ProcessEvent, of process: pid_t) {
    names.note(event, of: process)
    // Processes that have nothing to do with sockets, a shell's helpers say, are not part of the story.
    if case .started(let parent?) = event {
      guard processes.contains(parent) else { return }
      processes.insert(process)
    }
    guard processes.contains(process) else { return }
    add(note: names.text(event, of: process))
    if case .ended = event { processes.remove(process) }
  }

  mutating func add(_ ending: StoryItem.Ending) {
    let text = ending.text + (firstProcess != nil ? "" : " No socket call is part of this story.")
    var band = Band(serial: nextBand, kind: .ending(text))
    let changes = Dictionary(grouping: ending.changes) { $0.socket.id }
    for socket in ending.sockets { update(socket, changes[socket.id] ?? [], by: nil, in: &band) }
    endAll(except: Set(ending.sockets.map(\.id)), changes, in: &band)
    add(ending.packets, among: ending.sockets, in: &band)
    append(band)
  }

  /// What the program was born with has no beginning in the story.
  private mutating func inherit(_ step: Step) {
    let new = Set((step.meanwhile + step.changes).filter { $0.kind == .appeared }.map(\.socket.id))
    var band = Band(serial: -1, kind: .meanwhile)
    for socket in step.before where !new.contains(socket.id) { update(socket, [], by: nil, in: &band) }
  }

  private mutating func addMeanwhile(
    _ changes: [SocketChange], _ packets: [Packet], among sockets: [SocketSnapshot]
  ) {
    var band = Band(serial: nextBand, kind: .meanwhile)
    let groups = Dictionary(grouping: changes) { $0.socket.id }
    for (_, changes) in groups.sorted(by: { $0.key < $1.key }) {
      guard let last = changes.last else { continue }
      if last.kind == .vanished {
        end(last.socket.id, changes, in: &band)
      } else {
        update(last.socket, changes, by: nil, in: &band)
      }
    }
    add(packets, among: sockets, in: &band)
    if !band.isEmpty { append(band) }
  }

  // --- sockets ---

  private mutating func update(
    _ socket: SocketSnapshot, _ changes: [SocketChange], by step: Step?, in band: inout Band
  ) {
    var now = standing(of: socket)
    // Who holds it cannot be seen any more: no news.
    if now.title == "peer", let title = lifelines[socket.id]?.now.title, title.hasPrefix("peer") {
      now.title = title
    }
    var mark = Mark(lifeline: socket.id)
    var line: Lifeline
    if let known = lifelines[socket.id], known.isAlive {
      line = known
      if now.title != line.now.title { mark.title = now.title }
      mark.isStateChange = now.state != line.now.state
      if mark.isStateChange || now.headline != line.now.headline { mark.standing = now }
      mark.remarks = now.remarks(since: line.now)
      if line.local == nil, mark.standing == nil, case .unixPath? = socket.state.local {
        mark.remarks.append("bound")
      }
      mark.remarks += changes.compactMap { $0.remark(by: step, isStateChange: mark.isStateChange) }
    } else {
      guard let new = begin(socket, now, in: band) else { return }
      line = new
      mark.isBirth = true
      mark.isStateChange = true
      mark.standing = now
      mark.remarks = now.remarks(since: nil)
    }
    line.now = now
    line.misses = 0
    let isLeft = socket.holders.isEmpty && now.state == TCPState.timeWait.name
    line.isLeftSince = isLeft ? line.isLeftSince ?? band.serial : nil
    if let local = socket.state.local, !local.isUnspecified {
      if mark.isBirth { line.localAtBirth = local }
      // What bind gives stands in the headline; what connect gives, nowhere else.
      if line.local == nil, !mark.isBirth, socket.state.peer != nil {
        mark.remarks.append("port \(local.port)")
      }
      line.local = local
    }
    if let peer = socket.state.peer { line.peer = peer }
    line.bound = socket.state.isTCP && socket.state.peer == nil ? socket.state.local?.canonical : nil
    if let step, step.call.systemCall == .connect, step.concerns(socket) { line.dials = true }
    lifelines[socket.id] = line
    if socket.state.isTCP { join(socket) }
    guard mark.isVisible else { return }
    mark.details = changes.compactMap(\.words).details
    band.marks.append(mark)
  }

  /// A lifeline for a socket that has none; nil where there are too many.
  private mutating func begin(_ socket: SocketSnapshot, _ now: Lifeline.Standing, in band: Band) -> Lifeline?
  {
    if var known = lifelines[socket.id] {
      known.isAlive = true
      known.last = .max
      return known
    }
    guard socket.id > newestSocket else { return nil }  // it was counted
    newestSocket = socket.id
    guard lifelines.values.count(where: { $0.isAlive && $0.isLeftSince == nil }) < Self.liveLimit else {
      socketsLeftOut += 1
      return nil
    }
    return Lifeline(id: socket.id, first: band.serial, last: .max, start: now, now: now)
  }

  /// Remembers a connection's end, and finds its other one.
  private mutating func join(_ socket: SocketSnapshot) {
    guard let local = socket.state.local?.canonical, let peer = socket.state.peer?.canonical else { return }
    ends[[local, peer]] = socket.id
    guard let other = ends[[peer, local]], other != socket.id else { return }
    lifelines[socket.id]?.partner = other
    lifelines[other]?.partner = socket.id
  }

  private mutating func endAll(
    except ids: Set<Int>, _ changes: [Int: [SocketChange]], in band: inout Band
  ) {
    for id in lifelines.values.filter({ $0.isAlive && !ids.contains($0.id) }).map(\.id).sorted() {
      let changes = changes[id] ?? []
      // Its end may be the doing of a call that has not returned; then it is told with that.
      if changes.isEmpty, let misses = lifelines[id]?.misses, misses < Self.missesLimit {
        lifelines[id]?.misses += 1
      } else {
        end(id, changes, in: &band)
      }
    }
  }

  private mutating func end(_ id: Int, _ changes: [SocketChange], in band: inout Band) {
    guard let line = lifelines[id], line.isAlive else { return }
    // A socket may also be let go of because there are too many.
    let isGone = changes.contains { $0.kind == .vanished }
    lifelines[id]?.isAlive = false
    lifelines[id]?.last = band.serial
    var mark = Mark(lifeline: id)
    mark.end = isGone ? .gone : .outOfSight
    mark.details = changes.compactMap(\.words).details
    band.marks.append(mark)
  }

  private func standing(of socket: SocketSnapshot) -> Lifeline.Standing {
    var title = socket.label
    if let holder = socket.holders.first, let firstProcess, let name = names[holder.process],
      holder.process == firstProcess || !socket.holders.contains(where: { $0.process == firstProcess })
    {
      title = "\(name) \(title)"
    } else if title == "peer", let owner = socket.owner {
      title += " · \(owner.name)"
    }
    return Lifeline.Standing(
      title: title, headline: socket.state.headline, state: socket.state.state,
      waiting: socket.state.waiting, sending: socket.state.isTCP ? socket.state.number(.sendQueue) ?? 0 : 0)
  }

  // --- packets ---

  private mutating func add(_ packets: [Packet], among sockets: [SocketSnapshot], in band: inout Band) {
    band.arrowsLeftOut += max(0, packets.count - Self.arrowLimit)
    for packet in packets.prefix(Self.arrowLimit) {
      let from = packet.from.canonical
      let to = packet.to.canonical
      // An accept that has not returned yet will tell of one of them.
      for socket in sockets where ends[[from, to]] == nil || ends[[to, from]] == nil {
        guard socket.state.isTCP, let local = socket.state.local?.canonical,
          let peer = socket.state.peer?.canonical, [[from, to], [to, from]].contains([local, peer])
        else { continue }
        if lifelines[socket.id] == nil { update(socket, [], by: nil, in: &band) }
      }
      var near = find(from, to, in: band)
      var far = find(to, from, in: band)
      if near == nil, far != nil { near = address(from, beside: far, sockets, in: &band) }
      if far == nil, near != nil { far = address(to, beside: near, sockets, in: &band) }
      guard let near, let far else {
        band.arrowsLeftOut += 1
        continue
      }
      if packet.has(.syn), !packet.has(.ack) { lifelines[near]?.dials = true }
      for id in [near, far] {
        if let last = lifelines[id]?.last, last < band.serial { lifelines[id]?.last = band.serial }
        if lifelines[id]?.isLeftSince != nil { lifelines[id]?.isLeftSince = band.serial }
      }
      band.arrows.append(Arrow(packet, from: near, to: far))
    }
  }

  private func find(_ near: SocketAddress, _ far: SocketAddress, in band: Band) -> Int? {
    if let id = ends[[near, far]] { return id }
    let taking = lifelines.values.filter { ($0.isAlive || $0.last >= band.serial) && $0.takes(near) }
    // Of two with the same port, the one that listens.
    return taking.min { ($0.isListening ? 0 : 1, $0.id) < ($1.isListening ? 0 : 1, $1.id) }?.id
  }

  /// A lifeline for an address of which no socket was seen; nil where one was, and there was no room for it.
  private mutating func address(
    _ address: SocketAddress, beside other: Int?, _ sockets: [SocketSnapshot], in band: inout Band
  ) -> Int? {
    if let known = addresses[address] { return known }
    guard socketsLeftOut == 0 else { return nil }
    let id = nextAddress
    nextAddress -= 1
    let standing = Lifeline.Standing(title: ":\(address.port)", headline: "")
    var line = Lifeline(id: id, first: band.serial, last: band.serial, start: standing, now: standing)
    line.local = address
    line.isAlive = false
    line.isAddress = true
    line.partner = other
    lifelines[id] = line
    addresses[address] = id
    if let other, lifelines[other]?.partner == nil { lifelines[other]?.partner = id }
    band.marks.append(Mark(lifeline: id, isBirth: true))
    return id
  }

  // --- bands ---

  /// A call that changed nothing.
  private mutating func addQuiet(_ line: Band.CallLine) {
    if let last = bands.indices.last {
      if case .step(var before) = bands[last].kind, line.isFailure, bands[last].isEmpty,
        before.call == line.call, before.result == line.result
      {
        before.repetitions += 1
        bands[last].kind = .step(before)
        return
      }
      if !line.isFailure, case .quiet(var lines, var more, var names) = bands[last].kind {
        if lines.count < Self.quietLimit {
          lines.append(line)
        } else {
          more += 1
          let name = String(line.call.prefix { $0 != "(" })
          if !names.contains(name), names.count < 6 { names.append(name) }
        }
        bands[last].kind = .quiet(lines, more: more, names: names)
        return
      }
    }
    append(
      Band(serial: nextBand, kind: line.isFailure ? .step(line) : .quiet([line], more: 0, names: [])))
  }

  private mutating func append(_ band: Band) {
    bands.append(band)
    nextBand = max(nextBand, band.serial) + 1
    if band.isStep { steps += 1 }
    guard steps > Self.stepLimit || bands.count > Self.bandLimit else { return }
    while steps > Self.stepLimit || bands.count > Self.bandLimit {
      let old = bands.removeFirst()
      for mark in old.marks {
        if let title = mark.title { lifelines[mark.lifeline]?.start.title = title }
        if let standing = mark.standing { lifelines[mark.lifeline]?.start = standing }
      }
      if old.isStep {
        steps -= 1
        stepsLeftOut += 1
      }
    }
    let oldest = bands.first?.serial ?? nextBand
    lifelines = lifelines.filter { $0.value.isAlive || $0.value.last >= oldest }
    ends = ends.filter { lifelines[$0.value] != nil }
    addresses = addresses.filter { lifelines[$0.value] != nil }
  }

  /// A lesson's source breaks its lines where the source is wide; here they flow anew.
  private static func flowing(_ text: String) -> String {
    String(text.prefix(4096)).split(separator: "\n").joined(separator: " ").printable
  }
}
