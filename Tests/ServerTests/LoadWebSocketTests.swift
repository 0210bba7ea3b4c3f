import Foundation
import TestSupport
import Testing

/// `load websocket`: what it sends, and what it finds out.
@Suite struct LoadWebSocketTests {
  private func load(_ server: String, _ options: [String] = []) throws -> (
    result: Program.Result, row: [String: Any]?
  ) {
    let result = try Program.run(
      inItsOwnNetwork(
        [
          Place.product("load"), "websocket", "--duration", "1", "--connections", "4", "--format", "json",
          "--server", server,
        ] + options))
    let row = try? JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
    return (result, row)
  }

  @Test(arguments: [
    [], ["--size", "1"], ["--size", "126", "--pipelining", "7"], ["--size", "65536"],
    ["--size", "65535", "--pipelining", "3"], ["--rate", "500"],
  ])
  func everyMessageComesBack(options: [String]) throws {
    let (result, row) = try load("\(Place.product("websocket-server")) start", options)
    #expect(result.status == 0, "\(result.errors)")
    #expect(row?["wrong"] as? Int == 0 && row?["failures"] as? Int == 0 && row?["silent"] as? Int == 0)
    #expect(row?["messagesPerSecond"] as? Int ?? 0 > 100)
    #expect(row?["serverNanosecondsPerMessage"] as? Int ?? 0 > 0)
  }

  /// A server in Python, by what it sends back for a frame whose payload is `data`.
  private func server(_ answer: String, accept: String = "", _ run: (String) throws -> Void) throws {
    try Place.withTemporaryFolder { folder in
      let script = try Place.file(
        "server.py", in: folder,
        """
        import base64, hashlib, socket, struct, threading
        a = socket.create_server(("127.0.0.1", 0)); print("listening on 127.0.0.1:%d" % a.getsockname()[1], flush=True)
        count = 0
        def frame(data, first=0x82): return bytes([first, len(data)]) + data
        def serve(c):
            global count
            f = c.makefile("rb"); head = b""
            while not head.endswith(b"\\r\\n\\r\\n"): head += f.readline()
            assert head.startswith(b"GET /ws HTTP/1.1\\r\\n"), head
            key = [l.split(b": ")[1] for l in head.split(b"\\r\\n") if l.startswith(b"Sec-WebSocket-Key")][0]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            \(accept.isEmpty ? "pass" : accept)
            c.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: "
                      + accept + b"\\r\\n\\r\\n")
            while True:
                first, second = f.read(2); size = second & 127
                assert first == 0x82 and second & 128 and size == 64
                mask = f.read(4); data = bytes(b ^ mask[n & 3] for n, b in enumerate(f.read(size)))
                count += 1
                c.sendall(\(answer))
        while True: threading.Thread(target=serve, args=(a.accept()[0],), daemon=True).start()
        """)
      try run("\(try #require(Witness.python)) -W ignore \(script)")
    }
  }

  /// Written from RFC 6455, and with nothing of this package in it: it understands what is sent, and is understood.
  @Test(.enabled(if: Witness.havePython)) func aPlainPeerUnderstandsIt() throws {
    try server("frame(data)") { command in
      let (result, row) = try load(command)
      #expect(result.status == 0, "\(result.errors)")
      #expect(row?["wrong"] as? Int == 0 && row?["messagesPerSecond"] as? Int ?? 0 > 10)
    }
  }

  @Test(.enabled(if: Witness.havePython)) func whatGoesWrongIsFound() throws {
    // Another byte now and then; another kind of frame; another length.
    try server("frame(data if count % 50 else b'?' + data[1:])") { command in
      let (result, row) = try load(command)
      #expect(result.status == 1)
      #expect(row?["wrong"] as? Int ?? 0 > 0 && row?["failures"] as? Int == 0)
    }
    for answer in ["frame(data, 0x81)", "frame(data + b'x')"] {
      try server(answer) { command in
        let (result, row) = try load(command)
        #expect(result.status == 1)
        #expect(row?["failures"] as? Int == 4, "\(result.output)")
      }
    }
    try server("frame(data)", accept: "accept = b'x' + accept[1:]") { command in
      let (result, _) = try load(command)
      #expect(result.status == 1 && result.errors.contains("Sec-WebSocket-Accept"), "\(result.errors)")
    }
  }

  @Test func aServerThatSpeaksSomethingElse() throws {
    let (result, _) = try load("\(Place.product("contact-server")) --name x --in-memory 2>/dev/null")
    #expect(result.status == 1)
    #expect(
      result.errors.contains("the server has closed the connection without an answer"), "\(result.errors)")
  }
}
