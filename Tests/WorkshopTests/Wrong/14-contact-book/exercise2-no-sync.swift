// wrong: appends to the journal, and does not sync

import CLinux
import Glibc

typealias Bytes = ArraySlice<UInt8>
let contactSize = 256 + 256 + 20  // UserName, ContactName, PhoneNumber
let recordSize = 4 + contactSize + 4  // of the journal: a clock before it, a check behind it

/// Who is at the other end.
enum Role { case unknown, client }

/// What the server knows of one connection.
final class Peer {
  let connection: Int32
  var role = Role.unknown
  var received: [UInt8] = []  // the beginning of a message
  var queue: [UInt8] = []  // what the kernel has not taken yet
  var isEnding = false  // nothing more is read from it; closed when the queue is empty

  init(_ connection: Int32) { self.connection = connection }

  /// A client has to take its answer before it is heard again, so that its queue stays short.
  var isHeard: Bool { !isEnding && queue.isEmpty }
}

/// A contact as a message has it. What stands behind the first NUL of a field is not part of it, and is zero
/// here.
struct Contact {
  let key: [UInt8]  // UserName and ContactName, as bytes: Strings that look alike are equal, too
  let phone: [UInt8]
  let clock: UInt32

  init(_ fields: Bytes, clock: UInt32) throws(Refusal) {
    self.clock = clock
    key = try field(fields.prefix(256)) + field(fields.dropFirst(256).prefix(256))
    phone = try field(fields.dropFirst(512))
  }

  var record: [UInt8] { bigEndian(clock) + key + phone }
}

/// Why somebody is heard no more.
struct Refusal: Error {
  let reason: String
  init(_ reason: String) { self.reason = reason }
}

let arguments = CommandLine.arguments
guard arguments.count == 3, let port = UInt16(arguments[1]) else {
  warn("usage: exercise2 PORT JOURNAL")
  exit(2)
}
signal(SIGPIPE, SIG_IGN)  // a write to a peer that has gone is to fail with EPIPE, and not to end the server
var book: [[UInt8]: Contact] = [:]  // by key
var clock: UInt32 = 0  // counts the Updates: a contact has the number of its own
var pending: [Contact] = []  // taken, and not on the disk yet
let journal = openJournal(arguments[2])
let listener = listeningSocket(port)
var peers: [Int32: Peer] = [:]  // by descriptor

while true {
  var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
  for peer in peers.values {
    let events = (peer.isHeard ? POLLIN : 0) | (peer.queue.isEmpty ? 0 : POLLOUT)
    entries.append(pollfd(fd: peer.connection, events: Int16(events), revents: 0))
  }
  guard poll(&entries, nfds_t(entries.count), -1) >= 0 || errno == EINTR else { fail("poll") }
  for entry in entries where entry.revents != 0 {
    if entry.fd == listener { acceptPeer() } else if let peer = peers[entry.fd] { serve(peer, entry.revents) }
  }
  commit()  // all that has come in this turn shares one sync
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

/// Does for one peer what can be done without waiting. Besides room, each event is something that read tells.
func serve(_ peer: Peer, _ events: Int16) {
  let isHeard = peer.isHeard && events != Int16(POLLOUT)
  guard peer.queue.isEmpty || send(peer), !isHeard || receive(peer) else { return drop(peer) }
  do { try take(peer) } catch { return refuse(peer, error) }
  guard peer.isEnding, peer.queue.isEmpty else { return }
  if !peer.received.isEmpty { warn("refused: a stream has ended inside a message") }
  drop(peer)
}

/// Hands the kernel as much of the queue as it takes now. False where the connection is broken.
func send(_ peer: Peer) -> Bool {
  let count = write(peer.connection, peer.queue, peer.queue.count)
  if count == -1 { return errno == EAGAIN || errno == EINTR }
  peer.queue.removeFirst(count)
  return true
}

/// Takes what has come. False where the connection is broken, or over.
func receive(_ peer: Peer) -> Bool {
  var bytes = [UInt8](repeating: 0, count: 65_536)
  let count = read(peer.connection, &bytes, bytes.count)
  if count == -1 { return errno == EAGAIN || errno == EINTR }
  peer.received += bytes[..<count]
  peer.isEnding = count == 0  // it still gets its answers
  return true
}

/// Takes whole messages out of what has come, and keeps the rest.
func take(_ peer: Peer) throws(Refusal) {
  var rest = peer.received[...]
  defer { peer.received = Array(rest) }
  while peer.queue.isEmpty, let size = try messageSize(rest, peer), rest.count >= size {
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
  case (.client, 2): return 1
  default: throw Refusal("\(first) is no command")
  }
}

func greet(_ hello: Bytes, _ peer: Peer) throws(Refusal) {
  _ = try field(hello.dropFirst())
  peer.role = .client
}

func refuse(_ peer: Peer, _ refusal: Refusal) {
  warn("refused: \(refusal.reason)")
  drop(peer)
}

func drop(_ peer: Peer) {
  peers[peer.connection] = nil
  close(peer.connection)
}

// --- clients ---

func takeCommand(_ message: Bytes, _ peer: Peer) throws(Refusal) {
  if message.first == 1 {
    let contact = try Contact(message.dropFirst(), clock: clock &+ 1)
    guard clock < .max else { return warn("an Update is not taken: the clock can count no further") }
    clock += 1
    pending.append(contact)
  } else {
    commit()
    peer.queue += bigEndian(UInt32(book.count))
    for contact in book.values { peer.queue += contact.key + contact.phone }
  }
}

// --- the book, and its journal ---

/// What was taken is on the disk before anybody is shown it.
func commit() {
  if pending.isEmpty { return }
  let records = pending.flatMap { checked($0.record) }
  guard writeAll(journal, records) else { fail("the journal") }
  for contact in pending { book[contact.key] = contact }
  pending = []
}

/// Reads the journal, cuts off a torn record, and has the rest on the disk before anybody is shown it.
func openJournal(_ path: String) -> Int32 {
  let journal = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
  guard journal >= 0 else { fail("open") }
  guard flock(journal, LOCK_EX | LOCK_NB) == 0 else { fail("flock") }  // another server has it
  let header = checked(Array("contacts".utf8) + bigEndian(UInt32(1)) + bigEndian(UInt32(0)))
  var rest = readAll(journal)[...]
  if rest.starts(with: header) {
    rest = rest.dropFirst(header.count)
    while let contact = intact(rest.prefix(recordSize)) {
      book[contact.key] = contact
      clock = max(clock, contact.clock)
      rest = rest.dropFirst(recordSize)
    }
  } else if !header.starts(with: rest) {
    warn("that is no journal of contacts")
    exit(1)
  }
  guard rest.count < recordSize else {
    warn("the journal is damaged at byte \(rest.startIndex)")
    exit(1)
  }
  guard ftruncate(journal, rest.startIndex) == 0 else { fail("ftruncate") }
  if rest.startIndex == 0, !writeAll(journal, header) { fail("write") }
  guard fdatasync(journal) == 0 else { fail("fdatasync") }
  return journal
}

/// A record of the journal; nil where it is not whole, or not what was written.
func intact(_ record: Bytes) -> Contact? {
  guard record.count == recordSize, checked(Array(record.dropLast(4))).elementsEqual(record) else {
    return nil
  }
  return try? Contact(record.dropFirst(4).dropLast(4), clock: number(record))
}

/// Bytes, and their CRC-32C behind them.
func checked(_ bytes: [UInt8]) -> [UInt8] {
  var crc = UInt32.max
  for byte in bytes {
    crc ^= UInt32(byte)
    for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 1 ? 0x82f6_3b78 : 0) }
  }
  return bytes + bigEndian(~crc)
}

func readAll(_ file: Int32) -> [UInt8] {
  var (all, bytes) = ([UInt8](), [UInt8](repeating: 0, count: 65_536))
  while true {
    let count = read(file, &bytes, bytes.count)
    if count == 0 { return all }
    guard count > 0 || errno == EINTR else { fail("read") }
    all += bytes[..<max(0, count)]
  }
}

func writeAll(_ file: Int32, _ bytes: [UInt8]) -> Bool {
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
    guard count >= 0 || errno == EINTR else { return false }
    rest = rest.dropFirst(max(0, count))
  }
  return true
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

func bigEndian(_ number: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: number.bigEndian) { Array($0) }
}

/// The number in the first four bytes.
func number(_ bytes: Bytes) -> UInt32 { bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) } }

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

/// One line on standard error, with one write.
func warn(_ text: String) {
  let line = text + "\n"
  _ = write(STDERR_FILENO, line, line.utf8.count)
}

func fail(_ call: String) -> Never {
  warn("\(call): \(String(cString: strerror(errno)))")
  exit(1)
}
