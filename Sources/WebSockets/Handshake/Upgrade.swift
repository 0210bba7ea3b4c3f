/// A request to speak WebSocket from here on, looked at by a server.
///
/// See: RFC 6455, section 4.2
public struct Upgrade: Sendable {
  public let key: String
  /// Subprotocols that the client would speak, the one that it likes best first.
  public let protocols: [String]

  /// - Throws: why it is none: what to answer.
  public init(_ request: HTTPRequest) throws(HTTPProblem) {
    let head = request.head
    let version = HTTPHead.Field("Sec-WebSocket-Version", "13")
    guard request.method == "GET" else {
      throw HTTPProblem(
        405, "a WebSocket is asked for with GET, and not with \(request.method)", [.init("Allow", "GET")])
    }
    guard head.list("Upgrade", has: "websocket") else {
      throw HTTPProblem(
        426, "this is a WebSocket: a client has to ask for it, with 'Upgrade: websocket'",
        [.init("Upgrade", "websocket"), .init("Connection", "Upgrade"), version])
    }
    guard request.minorVersion > 0 else { throw HTTPProblem(400, "a WebSocket wants HTTP/1.1, not HTTP/1.0") }
    guard head.list("Connection", has: "upgrade") else {
      throw HTTPProblem(400, "Connection has no 'Upgrade' in it, which belongs to 'Upgrade: websocket'")
    }
    let versions = head.list("Sec-WebSocket-Version")
    guard versions == ["13"] else {
      throw HTTPProblem(
        versions.isEmpty ? 400 : 426,
        "Sec-WebSocket-Version has to be 13"
          + (versions.isEmpty ? "" : ", and not \(versions.joined(separator: ", "))"),
        versions.isEmpty ? [] : [.init("Upgrade", "websocket"), .init("Connection", "Upgrade"), version])
    }
    guard let key = try head.one("Sec-WebSocket-Key") else {
      throw HTTPProblem(400, "there is no Sec-WebSocket-Key")
    }
    guard WebSocketKey.isValid(key) else {
      throw HTTPProblem(400, "Sec-WebSocket-Key has to be 16 bytes in base64")
    }
    // Its bytes would be taken for frames.
    if request.hasBody { throw HTTPProblem(400, "a request for a WebSocket has no body") }
    self.key = key
    protocols = head.list("Sec-WebSocket-Protocol")
  }

  /// The answer that opens the WebSocket.
  ///
  /// - Parameter subprotocol: one of those that the client has named, or nil for none.
  /// - Returns: its head, which has no body.
  public func answer(subprotocol: String? = nil) -> HTTPHead {
    HTTPHead(
      "HTTP/1.1 101 Switching Protocols",
      [
        .init("Upgrade", "websocket"), .init("Connection", "Upgrade"),
        .init("Sec-WebSocket-Accept", WebSocketKey.accept(for: key)),
      ] + (subprotocol.map { [.init("Sec-WebSocket-Protocol", $0)] } ?? []))
  }
}

/// Whose pages may use a server. A browser sends the page's origin along; what is no browser need not, and could say anything.
///
/// See: RFC 6455, sections 4.2.2 and 10.2; RFC 6454
public struct OriginRule: Sendable {
  /// Besides the server's own page: "http://example.org:8080", "null"; "*" is anybody's.
  public let allowed: [String]

  public init(_ allowed: [String]) { self.allowed = allowed }

  /// - Throws: 403, with the reason.
  public func check(_ head: HTTPHead) throws(HTTPProblem) {
    guard let origin = try head.one("Origin"), !allowed.contains("*"),
      !allowed.contains(where: { $0.equalsIgnoringCase(origin) })
    else { return }
    // Its own page, under an address or as localhost. Under any other name a foreign page may come here, too: whose name it is
    // decides where it leads to ("DNS rebinding").
    if let host = try head.one("Host"), origin.equalsIgnoringCase("http://\(host)"), isAddress(host) {
      return
    }
    throw HTTPProblem(403, "pages of \(origin) may not use this server; --origin allows them")
  }

  private func isAddress(_ host: String) -> Bool {
    let name = host.hasPrefix("[") ? host.prefix { $0 != "]" } + "]" : host.prefix { $0 != ":" }
    if name.hasPrefix("[") || name.equalsIgnoringCase("localhost") { return true }
    // No name has digits alone behind its last dot.
    return !name.isEmpty && name.utf8.allSatisfy { (48...57).contains($0) || $0 == UInt8(ascii: ".") }
  }
}
