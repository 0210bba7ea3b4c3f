import CommandLineTool
import KernelState
import SystemCalls

/// The packets of one step, drawn between the two ends of each connection.
struct PacketLadder {
  /// Which address stands on the left, by connection. It stays for the whole story.
  private var left: [Set<SocketAddress>: SocketAddress] = [:]

  /// The number after the last byte sent, by direction.
  private var next: [[SocketAddress]: UInt32] = [:]

  /// The lines, at most `width` columns wide. `label` names the socket with a local and a peer address.
  mutating func lines(
    of packets: [Packet], width: Int, color: Bool, label: (SocketAddress, SocketAddress) -> String?
  ) -> [String] {
    if left.count > 4096 { left.removeAll() }
    var order: [Set<SocketAddress>] = []
    var groups: [Set<SocketAddress>: [Packet]] = [:]
    for packet in packets {
      let ends: Set = [packet.from, packet.to]
      if groups[ends] == nil { order.append(ends) }
      groups[ends, default: []].append(packet)
      // The side that dials stands on the left.
      if packet.has(.syn), !packet.has(.ack) {
        left[ends] = packet.from
      } else if left[ends] == nil {
        left[ends] = packet.from
      }
    }
    var lines: [String] = []
    for ends in order {
      guard let packets = groups[ends], let near = left[ends], let first = packets.first else { continue }
      let far = near == first.from ? first.to : first.from
      lines += draw(packets, near: near, far: far, width: width, color: color, label: label)
    }
    return lines
  }

  private mutating func draw(
    _ packets: [Packet], near: SocketAddress, far: SocketAddress, width: Int, color: Bool,
    label: (SocketAddress, SocketAddress) -> String?
  ) -> [String] {
    let margin = width >= 60 ? 9 : 2
    let inner = max(20, min(52, width - 2 * margin - 2))
    let nearTitle = [label(near, far), ":\(near.port)"].compactMap { $0 }.joined(separator: " ")
    let farTitle = [":\(far.port)", label(far, near)].compactMap { $0 }.joined(separator: " ")
    // Each title stands over its bar, as far as there is room.
    let start = max(0, margin - nearTitle.count / 2)
    let end = max(start + nearTitle.count + 2, margin + inner + 1 - farTitle.count / 2)
    let title =
      (String(repeating: " ", count: start) + nearTitle).padded(to: min(end, width - farTitle.count))
      + farTitle
    var lines = [title.truncated(to: width)]
    let limit = 16
    // A long transfer: how it begins, and how it ends.
    let isLong = packets.count > limit + 1
    let omitted = isLong ? packets.dropFirst(limit - 4).dropLast(4) : []
    for (index, packet) in packets.enumerated() {
      let isProbe = isProbe(packet)
      if isLong, omitted.indices.contains(index) {
        guard index == omitted.startIndex else { continue }
        let bytes = omitted.reduce(0) { $0 &+ $1.length }
        let text = "… \(omitted.count) more packets, \(bytes) bytes …".truncated(to: inner)
        let space = inner - text.count
        lines.append(
          String(repeating: " ", count: margin) + "│"
            + Style.packet(String(repeating: " ", count: space / 2) + text, color: color)
            + String(repeating: " ", count: space - space / 2) + "│")
        continue
      }
      let text = Self.text(packet, room: inner - 5, isProbe: isProbe)
      let dashes = String(repeating: "─", count: inner - text.count - 5)
      let arrow = packet.from == near ? "── \(text) \(dashes)▶" : "◀─ \(text) \(dashes)─"
      let isReset = packet.has(.rst)
      lines.append(
        String(repeating: " ", count: margin) + "│"
          + (isReset ? Style.bad : Style.packet)(arrow, color: color) + "│")
    }
    return lines
  }

  /// Whether a packet asks a closed window, or a silent peer, to answer: no bytes, and a number that is acknowledged already.
  private mutating func isProbe(_ packet: Packet) -> Bool {
    if next.count > 4096 { next.removeAll() }
    let direction = [packet.from, packet.to]
    let known = next[direction]
    let taken = UInt32(clamping: packet.length) &+ (packet.has(.syn) ? 1 : 0) &+ (packet.has(.fin) ? 1 : 0)
    if let known, taken == 0, packet.flags == [.ack], packet.sequence == known &- 1 { return true }
    if packet.has(.syn) || known.map({ Int32(bitPattern: packet.sequence &+ taken &- $0) > 0 }) ?? true {
      next[direction] = packet.sequence &+ taken
    }
    return false
  }

  /// "SYN seq 0 mss 65495", "PSH ACK seq 1, 15 bytes"; what says least is left out where there is little room.
  private static func text(_ packet: Packet, room: Int, isProbe: Bool) -> String {
    let flags = packet.flagText
    let showsSequence =
      isProbe || packet.has(.syn) || packet.has(.fin) || packet.length > 0 || packet.has(.rst)
    var words: [(text: String, weight: Int)] = []
    if isProbe { words.append(("probe", 3)) }
    if showsSequence { words.append(("seq \(packet.sequence)", isProbe ? 3 : 1)) }
    if packet.has(.ack) {
      words.append(("ack \(packet.acknowledgment)", packet.length > 0 || showsSequence ? 0 : 2))
    }
    if packet.length > 0 { words.append((counted(packet.length, "byte"), 3)) }
    if packet.has(.syn) {
      words += packet.options.compactMap {
        if case .maximumSegmentSize = $0 { ($0.description, 2) } else { nil }
      }
    }
    if packet.window == 0, !packet.has(.rst) { words.append(("window 0", 3)) }
    func line(_ weight: Int) -> String {
      flags.padded(to: 8) + words.filter { $0.weight >= weight }.map { " " + $0.text }.joined(separator: " ")
    }
    return ((0...3).map(line).first { $0.count <= room } ?? line(3)).truncated(to: room)
  }
}
