/// Why a connection is closed, as a Close frame has it.
///
/// See: RFC 6455, section 7.4; the IANA registry "WebSocket Close Code Number"
public struct CloseCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// What it was made for is done.
  public static let normal = CloseCode(rawValue: 1000)
  /// A server ends, or somebody leaves the page.
  public static let goingAway = CloseCode(rawValue: 1001)
  /// The peer has broken the protocol.
  public static let protocolError = CloseCode(rawValue: 1002)
  /// The peer has sent a kind of message that cannot be taken.
  public static let unsupportedData = CloseCode(rawValue: 1003)
  /// A text is not valid UTF-8.
  public static let invalidData = CloseCode(rawValue: 1007)
  /// The peer has broken a rule of this endpoint's.
  public static let policyViolation = CloseCode(rawValue: 1008)
  /// A message is too big to be taken.
  public static let messageTooBig = CloseCode(rawValue: 1009)
  /// The server has no room now.
  public static let tryAgainLater = CloseCode(rawValue: 1013)

  /// Whether it may stand in a frame: 1004 to 1006 and 1015 may not, nor what nobody has registered, nor what is no code.
  public var isAllowed: Bool {
    switch rawValue {
    case 1000...1003, 1007...1014, 3000...4999: true
    default: false
    }
  }

  /// "1001 (going away)"
  public var description: String {
    let name: String? =
      switch rawValue {
      case 1000: "normal"
      case 1001: "going away"
      case 1002: "protocol error"
      case 1003: "unsupported data"
      case 1007: "invalid data"
      case 1008: "policy violation"
      case 1009: "message too big"
      case 1010: "extension missing"
      case 1011: "internal error"
      case 1012: "service restart"
      case 1013: "try again later"
      case 1014: "bad gateway"
      default: nil
      }
    return "\(rawValue)" + (name.map { " (\($0))" } ?? "")
  }
}

/// What a peer has sent that breaks the protocol, or a limit. The connection cannot go on.
public struct WebSocketViolation: Error, Hashable, Sendable, CustomStringConvertible {
  /// What the peer is to be told.
  public let code: CloseCode
  public let description: String

  public init(_ code: CloseCode, _ description: String) {
    self.code = code
    self.description = description
  }
}
