import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// Lessons 16 and 17, the items of their rows: what the kernel was seen to say, and what others read in the bytes.
@Suite struct WebSocketLessonTests {
  private func said(_ lines: [StoryLine]) -> String { lines.compactMap(\.say).joined(separator: "\n") }

  /// The socket of a descriptor, after a step.
  private func socket(_ step: StoryLine, _ fd: Int?) -> StorySocket? { step.sockets.first { $0.fd == fd } }

  /// What does not change with the bytes that pass.
  private func identity(_ socket: StorySocket) -> [String] {
    var options = socket["options"] as? [String: Any] ?? [:]
    // These grow with use.
    for name in ["receiveBuffer", "sendBuffer"] { options[name] = nil }
    #expect(options.count > 5)
    return ["cookie", "inode", "family", "type", "protocol", "state", "local", "peer", "shutdown"].map {
      "\($0): \(socket[$0] ?? "")"
    } + options.map { "\($0): \($1)" }.sorted()
  }

  /// The kernel knows nothing of an upgrade: one connection, before and after it, and no call but read and write in between.
  @Test func theSocketThatSpokeHTTPSpeaksWebSocket() throws {
    let lines = try Course.story("lesson16-upgrade")
    let steps = lines.filter(\.isStep)
    let accept = try #require(steps.firstIndex { $0.call == "accept" })
    let server = steps[accept]["result"] as? Int
    let close = try #require(steps.firstIndex { $0.call == "close" && $0["fd"] as? Int == server })
    let talk = steps[(accept + 1)..<close]
    let questions = ["getsockopt", "getsockname", "getpeername"]
    #expect(
      talk.map(\.call) == questions + ["write", "read", "write", "read", "write", "read", "write", "read"]
        + questions)
    for end in [server, steps.first { $0.call == "connect" }?["fd"] as? Int] {
      let before = try #require(socket(steps[accept], end))
      for step in talk { #expect(identity(try #require(socket(step, end))) == identity(before)) }
      #expect(before.state == "ESTABLISHED")
    }
    // What the lesson has asked the kernel itself, the narrator has seen, too.
    let inode = try #require(socket(steps[accept], server)?.number("inode"))
    let answers = said(lines).split(separator: "\n").filter {
      $0.hasPrefix("inode \(inode), protocol 6 (TCP), ")
    }
    #expect(answers.count == 2 && answers.first == answers.last)
    // A line was cut, and the frame came with the end of HTTP.
    let moved = talk.compactMap { $0["result"] as? Int }.filter { $0 > 0 }
    #expect(moved.count == 8 && moved[2...3] == [50, 50] && moved[4...5] == [136, 136])
    #expect(moved[6...7] == [11, 11])
    #expect(talk.filter { $0.call == "read" }[1...].first?.callText.contains(#""HNhbXBsZSBub25j"#) == true)
  }

  /// Python, which knows nothing of the lesson, makes the same accept of the key.
  @Test(.enabled(if: Witness.havePython)) func theAcceptIsTheKeys() throws {
    let words = said(try Course.story("lesson16-upgrade"))
    let key = try #require(words.firstMatch(of: /Sec-WebSocket-Key: (\S+?)\\r/)?.output.1)
    let script = """
      import base64, hashlib, sys
      digest = hashlib.sha1(sys.argv[1].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
      print(digest[:8].hex(" "), digest[8:16].hex(" "), digest[16:].hex(" "), base64.b64encode(digest).decode(), sep="\\n")
      """
    let python = try #require(Witness.python)
    let result = try Program.run([python, "-c", script, String(key)])
    #expect(result.status == 0)
    let expected = result.lines.filter { !$0.isEmpty }
    #expect(expected.last == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")  // RFC 6455, section 1.3
    for line in expected { #expect(words.contains(line), "\(line)") }
    #expect(words.contains("Sec-WebSocket-Accept: \(try #require(expected.last))\\r\\n"))
  }

  @Test func whoDoesNotAskForItIsRefused() throws {
    let lines = try Course.story("lesson16-upgrade")
    let steps = lines.filter(\.isStep)
    let accept = try #require(steps.lastIndex { $0.call == "accept" })
    let server = steps[accept]["result"] as? Int
    let address = try #require(socket(steps[accept], server)?.local)
    let rest = steps[(accept + 1)...]
    #expect(rest.map(\.call) == ["write", "read", "write", "close", "read", "read", "close", "close"])
    let texts = rest.map(\.callText)
    #expect(texts[0].contains("GET /ws HTTP/1.1") && texts[2].contains("HTTP/1.1 426 Upgrade Required"))
    #expect(texts[5].hasSuffix(" = 0"))
    #expect(said(lines).contains("Sec-WebSocket-Version: 13\\r\\n"))
    // The server has closed first, both times.
    let last = try #require(steps.dropLast().last)
    let waits = steps.flatMap(\.sockets).filter { $0.state == "TIME_WAIT" }
    #expect(Set(waits.compactMap { $0.number("cookie") }).count == 2)
    #expect(waits.allSatisfy { $0.local == address })
    #expect(last.sockets.contains { $0.state == "TIME_WAIT" })
  }

  /// Frames are one thing, reads another.
  @Test func framesAndReadsAreTwoThings() throws {
    let lines = try Course.story("lesson17-frames")
    let steps = lines.filter(\.isStep)
    let reads = steps.filter { ["read", "recvfrom"].contains($0.call) }
    let sizes = reads.map { "\($0["result"] ?? "")" }
    #expect(
      sizes[2...] == [
        "7", "11", "4", "7", "16", "11", "100", "100", "60", "8", "4", "0",  // the first connection
        sizes[0], sizes[1], "7", "14",
        sizes[0], sizes[1], "4", "0",
      ])
    let words = said(lines)
    for (bytes, events) in [
      ("4", "something that is not whole yet"), ("7", "the text 'Hello'"),
      ("16", "Ping 'Hello', the text 'Hello'"),
      ("11", "Pong 'Hello'"), ("60", "a binary message of 256 bytes"), ("8", "Close 1000"),
      ("14", "Close 1002, 'not masked'"),
    ] {
      #expect(words.contains("has read \(bytes) bytes: \(events)."), "\(events)")
    }
    #expect(words.contains("a client has to mask, which is 1002 (protocol error)"))
  }

  /// RFC 6455's own examples, as they stand in section 5.7, are what was written.
  @Test(.enabled(if: Witness.have("strace"))) func theBytesAreThoseOfSection57() throws {
    let strace = try #require(Witness.path("strace"))
    let result = try Program.run([
      strace, "-xx", "-s", "400", "-e", "trace=write", "-e", "signal=none", Place.product("lesson17-frames"),
      "--bare",
    ])
    #expect(result.status == 0)
    let written = result.errors.split(separator: "\n").compactMap { line -> String? in
      guard let parts = line.firstMatch(of: /^write\([45], "([^"]*)"/) else { return nil }
      return parts.output.1.split(separator: "\\x").joined(separator: " ")
    }
    for example in [
      "81 05 48 65 6c 6c 6f", "81 85 37 fa 21 3d 7f 9f 4d 51 58", "01 03 48 65 6c", "80 02 6c 6f",
      "89 05 48 65 6c 6c 6f", "8a 85 37 fa 21 3d 7f 9f 4d 51 58",
    ] {
      #expect(written.contains(example), "\(example)")
    }
    #expect(written.contains { $0.hasPrefix("82 7e 01 00 ") && $0.split(separator: " ").count == 260 })
  }

  /// Who closes the connection first keeps TIME_WAIT: twice the server, and then the client that has just gone.
  @Test func whoClosesFirstKeepsTimeWait() throws {
    let steps = try Course.story("lesson17-frames").filter(\.isStep)
    let address = try #require(steps.flatMap(\.sockets).first { $0.state == "LISTEN" }?.local)
    var seen: Set<Int> = []
    var ends: [Bool] = []
    for socket in steps.flatMap(\.sockets) where socket.state == "TIME_WAIT" {
      guard seen.insert(try #require(socket.number("cookie"))).inserted else { continue }
      ends.append(socket.local == address)
    }
    #expect(ends == [true, true, false])
    // A Close alone ends nothing: after both of them the connection stands.
    let answer = try #require(steps.first { $0.callText.contains(#""\210\2\3\350", 4"#) })
    #expect(answer.call == "write")
    #expect(answer.sockets.filter { $0.state == "ESTABLISHED" }.count == 2)
    let close = try #require(steps.first { $0.call == "close" })
    #expect(Set(close.sockets.compactMap(\.state)).isSuperset(of: ["FIN_WAIT2", "CLOSE_WAIT"]))
    // And no Close was sent where the program has just closed.
    let late = try #require(steps.lastIndex { $0.call == "accept" })
    #expect(!steps[late...].contains { $0.callText.contains(#"write(5, "\210"#) })
  }

  /// tshark, which knows the protocol and not the lesson, takes the captured packets apart.
  @Test(.enabled(if: Privilege.canTap && Witness.have("tshark"))) func tsharkReadsTheFrames() throws {
    func read(_ lesson: String) throws -> [String] {
      try Place.withTemporaryFolder { folder in
        let file = "\(folder)/run.pcapng"
        let lines = try Course.story(lesson, ["--pcap", file])
        let address = lines.flatMap(\.sockets).first { $0.state == "LISTEN" }?.local
        let port = try #require(address?.split(separator: ":").last)
        let fields = [
          "tcp.stream", "tcp.srcport", "http.response.code", "websocket.fin", "websocket.opcode",
          "websocket.mask",
          "websocket.masking_key", "websocket.payload.text", "websocket.payload.close.status_code",
          "websocket.payload.close.reason", "websocket.payload_length_ext_16",
        ]
        let tshark = try #require(Witness.path("tshark"))
        let result = try Program.run(
          [
            tshark, "-n", "-r", file, "-d", "tcp.port==\(port),http", "-Y", "websocket", "-T", "fields", "-E",
            "separator=|",
          ]
            + fields.flatMap { ["-e", $0] })
        #expect(result.status == 0, "\(result.errors)")
        return result.lines.filter { !$0.isEmpty }.map { $0.replacing("|\(port)|", with: "|server|") }.map {
          $0.replacing(/^(\d)\|\d+\|/) { "\($0.output.1)|client|" }
        }
      }
    }
    let mask = "37fa213d"
    #expect(
      try read("lesson16-upgrade").map { $0.replacing(":", with: "") } == [
        "0|server|101|1|1|0||Hello|||", "0|client||1|1|1|\(mask)|Hello|||",
      ])
    #expect(
      try read("lesson17-frames").map { $0.replacing(":", with: "") } == [
        "0|server||1|1|0||Hello|||", "0|client||1|1|1|\(mask)|Hello|||",
        "0|client||1|1|1|\(mask)|Hello|||",  // the one that was cut, where its rest has come
        "0|server||0|1|0|||||", "0|server||1|9|0|||||", "0|server||1|0|0||Hello|||",
        "0|client||1|10|1|\(mask)||||", "0|server||1|2|0|||||256",
        "0|client||1|8|1|\(mask)||1000||", "0|server||1|8|0|||1000||",
        "1|client||1|1|0||Hello|||", "1|server||1|8|0|||1002|not masked|",
      ])
  }
}
