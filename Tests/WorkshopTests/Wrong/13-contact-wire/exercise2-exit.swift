// wrong: ends where a client sends something wrong

import CLinux
import Glibc

typealias Bytes = ArraySlice<UInt8>
let contactSize = 256 + 256 + 20  // UserName, ContactName, PhoneNumber

/// Who is at the other end.
enum Role { case unknown, client }

/// What the server knows of one connection.
final class Peer {
  let connection: Int32
  var role = Role.unknown
  var received: [UInt8] = []  // the beginning of a message

  init(_ connection: Int32) { self.connection = connection }
}

/// A contact as a message has it. What stands behind the first NUL of a field is not part of it, and is zero
/// here.
struct Contact {
  let key: [UInt8]  // UserName and ContactName
  let phone: [UInt8]

  init(_ fields: Bytes) throws(Refusal) {
    key = try field(fields.prefix(256)) + field(fields.dropFirst(256).prefix(256))
    phone = try field(fields.dropFirst(512))
  }

  var text: String { "\(value(key.prefix(256))): \(value(key.dropFirst(256))) = \(value(phone[...]))" }
}

/// Why somebody is heard no more.
struct Refusal: Error {
  let reason: String
  init(_ reason: String) { self.reason = reason }
}

let arguments = CommandLine.arguments
guard arguments.count == 2, let port = UInt16(arguments[1]) else {
  warn("usage: exercise2 PORT")
  exit(2)
}
let listener = listeningSocket(port)
var peers: [Int32: Peer] = [:]  // by descriptor

while true {
  var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
  for peer in peers.values {
    entries.append(pollfd(fd: peer.connection, events: Int16(POLLIN), revents: 0))
  }
  guard poll(&entries, nfds_t(entries.count), -1) >= 0 || errno == EINTR else { fail("poll") }
  for entry in entries where entry.revents != 0 {
    if entry.fd == listener { acceptPeer() } else if let peer = peers[entry.fd] { serve(peer) }
  }
}

// --- connections ---

func acceptPeer() {
  let connection = accept4(listener, nil, nil, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
  if connection >= 0 {
    peers[connection] = Peer(connection)
  } else if ![EAGAIN, EINTR, ECONNABORTED].contains(errno) {
    fail("accept4")
  }
}

/// Does for one peer what can be done without waiting.
func serve(_ peer: Peer) {
  guard receive(peer) else { return drop(peer) }
  do { try take(peer) } catch { refuse(peer, error) }
}

/// Takes what has come. False where the connection is broken, or over.
func receive(_ peer: Peer) -> Bool {
  var bytes = [UInt8](repeating: 0, count: 65_536)
  let count = read(peer.connection, &bytes, bytes.count)
  if count == -1 { return errno == EAGAIN || errno == EINTR }
  peer.received += bytes[..<count]
  if count == 0, !peer.received.isEmpty { warn("refused: a stream has ended inside a message") }
  return count > 0
}

/// Takes whole messages out of what has come, and keeps the rest.
func take(_ peer: Peer) throws(Refusal) {
  var rest = peer.received[...]
  defer { peer.received = Array(rest) }
  while let size = try messageSize(rest, peer), rest.count >= size {
    let message = rest.prefix(size)
    rest = rest.dropFirst(size)
    switch peer.role {
    case .unknown: try greet(message, peer)
    case .client: try takeCommand(message, peer)
    }
  }
}

/// How many bytes the next message has, or nil where that cannot be told yet.
func messageSize(_ rest: Bytes, _ peer: Peer) throws(Refusal) -> Int? {
  guard let first = rest.first else { return nil }
  switch (peer.role, first) {
  case (.unknown, 2): return 1 + 256
  case (.unknown, _): throw Refusal("\(first) is no role")
  case (.client, 1): return 1 + contactSize
  default: throw Refusal("\(first) is no command")
  }
}

func greet(_ hello: Bytes, _ peer: Peer) throws(Refusal) {
  _ = try field(hello.dropFirst())
  peer.role = .client
}

func refuse(_ peer: Peer, _ refusal: Refusal) {
  warn("refused: \(refusal.reason)")
  exit(1)
}

func drop(_ peer: Peer) {
  peers[peer.connection] = nil
  close(peer.connection)
}

// --- clients ---

func takeCommand(_ message: Bytes, _ peer: Peer) throws(Refusal) {
  say(try Contact(message.dropFirst()).text)
}

// --- what earlier exercises have shown ---

/// A field as it is stored: its value, and NUL behind it to the field's size.
func field(_ bytes: Bytes) throws(Refusal) -> [UInt8] {
  let value = bytes.prefix { $0 != 0 }
  guard !value.isEmpty, let text = String(validating: value, as: UTF8.self),
    !text.unicodeScalars.contains(where: { $0.properties.generalCategory == .control })
  else { throw Refusal("a field is empty, is no UTF-8, or has a control character in it") }
  return padded(value, bytes.count)
}

func padded(_ value: some Collection<UInt8>, _ size: Int) -> [UInt8] {
  Array(value) + [UInt8](repeating: 0, count: size - value.count)
}

func value(_ field: Bytes) -> String { String(decoding: field.prefix { $0 != 0 }, as: UTF8.self) }

func listeningSocket(_ port: UInt16) -> Int32 {
  let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
  let listener = socket(AF_INET, type, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  let bound = withUnsafePointer(to: address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
  guard bound == 0 else { fail("bind") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return listener
}

/// One line on standard output, with one write: in a pipe `print` keeps it until much has come together.
func say(_ text: String) {
  let line = text + "\n"
  _ = write(STDOUT_FILENO, line, line.utf8.count)
}

/// One line on standard error, with one write.
func warn(_ text: String) {
  let line = text + "\n"
  _ = write(STDERR_FILENO, line, line.utf8.count)
}

func fail(_ call: String) -> Never {
  warn("\(call): \(String(cString: strerror(errno)))")
  exit(1)
}
