// wrong: does not close a socket that was refused

import CLinux
import Glibc

typealias Bytes = ArraySlice<UInt8>
let contactSize = 256 + 256 + 20  // UserName, ContactName, PhoneNumber
let recordSize = 4 + contactSize + 4  // of the journal: a clock before it, a check behind it
let (interval, patience) = (5.0, 15.0)  // seconds between two HeartBeats, and how long a link may be silent

/// Who is at the other end. One that is leaving is sent what is queued, and heard no more.
enum Role { case unknown, client, server, webSocket, leaving }

/// What the server knows of one connection.
final class Peer {
  let connection: Int32
  var role = Role.unknown
  var received: [UInt8] = []  // the beginning of a message
  var queue: [UInt8] = []  // what the kernel has not taken yet
  var isEnding = false  // nothing more is read from it; closed when the queue is empty
  var answersWaiting = 0  // of a server: to its AskForUpdates, since the queue was empty
  var isAsked = false  // our AskForUpdate has not been answered in full
  var recordsLeft = 0  // of the answer that is coming
  let neighbour: Neighbour?  // whom we have dialled
  var isConnecting: Bool
  var lastHeard = now()

  init(_ connection: Int32, _ neighbour: Neighbour? = nil) {
    (self.connection, self.neighbour, isConnecting) = (connection, neighbour, neighbour != nil)
  }

  /// A server is heard always: two that read no more until they have written would wait for each other.
  /// Everybody else has to take his answer first, so that his queue stays short.
  var isHeard: Bool { !isEnding && !isConnecting && (role == .server || queue.isEmpty) }
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

  var text: String { "\(value(key.prefix(256))): \(value(key.dropFirst(256))) = \(value(phone[...]))" }
  var record: [UInt8] { bigEndian(clock) + key + phone }

  /// Of two with one clock the larger number wins: that is decided alike everywhere.
  func wins(over other: Contact) -> Bool {
    clock > other.clock || clock == other.clock && other.phone.lexicographicallyPrecedes(phone)
  }
}

/// Why somebody is heard no more, and what he is told at the end.
struct Refusal: Error {
  let (reason, answer): (String, [UInt8])
  init(_ reason: String, answer: [UInt8] = []) { (self.reason, self.answer) = (reason, answer) }
}

/// A server that is to be dialled, again and again.
final class Neighbour {
  let port: UInt16
  var isDialled = false
  var dialAt = now()
  var wait = 0.5  // seconds, before it is dialled again

  init(_ port: UInt16) { self.port = port }
}

let arguments = CommandLine.arguments
let ports = arguments.dropFirst(3).map { UInt16($0) ?? 0 }
guard arguments.count >= 3, let port = UInt16(arguments[1]), !ports.contains(0) else {
  warn("usage: exercise PORT JOURNAL [PORT ...]")
  exit(2)
}
signal(SIGPIPE, SIG_IGN)  // a write to a peer that has gone is to fail with EPIPE, and not to end the server
let badRequest = Array("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".utf8)
var book: [[UInt8]: Contact] = [:]  // by key
var clock: UInt32 = 0
var pending: [(contact: Contact, source: Peer?)] = []  // taken, and not on the disk yet
let journal = openJournal(arguments[2])
let listener = listeningSocket(port)
var peers: [Int32: Peer] = [:]  // by descriptor
let neighbours = ports.map { Neighbour($0) }
var nextBeat = now() + interval

while true {
  for neighbour in neighbours where !neighbour.isDialled && neighbour.dialAt <= now() { dial(neighbour) }
  if nextBeat <= now() { beat() }
  var entries = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
  for peer in peers.values {
    let room = peer.isConnecting || !peer.queue.isEmpty ? POLLOUT : 0
    let events = Int16((peer.isHeard ? POLLIN : 0) | room)
    entries.append(pollfd(fd: peer.connection, events: events, revents: 0))
  }
  let next = neighbours.filter { !$0.isDialled }.map(\.dialAt).reduce(nextBeat, min)
  let timeout = Int32(max(0, (next - now()) * 1000).rounded(.up))
  guard poll(&entries, nfds_t(entries.count), timeout) >= 0 || errno == EINTR else { fail("poll") }
  for entry in entries where entry.revents != 0 {
    if entry.fd == listener { acceptPeer() } else if let peer = peers[entry.fd] { serve(peer, entry.revents) }
  }
  commit()  // all that has come in this turn shares one sync
}

// --- what is new: other servers are dialled ---

func dial(_ neighbour: Neighbour) {
  neighbour.isDialled = true
  let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
  let connection = socket(AF_INET, type, 0)
  guard connection >= 0 else { return dialLater(neighbour) }
  let peer = Peer(connection, neighbour)
  peers[connection] = peer
  var address = loopback(neighbour.port)
  let result = withSockaddr(&address) { connect(connection, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
  if result == -1, errno != EINPROGRESS, errno != EINTR { drop(peer) }
}

func dialLater(_ neighbour: Neighbour) {
  neighbour.isDialled = false
  // At random, so that servers that have lost each other do not dial in step.
  neighbour.dialAt = now() + neighbour.wait * Double.random(in: 0.5...1)
  // Much longer, so that nothing changes while it is looked at.
  neighbour.wait = min(30, neighbour.wait * 20)
}

/// A socket that we dial with has become writable. False where it is not connected, or with itself.
func isConnected(_ peer: Peer) -> Bool {
  var (failure, size) = (Int32(0), socklen_t(4))
  guard getsockopt(peer.connection, SOL_SOCKET, SO_ERROR, &failure, &size) == 0, failure == 0 else {
    return false
  }
  // Where nobody listens, the port that the kernel chooses for our end may be the very one that is dialled.
  var (own, other, length) = (sockaddr_in(), sockaddr_in(), socklen_t(MemoryLayout<sockaddr_in>.size))
  guard withSockaddr(&own, { getsockname(peer.connection, $0, &length) }) == 0,
    withSockaddr(&other, { getpeername(peer.connection, $0, &length) }) == 0,
    own.sin_port != other.sin_port || own.sin_addr.s_addr != other.sin_addr.s_addr
  else { return false }
  peer.isConnecting = false
  peer.queue += [1] + padded("exercise".utf8, 256)
  openLink(peer)
  return true
}

/// It is time for the HeartBeats. Who has been silent for three of them is gone, whatever TCP says.
func beat() {
  nextBeat = now() + interval
  for peer in peers.values where [.server, .unknown].contains(peer.role) && !peer.isConnecting {
    if now() - peer.lastHeard > patience {
      refuse(peer, Refusal("it is silent"))
    } else if peer.role == .server {
      peer.queue += [2, 1] + bigEndian(clock)
    }
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

/// Does for one peer what can be done without waiting. Besides room, each event is something that read tells.
func serve(_ peer: Peer, _ events: Int16) {
  if peer.isConnecting, !isConnected(peer) {
    peers[peer.connection] = nil
    if let neighbour = peer.neighbour { dialLater(neighbour) }
    return
  }
  let isHeard = peer.isHeard && events != Int16(POLLOUT)
  guard peer.queue.isEmpty || send(peer), !isHeard || receive(peer) else { return drop(peer) }
  do { try take(peer) } catch { return refuse(peer, error) }
  guard peer.isEnding, peer.queue.isEmpty else { return }
  if !peer.received.isEmpty, peer.role != .leaving { warn("refused: a stream has ended inside a message") }
  drop(peer)
}

/// Hands the kernel as much of the queue as it takes now. False where the connection is broken.
func send(_ peer: Peer) -> Bool {
  let count = write(peer.connection, peer.queue, peer.queue.count)
  if count == -1 { return errno == EAGAIN || errno == EINTR }
  peer.queue.removeFirst(count)
  if peer.queue.isEmpty { peer.answersWaiting = 0 }
  return true
}

/// Takes what has come. False where the connection is broken, or over.
func receive(_ peer: Peer) -> Bool {
  var bytes = [UInt8](repeating: 0, count: 65_536)
  let count = read(peer.connection, &bytes, bytes.count)
  if count == -1 { return errno == EAGAIN || errno == EINTR }
  peer.received += bytes[..<count]
  peer.lastHeard = now()
  // A client that has ended its direction still gets its answers. A server that has is gone.
  peer.isEnding = count == 0
  return count > 0 || peer.role == .client
}

/// Takes whole messages out of what has come, and keeps the rest.
func take(_ peer: Peer) throws(Refusal) {
  var rest = peer.received[...]
  defer { peer.received = Array(rest) }
  while peer.role == .server || peer.queue.isEmpty, let size = try messageSize(rest, peer), rest.count >= size
  {
    let message = rest.prefix(size)
    rest = rest.dropFirst(size)
    switch peer.role {
    case .unknown: try greet(message, peer)
    case .client: try takeCommand(message, peer)
    case .server: try takeMessage(message, peer)
    case .webSocket: try takeFrame(message, peer)
    case .leaving: break
    }
  }
}

/// How many bytes the next message has, or nil where that cannot be told yet.
func messageSize(_ rest: Bytes, _ peer: Peer) throws(Refusal) -> Int? {
  guard let first = rest.first else { return nil }
  switch (peer.role, first) {
  case (.unknown, UInt8(ascii: "G")): return try headSize(rest)
  case (.unknown, 1), (.unknown, 2): return 1 + 256
  case (.unknown, _): throw Refusal("\(first) is no role")
  case (.client, 1): return 1 + contactSize
  case (.client, 2): return 1
  case (.server, _) where peer.recordsLeft > 0: return 4 + contactSize
  case (.server, 0): return 4  // no command: the ContactLen of an answer
  case (.server, 1): return 1 + 4 + contactSize
  case (.server, 2): return 1 + 1 + 4
  case (.server, 3): return 1 + 4
  case (.server, 4): return 1
  case (.webSocket, _): return try frameSize(rest)
  case (.leaving, _): return nil
  default: throw Refusal("\(first) is no command")
  }
}

func greet(_ message: Bytes, _ peer: Peer) throws(Refusal) {
  if message.first == UInt8(ascii: "G") { return try upgrade(message, peer) }
  _ = try field(message.dropFirst())
  if message.first == 1 { openLink(peer) } else { peer.role = .client }
}

func refuse(_ peer: Peer, _ refusal: Refusal) {
  warn("refused: \(refusal.reason)")
  if refusal.answer.isEmpty { drop(peer) } else { leave(peer, saying: refusal.answer) }
}

func leave(_ peer: Peer, saying words: [UInt8]) {
  peer.queue += words
  (peer.role, peer.isEnding) = (.leaving, true)
}

func drop(_ peer: Peer) {
  peers[peer.connection] = nil
  close(peer.connection)
  if let neighbour = peer.neighbour { dialLater(neighbour) }
}

// --- clients ---

func takeCommand(_ message: Bytes, _ peer: Peer) throws(Refusal) {
  if message.first == 1 {
    let contact = try Contact(message.dropFirst(), clock: clock &+ 1)
    guard clock < .max else { return warn("an Update is not taken: the clock can count no further") }
    clock += 1
    pending.append((contact, nil))
  } else {
    commit()
    peer.queue += bigEndian(UInt32(book.count))
    for contact in book.values { peer.queue += contact.key + contact.phone }
  }
}

// --- servers ---

func openLink(_ peer: Peer) {
  peer.role = .server
  ask(peer)
  peer.queue += [2, 1] + bigEndian(clock)
}

func ask(_ peer: Peer) {
  if peer.isAsked { return }
  peer.isAsked = true
  peer.queue.append(4)
}

func takeMessage(_ message: Bytes, _ peer: Peer) throws(Refusal) {
  peer.neighbour?.wait = 0.5  // it is well
  let body = message.dropFirst()
  if peer.recordsLeft > 0 {
    try change(message, from: peer)
    peer.recordsLeft -= 1
    if peer.recordsLeft == 0 { peer.isAsked = false }
    return
  }
  switch message.first {
  case 0:
    guard peer.isAsked else { throw Refusal("an answer, and nothing was asked") }
    peer.recordsLeft = Int(number(message))
    if peer.recordsLeft == 0 { peer.isAsked = false }
  case 1: try change(body, from: peer)
  case 2:
    guard let status = body.first, 1...3 ~= status else { throw Refusal("that is no HealthStatus") }
    let other = try believable(number(body.dropFirst()))
    commit()  // what a clock counts is on the disk, and in every queue, before the clock is told
    if clock >= other {
      peer.queue += [3] + bigEndian(clock)
    } else {
      clock = other
      ask(peer)
    }
  case 3: clock = max(clock, try believable(number(body)))
  default:
    guard peer.answersWaiting < 16 else { throw Refusal("it asks, and does not read the answers") }
    peer.answersWaiting += 1
    commit()
    peer.queue += bigEndian(UInt32(book.count))
    for contact in book.values { peer.queue += contact.record }
  }
}

/// A clock and a contact, from another server.
func change(_ record: Bytes, from peer: Peer) throws(Refusal) {
  let contact = try Contact(record.dropFirst(4), clock: believable(number(record)))
  clock = max(clock, contact.clock)
  pending.append((contact, peer))
}

/// A clock that is too far ahead is none. Who has no contact yet believes all.
func believable(_ other: UInt32) throws(Refusal) -> UInt32 {
  guard other <= clock || other - clock <= 1 << 28 || book.isEmpty && pending.isEmpty else {
    throw Refusal("clock \(other) is too far ahead of ours, \(clock)")
  }
  return other
}

// --- the book, and its journal ---

/// What was taken is on the disk before anybody is shown it, or sent it.
func commit() {
  let news = pending.filter { isNews($0.contact) }
  pending = []
  if news.isEmpty { return }
  let records = news.flatMap { checked($0.contact.record) }
  guard writeAll(journal, records), fdatasync(journal) == 0 else { fail("the journal") }
  for (contact, source) in news where isNews(contact) {
    book[contact.key] = contact
    for peer in peers.values where peer !== source {
      if peer.role == .server { peer.queue += [1] + contact.record }
      if peer.role == .webSocket { peer.queue += frame(1, Array(contact.text.utf8)) }
    }
  }
}

func isNews(_ contact: Contact) -> Bool { book[contact.key].map { contact.wins(over: $0) } ?? true }

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
      if isNews(contact) { book[contact.key] = contact }
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

// --- WebSockets ---

/// The size of a request's head; nil where its empty line has not come yet.
func headSize(_ rest: Bytes) throws(Refusal) -> Int? {
  let end = Array("\r\n\r\n".utf8)
  let found = rest.indices.first { rest[$0...].starts(with: end) }
  if found == nil, rest.count > 8192 { throw Refusal("a head of more than 8192 bytes", answer: badRequest) }
  return found.map { $0 + end.count - rest.startIndex }
}

/// Answers a request for a WebSocket. Then comes the book, a contact a frame.
func upgrade(_ head: Bytes, _ peer: Peer) throws(Refusal) {
  // To Swift CR LF is one Character.
  let lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n")
  var fields: [String: [String]] = [:]
  for line in lines.dropFirst() {
    guard let colon = line.firstIndex(of: ":") else { continue }
    let words = line[colon...].dropFirst().split { " \t,".contains($0) }
    fields[line[..<colon].lowercased(), default: []] += words.map(String.init)
  }
  func has(_ name: String, _ word: String) -> Bool {
    fields[name]?.contains { $0.lowercased() == word } ?? false
  }
  // Any page that is open in a browser of this machine could ask, and read the book. A browser says whose
  // page it is.
  guard let words = lines.first?.split(separator: " "), words.count == 3, words[0] == "GET",
    words[2] == "HTTP/1.1",
    has("upgrade", "websocket"), has("connection", "upgrade"), fields["sec-websocket-version"] == ["13"],
    let key = fields["sec-websocket-key"]?.first, key.utf8.count == 24, fields["origin"] == nil
  else { throw Refusal("that is no request for a WebSocket, or a page's", answer: badRequest) }
  let accept = base64(sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
  let answer = [
    "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
    "Sec-WebSocket-Accept: \(accept)", "", "",
  ]
  peer.queue += Array(answer.joined(separator: "\r\n").utf8)
  peer.role = .webSocket
  for contact in book.values { peer.queue += frame(1, Array(contact.text.utf8)) }
}

/// A frame of a server's: final, and not masked. None of them has 64 KiB.
func frame(_ opcode: UInt8, _ payload: [UInt8]) -> [UInt8] {
  let size = payload.count
  return [0x80 | opcode] + (size < 126 ? [UInt8(size)] : [126] + bigEndian(UInt16(size))) + payload
}

/// The size of a client's frame, mask and all; nil where its header is not whole yet.
func frameSize(_ rest: Bytes) throws(Refusal) -> Int? {
  let header = Array(rest.prefix(4))
  guard header.count >= 2 else { return nil }
  let (isFinal, opcode, length) = (header[0] & 0x80 != 0, header[0] & 0xf, Int(header[1] & 0x7f))
  // Three bits of the first byte are reserved. Opcodes from 8 on are control frames.
  guard header[1] & 0x80 != 0, header[0] & 0x70 == 0, [0, 1, 2, 8, 9, 10].contains(opcode),
    opcode < 8 || isFinal && length < 126
  else { throw Refusal("a frame has no mask, or is none", answer: frame(8, bigEndian(UInt16(1002)))) }
  if length < 126 { return 2 + 4 + length }
  guard length == 126 else { throw Refusal("a frame of 64 KiB", answer: frame(8, bigEndian(UInt16(1009)))) }
  return header.count < 4 ? nil : 4 + 4 + Int(header[2]) << 8 + Int(header[3])
}

func takeFrame(_ message: Bytes, _ peer: Peer) throws(Refusal) {
  let bytes = Array(message)
  let start = bytes[1] & 0x7f < 126 ? 2 : 4
  let (mask, masked) = (Array(bytes[start..<start + 4]), bytes[(start + 4)...])
  let payload = masked.enumerated().map { $1 ^ mask[$0 % 4] }
  switch bytes[0] & 0xf {
  case 8: leave(peer, saying: frame(8, Array(payload.prefix(2))))
  case 9: peer.queue += frame(10, payload)
  default: break  // a text, or a Pong
  }
}

/// See: FIPS 180-4, section 6.1.2
func sha1(_ message: [UInt8]) -> [UInt8] {
  let zeros = [UInt8](repeating: 0, count: (119 - message.count % 64) % 64)
  let padded = message + [0x80] + zeros + bigEndian(UInt64(message.count) * 8)
  var hash: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]
  func rotated(_ word: UInt32, _ bits: UInt32) -> UInt32 { word << bits | word >> (32 - bits) }
  for block in stride(from: 0, to: padded.count, by: 64) {
    var words = (0..<16).map { number(padded[(block + 4 * $0)...]) }
    for t in 16..<80 { words.append(rotated(words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16], 1)) }
    var (a, b, c, d, e) = (hash[0], hash[1], hash[2], hash[3], hash[4])
    for t in 0..<80 {
      let f = [b & c ^ ~b & d, b ^ c ^ d, b & c ^ b & d ^ c & d, b ^ c ^ d][t / 20]
      let k: UInt32 = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6][t / 20]
      (a, b, c, d, e) = (rotated(a, 5) &+ f &+ e &+ k &+ words[t], a, rotated(b, 30), c, d)
    }
    hash = zip(hash, [a, b, c, d, e]).map { $0 &+ $1 }
  }
  return hash.flatMap { bigEndian($0) }
}

/// See: RFC 4648, section 4
func base64(_ bytes: [UInt8]) -> String {
  let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
  var text = ""
  for start in stride(from: 0, to: bytes.count, by: 3) {
    let group = bytes[start...].prefix(3)
    let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
    for place in 0..<4 {
      text.append(place <= group.count ? letters[Int(bits >> UInt32(18 - 6 * place) & 63)] : "=")
    }
  }
  return text
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

func bigEndian(_ number: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: number.bigEndian) { Array($0) }
}

/// The number in the first four bytes.
func number(_ bytes: Bytes) -> UInt32 { bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) } }

/// Seconds.
func now() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func listeningSocket(_ port: UInt16) -> Int32 {
  let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
  let listener = socket(AF_INET, type, 0)
  guard listener >= 0 else { fail("socket") }
  var on: Int32 = 1
  guard setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, 4) == 0 else { fail("setsockopt") }
  var address = loopback(port)
  let bound = withSockaddr(&address) { bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
  guard bound == 0 else { fail("bind") }
  guard listen(listener, 8) == 0 else { fail("listen") }
  return listener
}

func loopback(_ port: UInt16) -> sockaddr_in {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr("127.0.0.1")
  address.sin_port = port.bigEndian
  return address
}

func withSockaddr(_ address: inout sockaddr_in, _ call: (UnsafeMutablePointer<sockaddr>) -> Int32) -> Int32 {
  withUnsafeMutablePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1, call) }
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
