import TestSupport
import Testing

@testable import WebSockets

/// What RFC 6455 shows, byte for byte. See: RFC 6455, section 5.7
@Suite struct ExampleTests {
  private static let hello: [UInt8] = [0x48, 0x65, 0x6c, 0x6c, 0x6f]
  private static let unmasked: [UInt8] = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
  private static let masked: [UInt8] = [
    0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
  ]
  private static let fragments: [UInt8] = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f]
  private static let ping: [UInt8] = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
  private static let pong: [UInt8] = [
    0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
  ]

  @Test func whatIsRead() {
    #expect(read(Self.unmasked, .client) == Reading(events: [.text("Hello")]))
    #expect(read(Self.masked, .server) == Reading(events: [.text("Hello")]))
    #expect(read(Self.fragments, .client) == Reading(events: [.text("Hello")]))
    #expect(read(Self.ping, .client) == Reading(events: [.ping(Self.hello)]))
    #expect(read(Self.pong, .server) == Reading(events: [.pong(Self.hello)]))
    let some = [UInt8](repeating: 0x5a, count: 256)
    #expect(read([0x82, 0x7e, 0x01, 0x00] + some, .client) == Reading(events: [.binary(some)]))
    let many = [UInt8](repeating: 0xa5, count: 65536)
    let head: [UInt8] = [0x82, 0x7f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00]
    #expect(read(head + many, .client) == Reading(events: [.binary(many)]))
  }

  @Test func whatIsWritten() {
    let mask: [UInt8] = [0x37, 0xfa, 0x21, 0x3d]
    func header(_ opcode: Opcode, _ length: Int, isFinal: Bool = true, isMasked: Bool = false) -> [UInt8] {
      FrameHeader(
        opcode, length: length, isFinal: isFinal, mask: isMasked ? mask.withUnsafeBytes { Mask($0) } : nil
      ).bytes
    }
    #expect(header(.text, 5) == Array(Self.unmasked.prefix(2)))
    #expect(header(.text, 5, isMasked: true) == Array(Self.masked.prefix(6)))
    #expect(header(.text, 3, isFinal: false) == Array(Self.fragments.prefix(2)))
    #expect(header(.continuation, 2) == [0x80, 0x02])
    #expect(header(.ping, 5) == [0x89, 0x05])
    #expect(header(.pong, 5, isMasked: true) == Array(Self.pong.prefix(6)))
    #expect(header(.binary, 256) == [0x82, 0x7e, 0x01, 0x00])
    #expect(header(.binary, 65536) == [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0])
    // Beside the edges.
    #expect(header(.binary, 125) == [0x82, 125])
    #expect(header(.binary, 126) == [0x82, 126, 0, 126])
    #expect(header(.binary, 65535) == [0x82, 126, 0xff, 0xff])
    #expect(header(.close, 0) == [0x88, 0])

    let server = Outbox(.server)
    server.add(.text, "Hello")
    server.add(.text, "Hel", isFinal: false)
    server.add(.continuation, "lo")
    server.add(.ping, "Hello")
    #expect(server.sent() == Self.unmasked + Self.fragments + Self.ping)
    for count in [256, 65536] {
      let payload = [UInt8](repeating: 0x5a, count: count)
      server.add(.binary, payload)
      #expect(server.sent() == header(.binary, count) + payload)
    }
    // A client's mask is another one each time; what it hides is the same.
    let client = Outbox(.client)
    client.add(.text, "Hello")
    client.add(.pong, "Hello")
    let sent = client.sent()
    #expect(sent.count == 22)
    for (from, first) in [(0, UInt8(0x81)), (11, 0x8a)] {
      #expect(Array(sent[from..<(from + 2)]) == [first, 0x85])
      let key = sent[(from + 2)..<(from + 6)]
      #expect(
        sent[(from + 6)..<(from + 11)].enumerated().map { $0.element ^ key[from + 2 + $0.offset % 4] }
          == Self.hello)
    }
  }
}

/// A stream, what it says, and a server's and a client's view of it.
private struct Conversation {
  var masked: [UInt8] = []
  var unmasked: [UInt8] = []
  var said: [Heard] = []
  /// Where frames begin, for either view.
  var maskedEdges: [Int] = []
  var unmaskedEdges: [Int] = []

  func bytes(for role: WebSocketRole) -> [UInt8] { role == .server ? masked : unmasked }
  func edges(for role: WebSocketRole) -> [Int] { role == .server ? maskedEdges : unmaskedEdges }

  mutating func add(_ first: UInt8, _ payload: [UInt8], mask: [UInt8]) {
    maskedEdges.append(masked.count)
    unmaskedEdges.append(unmasked.count)
    masked += frame(first, payload, mask: mask)
    unmasked += frame(first, payload)
  }

  /// By hand: whole messages, fragments with control frames between them, empty frames, a character that two frames share, a Close.
  static let small: Conversation = {
    var talk = Conversation()
    var random = SplitMix(seed: 1)
    func add(_ first: UInt8, _ payload: [UInt8]) { talk.add(first, payload, mask: random.bytes(4)) }
    let bytes = random.bytes(130)
    add(0x81, Array("Grüß Gott, 世界 😀".utf8))
    add(0x82, [0x00, 0xff, 0x80, 0xc0])
    add(0x81, [])
    add(0x82, [])
    add(0x89, [])
    add(0x01, [0xe4, 0xb8])
    add(0x89, Array("ping".utf8))
    add(0x00, [])
    add(0x8a, [0xff, 0xfe])
    add(0x00, [0x96, 0xf0, 0x9f])
    add(0x80, [0x98, 0x80])
    add(0x02, [])
    add(0x00, [])
    add(0x80, [])
    add(0x02, [1, 2])
    add(0x80, [])
    add(0x82, bytes)
    add(0x02, Array(bytes.prefix(126)))
    add(0x89, Array(bytes.prefix(125)))
    add(0x80, [7])
    add(0x8a, [])
    add(0x88, [0x03, 0xe9] + Array("auf Wiedersehen, früh".utf8))
    talk.said = [
      .text("Grüß Gott, 世界 😀"), .binary([0x00, 0xff, 0x80, 0xc0]), .text(""), .binary([]), .ping([]),
      .ping(Array("ping".utf8)), .pong([0xff, 0xfe]), .text("世😀"), .binary([]), .binary([1, 2]),
      .binary(bytes), .ping(Array(bytes.prefix(125))), .binary(Array(bytes.prefix(126)) + [7]), .pong([]),
      .close(1001, "auf Wiedersehen, früh"),
    ]
    return talk
  }()

  /// Python's, which knows nothing of this library: each way to write a length, at its edges, and fragments.
  static func large() throws -> Conversation {
    let script = """
      import random, struct
      random.seed(6455)
      masked, unmasked, said, edges = bytearray(), bytearray(), [], []
      def add(opcode, payload, fin=True):
        edges.append((len(masked), len(unmasked)))
        n = len(payload)
        head = (n.to_bytes(1, 'big') if n < 126 else b'\\x7e' + struct.pack('!H', n) if n < 65536
                else b'\\x7f' + struct.pack('!Q', n))
        first = bytes([(128 if fin else 0) | opcode])
        key = random.randbytes(4)
        unmasked.extend(first + head + payload)
        stream = (key * (n // 4 + 1))[:n]
        hidden = (int.from_bytes(payload, 'big') ^ int.from_bytes(stream, 'big')).to_bytes(n, 'big')
        masked.extend(first + bytes([head[0] | 128]) + head[1:] + key + hidden)
      def control(opcode, name, payload):
        add(opcode, payload)
        said.append((name, payload))
      for n in 0, 1, 125, 126, 127, 128, 255, 256, 32767, 65535, 65536, 65537:
        data = random.randbytes(n)
        add(2, data)
        said.append(('binary', data))
        text = ''.join(random.choice('aZ ß漢😀') for _ in range(n // 3)).encode()
        add(1, text)
        said.append(('text', text))
      for kind, name in (1, 'text'), (2, 'binary'):
        for count in 1, 2, 5:
          data = ''.join(random.choice('xé語🏁') for _ in range(40000 if count == 5 else 90)).encode()
          cuts = sorted(random.randrange(len(data) + 1) for _ in range(count))
          parts = [data[a:b] for a, b in zip([0] + cuts, cuts + [len(data)])]
          for number, part in enumerate(parts):
            add(kind if number == 0 else 0, part, number == len(parts) - 1)
            if number < len(parts) - 1 and random.random() < .7:
              control(9, 'ping', random.randbytes(random.choice([0, 4, 125])))
              if random.random() < .5: control(10, 'pong', random.randbytes(3))
          said.append((name, data))
      add(8, struct.pack('!H', 3456) + 'tschüß'.encode())
      said.append(('close', 'tschüß'.encode()))
      print(masked.hex())
      print(unmasked.hex())
      print(' '.join(f'{a},{b}' for a, b in edges))
      for name, payload in said: print(name, payload.hex())
      """
    let lines = try python(script)
    try #require(lines.count > 40)
    var talk = Conversation(masked: hex(lines[0]), unmasked: hex(lines[1]))
    for pair in lines[2].split(separator: " ") {
      let numbers = pair.split(separator: ",").compactMap { Int($0) }
      try #require(numbers.count == 2)
      talk.maskedEdges.append(numbers[0])
      talk.unmaskedEdges.append(numbers[1])
    }
    for line in lines[3...] {
      let words = line.split(separator: " ", omittingEmptySubsequences: false)
      let payload = hex(words[1])
      switch words[0] {
      case "text": talk.said.append(.text(payload))
      case "binary": talk.said.append(.binary(payload))
      case "ping": talk.said.append(.ping(payload))
      case "pong": talk.said.append(.pong(payload))
      default: talk.said.append(.close(3456, String(decoding: payload, as: UTF8.self)))
      }
    }
    return talk
  }
}

/// However a stream is cut, it says the same.
@Suite struct CutTests {
  private func expect(
    _ talk: Conversation, _ role: WebSocketRole, cutAt cuts: some Sequence<[Int]>,
    _ place: SourceLocation = #_sourceLocation
  ) {
    let bytes = talk.bytes(for: role)
    let wrong = cuts.first { read(bytes, cutAt: $0, role) != Reading(events: talk.said) }
    #expect(wrong == nil, sourceLocation: place)
  }

  @Test(arguments: [WebSocketRole.server, .client]) func allCutsOfASmallConversation(role: WebSocketRole) {
    let talk = Conversation.small
    let size = talk.bytes(for: role).count
    expect(talk, role, cutAt: [[], Array(0...size)])
    expect(talk, role, cutAt: (0...size).lazy.map { [$0] })
    var random = SplitMix(seed: 2)
    expect(
      talk, role,
      cutAt: (0..<1500).lazy.map { _ in random.cuts(Int.random(in: 2...12, using: &random), in: size) })
    // Two cuts at once, at and beside each frame's edges.
    let edges = Set(talk.edges(for: role).flatMap { [$0, $0 + 1, $0 + 2, $0 + 3] }).filter { $0 <= size }
      .sorted()
    expect(talk, role, cutAt: edges.lazy.flatMap { one in edges.lazy.filter { $0 > one }.map { [one, $0] } })
  }

  @Test(.enabled(if: Witness.havePython), arguments: [WebSocketRole.server, .client])
  func aLargeConversation(role: WebSocketRole) throws {
    let talk = try Conversation.large()
    let size = talk.bytes(for: role).count
    #expect(size > 500_000)
    expect(talk, role, cutAt: [[], Array(0...size)])
    var random = SplitMix(seed: 3)
    expect(talk, role, cutAt: [1, 3, 30, 300, 3000, 30000].lazy.map { random.cuts($0, in: size) })
    expect(talk, role, cutAt: (0..<20).lazy.map { _ in random.cuts(2, in: size) })
    // All edges at once, each a little later each time.
    for step in 0...14 {
      expect(talk, role, cutAt: [talk.edges(for: role).map { min($0 + step, size) }.sorted()])
    }
  }

  /// All two-way cuts, around every frame of the large one: each in a stream of its own, begun in the middle.
  @Test(.enabled(if: Witness.havePython), arguments: [WebSocketRole.server, .client])
  func allCutsAroundTheEdges(role: WebSocketRole) throws {
    let talk = try Conversation.large()
    let bytes = talk.bytes(for: role)
    let edges = talk.edges(for: role)
    for (number, edge) in edges.enumerated() {
      // Data frames that stand alone, whole in themselves.
      guard bytes[edge] == 0x81 || bytes[edge] == 0x82 else { continue }
      let end = number + 1 < edges.count ? edges[number + 1] : bytes.count
      let frame = Array(bytes[edge..<end])
      let whole = read(frame, role)
      #expect(whole.events.count == 1 && !whole.isInside)
      let cuts = Set(Array(0...min(40, frame.count)) + Array(max(0, frame.count - 10)...frame.count))
      for cut in cuts where read(frame, cutAt: [cut], role) != whole {
        Issue.record("\(number) cut at \(cut)")
      }
    }
  }

  /// A stream that ends anywhere: what was whole was heard, and it knows whether it is inside of something.
  @Test(arguments: [WebSocketRole.server, .client]) func endsAnywhere(role: WebSocketRole) {
    let talk = Conversation.small
    let bytes = talk.bytes(for: role)
    let edges = talk.edges(for: role)
    var inMessage = false
    for (number, edge) in edges.enumerated() {
      let reading = read(Array(bytes[..<edge]), role)
      #expect(reading.problem == nil)
      #expect(reading.events == Array(talk.said.prefix(reading.events.count)))
      #expect(reading.isInside == inMessage, "before frame \(number)")
      if bytes[edge] & 0x08 == 0 { inMessage = bytes[edge] & 0x80 == 0 }
      #expect(read(Array(bytes[..<(edge + 1)]), role).isInside)
    }
  }
}

/// Streams that break the protocol.
private struct Breach: CustomTestStringConvertible, Sendable {
  let name: String
  let stream: [UInt8]
  let code: CloseCode
  /// So many bytes of it are enough to know.
  let known: Int
  var said: [Heard] = []
  var limit = 1 << 24
  var testDescription: String { name }

  static func all(_ role: WebSocketRole) -> [Breach] {
    let mask = role.incomingMask
    let masked: UInt8 = mask == nil ? 0 : 0x80
    let head = mask == nil ? 2 : 6
    func whole(_ first: UInt8, _ payload: [UInt8] = []) -> [UInt8] { frame(first, payload, mask: mask) }
    var all: [Breach] = []
    func add(
      _ name: String, _ stream: [UInt8], _ code: CloseCode = .protocolError, known: Int, said: [Heard] = [],
      limit: Int = 1 << 24
    ) { all.append(Breach(name: name, stream: stream, code: code, known: known, said: said, limit: limit)) }

    // Section 5.2: reserved bits, and opcodes.
    for bits in UInt8(1)...7 { add("reserved bits \(bits)", whole(0x81 | bits << 4, [0x61]), known: 2) }
    add("a reserved bit in a Ping", whole(0xc9), known: 2)
    add(
      "a reserved bit later on", whole(0x01, [0x61]) + whole(0xc0, [0x61]),
      known: whole(0x01, [0x61]).count + 2)
    for opcode in UInt8(3)...7 { add("opcode \(opcode)", whole(0x80 | opcode), known: 2) }
    for opcode in UInt8(11)...15 { add("opcode \(opcode)", whole(0x80 | opcode), known: 2) }
    // Section 5.1: who masks.
    let wrong = frame(0x81, [0x61, 0x62], mask: mask == nil ? [1, 2, 3, 4] : nil)
    add("masked the wrong way", wrong, known: 2)
    add("a Close masked the wrong way", [0x88, masked ^ 0x80], known: 2)
    add("masked the wrong way later on", whole(0x82, [5]) + wrong, known: head + 3, said: [.binary([5])])
    // Section 5.5: control frames.
    for opcode in UInt8(8)...10 {
      add("fragmented control frame \(opcode)", whole(opcode, [3, 0xe8]), known: 2)
      add("long control frame \(opcode)", whole(0x80 | opcode, [UInt8](repeating: 3, count: 126)), known: 2)
      add(
        "longest control frame \(opcode)", [0x80 | opcode, masked | 127] + [UInt8](repeating: 0, count: 12),
        known: 2)
    }
    // Section 5.4: fragments.
    for (first, name) in [(UInt8(0x80), "final"), (0x00, "first")] {
      add("a \(name) continuation of nothing", whole(first, [1]), known: 2)
      add(
        "a \(name) continuation after a message", whole(0x82, [1]) + whole(first), known: head + 3,
        said: [.binary([1])])
      add(
        "a \(name) continuation after fragments", whole(0x02) + whole(0x80) + whole(first),
        known: 2 * head + 2,
        said: [.binary([])])
    }
    for first in [UInt8(0x01), 0x81, 0x02, 0x82] {
      add("message \(first) inside a text", whole(0x01, [0x61]) + whole(first, [0x62]), known: head + 3)
      add(
        "message \(first) inside a binary, behind a Ping", whole(0x02) + whole(0x89) + whole(first),
        known: 2 * head + 2,
        said: [.ping([])])
    }
    // Section 5.2: lengths.
    func bytes(_ length: UInt64, _ count: Int) -> [UInt8] {
      (0..<count).reversed().map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) }
    }
    for length in [UInt64(0), 1, 125] {
      add("\(length) in two bytes", [0x82, masked | 126] + bytes(length, 2) + [9, 9, 9, 9, 9], known: 4)
    }
    for length in [UInt64(0), 125, 126, 65535] {
      add("\(length) in eight bytes", [0x82, masked | 127] + bytes(length, 8) + [9, 9, 9, 9, 9], known: 10)
    }
    for length in [UInt64(1) << 63, UInt64(1) << 63 | 5, UInt64.max] {
      add("a length of \(length)", [0x82, masked | 127] + bytes(length, 8) + [9, 9, 9, 9, 9], known: 10)
      add(
        "a length of \(length), without a limit", [0x82, masked | 127] + bytes(length, 8) + [9, 9, 9],
        known: 10, limit: .max)
    }
    // A limit of this side's.
    func big(_ name: String, _ stream: [UInt8], known: Int, limit: Int = 100, said: [Heard] = []) {
      add(name, stream, .messageTooBig, known: known, said: said, limit: limit)
    }
    big("a byte too long", [0x82, masked | 101, 9, 9, 9, 9, 9], known: 2)
    big("two bytes' length", [0x82, masked | 126, 3, 0xe9, 9, 9, 9, 9, 9], known: 4, limit: 1000)
    big(
      "eight bytes' length", [0x81, masked | 127] + bytes(65537, 8) + [9, 9, 9, 9, 9], known: 10, limit: 65536
    )
    big("2^63 - 1", [0x82, masked | 127] + bytes(.max >> 1, 8) + [9, 9, 9, 9, 9], known: 10, limit: 1 << 62)
    big("a small limit", [0x81, masked | 4] + [9, 9, 9, 9, 9], known: 2, limit: 3)
    let sixty = whole(0x02, [UInt8](repeating: 7, count: 60))
    let rest: [UInt8] = [0x80, masked | 41, 9, 9, 9, 9, 9]
    big("fragments", sixty + rest, known: sixty.count + 2)
    big(
      "fragments with a Ping between", sixty + whole(0x89) + rest, known: sixty.count + head + 2,
      said: [.ping([])])
    big(
      "many fragments",
      whole(0x01) + sixty.enumerated().map { $0.offset == 0 ? 0 : $0.element } + whole(0x00) + rest,
      known: sixty.count + 2 * head + 2)

    // Section 8.1: a text is UTF-8, at the byte where it is known.
    func invalid(_ text: [UInt8], at place: Int, said: [Heard] = []) {
      add("text \(hex(text))", whole(0x81, text + [0x61]), .invalidData, known: head + place + 1)
      add(
        "text \(hex(text)), behind others", whole(0x81, [0x61]) + whole(0x81, text), .invalidData,
        known: 2 * head + place + 2, said: [.text("a")])
      // Each byte in a frame of its own.
      let frames = [whole(0x01)] + text.map { whole(0x00, [$0]) } + [whole(0x80)]
      add(
        "text \(hex(text)) in fragments", Array(frames.joined()), .invalidData,
        known: head + (place + 1) * (head + 1))
    }
    invalid([0xff], at: 0)
    invalid([0x80], at: 0)
    invalid([0x61, 0xc0, 0xaf], at: 1)
    invalid([0xe0, 0x80, 0xaf], at: 1)
    invalid([0xed, 0xa0, 0x80], at: 1)
    invalid([0xf0, 0x8f, 0xbf, 0xbf], at: 1)
    invalid([0xf4, 0x90, 0x80, 0x80], at: 1)
    invalid([0xf5, 0x80, 0x80, 0x80], at: 0)
    invalid([0xc3, 0xa4, 0xe4, 0xb8, 0x41], at: 4)
    invalid(Array("κόσμε".utf8) + [0xed, 0xbf, 0xbf, 0x65], at: 11)
    invalid(Array(String(repeating: "x", count: 99).utf8) + [0xfe], at: 99)
    // One that ends in the middle of a character; where it goes on with the next frame it is none.
    for text in [[0xc3], [0xe4, 0xb8], [0x61, 0xf0, 0x9f, 0x98]] as [[UInt8]] {
      add("text that ends in \(hex(text))", whole(0x81, text), .invalidData, known: head + text.count)
      add(
        "fragments that end in \(hex(text))", whole(0x01, text) + whole(0x80), .invalidData,
        known: 2 * head + text.count)
      add(
        "a character \(hex(text)) that goes on in the next message", whole(0x81, text) + whole(0x81, [0xa4]),
        .invalidData, known: head + text.count)
    }
    add(
      "bad UTF-8 behind a Ping", whole(0x01, [0xe4]) + whole(0x89, [0xff]) + whole(0x80, [0x41]),
      .invalidData,
      known: 3 * head + 3, said: [.ping([0xff])])

    // Section 5.5.1 and 7.4: a Close is judged when it is whole.
    func close(_ name: String, _ payload: [UInt8], _ code: CloseCode = .protocolError) {
      add(name, whole(0x88, payload), code, known: head + payload.count)
      add(
        "\(name), inside a message", whole(0x01, [0x61]) + whole(0x88, payload), code,
        known: 2 * head + 1 + payload.count)
    }
    close("half a code", [3])
    for code in [UInt16(0), 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
      close("code \(code)", [UInt8(code >> 8), UInt8(code & 255)])
    }
    close("a reason that is no UTF-8", [3, 0xe8, 0x61, 0xff], .invalidData)
    close("a reason with a surrogate", [3, 0xe8, 0xed, 0xa0, 0x80], .invalidData)
    close("a reason that ends in a character", [3, 0xe8, 0x61, 0xc3], .invalidData)
    close(
      "the longest reason, of which the last byte is wrong",
      [3, 0xe8] + [UInt8](repeating: 0x61, count: 122) + [0xc3],
      .invalidData)
    return all
  }
}

@Suite struct BreachTests {
  @Test(arguments: Breach.all(.server)) fileprivate func toAServer(breach: Breach) { check(breach, .server) }
  @Test(arguments: Breach.all(.client)) fileprivate func toAClient(breach: Breach) { check(breach, .client) }

  /// At the byte where it can be known, whatever the cut; and nothing is heard after it.
  private func check(_ breach: Breach, _ role: WebSocketRole) {
    let mask = role.incomingMask
    let before = frame(0x82, [1, 2, 3], mask: mask)
    let after = frame(0x81, [0x61], mask: mask) + frame(0x89, [], mask: mask) + frame(0x88, [], mask: mask)
    let stream = before + breach.stream + after
    let said = [Heard.binary([1, 2, 3])] + breach.said
    let whole = read(stream, role, limit: breach.limit)
    #expect(whole.events == said)
    #expect(whole.problem?.code == breach.code)
    let bytewise = read(stream, cutAt: Array(1..<stream.count), role, limit: breach.limit)
    #expect(bytewise.says(whole))
    #expect(bytewise.problemAt == before.count + breach.known)
    // What came before it is no reason.
    let early = read(Array(stream[..<(before.count + breach.known - 1)]), role, limit: breach.limit)
    #expect(early.events == said && early.problem == nil && early.isInside)
    // Cut anywhere, and given up with the piece that has that byte.
    for cut in 1..<stream.count {
      let reading = read(stream, cutAt: [cut], role, limit: breach.limit)
      let isRight =
        reading.says(whole)
        && reading.problemAt == (cut >= before.count + breach.known ? cut : stream.count)
      if !isRight { Issue.record("cut at \(cut): \(reading)") }
    }
    var random = SplitMix(seed: UInt64(stream.count))
    for _ in 0..<50 {
      let cuts = random.cuts(5, in: stream.count)
      if !read(stream, cutAt: cuts, role, limit: breach.limit).says(whole) { Issue.record("cut at \(cuts)") }
    }
  }
}

@Suite struct LimitTests {
  /// What is just within it passes: as one, and in fragments.
  @Test(arguments: [WebSocketRole.server, .client]) func justWithin(role: WebSocketRole) {
    let mask = role.incomingMask
    for limit in [0, 1, 125, 126, 65535, 65536] {
      let payload = [UInt8](repeating: 0x41, count: limit)
      #expect(read(frame(0x81, payload, mask: mask), role, limit: limit).events == [.text(payload)])
      let half = limit / 2
      let parts =
        frame(0x01, Array(payload[..<half]), mask: mask)
        + frame(0x89, [UInt8](repeating: 1, count: 125), mask: mask)
        + frame(0x00, Array(payload[half...]), mask: mask) + frame(0x80, [], mask: mask)
      // A control frame has a limit of its own.
      #expect(
        read(parts, cutAt: Array(stride(from: 0, to: parts.count, by: 1000)), role, limit: limit)
          == Reading(events: [.ping([UInt8](repeating: 1, count: 125)), .text(payload)]))
    }
  }

  /// What it holds follows what has come, and not what was promised; and it is let go of.
  @Test func heldMemory() throws {
    final class Reader {
      private var reader: WebSocketReader
      init(limit: Int) { reader = WebSocketReader(.client, limit: limit) }
      var held: Int { reader.held }
      var isInside: Bool { reader.isInside }
      func take(_ bytes: [UInt8]) throws -> Int {
        var bytes = bytes
        var events = 0
        try bytes.withUnsafeMutableBytes { all in
          var rest = all
          while try reader.next(from: &rest) != nil { events += 1 }
        }
        return events
      }
    }
    var reader = Reader(limit: 1 << 40)
    #expect(reader.held == 0)
    #expect(try reader.take([0x82, 127, 0, 0, 0, 0x80, 0, 0, 0, 0]) == 0)
    #expect(reader.held == 0)
    #expect(try reader.take([UInt8](repeating: 1, count: 1000)) == 0)
    #expect(reader.held == 1000)
    #expect(try reader.take([UInt8](repeating: 1, count: 1000)) == 0)
    #expect(reader.held == 2000)

    reader = Reader(limit: 1000)
    #expect(try reader.take([0x02, 2, 1, 2, 0x00, 1]) == 0)
    #expect(reader.held == 2)
    #expect(try reader.take([3, 0x89, 1, 9, 0x80, 0]) == 2)
    #expect(reader.held == 0)
    // In one piece nothing is held.
    #expect(try reader.take([0x82, 2, 1, 2, 0x01, 0, 0x00, 0]) == 1)
    #expect(reader.held == 0 && reader.isInside)
    // Nor after a violation.
    #expect(try reader.take([0x00, 2, 0x61, 0x62]) == 0)
    #expect(reader.held == 2)
    #expect(throws: WebSocketViolation.self) { try reader.take([0x81, 0]) }
    #expect(reader.held == 0)
  }

  /// A whole message is handed out where it stands: unmasked in its place, and the same bytes.
  @Test func notCopied() throws {
    var bytes = frame(0x82, Array(0...99), mask: [1, 2, 3, 4])
    var reader = WebSocketReader(.server, limit: 1000)
    try bytes.withUnsafeMutableBytes { all in
      var rest = all
      guard case .message(.binary, let message) = try reader.next(from: &rest) else {
        Issue.record("no message")
        return
      }
      #expect(message.baseAddress == all.baseAddress.map { UnsafeRawPointer($0 + 6) })
      #expect(Array(message) == Array(0...99))
      #expect(rest.isEmpty)
    }
  }
}
