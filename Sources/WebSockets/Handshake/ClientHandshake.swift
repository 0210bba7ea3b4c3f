/// A client's side of the handshake: what it asks, and whether the answer is the right one.
///
/// See: RFC 6455, section 4.1
public struct ClientHandshake: Sendable {
  public let key: String
  public let url: WebSocketURL
  private let protocols: [String]

  /// - Parameters:
  ///   - url: where the WebSocket is.
  ///   - protocols: subprotocols that the client would speak, the one that it likes best first.
  ///   - key: sixteen bytes in base64; random ones unless given.
  public init(_ url: WebSocketURL, protocols: [String] = [], key: String = WebSocketKey.random()) {
    self.url = url
    self.protocols = protocols
    self.key = key
  }

  public var request: HTTPHead {
    HTTPHead(
      "GET \(url.target) HTTP/1.1",
      [
        .init("Host", url.host), .init("Upgrade", "websocket"), .init("Connection", "Upgrade"),
        .init("Sec-WebSocket-Key", key), .init("Sec-WebSocket-Version", "13"),
      ] + (protocols.isEmpty ? [] : [.init("Sec-WebSocket-Protocol", protocols.joined(separator: ", "))]))
  }

  /// Looks at the answer.
  ///
  /// - Returns: the subprotocol that the server has chosen, where it has.
  /// - Throws: why there is no WebSocket; the status is the server's, or 0 where its answer makes no sense.
  public func check(_ answer: HTTPHead) throws(HTTPProblem) -> String? {
    func refuse(_ what: String) -> HTTPProblem { HTTPProblem(0, "the server's answer is wrong: \(what)") }
    let words = answer.startLine.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
    // A server may leave out the reason behind the status. See: RFC 9112, section 4
    let digits = words.last.map { $0.prefix { $0 != " " } } ?? ""
    guard words.count == 2, let version = HTTPVersion(words[0]), version.major == 1, digits.utf8.count == 3,
      digits.utf8.allSatisfy({ (48...57).contains($0) }), let status = Int(digits)
    else {
      throw .noAnswer(answer.startLine)
    }
    guard status == 101 else { throw HTTPProblem(status, "the server answers \(words[1])") }
    guard version.minor > 0 else { throw refuse("HTTP/1.0 cannot switch to another protocol") }
    guard answer.list("Upgrade", has: "websocket") else { throw refuse("it has no 'Upgrade: websocket'") }
    guard answer.list("Connection", has: "upgrade") else { throw refuse("it has no 'Connection: Upgrade'") }
    guard answer.all("Sec-WebSocket-Accept") == [WebSocketKey.accept(for: key)] else {
      throw refuse("its Sec-WebSocket-Accept does not belong to the key that was sent")
    }
    if !answer.list("Sec-WebSocket-Extensions").isEmpty {
      throw refuse("it names an extension that nobody has asked for")
    }
    let chosen = answer.all("Sec-WebSocket-Protocol")
    guard chosen.count <= 1, chosen.allSatisfy(protocols.contains) else {
      throw refuse("it names a subprotocol that nobody has asked for")
    }
    return chosen.first
  }
}
