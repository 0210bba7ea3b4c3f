import TestSupport
import Testing

@testable import WebSockets

extension SplitMix {
  mutating func bytes(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count { withUnsafeBytes(of: next()) { bytes += $0 } }
    return Array(bytes.prefix(count))
  }

  /// Places to cut a stream at, in ascending order.
  mutating func cuts(_ count: Int, in size: Int) -> [Int] {
    (0..<count).map { _ in Int.random(in: 0...size, using: &self) }.sorted()
  }
}

/// Bytes from "48 65 6c" or "48656c".
func hex(_ text: some StringProtocol) -> [UInt8] {
  var bytes: [UInt8] = []
  var high: UInt8?
  for letter in text.utf8 {
    let digit: UInt8
    switch letter {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = letter - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = letter - UInt8(ascii: "a") + 10
    default: continue
    }
    if let first = high {
      bytes.append(first << 4 | digit)
      high = nil
    } else {
      high = digit
    }
  }
  return bytes
}

func hex(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

/// What Python prints, line by line.
func python(_ script: String, _ arguments: [String] = [], input: String = "") throws -> [Substring] {
  let python = try #require(Witness.python)
  let result = try Program.run([python, "-c", script] + arguments, input: input)
  try #require(result.status == 0, "\(result.errors)")
  return result.output.split(separator: "\n")
}

extension WebSocketRole {
  /// What frames are masked with that come to this side.
  var incomingMask: [UInt8]? { self == .server ? [0x37, 0xfa, 0x21, 0x3d] : nil }
}

/// A frame by hand: its first byte, the shortest length, a mask where there is one.
func frame(_ first: UInt8, _ payload: [UInt8], mask: [UInt8]? = nil) -> [UInt8] {
  let count = payload.count
  let masked: UInt8 = mask == nil ? 0 : 0x80
  var bytes = [first]
  if count <= 125 {
    bytes.append(masked + UInt8(count))
  } else if count <= 0xffff {
    bytes += [masked + 126, UInt8(count / 256), UInt8(count % 256)]
  } else {
    bytes += [masked + 127, 0, 0, 0, 0, UInt8(count >> 24 & 255), UInt8(count >> 16 & 255)]
    bytes += [UInt8(count >> 8 & 255), UInt8(count & 255)]
  }
  guard let mask else { return bytes + payload }
  return bytes + mask + payload.enumerated().map { $0.element ^ mask[$0.offset % 4] }
}

/// What a reader has handed out: without a reference to the bytes that it was read from.
enum Heard: Equatable, CustomStringConvertible {
  case text([UInt8])
  case binary([UInt8])
  case ping([UInt8])
  case pong([UInt8])
  case close(UInt16?, String)

  init(_ event: WebSocketEvent) {
    switch event {
    case .message(.text, let bytes): self = .text(Array(bytes))
    case .message(.binary, let bytes): self = .binary(Array(bytes))
    case .ping(let bytes): self = .ping(Array(bytes))
    case .pong(let bytes): self = .pong(Array(bytes))
    case .close(let code, let reason): self = .close(code?.rawValue, String(decoding: reason, as: UTF8.self))
    }
  }

  static func text(_ text: String) -> Heard { .text(Array(text.utf8)) }

  var description: String {
    func shown(_ bytes: [UInt8]) -> String { "\(bytes.count) bytes \(hex(bytes.prefix(40)))" }
    return switch self {
    case .text(let bytes): "text \(shown(bytes))"
    case .binary(let bytes): "binary \(shown(bytes))"
    case .ping(let bytes): "ping \(shown(bytes))"
    case .pong(let bytes): "pong \(shown(bytes))"
    case .close(let code, let reason): "close \(code.map { "\($0)" } ?? "without a code") \(reason)"
    }
  }
}

/// What became of a stream.
struct Reading: Equatable {
  var events: [Heard] = []
  var problem: WebSocketViolation?
  /// How many bytes had come when it was given up: with a byte at a time, the earliest place.
  var problemAt = 0
  /// Whether it ended inside a frame or a message.
  var isInside = false

  /// Whether it says the same, wherever the cut was after which it was given up.
  func says(_ other: Reading) -> Bool {
    events == other.events && problem == other.problem && isInside == other.isInside
  }
}

/// Reads a stream that comes in pieces, each in memory of its own, which is overwritten when it was read: a reader that looked at a
/// piece later on would not see what it expects. After a violation it goes on: nothing more may be heard.
func read(_ bytes: [UInt8], cutAt cuts: [Int] = [], _ role: WebSocketRole, limit: Int = 1 << 24) -> Reading {
  var reading = Reading()
  var reader = WebSocketReader(role, limit: limit)
  var from = 0
  for cut in cuts + [bytes.count] {
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: cut - from, alignment: 1)
    defer { piece.deallocate() }
    piece.copyBytes(from: bytes[from..<cut])
    from = cut
    var rest = piece
    do throws(WebSocketViolation) {
      while let event = try reader.next(from: &rest) { reading.events.append(Heard(event)) }
      if rest.count > 0 { Issue.record("\(rest.count) bytes were left over") }
    } catch {
      if reading.problem != nil { Issue.record("a second violation: \(error)") }
      (reading.problem, reading.problemAt) = (error, cut)
      while let event = (try? reader.next(from: &rest)).flatMap({ $0 }) {
        reading.events.append(Heard(event))
      }
    }
    for place in piece.indices { piece[place] = 0xee }
  }
  // Where it stands after a violation means nothing.
  reading.isInside = reading.problem == nil && reader.isInside
  return reading
}
