import TestSupport
import Testing

/// Many at once, and some of them strange.
@Suite(.enabled(if: Witness.havePython)) struct ContactServerLoadTests {
  /// A thousand idle ones, slow ones and noisy ones hold nobody up.
  @Test func aCrowd() throws {
    try ContactWitness.run(
      #"""
      hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
      s = Server("--journal", "j"); idle = []
      for n in range(1000):
          c = dial(s.port); idle.append(c)
          if n % 2: c.sendall(hello())
      slow = [dial(s.port) for _ in range(50)]; stop = threading.Event()
      def crawl():
          data = hello() + update("slow", "x", "1")
          for b in data:
              for c in slow: c.send(bytes([b]))
              if stop.wait(0.1): return
      count = 0
      def garble():
          global count
          sockets = []
          while not stop.is_set():
              sockets = [dial(s.port) for _ in range(50)]
              for n, c in enumerate(sockets):
                  data = os.urandom(2000); count += 1
                  try: c.sendall(data if n % 3 == 0 else hello() + data if n % 3 == 1 else hello(1) + data); c.close()
                  except OSError: pass
      def good():
          c = Client(s); book = {}
          for n in range(200):
              key = "good", str(n % 20); book[key] = str(n); assert c.put(*key, str(n)) == book
      begin = time.monotonic()
      try: at_once(lambda: (good(), stop.set()), crawl, garble)
      finally: stop.set()
      took = time.monotonic() - begin; assert took < 60, took; assert count >= 50
      assert all(c.getpeername() for c in idle); assert len(s.list()) == 20
      print("right")
      """#)
  }

  /// Clients that ask for all contacts and never read cost little, also where all contacts change meanwhile.
  @Test func theDeaf() throws {
    try ContactWitness.run(
      #"""
      contacts = 50000; s = Server("--journal", "j"); c = Client(s)
      def size(c): c.s.sendall(LIST); n = struct.unpack(">I", take(c.s, 4))[0]; take(c.s, 532 * n); return n
      def change(phone):
          c.fill([("user %d" % (n % 100), "contact %d" % n, phone) for n in range(contacts)])
          assert size(c) == contacts
      change("1"); before = s.memory(); deaf = []
      def listen(count):
          # What they get is settled when its first bytes come.
          for _ in range(count):
              d = dial(s.port); d.sendall(hello() + LIST * 3 + update("deaf", "x", "1") * 20); deaf.append(d)
              assert take(d, 4) == struct.pack(">I", contacts)
      listen(20); assert size(c) == contacts; after = s.memory(); assert after < 2 * before, (before, after)
      # They change, and those who do not read have asked for what was there before, each time for something else; one that
      # says it is a server does so, too, and is not silent.
      p = Peer.to(s, small=True, reads=False); p.beat(1); p.send(ASK); s.says("book asked for"); most = after
      for phone in "2345678": listen(3); change(phone); most = max(most, s.memory())
      assert most < 2 * before + 48 * 1024, (before, most)
      book = c.list(); assert len(book) == contacts and set(book.values()) == {"8"}
      c.update("user 0", "contact 0", "new"); assert s.list()["user 0", "contact 0"] == "new"
      # So much is kept for them, and no more: those who have waited longest are given up, as many as it takes. The others get
      # what was there when they asked.
      reason = "it does not read the contacts that it has asked for, and they change meanwhile"
      until(lambda: len(s.lines("connection refused", reason)) >= 20)
      lost = s.lines(reason); assert len(lost) < 30, len(lost)
      for n, d in enumerate(deaf):
          if n not in (3, 30, 40): continue
          if n == 3:
              try: take(d, 532 * contacts); raise AssertionError("it got all of it")
              except (EOFError, ConnectionResetError): continue
          data = take(d, 532 * contacts)
          wanted = b"%d\0" % (1 + (n - 20) // 3)
          assert {data[place + 512:place + 514] for place in range(0, len(data), 532)} == {wanted}, n
      # A server's turn comes, too: when, what its kernel still takes decides.
      for n in range(20):
          if s.lines("link down", "'python'", reason): break
          listen(3); change("x%d" % n)
      s.says("link down", "'python'", reason)
      print("right")
      """#)
  }
}
