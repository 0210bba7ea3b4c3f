/// What the programs are given to do.
enum Job: String, CaseIterable {
  /// To open a socket and wait for one client, which closes its connection at once.
  case open
  /// To send back what one client sends, until it ends its direction.
  case echo
  /// To get a page from a server.
  case http

  /// A server is dialled, a client is answered.
  var isServers: Bool { self != .http }

  /// The stages in the order in which they come.
  var stages: [Stage] {
    isServers
      ? [.open, .bind, .listen, .accept, .read, .write, .close] : [.open, .connect, .write, .read, .close]
  }

  /// What is timed of it.
  var measured: String {
    switch self {
    case .open: "from its start to its end"
    case .echo: "a round trip of \(Measurement.messageSize) bytes"
    case .http: "from one answer to the next request"
    }
  }
}
