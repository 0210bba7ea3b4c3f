import CommandLineTool
import Glibc
import KernelState

/// A story's packets for Wireshark: pcapng, with times in nanoseconds and, as a comment on each packet, the step that sent it, or
/// during which it passed.
/// What is written so far is whole at any time.
///
/// See: draft-ietf-opsawg-pcapng, sections 4.1 to 4.3
public final class CaptureTeller: Teller {
  public let output: Output
  private var lastStep = 0

  public init(output: Output) { self.output = output }

  public func tell(_ item: StoryItem) {
    switch item {
    case .opening(let opening):
      write(header(opening))
      write(Self.interface)
    case .step(let step):
      let during = Attribution.sends(step.call) ? "" : "during "
      let call = "\(during)step \(step.number): \(step.text.line)"
      let stray = "before step \(step.number), and not its doing"
      let own = Set(step.ownPackets)
      for packet in step.packets { write(Self.block(packet, comment: own.contains(packet) ? call : stray)) }
      lastStep = step.number
    case .ending(let ending):
      let end = ending.isLetGo ? "after step \(lastStep)" : "after step \(lastStep), at the program's end"
      for packet in ending.packets { write(Self.block(packet, comment: end)) }
    default: break
    }
    output.flush()
  }

  private func write(_ bytes: [UInt8]) { output.write(bytes: bytes) }

  // --- blocks ---

  /// Section Header Block.
  private func header(_ opening: StoryItem.Opening) -> [UInt8] {
    let start = Self.little(UInt32(0x1A2B_3C4D)) + Self.little(UInt16(1)) + Self.little(UInt16(0))
    let command = opening.command.isEmpty ? [opening.tool] : [opening.tool, "--"] + opening.command
    let options =
      Self.option(1, "the packets of: \(command.joined(separator: " "))".printable)
      + Self.option(4, "SocketSteps") + Self.endOfOptions
    return Self.block(0x0A0D_0D0A, start + Self.little(UInt64.max) /* of unknown length */ + options)
  }

  /// Interface Description Block: packets without a link header (LINKTYPE_RAW), of any length, times in units of 10⁻⁹ s.
  private static let interface: [UInt8] = {
    let start = little(UInt16(101)) + little(UInt16(0)) + little(UInt32(0))
    return block(1, start + option(2, "lo") + option(9, [9]) + endOfOptions)
  }()

  /// Enhanced Packet Block.
  private static func block(_ packet: Packet, comment: String) -> [UInt8] {
    let length = UInt32(clamping: packet.bytes.count)
    var body = little(UInt32(0))
    body +=
      little(UInt32(truncatingIfNeeded: packet.time >> 32)) + little(UInt32(truncatingIfNeeded: packet.time))
    body += little(length) + little(length)
    body += padded(packet.bytes)
    return block(6, body + option(1, comment.printable) + endOfOptions)
  }

  private static func block(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
    let length = little(UInt32(clamping: body.count + 12))
    return little(type) + length + body + length
  }

  private static func option(_ code: UInt16, _ text: String) -> [UInt8] {
    // An option's length is a 16-bit number; no call's text comes near it.
    option(code, Array(text.utf8.prefix(32_000)))
  }

  private static func option(_ code: UInt16, _ value: [UInt8]) -> [UInt8] {
    little(code) + little(UInt16(clamping: value.count)) + padded(value)
  }

  private static let endOfOptions: [UInt8] = [0, 0, 0, 0]

  private static func padded(_ bytes: [UInt8]) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
  }

  /// In the byte order that the section header announces.
  private static func little(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
}
