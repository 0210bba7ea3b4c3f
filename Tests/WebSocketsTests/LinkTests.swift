import TestSupport
import Testing

@testable import WebSockets

private func parse(_ text: String) throws -> LinkMessage {
  try Array(text.utf8).withUnsafeBytes { try LinkMessage($0) }
}

@Suite struct LinkMessageTests {
  @Test(
    arguments: [
      ("hello 1 A", .hello(instance: 1, name: "A")),
      ("hello ffffffffffffffff a b  c", .hello(instance: .max, name: "a b  c")),
      ("hello 0 ä 世", .hello(instance: 0, name: "ä 世")), ("hello a  x", .hello(instance: 10, name: " x")),
      ("hello a \u{301}x", .hello(instance: 10, name: "\u{301}x")),
      ("hello a \u{200d}", .hello(instance: 10, name: "\u{200d}")),
      (
        "all 1f 7 A 127.0.0.1:5\nhi",
        .all(MessageForAll(origin: 31, number: 7, sender: "A 127.0.0.1:5", text: "hi"))
      ),
      ("all 1 1 A\n", .all(MessageForAll(origin: 1, number: 1, sender: "A", text: ""))),
      ("all 1 1 A\na\nb\r\nc\n", .all(MessageForAll(origin: 1, number: 1, sender: "A", text: "a\nb\r\nc\n"))),
      ("all 1 1 A\n\u{301}", .all(MessageForAll(origin: 1, number: 1, sender: "A", text: "\u{301}"))),
      ("all 1 1 \u{301}A b\n\n", .all(MessageForAll(origin: 1, number: 1, sender: "\u{301}A b", text: "\n"))),
      (
        "all 1 4611686018427387903  A\n/all x",
        .all(MessageForAll(origin: 1, number: 1 << 62 - 1, sender: " A", text: "/all x"))
      ),
    ] as [(String, LinkMessage)])
  func parsedAndPrinted(text: String, message: LinkMessage) throws {
    #expect(try parse(text) == message)
    #expect(Array(message.text.utf8) == Array(text.utf8))
  }

  @Test(arguments: [
    "", " ", "hello", "hello ", "hello 1", "hello 1 ", "hello  A", "hello x A", "hello -1 A",
    "hello 10000000000000000 A",
    "Hello 1 A", "hello 1 A\n", "hello 1 A\nx", "hello 1 a\tb", "hello 1 a\u{85}b", "hello 1 \u{1b}[2J",
    "hello\n1 A",
    "all", "all 1 1 A", "all 1 1\nx", "all 1 1 \nx", "all 1 0 A\nx", "all 1 -1 A\nx",
    "all 1 4611686018427387904 A\nx",
    "all 1 18446744073709551616 A\nx", "all x 1 A\ny", "all 1 f A\nx", "all  1 A\nx", "all 1  A\nx",
    "all 1 1 a\rb\nx",
    "all 1 1 a\u{7f}\nx", "all 1 1 A\r\nx", "ALL 1 1 A\nx", "alles 1 1 A\nx", "\nall 1 1 A\nx",
  ])
  func nonsense(text: String) { #expect(throws: LinkMistake.self) { try parse(text) } }

  @Test func longNames() throws {
    let (name, sender) = (String(repeating: "n", count: 64), String(repeating: "s", count: 200))
    #expect(try parse("hello 1 \(name)") == .hello(instance: 1, name: name))
    #expect(throws: LinkMistake.self) { try parse("hello 1 \(name)n") }
    let longest = MessageForAll(origin: .max, number: 1 << 62 - 1, sender: sender, text: "x")
    #expect(try parse(LinkMessage.all(longest).text) == .all(longest))
    #expect(LinkMessage.all(longest).text.utf8.count - 1 <= LinkMessage.longestHead)
    #expect(throws: LinkMistake.self) { try parse("all 1 1 \(sender)s\nx") }
    // Whatever may be a name goes over a link.
    for name in ["x", "\u{301}", " ", "a b", "é", "\u{200d}\u{fe0f}", "👩‍👩‍👧", "-"] {
      #expect(LinkMessage.isName(name))
      #expect(try parse(LinkMessage.hello(instance: 5, name: name).text) == .hello(instance: 5, name: name))
      let message = MessageForAll(
        origin: 5, number: 1, sender: "\(name) [::1]:8080", text: "\(name)\n\(name)")
      #expect(try parse(LinkMessage.all(message).text) == .all(message))
      let named = try #require(LinkMessage.sender(of: LinkMessage.named(message)))
      #expect(named.sender == message.sender && named.text == message.text)
    }
    for name in ["", "a\nb", "\r", "\u{7f}", "\u{9f}", String(repeating: "é", count: 33)] {
      #expect(!LinkMessage.isName(name))
    }
  }

  @Test(arguments: [
    ("/all A 1\nx", "A 1", "x"), ("/all A\n", "A", ""), ("/all \nx", "", "x"), ("/all A\nx\ny", "A", "x\ny"),
  ])
  func namedOnes(text: String, sender: String, rest: String) throws {
    let (heard, said) = try #require(LinkMessage.sender(of: text))
    #expect(heard == sender && said == rest)
  }

  @Test(arguments: ["", "/all", "/all ", "/all x", "/ALL x\ny", "all x\ny", " /all x\ny"])
  func unnamedOnes(text: String) { #expect(LinkMessage.sender(of: text) == nil) }

  @Test(arguments: [
    ("/all x", true), ("/all  ", true), ("/all \u{301}", true), ("/all ", false), ("/all", false),
    ("/allx", false),
    (" /all x", false), ("/ALL x", false), ("", false), ("x/all y", false),
  ])
  func marked(text: String, isMarked: Bool) {
    #expect(Array(text.utf8).withUnsafeBytes { LinkMessage.isMarked($0) } == isMarked)
  }
}

/// Deliveries that can be asked in an expectation.
private final class Taker {
  private(set) var deliveries = Deliveries()

  func take(_ origin: UInt64, _ number: UInt64) -> Bool {
    deliveries.take(MessageForAll(origin: origin, number: number, sender: "s", text: "t"))
  }
}

@Suite struct DeliveriesTests {
  /// Origins that are remembered, and the largest number of gaps that one of them has.
  private func size(_ deliveries: Deliveries) -> (origins: Int, gaps: Int) {
    let origins = Mirror(reflecting: deliveries).children.first { $0.label == "origins" }
    let entries = origins.map { Array(Mirror(reflecting: $0.value).children) } ?? []
    let gaps = entries.map { entry in
      let origin = Mirror(reflecting: entry.value).children.first { $0.label == "value" }
      let missing = origin.flatMap { Mirror(reflecting: $0.value).children.first { $0.label == "missing" } }
      return missing.map { Mirror(reflecting: $0.value).children.count } ?? .max
    }
    return (entries.count, gaps.max() ?? 0)
  }

  @Test func once() {
    let deliveries = Taker()
    for number in UInt64(1)...5 {
      #expect(deliveries.take(1, number))
      #expect(!deliveries.take(1, number))
      #expect(deliveries.take(2, number))
    }
    for number in UInt64(1)...5 { #expect(!deliveries.take(1, number)) }
    // A gap is filled later, whichever way.
    #expect(deliveries.take(1, 9))
    for number in [7, 8, 6] as [UInt64] {
      #expect(deliveries.take(1, number))
      #expect(!deliveries.take(1, number))
    }
    #expect(deliveries.take(1, 10))
  }

  /// The first that comes of an origin need not be its first: another link may still bring those before it.
  @Test func theFirstIsNotTheLowest() {
    let deliveries = Taker()
    #expect(deliveries.take(1, 3))
    #expect(deliveries.take(1, 1))
    #expect(deliveries.take(1, 2))
    for number in UInt64(1)...3 { #expect(!deliveries.take(1, number)) }
  }

  /// The largest numbers there are, and what is far apart.
  @Test func edges() {
    let deliveries = Taker()
    let last: UInt64 = 1 << 62 - 1
    for number in [1, last, 2, last - 1, 1 << 40, 3, 1 << 61] as [UInt64] {
      #expect(deliveries.take(1, number))
      #expect(!deliveries.take(1, number))
    }
  }

  /// Messages of several origins over several links, each of which keeps their order, may be cut off and be there again later on, and
  /// begins at any time: each is delivered once, where it comes at all, as a set of all that have come says.
  @Test func anyInterleaving() {
    for seed in UInt64(0)..<150 {
      var random = SplitMix(seed: seed)
      let deliveries = Taker()
      var delivered: Set<[UInt64]> = []
      let origins = UInt64.random(in: 1...3, using: &random)
      var sent = [UInt64](repeating: 0, count: Int(origins))
      var paths: [[(UInt64, UInt64)]?] = Array(repeating: nil, count: Int.random(in: 2...4, using: &random))
      for _ in 0..<2000 {
        let path = Int.random(in: paths.indices, using: &random)
        switch Int.random(in: 0...99, using: &random) {
        case 0: paths[path] = nil  // What was under way is lost.
        case 1..<4: if paths[path] == nil { paths[path] = [] }
        case 4..<45:
          let origin = Int.random(in: sent.indices, using: &random)
          sent[origin] += 1
          for place in paths.indices { paths[place]?.append((UInt64(origin), sent[origin])) }
        default:
          guard let first = paths[path]?.first else { continue }
          paths[path]?.removeFirst()
          let isNew = delivered.insert([first.0, first.1]).inserted
          if deliveries.take(first.0, first.1) != isNew {
            Issue.record("seed \(seed): origin \(first.0), number \(first.1): is new: \(isNew)")
          }
        }
      }
    }
  }

  /// Somebody who numbers as he likes does not make it grow. What it may forget is old: a message is never delivered twice.
  @Test func boundedMemory() {
    let deliveries = Taker()
    for number in stride(from: UInt64(1), to: 100_001, by: 2) { _ = deliveries.take(7, number) }
    #expect(size(deliveries.deliveries) == (1, 256))
    for number in stride(from: UInt64(1), to: 100_001, by: 2) where deliveries.take(7, number) {
      Issue.record("\(number) twice")
    }
    // The latest gaps are still known.
    #expect(deliveries.take(7, 99_998))
    #expect(!deliveries.take(7, 99_998))
    for origin in UInt64(100)..<3100 { _ = deliveries.take(origin, 1 << 61) }
    #expect(size(deliveries.deliveries) == (1024, 1))
    // Those that were heard of lately.
    #expect(!deliveries.take(3099, 1 << 61))
    #expect(!deliveries.take(2200, 1 << 61))
  }
}
