import Sockets
import SystemCalls

/// Where a WebSocket is to be had: "ws://127.0.0.1:8080/ws".
///
/// See: RFC 6455, section 3
public struct WebSocketURL: Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public let address: SocketAddress
  /// For the Host field: with the port where it is not 80.
  public let host: String
  /// The path, and what is asked for behind it.
  public let target: String

  /// - Throws: what is wrong with it. Names of hosts are not looked up, but for localhost.
  public init(_ text: String) throws(AddressMistake) {
    func mistake(_ what: String) -> AddressMistake { AddressMistake("'\(text)': \(what)") }
    guard let colon = text.firstRange(of: "://") else {
      throw mistake("a WebSocket's URL looks like ws://127.0.0.1:8080/ws")
    }
    let scheme = text[..<colon.lowerBound]
    if scheme.equalsIgnoringCase("wss") {
      throw mistake("wss is encrypted, and there is no TLS here; write ws://")
    }
    guard scheme.equalsIgnoringCase("ws") else {
      throw mistake("it has to begin with ws://, not \(scheme)://")
    }
    let rest = text[colon.upperBound...]
    guard rest.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      throw mistake("it has visible ASCII characters alone; others are written as %C3%A4")
    }
    if rest.contains("#") { throw mistake("a WebSocket's URL has no fragment; write %23 for #") }
    let authority = rest.prefix { $0 != "/" && $0 != "?" }
    if authority.contains("@") { throw mistake("it has no place for a user") }
    let path = rest[authority.endIndex...]
    target = path.isEmpty ? "/" : path.hasPrefix("/") ? String(path) : "/\(path)"
    let hasPort = authority.lastIndex(of: ":").map { !authority[$0...].contains("]") } ?? false
    let name = hasPort ? authority[..<(authority.lastIndex(of: ":") ?? authority.endIndex)] : authority
    let place = hasPort ? String(authority) : "\(authority):80"
    if place.hasPrefix("/") || place.hasPrefix("@") || authority.isEmpty { throw mistake("it has no host") }
    // As it stands in the Host field, too. See: RFC 3986, section 3.2.2
    if name.contains(":"), !name.hasPrefix("[") { throw mistake("an IPv6 address has brackets around it") }
    address = try SocketAddress(place)
    if address.port == 0 { throw mistake("nobody listens on port 0") }
    host = address.port == 80 ? String(name) : place
    description = text
  }
}
