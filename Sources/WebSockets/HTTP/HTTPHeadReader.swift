/// Takes a head out of a stream of bytes, however the stream is cut. What comes behind it is left.
///
/// Lines end with CR LF, and with nothing else. See: RFC 9112, sections 2.2 and 5
public struct HTTPHeadReader: Sendable {
  /// Which side's heads these are: a client may find a folded line in an answer, a server refuses it in a request.
  public enum Side: Sendable {
    case requests, answers
  }

  /// Bytes that a head may have, its first line, and how many fields.
  public static let (longest, longestLine, mostFields) = (16 * 1024, 8 * 1024, 100)

  private let side: Side
  private var held: [UInt8] = []
  /// Where the line begins that is coming.
  private var line = 0
  private var startLine: String?
  private var fields: [HTTPHead.Field] = []

  public init(_ side: Side) { self.side = side }

  /// Whether a head has begun, and not ended.
  public var isInside: Bool { !held.isEmpty }

  /// Takes the head.
  ///
  /// - Parameter bytes: what has come; what was taken is taken out of it.
  /// - Returns: nil where the head is not whole: then `bytes` is empty.
  /// - Throws: what is wrong with it.
  public mutating func next(from bytes: inout UnsafeMutableRawBufferPointer) throws(HTTPProblem) -> HTTPHead?
  {
    for (place, byte) in bytes.enumerated() {
      held.append(byte)
      // A handshake of TLS begins so, and no head does. See: RFC 8446, section 5.1
      if held.count == 1, byte == 0x16 {
        throw HTTPProblem(400, "that is TLS, and there is no https and no wss here")
      }
      // Its end need not be waited for: a CR LF is all that may follow.
      if startLine == nil, held.count - line > Self.longestLine + 2 {
        throw HTTPProblem(414, "the first line has more than \(Self.longestLine) bytes")
      }
      if held.count > Self.longest {
        throw HTTPProblem(431, "the head has more than \(Self.longest) bytes")
      }
      if byte != UInt8(ascii: "\n") {
        if held.count - line > 1, held[held.count - 2] == UInt8(ascii: "\r") {
          throw HTTPProblem(400, "a CR stands in the head without an LF behind it")
        }
        continue
      }
      guard held.count - line >= 2, held[held.count - 2] == UInt8(ascii: "\r") else {
        throw HTTPProblem(400, "a line of the head ends with LF alone; it has to be CR LF")
      }
      if let head = try take(held[line..<(held.count - 2)]) {
        bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[(place + 1)...])
        held = []
        return head
      }
      line = held.count
    }
    bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[bytes.count...])
    return nil
  }

  private mutating func take(_ line: ArraySlice<UInt8>) throws(HTTPProblem) -> HTTPHead? {
    guard let startLine else {
      // An empty line before a request is passed over. See: RFC 9112, section 2.2
      if line.isEmpty { return nil }
      guard !line.contains(where: isControl) else {
        throw HTTPProblem(400, "the first line has a control character in it")
      }
      let text = String(decoding: line, as: UTF8.self)
      // Of what speaks another protocol nothing behind that is of interest.
      if side == .answers, !text.hasPrefix("HTTP/") { throw .noAnswer(text) }
      startLine = text
      return nil
    }
    if line.isEmpty {
      defer {
        self.startLine = nil
        fields = []
        self.line = 0
      }
      return HTTPHead(startLine, fields)
    }
    guard !line.contains(where: isControl) else {
      throw HTTPProblem(400, "a field of the head has a control character in it")
    }
    if line.first == UInt8(ascii: " ") || line.first == UInt8(ascii: "\t") { return try unfold(line) }
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else {
      throw HTTPProblem(400, "a line of the head has no colon")
    }
    let name = line[..<colon]
    guard !name.isEmpty, name.allSatisfy(isTokenByte) else {
      throw HTTPProblem(
        400,
        "the name of a field is no token: \(String(decoding: name.prefix(40), as: UTF8.self).debugDescription)"
      )
    }
    if fields.count == Self.mostFields {
      throw HTTPProblem(431, "the head has more than \(Self.mostFields) fields")
    }
    let value = String(decoding: line[(colon + 1)...], as: UTF8.self).trimmingSpaces
    fields.append(.init(String(decoding: name, as: UTF8.self), String(value)))
    return nil
  }

  /// A line that goes on with the field before it. See: RFC 9112, section 5.2
  private mutating func unfold(_ line: ArraySlice<UInt8>) throws(HTTPProblem) -> HTTPHead? {
    guard side == .answers, let last = fields.popLast() else {
      throw HTTPProblem(400, "a line of the head begins with white space: folded fields are not taken")
    }
    let rest = String(decoding: line, as: UTF8.self).trimmingSpaces
    fields.append(.init(last.name, String((last.value + " " + rest).trimmingSpaces)))
    return nil
  }

  private func isControl(_ byte: UInt8) -> Bool { byte < 0x20 && byte != 0x09 || byte == 0x7f }
}
