import SystemCalls

/// One TCP packet, as it passed the loopback interface.
///
/// See: RFC 9293 section 3.1
public struct Packet: Sendable, Hashable {
  /// When, in nanoseconds since 1970, by the kernel's clock.
  public let time: UInt64
  public let from: SocketAddress
  public let to: SocketAddress
  public let flags: [Flag]
  /// As it stood in the header.
  public let sequence: UInt32
  /// As it stood in the header; meaningless without ACK.
  public let acknowledgment: UInt32
  /// The window field, before scaling.
  public let window: UInt16
  public let options: [Option]
  /// Bytes of payload.
  public let length: Int
  /// The whole of it, from the IP header on, as it passed.
  public let bytes: [UInt8]

  public enum Flag: String, Sendable, Hashable, CaseIterable {
    case fin = "FIN"
    case syn = "SYN"
    case rst = "RST"
    case psh = "PSH"
    case ack = "ACK"
    case urg = "URG"
    case ece = "ECE"
    case cwr = "CWR"
  }

  /// See: RFC 9293 section 3.2, RFC 7323, RFC 2018
  public enum Option: Sendable, Hashable, CustomStringConvertible {
    case maximumSegmentSize(UInt16)
    /// The window field counts units of two to this power.
    case windowScale(UInt8)
    case selectiveAcknowledgmentPermitted
    case selectiveAcknowledgment(blocks: Int)
    case timestamps(value: UInt32, echo: UInt32)
    case other(kind: UInt8)

    public var description: String {
      switch self {
      case .maximumSegmentSize(let size): "mss \(size)"
      case .windowScale(let shift): "wscale \(shift)"
      case .selectiveAcknowledgmentPermitted: "sackOK"
      case .selectiveAcknowledgment(let blocks): "sack \(blocks)"
      case .timestamps(let value, let echo): "TS val \(value) ecr \(echo)"
      case .other(let kind): "option \(kind)"
      }
    }
  }

  public func has(_ flag: Flag) -> Bool { flags.contains(flag) }
}

extension Packet {
  /// Takes apart an IPv4 or IPv6 packet that holds TCP. Nil for any other, for fragments and for one that ends too early.
  public init?(bytes: [UInt8], time: UInt64) {
    guard let first = bytes.first else { return nil }
    func big16(_ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
    func big32(_ at: Int) -> UInt32 { UInt32(big16(at)) << 16 | UInt32(big16(at + 2)) }
    let start: Int
    let end: Int
    let source: [UInt8]
    let destination: [UInt8]
    switch first >> 4 {
    case 4:
      start = Int(first & 15) * 4
      guard start >= 20, bytes.count >= start + 20, bytes[9] == 6, big16(6) & 0x1fff == 0 else { return nil }
      end = Int(big16(2))
      source = Array(bytes[12..<16])
      destination = Array(bytes[16..<20])
    case 6:
      start = 40
      guard bytes.count >= start + 20, bytes[6] == 6 else { return nil }
      end = start + Int(big16(4))
      source = Array(bytes[8..<24])
      destination = Array(bytes[24..<40])
    default: return nil
    }
    let headerLength = Int(bytes[start + 12] >> 4) * 4
    guard headerLength >= 20, bytes.count >= start + headerLength else { return nil }

    func address(_ bytes: [UInt8], _ port: UInt16) -> SocketAddress {
      bytes.count == 4 ? .ipv4(address: bytes, port: port) : .ipv6(address: bytes, port: port)
    }
    self.time = time
    self.bytes = bytes
    from = address(source, big16(start))
    to = address(destination, big16(start + 2))
    sequence = big32(start + 4)
    acknowledgment = big32(start + 8)
    let bits = bytes[start + 13]
    flags = Flag.allCases.enumerated().filter { bits >> UInt8($0.offset) & 1 == 1 }.map(\.element)
    window = big16(start + 14)
    options = Self.options(bytes[(start + 20)..<(start + headerLength)])
    // A length of 0 in the IP header: a packet too large for it (BIG TCP); then what arrived counts.
    let total = end > start ? end : bytes.count
    length = max(0, total - start - headerLength)
  }

  private static func options(_ bytes: ArraySlice<UInt8>) -> [Option] {
    var options: [Option] = []
    var rest = bytes
    while let kind = rest.first, kind != 0 {
      if kind == 1 {
        rest = rest.dropFirst()
        continue
      }
      guard rest.count >= 2, case let length = Int(rest[rest.startIndex + 1]), length >= 2,
        length <= rest.count
      else {
        break
      }
      let body = Array(rest.prefix(length).dropFirst(2))
      func big32(_ at: Int) -> UInt32 { body[at..<(at + 4)].reduce(0) { $0 << 8 | UInt32($1) } }
      switch (kind, body.count) {
      case (2, 2): options.append(.maximumSegmentSize(UInt16(body[0]) << 8 | UInt16(body[1])))
      case (3, 1): options.append(.windowScale(body[0]))
      case (4, 0): options.append(.selectiveAcknowledgmentPermitted)
      case (5, let count): options.append(.selectiveAcknowledgment(blocks: count / 8))
      case (8, 8): options.append(.timestamps(value: big32(0), echo: big32(4)))
      default: options.append(.other(kind: kind))
      }
      rest = rest.dropFirst(length)
    }
    return options
  }
}

extension Packet {
  /// The same packet with other numbers in place of those in its header: counted from the connection's start, say.
  public func renumbered(sequence: UInt32, acknowledgment: UInt32) -> Packet {
    Packet(
      time: time, from: from, to: to, flags: flags, sequence: sequence, acknowledgment: acknowledgment,
      window: window,
      options: options, length: length, bytes: bytes)
  }
}
