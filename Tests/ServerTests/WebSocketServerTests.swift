import Glibc
import TestSupport
import Testing

/// What a client sees of `websocket-server`, and what becomes of those who do not keep to RFC 6455.
@Suite(.enabled(if: Witness.havePython)) struct WebSocketServerTests {
  // --- messages ---

  @Test func echoes() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); c = Client(s)
      # Each length has one form, and those at its edges are right.
      for size in (0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 16 << 20):
          data = os.urandom(min(size, 4096)) * (size // 4096 + 1); data = data[:size]
          text = ("äöü €" * (size // 9 + 1)).encode()[:size].decode(errors="ignore"); text += "x" * (size - len(text.encode()))
          for sent in (data, text):
              c.send(frame(TEXT if sent is text else BINARY, sent)); answer = c.message()
              assert answer == sent and type(answer) is type(sent), (size, type(answer), len(answer))
      # In parts, with control frames between them; a Pong has the Ping's payload, and comes at once.
      parts = [os.urandom(n) for n in (0, 3, 70000, 0, 1)]
      for n, part in enumerate(parts):
          c.send(frame(MORE if n else BINARY, part, fin=False), frame(PING, b"%d" % n * 125), frame(PONG, b"unasked for"))
          assert c.pong() == b"%d" % n * 125
      c.send(frame(MORE, b"end")); assert c.message() == b"".join(parts) + b"end"
      c.send(frame(PING)); assert c.pong() == b""
      # An echo may be any message, the empty one, and one that only looks as if it were for all.
      for text in ("", "/all", "/all ", "/ALL x", " /all x", "\0", "\U0001f600 \r\n\t", "é" * 100): c.echo(text)
      # Those that wait for their turn come in order.
      c.send(*[frame(TEXT, "%d" % n) for n in range(3000)]); assert c.messages(3000) == ["%d" % n for n in range(3000)]
      c.send(closing(4321, "gehört".encode())); assert c.close_frame() == (4321, ""); assert c.nothing_more(); c.close()
      s.says("client connected: " + c.address); s.says("client left: " + c.address, "4321: gehört")
      # Without a code the answer has none, either.
      c = Client(s); c.send(closing()); assert c.close_frame() == (None, "") and c.nothing_more(); c.close()
      s.says("client left: " + c.address, "a Close without a code"); assert s.stop() == 0
      print("right")
      """#)
  }

  /// A byte at a time, and cut anywhere; frames that come together with the request.
  @Test func howeverItIsCut() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server()
      data = b"".join([
          frame(TEXT, "é" * 70), frame(BINARY, b"x" * 300, fin=False), frame(PING, b"here"), frame(MORE, b"y" * 126),
          frame(TEXT, ""), frame(TEXT, "a", fin=False), frame(MORE, "", fin=False), frame(MORE, "\u20ac".encode()[:1], fin=False),
          frame(MORE, "\u20ac".encode()[1:]), closing(1000)])
      def right(c):
          assert c.message() == "é" * 70 and c.pong() == b"here" and c.message() == b"x" * 300 + b"y" * 126
          assert c.message() == "" and c.message() == "a\u20ac" and c.close_frame() == (1000, "") and c.nothing_more()
          c.close()
      def sent(sizes):
          c = Raw(s); whole = request() + data; place = 0
          while place < len(whole): n = sizes(); c.send(whole[place:place + n]); place += n
          first, fields = c.head(); assert first.startswith("HTTP/1.1 101 ")
          # The example of section 1.3.
          assert fields["sec-websocket-accept"] == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
          right(c)
      sent(lambda: 1); sent(lambda: 1 << 20)
      for n in (2, 3, 7, 100): sent(lambda: n)
      for _ in range(20): sent(lambda: random.randint(1, 90))
      right(Client(s, at_once=data))
      # Empty lines before the request are passed over.
      c = Raw(s); assert c.status(b"\r\n\r\n" + request()) == 101; c.say = lambda t: c.send(frame(TEXT, t))
      c.say("hello"); assert c.message() == "hello"
      print("right")
      """#)
  }

  @Test func messagesForAll() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server("--name", 'the "first" one'); plain = [Client(s) for _ in range(3)]; sender = plain[0]
      named = [Client(s, protocols=p) for p in (NAMED, "chat, %s" % NAMED, "other,\t" + NAMED + " , more")]
      assert all(c.fields["sec-websocket-protocol"] == [NAMED] for c in named)
      other = Client(s, protocols="chat"); assert "sec-websocket-protocol" not in other.fields
      for n, text in enumerate(("one", "two\nlines", "/all again", "é" * 40000, " ", "\u0301x")):
          sender.say("/all " + text)
          for c in plain + [other]: assert c.message() == text
          for c in named: assert c.message() == "/all the \"first\" one %s\n%s" % (sender.address, text)
      # In parts, too; only texts are for all.
      sender.send(frame(TEXT, "/a", fin=False), frame(MORE, "ll par", fin=False), frame(MORE, "ts"))
      assert all(c.message() == "parts" for c in plain)
      sender.send(frame(BINARY, b"/all x")); assert sender.message() == b"/all x"
      named[0].say("/all from a named one")
      for c in named: assert c.message().split("\n")[-1] == "parts"
      # To each once, and behind it nothing: what each asks for next comes next.
      for c in plain[1:] + [other] + named[:1]:
          c.say("mine"); expected = {plain[1]: 1, plain[2]: 1, other: 0, named[0]: 1}[c]
          expected = ["parts", "from a named one"][expected:]
          while True:
              answer = c.message()
              if answer == "mine": break
              left = expected.pop(0); assert answer == left or answer.endswith("\n" + left), (answer, left)
          assert expected == [], expected
      s.says("message for all: from", sender.address + ": two\\nlines; to 7 here")
      s.says("message: from %s: mine" % named[0].address)
      print("right")
      """#)
  }

  // --- what RFC 6455 does not allow ---

  /// The right code, and a line that says why; nothing and nobody else is touched.
  @Test func badFrames() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server("--max-message", 100000); good = Client(s); good.send(frame(TEXT, "half", fin=False)); cases = []
      def case(code, why, *parts): cases.append((code, why, b"".join(parts)))
      # What can be known from two bytes is refused before the others come.
      for opcode in (MORE, TEXT, BINARY, CLOSE, PING, PONG):
          case(1002, "a frame is not masked", frame(opcode, mask=False))
          for rsv in (4, 2, 1, 7): case(1002, "a reserved bit is set", frame(opcode, rsv=rsv)[:2])
      for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15): case(1002, "opcode %d is reserved" % opcode, frame(opcode)[:2])
      for opcode in (CLOSE, PING, PONG):
          case(1002, "a control frame is fragmented", frame(opcode, fin=False)[:2])
          for length in (126, 65536): case(1002, "a control frame has more than 125", frame(opcode, length=length)[:2])
      for fin in (True, False): case(1002, "a continuation continues nothing", frame(MORE, "x", fin=fin))
      for opcode in (TEXT, BINARY):
          case(1002, "a new message begins inside", frame(TEXT, "x", fin=False), frame(PING), frame(opcode, "y"))
      case(1002, "a continuation continues nothing", frame(TEXT, "x", fin=False), frame(MORE, "y"), frame(MORE, "z"))
      for form, lengths in ((16, (0, 1, 125)), (64, (0, 125, 126, 65535))):
          for n in lengths: case(1002, "has more bytes than it needs", frame(BINARY, b"x" * n, form=form))
      for length in (1 << 63, (1 << 63) + 5, (1 << 64) - 1): case(1002, "has its highest bit set", frame(BINARY, length=length))
      # Too big, before its bytes come; a frame alone, and all of them together.
      for opcode in (TEXT, BINARY):
          for length in (100001, 1 << 32, (1 << 63) - 1):
              case(1009, "a message has more than 100000 bytes", frame(opcode, length=length))
      case(1009, "more than 100000", frame(BINARY, b"x" * 60000, fin=False), frame(PING), frame(MORE, length=40001))
      case(1009, "more than 100000", frame(TEXT, "x" * 100000, fin=False), frame(MORE, length=1))
      case(1009, "more than 100000", frame(TEXT, "x", fin=False), frame(MORE, length=(1 << 63) - 1))
      # Closes.
      case(1002, "half a code", frame(CLOSE, b"\3"))
      for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]:
          case(1002, "%d is no code" % code, closing(code))
      for reason in (b"\xff", b"ab\xc3", b"\xed\xa0\x80"): case(1007, "reason of a Close is not valid", closing(1000, reason))
      for code, why, data in cases:
          c = Client(s); c.send(data)
          told, reason = c.close_frame(); assert told == code and why in reason, (told, reason, code, why)
          assert c.nothing_more(); c.close()
          line, = s.says("client lost: " + c.address); assert "%d (" % code in line and why in line, line
      good.send(frame(MORE, " of it")); assert good.message() == "half of it"; good.echo("next")
      # What is right at the same edges.
      for code in (1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999):
          c = Client(s); c.send(closing(code, b"x" * 123)); assert c.close_frame() == (code, "") and c.nothing_more()
          c.close(); s.says("client left: " + c.address)
      c = Client(s); c.send(frame(BINARY, b"x" * 60000, fin=False), frame(MORE, b"x" * 40000)); assert len(c.message()) == 100000
      # A peer's words do not become lines of the log.
      c = Client(s); c.send(closing(1000, b"bye\nforged\r\n\x1b[31m line")); assert c.close_frame()[0] == 1000
      c.close(); line, = s.says("client left: " + c.address); assert "forged" in line and "line" in line and "\x1b" not in s.log(), s.log()[-300:]
      assert s.figures()[:3] == [1, 1, 0]
      print("right")
      """#)
  }

  /// At once, and split anywhere over frames and writes; refused as soon as it can be known.
  @Test func badUTF8() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); good = Client(s); all_refused = []
      def refused(c):
          code, reason = c.close_frame(); assert code == 1007 and ("UTF-8" in reason or "character" in reason), (code, reason)
          assert c.nothing_more(); c.close(); all_refused.append(c.address)
      bad = [b"\x80", b"\xbf", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
             b"\xf0\x80\x80\xaf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xfe", b"\xff", b"\xc3(",
             b"\xe2\x82(", b"\xf0\x9f\x98(", b"\xc3\xc3"]
      cut = [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98"]
      around = "κόσμε €".encode()
      for text in bad + [b"x" * 200 + b for b in bad[:4]]:
          c = Client(s); c.send(frame(TEXT, around + text + around)); refused(c)
          # With nothing behind the byte that shows it, and the message not ended.
          c = Client(s); c.send(frame(TEXT, around + text, fin=False)); refused(c)
          # Inside of a frame of which more is to come.
          c = Client(s); c.send(frame(TEXT, around + text, length=5000)); refused(c)
          # Over frames, and over writes.
          whole = b"a" + text
          for place in range(1, len(whole)):
              c = Client(s); c.send(frame(TEXT, whole[:place], fin=False), frame(PING, b"p"), frame(MORE, whole[place:]))
              refused(c)
          c = Client(s)
          try:
              for n in range(len(whole)): c.send(frame(MORE if n else TEXT, whole[n:n + 1], fin=False))
          except OSError: pass
          refused(c)
          c = Client(s); data = frame(TEXT, around + text + around)
          try:
              for n in range(len(data)): c.send(data[n:n + 1])
          except OSError: pass
          refused(c)
      for text in cut:
          c = Client(s); c.send(frame(TEXT, around + text)); refused(c)
          c = Client(s); c.send(frame(TEXT, text, fin=False), frame(MORE)); refused(c)
          # As long as more may come it may be right.
          c = Client(s); c.send(frame(TEXT, text, fin=False), frame(PING, text)); assert c.pong() == text
          rest = {0xc3: b"\xa9", 0xe2: b"\x82\xac", 0xf0: b"\x9f\x98\x80"}[text[0]][len(text) - 1:]
          c.send(frame(MORE, rest)); assert c.message().encode() == text + rest; c.leave()
      # Each has a line, but for those above what a second has room for, which are counted.
      def told(): return len(s.lines("client lost: ", ": 1007 (invalid data): a text "))
      def more(): return sum(int(l.split()[2]) for l in s.lines(" clients: ", " more that "))
      until(lambda: told() + more() >= len(all_refused), lambda: (told(), more(), len(all_refused)))
      assert 200 < told() <= len(all_refused)
      # The same bytes are no harm where they are no text, and Pings may have any.
      good.send(*[frame(BINARY, b) for b in bad + cut]); assert good.messages(len(bad + cut)) == bad + cut
      good.send(frame(PING, b"\xff\xfe")); assert good.pong() == b"\xff\xfe"
      # Noncharacters are characters here, and the greatest one is.
      good.echo("\ufffe\uffff\U0010ffff\ud7ff\ue000")
      print("right")
      """#)
  }

  /// Behind a Close nothing means anything, and nobody is waited for without end.
  @Test func theClosing() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); good = Client(s)
      for behind in (frame(TEXT, "late"), frame(TEXT, "/all late"), b"\xff" * 1000, closing(1000), frame(PING)):
          c = Client(s); c.send(closing(1000), behind); assert c.close_frame() == (1000, "") and c.nothing_more(); c.close()
          line, = s.says("client left: " + c.address); assert "1000 (normal)" in line
          c = Client(s); c.send(frame(MORE), behind); assert c.close_frame()[0] == 1002 and c.nothing_more(); c.close()
          s.says("client lost: " + c.address, "1002")
      # What was sent before a Close is answered before it.
      c = Client(s); c.send(frame(TEXT, "last"), closing(1000)); assert c.message() == "last"
      assert c.close_frame() == (1000, "") and c.nothing_more(); c.close()
      # Who never closes its TCP connection is let go.
      def stays(*parts):
          c = Client(s); begin = time.monotonic(); c.send(*parts); c.close_frame(); assert c.nothing_more()
          s.says("client l", c.address); took = time.monotonic() - begin; assert 3 < took < 12, took
          # What is sent now gets RST.
          def look():
              try: c.s.send(b"x")
              except (BrokenPipeError, ConnectionResetError): return True
          until(look)
      # Nor is who sends on and on.
      def sends_on():
          c = Client(s); begin = time.monotonic(); c.send(closing(1000))
          try:
              while time.monotonic() < begin + 20: c.send(bytes(1000)); time.sleep(0.01)
          except OSError: pass
          assert 3 < time.monotonic() - begin < 12; s.says("client left: " + c.address)
      at_once(lambda: stays(closing(1000)), lambda: stays(frame(MORE)), sends_on)
      good.echo("still here")
      # The end without a Close: between frames, inside of them, and inside of a message.
      for data in (b"", b"\x81", frame(TEXT, "whole")[:4], frame(TEXT, "whole")[:-1], frame(TEXT, "part", fin=False)):
          c = Client(s); c.send(data); c.s.shutdown(socket.SHUT_WR); assert c.nothing_more(); c.close()
          s.says("client lost: " + c.address, "ended without a Close")
      c = Client(s); c.echo("x"); c.reset(); s.says("client lost: " + c.address, "ECONNRESET")
      c = Client(s); c.send(frame(TEXT, "whole")[:4]); s.says("client connected: " + c.address); c.reset()
      s.says("client lost: " + c.address)
      good.echo("and still"); assert s.figures() == [1, 1, 0, s.figures()[3], 0]
      print("right")
      """#)
  }

  // --- who does not read ---

  @Test func pingsWithoutReading() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); good = Client(s); good.echo("x"); before = s.memory()
      def flood(make, deadline=3):
          # Sends until nothing is taken for a while; how many frames went out, and what is left of one.
          c = Client(s, small=True); c.s.settimeout(deadline); count = 0; chunk = b"".join(make(n) for n in range(1000))
          rest = memoryview(chunk); total = 0
          try:
              while total < 200 << 20:
                  n = c.s.send(rest); total += n; rest = rest[n:]
                  if not rest: count += 1000; rest = memoryview(chunk)
          except TimeoutError: pass
          assert total < 100 << 20, total
          c.s.settimeout(30); return c, count, rest
      # Each Ping is answered, and for as long as nobody takes that nothing more is read.
      c, count, rest = flood(lambda n: frame(PING, b"%4d" % n + b"x" * 121))
      assert s.memory() - before < 8192, (before, s.memory()); good.echo("not in its way")
      assert s.figures()[4] < 1 << 20
      def finish():
          c.send(rest, closing(1000))
      writer = threading.Thread(target=finish); writer.start()
      for n in range(count + 1000): assert c.pong()[:4] == b"%4d" % (n % 1000), n
      assert c.close_frame() == (1000, ""); writer.join()
      # The same with messages that come back.
      c, count, rest = flood(lambda n: frame(TEXT, "%4d" % n + "x" * 200))
      assert s.memory() - before < 8192, (before, s.memory()); good.echo("nor that")
      writer = threading.Thread(target=finish); writer.start()
      for n in range(count + 1000): assert c.message()[:4] == "%4d" % (n % 1000), n
      assert c.close_frame() == (1000, ""); writer.join()
      # Nor does it spin.
      c, _, _ = flood(lambda n: frame(PING, b"x" * 125), deadline=0.5); a = s.ticks(); time.sleep(0.5)
      assert s.ticks() - a < 15, s.ticks() - a
      c.reset(); s.says("client lost: " + c.address)
      print("right")
      """#)
  }

  /// It alone is closed, with 1008; nobody else waits for it.
  @Test func whoNeverReads() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); deaf = [Client(s, small=True) for _ in range(3)]; good = [Client(s) for _ in range(3)]; before = s.memory()
      for c in good + deaf: c.echo("x")
      text = "%4d" + "y" * 20000; lost = 0; begin = time.monotonic()
      while len(s.lines("client lost: ")) < 3:
          # The kernel takes some megabytes first; then they are told, and given time to hear it.
          good[lost % 3].say("/all " + text % lost); assert time.monotonic() < begin + 30
          for c in good: assert c.message() == text % lost
          lost += 1; time.sleep(0.005)
      assert s.memory() - before < 16384, (before, s.memory())
      for c in deaf:
          line, = s.lines(c.address, "client lost: "); assert "1008 (policy violation): it reads slower" in line, line
      for n in range(5):
          good[0].say("/all more")
          for c in good: assert c.message() == "more"
      # Who reads again finds what has come before, whole, and the reason.
      for c in deaf:
          last = -1
          try:
              while True:
                  opcode, payload, _ = c.frame()
                  if opcode == CLOSE: assert payload[:2] == struct.pack(">H", 1008); break
                  last += 1; assert payload.decode() == text % last
          except (EOFError, ConnectionResetError): pass
          assert 0 < last < lost, last
      assert s.figures()[:3] == [3, 3, 0] and s.figures()[4] == 0
      print("right")
      """#)
  }

  // --- HTTP ---

  @Test func requestsThatAreRefused() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server("--origin", "http://friend.example", "--origin", "null"); own = "127.0.0.1:%d" % s.port; good = Client(s)
      def refused(status, data, why="", **fields):
          c = Raw(s); got, all, body = c.answer(data); assert got == status and why in body, (status, got, body, data[:200])
          for name, value in fields.items(): assert all.get(name.replace("_", "-")) == [value], (name, all)
          line, = s.says("refused: " + c.address, str(status)); assert why in line, line
      def accepted(data):
          c = Raw(s); assert c.status(data) == 101, data; c.send(frame(TEXT, "hello")); assert c.message() == "hello"; c.close()
      # Limits.
      refused(431, request(extra=["X-Long: " + "x" * 16384]), "more than 16384 bytes")
      refused(431, request(extra=["X-%d: %s" % (n, "x" * 8000) for n in range(3)]), "more than 16384 bytes")
      refused(431, request(extra=["X-%d: x" % n for n in range(96)]), "more than 100 fields")
      accepted(request(extra=["X-%d: x" % n for n in range(95)]))
      refused(414, request("/ws?" + "x" * 9000), "first line has more than 8192 bytes")
      refused(414, request("/ws?" + "x" * 20000), "first line has more than 8192 bytes")
      accepted(request("/ws?" + "x" * 8000))
      # Heads that mean one thing here and may mean another elsewhere.
      lone = request().replace(b"\r\n", b"\n"); refused(400, lone, "LF alone")
      refused(400, request(extra=["X: y\nZ: z"]), "LF alone"); refused(400, request(extra=["X: y\rZ: z"]), "a CR stands")
      refused(400, request(extra=["X: y", " folded"]), "folded"); refused(400, request(extra=["X: y", "\tfolded"]), "folded")
      for line in ("X : y", "X\t: y", ": y", "X y: z", "X(: y", "Ä: y"): refused(400, request(extra=[line]), "no token")
      refused(400, request(extra=["no colon"]), "no colon"); refused(400, request(extra=["X: \0"]), "control character")
      refused(400, request(extra=["Host: 127.0.0.1"]), "Host stands there 2 times"); refused(400, request(without=["Host"]), "no Host")
      # First lines.
      refused(400, request(version="HTTP/1.0"), "HTTP/1.0"); refused(505, request(version="HTTP/2.0"), "HTTP/2.0")
      for first in ("GET /ws", "GET  /ws HTTP/1.1", "GET /ws HTTP/1.1 ", "G(T /ws HTTP/1.1", "GET /ws http/1.1", "GET /w\u00e9 HTTP/1.1",
                    " GET /ws HTTP/1.1", "GET /ws HTTP/1.10", "GET /ws HTTP/11"):
          refused(400, request().replace(b"GET /ws HTTP/1.1", first.encode()))
      refused(400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n")
      # What a WebSocket wants.
      for method in ("POST", "PUT", "OPTIONS", "get"):
          refused(405, request(method=method), "GET", allow="GET")
      refused(405, request("/", method="POST"), allow="GET, HEAD")
      asks = {"upgrade": "websocket", "sec_websocket_version": "13"}
      refused(426, request(without=["Upgrade"]), "Upgrade: websocket", **asks); refused(426, request(Upgrade="h2c"), **asks)
      for version in ("12", "8", "14", "13, 8", "x"): refused(426, request(Sec_WebSocket_Version=version), "has to be 13", **asks)
      refused(400, request(without=["Sec-WebSocket-Version"]), "has to be 13")
      refused(400, request(without=["Connection"]), "Connection has no"); refused(400, request(Connection="keep-alive"), "Connection has no")
      refused(400, request(without=["Sec-WebSocket-Key"]), "no Sec-WebSocket-Key")
      for key in ("", "x", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25j",
                  "dGhlIHNhbXBsZSBub25jZQ==!", "d*hlIHNhbXBsZSBub25jZQ=="):
          refused(400, request(Sec_WebSocket_Key=key), "16 bytes in base64")
      refused(400, request(extra=["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]), "stands there 2 times")
      refused(400, request(Content_Length="5") + b"hello", "no body")
      refused(400, request(Transfer_Encoding="chunked") + b"0\r\n\r\n", "no body"); accepted(request(Content_Length="0"))
      # Lists, in one line and in more; names in any case.
      accepted(request(Connection="keep-alive, Upgrade")); accepted(request(Connection="keep-alive", extra=["connection:upGRADE"]))
      accepted(request(Upgrade="h2c ,WebSocket")); accepted(request(without=["Host"], extra=["hOST:\t 127.0.0.1 \t"]))
      accepted(request("http://127.0.0.1/ws")); accepted(request("http://127.0.0.1:%d/ws?x=1" % s.port)); accepted(request("/ws?room=1"))
      accepted(request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))
      # Pages from elsewhere. Under a foreign name this server's own page may be a foreign one.
      for origin in ("http://evil.example", "http://127.0.0.1:1", "https://" + own, "http://friend.example:81", "", "http://" + own + "/",
                     "http://localhost:%d" % s.port):
          refused(403, request(Host=own, Origin=origin), "--origin allows")
      refused(403, request(Host="evil.example:%d" % s.port, Origin="http://evil.example:%d" % s.port), "--origin allows")
      refused(403, request(Host="127.0.0.1.evil.example", Origin="http://127.0.0.1.evil.example"), "--origin allows")
      refused(400, request(Host=own, extra=["Origin: http://friend.example", "Origin: http://evil.example"]), "stands there 2 times")
      for host in (own, "localhost:%d" % s.port, "[::1]:%d" % s.port): accepted(request(Host=host, Origin="http://" + host))
      for origin in ("http://friend.example", "HTTP://Friend.Example", "null"): accepted(request(Host=own, Origin=origin))
      accepted(request(Host="evil.example"))
      # However long a word is that it does not like, its log has a line.
      for data in (request(Host=own, Origin="http://" + "é" * 4000), request(method="X" * 7000), request(Sec_WebSocket_Version="x" * 8000)):
          c = Raw(s); status, _, _ = c.answer(data); assert status in (403, 405, 426); s.says("refused: " + c.address)
      assert not s.lines("lines lost")
      good.echo("untouched"); any = Server("--origin", "*"); c = Client(any, Origin="http://evil.example"); c.echo("x")
      print("right")
      """#)
  }

  @Test func thePageAndOtherPlaces() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server("--name", "<b>&\"x\"")
      status, fields, page = Raw(s).answer(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      assert status == 200 and fields["content-type"] == ["text/html; charset=utf-8"], fields
      assert "<title>&lt;b&gt;&amp;&quot;x&quot;: WebSocket</title>" in page and "<b>" not in page
      assert "default-src 'none'" in fields["content-security-policy"][0]
      # An old client gets it, too; and of HEAD the same fields alone.
      assert Raw(s).answer(b"GET /?x=1 HTTP/1.0\r\n\r\n")[2] == page
      c = Raw(s); c.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"); first, head = c.head(); assert c.nothing_more()
      assert first == "HTTP/1.1 200 OK" and head == fields, head
      for path in ("/other", "/ws/", "/wsx", "/WS", "//ws", "/index.html", "*", "http://x"):
          c = Raw(s); status, fields, body = c.answer(("GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path).encode())
          assert status == (200 if path == "http://x" else 404), (path, status)
      for path, status in (("/other", 404), ("/ws", 405)):
          c = Raw(s); assert c.status(("HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n" % path).encode()) == status; assert c.nothing_more()
      # What comes behind the request is not taken for another one.
      c = Raw(s); assert c.answer(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n" * 3)[0] == 404
      c = Raw(s); assert c.answer(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000)[0] == 405
      # IPv6, where there is any.
      if os.path.exists("/proc/net/if_inet6"):
          six = Server("--host", "::1"); own = "[::1]:%d" % six.port; assert six.lines("listening on " + own)
          c = Raw(six, host="::1"); assert c.status(request(Host=own, Origin="http://" + own)) == 101; c.close()
          assert client("ws://%s/ws" % own, "-1", "hello") == (0, "hello\n", ""); six.says("client left: [::1]:")
      # Who hangs up in the middle is no event.
      for data in (b"", b"G", request()[:40]): c = Raw(s); c.send(data); c.close()
      c = Raw(s); c.send(request()[:40]); c.reset(); Client(s).echo("x")
      until(lambda: s.figures()[0] == 1 or s.figures()[1] == 0)
      print("right")
      """#)
  }

  /// The real ten seconds, once, for all who can be late.
  @Test func whoIsTooSlow() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); good = Client(s); begin = time.monotonic(); gone = {}; heard = {}
      def case(name, first, slow=b""):
          c = Raw(s); c.send(first)
          def watch():
              try:
                  while True: c.more()
              except (EOFError, OSError): heard[name] = bytes(c.buffer); gone[name] = time.monotonic() - begin; c.close()
          def slowly():
              try:
                  for b in slow: c.send(bytes([b])); time.sleep(0.2)
              except OSError: pass
          for work in (watch, slowly): threading.Thread(target=work, daemon=True).start()
      case("silent", b""); case("half", request()[:60]); case("an end that never comes", request()[:-2]); case("slow", b"", request())
      # A link that says no hello; and one that does, whatever else it says.
      link = Link(s, greets=False); well = Link(s)
      # Short of ten seconds all is well.
      patient = Raw(s); patient.send(request()[:30]); time.sleep(8); assert gone == {}, gone
      assert patient.status(request()[30:]) == 101; patient.send(frame(TEXT, "x")); assert patient.message() == "x"
      until(lambda: len(gone) == 4, lambda: gone); assert all(9 < t < 14 for t in gone.values()), gone
      assert heard.pop("silent") == b""
      for name, data in heard.items(): assert data.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), (name, data)
      assert link.close_frame()[0] == 1008; link.close(); s.says("refused: a link from " + link.address, "no hello came in 10 seconds")
      assert len(s.lines("refused: ", "408: the request was not whole after 10 seconds")) == 3
      # It has been asked meanwhile whether it is still there.
      good.echo("x"); assert well.frame() == (PING, b"", True); well.send(frame(PONG))
      until(lambda: s.figures()[:3] == [3, 2, 1])
      print("right")
      """#)
  }

  // --- the server as a whole ---

  @Test func theEnd() async throws {
    try await WebSocketWitness.run(
      #"""
      # Every client gets a Close; who has asked for nothing, nothing.
      for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
          s = Server(); clients = [Client(s) for _ in range(5)]; silent = Raw(s); half = Raw(s); half.send(request()[:50])
          clients[0].send(frame(TEXT, "half", fin=False)); link = Link(s); s.says("link up"); s.figures()
          clients[1].echo("before")
          s.signal(number)
          for c in clients + [link]:
              assert c.close_frame() == (1001, "the server ends"); c.send(closing(1001)); assert c.nothing_more(); c.close()
          assert silent.nothing_more() and half.nothing_more() and s.ends(2) == 0; s.says("ending")
          try: dial(s.port); raise AssertionError("somebody still listens")
          except ConnectionRefusedError: pass
      # Nobody listens any more, while the closing goes on; what crosses the Close is no harm.
      s = Server(); c = Client(s); other = Client(s); other.echo("x"); s.signal(signal.SIGINT); assert c.close_frame()[0] == 1001
      c.send(frame(TEXT, "crosses"), frame(PING), frame(TEXT, "/all crosses"), closing(1000)); assert c.nothing_more(); c.close()
      s.says("client left: " + c.address); assert other.close_frame()[0] == 1001
      try: dial(s.port); raise AssertionError("somebody still listens")
      except ConnectionRefusedError: pass
      other.send(closing(1001)); assert other.nothing_more(); other.close(); assert s.ends(2) == 0
      # Who never answers is waited for a few seconds, and who does not read, too; twice asked, nobody.
      def ends(signals, *, fill=False):
          s = Server(); c = Client(s, small=True); c.echo("x")
          if fill:
              c.send(frame(BINARY, bytes(8 << 20))); until(lambda: s.figures()[4] > 1 << 20)
          begin = time.monotonic(); s.signal(signal.SIGINT); s.says("ending")
          if signals == 2: s.signal(signal.SIGINT)
          assert s.ends(10) == 0; took = time.monotonic() - begin
          assert took < 1 if signals == 2 else 1 < took < 6, (signals, took)
      at_once(lambda: ends(1), lambda: ends(2), lambda: ends(1, fill=True), lambda: ends(2, fill=True))
      # An idle one ends at once.
      s = Server(); begin = time.monotonic(); assert s.stop() == 0 and time.monotonic() - begin < 1
      print("right")
      """#)
  }

  @Test func figures() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); assert s.figures() == [0, 0, 0, 0, 0]
      clients = [Client(s) for _ in range(3)]; raw = Raw(s); raw.send(b"G"); link = Link(s); s.says("link up: ", '"python"', link.address)
      for c in clients: c.echo("x")
      clients[0].say("/all y"); assert clients[2].message() == "y"; clients[1].send(frame(BINARY, bytes(100000), fin=False), frame(PING))
      opcode = 0
      while opcode != PONG: opcode, _, _ = clients[1].frame()
      assert s.figures() == [5, 3, 1, 4, 100000], s.figures()
      for c in clients + [raw, link]: c.close()
      until(lambda: s.figures() == [0, 0, 0, 4, 0], lambda: s.figures())
      # Many messages are not a line each, and the sum is right.
      c = Client(s); c.send(*[frame(TEXT, "%d" % n) for n in range(5000)]); c.messages(5000)
      s.says("more in the last second")
      shown = len(s.lines(" message: from " + c.address)); assert 0 < shown <= 150, shown
      more = sum(int(l.split(": ")[1].split()[0]) for l in s.says("more in the last second"))
      until(lambda: shown + sum(int(l.split(" messages: ")[1].split()[0]) for l in s.lines("more in the last second")) == 5000)
      # Words from elsewhere do not steer a terminal, nor become lines.
      c = Client(s); c.echo("\x1b[2J\r\nforged: line" + "z" * 500); s.says("message: from " + c.address, "forged", "bytes)")
      assert "\x1b" not in s.log() and not [l for l in s.log().splitlines() if l.startswith("forged")]
      print("right")
      """#)
  }

  /// Nobody waits for whoever reads the log, or has stopped to.
  @Test func aLogThatNobodyReads() async throws {
    try await WebSocketWitness.run(
      #"""
      p = subprocess.Popen([SERVER, "start"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT); running.append(p)
      port = int(p.stdout.readline().rsplit(b":", 1)[1])
      for n in range(700): c = Client(port); c.echo("x" * 150 + "\x01" * 50); c.leave()
      # With room again there are lines again, and the first one says how many are missing.
      taken = b""
      while b"lines lost" not in taken: taken += os.read(p.stdout.fileno(), 1 << 20); c = Client(port); c.echo("y"); c.leave()
      assert re.search(rb" lines lost: [1-9][0-9]+, for nobody read them\n", taken), taken[-500:]
      p.stdout.close()
      for _ in range(3): c = Client(port); c.echo("x"); c.leave()
      c = Client(port); c.echo("x"); p.send_signal(signal.SIGINT); assert c.close_frame()[0] == 1001; c.close(); assert p.wait(20) == 0
      print("right")
      """#)
  }

  @Test func atMostSoManyConnections() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server("--max-connections", 2); a, b = Client(s), Client(s); a.echo("x"); c = Raw(s); c.send(request()); c.s.settimeout(0.3)
      try: c.more(); raise AssertionError("served too early")
      except TimeoutError: pass
      s.says("no room: 2 connections are open"); c.s.settimeout(20); a.leave(); assert c.head()[0].startswith("HTTP/1.1 101 ")
      # With few descriptors others wait, and nothing spins.
      s = Server(limit=(resource.RLIMIT_NOFILE, (64, 64))); clients = []
      for _ in range(100): c = Raw(s); c.send(request() + frame(TEXT, "x")); clients.append(c)
      clients[0].head(); clients[0].message(); s.says("no room")
      a = s.ticks(); time.sleep(0.5); assert s.ticks() - a < 15, s.ticks() - a
      for n, c in enumerate(clients):
          if n: c.head(); assert c.message() == "x", n
          c.close()
      Client(s).echo("room again"); assert not s.lines("Fatal"); assert s.stop() == 0
      print("right")
      """#)
  }

  @Test func badOptionsAreExplained() throws {
    for (words, expected) in [
      ([], "what is to be done? websocket-server start A"),
      (["stop"], "it is 'start', 'start A' or 'start B'"),
      (["start", "C"], "there are servers A and B, not 'C'"), (["start", "A", "B"], "it is 'start'"),
      (["start", "--peer", "http://127.0.0.1:1/ws"], "it has to begin with ws://"),
      (["start", "--peer", "wss://127.0.0.1:1/ws"], "there is no TLS here"),
      (["start", "--peer", "127.0.0.1:1"], "--peer: "), (["start", "--peer", "ws://"], "--peer: "),
      (["start", "--peer", "ws://nowhere.example/ws"], "--peer: "),
      (["start", "--peer", "ws://127.0.0.1:0/ws"], "nobody listens on port 0"),
      (["start", "--peer", "ws://127.0.0.1:1/ws#x"], "fragment"),
      (["start", "--peer", "ws://me@127.0.0.1:1/ws"], "user"),
      (["start", "--origin", "x"], "'x' is no origin"),
      (["start", "--origin", "http://x/"], "'http://x/' is no origin"),
      (["start", "--name", ""], "a server's name has 1 to 64 bytes"),
      (["start", "--name", "a\nb"], "a server's name has 1 to 64 bytes, and no control characters"),
      (["start", "--host", "nowhere"], "--host: "),
      (["start", "--port", "65536"], "--port takes a whole number"),
      (["start", "--max-message", "0"], "--max-message takes a whole number"),
      (["start", "--max-connections", "0"], "--max-connections takes a whole number"),
      (["start", "--orign", "x"], "did you mean --origin?"),
    ]
      + ["-1", "x", "nan", "inf", "86401", ""].map({
        (["start", "--wait", $0], "--wait takes seconds from 0 to 86400")
      })
    {
      let result = try Program.run([Place.product("websocket-server")] + words)
      #expect(result.status == 2 && result.output.isEmpty, "\(words): \(result.status) \(result.output)")
      #expect(
        result.errors.hasPrefix("websocket-server: ") && result.errors.contains(expected),
        "\(words): \(result.errors)")
      #expect(result.errors.split(separator: "\n").count <= 2, "\(result.errors)")
    }
    for words in [["start", "A", "--help"], ["--help"], ["start", "--help"]] {
      let help = try Program.run([Place.product("websocket-server")] + words)
      #expect(help.status == 0 && help.errors.isEmpty)
      for option in ["start [A|B]", "--name", "--peer", "--wait", "--origin", "--max-message"] {
        #expect(help.output.contains(option), "\(option)")
      }
    }
  }

  @Test func aPortThatIsTaken() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); r = subprocess.run([SERVER, "start", "--port", str(s.port)], capture_output=True, timeout=20, text=True)
      assert r.returncode == 1 and r.stdout == "", r
      assert r.stderr.startswith("websocket-server: bind 127.0.0.1:%d: EADDRINUSE (Address already in use)" % s.port), r.stderr
      assert "--port 0 lets the kernel choose" in r.stderr and len(r.stderr.splitlines()) == 1
      # What is left of a server's connections does not hold its port back.
      c = Client(s); c.leave(); Client(s).echo("x"); s.kill(); s = Server(port=s.port); Client(s).echo("x")
      print("right")
      """#)
  }
}
