import TestSupport
import Testing

/// Contact servers among themselves, and beside one that is written in Python.
@Suite(.enabled(if: Witness.havePython)) struct ContactServerReplicationTests {
  @Test func twoAndThreeInALine() throws {
    try ContactWitness.run(
      #"""
      # Two; what was there before they knew each other, and what comes after.
      a = Server("--journal", "a", name="a"); Client(a).put("a", "before", "1")
      b = Server("--journal", "b", "--peer", "%s:%d" % (LOOPBACK, a.port), name="b")
      Client(b).put("b", "before", "1")
      ca, cb = Client(a), Client(b); ca.put("a", "after", "2"); cb.put("b", "after", "2")
      agree([a, b], {("a", "before"): "1", ("b", "before"): "1", ("a", "after"): "2", ("b", "after"): "2"})
      # An Update made after a ListAll wins over what that has shown, wherever it was made.
      for n in range(20):
          (ca, cb)[n % 2].put("who", "last", str(n)); agree([a, b]); assert ca.list()["who", "last"] == str(n)
      # Three in a line.
      c = Server("--journal", "c", "--peer", "%s:%d" % (LOOPBACK, b.port), name="c"); cc = Client(c)
      for n in range(100):
          ca.update("a", str(n), "a"); cc.update("c", str(n), "c"); ca.update("both", str(n), "a")
          cc.update("both", str(n), "c")
      book = agree([a, b, c]); assert len(book) == 305, len(book)
      # Where all is said nothing is sent any more, but HeartBeats; and what they know outlives all of them.
      ticks = [s.ticks() for s in (a, b, c)]; time.sleep(0.5)
      assert all(s.ticks() - t < 10 for s, t in zip((a, b, c), ticks))
      for s in (a, b, c): s.kill()
      for path in "abc": s = Server("--journal", path); assert s.list() == book; s.kill()
      print("right")
      """#)
  }

  /// Two links, one of them to oneself; one is started before the others, and one comes back.
  @Test func eachListsTheOtherAndItself() throws {
    try ContactWitness.run(
      #"""
      # Each lists the other, and itself by mistake: two links, and one to itself.
      pa, pb = free_port(), free_port()
      peers = ["--peer", "%s:%d" % (LOOPBACK, pa), "--peer", "%s:%d" % (LOOPBACK, pb)]
      b = Server("--journal", "b", "--port", pb, *peers, name="b")
      b.says("peer not reached: connect %s:%d: ECONNREFUSED" % (LOOPBACK, pa), "tried again and again")
      cb = Client(b); cb.put("b", "early", "1")
      a = Server("--journal", "a", "--port", pa, *peers, name="a"); ca = Client(a); ca.put("a", "early", "1")
      agree([a, b], {("a", "early"): "1", ("b", "early"): "1"})
      b.says("link up: with %s:%d, which was dialled" % (LOOPBACK, pa)); a.says("link up", "'b'")
      def write(c, name):
          for n in range(500): c.update("both", str(n % 50), name + str(n)); n % 100 or c.list()
      threads = [threading.Thread(target=write, args=x) for x in ((ca, "a"), (cb, "b"))]
      for t in threads: t.start()
      for t in threads: t.join()
      book = agree([a, b]); assert len(book) == 52
      ticks = [s.ticks() for s in (a, b)]; time.sleep(0.5)
      assert all(s.ticks() - t < 10 for s, t in zip((a, b), ticks))
      # One is killed, and the other goes on; the link is there again when it is.
      a.kill(); cb.put("b", "alone", "1"); a = Server("--journal", "a", "--port", pa, *peers, name="a")
      agree([a, b], {**book, ("b", "alone"): "1"})
      print("right")
      """#)
  }

  @Test func tiesAreResolvedAlike() throws {
    try ContactWitness.run(
      #"""
      # The same clock and different phones, to two servers: both take the larger one, by bytes.
      a = Server("--journal", "a", name="a"); pa = Peer.to(a)
      b = Server("--journal", "b", name="b"); pb = Peer.to(b)
      pairs = [("1", "2"), ("9", "10"), ("12", "123"), ("z", "\u00e9"), ("\uffee", "\U0001f600"), ("a" * 19, "a" * 20)]
      wanted = {}
      for n, (x, y) in enumerate(pairs):
          if n % 2: x, y = y, x
          pa.send(server_update(7, "tie", str(n), x)); pb.send(server_update(7, "tie", str(n), y))
          wanted["tie", str(n)] = max(x, y, key=str.encode)
      # A larger clock wins over a larger phone.
      pa.send(server_update(8, "no tie", "x", "1")); pb.send(server_update(7, "no tie", "x", "2"))
      wanted["no tie", "x"] = "1"
      until(lambda: len(a.list()) == len(b.list()) == 7)
      c = Server("--in-memory", "--peer", "%s:%d" % (LOOPBACK, a.port), "--peer", "%s:%d" % (LOOPBACK, b.port))
      agree([a, b, c], wanted)
      # Those that know it already send it no further; an older one changes nothing.
      until(lambda: pa.count("update") + pb.count("update") >= 7)
      pa.send(b"".join(server_update(clock, "no tie", "x", phone) for clock, phone in ((6, "9"), (8, "1"), (8, "0"))))
      pa.send(heartbeat(8)); pa.wait("clock", 8)
      assert agree([a, b, c]) == wanted
      print("right")
      """#)
  }

  /// The rules for HeartBeat, UpdateClock and AskForUpdate, as another server sees them.
  @Test func clocksAndHeartBeats() throws {
    try ContactWitness.run(
      #"""
      s = Server("--journal", "j"); c = Client(s)
      for n in range(10): c.put("x", "y", str(n))
      p = Peer.to(s, book=None); p.wait("ask"); p.wait("heartbeat", 1, 10); p.send(answer([]))
      def say(data, *wanted):
          # What comes back, up to the answer to a question that is put behind it.
          p.place = len(p.heard); start = p.place; p.send(data + ASK); p.wait("answer")
          got = [m for m in p.heard[start:p.place - 1] if m[0] != "heartbeat"]
          assert got == list(wanted), (got, wanted)
      say(heartbeat(5), ("clock", 10)); say(heartbeat(10), ("clock", 10)); say(heartbeat(0), ("clock", 10))
      say(heartbeat(20), ("ask",))
      # One question at a time.
      say(heartbeat(25)); say(heartbeat(25), ("clock", 25)); p.send(answer([])); say(heartbeat(26), ("ask",))
      p.send(answer([]))
      # UpdateClock is not answered, and never makes a clock smaller.
      say(update_clock(30)); say(update_clock(3)); say(heartbeat(30), ("clock", 30))
      c.put("x", "y", "z"); p.wait("update", 31, "x", "y", "z")
      # It takes an Update's clock for its own, and the Update keeps it.
      q = Peer.to(s); q.wait("ask"); p.send(server_update(50, "p", "q", "1")); q.wait("update", 50, "p", "q", "1")
      c.put("x", "y", "zz"); p.wait("update", 51, "x", "y", "zz"); q.wait("update", 51)
      assert not [m for m in p.heard if m[:3] == ("update", 50, "p")]
      p.send(server_update(40, "late", "x", "1")); q.wait("update", 40, "late"); say(heartbeat(50), ("clock", 51))
      # Records of an answer are taken, and go on, as Updates do.
      say(heartbeat(60), ("ask",)); p.send(answer([(55, "r", "s", "1"), (70, "r", "t", "1")]))
      q.wait("update", 55, "r", "s", "1"); q.wait("update", 70, "r", "t", "1")
      p.send(ASK); book = {(u, n): f for clock, u, n, f in p.wait("answer")[1]}; assert book == c.list(), book
      # HealthStatus is told in the log.
      p.send(heartbeat(70, 2)); s.says("peer health", "degraded"); p.send(heartbeat(70, 3))
      s.says("peer health", "stopping")
      # At the end it says so, and is gone.
      c.close(); before = time.monotonic(); s.process.send_signal(signal.SIGTERM); p.wait("heartbeat", 3)
      q.wait("heartbeat", 3, 70); assert s.process.wait(20) == 0 and time.monotonic() - before < 8
      until(lambda: p.end and q.end)
      print("right")
      """#)
  }

  @Test func anAnswerIsOneRunOfBytes() throws {
    try ContactWitness.run(
      #"""
      # An answer is one run of bytes, whatever happens while it is sent; the Updates come behind it.
      s = Server("--in-memory", "--heartbeat", "0.1"); c = Client(s)
      c.fill([("u", str(n), "old") for n in range(20000)]); c.list()
      p = Peer.to(s, small=True, reads=False); p.beat(); p.send(ASK * 3); time.sleep(0.3)
      for n in range(0, 20000, 100): c.update("u", str(n), "new")
      for n in range(50): c.update("v", str(n), "1")
      c.list(); time.sleep(0.3); p.thread.start(); p.wait("update", 20250); p.wait("heartbeat", 1, 20250)
      book = c.list()
      answers = [m[1] for m in p.heard if m[0] == "answer"]; assert len(answers) == 3
      # A snapshot each, of before.
      for records in answers: assert len(records) == 20000 and all(f == "old" for _, _, _, f in records)
      after = {}
      for m in p.heard[max(n for n, m in enumerate(p.heard) if m[0] == "answer"):]:
          if m[0] == "update": after[m[2], m[3]] = m[4]
      assert {**{(u, n): f for _, u, n, f in answers[0]}, **after} == book and len(after) == 250
      # A contact that has changed often while nobody read is sent once.
      assert p.count("update") <= 500
      print("right")
      """#)
  }

  @Test func aClockThatIsTooFarAhead() throws {
    try ContactWitness.run(
      #"""
      lead = 1 << 28
      def an_update(clock): return server_update(clock, "a", "b", "9")
      def an_answer(clock): return answer([(clock, "a", "b", "9")])
      for kind in (heartbeat, update_clock, an_update, an_answer):
          s = Server("--in-memory"); c = Client(s); c.put("a", "b", "1")
          p = Peer.to(s, book=None); p.wait("ask"); p.send(kind(1 + lead) + ASK); p.wait("answer")
          p.send(heartbeat(0)); p.wait("clock", 1 + lead)
          c.put("a", "b", "1"); p.send(heartbeat(0)); p.wait("clock", 2 + lead); p.close()
          # One more than what is allowed.
          p = Peer.to(s, book=None); p.wait("ask"); p.send(kind(3 + 2 * lead)); until(lambda: p.end is not None)
          s.says("link down", "its clock, %d, is more than %d ahead of this one's, %d" % (3 + 2 * lead, lead, 2 + lead))
          assert c.list() == {("a", "b"): "1"}; s.kill()
          # An empty book believes all; and at its maximum the clock stands.
          s = Server("--in-memory"); p = Peer.to(s, book=None); p.wait("ask"); p.send(kind(2 ** 32 - 1) + ASK)
          p.wait("answer"); p.send(heartbeat(0)); p.wait("clock", 2 ** 32 - 1); c = Client(s); book = c.list()
          assert c.put("x", "y", "1") == book
          s.says("update refused", "x/y = 1", "the clock is at its maximum, 4294967295"); p.send(ASK)
          p.wait("answer"); s.kill()
      print("right")
      """#)
  }

  /// It is closed, and dialled again: later and later, until a command has come.
  @Test func aSilentLink() async throws {
    try await ContactWitness.runBeside(
      #"""
      listener = socket.create_server((LOOPBACK, 0)); address = "%s:%d" % listener.getsockname()
      s = Server("--in-memory", "--heartbeat", "0.3", "--peer", address)
      busy = Peer.to(s); busy.beat(0.2); quiet = dial(s.port); quiet.sendall(hello(1)); began = time.monotonic()
      # Any byte ends the silence, also that of a message that is not whole.
      slow = dial(s.port); slow.sendall(hello(1))
      def trickle():
          try:
              for b in heartbeat(0) * 20: slow.send(bytes([b])); time.sleep(0.3)
          except OSError: pass
      threading.Thread(target=trickle, daemon=True).start()
      ended(quiet); assert 0.85 < time.monotonic() - began < 10
      s.says("link down", "it is silent for three HeartBeats' time, 0.9 seconds")
      def visit(say=b""):
          c, _ = listener.accept(); at = time.monotonic(); c.settimeout(20); assert take(c, 257) == hello(1, "alpha")
          c.sendall(say); ended(c); end = time.monotonic(); c.close(); return at, end
      # The first one is in the past, perhaps.
      visits = [visit() for _ in range(4)]; gaps = [b[0] - a[1] for a, b in zip(visits, visits[1:])]
      # 0.5 s; 0.5 to 1 s; 1 to 2 s.
      assert gaps[0] > 0.45 and gaps[1] > 0.45 and gaps[2] > 0.95, gaps
      assert all(0.8 < end - at < 10 for at, end in visits[1:]), visits
      # It is well once more: the next wait is a short one, where it would be 4 s at least.
      a = visit(heartbeat(0)); b = visit(); assert 0.45 < b[0] - a[1] < 3.5, b[0] - a[1]
      assert busy.end is None and slow.send(b"x"); until(lambda: len(s.lines("peer not reached", address, "is silent for three", "is that a contact-server?")) >= 5)
      assert len(s.lines("link up", address)) == len(s.lines("link down", address)) == 1
      print("right")
      """#)
  }

  @Test func aLinkThatCannotBeWatched() throws {
    try ContactWitness.run(
      #"""
      # Where a descriptor cannot be watched a server does not start, or what it was for is tried again.
      def one(n):
          listener = socket.create_server((LOOPBACK, 0)); address = "%s:%d" % listener.getsockname()
          fault = "epoll_ctl:errno=ENOSPC:when=%d" % n
          try: s = Server("--in-memory", "--peer", address, within=[FOLLOW, "-o", "/dev/null", "--inject", fault, "--"])
          except AssertionError as error: assert "contact-server: epoll_ctl" in str(error), error; return
          listener.settimeout(20); started.append(n)
          while True:
              c, _ = listener.accept(); c.settimeout(20)
              try: take(c, 258); break
              except (EOFError, ConnectionResetError): pass
      started = []; at_once(*[lambda n=n: one(n) for n in range(7, 14)]); assert len(started) >= 3, started
      print("right")
      """#)
  }

  /// Reading never waits for writing.
  @Test func twoBooksAtOnce() throws {
    try ContactWitness.run(
      #"""
      # Two books at once, and one does not read while it sends, with small buffers: nobody waits for ever.
      s = Server("--journal", "j"); c = Client(s); c.fill([("server", "contact %d" % n, "1") for n in range(20000)])
      assert len(c.list()) == 20000
      p = Peer.to(s, small=True, reads=False, book=None); p.s.settimeout(60)
      p.send(ASK + answer([(n + 1, "python", "contact %d" % n, "1") for n in range(20000)]))
      p.thread.start(); records = p.wait("answer")[1]
      assert len(records) == 20000 and all(r[1] == "server" for r in records)
      p.wait("ask", anywhere=True); assert len(c.list()) == 40000
      # What came from it does not go back.
      p.send(heartbeat(20000)); p.wait("clock", 20000); assert p.count("update") == 0
      # Two servers do the same among themselves.
      b = Server("--in-memory"); cb = Client(b); cb.fill([("b", "contact %d" % n, "1") for n in range(20000)])
      cb.list()
      q = Server("--in-memory", "--peer", "%s:%d" % (LOOPBACK, s.port), "--peer", "%s:%d" % (LOOPBACK, b.port))
      assert len(agree([s, b, q])) == 60000
      print("right")
      """#)
  }

  /// Three servers in three networks; one is cut off, all go on, and agree when it is back.
  @Test(.enabled(if: Privilege.isRoot)) func aNetworkThatIsCutInTwo() throws {
    try ContactWitness.run(
      #"""
      import ctypes
      libc = ctypes.CDLL(None, use_errno=True)
      def command(*words): subprocess.run([str(w) for w in words], check=True)
      def within(pid, body):
          # In the network of a process: a socket stays in the one where it was made.
          result = []
          def run():
              with open("/proc/%d/ns/net" % pid) as f:
                  assert libc.setns(f.fileno(), 0x40000000) == 0, ctypes.get_errno()
              result.append(body())
          t = threading.Thread(target=run); t.start(); t.join(); return result[0]
      # This process is in a network of its own, which is the switch between three others. They have no names, and are gone
      # with their processes.
      command("ip", "link", "add", "switch", "type", "bridge"); command("ip", "link", "set", "switch", "up")
      homes = []
      for n in range(3):
          home = subprocess.Popen(["unshare", "-n", "sleep", "600"]); own = os.readlink("/proc/self/ns/net")
          until(lambda: os.readlink("/proc/%d/ns/net" % home.pid) != own); homes.append(home)
          cable = "cable%d" % n
          command("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", home.pid)
          command("ip", "link", "set", cable, "master", "switch", "up")
          inside = ["nsenter", "-t", home.pid, "-n", "ip"]; command(*inside, "link", "set", "lo", "up")
          command(*inside, "addr", "add", "10.9.0.%d/24" % (n + 1), "dev", "eth0")
          command(*inside, "link", "set", "eth0", "up")
      hosts = ["10.9.0.%d" % (n + 1) for n in range(3)]
      def start(n):
          peers = [word for m in range(3) if m != n for word in ("--peer", hosts[m] + ":4000")]
          return Server(
              "--journal", "j%d" % n, "--host", "0.0.0.0", "--port", 4000, "--heartbeat", "0.3", *peers, name="abc"[n],
              within=["nsenter", "-t", str(homes[n].pid), "-n"])
      servers = [start(n) for n in range(3)]
      clients = [within(home.pid, lambda: Client(4000)) for home in homes]
      def books(): return [c.list() for c in clients]
      def same(wanted): until(lambda: all(b == wanted for b in books()), lambda: books(), 60)
      book = {}
      for n, c in enumerate(clients): c.put("at first", str(n), "1"); book["at first", str(n)] = "1"
      same(book)
      command("ip", "link", "set", "cable0", "down")
      # Both sides go on without the other; the one that is cut off and the other two change the same contacts, too.
      for n, c in enumerate(clients):
          for m in range(30):
              c.update("meanwhile %d" % n, str(m), str(n)); c.update("all", str(m), str(n))
              book["meanwhile %d" % n, str(m)] = str(n)
          c.list()
      side = {k: v for k, v in book.items() if k[0] != "meanwhile 0"}
      until(lambda: (b := books())[1] == b[2] and len(b[1]) == len(side) + 30, lambda: books())
      # The one that is cut off has had fewer Updates: what it wrote loses. What it writes last does not: its clock is the
      # largest then.
      for m in range(200): clients[0].update("all", "last", str(m))
      clients[0].list(); servers[0].says("link down", "silent for three HeartBeats")
      servers[1].says("link down", hosts[0], "silent for three HeartBeats")
      assert len(books()[0]) == 3 + 30 + 31 and len(books()[1]) == 3 + 60 + 30
      command("ip", "link", "set", "cable0", "up")
      def whole():
          b = books(); return b[0] == b[1] == b[2] and len(b[0]) == 3 + 90 + 31 and [b[0]]
      end, = until(whole, lambda: [len(b) for b in books()], 60)
      assert all(end[k] == v for k, v in book.items()) and end["all", "last"] == "199"
      for s in servers: assert s.process.poll() is None
      for c in clients: c.put("after", "it", "1")
      print("right")
      for x in homes: x.kill()
      """#)
  }
}
