/// The head of an HTTP/1.1 message: its first line, and its fields in the order in which they came.
///
/// See: RFC 9112, section 2.1
public struct HTTPHead: Hashable, Sendable {
  public struct Field: Hashable, Sendable {
    public let name: String
    /// Without the white space around it. Bytes that are no UTF-8 are replaced.
    public let value: String

    public init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  public let startLine: String
  public let fields: [Field]

  public init(_ startLine: String, _ fields: [Field]) {
    self.startLine = startLine
    self.fields = fields
  }

  /// The values of all fields of a name, whatever its letters' case. See: RFC 9110, section 5.2
  public func all(_ name: String) -> [String] {
    fields.filter { $0.name.equalsIgnoringCase(name) }.map(\.value)
  }

  /// The value of a field that may stand there once.
  ///
  /// - Throws: where it stands there more than once.
  public func one(_ name: String) throws(HTTPProblem) -> String? {
    let values = all(name)
    if values.count > 1 { throw HTTPProblem(400, "\(name) stands there \(values.count) times") }
    return values.first
  }

  /// The members of a field that is a list, be it in one line or in several. See: RFC 9110, section 5.6.1
  public func list(_ name: String) -> [String] {
    all(name).flatMap { $0.split(separator: ",") }.map { String($0.trimmingSpaces) }.filter { !$0.isEmpty }
  }

  /// Whether a list has a member, whatever its letters' case.
  public func list(_ name: String, has member: String) -> Bool {
    list(name).contains { $0.equalsIgnoringCase(member) }
  }

  /// As it stands on the wire.
  public var bytes: [UInt8] {
    Array(([startLine] + fields.map { "\($0.name): \($0.value)" } + ["", ""]).joined(separator: "\r\n").utf8)
  }
}

/// Why a head is refused: what a server answers.
public struct HTTPProblem: Error, Hashable, Sendable, CustomStringConvertible {
  /// See: RFC 9110, section 15
  public let status: Int
  public let description: String
  /// What has to stand beside it.
  public let fields: [HTTPHead.Field]

  public init(_ status: Int, _ description: String, _ fields: [HTTPHead.Field] = []) {
    self.status = status
    self.description = description
    self.fields = fields
  }

  /// What an answer begins with is no answer's first line.
  static func noAnswer(_ line: String) -> HTTPProblem {
    let shown = String(line.prefix(60)).debugDescription
    return HTTPProblem(
      0, "the server's answer is wrong: it does not begin with HTTP/1.1 and a status, but with \(shown)")
  }
}

/// A request's first line. See: RFC 9112, section 3
public struct HTTPRequest: Sendable {
  public let method: String
  /// As it was asked for: "/ws?room=1".
  public let target: String
  public let head: HTTPHead
  /// HTTP/1.0 is 0.
  public let minorVersion: Int

  public init(_ head: HTTPHead) throws(HTTPProblem) {
    let words = head.startLine.split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 3, let method = words.first, method.isToken else {
      throw HTTPProblem(400, "the first line is no 'METHOD TARGET HTTP/1.1'")
    }
    let version = HTTPVersion(words[2])
    guard let version else {
      throw HTTPProblem(400, "the first line does not end with a version such as HTTP/1.1")
    }
    guard version.major == 1 else { throw HTTPProblem(505, "HTTP/1.1 is spoken here, and not \(words[2])") }
    guard !words[1].isEmpty, words[1].unicodeScalars.allSatisfy({ (0x21...0x7e).contains($0.value) }) else {
      throw HTTPProblem(400, "the target of a request has visible ASCII characters alone")
    }
    self.method = String(method)
    target = String(words[1])
    self.head = head
    minorVersion = version.minor
    // One, and no other could be meant. See: RFC 9112, section 3.2
    let host = try head.one("Host")
    if host == nil, minorVersion > 0 { throw HTTPProblem(400, "there is no Host, which HTTP/1.1 wants") }
    if let host, !host.isHost { throw HTTPProblem(400, "Host is no name or address, with or without a port") }
  }

  /// The target's path, without what it asks for behind it. Of "http://host/ws?x" and of "/ws?x" it is "/ws".
  public var path: String {
    var rest = target[...]
    // The absolute form has to be understood. See: RFC 9112, section 3.2.2
    if !rest.hasPrefix("/"), let scheme = rest.firstRange(of: "://") {
      rest = rest[scheme.upperBound...].drop { $0 != "/" && $0 != "?" }
      if !rest.hasPrefix("/") { rest = "/" + rest }
    }
    return String(rest.prefix { $0 != "?" })
  }

  /// Whether a body follows the head. See: RFC 9112, section 6.3
  public var hasBody: Bool {
    if !head.all("Transfer-Encoding").isEmpty { return true }
    let lengths = head.all("Content-Length")
    return lengths.contains { $0 != "0" }
  }
}

/// "HTTP/1.1". See: RFC 9112, section 2.3
struct HTTPVersion {
  let major: Int
  let minor: Int

  /// Nil where it is none.
  init?(_ text: Substring) {
    let bytes = Array(text.utf8)
    guard text.hasPrefix("HTTP/"), bytes.count == 8, bytes[6] == UInt8(ascii: "."),
      (48...57).contains(bytes[5]), (48...57).contains(bytes[7])
    else { return nil }
    (major, minor) = (Int(bytes[5]) - 48, Int(bytes[7]) - 48)
  }
}

extension StringProtocol {
  /// As HTTP compares names and tokens: letters of ASCII alone have a case.
  func equalsIgnoringCase(_ other: some StringProtocol) -> Bool {
    func lower(_ byte: UInt8) -> UInt8 { (65...90).contains(byte) ? byte | 32 : byte }
    return utf8.lazy.map(lower).elementsEqual(other.utf8.lazy.map(lower))
  }

  var trimmingSpaces: SubSequence {
    var rest = self[...]
    while let first = rest.first, first == " " || first == "\t" { rest = rest.dropFirst() }
    while let last = rest.last, last == " " || last == "\t" { rest = rest.dropLast() }
    return rest
  }

  /// Letters that a name, an address and a port may have; no more is looked at. See: RFC 3986, section 3.2
  var isHost: Bool {
    utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: "-._~%!$&'()*+,;=:[]".utf8.contains(byte)
      }
    }
  }

  /// See: RFC 9110, section 5.6.2
  var isToken: Bool { !isEmpty && utf8.allSatisfy(isTokenByte) }
}

func isTokenByte(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "0")...UInt8(ascii: "9"):
    true
  default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
  }
}
