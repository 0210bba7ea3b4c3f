import TestSupport
import Testing

@testable import WebSockets

/// What became of bytes that should have a head.
private struct HeadReading: Equatable {
  var heads: [HTTPHead] = []
  var rest: [UInt8] = []
  var problem: HTTPProblem?
  /// How many bytes had come when it was given up.
  var problemAt = 0
  var isInside = false

  func says(_ other: HeadReading) -> Bool {
    heads == other.heads && problem == other.problem && rest == other.rest && isInside == other.isInside
  }
}

/// Reads a head from pieces that have memory of their own. What comes behind it is left, and collected.
private func readHead(_ bytes: [UInt8], cutAt cuts: [Int] = [], _ side: HTTPHeadReader.Side) -> HeadReading {
  var reading = HeadReading()
  var reader = HTTPHeadReader(side)
  var from = 0
  for cut in cuts + [bytes.count] {
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: cut - from, alignment: 1)
    defer { piece.deallocate() }
    piece.copyBytes(from: bytes[from..<cut])
    from = cut
    var rest = piece
    if reading.heads.isEmpty {
      do throws(HTTPProblem) {
        if let head = try reader.next(from: &rest) { reading.heads.append(head) }
      } catch {
        (reading.problem, reading.problemAt) = (error, cut)
        return reading
      }
    }
    reading.rest += rest
    for place in piece.indices { piece[place] = 0xee }
  }
  reading.isInside = reader.isInside
  return reading
}

private func readHead(_ text: String, _ side: HTTPHeadReader.Side = .requests) -> HeadReading {
  readHead(Array(text.utf8), side)
}

/// A request, and what it is refused for.
private func request(_ text: String) throws -> HTTPRequest {
  let reading = readHead(text)
  if let problem = reading.problem { throw problem }
  return try HTTPRequest(try #require(reading.heads.first))
}

/// The status of a refusal; nil where there is none.
private func status(_ body: () throws -> Void) -> Int? {
  do { try body() } catch { return (error as? HTTPProblem)?.status ?? -1 }
  return nil
}

@Suite struct HeadReaderTests {
  /// See: RFC 6455, section 1.3
  private static let sampleRequest =
    "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n"
    + "Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n"
  private static let sampleAnswer =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"

  @Test func theSamples() throws {
    let asked = try request(Self.sampleRequest)
    #expect(asked.method == "GET" && asked.target == "/chat" && asked.minorVersion == 1)
    let upgrade = try Upgrade(asked)
    try OriginRule(["http://example.com"]).check(asked.head)
    #expect(upgrade.key == "dGhlIHNhbXBsZSBub25jZQ==")
    #expect(upgrade.protocols == ["chat", "superchat"])
    #expect(upgrade.answer(subprotocol: "chat").bytes == Array(Self.sampleAnswer.utf8))
    let answer = try #require(readHead(Self.sampleAnswer, .answers).heads.first)
    #expect(answer.bytes == Array(Self.sampleAnswer.utf8))
    let client = ClientHandshake(
      try WebSocketURL("ws://127.0.0.1/chat"), protocols: ["chat", "superchat"],
      key: "dGhlIHNhbXBsZSBub25jZQ==")
    #expect(try client.check(answer) == "chat")
  }

  /// However it is cut, it says the same, and leaves what comes behind it.
  @Test(arguments: [HTTPHeadReader.Side.requests, .answers]) func everyCut(side: HTTPHeadReader.Side) {
    let folded = side == .answers ? "X-Folded: one\r\n  two\r\n\tthree \r\n" : ""
    let text =
      "\r\n" + (side == .requests ? Self.sampleRequest : Self.sampleAnswer).dropLast()
      + "Empty:\r\nSpaces: \t a b \t\r\n\(folded)Letters: häß 世\r\n\r\n"
    let behind: [UInt8] = [0x81, 0x01, 0x61, 0x0d, 0x0a, 0x0d, 0x0a]
    let stream = Array(text.utf8) + behind
    let whole = readHead(stream, side)
    #expect(whole.problem == nil && whole.rest == behind && whole.heads.count == 1 && !whole.isInside)
    #expect(whole.heads.first?.all("Empty").first == "" && whole.heads.first?.all("spaces").first == "a b")
    #expect(whole.heads.first?.all("x-folded") == (side == .answers ? ["one two three"] : []))
    #expect(whole.heads.first?.all("letters").first == "häß 世")
    #expect(readHead(stream, cutAt: Array(0...stream.count), side) == whole)
    for one in 0...stream.count {
      if readHead(stream, cutAt: [one], side) != whole { Issue.record("cut at \(one)") }
      // A head that ends anywhere is none, and begun.
      if one < text.utf8.count {
        let part = readHead(Array(stream[..<one]), side)
        if part != HeadReading(isInside: one > 0) { Issue.record("ended at \(one): \(part)") }
      }
    }
    var random = SplitMix(seed: 9112)
    for _ in 0..<500 {
      let cuts = random.cuts(Int.random(in: 2...9, using: &random), in: stream.count)
      if readHead(stream, cutAt: cuts, side) != whole { Issue.record("cut at \(cuts)") }
    }
  }

  /// Two heads, one behind the other, from one reader.
  @Test func oneBehindTheOther() throws {
    var reader = HTTPHeadReader(.requests)
    var bytes = Array((Self.sampleRequest + "\r\nHEAD / HTTP/1.1\r\nHost: b\r\n\r\n!").utf8)
    try bytes.withUnsafeMutableBytes { all in
      var rest = all
      #expect(try reader.next(from: &rest)?.startLine == "GET /chat HTTP/1.1")
      #expect(!reader.isInside)
      let second = try reader.next(from: &rest)
      #expect(second == HTTPHead("HEAD / HTTP/1.1", [.init("Host", "b")]))
      #expect(Array(rest) == [0x21])
    }
  }

  /// What is wrong, what it is refused with, and at which byte that is known: the text up to "|" has come.
  @Test(arguments: [
    ("GET / HTTP/1.1\n|Host: a\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\n|\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n|", 400), ("\n|GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\rH|ost: a\r\n\r\n", 400), ("GET / HTTP/1.1\r\r|\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\rX|: b\r\n\r\n", 400), ("GET /\0 HTTP/1.1\r\n|\r\n", 400),
    ("GET /\t HTTP/1.1\u{7f}\r\n|\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\0b\r\n|\r\n", 400),
    ("GET / HTTP/1.1\r\nHo\u{1}st: a\r\n|\r\n", 400), ("GET / HTTP/1.1\r\nX: \u{1b}[31m\r\n|\r\n", 400),
    ("GET / HTTP/1.1\r\nHost\r\n|\r\n", 400), ("GET / HTTP/1.1\r\n: a\r\n|\r\n", 400),
    ("GET / HTTP/1.1\r\nHost : a\r\n|\r\n", 400), ("GET / HTTP/1.1\r\nHo st: a\r\n|\r\n", 400),
    ("GET / HTTP/1.1\r\nHöst: a\r\n|\r\n", 400), ("GET / HTTP/1.1\r\nHost:a\r\n\tb\r\n|\r\n", 400),
    ("GET / HTTP/1.1\r\n Host: a\r\n|\r\n", 400), ("GET / HTTP/1.1\r\nA: b\r\n \r\n|\r\n", 400),
    ("GET / HTTP/1.1\r\n(a): b\r\n|\r\n", 400), ("GET / HTTP/1.1\r\na@b: c\r\n|\r\n", 400),
    ("GET / HTTP/1.1\r\n\"a\": c\r\n|\r\n", 400),
  ])
  func badHeads(text: String, status: Int) {
    let parts = text.split(separator: "|", omittingEmptySubsequences: false)
    let (before, bytes) = (parts[0].utf8.count, Array(parts.joined().utf8))
    let whole = readHead(bytes, .requests)
    #expect(whole.problem?.status == status)
    let bytewise = readHead(bytes, cutAt: Array(0...bytes.count), .requests)
    #expect(bytewise.says(whole) && bytewise.problemAt == before)
    for cut in 0...bytes.count where !readHead(bytes, cutAt: [cut], .requests).says(whole) {
      Issue.record("cut at \(cut)")
    }
  }

  @Test(arguments: ["HTTP/1.1 101 X\r\n a\r\n", "HTTP/1.1 101 X\r\n\ta: b\r\n", "HTTP/1.1 101 X\nA: b\r\n"])
  func badAnswers(text: String) { #expect(readHead(text + "\r\n", .answers).problem?.status == 400) }

  /// Each limit: what is just within it passes, and a byte or a field more does not.
  @Test func limits() {
    func head(line: Int = 14, fields: Int = 1, filler: Int = 0) -> String {
      let path = String(repeating: "a", count: line - 14)
      let fields = (0..<fields).map { "F\($0): x\r\n" }.joined()
      return "GET /\(path) HTTP/1.1\r\n\(fields)"
        + (filler > 0 ? "X: \(String(repeating: "b", count: filler))\r\n" : "") + "\r\n"
    }
    #expect(readHead(head(line: 8192)).heads.count == 1)
    #expect(readHead(head(line: 8193)).problem?.status == 414)
    // A line that never ends is no reason to wait for more.
    let endless = [UInt8](repeating: 0x61, count: 20_000)
    let first = readHead(endless, cutAt: Array(0...endless.count), .requests)
    #expect(first.problem?.status == 414 && first.problemAt == 8195)
    #expect(readHead(endless, .requests).problem?.status == 414)
    #expect(
      readHead(Array("\r\n\r\n".utf8) + endless, cutAt: Array(0...endless.count), .requests).problemAt == 8199
    )

    #expect(readHead(head(fields: 100)).heads.first?.fields.count == 100)
    #expect(readHead(head(fields: 101)).problem?.status == 431)
    let rest = 16 * 1024 - head(fields: 50).utf8.count - 5
    #expect(head(fields: 50, filler: rest).utf8.count == 16 * 1024)
    #expect(readHead(head(fields: 50, filler: rest)).heads.count == 1)
    #expect(readHead(head(fields: 50, filler: rest + 1)).problem?.status == 431)
    let field = Array("GET / HTTP/1.1\r\nX: ".utf8) + endless
    let reading = readHead(field, cutAt: Array(0...field.count), .requests)
    #expect(reading.problem?.status == 431 && reading.problemAt == 16 * 1024 + 1)
    // Empty lines before a request end some time, too.
    #expect(readHead(String(repeating: "\r\n", count: 9000)).problem?.status == 431)
    let folds = "HTTP/1.1 101 X\r\nA: b\r\n" + String(repeating: " c\r\n", count: 5000)
    #expect(readHead(folds, .answers).problem?.status == 431)
  }

  /// Bytes that are no UTF-8 come through as what stands for them, and break nothing.
  @Test func otherBytes() {
    let bytes = Array("GET / HTTP/1.1\r\nX: ".utf8) + [0xff, 0x20, 0xc3] + Array("\r\n\r\n".utf8)
    #expect(readHead(bytes, .requests).heads.first?.all("x").first == "\u{fffd} \u{fffd}")
    let target = Array("GET /".utf8) + [0xe9] + Array(" HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    let head = readHead(target, .requests).heads.first
    #expect(status { _ = try HTTPRequest(try #require(head)) } == 400)
  }
}

@Suite struct HeadTests {
  private let head = HTTPHead(
    "X",
    [
      .init("Connection", "keep-alive, Upgrade"), .init("CONNECTION", " ,, close ,"), .init("One", "1"),
      .init("Empty", ""), .init("Umlaut", "Ä"),
    ])

  @Test func fields() throws {
    #expect(head.all("connection") == ["keep-alive, Upgrade", " ,, close ,"])
    #expect(head.list("Connection") == ["keep-alive", "Upgrade", "close"])
    #expect(head.list("connection", has: "upgrade") && head.list("CONNECTION", has: "Close"))
    #expect(!head.list("connection", has: "up") && !head.list("nothing", has: ""))
    #expect(head.list("empty") == [] && head.all("empty") == [""])
    #expect(try head.one("one") == "1")
    #expect(try head.one("none") == nil)
    #expect(throws: HTTPProblem.self) { try head.one("Connection") }
    // Letters of ASCII alone have a case.
    #expect(!head.list("umlaut", has: "ä") && head.list("Umlaut", has: "Ä"))
  }

  @Test func asBytes() {
    let text = "GET / HTTP/1.1\r\nA: b\r\nC: \r\n\r\n"
    let head = HTTPHead("GET / HTTP/1.1", [.init("A", "b"), .init("C", "")])
    #expect(head.bytes == Array(text.utf8))
    #expect(readHead(text).heads == [head])
  }

  /// Every token byte, and no other. See: RFC 9110, section 5.6.2
  @Test func tokens() {
    let tokens = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
    for byte in UInt8.min...UInt8.max { #expect(isTokenByte(byte) == tokens.contains(byte)) }
  }
}

@Suite struct RequestTests {
  @Test(arguments: [
    ("GET / HTTP/1.1", "GET", "/", "/"), ("HEAD /a?b HTTP/1.1", "HEAD", "/a?b", "/a"),
    ("get /ws HTTP/1.1", "get", "/ws", "/ws"), ("OPTIONS * HTTP/1.1", "OPTIONS", "*", "*"),
    ("GET http://a/ws?x=/y HTTP/1.1", "GET", "http://a/ws?x=/y", "/ws"),
    ("GET http://a HTTP/1.1", "GET", "http://a", "/"),
    ("GET http://a?b/c HTTP/1.1", "GET", "http://a?b/c", "/"),
    ("GET ws://a:80/ws HTTP/1.1", "GET", "ws://a:80/ws", "/ws"),
    ("GET /x://y HTTP/1.1", "GET", "/x://y", "/x://y"), ("GET //ws HTTP/1.1", "GET", "//ws", "//ws"),
    ("CONNECT a:80 HTTP/1.1", "CONNECT", "a:80", "a:80"), ("M-SEARCH /?? HTTP/1.9", "M-SEARCH", "/??", "/"),
    ("GET /%2e%2e/ HTTP/1.1", "GET", "/%2e%2e/", "/%2e%2e/"),
  ])
  func goodLines(line: String, method: String, target: String, path: String) throws {
    let request = try request("\(line)\r\nHost: a\r\n\r\n")
    #expect(request.method == method && request.target == target && request.path == path)
    #expect(!request.hasBody)
  }

  @Test(arguments: [
    ("GET /", 400), ("GET", 400), ("GET  / HTTP/1.1", 400), (" GET / HTTP/1.1", 400),
    ("GET / HTTP/1.1 ", 400),
    ("GET / x HTTP/1.1", 400), ("GET /\tHTTP/1.1", 400), ("GET\t/ HTTP/1.1", 400), ("G(T / HTTP/1.1", 400),
    ("GÉT / HTTP/1.1", 400), ("GET /é HTTP/1.1", 400), ("GET / http/1.1", 400), ("GET / HTTP/1", 400),
    ("GET / HTTP/11", 400), ("GET / HTTP/1.10", 400), ("GET / HTTP/1,1", 400), ("GET / HTTP/a.b", 400),
    ("GET / HTTP/-1.1", 400), ("GET / HTTP/1.1x", 400), ("GET / HTP/1.1", 400), ("GET / HTTP/٣.1", 400),
    ("GET / HTTP/2.0", 505), ("GET / HTTP/0.9", 505), ("GET / HTTP/3.1", 505), ("PRI * HTTP/2.0", 505),
    ("\u{16}\u{3}\u{1}", 400),
  ])
  func badLines(line: String, status wanted: Int) {
    #expect(status { _ = try request("\(line)\r\nHost: a\r\n\r\n") } == wanted)
  }

  /// One Host, or none where HTTP/1.0 is spoken. See: RFC 9112, section 3.2
  @Test func hosts() throws {
    #expect(status { _ = try request("GET / HTTP/1.1\r\n\r\n") } == 400)
    #expect(status { _ = try request("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n") } == 400)
    #expect(status { _ = try request("GET / HTTP/1.0\r\nHost: a\r\nHOST: b\r\n\r\n") } == 400)
    #expect(try request("GET / HTTP/1.0\r\n\r\n").minorVersion == 0)
    #expect(try request("GET / HTTP/1.1\r\nHost:\r\n\r\n").head.one("Host") == "")
  }

  @Test(arguments: [
    ("", false), ("Content-Length: 0\r\n", false), ("Content-Length: 1\r\n", true),
    ("Content-Length: -0\r\n", true),
    ("Content-Length: 0\r\nContent-Length: 5\r\n", true), ("content-length: 0, 0\r\n", true),
    ("Transfer-Encoding: chunked\r\n", true), ("Transfer-Encoding:\r\n", true),
    ("transfer-encoding: identity\r\nContent-Length: 0\r\n", true),
  ])
  func bodies(fields: String, hasBody: Bool) throws {
    #expect(try request("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n").hasBody == hasBody)
  }
}

@Suite struct UpgradeTests {
  private static let key = "dGhlIHNhbXBsZSBub25jZQ=="

  /// A request for a WebSocket, in which some fields have other values, or are left out.
  private func upgrade(
    _ line: String = "GET /ws HTTP/1.1", _ changes: [String: String?] = [:], more: String = ""
  )
    throws -> Upgrade
  {
    var fields: [String: String?] = [
      "Host": "127.0.0.1:8080", "Upgrade": "websocket", "Connection": "Upgrade",
      "Sec-WebSocket-Key": Self.key,
      "Sec-WebSocket-Version": "13",
    ]
    fields.merge(changes) { _, new in new }
    let text = fields.sorted { $0.key < $1.key }.map { name, value in value.map { "\(name): \($0)\r\n" } ?? ""
    }
    return try Upgrade(try request("\(line)\r\n\(text.joined())\(more)\r\n"))
  }

  /// What Chromium, Firefox and proxies in front of them send.
  @Test(arguments: [
    [:], ["Upgrade": "WebSocket"], ["Connection": "keep-alive, Upgrade"], ["Connection": "upgrade"],
    ["Connection": "close , UPGRADE ,"], ["Upgrade": "h2c, websocket"], ["Sec-WebSocket-Version": " 13 "],
    ["Content-Length": "0"], ["Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"],
    ["Cookie": "a=b", "Pragma": "no-cache", "Sec-Fetch-Mode": "websocket"],
  ])
  func good(changes: [String: String]) throws {
    let upgrade = try upgrade("GET /ws HTTP/1.1", changes.mapValues { $0 })
    #expect(upgrade.key == Self.key && upgrade.protocols == [])
    // No extension is agreed on, and no subprotocol that was not chosen.
    #expect(
      upgrade.answer().fields == [
        .init("Upgrade", "websocket"), .init("Connection", "Upgrade"),
        .init("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
      ])
  }

  @Test func lists() throws {
    let several = try upgrade(
      "GET /ws HTTP/1.1", ["Connection": "keep-alive"],
      more: "Connection: Upgrade\r\nSec-WebSocket-Protocol: b , a\r\nSec-WebSocket-Protocol: ,c\r\n")
    #expect(several.protocols == ["b", "a", "c"])
  }

  @Test(
    arguments: [
      ("POST /ws HTTP/1.1", [:], 405), ("HEAD /ws HTTP/1.1", [:], 405), ("get /ws HTTP/1.1", [:], 405),
      ("GET /ws HTTP/1.0", [:], 400), ("GET /ws HTTP/1.1", ["Upgrade": nil], 426),
      ("GET /ws HTTP/1.0", ["Upgrade": nil], 426), ("GET /ws HTTP/1.1", ["Upgrade": "h2c"], 426),
      ("GET /ws HTTP/1.1", ["Upgrade": "websocket2"], 426),
      ("GET /ws HTTP/1.1", ["Upgrade": "web socket"], 426),
      ("GET /ws HTTP/1.1", ["Upgrade": "\"websocket\""], 426),
      ("GET /ws HTTP/1.1", ["Upgrade": "websoc\u{212a}et"], 426),
      ("GET /ws HTTP/1.1", ["Connection": nil], 400), ("GET /ws HTTP/1.1", ["Connection": "keep-alive"], 400),
      ("GET /ws HTTP/1.1", ["Connection": "close"], 400),
      ("GET /ws HTTP/1.1", ["Connection": "upgrade-insecure"], 400),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Version": nil], 400),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Version": ""], 400),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Version": "8"], 426),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Version": "13, 8"], 426),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Version": "013"], 426),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Version": "+13"], 426),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Version": "13.0"], 426),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Key": nil], 400),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Key": ""], 400),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Key": "abc"], 400),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"], 400),
      ("GET /ws HTTP/1.1", ["Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZR=="], 400),
      ("GET /ws HTTP/1.1", ["sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="], 400),
      ("GET /ws HTTP/1.1", ["Content-Length": "5"], 400),
      ("GET /ws HTTP/1.1", ["Transfer-Encoding": "chunked"], 400),
    ] as [(String, [String: String?], Int)])
  func bad(line: String, changes: [String: String?], status wanted: Int) {
    #expect(status { _ = try upgrade(line, changes) } == wanted)
  }

  /// A refusal says what would be right. See: RFC 9110, sections 10.2.1 and 15.5.22; RFC 6455, section 4.4
  @Test func whatStandsBeside() {
    func fields(_ line: String, _ changes: [String: String?]) -> [HTTPHead.Field] {
      do { _ = try upgrade(line, changes) } catch { return (error as? HTTPProblem)?.fields ?? [] }
      return []
    }
    #expect(fields("POST /ws HTTP/1.1", [:]) == [.init("Allow", "GET")])
    for change in ["Upgrade", "Sec-WebSocket-Version"] {
      let beside = fields("GET /ws HTTP/1.1", [change: "9"])
      #expect(beside.contains(.init("Upgrade", "websocket")))
      #expect(beside.contains(.init("Connection", "Upgrade")))
      #expect(beside.contains(.init("Sec-WebSocket-Version", "13")))
    }
  }

  @Test(
    arguments: [
      // Its own page, under addresses and as localhost; and whoever is no browser.
      (nil, "127.0.0.1:8080", [], true), ("http://127.0.0.1:8080", "127.0.0.1:8080", [], true),
      ("http://LOCALHOST:8080", "localhost:8080", [], true), ("http://[::1]:8080", "[::1]:8080", [], true),
      ("http://192.0.2.7", "192.0.2.7", [], true), ("http://[::1]", "[::1]", [], true),
      // Others' pages, or its own under a name that leads who knows where.
      ("http://evil.example", "127.0.0.1:8080", [], false),
      ("http://evil.example:8080", "evil.example:8080", [], false),
      ("http://127.0.0.1:8081", "127.0.0.1:8080", [], false),
      ("https://127.0.0.1:8080", "127.0.0.1:8080", [], false),
      ("http://127.0.0.1", "127.0.0.1:8080", [], false),
      ("http://127.0.0.1:8080/", "127.0.0.1:8080", [], false),
      ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", [], false),
      ("http://localhost.evil.example:80", "localhost.evil.example:80", [], false),
      ("http://1.2.3.4x:80", "1.2.3.4x:80", [], false), ("null", "127.0.0.1:8080", [], false),
      ("http://", "", [], false), ("http://:8080", ":8080", [], false), ("", "127.0.0.1:8080", [], false),
      // What is allowed.
      ("null", "127.0.0.1:8080", ["null"], true),
      ("http://a.example", "127.0.0.1", ["http://b.example", "HTTP://A.example"], true),
      ("http://a.example:81", "127.0.0.1", ["http://a.example"], false),
      ("http://evil.example", "x", ["*"], true),
      ("http://a.example.evil", "127.0.0.1", ["http://a.example"], false),
    ] as [(String?, String, [String], Bool)])
  func origins(origin: String?, host: String, allowed: [String], passes: Bool) {
    let fields = [HTTPHead.Field("Host", host)] + (origin.map { [HTTPHead.Field("Origin", $0)] } ?? [])
    let refused = status { try OriginRule(allowed).check(HTTPHead("GET /ws HTTP/1.1", fields)) }
    #expect(refused == (passes ? nil : 403))
  }

  @Test func twoOrigins() {
    let head = HTTPHead("GET /ws HTTP/1.1", [.init("Origin", "http://a"), .init("origin", "http://b")])
    #expect(status { try OriginRule(["http://a", "http://b"]).check(head) } == 400)
  }
}

@Suite struct ClientHandshakeTests {
  private static let key = "dGhlIHNhbXBsZSBub25jZQ=="
  private static let right = "HTTP/1.1 101 Switching Protocols"

  private func check(_ line: String, _ changes: [String: String?] = [:], protocols: [String] = []) throws
    -> String?
  {
    var fields: [String: String?] = [
      "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ]
    fields.merge(changes) { _, new in new }
    let text = fields.sorted { $0.key < $1.key }.map { name, value in value.map { "\(name): \($0)\r\n" } ?? ""
    }
    let reading = readHead("\(line)\r\n\(text.joined())\r\n", .answers)
    if let problem = reading.problem { throw problem }
    let handshake = ClientHandshake(
      try WebSocketURL("ws://127.0.0.1:1/"), protocols: protocols, key: Self.key)
    return try handshake.check(try #require(reading.heads.first))
  }

  @Test func whatIsAsked() throws {
    let url = try WebSocketURL("ws://[::1]:8080/ws?a=b")
    let handshake = ClientHandshake(url, protocols: ["b", "a"], key: Self.key)
    let expected =
      "GET /ws?a=b HTTP/1.1\r\nHost: [::1]:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: b, a\r\n\r\n"
    #expect(handshake.request.bytes == Array(expected.utf8))
    // This library's own server understands it.
    #expect(try Upgrade(try request(expected)).protocols == ["b", "a"])
    #expect(ClientHandshake(url).request.all("Sec-WebSocket-Protocol") == [])
    #expect(ClientHandshake(url).key != ClientHandshake(url).key)
  }

  @Test(
    arguments: [
      (right, [:], nil), ("HTTP/1.1 101 ", [:], nil), ("HTTP/1.1 101", [:], nil),
      ("HTTP/1.1 101 Web Socket Protocol", [:], nil),
      (right, ["Upgrade": "WebSocket"], nil), (right, ["Connection": "keep-alive, upgrade"], nil),
      (right, ["Sec-WebSocket-Protocol": "a"], "a"),
      (right, ["Server": "x", "Sec-WebSocket-Extensions": ""], nil),
    ] as [(String, [String: String?], String?)])
  func good(line: String, changes: [String: String?], chosen: String?) throws {
    #expect(try check(line, changes, protocols: ["b", "a"]) == chosen)
  }

  @Test(
    arguments: [
      // Another status is the server's word.
      ("HTTP/1.1 200 OK", [:], 200), ("HTTP/1.0 404 Not Found", [:], 404), ("HTTP/1.1 403", [:], 403),
      ("HTTP/1.1 100 Continue", [:], 100), ("HTTP/1.1 503 ", [:], 503),
      // What makes no sense.
      ("HTTP/2.0 101 X", [:], 0), ("HTTP/1.1 1011 X", [:], 0), ("HTTP/1.1 101X", [:], 0),
      ("HTTP/1.1 10", [:], 0),
      ("HTTP/1.1 +10 X", [:], 0), ("HTTP/1.1 -10 X", [:], 0), ("HTTP/1.1  101 X", [:], 0),
      ("HTTP/1.1", [:], 0),
      ("HTTP/1.1 abc", [:], 0), ("SSH-2.0-OpenSSH_9.6", [:], 0), ("101 Switching Protocols", [:], 0),
      ("http/1.1 101 X", [:], 0), ("HTTP/1.1 ١٠١ X", [:], 0), ("HTTP/1.1 101\tX", [:], 0),
      // HTTP/1.0 cannot switch. See: RFC 9110, section 15.2
      ("HTTP/1.0 101 Switching Protocols", [:], 0),
      (right, ["Upgrade": nil], 0), (right, ["Upgrade": "h2c"], 0), (right, ["Connection": nil], 0),
      (right, ["Connection": "close"], 0), (right, ["Sec-WebSocket-Accept": nil], 0),
      (right, ["Sec-WebSocket-Accept": ""], 0),
      (right, ["Sec-WebSocket-Accept": "S3PPLMBITXAQ9KYGZZHZRBK+XOO="], 0),
      (right, ["Sec-WebSocket-Accept": "dGhlIHNhbXBsZSBub25jZQ=="], 0),
      (right, ["sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="], 0),
      (right, ["Sec-WebSocket-Extensions": "permessage-deflate"], 0),
      (right, ["Sec-WebSocket-Protocol": "c"], 0),
      (right, ["Sec-WebSocket-Protocol": "A"], 0), (right, ["Sec-WebSocket-Protocol": "a, b"], 0),
      (right, ["Sec-WebSocket-Protocol": ""], 0),
      (right, ["Sec-WebSocket-Protocol": "a", "sec-websocket-protocol": "a"], 0),
    ] as [(String, [String: String?], Int)])
  func bad(line: String, changes: [String: String?], status wanted: Int) {
    #expect(status { _ = try check(line, changes, protocols: ["b", "a"]) } == wanted)
  }
}

@Suite struct URLTests {
  @Test(arguments: [
    ("ws://127.0.0.1:8080/ws", "127.0.0.1:8080", "127.0.0.1:8080", "/ws"),
    ("ws://127.0.0.1", "127.0.0.1:80", "127.0.0.1", "/"),
    ("WS://localhost:81?x=1", "127.0.0.1:81", "localhost:81", "/?x=1"),
    ("ws://localhost/", "127.0.0.1:80", "localhost", "/"),
    ("ws://[::1]/a/b?c/d", "[::1]:80", "[::1]", "/a/b?c/d"),
    ("ws://[::1]:65535", "[::1]:65535", "[::1]:65535", "/"),
    ("ws://127.0.0.1:80/", "127.0.0.1:80", "127.0.0.1", "/"),
    ("ws://127.0.0.1:080/", "127.0.0.1:80", "127.0.0.1", "/"),
    ("ws://127.0.0.1:8080/%C3%A4?a@b", "127.0.0.1:8080", "127.0.0.1:8080", "/%C3%A4?a@b"),
    ("ws://127.0.0.1:1//", "127.0.0.1:1", "127.0.0.1:1", "//"),
  ])
  func good(text: String, address: String, host: String, target: String) throws {
    let url = try WebSocketURL(text)
    #expect(
      "\(url.address)" == address && url.host == host && url.target == target && url.description == text)
  }

  @Test(arguments: [
    ("", "looks like"), ("127.0.0.1:8080", "looks like"), ("ws:/127.0.0.1", "looks like"),
    ("ws:127.0.0.1", "looks like"),
    ("wss://127.0.0.1/", "TLS"), ("WSS://127.0.0.1/", "TLS"), ("http://127.0.0.1/", "begin with ws://"),
    ("://127.0.0.1/", "begin with ws://"), (" ws://127.0.0.1/", "begin with ws://"), ("ws://", "no host"),
    ("ws:///ws", "no host"), ("ws://?a", "no host"), ("ws://:80/", "no host"),
    ("ws://127.0.0.1/#a", "fragment"),
    ("ws://127.0.0.1#a", "fragment"), ("ws://me@127.0.0.1/", "user"), ("ws://@/", "user"),
    ("ws://a:b@127.0.0.1/", "user"),
    ("ws://127.0.0.1:0/", "port 0"), ("ws://127.0.0.1:65536/", "port"), ("ws://127.0.0.1:x/", "port"),
    ("ws://127.0.0.1:/", "port"), ("ws://127.0.0.1:+80/", "port"), ("ws://example.org/", "no IP address"),
    ("ws://127.0.0.1 /", "visible ASCII"), ("ws://127.0.0.1/ä", "visible ASCII"),
    ("ws://127.0.0.1/a b", "visible ASCII"),
    ("ws://127.0.0.1/\r\nX: y", "visible ASCII"), ("ws://127.0.0.1/\u{7f}", "visible ASCII"),
    ("ws://[::1/", ""),
    ("ws://::1:80/", "brackets"), ("ws://::1/", ""), ("ws://[127.0.0.1]/", ""), ("ws://[]/", ""),
    ("ws://./run/x", ""),
  ])
  func bad(text: String, words: String) {
    do {
      let url = try WebSocketURL(text)
      Issue.record("\(url.host) \(url.target)")
    } catch { #expect(words.isEmpty || "\(error)".contains(words)) }
  }
}

@Suite struct AnswerTests {
  @Test func asBytes() throws {
    let bytes = HTTPAnswer.bytes(404, [.init("A", "b")], type: "text/html", body: "Grüße")
    let reading = readHead(bytes, .answers)
    let head = try #require(reading.heads.first)
    #expect(head.startLine == "HTTP/1.1 404 Not Found")
    #expect(reading.rest == Array("Grüße".utf8))
    #expect(try head.one("content-length") == "7")
    #expect(try head.one("a") == "b")
    #expect(try head.one("content-type") == "text/html")
    #expect(head.list("connection", has: "close"))
    // HEAD has the same head.
    let alone = HTTPAnswer.bytes(404, [.init("A", "b")], type: "text/html", body: "Grüße", isHead: true)
    #expect(alone == Array(bytes.dropLast(7)))
  }

  @Test(arguments: [400, 403, 404, 405, 408, 414, 426, 431, 503, 505]) func refusals(status: Int) throws {
    let reading = readHead(HTTPAnswer.bytes(HTTPProblem(status, "why", [.init("X", "y")])), .answers)
    let head = try #require(reading.heads.first)
    let words = head.startLine.split(separator: " ", maxSplits: 2)
    #expect(words.count == 3 && words[1] == "\(status)" && !words[2].isEmpty)
    #expect(reading.rest == Array("why\n".utf8))
    #expect(try head.one("x") == "y")
    // This library's own client reads it as what it is.
    let client = ClientHandshake(try WebSocketURL("ws://127.0.0.1:1/"))
    #expect(WebSocketsTests.status { _ = try client.check(head) } == status)
  }
}
