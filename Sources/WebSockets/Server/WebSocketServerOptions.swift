import SystemCalls

/// How a server is to be run. Times are milliseconds.
public struct WebSocketServerOptions: Sendable {
  /// What it is called by others: no control characters, 1 to 64 bytes.
  public let name: String
  /// Where it listens; with port 0 the kernel chooses one.
  public var address: SocketAddress
  /// Servers that it dials, again and again.
  public var peers: [WebSocketURL] = []
  /// How long it waits before it dials for the first time: who starts two servers may need a while for the second one.
  public var wait = 10_000
  /// Whose pages may use it, besides its own; "*" for all.
  public var origins: [String] = []
  /// Further ones wait in the accept queue.
  public var maxConnections = Int.max
  /// What one connection may cost.
  public var limits = SessionLimits()
  /// How long a handshake may take.
  public var handshake = 10_000
  /// Bytes that all connections may have it hold. Above that the one that holds most is closed.
  public var mostHeld = 512 << 20

  /// - Throws: why that is no name.
  public init(name: String, address: SocketAddress) throws(LinkMistake) {
    guard LinkMessage.isName(name) else {
      throw LinkMistake("a server's name has 1 to 64 bytes, and no control characters")
    }
    self.name = name
    self.address = address
  }
}
