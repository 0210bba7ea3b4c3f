/// What two servers say to each other: text messages over a WebSocket with a subprotocol of its own.
///
/// - `hello INSTANCE NAME`: the first message, both ways. INSTANCE is another number each time a server starts, in hexadecimal.
/// - `all INSTANCE NUMBER SENDER`, a line end, and a text: for all clients. INSTANCE is the server's whose client has sent it, and
///   NUMBER counts its messages from 1: so a text that comes over several links is delivered once.
public enum LinkMessage: Hashable, Sendable {
  case hello(instance: UInt64, name: String)
  case all(MessageForAll)

  /// The subprotocol of a link between servers, and the one of a client that wants to know who has sent a message for all.
  public static let (linkProtocol, namedProtocol) = ("link.socketsteps", "named.socketsteps")
  /// What a client's text begins with that is meant for all.
  public static let mark = "/all "
  /// Bytes before the text of a message for all, at most.
  static let longestHead = 512

  /// Whether a client's text is meant for all: the mark, and something behind it.
  static func isMarked(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.count > mark.utf8.count && bytes[0] == UInt8(ascii: "/") && bytes.starts(with: mark.utf8)
  }

  /// What a client is sent that wants to know who has sent a message for all: the mark, the sender, a line end, the text.
  static func named(_ message: MessageForAll) -> String { "\(mark)\(message.sender)\n\(message.text)" }

  /// Takes that apart. Nil where it is something else.
  public static func sender(of text: String) -> (sender: String, text: String)? {
    let scalars = text.unicodeScalars
    guard scalars.starts(with: mark.unicodeScalars), let end = scalars.firstIndex(of: "\n") else {
      return nil
    }
    let sender = scalars[..<end].dropFirst(mark.unicodeScalars.count)
    return (String(sender), String(scalars[scalars.index(after: end)...]))
  }

  /// - Throws: why that is no such message.
  public init(_ bytes: UnsafeRawBufferPointer) throws(LinkMistake) {
    // What a session hands out as a text is valid UTF-8.
    let text = String(decoding: bytes, as: UTF8.self).unicodeScalars
    // By scalars: a name may begin with one that would be one character with the space before it.
    func split(_ text: Substring.UnicodeScalarView, _ separator: Unicode.Scalar, _ most: Int) -> [Substring] {
      text.split(separator: separator, maxSplits: most, omittingEmptySubsequences: false).map(Substring.init)
    }
    let parts = split(text[...], "\n", 1)
    let words = split(parts[0].unicodeScalars, " ", 3)
    switch words.first {
    case "hello":
      let name = split(parts[0].unicodeScalars, " ", 2).dropFirst(2)
      guard parts.count == 1, words.count >= 3, let instance = UInt64(words[1], radix: 16),
        let name = name.first, Self.isName(name)
      else { throw LinkMistake("a hello has an instance and a name") }
      self = .hello(instance: instance, name: String(name))
    case "all":
      guard parts.count == 2, words.count == 4, let origin = UInt64(words[1], radix: 16),
        let number = UInt64(words[2]), number > 0, number < 1 << 62, Self.isSender(words[3])
      else {
        throw LinkMistake(
          "a message for all has an instance, a number from 1 on and a sender before its text")
      }
      self = .all(
        MessageForAll(origin: origin, number: number, sender: String(words[3]), text: String(parts[1])))
    default: throw LinkMistake("a link's message begins with hello or all")
    }
  }

  public var text: String {
    switch self {
    case .hello(let instance, let name): "hello \(String(instance, radix: 16)) \(name)"
    case .all(let message):
      "all \(String(message.origin, radix: 16)) \(message.number) \(message.sender)\n\(message.text)"
    }
  }

  static func isName(_ text: some StringProtocol) -> Bool {
    (1...64).contains(text.utf8.count) && isPlain(text)
  }

  private static func isSender(_ text: some StringProtocol) -> Bool {
    (1...200).contains(text.utf8.count) && isPlain(text)
  }

  private static func isPlain(_ text: some StringProtocol) -> Bool {
    !text.unicodeScalars.contains { $0.properties.generalCategory == .control }
  }
}

/// A text for all clients of all servers that are linked.
public struct MessageForAll: Hashable, Sendable {
  /// The instance of the server whose client has sent it.
  public let origin: UInt64
  /// Counted by that server, from 1 on.
  public let number: UInt64
  /// "A 127.0.0.1:50000": that server's name, and the client's address.
  public let sender: String
  public let text: String
}

/// Why words of a link make no sense.
public struct LinkMistake: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = description }
}

/// Which messages have been delivered, so that none is twice, whatever way it comes.
///
/// Of each origin it remembers the highest number, and the gaps below it: links may be cut in the middle, and another one bring later
/// what the first has lost. What came before an origin's first message here is a gap, too, for the links begin at different times.
struct Deliveries {
  private struct Origin {
    var highest: UInt64 = 0
    /// Numbers that have not come, in ascending order.
    var missing: [Range<UInt64>] = []
    var lastHeard = 0
  }

  private var origins: [UInt64: Origin] = [:]
  private var time = 0

  /// Origins that are remembered, and gaps of each: every link keeps the order, so that there is hardly more than one gap for each
  /// time that one was cut. A server that starts again is another origin.
  private static let (mostOrigins, mostGaps) = (1024, 256)

  /// Whether it is new; from now on it is not.
  mutating func take(_ message: MessageForAll) -> Bool {
    time += 1
    var origin = origins[message.origin] ?? Origin()
    origin.lastHeard = time
    defer {
      origins[message.origin] = origin
      if origins.count > Self.mostOrigins,
        let oldest = origins.min(by: { $0.value.lastHeard < $1.value.lastHeard })
      {
        origins[oldest.key] = nil
      }
    }
    let number = message.number
    if number > origin.highest {
      if number - origin.highest > 1 { origin.missing.append((origin.highest + 1)..<number) }
      origin.highest = number
    } else {
      guard let place = origin.missing.lastIndex(where: { $0.contains(number) }) else { return false }
      let gap = origin.missing[place]
      let rest = [gap.lowerBound..<number, (number + 1)..<gap.upperBound].filter { !$0.isEmpty }
      origin.missing.replaceSubrange(place...place, with: rest)
    }
    // What is missing longest is given up.
    if origin.missing.count > Self.mostGaps { origin.missing.removeFirst() }
    return true
  }
}
