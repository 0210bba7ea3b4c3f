import KernelState
import SystemCalls

/// Counts sequence numbers from each connection's own start, as Wireshark does.
struct RelativeSequences {
  private struct Direction: Hashable {
    let from: SocketAddress
    let to: SocketAddress
  }

  private var starts: [Direction: UInt32] = [:]

  /// The packet with its numbers counted from the SYN of its direction, or from the first packet seen of it.
  mutating func number(_ packet: Packet) -> Packet {
    // A story may see any number of connections: what is forgotten is counted anew.
    if starts.count > 8192 { starts.removeAll() }
    let there = Direction(from: packet.from, to: packet.to)
    let back = Direction(from: packet.to, to: packet.from)
    if packet.has(.syn) || starts[there] == nil { starts[there] = packet.sequence }
    if packet.has(.ack), starts[back] == nil { starts[back] = packet.acknowledgment }
    return packet.renumbered(
      sequence: packet.sequence &- (starts[there] ?? 0),
      acknowledgment: packet.has(.ack) ? packet.acknowledgment &- (starts[back] ?? 0) : 0)
  }
}
