import Glibc
import TestSupport
import Testing

/// What `websocket-client` does on a pipe and on a terminal, and with servers that are none.
@Suite(.enabled(if: Witness.havePython)) struct WebSocketClientTests {
  // --- on a pipe ---

  @Test func onAPipe() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server("--name", "A"); other = Client(s, protocols=NAMED)
      # The command is stripped, and one space with it; what comes back is printed as it is.
      assert client(s.url, input="1 hello\n2 hi\n\n  1  two spaces \n1 \té\u20ac\nq\n1 never\n") == (0, "hello\nhi\n two spaces \n\té€\n", "")
      assert re.fullmatch(r"/all A 127\.0\.0\.1:\d+\nhi", other.message()); s.says("client left: ", "1000 (normal)")
      for text in ("hello", " two spaces ", "\\u{9}é€"): s.says("message: from ", ": " + text)
      assert not s.lines("never")
      # The end of the input is as good as q; a last line needs no end.
      assert client(s.url, input="1 hello") == (0, "hello\n", ""); assert client(s.url, input="") == (0, "", "")
      assert client(s.url, input="quit\n1 x\n") == (0, "", "")
      s.says("client left: ", "1000 (normal)", times=4)
      # A line that makes no sense is told; the others are done all the same.
      for line, why in (("hello", "'hello' is no command; 1 MESSAGE sends to the server, 2 MESSAGE to all clients, q leaves"), ("3 x", "'3' is no command"),
                        ("1hello", "'1hello' is no command"), ("1", "1 needs a message behind it: 1 hello"), ("2", "2 needs a message"),
                        ("1 ", "1 needs a message"), ("1 /all x", "a message that begins with '/all ' is one for all: 2 sends those, or -2"),
                        ("1 /all \u0301", "is one for all"), ("\x1b[31m", "'\\u{1b}[31m' is no command"), (b"1 \xff\xfe", "no valid UTF-8"),
                        (b"1 " + b"x" * (1 << 20), "more than 1 MiB")):
          line = line if isinstance(line, bytes) else line.encode()
          status, output, errors = client(s.url, input=b"1 before\n" + line + b"\n1 behind\n")
          assert (status, output) == (1, "before\nbehind\n") and why in errors, (line[:50], status, output, errors)
          assert errors.startswith("websocket-client: ") and errors.count("\n") == 1, errors
      other.say("no more for all"); assert other.message() == "no more for all"
      assert client(s.url, input="help\nq\n") == (0, "1 MESSAGE sends to the server, 2 MESSAGE to all clients, q leaves\n", "")
      # Much at once, in order, each once.
      lines = ["%d %s" % (n, "x" * (n % 300)) for n in range(20000)]
      assert client(s.url, input="".join("1 %s\n" % l for l in lines)) == (0, "".join(l + "\n" for l in lines), "")
      print("right")
      """#)
  }

  /// A server that answers while it is still being told something else must not have to wait for the end of that, nor the client.
  @Test func muchBothWays() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); line = "x" * 1_000_000; begin = time.monotonic()
      status, output, errors = client(s.url, input="".join("1 %02d%s\n" % (n, line) for n in range(40)), timeout=60)
      assert (status, errors) == (0, ""), (status, errors, len(output), s.log()[-600:])
      assert output == "".join("%02d%s\n" % (n, line) for n in range(40)), len(output)
      # Nor with --echo, with a server that says all that it has to say first, and listens then.
      l = Listener(); p = start_client("--echo", l.url); c = l.client(protocol=None); data = os.urandom(1 << 20)
      def say():
          for _ in range(20): c.send(frame(BINARY, data, mask=False))
      writer = threading.Thread(target=say); writer.start()
      for _ in range(20): assert c.message() == data
      writer.join(); c.send(closing(1000, mask=False)); assert c.close_frame() == (1000, ""); c.close(); assert end_of(p) == (0, "", "")
      assert time.monotonic() - begin < 15
      print("right")
      """#)
  }

  @Test func oneMessageAndEchoes() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server("--name", "A"); other = Client(s)
      assert client(s.url, "-1", "hello there") == (0, "hello there\n", ""); assert client("-2", "to all", s.url) == (0, "to all\n", "")
      assert other.message() == "to all"; assert client("--one", "two\nlines", s.url) == (0, "two\nlines\n", "")
      assert client(s.url, "-1", "é" * 50000)[1] == "é" * 50000 + "\n"
      # Its input is nobody's then.
      assert client(s.url, "-1", "x", input="1 y\n") == (0, "x\n", "")
      # --echo sends back what comes, as it is, until the server closes.
      l = Listener(); p = start_client(l.url, "--echo"); c = l.client(protocol=None); assert "sec-websocket-protocol" not in c.fields
      for data in ("", "x", "é" * 40000, b"", os.urandom(70000), "/all x"):
          c.send(frame(TEXT if isinstance(data, str) else BINARY, data, mask=False)); assert c.message() == data
      c.send(frame(TEXT, "a", fin=False, mask=False), frame(PING, "p", mask=False), frame(MORE, "b", mask=False))
      assert c.pong() == b"p" and c.message() == "ab"
      c.send(closing(1000, b"done", mask=False)); assert c.close_frame() == (1000, ""); c.close(); assert end_of(p) == (0, "", "")
      # What is wrong with the command line.
      for words, why in (([], "which WebSocket? websocket-client ws://127.0.0.1:8080/ws"), ([s.url, "hello"], "one WebSocket at a time"),
                         ([s.url, "-1", "x", "-2", "y"], "-1, -2 and --echo exclude each other"), ([s.url, "--echo", "-1", "x"], "exclude"),
                         (["http://127.0.0.1/"], "it has to begin with ws://"), (["wss://127.0.0.1/"], "there is no TLS here"),
                         (["127.0.0.1:80"], "looks like ws://127.0.0.1:8080/ws"), (["ws://nowhere.example/"], ""), (["ws://127.0.0.1:0/"], "port 0"),
                         ([s.url, "--max-message", "0"], "--max-message takes"), ([s.url, "--eco"], "did you mean --echo?"), ([s.url, "-1"], "--one needs a value")):
          status, output, errors = client(*words); assert (status, output) == (2, "") and why in errors, (words, status, errors)
          assert errors.startswith("websocket-client: ") and errors.count("\n") <= 2, errors
      for words in ([s.url, "-1", ""], [s.url, "-2", ""], [s.url, "-1", "/all x"]):
          status, output, errors = client(*words); assert status in (1, 2) and errors.count("\n") == 1, (words, status, errors)
      status, output, errors = client("--help"); assert status == 0 and errors == "" and "ws://HOST:PORT/ws" in output
      print("right")
      """#)
  }

  /// Seen by a server that looks at every bit.
  @Test func whatAServerSees() async throws {
    try await WebSocketWitness.run(
      #"""
      l = Listener(); p = start_client("ws://localhost:%d/a%%20path?room=1" % l.port); c = l.stream(); first, fields = c.head()
      assert first == "GET /a%20path?room=1 HTTP/1.1", first
      assert fields["host"] == ["localhost:%d" % l.port] and fields["upgrade"] == ["websocket"] and fields["connection"] == ["Upgrade"]
      assert fields["sec-websocket-version"] == ["13"] and len(base64.b64decode(fields["sec-websocket-key"][0], validate=True)) == 16
      assert fields["sec-websocket-protocol"] == [NAMED] and "origin" not in fields and len(fields) == 6, fields
      # Frames may come with the answer, and the answer in parts.
      answer = upgraded(fields, extra=["X-Folded: a", " b"]) + frame(TEXT, "early", mask=False)
      for n in range(len(answer)): c.send(answer[n:n + 1])
      assert p.stdout.readline() == b"early\n"
      # Each frame has a mask of its own.
      p.stdin.write(b"1 hello\n" * 50 + b"2 all\n"); p.stdin.flush(); keys = set()
      for _ in range(50):
          data = c.take(11); assert data[:2] == b"\x81\x85" and masked(data[2:6], data[6:]) == b"hello"; keys.add(data[2:6])
      assert len(keys) == 50; assert c.message() == "/all all"
      for text, shown in (("/all B 1.2.3.4:5\nx", "x"), ("plain", "plain"), ("/all ", "/all "), ("a\nb", "a\nb")):
          c.send(frame(TEXT, text, mask=False)); assert p.stdout.read(len(shown) + 1).decode() == shown + "\n"
      c.send(frame(BINARY, b"12345", mask=False)); assert p.stdout.readline() == b"(5 bytes, binary)\n"
      c.send(frame(PING, b"p", mask=False)); assert c.pong() == b"p"
      # q closes; what crosses that is still shown; the server ends the connection first.
      p.stdin.write(b"q\n"); p.stdin.flush(); assert c.close_frame() == (1000, ""); c.s.settimeout(0.3)
      try: c.more(); raise AssertionError("it has not waited")
      except TimeoutError: pass
      c.s.settimeout(20); c.send(frame(TEXT, "crosses", mask=False), closing(1000, mask=False)); c.s.shutdown(socket.SHUT_WR)
      assert c.nothing_more(); assert end_of(p) == (0, "crosses\n", "")
      # Without the subprotocol it knows nothing of senders.
      p = start_client(l.url); c = l.client(protocol=None); c.send(frame(TEXT, "/all B\nx", mask=False)); assert p.stdout.readline() == b"/all B\n"
      # Signals: it goes away, says so, and ends as others do.
      for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
          p = start_client(l.url); c = l.client(); p.send_signal(number); assert c.close_frame() == (1001, ""); c.send(closing(1001, mask=False))
          c.close(); assert end_of(p) == (128 + number, "", "")
          # Before there is a WebSocket, too.
          p = start_client(l.url); c = l.stream(); c.head(); p.send_signal(number); assert c.nothing_more(); assert end_of(p)[0] == 128 + number
      # Who does not read what it prints ends it.
      p = start_client(l.url); c = l.client(); p.stdout.close()
      c.send(frame(TEXT, "x", mask=False)); assert c.close_frame() == (1001, ""); c.close()
      p.wait(20); assert p.returncode == 141, p.returncode
      print("right")
      """#)
  }

  /// One line each, and status 1.
  @Test func serversThatAreNone() async throws {
    try await WebSocketWitness.run(
      #"""
      l = Listener()
      def fails(why, serve, *words, code=None, status=1):
          p = start_client(l.url, *words); c = l.stream(); c.first, c.fields = c.head(); serve(c)
          if code:
              told, reason = c.close_frame(); assert told == code, (told, reason)
          # It ends by itself, once the connection does, with its input still open.
          if code: c.s.shutdown(socket.SHUT_WR); c.ended()
          c.close(); got = end_of(p)
          assert got[0] == status and got[2].startswith("websocket-client: ") and why in got[2] and got[2].count("\n") == 1, (why, got)
          assert not any(ch in got[2] for ch in "\x1b\x9b\x07"), got[2]
      def answers(data): return lambda c: c.send(data)
      def opens(*parts): return lambda c: c.send(upgraded(c.fields), *parts)
      # Answers.
      fails("the server answers 404 Not Found", answers(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
      fails("the server answers 301 Moved", answers(b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n")); fails("the server answers 200 ", answers(b"HTTP/1.1 200 \r\n\r\n"))
      fails("Sec-WebSocket-Accept does not belong", lambda c: c.send(upgraded(c.fields, accept=accept_for("x"))))
      fails("Sec-WebSocket-Accept does not belong", lambda c: c.send(upgraded(c.fields).replace(b"Sec-WebSocket-Accept", b"X")))
      fails("no 'Upgrade: websocket'", lambda c: c.send(upgraded(c.fields).replace(b"websocket\r\n", b"h2c\r\n", 1)))
      fails("no 'Connection: Upgrade'", lambda c: c.send(upgraded(c.fields).replace(b"Connection: Upgrade", b"Connection: close")))
      fails("an extension that nobody has asked for", lambda c: c.send(upgraded(c.fields, extra=["Sec-WebSocket-Extensions: x"])))
      fails("a subprotocol that nobody has asked for", lambda c: c.send(upgraded(c.fields, protocol="chat")))
      fails("does not begin with HTTP/1.1 and a status, but with \"SSH-2.0-x\"", answers(b"SSH-2.0-x\r\n"))
      fails("does not begin with HTTP/1.1", answers(b"HTTP/2.0 101 x\r\n\r\n")); fails("LF alone", answers(b"HTTP/1.1 101 x\n\n"))
      fails("", answers(bytes(range(256)) * 4)); fails("more than 16384 bytes", answers(b"HTTP/1.1 101 x\r\nX: " + b"x" * 20000))
      fails("the server answers 500 \\u{9b}31m", answers("HTTP/1.1 500 \x9b31m\r\n\r\n".encode()))
      for data in (b"", b"HTTP/1.1 101 Switching Pro"): fails("has closed the connection without an answer", answers(data))
      fails("ECONNRESET", lambda c: c.reset())
      # Frames.
      fails("1002 (protocol error): a frame is masked, and a server must not mask", opens(frame(TEXT, "x")), code=1002)
      fails("a reserved bit is set", opens(frame(TEXT, "x", rsv=4, mask=False)), code=1002); fails("opcode 3", opens(frame(3, mask=False)), code=1002)
      fails("1007 (invalid data)", opens(frame(TEXT, b"\xff", mask=False)), code=1007); fails("half a code", opens(frame(CLOSE, b"x", mask=False)), code=1002)
      fails("1009 (message too big): a message has more than 10 bytes", opens(frame(TEXT, "x" * 11, mask=False)), "--max-message", 10, code=1009)
      fails("", opens(b"\xde\xad\xbe\xef" * 100), code=1002)
      fails("1002 (protocol error): a reserved bit is set", lambda c: c.send(upgraded(c.fields, protocol=None), frame(TEXT, "x", rsv=2, mask=False)), "--echo", code=1002)
      # Its own Close is on its way then.
      fails("a reserved bit is set", opens(frame(TEXT, "x", rsv=1, mask=False)), "-1", "y", code=1000)
      # Ends that are none, and ends that say why.
      fails("ended without a Close", opens()); fails("ended without a Close", opens(frame(TEXT, "whole", mask=False)[:3]))
      fails("the server has closed it: 1001 (going away): maintenance", opens(closing(1001, b"maintenance", mask=False)), code=1001)
      fails("1013 (try again later): \\u{1b}[31m", opens(closing(1013, b"\x1b[31m\nred\xc2\x9b", mask=False)), code=1013)
      # Nobody there.
      for words in ([], ["-1", "x"], ["--echo"]):
          port = free_port(); status, output, errors = client("ws://127.0.0.1:%d/ws" % port, *words)
          assert status == 1 and output == "" and errors.count("\n") == 1, errors
          assert errors.startswith("websocket-client: connect 127.0.0.1:%d: ECONNREFUSED (Connection refused); no server" % port), errors
      # A proper end with 1000 is no failure; with -1, too, the server's words count.
      p = start_client(l.url); c = l.client(); c.send(closing(1000, mask=False)); assert c.close_frame() == (1000, ""); c.close()
      assert end_of(p) == (0, "", "")
      # One that goes away while it is being talked to.
      s = Server(); p = start_client(s.url); p.stdin.write(b"1 x\n"); p.stdin.flush(); assert p.stdout.readline() == b"x\n"; s.kill()
      status, output, errors = end_of(p); assert status == 1 and errors.count("\n") == 1, (status, errors)
      s = Server(); p = start_client(s.url); p.stdin.write(b"1 x\n"); p.stdin.flush(); assert p.stdout.readline() == b"x\n"; assert s.stop() == 0
      status, output, errors = end_of(p); assert status == 1 and "1001 (going away): the server ends" in errors, (status, errors)
      print("right")
      """#)
  }

  /// Nobody is waited for without end: the real times, beside each other.
  @Test func serversThatSayNothing() async throws {
    try await WebSocketWitness.run(
      #"""
      def no_answer():
          l = Listener(); begin = time.monotonic(); status, output, errors = client(l.url, timeout=40)
          assert status == 1 and "no answer in 10 seconds; is that a WebSocket server?" in errors and errors.count("\n") == 1, errors
          assert 9.5 < time.monotonic() - begin < 15
      def half_an_answer():
          l = Listener(); p = start_client(l.url); c = l.stream(); c.head(); begin = time.monotonic()
          try:
              for b in b"HTTP/1.1 101 x\r\n" + b"X: y\r\n" * 100: c.send(bytes([b])); time.sleep(0.1)
          except OSError: pass
          assert "no answer in 10 seconds" in end_of(p)[2] and 9 < time.monotonic() - begin < 15
      def no_close(*words):
          l = Listener(); p = start_client(l.url, *words); c = l.client(); p.stdin.close(); c.close_frame(); begin = time.monotonic()
          status, output, errors = end_of(p); assert status == 1 and "no Close came in 5 seconds" in errors and errors.count("\n") == 1, errors
          assert 4.5 < time.monotonic() - begin < 9
      def no_end():
          # It was closed well; only the connection lives on.
          l = Listener(); p = start_client(l.url); c = l.client(); p.stdin.close(); c.close_frame(); c.send(closing(1000, mask=False))
          begin = time.monotonic(); assert end_of(p) == (0, "", ""); assert time.monotonic() - begin < 9
      at_once(no_answer, half_an_answer, no_close, lambda: no_close("-1", "x"), no_end)
      print("right")
      """#)
  }

  // --- on a terminal ---

  private func terminal(_ url: String) throws -> Program {
    try Program([Place.product("websocket-client"), url], onTerminal: true, outputOnTerminal: true)
  }

  /// What the terminal has shown, as somebody would see it: rows, without what steers it.
  private func text(_ program: Program) -> String {
    String(decoding: program.terminalBytes, as: UTF8.self)
  }

  @Test func atAPrompt() throws {
    let server = try WebSocketPeer(
      #"""
      c = l.client(); assert c.message() == "hello"; say(c, "hello")
      command("half"); say(c, "while you type")
      command("named"); say(c, "/all B 1.2.3.4:5\nfor all"); command("binary"); c.send(frame(BINARY, b"12345", mask=False))
      command("escapes"); say(c, "a\x1b[2Jb\x9bc\x07\r\nd\u202e")
      assert c.message() == "/all half of it"; print(c.close_frame(), flush=True); c.send(closing(1000, mask=False)); c.close()
      """#)
    let client = try terminal(server.url)
    var position = try client.waitForTerminal("open; 1 MESSAGE sends to the server")
    position = try client.waitForTerminal("websocket> ", from: position)
    client.press("1 hello\r")
    position = try client.waitForTerminal("← hello", from: position)
    position = try client.waitForTerminal("websocket> ", from: position)
    // In the middle of a line.
    client.press("2 half of")
    position = try client.waitForTerminal("2 half of", from: position)
    server.say("half")
    position = try client.waitForTerminal("← while you type", from: position)
    // The half line is there again, behind the prompt, below.
    position = try client.waitForTerminal("websocket> 2 half of", from: position)
    server.say("named")
    position = try client.waitForTerminal("← for all   (for all, from B 1.2.3.4:5)", from: position)
    position = try client.waitForTerminal("websocket> 2 half of", from: position)
    server.say("binary")
    position = try client.waitForTerminal("← 5 bytes, binary", from: position)
    position = try client.waitForTerminal("websocket> 2 half of", from: position)
    server.say("escapes")
    position = try client.waitForTerminal("← a\\u{1b}[2Jb\\u{9b}c\\u{7}\\u{d}", from: position)
    position = try client.waitForTerminal("websocket> 2 half of", from: position)
    client.press(" it\r")
    position = try client.waitForTerminal("websocket> ", from: position)
    // Lines that make no sense, and then ctrl-D.
    client.press("hello\r")
    position = try client.waitForTerminal("websocket> ", from: position)
    client.press("\u{4}")
    #expect(try server.program.line() == "(1000, '')")
    let result = try client.finish()
    #expect(result.status == 0, "\(result.errors)")
    #expect(
      result.errors.contains("'hello' is no command") && result.errors.split(separator: "\n").count == 1)
    #expect(!text(client).contains("\u{1b}[2J") && !text(client).contains("\u{7}"))
    #expect(try server.program.finish().status == 0)
  }

  @Test func controlC() throws {
    let server = try WebSocketPeer(
      #"""
      c = l.client(); print(c.close_frame(), flush=True); c.send(closing(1001, mask=False)); c.close()
      """#)
    let client = try terminal(server.url)
    let position = try client.waitForTerminal("websocket> ")
    client.press("1 half")
    try client.waitForTerminal("1 half", from: position)
    client.press("\u{3}")
    #expect(try server.program.line() == "(1001, '')")
    let result = try client.finish()
    #expect(result.status == 130 && result.errors.isEmpty, "\(result.status) \(result.errors)")
    #expect(try server.program.finish().status == 0)
  }

  /// It ends, whatever stands half typed at its prompt, and leaves the terminal as it was.
  @Test(arguments: [
    ("c.send(closing(1001, b'the end\\x1b[31m', mask=False)); c.close_frame()", "1001 (going away): the end"),
    ("pass", "ended without a Close"), ("c.reset()", "ECONNRESET"),
  ]) func theServerGoesAway(how: String, says: String) throws {
    let server = try WebSocketPeer("c = l.client(); command('go'); \(how); c.close()")
    let client = try terminal(server.url)
    let position = try client.waitForTerminal("websocket> ")
    client.press("1 half")
    try client.waitForTerminal("1 half", from: position)
    server.say("go")
    let result = try client.finish()
    #expect(result.status == 1, "\(result.errors)")
    #expect(result.errors.hasPrefix("websocket-client: ") && result.errors.contains(says), "\(result.errors)")
    #expect(result.errors.split(separator: "\n").count == 1 && !result.errors.contains("\u{1b}"))
    #expect(client.terminalIsCooked)
    #expect(try server.program.finish().status == 0)
  }
}

/// Somebody who says he is a WebSocket server, and does what a test tells it to do: `l` is where clients dial.
private struct WebSocketPeer {
  let program: Program
  let url: String

  init(_ body: String) throws {
    program = try WebSocketWitness.peer(
      #"""
      l = Listener(); print(l.url, flush=True)
      def command(word): line = sys.stdin.readline(); assert line == word + "\n", line
      def say(c, text): c.send(frame(TEXT, text, mask=False))

      """# + body)
    url = try #require(try program.line())
  }

  func say(_ word: String) { program.write(word + "\n") }
}
