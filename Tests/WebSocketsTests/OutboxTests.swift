import TestSupport
import Testing

@testable import WebSockets

/// An outbox that can be looked at in an expectation, which cannot be done with what cannot be copied.
final class Outbox {
  private var box: WebSocketOutbox

  init(_ role: WebSocketRole) { box = WebSocketOutbox(role) }

  var count: Int { box.count }
  var isEmpty: Bool { box.isEmpty }

  func add(_ opcode: Opcode, _ bytes: [UInt8], isFinal: Bool = true) {
    bytes.withUnsafeBytes { box.add(opcode, $0, isFinal: isFinal) }
  }
  func add(_ opcode: Opcode, _ text: String, isFinal: Bool = true) {
    add(opcode, Array(text.utf8), isFinal: isFinal)
  }
  func add(raw bytes: [UInt8]) { box.add(raw: bytes) }
  func add(_ frame: EncodedFrame) { box.add(frame) }
  func addClose(_ code: CloseCode?, _ reason: String) { box.addClose(code, reason) }
  func send(_ call: (UnsafeRawBufferPointer) -> Int) -> Int { box.send(call).taken }
  func cut() -> Int { box.cut() }

  /// What is sent, where each call takes at most so many bytes, and at most so many in all.
  func sent(by step: Int = .max, most: Int = .max) -> [UInt8] {
    var bytes: [UInt8] = []
    while !isEmpty, bytes.count < most {
      let before = count
      let taken = send { waiting in
        let part = waiting.prefix(min(step, most - bytes.count))
        bytes += part
        return part.count
      }
      if before - taken != count {
        Issue.record("of \(before) bytes \(taken) were taken, and \(count) are left")
      }
      if taken == 0 { break }
    }
    return bytes
  }

  /// Whether it has memory: what it hands out stands somewhere.
  var hasMemory: Bool {
    var hasMemory = false
    _ = send { bytes in
      hasMemory = bytes.baseAddress != nil
      return -1
    }
    return hasMemory
  }
}

@Suite struct OutboxTests {
  private static let payloads: [(Opcode, [UInt8], isFinal: Bool)] = {
    var random = SplitMix(seed: 7)
    return [
      (.binary, random.bytes(10), true), (.ping, [], true), (.binary, random.bytes(130), false),
      (.pong, [1, 2], true), (.continuation, [], true), (.binary, random.bytes(300), true),
    ]
  }()

  private static let heard: [Heard] = [
    .binary(payloads[0].1), .ping([]), .pong([1, 2]), .binary(payloads[2].1), .binary(payloads[5].1),
  ]

  private static func fill(_ outbox: Outbox) {
    for (opcode, payload, isFinal) in payloads { outbox.add(opcode, payload, isFinal: isFinal) }
  }

  /// However little a call takes, the same bytes go out.
  @Test func partialSends() {
    let expected = Self.payloads.flatMap { frame($0.0.rawValue | ($0.isFinal ? 0x80 : 0), $0.1) }
    for step in 1...(expected.count + 1) {
      let server = Outbox(.server)
      Self.fill(server)
      #expect(server.count == expected.count)
      if server.sent(by: step) != expected { Issue.record("by \(step)") }
      #expect(server.isEmpty && server.count == 0)
      // A client's bytes are others each time; what they say is the same.
      let client = Outbox(.client)
      Self.fill(client)
      if read(client.sent(by: step), .server) != Reading(events: Self.heard) {
        Issue.record("masked, by \(step)")
      }
    }
  }

  /// A call that takes nothing, or fails, or is wrong about what it has taken.
  @Test func callsThatTakeNothing() {
    let outbox = Outbox(.server)
    outbox.add(.text, "abc")
    #expect(outbox.send { _ in -1 } == -1)
    #expect(outbox.send { _ in 0 } == 0)
    #expect(outbox.count == 5)
    #expect(outbox.send { $0.count + 7 } == 12)
    #expect(outbox.isEmpty)
    #expect(outbox.send { $0.count } == 0)
  }

  /// New frames come while others are half sent, and memory is used again.
  @Test(arguments: [WebSocketRole.server, .client]) func addingWhileSending(role: WebSocketRole) {
    for seed in UInt64(0)..<60 {
      var random = SplitMix(seed: seed)
      let outbox = Outbox(role)
      var (said, out): ([Heard], [UInt8]) = ([], [])
      let largest = [10, 130, 3000][Int(seed % 3)]
      for _ in 0..<200 {
        let payload = random.bytes(Int.random(in: 0...largest, using: &random))
        switch Int.random(in: 0...9, using: &random) {
        case 0 where role == .server:
          outbox.add(EncodedFrame(.binary, payload))
          said.append(.binary(payload))
        case 0..<5:
          outbox.add(.binary, payload)
          said.append(.binary(payload))
        case 5:
          outbox.add(.ping, Array(payload.prefix(125)))
          said.append(.ping(Array(payload.prefix(125))))
        default: out += outbox.sent(most: Int.random(in: 0...(3 * largest), using: &random))
        }
      }
      out += outbox.sent(by: 1 + largest / 3)
      #expect(read(out, role == .server ? .client : .server) == Reading(events: said), "seed \(seed)")
    }
  }

  /// Wherever the sending stood, behind a head or in it, what comes after a cut is understood.
  @Test(arguments: [WebSocketRole.server, .client], [0, 1, 25]) func cut(role: WebSocketRole, head: Int)
    throws
  {
    let head = [UInt8](repeating: 0x48, count: head)
    var size = head.count
    do {
      let outbox = Outbox(role)
      Self.fill(outbox)
      size += outbox.count
    }
    for place in 0...size {
      for addsBefore in [false, true] {
        let outbox = Outbox(role)
        if !head.isEmpty { outbox.add(raw: head) }
        Self.fill(outbox)
        var out = outbox.sent(most: place)
        // What is added here may move the rest to other memory.
        if addsBefore { outbox.add(.binary, [UInt8](repeating: 9, count: 2000)) }
        let before = outbox.count
        let removed = outbox.cut()
        #expect(removed + outbox.count == before)
        #expect(outbox.count <= max(head.count, 308))
        outbox.addClose(.policyViolation, "enough")
        out += outbox.sent(by: 7)
        if out.prefix(head.count) != head[...] { Issue.record("the head is not whole, sent \(place)") }
        let reading = read(Array(out.dropFirst(head.count)), role == .server ? .client : .server)
        // A fragmented message may end there: then the Close stands inside it, which is allowed.
        let isRight =
          reading.problem == nil && reading.events.last == .close(1008, "enough")
          && reading.events.dropLast() == Self.heard.prefix(reading.events.count - 1)
        if !isRight { Issue.record("sent \(place): \(reading)") }
        // All whole frames of which a byte was sent have come, and no others.
        if !addsBefore, out.count > place + 308 + 14 + head.count {
          Issue.record("too much was sent after \(place)")
        }
      }
    }
  }

  @Test func cutOfNothing() {
    let outbox = Outbox(.server)
    #expect(outbox.cut() == 0)
    outbox.add(.text, "a")
    #expect(outbox.cut() == 3)
    #expect(outbox.isEmpty && !outbox.hasMemory)
    outbox.add(raw: [1, 2, 3])
    #expect(outbox.cut() == 0)
    #expect(outbox.cut() == 0)
    #expect(outbox.sent() == [1, 2, 3])
  }

  /// Twice, with something sent between: the second one leaves what is under way, too.
  @Test func cutTwice() {
    let long = [UInt8](repeating: 1, count: 1000)
    let outbox = Outbox(.server)
    outbox.add(.binary, long)
    outbox.add(.binary, long)
    var out = outbox.sent(most: 10)
    #expect(outbox.cut() == 1004)
    outbox.add(.ping, [5])
    outbox.add(.binary, long)
    out += outbox.sent(most: 995)
    #expect(outbox.cut() == 1004)
    out += outbox.sent()
    #expect(read(out, .client) == Reading(events: [.binary(long), .ping([5])]))
  }

  @Test(arguments: [WebSocketRole.server, .client]) func memoryIsLetGo(role: WebSocketRole) {
    let outbox = Outbox(role)
    #expect(!outbox.hasMemory)
    for _ in 0..<3 {
      outbox.add(.binary, [UInt8](repeating: 1, count: 100_000))
      #expect(outbox.hasMemory)
      _ = outbox.sent(most: 50)
      #expect(outbox.hasMemory)
      _ = outbox.sent(by: 30_000)
      #expect(outbox.isEmpty && !outbox.hasMemory)
    }
  }

  /// See: RFC 6455, section 5.5.1
  @Test func closes() {
    func sent(_ code: CloseCode?, _ reason: String) -> [UInt8] {
      let outbox = Outbox(.server)
      outbox.addClose(code, reason)
      return outbox.sent()
    }
    #expect(sent(nil, "not sent") == [0x88, 0])
    #expect(sent(.normal, "") == [0x88, 2, 0x03, 0xe8])
    #expect(sent(.goingAway, "bye") == [0x88, 5, 0x03, 0xe9, 0x62, 0x79, 0x65])
    let letters = String(repeating: "a", count: 130)
    #expect(sent(.normal, letters) == [0x88, 125, 0x03, 0xe8] + [UInt8](repeating: 0x61, count: 123))
    // A character that does not fit is left out as a whole.
    for prefix in 118...124 {
      let reason = String(repeating: "a", count: prefix) + "\u{1f600}é"
      let reading = read(sent(.normal, reason), .client)
      #expect(reading.problem == nil)
      guard case .close(1000, let heard) = reading.events.first else {
        Issue.record("no Close")
        continue
      }
      #expect(reason.hasPrefix(heard) && heard.utf8.count > 115 && heard.utf8.count <= 123)
    }
  }

  /// Masks do not repeat, and no byte of them is always the same. See: RFC 6455, section 5.3
  @Test func masksAreOthersEachTime() {
    var source = MaskSource()
    let masks = (0..<2000).map { _ in source.next() }
    // Of 2000 numbers out of 2^32 two are the same once in 2000 times, and four hardly ever.
    #expect(Set(masks).count >= 1998)
    for place in 0..<4 { #expect(Set(masks.map { $0.bytes[place] }).count > 200) }
  }
}
