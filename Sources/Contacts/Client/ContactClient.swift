import Glibc
import Sockets
import SystemCalls

/// Why a client could not do what it was asked for.
public struct ClientFailure: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  /// Whether the descriptor that may end the waiting has done so.
  public let isInterruption: Bool

  init(_ description: String, isInterruption: Bool = false) {
    self.description = description
    self.isInterruption = isInterruption
  }
}

/// A connection to a contact server, for a program that does one thing after the other.
public final class ContactClient {
  private let socket: Descriptor
  private let server: SocketAddress
  private let interruption: Int32
  private var writer = MessageWriter()
  private var reader = MessageReader(ListingLanguage())
  private let buffer: UnsafeMutableRawBufferPointer
  /// What has come and was not taken yet: a part of `buffer`.
  private var unread: UnsafeRawBufferPointer

  /// Milliseconds that it waits for the other side to do something.
  private static let patience: Int32 = 30_000

  /// Dials, and says who it is.
  ///
  /// - Parameters:
  ///   - server: where it listens.
  ///   - hello: with the client's name.
  ///   - interruption: a descriptor that ends all waiting when it becomes readable; -1 for none.
  /// - Throws: why the server cannot be reached.
  public init(to server: SocketAddress, _ hello: Hello, interruption: Int32 = -1) throws(ClientFailure) {
    self.server = server
    self.interruption = interruption
    do throws(SystemCallError) {
      socket = try Descriptor.connected(to: server, patience: Self.patience, interruption: interruption)
    } catch {
      let advice = error.errno.rawValue == ECONNREFUSED ? "; no server listens there" : ""
      throw ClientFailure("\(error)\(advice)", isInterruption: error.errno.rawValue == EINTR)
    }
    buffer = .allocate(byteCount: 256 * 1024, alignment: 16)
    unread = UnsafeRawBufferPointer(rebasing: buffer[..<0])
    writer.hello(hello)
  }

  deinit { buffer.deallocate() }

  /// Sends contacts. That they were taken only `listAll` can show.
  ///
  /// - Throws: where the connection is lost.
  public func update(_ contacts: some Sequence<Contact>) throws(ClientFailure) {
    for contact in contacts {
      contact.withView { writer.update($0) }
      if writer.bytes.count > 64 * 1024 { try flush() }
    }
    try flush()
  }

  /// Asks for all contacts, and waits for them. What was sent before on this connection is in them.
  ///
  /// - Parameter each: gets each of them.
  /// - Returns: how many there were.
  /// - Throws: where the connection is lost, or the server says something else.
  @discardableResult
  public func listAll(_ each: (ContactView) -> Void) throws(ClientFailure) -> Int {
    writer.listAll()
    try flush()
    var total: Int?
    while total == nil || reader.language.contactsLeft != 0 {
      let part: ListingPart?
      do throws(ProtocolViolation) { part = try reader.next(from: &unread) } catch {
        throw ClientFailure("\(server) is no contact server, or a broken one: \(error)")
      }
      switch part {
      case .count(let count): total = count
      case .contact(let contact): each(contact)
      case nil: try receive()
      }
    }
    return total ?? 0
  }

  private func flush() throws(ClientFailure) {
    var from = 0
    let bytes = writer.bytes
    while from < bytes.count {
      let count = bytes.withUnsafeBytes { bytes in
        send(socket.number, bytes.baseAddress.map { $0 + from }, bytes.count - from, Int32(MSG_NOSIGNAL))
      }
      if count >= 0 {
        from += count
      } else {
        try wait(for: POLLOUT, "send", .last)
      }
    }
    writer.removeAll()
  }

  private func receive() throws(ClientFailure) {
    while true {
      let count = recv(socket.number, buffer.baseAddress, buffer.count, 0)
      if count > 0 {
        unread = UnsafeRawBufferPointer(rebasing: buffer[..<count])
        return
      }
      if count == 0 {
        throw ClientFailure(
          "\(server) has closed the connection before the answer was whole; its log may say why, if it is a contact-server"
        )
      }
      try wait(for: POLLIN, "recv", .last)
    }
  }

  private func wait(for event: Int32, _ call: String, _ failure: ErrorNumber) throws(ClientFailure) {
    guard [EAGAIN, EINTR].contains(failure.rawValue) else {
      throw ClientFailure("\(call) \(server): \(failure)")
    }
    var entries = [
      pollfd(fd: socket.number, events: Int16(event), revents: 0),
      pollfd(fd: interruption, events: Int16(POLLIN), revents: 0),
    ]
    let count = poll(&entries, 2, Self.patience)
    if count == 0 {
      throw ClientFailure(
        "\(server) has done nothing for \(Self.patience / 1000) seconds; is that a contact-server?")
    }
    if count > 0, entries[0].revents == 0 { throw ClientFailure("interrupted", isInterruption: true) }
  }
}
