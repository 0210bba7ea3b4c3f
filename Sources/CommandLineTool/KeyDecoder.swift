/// Makes keys of the bytes that a terminal sends: UTF-8 text, control characters, and escape sequences, of which those that
/// mean nothing here are swallowed whole. Any bytes may come.
///
/// See: console_codes(4), ECMA-48 section 5.4, XTerm Control Sequences, RFC 3629
struct KeyDecoder {
  private enum State {
    case ground
    /// Within a character: its value so far, how many bytes are to come, what the next one may be, and whether it belongs to
    /// an escape sequence.
    case text(UInt32, left: Int, next: ClosedRange<UInt8>, swallowed: Bool)
    /// After ESC.
    case escape
    /// After ESC [, with what came before the final byte.
    case control([UInt8])
    /// After ESC [ [, the Linux console's function keys: one byte is to come.
    case consoleKey
    /// After ESC O, where some terminals put the modifiers before the final byte.
    case singleShift(isModified: Bool)
    /// Within a string (ESC ], ESC P …), an answer of the terminal say, until BEL or ESC \.
    case string
    case stringEscape
  }

  private var state = State.ground

  /// Whether an escape sequence has begun. Its rest follows at once, or it is the ESC key alone; then see `giveUp`.
  var isWithinEscape: Bool {
    switch state {
    case .ground, .text: false
    default: true
    }
  }

  /// Forgets what has begun: its rest did not come.
  mutating func giveUp() { state = .ground }

  /// Takes one byte, and returns the keys that it completes.
  mutating func take(_ byte: UInt8) -> [EditedLine.Key] {
    switch state {
    case .ground:
      return begin(byte, swallowed: false)

    case .text(let value, let left, let next, let swallowed):
      guard next.contains(byte) else { return [.refused] + again(byte) }
      let value = value << 6 | UInt32(byte & 0x3f)
      guard left == 1 else {
        state = .text(value, left: left - 1, next: 0x80...0xbf, swallowed: swallowed)
        return []
      }
      state = .ground
      return swallowed ? [] : Unicode.Scalar(value).map(Self.key(for:)) ?? [.refused]

    case .escape:
      switch byte {
      case UInt8(ascii: "["): state = .control([])
      case UInt8(ascii: "O"): state = .singleShift(isModified: false)
      case UInt8(ascii: "P"), UInt8(ascii: "X"), UInt8(ascii: "]"), UInt8(ascii: "^"), UInt8(ascii: "_"):
        state = .string
      case 0x1b: break
      case ..<0x20: return again(byte)
      case 0x80...: return begin(byte, swallowed: true)
      default: state = .ground  // a key with Alt
      }
      return []

    case .control(let before):
      switch byte {
      case UInt8(ascii: "[") where before.isEmpty:
        state = .consoleKey
      case 0x20...0x3f:
        // No sequence known here is longer than this.
        if before.count < 16 { state = .control(before + [byte]) }
      case 0x40...0x7e:
        state = .ground
        return Self.key(final: byte, after: before)
      default:
        return again(byte)
      }
      return []

    case .consoleKey:
      state = .ground
      return byte < 0x20 ? again(byte) : []

    case .singleShift(let isModified):
      switch byte {
      case 0x30...0x3f:
        state = .singleShift(isModified: true)
        return []
      case 0x40...0x7e:
        state = .ground
        if isModified { return [] }
        return byte == UInt8(ascii: "M") ? [.enter] : Self.key(final: byte, after: [])
      default: return again(byte)
      }

    case .string:
      switch byte {
      case 0x07, 0x18, 0x1a: state = .ground
      case 0x1b: state = .stringEscape
      default: break
      }
      return []

    case .stringEscape:
      if byte == UInt8(ascii: "\\") {
        state = .ground
        return []
      }
      state = .escape
      return take(byte)
    }
  }

  /// What had begun is broken off by a byte that does not belong to it.
  private mutating func again(_ byte: UInt8) -> [EditedLine.Key] {
    state = .ground
    return begin(byte, swallowed: false)
  }

  private mutating func begin(_ byte: UInt8, swallowed: Bool) -> [EditedLine.Key] {
    state = .ground
    // The second byte's range keeps out overlong forms, surrogates, and what lies beyond U+10FFFF. See: RFC 3629, section 4
    switch byte {
    case 0x1b: state = .escape
    case ..<0x80: return Self.key(for: Unicode.Scalar(byte))
    case 0xc2...0xdf:
      state = .text(UInt32(byte & 0x1f), left: 1, next: 0x80...0xbf, swallowed: swallowed)
    case 0xe0...0xef:
      let next: ClosedRange<UInt8> = byte == 0xe0 ? 0xa0...0xbf : byte == 0xed ? 0x80...0x9f : 0x80...0xbf
      state = .text(UInt32(byte & 0x0f), left: 2, next: next, swallowed: swallowed)
    case 0xf0...0xf4:
      let next: ClosedRange<UInt8> = byte == 0xf0 ? 0x90...0xbf : byte == 0xf4 ? 0x80...0x8f : 0x80...0xbf
      state = .text(UInt32(byte & 0x07), left: 3, next: next, swallowed: swallowed)
    default: return [.refused]
    }
    return []
  }

  private static func key(for scalar: Unicode.Scalar) -> [EditedLine.Key] {
    func control(_ letter: Unicode.Scalar) -> UInt32 { letter.value & 0x1f }
    switch scalar.value {
    case control("A"): return [.start]
    case control("B"): return [.left]
    case control("C"): return [.interrupt]
    case control("D"): return [.deleteOrEnd]
    case control("E"): return [.end]
    case control("F"): return [.right]
    case control("H"), 0x7f: return [.backspace]
    case control("I"): return [.tab]
    case control("J"), control("M"): return [.enter]
    case control("K"): return [.eraseToEnd]
    case control("L"): return [.clearScreen]
    case control("N"): return [.down]
    case control("P"): return [.up]
    case control("U"): return [.eraseToStart]
    case control("W"): return [.eraseWord]
    case control("Z"): return [.suspend]
    case ..<0x20, 0x80...0x9f: return [.refused]
    default: return [.text(scalar)]
    }
  }

  private static func key(final: UInt8, after before: [UInt8]) -> [EditedLine.Key] {
    switch (String(decoding: before, as: UTF8.self), Unicode.Scalar(final)) {
    case ("", "A"): [.up]
    case ("", "B"): [.down]
    case ("", "C"): [.right]
    case ("", "D"): [.left]
    case ("", "H"), ("1", "~"), ("7", "~"): [.start]
    case ("", "F"), ("4", "~"), ("8", "~"): [.end]
    case ("3", "~"): [.delete]
    default: []
    }
  }
}
