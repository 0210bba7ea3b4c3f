import TestSupport
import Testing

/// Servers that are linked to each other, and those that say they are one.
@Suite(.enabled(if: Witness.havePython)) struct WebSocketLinkTests {
  /// Whoever is there first; and after one of them was killed.
  @Test func inEitherOrder() async throws {
    try await WebSocketWitness.run(
      #"""
      def url(port): return "ws://127.0.0.1:%d/ws" % port
      def linked(a, b, *times):
          # Both have dialled.
          for s, other, n in ((a, b, times[0]), (b, a, times[1])): s.says("link up: with ", '"%s"' % other, times=n)
          x, y = Client(a, protocols=NAMED), Client(b)
          for sender, text in ((x, "from x"), (y, "from y")):
              sender.say("/all " + text)
              assert x.message().endswith("\n" + text) and y.message() == text
      class Named(Server):
          def __str__(self): return self.name
      def start(name, port, peer, *options):
          s = Named("--name", name, "--peer", url(peer), "--wait", 0.1, *options, port=port); s.name = name; return s
      def round(first, second):
          p, q = free_port(), free_port()
          a = start(first, p, q); a.says("no link: %s: connect 127.0.0.1:%d: ECONNREFUSED" % (url(q), q))
          b = start(second, q, p); linked(a, b, 2, 2)
          # It is told once, however often it is tried.
          assert len(a.lines("no link")) == 1
          b.kill(); a.says("link down: ", '"%s"' % second, times=2); c = Client(a); c.echo("alone")
          time.sleep(0.3); b = start(second, q, p)
          linked(a, b, 4, 2); a.says("link up: with ", '"%s" at 127.0.0.1:%d, which this server has dialled' % (second, q), times=2)
          # One that ends says so.
          assert b.stop() == 0; a.says("link down: ", "1001 (going away): the server ends")
      at_once(lambda: round("one", "two"), lambda: round("A", "A B"))
      print("right")
      """#)
  }

  /// What `start A` and `start B` stand for: ports 8080 and 8081, and each other.
  @Test(.enabled(if: Privilege.isRoot && Witness.have("ip"))) func theTwoOfTheLesson() async throws {
    try await WebSocketWitness.run(
      #"""
      a = Server("A", "--wait", 0.2, port=None); assert a.port == 8080; b = Server("b", "--wait", 0.2, port=None); assert b.port == 8081
      a.says('link up: with "B" at 127.0.0.1:8081, which this server has dialled'); b.says('link up: with "A" at 127.0.0.1:8080, which')
      x, y = Client(a, protocols=NAMED), Client(b, protocols=NAMED); x.say("/all hi")
      for c in (x, y): assert c.message() == "/all A %s\nhi" % x.address
      # With the options that were not given as they are.
      c = Server("A", "--name", "C", "--peer", b.url, "--wait", 0); c.says('link up: with "B"'); b.says('link up: with "C"')
      y.say("/all hello"); z = [c.message() for c in (x, y)]; assert z == ["/all B %s\nhello" % y.address] * 2; x.leave(); y.leave()
      for s in (a, b, c): assert s.stop() == 0
      # Ten seconds are waited unless others are given.
      assert a.says("in 0.2 seconds it dials ws://127.0.0.1:8081/ws") and Server("A").says("in 10 seconds it dials ws://127.0.0.1:8081/ws")
      print("right")
      """#)
  }

  /// Both dial, so there are two connections, of which each server has dialled one; the kernel says so, too.
  @Test(.enabled(if: Witness.have("ss"))) func bothDial() async throws {
    try await WebSocketWitness.run(
      #"""
      p, q = free_port(), free_port()
      a = Server("A", "--peer", "ws://127.0.0.1:%d/ws" % q, "--wait", 0.1, port=p)
      b = Server("B", "--peer", "ws://localhost:%d/ws" % p, "--wait", 0.1, port=q)
      a.says("started: A: http://127.0.0.1:%d/ is a page, ws://127.0.0.1:%d/ws the WebSocket; in 0.1 seconds it dials" % (p, p))
      for s, other, port in ((a, "B", q), (b, "A", p)):
          s.says("link up: with \"%s\" at 127.0.0.1:%d, which this server has dialled" % (other, port))
          s.says("link up: with \"%s\", which has dialled from 127.0.0.1:" % other); assert s.figures()[:3] == [2, 0, 2]
      def rows():
          text = subprocess.run(["ss", "-tnpHO", "state", "established"], capture_output=True, text=True, timeout=20).stdout
          found = set()
          for line in text.splitlines():
              words = line.split(); pids = set(map(int, re.findall(r"pid=(\d+)", line)))
              if pids & {a.pid, b.pid}: assert len(pids) == 1; found.add((pids.pop(), words[2], words[3]))
          return found
      ends = rows(); assert len(ends) == 4 and len([e for e in ends if e[0] == a.pid]) == 2, ends
      # Both ends of each connection are here, and each server listens at one end of one of them.
      assert {(l, r) for _, l, r in ends} == {(r, l) for _, l, r in ends}, ends
      for pid, port in ((a.pid, p), (b.pid, q)): assert len([1 for e in ends if e[0] == pid and e[1].endswith(":%d" % port)]) == 1
      # To each client once, also to its sender.
      clients = [Client(s) for s in (a, b) for _ in range(2)]; named = [Client(s, protocols=NAMED) for s in (a, b)]
      for n in range(100):
          sender = clients[n % 4]; sender.say("/all %d" % n)
          for c in clients: assert c.message() == "%d" % n, n
          for c in named: assert c.message() == "/all %s %s\n%d" % ("AABB"[n % 4], sender.address, n)
      # Many at once, from all sides.
      def work(c):
          for m in range(300): c.say("/all %s/%d" % (c.address, m))
      heard = {}
      def listen(c): heard[c] = [c.message() for _ in range(1200)]
      at_once(*[lambda c=c: work(c) for c in clients], *[lambda c=c: listen(c) for c in clients + named])
      for c in clients + named:
          texts = [t.split("\n")[-1] for t in heard[c]]; assert len(set(texts)) == 1200
          for sender in clients:
              assert [t for t in texts if t.startswith(sender.address + "/")] == ["%s/%d" % (sender.address, m) for m in range(300)]
      for c in clients: c.echo("nothing behind it")
      assert rows() >= ends and a.figures()[2] == b.figures()[2] == 2
      a.says("message for all: from B ", ": 2; to 3 here"); b.says("message for all: from B ", ": 2; to 3 here, and to A")
      print("right")
      """#)
  }

  /// In a chain, and in a ring, where each message comes from two sides.
  @Test func threeServers() async throws {
    try await WebSocketWitness.run(
      #"""
      def check(servers):
          clients = [Client(s) for s in servers for _ in range(2)]
          for n in range(30):
              clients[n % 6].say("/all %d" % n)
              for c in clients: assert c.message() == "%d" % n
          for n, c in enumerate(clients): c.say("/all again %d" % n)
          for c in clients: assert sorted(c.messages(6)) == ["again %d" % n for n in range(6)]
          for c in clients: c.echo("nothing behind it")
      a = Server("--name", "a"); b = Server("--name", "b", "--peer", a.url, "--wait", 0); b.says("link up")
      c = Server("--name", "c", "--peer", b.url, "--wait", 0); c.says("link up"); b.says("link up", times=2); check([a, b, c])
      a = Server("--name", "a"); b = Server("--name", "b", "--peer", a.url, "--wait", 0)
      c = Server("--name", "c", "--peer", a.url, "--peer", b.url, "--wait", 0); c.says("link up", times=2); b.says("link up", times=2)
      check([a, b, c])
      # Without the one in the middle nothing comes, and with it again it does.
      for s in (a, b, c): assert s.stop() == 0
      print("right")
      """#)
  }

  /// A peer that is none: it is told once, tried again, and in nobody's way.
  @Test func peersThatAreNone() async throws {
    try await WebSocketWitness.run(
      #"""
      listeners = []
      def fake(answer, then=lambda c: None):
          listener = socket.create_server((LOOPBACK, 0)); dialled = []; listeners.append(listener)
          def serve():
              while True:
                  try: s, _ = listener.accept()
                  except OSError: return
                  dialled.append(time.monotonic()); c = Stream(s, masks=True)
                  try:
                      first, fields = c.head(); c.asked_for = fields
                      c.send(answer(fields) if callable(answer) else answer); then(c); c.ended()
                  except (OSError, EOFError, AssertionError): pass
                  c.close()
          threading.Thread(target=serve, daemon=True).start(); return listener.getsockname()[1], dialled
      def link(fields, **more): return upgraded(fields, protocol=LINK, **more)
      def says(text): return lambda c: c.send(frame(TEXT, text, mask=False))
      cases = [
          (b"SSH-2.0-OpenSSH_9.2\r\nmore\r\n\r\n", None, "does not begin with HTTP/1.1"), (os.urandom(300) + b"\n", None, ""),
          (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", None, "the server answers 404 Not Found"),
          (b"HTTP/1.1 200 OK\r\n\r\n", None, "the server answers 200 OK"), (b"x" * 20000, None, ""),
          (lambda f: link(f, accept=accept_for("x")), None, "its Sec-WebSocket-Accept does not belong"),
          (lambda f: upgraded(f, protocol=""), None, "it is a WebSocket, and no websocket-server"),
          (lambda f: upgraded(f, protocol="chat"), None, "a subprotocol that nobody has asked for"),
          (lambda f: link(f, extra=["Sec-WebSocket-Extensions: permessage-deflate"]), None, "an extension that nobody"),
          (link, says("hello world"), "1008 (policy violation): a hello has an instance and a name"),
          (link, lambda c: c.send(frame(TEXT, "hello 5 x")), "1002 (protocol error): a frame is masked, and a server must not"),
          (link, lambda c: c.s.shutdown(socket.SHUT_WR), "ended without a Close"),
          (link, lambda c: (c.send(closing(1013, b"later\nforged", mask=False)), c.close_frame(), c.close()), "1013 (try again later): later\\nforged")]
      ports = [fake(answer, then or (lambda c: c.close())) for answer, then, _ in cases]; nobody = free_port()
      s = Server(*[w for p, _ in ports for w in ("--peer", "ws://127.0.0.1:%d/ws" % p)], "--peer", "ws://127.0.0.1:%d/ws" % nobody, "--wait", 0)
      good = Client(s); good.echo("x")
      for (p, dialled), (_, _, why) in zip(ports, cases):
          line, = s.says("no link: ws://127.0.0.1:%d/ws: " % p); assert why in line and "tried again" in line, (why, line)
      s.says("no link: ", ":%d: ECONNREFUSED" % nobody)
      # Each is tried again, some time later, and in one line all the same.
      until(lambda: all(len(d) >= 2 for _, d in ports)); assert all(d[1] - d[0] > 0.45 for _, d in ports)
      assert len(s.lines("no link")) == len(cases) + 1 and s.figures()[2] == 0, s.log(); good.echo("y")
      good.say("/all z"); assert good.message() == "z"
      # The server itself.
      p = free_port(); s = Server("--peer", "ws://127.0.0.1:%d/ws" % p, "--wait", 0, port=p)
      s.says("no link", "the other end is this server itself"); c = Client(s); c.say("/all x"); assert c.message() == "x"; c.echo("once")
      assert s.stop() == 0
      print("right")
      """#)
  }

  /// That link alone.
  @Test func wordsOfALinkThatMakeNoSense() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server("--max-message", 1000); good = Client(s); well = Link(s, instance=99, name="well"); s.says("link up: with \"well\"")
      bad = ["", "x", "hello", "hello ", "hello 5", "hello 5 ", "hello x y", "hello 1ffffffffffffffff y", "hello -5 y", "hello 5 a\nb",
             "hello 5 \x1b", "hello 5 " + "x" * 65, "HELLO 5 x", "all 5 1 x\ny", "hello %s itself" % well.instance]
      for text in bad:
          c = Link(s, greets=False); c.say(text); code, reason = c.close_frame(); assert code == 1008 and reason, (text, code, reason)
          assert c.nothing_more(); c.close(); s.says("refused: a link from " + c.address)
      bad = ["", "hello 5 twice", "all", "all 5 1 x", "all 5 0 x\ny", "all 5 -1 x\ny", "all 5 x x\ny", "all x 1 x\ny", "all 5 1\ny",
             "all 5 1 \ny", "all 5 1 " + "x" * 201 + "\ny", "all 5 1 \x07\ny", "all 5 4611686018427387904 x\ny",
             "all 5 18446744073709551616 x\ny", "nothing 5 1 x\ny"]
      for text in bad + [b"all 5 1 x\ny"]:
          c = Link(s, instance=5); c.send(frame(TEXT if isinstance(text, str) else BINARY, text))
          code, reason = c.close_frame(); assert code == 1008 and reason, (text, code)
          assert c.nothing_more(); c.close(); line, = s.says("link down: ", c.address); assert "1008 (policy violation): " + reason in line
      for data, code in ((frame(TEXT, b"all 5 1 x\n\xff"), 1007), (frame(TEXT, "x", mask=False), 1002), (frame(TEXT, length=2000), 1009)):
          c = Link(s, instance=5); c.send(data); assert c.close_frame()[0] == code; c.close(); s.says("link down: ", c.address, "%d (" % code)
      # What makes sense: to clients, and on, but not back to where it came from.
      other = Link(s, instance=0xab, name="an other"); s.says("link up: with \"an other\"")
      well.say("all cd 1 W 1.2.3.4:5\nfirst"); assert good.message() == "first" and other.message() == "all cd 1 W 1.2.3.4:5\nfirst"
      for number, text, is_new in ((1, "twice", False), (5, "fifth", True), (3, "late", True), (3, "twice", False), (5, "twice", False),
                                   (2, "", True), (4, "a\nb", True), (4, "twice", False), (2, "twice", False), (6, "x" * 1000, True)):
          (other if number % 2 else well).say("all cd %d W\n%s" % (number, text))
          if is_new:
              assert good.message() == text; wanted = "all cd %d W\n%s" % (number, text)
              assert (well if number % 2 else other).message() == wanted
      good.say("/all mine"); assert good.message() == "mine"
      for c in (well, other): assert c.message() == "all %s 1 server %s\nmine" % (well.instance, good.address)
      # A text of its own that comes back over another link is no news.
      well.say("all %s 1 server x\nmine again" % well.instance); good.echo("nothing in between")
      assert s.figures()[:3] == [3, 1, 2]
      print("right")
      """#)
  }

  /// Whoever comes late over a slower link is not lost: the first one seen of a server need not be its first.
  @Test func whatIsOvertakenIsDelivered() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); c = Client(s); slow, fast = Link(s, instance=7), Link(s, instance=7); s.says("link up", times=2)
      fast.say("all 7 2 A x\nsecond"); assert c.message() == "second"
      slow.say("all 7 1 A x\nfirst"); slow.say("all 7 2 A x\nsecond"); assert c.message() == "first"; c.echo("nothing behind it")
      print("right")
      """#)
  }

  @Test func theWaitIsKept() async throws {
    try await WebSocketWitness.run(
      #"""
      def waits(seconds, least, most):
          listener = socket.create_server((LOOPBACK, 0)); listener.settimeout(20)
          s = Server("--peer", "ws://127.0.0.1:%d/x?y=1" % listener.getsockname()[1], "--wait", seconds)
          begin = time.monotonic(); c = Stream(listener.accept()[0], masks=True); took = time.monotonic() - begin
          assert least < took < most, (seconds, took); first, fields = c.head(); assert first == "GET /x?y=1 HTTP/1.1", first
          assert fields["sec-websocket-protocol"] == [LINK] and fields["sec-websocket-version"] == ["13"], fields
          assert fields["host"] == ["127.0.0.1:%d" % listener.getsockname()[1]] and "origin" not in fields
          # Another try waits, too, but not so long.
          c.close(); begin = time.monotonic(); listener.accept()[0].close(); assert 0.3 < time.monotonic() - begin < 5
      at_once(lambda: waits(0, -1, 1), lambda: waits(1.5, 1.3, 4), lambda: waits(2, 1.8, 5))
      print("right")
      """#)
  }

  /// What comes faster than a link takes it waits for it: nothing is lost, and neither end waits for the other without end.
  @Test func muchFromBothSides() async throws {
    try await WebSocketWitness.run(
      #"""
      a = Server("--name", "a"); b = Server("--name", "b", "--peer", a.url, "--wait", 0); b.says("link up")
      # One server has more to do for each message than the other, and stands still for a while.
      clients = [Client(s) for s in (a, b)]; listeners = [Client(b) for _ in range(8)]; text = "x" * 30000; count = 400; heard = {}
      def work(c):
          for n in range(count): c.say("/all %s %d %s" % (c.address, n, text))
      def listen(c):
          heard[c] = [c.message()[:-30000] for _ in range(2 * count)]
      def pause(): b.signal(signal.SIGSTOP); time.sleep(1); b.signal(signal.SIGCONT)
      at_once(*[lambda c=c: work(c) for c in clients], *[lambda c=c: listen(c) for c in clients + listeners], pause)
      for c in clients + listeners:
          for sender in clients:
              assert [m for m in heard[c] if m.startswith(sender.address)] == ["%s %d " % (sender.address, n) for n in range(count)]
      for c in clients + listeners: c.echo("nothing behind it")
      assert not a.lines("link down") and not b.lines("link down"), a.lines("link down")
      print("right")
      """#)
  }

  /// A link that takes nothing is given up after a while; only those wait for it whose messages it has to take.
  @Test func aLinkThatNeverReads() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); before = s.memory(); deaf = Link(s, instance=3, name="deaf", small=True); well = Link(s, instance=4, name="well")
      s.says("link up", times=2); c, other = Client(s), Client(s); gone = []; count = 600; begin = time.monotonic()
      def send():
          for n in range(count): c.say("/all %d" % n + "y" * 20000)
      def hear(x):
          for n in range(count): assert x.message().endswith("%d" % n + "y" * 20000), n
      def look():
          until(lambda: time.monotonic() > begin + 2); third = Client(s)
          # Meanwhile all is well with others, and with what comes from the other server.
          for n in range(10): third.echo("x" * n)
          assert s.memory() - before < 16384; begun = s.figures(); assert begun[2] == 2 and begun[4] < 1 << 20, begun
          third.close(); s.says("link down"); gone.append(True)
      at_once(send, lambda: hear(c), lambda: hear(other), lambda: hear(well), look)
      line, = s.lines("link down"); assert '"deaf"' in line and "1008 (policy violation): it has read nothing for 5 seconds" in line, line
      for x in (c, other): x.echo("x")
      assert s.memory() - before < 16384; assert s.figures()[:3] == [3, 2, 1], s.figures()
      print("right")
      """#)
  }
}
