import TestSupport
import Testing

@testable import Contacts

/// What a reader has read: without a reference to the bytes that it was read from.
private struct Heard: Equatable, CustomStringConvertible {
  var kind: String
  var numbers: [Int] = []
  var parts: [[UInt8]] = []

  init(_ kind: String, _ numbers: Int..., texts: [String] = []) {
    self.kind = kind
    self.numbers = numbers
    parts = texts.map { Array($0.utf8) }
  }

  private init(_ kind: String, _ numbers: Int..., contact: ContactView) {
    self.kind = kind
    self.numbers = numbers
    parts = [Array(contact.user), Array(contact.name), Array(contact.phone)]
  }

  init(_ hello: Hello) {
    self.init("hello", Int(hello.role.rawValue))
    parts = [hello.name]
  }

  init(_ command: ClientCommand) {
    switch command {
    case .update(let contact): self.init("update", contact: contact)
    case .listAll: self.init("listAll")
    }
  }

  init(_ message: ServerMessage) {
    switch message {
    case .update(let clock, let contact): self.init("update", Int(clock), contact: contact)
    case .heartBeat(let status, let clock): self.init("heartBeat", Int(status.rawValue), Int(clock))
    case .updateClock(let clock): self.init("updateClock", Int(clock))
    case .askForUpdate: self.init("askForUpdate")
    case .answer(let count): self.init("answer", count)
    case .record(let clock, let contact): self.init("record", Int(clock), contact: contact)
    }
  }

  init(_ part: ListingPart) {
    switch part {
    case .count(let count): self.init("count", count)
    case .contact(let contact): self.init("contact", contact: contact)
    }
  }

  var description: String {
    "\(kind) \(numbers) \(parts.map { String(decoding: $0, as: UTF8.self) })"
  }
}

/// What became of a stream: its messages, and what it was given up for.
private struct Reading: Equatable {
  var messages: [Heard] = []
  var problem: String?
  /// Whether it ended inside a message.
  var isInside = false
}

/// Reads a stream that comes in pieces, each in memory of its own, which is overwritten when it was read: a reader that looked at a
/// piece later on, or behind its end, would not see what it expects.
private func read<Language: WireLanguage>(
  _ bytes: [UInt8], cutAt cuts: [Int] = [], as language: Language, _ hear: (Language.Message) -> Heard
) -> Reading {
  var reading = Reading()
  var reader = MessageReader(language)
  var from = 0
  for cut in cuts + [bytes.count] {
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: cut - from, alignment: 1)
    defer { piece.deallocate() }
    piece.copyBytes(from: bytes[from..<cut])
    from = cut
    var rest = UnsafeRawBufferPointer(piece)
    do throws(ProtocolViolation) {
      while let message = try reader.next(from: &rest) { reading.messages.append(hear(message)) }
    } catch {
      reading.problem = error.description
      return reading
    }
    if rest.count > 0 { reading.problem = "\(rest.count) bytes were left over" }
    for place in piece.indices { piece[place] = 0xee }
  }
  reading.isInside = reader.isInside
  return reading
}

/// Streams with every message of each language, by hand, and what they say.
private enum Golden {
  static let ann = [0x61, 0x6e, 0x6e] + zeros(253)
  static let bob = [0x62, 0x6f, 0x62] + zeros(253)
  /// "Zoë": the last letter has two bytes.
  static let zoe = [0x5a, 0x6f, 0xc3, 0xab] + zeros(252)
  /// "+49 1", and one that fills its field: "12345678901234567890".
  static let short = [0x2b, 0x34, 0x39, 0x20, 0x31] + zeros(15)
  static let long: [UInt8] = (0..<20).map { 0x30 + ($0 + 1) % 10 }

  static let hello = [0x02] + ann

  /// Update, ListAll, ListAll, Update.
  static let client = [0x01] + ann + bob + short + [0x02, 0x02, 0x01] + bob + zoe + long
  static let clientSaid = [
    Heard("update", texts: ["ann", "bob", "+49 1"]), Heard("listAll"), Heard("listAll"),
    Heard("update", texts: ["bob", "Zoë", "12345678901234567890"]),
  ]

  /// The answer to AskForUpdate: two records.
  static let answer =
    [0x00, 0x00, 0x00, 0x02] + [0x01, 0x02, 0x03, 0x04] + ann + bob + short
    + [0xff, 0xff, 0xff, 0xff] + bob + zoe + long

  /// HeartBeat, AskForUpdate, UpdateClock, an empty answer, a whole answer, Update, HeartBeats.
  static let server =
    [0x02, 0x01, 0x00, 0x00, 0x00, 0x05] + [0x04] + [0x03, 0x80, 0x00, 0x00, 0x01]
    + [0x00, 0x00, 0x00, 0x00] + answer
    + [0x01, 0x00, 0x01, 0x00, 0x00] + zoe + ann + short
    + [0x02, 0x02, 0xff, 0xff, 0xff, 0xff] + [0x02, 0x03, 0x00, 0x00, 0x00, 0x00]
  static let serverSaid = [
    Heard("heartBeat", 1, 5), Heard("askForUpdate"), Heard("updateClock", 0x8000_0001), Heard("answer", 0),
    Heard("answer", 2), Heard("record", 0x0102_0304, texts: ["ann", "bob", "+49 1"]),
    Heard("record", 0xffff_ffff, texts: ["bob", "Zoë", "12345678901234567890"]),
    Heard("update", 0x10000, texts: ["Zoë", "ann", "+49 1"]), Heard("heartBeat", 2, 0xffff_ffff),
    Heard("heartBeat", 3, 0),
  ]

  /// Three answers to ListAlls: two contacts, none, one.
  static let listing =
    [0x00, 0x00, 0x00, 0x02] + ann + bob + short + bob + zoe + long + [0x00, 0x00, 0x00, 0x00]
    + [0x00, 0x00, 0x00, 0x01] + zoe + ann + short
  static let listingSaid = [
    Heard("count", 2), Heard("contact", texts: ["ann", "bob", "+49 1"]),
    Heard("contact", texts: ["bob", "Zoë", "12345678901234567890"]), Heard("count", 0), Heard("count", 1),
    Heard("contact", texts: ["Zoë", "ann", "+49 1"]),
  ]
}

/// The readers of all languages, by name.
private enum Tongue: String, CaseIterable, Sendable {
  case hello, client, server, listing

  func read(_ bytes: [UInt8], cutAt cuts: [Int] = []) -> Reading {
    switch self {
    case .hello: ContactsTests.read(bytes, cutAt: cuts, as: HelloLanguage()) { Heard($0) }
    case .client: ContactsTests.read(bytes, cutAt: cuts, as: ClientLanguage()) { Heard($0) }
    case .server: ContactsTests.read(bytes, cutAt: cuts, as: ServerLanguage()) { Heard($0) }
    case .listing: ContactsTests.read(bytes, cutAt: cuts, as: ListingLanguage()) { Heard($0) }
    }
  }

  var golden: (bytes: [UInt8], said: [Heard]) {
    switch self {
    case .hello:
      (
        Golden.hello + [0x01] + Golden.zoe,
        [Heard("hello", 2, texts: ["ann"]), Heard("hello", 1, texts: ["Zoë"])]
      )
    case .client: (Golden.client, Golden.clientSaid)
    case .server: (Golden.server, Golden.serverSaid)
    case .listing: (Golden.listing, Golden.listingSaid)
    }
  }

  /// Where a message begins, or a field, or ends with its last letter, and what is beside it.
  var edges: [Int] {
    let bytes = golden.bytes
    let places = bytes.indices.filter { $0 == 0 || (bytes[$0] == 0) != (bytes[$0 - 1] == 0) }
    return Set(places.flatMap { [$0 - 1, $0, $0 + 1] } + [bytes.count - 1, bytes.count])
      .filter { $0 >= 0 && $0 <= bytes.count }.sorted()
  }
}

@Suite struct GoldenBytesTests {
  private let first = ("ann", "bob", "+49 1")
  private let second = ("bob", "Zoë", "12345678901234567890")
  private let third = ("Zoë", "ann", "+49 1")

  private func written(_ body: (inout MessageWriter) throws -> Void) rethrows -> [UInt8] {
    var writer = MessageWriter()
    try body(&writer)
    return writer.bytes
  }

  private func contact(_ parts: (String, String, String)) throws -> Contact {
    try Contact(user: parts.0, name: parts.1, phone: parts.2)
  }

  @Test func whatIsWritten() throws {
    let contacts = try [first, second, third].map(contact)
    #expect(try written { $0.hello(try Hello(.client, name: "ann")) } == Golden.hello)
    #expect(try written { $0.hello(try Hello(.server, name: "Zoë")) } == [0x01] + Golden.zoe)
    let client = written { writer in
      contacts[0].withView { writer.update($0) }
      writer.listAll()
      writer.listAll()
      contacts[1].withView { writer.update($0) }
    }
    #expect(client == Golden.client)
    let server = written { writer in
      writer.heartBeat(.healthy, clock: 5)
      writer.askForUpdate()
      writer.updateClock(0x8000_0001)
      writer.count(0)
      writer.count(2)
      contacts[0].withView { writer.record(clock: 0x0102_0304, $0) }
      contacts[1].withView { writer.record(clock: .max, $0) }
      contacts[2].withView { writer.update(clock: 0x10000, $0) }
      writer.heartBeat(.degraded, clock: .max)
      writer.heartBeat(.stopping, clock: 0)
    }
    #expect(server == Golden.server)
    let listing = written { writer in
      writer.count(2)
      for contact in contacts[..<2] { contact.withView { writer.record(clock: nil, $0) } }
      writer.count(0)
      writer.count(1)
      contacts[2].withView { writer.record(clock: nil, $0) }
    }
    #expect(listing == Golden.listing)
  }

  /// The sizes that the tables have.
  @Test func sizes() {
    #expect(Golden.hello.count == 257)
    #expect(Golden.client.count == 2 * 533 + 2)
    #expect(Golden.answer.count == 4 + 2 * 536)
    #expect(Golden.server.count == 6 + 1 + 5 + 4 + Golden.answer.count + 537 + 6 + 6)
    #expect(Golden.listing.count == 4 + 2 * 532 + 4 + 4 + 532)
  }

  @Test(arguments: Tongue.allCases) fileprivate func whatIsRead(tongue: Tongue) {
    let (bytes, said) = tongue.golden
    #expect(tongue.read(bytes) == Reading(messages: said))
  }

  /// Its first byte stays zero: it can be told from a command.
  @Test func theLargestAnswer() {
    #expect(written { $0.count(0xff_ffff) } == [0x00, 0xff, 0xff, 0xff])
    #expect(written { $0.count(0x100_0000) } == [0x00, 0xff, 0xff, 0xff])
    #expect(Tongue.server.read([0x00, 0xff, 0xff, 0xff]).messages == [Heard("answer", 0xff_ffff)])
    #expect(Tongue.listing.read([0x00, 0xff, 0xff, 0xff]).messages == [Heard("count", 0xff_ffff)])
  }

  @Test func aWriterBeginsAnew() throws {
    var writer = MessageWriter()
    writer.listAll()
    writer.removeAll()
    writer.askForUpdate()
    #expect(writer.bytes == [0x04])
  }

  /// Random contacts with letters of one to four bytes, which may fill their fields.
  @Test func roundTrips() throws {
    var random = SplitMix(seed: 1)
    let letters = Array("aZ 9~éßñЖ漢語😀🏁")
    func text(upTo size: Int) -> String {
      var text = ""
      let most = Int.random(in: 1...size, using: &random)
      while let letter = letters.randomElement(using: &random), text.utf8.count + letter.utf8.count <= most {
        text.append(letter)
      }
      return text.isEmpty ? "x" : text
    }
    for _ in 0..<200 {
      let contact = try Contact(user: text(upTo: 256), name: text(upTo: 256), phone: text(upTo: 20))
      let clock = UInt32.random(in: 0 ... .max, using: &random)
      let parts = [contact.user, contact.name, contact.phone]
      let client = Tongue.client.read(written { writer in contact.withView { writer.update($0) } })
      #expect(client.messages.map(\.parts) == [parts])
      let server = Tongue.server.read(
        written { writer in
          contact.withView { writer.update(clock: clock, $0) }
          writer.count(1)
          contact.withView { writer.record(clock: clock, $0) }
        })
      #expect(server.messages.map(\.parts) == [parts, [], parts])
      #expect(server.messages.map(\.numbers) == [[Int(clock)], [1], [Int(clock)]])
      let listing = Tongue.listing.read(
        written { writer in
          writer.count(1)
          contact.withView { writer.record(clock: nil, $0) }
        })
      #expect(listing.messages.map(\.parts) == [[], parts])
    }
  }
}

/// However a stream is cut, it says the same.
@Suite struct CutTests {
  /// The first of these cuts after which the stream says something else, or nil.
  private func firstWrong(_ tongue: Tongue, _ cuts: some Sequence<[Int]>) -> [Int]? {
    let (bytes, said) = tongue.golden
    return cuts.first { tongue.read(bytes, cutAt: $0) != Reading(messages: said) }
  }

  @Test(arguments: Tongue.allCases) fileprivate func oneCut(tongue: Tongue) {
    #expect(firstWrong(tongue, (0...tongue.golden.bytes.count).lazy.map { [$0] }) == nil)
  }

  /// Two, at and beside the ends of messages and fields.
  @Test(arguments: Tongue.allCases) fileprivate func twoCuts(tongue: Tongue) {
    let edges = tongue.edges
    let pairs = edges.lazy.flatMap { one in edges.lazy.filter { $0 >= one }.map { [one, $0] } }
    #expect(firstWrong(tongue, pairs) == nil)
  }

  /// All pairs of cuts, in what has no contact in it.
  @Test func twoCutsInSmallMessages() {
    let bytes: [UInt8] = [2, 1, 0, 0, 0, 5, 4, 3, 0, 0, 1, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 9, 2, 3, 1, 2, 3, 4]
    let said = Tongue.server.read(bytes)
    #expect(said.problem == nil)
    #expect(
      said.messages.map(\.kind) == [
        "heartBeat", "askForUpdate", "updateClock", "answer", "askForUpdate", "updateClock", "heartBeat",
      ])
    for one in 0...bytes.count {
      for other in one...bytes.count {
        #expect(Tongue.server.read(bytes, cutAt: [one, other]) == said, "cut at \(one) and \(other)")
      }
    }
  }

  @Test(arguments: Tongue.allCases) fileprivate func aByteAtATime(tongue: Tongue) {
    #expect(firstWrong(tongue, [Array(0...tongue.golden.bytes.count)]) == nil)
  }

  @Test(arguments: Tongue.allCases) fileprivate func randomCuts(tongue: Tongue) {
    var random = SplitMix(seed: 2)
    let size = tongue.golden.bytes.count
    let cuts = (0..<200).map { _ in
      (0..<Int.random(in: 1...40, using: &random)).map { _ in Int.random(in: 0...size, using: &random) }
        .sorted()
    }
    #expect(firstWrong(tongue, cuts) == nil)
  }

  /// A stream that ends inside a message has said what came before it, and says that something is missing.
  @Test(arguments: Tongue.allCases) fileprivate func anEndAtEachByte(tongue: Tongue) {
    let (bytes, said) = tongue.golden
    var ends: [Int] = []
    for end in 0..<bytes.count {
      let reading = tongue.read(Array(bytes[..<end]))
      #expect(reading.problem == nil)
      #expect(said.starts(with: reading.messages))
      if !reading.isInside { ends.append(reading.messages.count) }
    }
    // Between two messages, and nowhere else.
    #expect(ends == Array(0..<said.count))
  }

  /// What is wrong is found wherever it is cut, once the message is whole, and after the same messages.
  @Test(arguments: [
    [0x02, 0x09, 0x00, 0x00, 0x00, 0x05],
    [0x00, 0x00, 0x00, 0x01] + bigEndian(7) + fields("a", "b\u{1}", "c"),
    [0x01] + bigEndian(7) + fields("a", "", "c"), [0x07, 0x00],
  ])
  func aCutDoesNotHideWhatIsWrong(bad: [UInt8]) {
    let bytes = [0x04] + bad
    let whole = Tongue.server.read(bytes)
    #expect(whole.problem != nil)
    #expect(whole.messages.first == Heard("askForUpdate"))
    for cut in 0...bytes.count { #expect(Tongue.server.read(bytes, cutAt: [cut]) == whole, "cut at \(cut)") }
    #expect(Tongue.server.read(bytes, cutAt: Array(0...bytes.count)) == whole)
  }
}

@Suite struct BadInputTests {
  @Test func unknownRoles() {
    for byte: UInt8 in 0...255 where byte != 1 && byte != 2 {
      #expect(
        Tongue.hello.read([byte]).problem
          == "it begins with byte \(byte), which is no role: 1 is a server, 2 a client")
    }
  }

  @Test func unknownCommands() {
    for byte: UInt8 in 0...255 {
      let (client, server) = (Tongue.client.read([byte]), Tongue.server.read([byte]))
      if byte == 1 || byte == 2 {
        #expect(client.problem == nil)
      } else {
        #expect(client.problem == "\(byte) is no command of a client's: 1 is Update, 2 ListAll")
      }
      if byte <= 4 {
        #expect(server.problem == nil)
      } else {
        #expect(
          server.problem
            == "\(byte) is no command of a server's: 1 is Update, 2 HeartBeat, 3 UpdateClock, 4 AskForUpdate")
      }
    }
  }

  @Test func unknownHealth() {
    for byte: UInt8 in 0...255 {
      let problem = Tongue.server.read([2, byte, 0, 0, 0, 1]).problem
      let isKnown = byte >= 1 && byte <= 3
      #expect(
        problem == (isKnown ? nil : "\(byte) is no HealthStatus: 1 is healthy, 2 degraded, 3 stopping"))
    }
  }

  /// A record of an answer has no command byte: what would be one is a part of its clock. What follows the last record is a command.
  @Test func inAndAfterAnAnswer() {
    let record = [0x09, 0x09, 0x09, 0x09] + fields("a", "b", "c")
    #expect(
      Tongue.server.read([0, 0, 0, 1] + record + [4]).messages.map(\.kind) == [
        "answer", "record", "askForUpdate",
      ])
    #expect(Tongue.server.read([0, 0, 0, 1] + record + record).problem?.hasPrefix("9 is no command") == true)
    #expect(Tongue.server.read([0, 0, 0, 2] + record + record).problem == nil)
  }

  @Test func aListingThatIsTooLong() {
    #expect(
      Tongue.listing.read([1, 0, 0, 0]).problem
        == "the answer announces 16777216 contacts; a book holds 16777215 at most")
    #expect(
      Tongue.listing.read([0xff, 0xff, 0xff, 0xff]).problem
        == "the answer announces 4294967295 contacts; a book holds 16777215 at most")
  }

  /// A value of a field that is none, in bytes, and what is said about it.
  private static let bad: [(bytes: [UInt8], why: String)] =
    [
      ([], "is empty"), (Array("\0abc".utf8), "is empty"),
      // No UTF-8: a lone byte, an overlong NUL, a surrogate, beyond U+10FFFF, a letter that is not whole.
      ([0x61, 0xff], "is not valid UTF-8"), ([0x80], "is not valid UTF-8"),
      ([0xc0, 0x80], "is not valid UTF-8"),
      ([0xed, 0xa0, 0x80], "is not valid UTF-8"), ([0xf4, 0x90, 0x80, 0x80], "is not valid UTF-8"),
      ([0x61, 0xc3], "is not valid UTF-8"), ([0xe6, 0xbc, 0x00, 0xa2], "is not valid UTF-8"),
      ([0xc3, 0xa9, 0x7f], "has the control character U+007F in it"),
      ([0xc2, 0x85], "has the control character U+0085 in it"),
    ]
    + (1..<0x20).map { code in
      let digits = String(code, radix: 16, uppercase: true)
      return ([0x61, UInt8(code)], "has the control character U+00\(code < 16 ? "0" : "")\(digits) in it")
    }
    + (0x80..<0xa0).map { code in
      (
        [0x61, 0xc2, UInt8(code), 0x62],
        "has the control character U+00\(String(code, radix: 16, uppercase: true)) in it"
      )
    } + [([0x7f], "has the control character U+007F in it")]

  @Test func invalidFields() {
    let (user, name, phone) = (field("ann", 256), field("bob", 256), field("1", 20))
    for (value, why) in Self.bad {
      let (long, short) = (value + zeros(256 - value.count), value + zeros(20 - value.count))
      #expect(Tongue.hello.read([1] + long).problem == "the name \(why)")
      for (title, contact) in [
        ("user name", long + name + phone), ("contact name", user + long + phone),
        ("phone number", user + name + short),
      ] {
        let problem = "the \(title) \(why)"
        #expect(Tongue.client.read([1] + contact).problem == problem)
        #expect(Tongue.server.read([1] + bigEndian(1) + contact).problem == problem)
        #expect(Tongue.server.read([0, 0, 0, 1] + bigEndian(1) + contact).problem == problem)
        #expect(Tongue.listing.read([0, 0, 0, 1] + contact).problem == problem)
      }
    }
  }

  @Test func whatFollowsTheFirstNULIsIgnored() {
    let noise: [UInt8] = [0xff, 0x07, 0x00, 0x7f, 0xc0]
    let contact =
      [0x61, 0x00] + noise + zeros(249) + [0x62, 0x00] + noise + zeros(249) + [0x63, 0x00] + noise + zeros(13)
    let said = [Heard("update", texts: ["a", "b", "c"])]
    #expect(Tongue.client.read([1] + contact) == Reading(messages: said))
    #expect(
      Tongue.hello.read([2, 0x61, 0x00] + noise + zeros(249)).messages == [Heard("hello", 2, texts: ["a"])])
  }

  /// A value may fill its field, which then has no NUL; the letter at its end may be the field's last bytes.
  @Test func fullFields() throws {
    let (long, phone) = (String(repeating: "é", count: 128), "1234567890123456789x")
    let bytes = Array(long.utf8) + Array(long.utf8) + Array(phone.utf8)
    #expect(bytes.count == 532)
    #expect(Tongue.client.read([1] + bytes).messages == [Heard("update", texts: [long, long, phone])])
    #expect(Tongue.hello.read([1] + Array(long.utf8)).messages == [Heard("hello", 1, texts: [long])])
    var writer = MessageWriter()
    try Contact(user: long, name: long, phone: phone).withView { writer.update($0) }
    writer.hello(try Hello(.server, name: long))
    #expect(writer.bytes == [1] + bytes + [1] + Array(long.utf8))
    // The first half of a letter, at the field's end, with the other half in the next field.
    let torn = Array(repeating: UInt8(ascii: "a"), count: 255) + Array("é".utf8) + zeros(255) + field("1", 20)
    #expect(Tongue.client.read([1] + torn).problem == "the user name is not valid UTF-8")
  }

  @Test func whatDoesNotFitIsNotWritten() {
    let (fits, long) = (String(repeating: "a", count: 256), String(repeating: "a", count: 257))
    let phone = "123456789012345678901"
    func refusal(_ user: String, _ name: String, _ phone: String) -> String? {
      problem { _ = try Contact(user: user, name: name, phone: phone) }
    }
    #expect(refusal(fits, fits, String(phone.dropLast())) == nil)
    #expect(refusal(long, fits, "1") == "the user name has 257 bytes, and there is room for 256")
    #expect(refusal(fits, long, "1") == "the contact name has 257 bytes, and there is room for 256")
    #expect(refusal("a", "b", phone) == "the phone number has 21 bytes, and there is room for 20")
    #expect(
      refusal("a", "b", "1234567890123456789é") == "the phone number has 21 bytes, and there is room for 20")
    #expect(refusal("", "b", "1") == "the user name is empty")
    #expect(refusal("a", "", "1") == "the contact name is empty")
    #expect(refusal("a", "b", "") == "the phone number is empty")
    #expect(refusal("a\0", "b", "1") == "the user name has the control character U+0000 in it")
    #expect(refusal("a", "b\u{85}", "1") == "the contact name has the control character U+0085 in it")
    #expect(refusal("a", "b", "1\u{7f}") == "the phone number has the control character U+007F in it")
    #expect(refusal("a", "b\r\n", "1") == "the contact name has the control character U+000D in it")
    #expect(
      problem { _ = try Hello(.client, name: long) } == "the name has 257 bytes, and there is room for 256")
    #expect(problem { _ = try Hello(.client, name: "") } == "the name is empty")
    #expect(problem { _ = try Hello(.client, name: fits) } == nil)
  }
}

/// The check of plain text, eight bytes at a time, against one that takes a letter at a time.
@Suite struct PlainTextTests {
  private func slow(_ value: [UInt8]) -> String? {
    let text = value.prefix { $0 != 0 }
    if text.isEmpty { return "the user name is empty" }
    guard let letters = String(validating: text, as: UTF8.self)?.unicodeScalars.map(\.value) else {
      return "the user name is not valid UTF-8"
    }
    guard let control = letters.first(where: { $0 < 0x20 || $0 >= 0x7f && $0 < 0xa0 }) else { return nil }
    let digits = String(control, radix: 16, uppercase: true)
    return "the user name has the control character U+00\(control < 16 ? "0" : "")\(digits) in it"
  }

  private func fast(_ value: [UInt8]) -> String? {
    (value + zeros(256 - value.count)).withUnsafeBytes { bytes in
      problem { if let start = bytes.baseAddress { _ = try TextField.userName.value(in: start) } }
    }
  }

  /// The first value about which the two say something else.
  private func firstDifferent(_ values: some Sequence<[UInt8]>) -> [UInt8]? {
    values.first { fast($0) != slow($0) }
  }

  @Test func eachByteAtEachPlace() {
    for size in [1, 7, 8, 9, 15, 16, 17] {
      var values: [[UInt8]] = []
      for place in 0..<size {
        for byte: UInt8 in 0...255 {
          var value = [UInt8](repeating: place % 2 == 0 ? 0x20 : 0x7e, count: size)
          value[place] = byte
          values.append(value)
        }
      }
      #expect(firstDifferent(values) == nil, "\(size) bytes")
    }
  }

  /// Letters of two bytes at each place, and so across the end of a word.
  @Test func eachLetterOfTwoBytesAtEachPlace() {
    for place in 0...16 {
      let values = (0x80...0x17f).lazy.map { code in
        [UInt8](repeating: 0x41, count: place) + [0xc0 | UInt8(code >> 6), 0x80 | UInt8(code & 0x3f)] + [0x42]
      }
      #expect(firstDifferent(values) == nil, "at \(place)")
    }
  }

  /// Bytes beside each other, of which one may borrow from the next.
  @Test func wordsOfEdges() {
    var random = SplitMix(seed: 3)
    let edges: [UInt8] = [0x01, 0x1f, 0x20, 0x21, 0x41, 0x7e, 0x7f, 0x80, 0xc3, 0xff]
    let values = (0..<5000).lazy.map { _ in
      (0..<17).map { _ -> UInt8 in
        // Most are plain: else nearly all values would be refused for their first byte.
        UInt8.random(in: 0...9, using: &random) > 0 ? 0x20 : edges.randomElement(using: &random) ?? 0
      }
    }
    #expect(firstDifferent(values) == nil)
  }
}
