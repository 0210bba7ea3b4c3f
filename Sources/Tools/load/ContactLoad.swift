import Contacts
import Glibc
import LoadGeneration
import Sockets
import SystemCalls

/// How contacts are to be sent.
struct ContactPlan {
  var connections = 50
  /// Contacts over all connections; they are changed again and again.
  var keys = 1000
  /// Bytes of a user's and of a contact's name.
  var nameSize = 20
  /// Updates that may be on their way on each connection; nil for as many as it takes.
  var outstanding: Int?
  /// Seconds in which Updates are sent.
  var duration = 2.0
}

/// What came of it.
struct ContactResult {
  var updates: UInt64 = 0
  /// Until the last connection was shown its last Updates.
  var seconds = 0.0
  /// What the generator itself took of a processor in that time.
  var processorSeconds = 0.0
  /// What the server took of processors in that time, in nanoseconds, where that was measured.
  var serverTime: UInt64?
  /// Contacts that were not shown as they were sent.
  var wrong = 0
  /// Updates that the server's clock has not counted.
  var refused: UInt64 = 0
  var failures = 0
  var reason: String?
  var interruption: Int32?

  var perSecond: Double { seconds > 0 ? Double(updates) / seconds : 0 }
}

/// Sends Updates, and stops when a ListAll on each connection has shown the last of them.
///
/// An Update has no answer. Where only so many may be on their way, a link, on which the generator speaks as a server, tells what the
/// server has on disk: it is sent each contact then.
final class ContactLoad {
  let plan: ContactPlan
  let loop: EventLoop
  private var connections: [ContactConnection] = []
  private var link: AcknowledgingLink?
  private var result = ContactResult()
  private var done = 0
  private var begin: UInt64 = 0
  private(set) var isOver = false
  private var timers: [LoopTimer] = []
  private var signals: LoopSignals?

  /// How long the last answers may take, in milliseconds.
  private static let patience = 60_000

  /// Dials.
  ///
  /// - Throws: what stands in the way.
  init(_ plan: ContactPlan, to address: SocketAddress, interruption: Int32) throws {
    self.plan = plan
    loop = try EventLoop(scratchSize: 256 * 1024)
    func dial(_ role: Role, _ name: String) throws -> Descriptor {
      let socket = try Descriptor.connected(to: address, patience: 10_000, interruption: interruption)
      var hello = MessageWriter()
      hello.hello(try Hello(role, name: name))
      try writeAll(hello.bytes, to: socket.number)
      return socket
    }
    if plan.outstanding != nil { link = try AcknowledgingLink(dial(.server, "load"), load: self) }
    for number in 0..<plan.connections {
      connections.append(try ContactConnection(number, dial(.client, "load \(number)"), load: self))
    }
  }

  /// Sends until the time is over and all is shown, or a signal comes.
  func run(meter: (() -> UInt64?)?) throws(SystemCallError) -> ContactResult {
    signals = try LoopSignals([SIGINT, SIGTERM, SIGHUP], on: loop) { [unowned self] signal in
      result.interruption = signal
      loop.stop()
    }
    let end = try LoopTimer(on: loop) { [unowned self] _ in
      isOver = true
      for connection in connections { connection.send() }
    }
    let late = try LoopTimer(on: loop) { [unowned self] _ in
      fail("not all was shown \(Self.patience / 1000) seconds after the last Update")
      loop.stop()
    }
    timers = [end, late]
    let meterBegin = meter?()
    let processorBegin = processorTime()
    begin = monotonicNanoseconds()
    end.start(milliseconds: max(1, Int(plan.duration * 1000)))
    late.start(milliseconds: Int(plan.duration * 1000) + Self.patience)
    for connection in connections { connection.send() }
    try loop.run()
    result.seconds = Double(monotonicNanoseconds() &- begin) / 1e9
    result.processorSeconds = processorTime() - processorBegin
    if let meterBegin, let meterEnd = meter?(), meterEnd >= meterBegin {
      result.serverTime = meterEnd - meterBegin
    }
    return result
  }

  /// A server has this from a connection on disk, and all before it.
  func acknowledged(_ sequence: UInt64, of connection: Int) {
    guard connections.indices.contains(connection) else { return }
    connections[connection].acknowledged(sequence)
  }

  func ended(updates: UInt64, wrong: Int) {
    result.updates += updates
    result.wrong += wrong
    done += 1
    if done == connections.count { loop.stop() }
  }

  func fail(_ reason: String) {
    result.failures += 1
    if result.reason == nil { result.reason = reason }
    done += 1
    if done == connections.count { loop.stop() }
  }
}

/// One client: its own contacts, again and again, each time with another phone number.
final class ContactConnection: EventHandler {
  private let socket: Descriptor
  private unowned let load: ContactLoad
  private let number: Int
  /// All its contacts, as Updates without a phone number.
  private var template: [UInt8] = []
  private let keys: Int
  private let size: Int
  private var sequence: UInt64 = 0
  private var acknowledged: UInt64 = 0
  private var buffer: [UInt8] = []
  private var sent = 0
  private var hasAsked = false
  private var hasEnded = false
  private var wantsRoom = false
  private var reader = MessageReader(ListingLanguage())
  /// The last phone number of each contact, and whether it was shown.
  private var shown = 0
  private let user: [UInt8]

  /// Updates that are put together at once.
  private static let batch = 128
  private static let phoneDigits = 16

  init(_ number: Int, _ socket: consuming Descriptor, load: ContactLoad) throws {
    self.number = number
    self.load = load
    self.socket = socket
    keys = max(1, load.plan.keys / load.plan.connections)
    func name(_ word: String, _ number: Int) -> String {
      let digits = String(number)
      return word + String(repeating: "-", count: max(0, load.plan.nameSize - word.count - digits.count))
        + digits
    }
    user = Array(name("u", number).utf8)
    var writer = MessageWriter()
    for key in 0..<keys {
      let contact = try Contact(
        user: name("u", number), name: name("c", key), phone: String(repeating: "0", count: Self.phoneDigits))
      contact.withView { writer.update($0) }
    }
    template = writer.bytes
    size = template.count / keys
    try load.loop.add(self.socket.number, for: .readable, self)
  }

  func ready(_ readiness: Readiness) {
    if readiness.contains(.writable) { send() }
    if readiness != .writable, !hasEnded { receive() }
  }

  func acknowledged(_ sequence: UInt64) {
    guard sequence > acknowledged else { return }
    acknowledged = sequence
    // As a pipeline has it: the next ones are sent when all before have been answered.
    if acknowledged == self.sequence { send() }
  }

  /// Sends as much as there is room for.
  func send() {
    while !hasEnded {
      if sent == buffer.count, !fill() { break }
      let count = buffer.withUnsafeBytes { bytes in
        Glibc.send(
          socket.number, bytes.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
      }
      if count < 0 {
        let failure = ErrorNumber.last
        guard [EAGAIN, EINTR].contains(failure.rawValue) else { return end("send: \(failure)") }
        return watch(true)
      }
      sent += count
    }
    watch(false)
  }

  /// Puts the next messages together; false where there is none to send now.
  private func fill() -> Bool {
    sent = 0
    buffer.removeAll(keepingCapacity: true)
    if load.isOver {
      guard !hasAsked else { return false }
      hasAsked = true
      var writer = MessageWriter()
      writer.listAll()
      buffer = writer.bytes
      return true
    }
    var count = Self.batch
    if let outstanding = load.plan.outstanding {
      guard acknowledged == sequence else { return false }
      count = outstanding
    }
    for _ in 0..<count {
      let from = Int(sequence % UInt64(keys)) * size
      sequence += 1
      buffer += template[from..<from + size]
      store(sequence, at: buffer.count - 20)
    }
    return true
  }

  private func store(_ number: UInt64, at place: Int) {
    var rest = number
    for digit in 0..<Self.phoneDigits {
      buffer[place + Self.phoneDigits - 1 - digit] = UInt8(ascii: "0") + UInt8(rest % 10)
      rest /= 10
    }
  }

  private func receive() {
    let scratch = load.loop.scratch
    let count = recv(socket.number, scratch.baseAddress, scratch.count, 0)
    guard count > 0 else {
      let failure = ErrorNumber.last
      if count == 0 { return end("the server has closed it") }
      return [EAGAIN, EINTR].contains(failure.rawValue) ? () : end("recv: \(failure)")
    }
    var bytes = UnsafeRawBufferPointer(rebasing: scratch[..<count])
    do throws(ProtocolViolation) {
      while let part = try reader.next(from: &bytes) {
        if case .contact(let contact) = part { look(at: contact) }
      }
    } catch { return end("\(error)") }
    guard hasAsked, reader.language.contactsLeft == 0 else { return }
    hasEnded = true
    load.loop.forget(socket.number)
    load.ended(updates: sequence, wrong: min(keys, Int(clamping: sequence)) - shown)
  }

  /// Whether it is one of its own, as it was sent last.
  private func look(at contact: ContactView) {
    guard contact.user.elementsEqual(user), let phone = Digits.number(contact.phone), phone > 0 else {
      return
    }
    guard let key = Digits.number(contact.name.drop { !(48...57).contains($0) }), key < UInt64(keys) else {
      return
    }
    // The last one of this key among so many: keys are taken in turn.
    let last = sequence - (sequence - 1 - key) % UInt64(keys)
    if sequence > key, phone == last { shown += 1 }
  }

  private func watch(_ room: Bool) {
    guard room != wantsRoom, !hasEnded else { return }
    wantsRoom = room
    try? load.loop.change(socket.number, to: room ? [.readable, .writable] : .readable)
  }

  private func end(_ reason: String) {
    guard !hasEnded else { return }
    hasEnded = true
    load.loop.forget(socket.number)
    load.fail(reason)
  }
}

/// Digits in bytes.
enum Digits {
  /// The number that they write, or nil where they write none.
  static func number(_ bytes: some Sequence<UInt8>) -> UInt64? {
    var number: UInt64 = 0
    for byte in bytes {
      guard (48...57).contains(byte) else { return nil }
      number = number &* 10 &+ UInt64(byte - 48)
    }
    return number
  }
}

/// Speaks as a server, is sent each contact that is on disk, and keeps nothing.
final class AcknowledgingLink: EventHandler {
  private let socket: Descriptor
  private unowned let load: ContactLoad
  private var reader = MessageReader(ServerLanguage())
  private var clock: UInt32 = 0

  init(_ socket: consuming Descriptor, load: ContactLoad) throws {
    self.socket = socket
    self.load = load
    try load.loop.add(self.socket.number, for: .readable, self)
  }

  func ready(_ readiness: Readiness) {
    let scratch = load.loop.scratch
    let count = recv(socket.number, scratch.baseAddress, scratch.count, 0)
    guard count > 0 else {
      guard count == 0 || ![EAGAIN, EINTR].contains(errno) else { return }
      load.loop.forget(socket.number)
      return load.fail("the server has closed the link that tells what is on disk")
    }
    var bytes = UnsafeRawBufferPointer(rebasing: scratch[..<count])
    do throws(ProtocolViolation) {
      while let message = try reader.next(from: &bytes) { take(message) }
    } catch { load.fail("\(error)") }
  }

  private func take(_ message: ServerMessage) {
    switch message {
    case .update(let clock, let contact):
      self.clock = max(self.clock, clock)
      let digits = contact.user.drop { !(48...57).contains($0) }
      guard let connection = Digits.number(digits), let phone = Digits.number(contact.phone) else { return }
      load.acknowledged(phone, of: Int(clamping: connection))
    case .heartBeat(_, let clock):
      self.clock = max(self.clock, clock)
      reply { $0.heartBeat(.healthy, clock: self.clock) }
    // A book without a contact.
    case .askForUpdate: reply { $0.count(0) }
    case .updateClock, .answer, .record: break
    }
  }

  private func reply(_ write: (inout MessageWriter) -> Void) {
    var writer = MessageWriter()
    write(&writer)
    // A few bytes now and then, to a server that always reads.
    try? writeAll(writer.bytes, to: socket.number)
  }
}
