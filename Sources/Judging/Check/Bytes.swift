import FoundationEssentials

/// Bytes as a check file has them: texts and numbers, in which PORT stands for a port that is known only when the program runs.
public struct Bytes: Sendable, Hashable, Decodable {
  private indirect enum Part: Hashable, Sendable {
    case text(String)
    case raw([UInt8])
    case pattern(Int)
    case repeated(Bytes, Int)
  }

  private var parts: [Part] = []

  /// So many bytes a check may speak of at most.
  private static let limit = 64 << 20

  public init(_ text: String) { parts = [.text(text)] }

  public init(from decoder: any Decoder) throws {
    if let text = try? decoder.singleValueContainer().decode(String.self) {
      parts = [.text(text)]
      return
    }
    if var list = try? decoder.unkeyedContainer() {
      while !list.isAtEnd { parts.append(.repeated(try list.decode(Bytes.self), 1)) }
    } else {
      parts = [try Self.part(decoder)]
    }
    guard let count, count <= Self.limit else {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "that is more than \(Self.limit) bytes"))
    }
  }

  /// How many they are, but for what PORT stands for; nil where the number is too large.
  private var count: Int? {
    var total = 0
    for part in parts {
      let size: (Int, Bool)
      switch part {
      case .text(let text): size = (text.utf8.count, false)
      case .raw(let raw): size = (raw.count, false)
      case .pattern(let count): size = (count, false)
      case .repeated(let bytes, let times):
        guard let once = bytes.count else { return nil }
        size = once.multipliedReportingOverflow(by: times)
      }
      let (sum, isTooMuch) = total.addingReportingOverflow(size.0)
      if size.1 || isTooMuch { return nil }
      total = sum
    }
    return total
  }

  private static let kinds = ["hex", "u8", "u16", "u32", "field", "repeat", "pattern"]

  private static func part(_ decoder: any Decoder) throws -> Part {
    let members = try Members(decoder)
    switch try members.verb(of: kinds, "kind of bytes") {
    case "hex":
      try members.refuse(allBut: ["hex"])
      let text = try members.required("hex", String.self)
      let digits = Array(text.filter { !$0.isWhitespace })
      let bytes = stride(from: 0, to: digits.count, by: 2).map {
        UInt8(String(digits[$0..<min($0 + 2, digits.count)]), radix: 16)
      }
      guard digits.count % 2 == 0, digits.allSatisfy(\.isHexDigit), !bytes.contains(nil) else {
        throw members.mistake("'\(text)' is no list of bytes in hexadecimal, two digits each")
      }
      return .raw(bytes.compactMap { $0 })
    case "u8":
      try members.refuse(allBut: ["u8"])
      return .raw([UInt8(try members.number("u8", in: 0...Int(UInt8.max)) ?? 0)])
    case "u16":
      try members.refuse(allBut: ["u16"])
      return .raw(bigEndian(UInt16(try members.number("u16", in: 0...Int(UInt16.max)) ?? 0)))
    case "u32":
      try members.refuse(allBut: ["u32"])
      return .raw(bigEndian(UInt32(try members.number("u32", in: 0...Int(UInt32.max)) ?? 0)))
    case "field":
      try members.refuse(allBut: ["field", "size"])
      let text = Array(try members.required("field", String.self).utf8)
      guard let size = try members.number("size", in: 1...65536) else {
        throw members.mistake("'size' is missing")
      }
      guard text.count <= size else {
        throw members.mistake("the text has \(text.count) bytes, and the field \(size)")
      }
      return .raw(text + [UInt8](repeating: 0, count: size - text.count))
    case "repeat":
      try members.refuse(allBut: ["repeat", "times"])
      let bytes = try members.required("repeat", Bytes.self)
      guard let times = try members.number("times", in: 0...limit) else {
        throw members.mistake("'times' is missing")
      }
      return .repeated(bytes, times)
    default:
      try members.refuse(allBut: ["pattern"])
      return .pattern(try members.number("pattern", in: 0...limit) ?? 0)
    }
  }

  private static func bigEndian(_ number: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: number.bigEndian) { Array($0) }
  }

  /// Bytes of which no two stretches are alike, so that what is lost, doubled or exchanged shows: the numbers from 0 on, four
  /// bytes each, mixed up by a multiplication.
  static func pattern(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 4)
    var number: UInt32 = 0
    while bytes.count < count {
      bytes += bigEndian(number &* 2_654_435_761)
      number &+= 1
    }
    return Array(bytes.prefix(count))
  }

  /// With the port that PORT stands for.
  func resolved(port: UInt16) -> [UInt8] {
    parts.reduce(into: []) { bytes, part in
      switch part {
      case .text(let text): bytes += Array(text.withPort(port).utf8)
      case .raw(let raw): bytes += raw
      case .pattern(let count): bytes += Self.pattern(count)
      case .repeated(let other, let times):
        let once = other.resolved(port: port)
        if !once.isEmpty { for _ in 0..<times { bytes += once } }
      }
    }
  }
}

extension String {
  /// With the port in place of the word PORT.
  func withPort(_ port: UInt16) -> String { replacing(/\bPORT\b/, with: "\(port)") }
}
