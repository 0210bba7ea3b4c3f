import CommandLineTool
import KernelState
import SystemCalls

/// The packets of one step, drawn between the two ends of each connection.
struct PacketLadder {
  /// Which address stands on the left, by connection. It stays for the whole story.
  private var left: [Set<SocketAddress>: SocketAddress] = [:]

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
    return order.flatMap { ends -> [String] in
      guard let packets = groups[ends], let near = left[ends], let first = packets.first else { return [] }
      let far = near == first.from ? first.to : first.from
      return draw(packets, near: near, far: far, width: width, color: color, label: label)
    }
  }

  private func draw(
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
      let text = Self.text(packet).truncated(to: inner - 5)
      let dashes = String(repeating: "─", count: inner - text.count - 5)
      let arrow = packet.from == near ? "── \(text) \(dashes)▶" : "◀─ \(text) \(dashes)─"
      let isReset = packet.has(.rst)
      lines.append(
        String(repeating: " ", count: margin) + "│"
          + (isReset ? Style.bad : Style.packet)(arrow, color: color) + "│")
    }
    return lines
  }

  /// "SYN seq 0 mss 65495", "PSH ACK seq 1, 15 bytes"
  private static func text(_ packet: Packet) -> String {
    var words = [packet.flagText]
    if packet.has(.syn) || packet.has(.fin) || packet.length > 0 || packet.has(.rst) {
      words.append("seq \(packet.sequence)")
    }
    if packet.has(.ack) { words.append("ack \(packet.acknowledgment)") }
    if packet.length > 0 { words.append(counted(packet.length, "byte")) }
    if packet.has(.syn) {
      words += packet.options.compactMap { if case .maximumSegmentSize = $0 { $0.description } else { nil } }
    }
    if packet.window == 0, !packet.has(.rst) { words.append("window 0") }
    return words[0].padded(to: 8) + words.dropFirst().map { " " + $0 }.joined(separator: " ")
  }
}
