// A target for libFuzzer over what reads bytes from a peer in the WebSockets library, and over what it sends. It stands by itself,
// beside the package:
//
//   swiftc -O -sanitize=fuzzer,address -parse-as-library Sources/WebSockets/Wire/*.swift Sources/WebSockets/HTTP/*.swift \
//     Sources/WebSockets/Handshake/{WebSocketKey,Upgrade,ClientHandshake}.swift Tests/Fuzz/WebSocketFuzz.swift \
//     -o /tmp/fuzz-websockets
//   WEBSOCKETS_CORPUS=/tmp/corpus /tmp/fuzz-websockets -runs=0
//   /tmp/fuzz-websockets -max_total_time=60 -max_len=4096 /tmp/corpus
//
// An input is a byte for what is tried, a byte for the number of cuts (at most 15), two bytes for each cut, and a stream. The stream
// is read whole, and cut: both have to say the same, and to fail alike. The address sanitizer sees a reader that looks beyond what
// it was given, for each piece has memory of its own, which is gone when the next one comes. For the outbox the stream is a list of
// what is to be done with it; what it sends has to be understood by a reader.
//
// See: https://llvm.org/docs/LibFuzzer.html

import Glibc

/// In the place of the library's own, which needs the sockets.
public struct WebSocketURL: Sendable {
  public let host: String
  public let target: String
}

/// Stops the run where something does not hold: libFuzzer keeps the input.
private func demand(_ holds: Bool, _ what: StaticString) {
  if holds { return }
  fputs("\(what)\n", stderr)
  abort()
}

/// Hands over a stream in pieces, each in memory of its own.
private func forEachPiece(
  of stream: UnsafeRawBufferPointer, _ cuts: [Int], _ body: (inout UnsafeMutableRawBufferPointer) -> Void
) {
  var from = 0
  for cut in cuts + [stream.count] {
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: cut - from, alignment: 1)
    defer { piece.deallocate() }
    piece.copyMemory(from: UnsafeRawBufferPointer(rebasing: stream[from..<cut]))
    from = cut
    var rest = piece
    body(&rest)
    demand(rest.isEmpty, "bytes were left over")
  }
}

// --- frames ---

/// What became of a stream.
private struct Reading: Equatable {
  /// Events, one behind the other, as bytes that say which they are.
  var said: [UInt8] = []
  var events = 0
  var problem: WebSocketViolation?
  var isInside = false

  mutating func say(_ kind: UInt8, _ payload: UnsafeRawBufferPointer) {
    said.append(kind)
    withUnsafeBytes(of: UInt32(truncatingIfNeeded: payload.count)) { said += $0 }
    said += payload
    events += 1
  }

  mutating func say(_ event: WebSocketEvent, limit: Int) {
    switch event {
    case .message(let kind, let bytes):
      demand(bytes.count <= limit, "a message is larger than its limit")
      demand(kind == .binary || isUTF8(bytes), "a text is no UTF-8")
      say(kind == .text ? 1 : 2, bytes)
    case .ping(let bytes):
      demand(bytes.count <= 125, "a Ping is too long")
      say(3, bytes)
    case .pong(let bytes):
      demand(bytes.count <= 125, "a Pong is too long")
      say(4, bytes)
    case .close(let code, let reason):
      demand(reason.count <= 123 && isUTF8(reason), "the reason of a Close is none")
      demand(code?.isAllowed ?? reason.isEmpty, "a code is none")
      say(5, reason)
      withUnsafeBytes(of: code?.rawValue ?? 0) { said += $0 }
    }
  }

  private func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
    String(validating: bytes, as: UTF8.self) != nil
  }
}

private func read(_ stream: UnsafeRawBufferPointer, _ cuts: [Int], _ role: WebSocketRole, limit: Int)
  -> Reading
{
  var reading = Reading()
  var reader = WebSocketReader(role, limit: limit)
  var come = 0
  forEachPiece(of: stream, cuts) { rest in
    come += rest.count
    while true {
      do throws(WebSocketViolation) {
        guard let event = try reader.next(from: &rest) else { break }
        demand(reading.problem == nil, "it has failed, and goes on")
        reading.say(event, limit: limit)
      } catch {
        demand(reading.problem == nil, "it fails twice")
        reading.problem = error
      }
    }
    demand(reader.held <= min(limit, come), "it holds more than has come")
    demand(reader.isInside || reader.held == 0 || reading.problem != nil, "it holds what is over")
  }
  reading.isInside = reading.problem == nil && reader.isInside
  return reading
}

private func tryFrames(_ stream: UnsafeRawBufferPointer, _ cuts: [Int], _ role: WebSocketRole, limit: Int) {
  let whole = read(stream, [], role, limit: limit)
  let cut = read(stream, cuts, role, limit: limit)
  demand(whole.events == cut.events && whole.said == cut.said, "cut it says something else")
  demand(whole.problem == cut.problem, "cut it fails in another way")
  demand(whole.isInside == cut.isInside, "cut it ends elsewhere")
}

// --- heads ---

private struct HeadReading: Equatable {
  var heads: [HTTPHead] = []
  var problem: HTTPProblem?
  var isInside = false
}

private func readHeads(_ stream: UnsafeRawBufferPointer, _ cuts: [Int], _ side: HTTPHeadReader.Side)
  -> HeadReading
{
  var reading = HeadReading()
  var reader = HTTPHeadReader(side)
  forEachPiece(of: stream, cuts) { rest in
    while reading.problem == nil {
      do throws(HTTPProblem) {
        guard let head = try reader.next(from: &rest) else { break }
        demand(head.fields.count <= HTTPHeadReader.mostFields, "a head has too many fields")
        reading.heads.append(head)
      } catch { reading.problem = error }
    }
    // A connection ends with its first problem.
    if reading.problem != nil { rest = UnsafeMutableRawBufferPointer(rebasing: rest[rest.count...]) }
  }
  reading.isInside = reading.problem == nil && reader.isInside
  return reading
}

private func tryHeads(_ stream: UnsafeRawBufferPointer, _ cuts: [Int], _ side: HTTPHeadReader.Side) {
  let whole = readHeads(stream, [], side)
  demand(whole == readHeads(stream, cuts, side), "cut the heads are others")
  for head in whole.heads {
    demand(!head.bytes.contains(0), "a NUL has come through")
    // What is printed is read as the same head.
    if !head.startLine.contains("\u{fffd}"), head.bytes.count <= HTTPHeadReader.longest {
      let again = head.bytes.withUnsafeBytes { readHeads($0, [], side) }
      demand(again.problem != nil || again.heads == [head], "printed it is another head")
    }
    if side == .requests { judge(head) } else { judgeAnswer(head) }
  }
}

private func judge(_ head: HTTPHead) {
  do throws(HTTPProblem) {
    let request = try HTTPRequest(head)
    demand(!request.path.contains("?"), "a path has a query in it")
    let upgrade = try Upgrade(request)
    demand(WebSocketKey.isValid(upgrade.key) && !request.hasBody, "it is upgraded all the same")
    try OriginRule(["http://example.org"]).check(head)
    // A client that has sent that key takes the answer.
    let client = ClientHandshake(
      WebSocketURL(host: "a", target: "/"), protocols: upgrade.protocols, key: upgrade.key)
    let chosen = try client.check(upgrade.answer(subprotocol: upgrade.protocols.first))
    demand(chosen == upgrade.protocols.first, "another subprotocol was chosen")
  } catch {
    demand((400...505).contains(error.status), "a client is refused for the answer of this library's server")
    // The refusal is an answer that a client understands.
    let bytes = HTTPAnswer.bytes(error)
    let reading = bytes.withUnsafeBytes { readHeads($0, [], .answers) }
    demand(
      reading.heads.first?.startLine.hasPrefix("HTTP/1.1 \(error.status) ") == true, "a refusal is no answer")
  }
}

private func judgeAnswer(_ head: HTTPHead) {
  let client = ClientHandshake(
    WebSocketURL(host: "a", target: "/"), protocols: ["a", "b"], key: "dGhlIHNhbXBsZSBub25jZQ==")
  do throws(HTTPProblem) {
    let chosen = try client.check(head)
    demand(chosen == nil || chosen == "a" || chosen == "b", "a subprotocol that was not asked for")
    demand(head.all("sec-websocket-accept") == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="], "another key was taken")
  } catch { demand((0...999).contains(error.status) && error.status != 101, "a status is none") }
}

// --- what is sent ---

/// Does what a list of bytes says: adds frames, sends some bytes, cuts. What was sent is then read.
private func tryOutbox(_ stream: UnsafeRawBufferPointer, _ role: WebSocketRole, hasHead: Bool) {
  var outbox = WebSocketOutbox(role)
  var sent: [UInt8] = []
  /// Whole frames that were added, by where they end in the stream that would be sent, and whether they were cut out.
  var said: [(end: Int, payload: [UInt8], kind: UInt8)] = []
  var added = 0
  let head: [UInt8] = hasHead ? Array("HTTP/1.1 101 Switching Protocols\r\n\r\n".utf8) : []
  if hasHead {
    outbox.add(raw: head)
    added += head.count
  }
  func headerSize(_ count: Int) -> Int {
    (count < 126 ? 2 : count < 65536 ? 4 : 10) + (role == .client ? 4 : 0)
  }
  func send(_ most: Int) {
    let before = outbox.count
    let (taken, offered) = outbox.send { bytes in
      demand(bytes.count <= before && !bytes.isEmpty, "another number of bytes waits than it says")
      let part = bytes.prefix(most)
      sent += part
      return part.isEmpty ? -1 : part.count
    }
    demand(outbox.count == before - max(0, taken) && taken <= offered, "bytes are lost")
  }
  var place = 0
  func next() -> Int {
    guard place < stream.count else { return 0 }
    place += 1
    return Int(stream[place - 1])
  }
  while place < stream.count {
    let step = next()
    switch step & 7 {
    case 0, 1, 2, 3:
      let size =
        switch step >> 4 & 3 {
        case 0: next() & 127
        case 1: next() << 8 | next()
        case 2: 124 + (next() & 3)
        default: 65534 + (next() & 3)
        }
      let kind: UInt8 = step & 1 == 0 ? 2 : 3
      let payload = [UInt8](
        repeating: UInt8(truncatingIfNeeded: step &+ place), count: kind == 3 ? min(size, 125) : size)
      if step & 2 != 0, role == .server {
        outbox.add(EncodedFrame(kind == 2 ? .binary : .ping, payload))
      } else {
        payload.withUnsafeBytes { outbox.add(kind == 2 ? .binary : .ping, $0) }
      }
      added += headerSize(payload.count) + payload.count
      said.append((added, payload, kind))
    case 4: send(next())
    case 5: send(next() << 8 | next())
    case 6: send(.max)
    default:
      let (waiting, removed) = (outbox.count, outbox.cut())
      demand(waiting - removed == outbox.count, "it has taken out another number than it says")
      // What is left is the rest of one frame, or of the head.
      added -= removed
      demand(added == sent.count + outbox.count, "it has lost count")
      said.removeAll { $0.end > added }
      demand(added == (said.last?.end ?? head.count), "it is cut elsewhere than behind a frame")
    }
    demand(added == sent.count + outbox.count, "bytes are lost, or come from nowhere")
    if sent.count > 1 << 20 || added > 1 << 21 { break }
  }
  outbox.addClose(.goingAway, "bye")
  while !outbox.isEmpty { send(1 + (stream.count & 1023) * 64) }
  demand(sent.starts(with: head), "the head is not sent first")
  var expected = Reading()
  for frame in said { frame.payload.withUnsafeBytes { expected.say(frame.kind, $0) } }
  Array("bye".utf8).withUnsafeBytes { expected.say(.close(.goingAway, reason: $0), limit: .max) }
  let reading = sent.dropFirst(head.count).withUnsafeBytes {
    read($0, [], role == .server ? .client : .server, limit: 1 << 20)
  }
  demand(reading == expected, "what was sent says something else")
}

// --- small things ---

/// Base64, both ways, and UTF-8 in pieces.
private func tryTexts(_ stream: UnsafeRawBufferPointer, _ cuts: [Int]) {
  let bytes = Array(stream)
  demand(Base64.decode(Base64.encode(bytes)) == bytes, "base64 is another one, there and back")
  let text = String(decoding: bytes, as: UTF8.self)
  if let decoded = Base64.decode(text) {
    demand(Base64.encode(decoded) == text, "two texts for the same bytes")
  }
  var checker = UTF8Checker()
  var passes = true
  forEachPiece(of: stream, cuts) { rest in
    passes = passes && checker.take(UnsafeRawBufferPointer(rest))
    rest = UnsafeMutableRawBufferPointer(rebasing: rest[rest.count...])
  }
  demand(
    (passes && checker.isWhole) == (String(validating: bytes, as: UTF8.self) != nil),
    "UTF-8 is judged otherwise")
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  let input = UnsafeRawBufferPointer(start: data, count: size)
  guard input.count >= 2 else { return 0 }
  let cutCount = min(Int(input[1] & 15), (input.count - 2) / 2)
  let stream = UnsafeRawBufferPointer(rebasing: input[(2 + 2 * cutCount)...])
  let cuts = (0..<cutCount).map { number in
    let place = Int(input[2 + 2 * number]) << 8 | Int(input[3 + 2 * number])
    return place % (stream.count + 1)
  }.sorted()
  switch input[0] % 10 {
  case 0: tryFrames(stream, cuts, .server, limit: 100)
  case 1: tryFrames(stream, cuts, .server, limit: .max)
  case 2: tryFrames(stream, cuts, .client, limit: 100)
  case 3: tryFrames(stream, cuts, .client, limit: .max)
  case 4: tryHeads(stream, cuts, .requests)
  case 5: tryHeads(stream, cuts, .answers)
  case 6: tryOutbox(stream, .server, hasHead: input[1] & 16 != 0)
  case 7: tryOutbox(stream, .client, hasHead: input[1] & 16 != 0)
  case 8: tryTexts(stream, cuts)
  default: tryFrames(stream, Array(0...stream.count), input[1] & 16 == 0 ? .server : .client, limit: 1000)
  }
  return 0
}

/// Makes the first inputs, where a folder is named for them: conversations, heads, and lists of what is to be sent.
@_cdecl("LLVMFuzzerInitialize")
public func makeCorpus(
  _ count: UnsafeMutablePointer<CInt>?,
  _ words: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>?
) -> CInt {
  guard let folder = getenv("WEBSOCKETS_CORPUS").map({ String(cString: $0) }) else { return 0 }
  mkdir(folder, 0o777)
  for (name, bytes) in corpus {
    guard let file = fopen("\(folder)/\(name)", "w") else { continue }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
  }
  return 0
}

private var corpus: [(name: String, bytes: [UInt8])] {
  // Two cuts each: in the first bytes, and in the middle.
  let cuts: [UInt8] = [2, 0, 3, 1, 44]
  let request =
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    + "Origin: http://127.0.0.1:8080\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    + "Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n"
  let answer =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: folded\r\n here\r\n"
    + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: a\r\n\r\n"
  let payloads: [(UInt8, [UInt8])] = [
    (0x81, Array("Grüße, 世界 😀".utf8)), (0x01, [0xe4, 0xb8]), (0x89, [1, 2]), (0x00, [0x96]), (0x8a, []),
    (0x80, []),
    (0x82, [UInt8](repeating: 7, count: 200)), (0x02, []), (0x80, [5]),
    (0x88, [3, 0xe8] + Array("bye".utf8)),
  ]
  func talk(mask: [UInt8]?, most: Int = .max) -> [UInt8] {
    payloads.flatMap { first, all in
      let payload = Array(all.prefix(most))
      let masked: UInt8 = mask == nil ? 0 : 0x80
      let length =
        payload.count < 126 ? [masked | UInt8(payload.count)] : [masked | 126, 0, UInt8(payload.count)]
      let key = mask ?? []
      return [first] + length + key
        + payload.enumerated().map { key.isEmpty ? $0.element : $0.element ^ key[$0.offset & 3] }
    }
  }
  let key: [UInt8] = [0x37, 0xfa, 0x21, 0x3d]
  let long: [UInt8] = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0] + key + [1, 2, 3]
  let steps: [UInt8] = [
    0, 5, 1, 3, 4, 2, 0x20, 1, 2, 9, 4, 60, 7, 0x30, 2, 5, 200, 3, 0x10, 1, 0, 7, 6, 1, 0,
  ]
  return [
    ("server-small", [0] + cuts + talk(mask: key, most: 50)), ("server", [1] + cuts + talk(mask: key)),
    ("client-small", [2] + cuts + talk(mask: nil, most: 50)), ("client", [3] + cuts + talk(mask: nil)),
    ("server-bytewise", [9, 0] + talk(mask: key)), ("client-bytewise", [9, 16] + talk(mask: nil)),
    ("server-long", [1] + cuts + long), ("request", [4] + cuts + Array(request.utf8)),
    (
      "requests",
      [4] + cuts
        + Array("GET / HTTP/1.0\r\n\r\n\r\n\(request)HEAD http://a/ws?b HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    ),
    ("answer", [5] + cuts + Array(answer.utf8)),
    ("refusal", [5] + cuts + Array("HTTP/1.1 426 X\r\nA:b\r\n\r\n".utf8)),
    ("outbox-server", [6, 0] + steps), ("outbox-server-head", [6, 16, 4, 9] + steps),
    ("outbox-client", [7, 0] + steps),
    ("outbox-client-head", [7, 16, 4, 3] + steps),
    ("base64", [8, 0] + Array("dGhlIHNhbXBsZSBub25jZQ==".utf8)),
    ("utf8", [8] + cuts + Array("κόσμε, 漢語 😀".utf8)),
  ]
}
