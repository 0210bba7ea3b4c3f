import TestSupport
import Testing

/// Nobody is closed, starved or short of a byte because of what somebody else does.
@Suite(.enabled(if: Witness.havePython)) struct WebSocketNeighbourTests {
  /// Large and small in one go, for all: who reads gets all of it.
  @Test func aLargeMessageForAllAndASmallOne() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); good = [Client(s) for _ in range(5)] + [Client(s, protocols=NAMED)]; sender = Client(s)
      large = "x" * 1200000
      for size in (len(large), 16 << 20):
          large = "x" * (size - 5)
          def hear(c):
              for text in (large, "tiny"):
                  got = c.message(); assert got == text or got.endswith("\n" + text), (len(got), got[:60])
          at_once(lambda: sender.send(frame(TEXT, "/all " + large), frame(TEXT, "/all tiny")),
                  *[lambda c=c: hear(c) for c in good + [sender]])
      for c in good: c.echo("still here")
      assert not s.lines("client lost"), s.log()
      print("right")
      """#)
  }

  /// Tiny ones from several, as fast as they are taken; one who reads, and one who asks for something else meanwhile.
  @Test func aFloodOfTinyMessagesForAll() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); senders = [Client(s) for _ in range(6)]; reader = Client(s, protocols=NAMED); other = Client(s)
      idle = [Client(s) for _ in range(100)]; each = 3000; longest = 0
      def read(c, count):
          for _ in range(count): c.message()
      def ask():
          global longest
          # It gets the messages for all, too: its own answers stand among them.
          seen = asked = 0
          while seen < 6 * each:
              begin = time.monotonic(); other.say("echo %d" % asked)
              while True:
                  text = other.message()
                  if text == "echo %d" % asked: break
                  assert text == "x"; seen += 1
              longest = max(longest, time.monotonic() - begin); asked += 1
      def send(c): c.send(*[frame(TEXT, "/all x")] * each)
      at_once(ask, lambda: read(reader, 6 * each), *[lambda c=c: send(c) for c in senders],
              *[lambda c=c: read(c, 6 * each) for c in senders + idle])
      assert longest < 10, longest
      reader.echo("whole"); assert not s.lines("client lost"), s.log()
      print("right")
      """#)
  }

  /// A small question behind a large one waits for the large answer, and is answered; so is a Ping, and a Close behind which the
  /// client sends no more.
  @Test func questionsBehindALargeOne() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); large = os.urandom(16 << 20)
      c = Client(s)
      at_once(lambda: c.send(frame(BINARY, large), frame(TEXT, "hello"), frame(PING, b"ping"), closing(1000)))
      c.s.shutdown(socket.SHUT_WR)
      # Only what waits here proves anything: much of it cannot be in the kernel yet.
      time.sleep(1)
      assert c.message() == large and c.message() == "hello" and c.pong() == b"ping" and c.close_frame() == (1000, "")
      assert c.nothing_more(); s.says("client left: " + c.address, "1000 (normal)")
      print("right")
      """#)
  }

  /// A client that reads slowly is waited for, also where it has said Close already, and where the server ends.
  @Test func whoReadsSlowly() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); large = os.urandom(16 << 20)
      def slowly(c):
          begin = time.monotonic(); got = bytearray(c.buffer)
          while True:
              data = c.s.recv(120000)
              if not data: return got, time.monotonic() - begin
              got += data; time.sleep(0.05)
      c = Client(s, small=True); c.send(frame(BINARY, large), closing(1000)); got, took = slowly(c)
      assert took > 5 and len(got) == len(large) + 10 + 4 and got[10:-4] == large, (took, len(got))
      s.says("client left: " + c.address, "1000 (normal)")
      # Ten seconds it waits at most.
      large = large[:6 << 20]; c = Client(s, small=True); c.send(frame(BINARY, large)); s.says("message: ", c.address); s.signal(signal.SIGINT)
      got, took = slowly(c)
      assert got[10:10 + len(large)] == large and b"\x03\xe9" in got[-20:], (took, len(got))
      assert s.ends() == 0
      print("right")
      """#)
  }

  /// Many who read nothing share a large message, and who holds most goes where there is too much: not whoever comes next.
  @Test func memory() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); before = s.memory(); deaf = [Client(s, small=True) for _ in range(60)]; sender = Client(s)
      sender.say("/all " + "x" * ((16 << 20) - 5)); assert len(sender.message()) == (16 << 20) - 5
      assert s.memory() - before < 100 << 10, (before, s.memory())
      for c in deaf: c.close()
      # The last of them holds the message alone, and so most of all: until the server has seen it go.
      until(lambda: s.figures()[0] == 1, "that the deaf have gone")
      until(lambda: s.figures()[4] == 0, lambda: "nothing held: %s" % s.figures())
      hoarders = [Client(s) for _ in range(34)]
      part = frame(BINARY, os.urandom(16 << 20))[:-1]
      for c in hoarders: c.send(part)
      until(lambda: s.lines("1013 (try again later)"), "somebody who goes")
      c = Client(s); c.echo("y" * 300000)
      line = s.lines("1013 (try again later)")[0]; assert any(h.address in line for h in hoarders), line
      assert s.memory() - before < 700 << 10, s.memory()
      print("right")
      """#)
  }

  /// A link says what it likes: a server's own messages come from nowhere else, and no page is a server.
  @Test func whoPretends() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); c = Client(s); c.say("/all one"); assert c.message() == "one"
      link = Link(s, instance=7); s.says("link up")
      link.say("all %s %d B x\nboo" % (link.instance, (1 << 62) - 1)); link.say("all 7 4611686018427387903 B x\nfar")
      assert c.message() == "far"
      for text in ("two", "three"): c.say("/all " + text); assert c.message() == text
      link.say("all 7 1 B x\nnear"); assert c.message() == "near"
      link.say("all 7 1 B x\nnear"); c.echo("once")
      raw = Raw(s); status, _, body = raw.answer(request(Sec_WebSocket_Protocol=LINK, Host="127.0.0.1:%d" % s.port, Origin="http://127.0.0.1:%d" % s.port))
      assert status == 403 and "link" in body, (status, body)
      print("right")
      """#)
  }
}
