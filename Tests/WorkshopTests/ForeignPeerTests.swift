import Foundation
import TestSupport
import Testing

/// The solutions of lessons 13 to 18 are contact servers: they speak with contact-server and contact-client, and with a peer that is
/// written in Python, from the protocol's tables.
@Suite(.serialized, .enabled(if: Witness.havePython)) struct ForeignPeerTests {
  private static let journals = ["14-contact-book/solution2"] + links
  private static let links = ["15-replication/solution"] + whole
  private static let whole = ["15-replication/solution2", "16-upgrade/solution", "17-frames/solution", last]
  private static let last = "18-two-servers/solution"

  /// A journal of its is contact-server's, too; what a crash has torn is cut off, and what is damaged is left alone.
  @Test(arguments: journals) func itsJournalIsOurs(solution: String) throws {
    try run(
      [solution],
      #"""
      s = Own("j"); c = Client(s)
      for n in range(100): c.update("u", str(n % 10), str(n))
      book = c.list(); s.kill(); assert book == {("u", str(n)): str(90 + n) for n in range(10)}
      s = Own("j"); assert s.list() == book; r = run(OWN[0], free_port(), "j"); assert r.returncode == 1, r; s.kill()
      size = os.path.getsize("j"); assert size == 20 + 540 * 100, size
      # Torn anywhere, the header too; then appended to.
      whole = open("j", "rb").read()
      for n in (1, 300, 539):
          open("j", "ab").write(whole[20:20 + n]); s = Own("j"); assert s.list() == book and os.path.getsize("j") == size; s.kill()
      for n in (0, 1, 19, 20): open("k", "wb").write(whole[:n]); s = Own("k"); s.kill(); assert os.path.getsize("k") == 20
      r = Server("--journal", "j"); assert r.list() == book; Client(r).put("ours", "x", "1"); r.kill()
      s = Own("j"); book["ours", "x"] = "1"; assert s.list() == book; Client(s).put("its", "x", "1"); s.kill()
      r = Server("--journal", "j"); book["its", "x"] = "1"; assert r.list() == book; r.kill()
      for data in (whole[:2700] + b"x" + whole[2701:], b"something else", b"x" * 2000):
          open("k", "wb").write(data); r = run(OWN[0], free_port(), "k")
          assert r.returncode == 1 and r.stderr and open("k", "rb").read() == data, r
      """#)
  }

  /// What two servers say to each other about clocks, and what is refused.
  @Test(arguments: links) func aPeerInPython(solution: String) throws {
    try run(
      [solution],
      #"""
      s = Own("j"); c = Client(s); p = Peer(dial(s.port)); p.send(heartbeat(0)); p.wait("clock", 0)
      for n in range(10): c.update("x", "y", str(n))
      c.list(); p.wait("update", 10, "x", "y", "9")
      p.send(heartbeat(5)); p.wait("clock", 10); p.send(heartbeat(20) + heartbeat(20)); p.wait("clock", 20)
      p.send(update_clock(30) + update_clock(3) + heartbeat(0)); p.wait("clock", 30)
      # Clocks, ties, and what changes nothing; in pieces.
      data = b"".join(server_update(clock, "p", "q", f) for clock, f in ((50, "1"), (50, "3"), (50, "2"), (49, "9")))
      for n in range(0, len(data), 99): p.send(data[n:n + 99])
      p.send(ASK); assert sorted(p.wait("answer")[1]) == [(10, "x", "y", "9"), (50, "p", "q", "3")]
      c.put("x", "y", "z"); p.wait("update", 51, "x", "y", "z")
      lead = 1 << 28
      for bad in (heartbeat(1, 0), heartbeat(1, 4), b"\5", heartbeat(52 + lead), server_update(52, "", "b", "c")):
          q = Peer(dial(s.port)); q.send(bad); until(lambda: q.end is not None)
      q = Peer(dial(s.port)); q.send(heartbeat(51 + lead) + heartbeat(0)); q.wait("clock", 51 + lead)
      # It reads also while it cannot write; and who asks and asks, and reads nothing, is sent away.
      c.fill([("u", str(n), "x") for n in range(20000)]); assert len(c.list()) == 20002
      z = Peer(dial(s.port), reads=False); z.send(ASK + b"".join(server_update(1, "v", str(n % 500), "x") for n in range(20000)))
      z.send(heartbeat(0)); z.thread.start(); z.wait("clock"); assert len(z.wait("answer", anywhere=True)[1]) == 20002
      z = Peer(dial(s.port), reads=False); z.send(ASK * 40); z.thread.start(); until(lambda: z.end is not None)
      assert len(c.list()) == 20502
      # At its maximum the clock stands.
      m = Own("max"); p = Peer(dial(m.port)); p.send(heartbeat(2 ** 32 - 1) + heartbeat(1)); p.wait("clock", 2 ** 32 - 1)
      assert Client(m).put("a", "b", "c") == {}
      """#)
  }

  /// contact-server dials it: both say what is new, and both are killed in between.
  @Test(arguments: links) func oursDialsIt(solution: String) throws {
    try run(
      [solution],
      #"""
      s = Own("own"); r = Server("--journal", "ours", "--heartbeat", "0.5", "--peer", at(s)); c, rc = Client(s), Client(r)
      # The first stage answers questions, and asks none.
      asks = SOLUTION != "15-replication/solution"
      c.put("from", "own", "1"); until(lambda: ("from", "own") in rc.list())
      rc.put("from", "ours", "1"); agree([s, r], {("from", "own"): "1", ("from", "ours"): "1"})
      for n in range(20): (rc, c)[n % 2].put("who", "last", str(n)); assert agree([s, r])["who", "last"] == str(n)
      book = s.list(); port = s.port; s.kill(); rc.put("meanwhile", "ours", "1")
      s = Own("own", port); c = Client(s); assert all(s.list()[k] == v for k, v in book.items())
      if asks: assert ("meanwhile", "ours") in agree([s, r])
      r.kill(); c.put("meanwhile", "own", "1"); r = Server("--journal", "ours", "--peer", at(s))
      until(lambda: ("meanwhile", "own") in r.list())
      if not asks: done()
      agree([s, r])
      # Three in a line, it in the middle: everything goes on, and then it is quiet.
      b = Server("--in-memory", "--peer", at(s)); clients = [Client(x) for x in (s, r, b)]
      def write(c, name):
          for n in range(300): c.update("both", str(n % 20), name + str(n)); n % 100 or c.list()
          c.list()
      at_once(*[lambda c=c, n=n: write(c, n) for c, n in zip(clients, "srb")]); assert len(agree([s, r, b])) == 25
      ticks = [x.ticks() for x in (s, r, b)]; time.sleep(0.5)
      assert all(x.ticks() - t < 10 for x, t in zip((s, r, b), ticks))
      """#)
  }

  /// It dials contact-server, and itself; each lists the other; one is not there at first, and both are killed in between.
  @Test func itDialsOurs() throws {
    try run(
      [Self.last],
      #"""
      po, pr = free_port(), free_port()
      s = Own("own", po, [po, pr]); c = Client(s); c.put("own", "early", "1"); time.sleep(0.5)
      def start(): return Server("--journal", "ours", "--port", pr, "--heartbeat", "0.5", "--peer", at(s), "--peer", "127.0.0.1:%d" % pr)
      r = start(); rc = Client(r); rc.put("ours", "early", "1"); agree([s, r], {("own", "early"): "1", ("ours", "early"): "1"})
      def write(c, name):
          for n in range(300): c.update("both", str(n % 20), name + str(n)); n % 100 or c.list()
          c.list()
      at_once(lambda: write(c, "own"), lambda: write(rc, "ours")); assert len(agree([s, r])) == 22
      ticks = s.ticks(); time.sleep(0.5); assert s.ticks() - ticks < 10
      r.kill(); c.put("alone", "own", "1"); r = start(); assert ("alone", "own") in agree([s, r]); rc = Client(r)
      s.kill(); rc.put("alone", "ours", "1"); s = Own("own", po, [pr]); assert ("alone", "ours") in agree([s, r])
      # Two of its kind.
      t = Own("third", None, [po]); Client(t).put("third", "x", "1"); agree([s, t, r])
      # One that hangs is closed after three HeartBeats; a stopped server comes back.
      r.process.send_signal(signal.SIGSTOP); Client(s).put("stopped", "x", "1"); time.sleep(0.2)
      r.process.send_signal(signal.SIGCONT); assert ("stopped", "x") in agree([s, t, r])
      """#)
  }

  /// It dials later and later, until the other one speaks; and it says something every 5 s.
  @Test func itDialsAgain() throws {
    try run(
      [Self.last],
      #"""
      listener = socket.create_server(("127.0.0.1", 0)); s = Own("j", None, [listener.getsockname()[1]])
      def visit(say=b""):
          a, _ = listener.accept(); began = time.monotonic(); a.settimeout(20)
          assert take(a, 257) == hello(1, "exercise") and take(a, 7) == ASK + heartbeat(0); a.sendall(say)
          return a, began
      def leave(a):
          a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); a.close(); return time.monotonic()
      gaps = []; a, _ = visit()
      for n in range(4): left = leave(a); a, at = visit(); gaps.append(at - left)
      # 0.5 s, and each time twice as long, and up to a half less.
      for n, gap in enumerate(gaps): assert 0.24 * 2 ** n <= gap < 0.5 * 2 ** n + 1, gaps
      a.sendall(heartbeat(0)); assert take(a, 5) == update_clock(0); left = leave(a)
      a, at = visit(); assert at - left < 1.5, at - left
      fds = os.listdir("/proc/%d/fd" % s.pid); assert len(fds) == 6, fds
      assert take(a, 6) == heartbeat(0); now = time.monotonic(); assert take(a, 6) == heartbeat(0) and 4 < time.monotonic() - now < 7
      # It is silent for three of them, and closed.
      a.settimeout(30)
      while a.recv(100): pass
      assert 10 < time.monotonic() - at < 22; listener.close(); a.close(); time.sleep(1)
      ticks = s.ticks(); time.sleep(1); assert s.ticks() - ticks < 5
      """#)
  }

  /// Where nobody listens, the kernel may choose the very port that is dialled for the socket that dials.
  @Test(.enabled(if: Privilege.isRoot)) func aSocketThatIsConnectedToItself() throws {
    try run(
      [Self.last],
      #"""
      open("/proc/sys/net/ipv4/ip_local_port_range", "w").write("40000 40001")
      # With -D it is the program that has been started here, and strace its grandchild.
      trace = ["strace", "-D", "-o", "trace", "-e", "trace=connect,getsockopt,getpeername,close,write"]
      s = Process(); s.start([*trace, OWN[0], 7000, "j", 40000])
      def named(): return os.path.exists("trace") and re.findall(r"getpeername\((\d+),.*\n(.*)\n", open("trace").read())
      found = until(named, deadline=60); s.kill()
      # It is closed at once, and nothing is written to it.
      assert all(what.startswith("close(%s)" % fd) for fd, what in found), found
      """#, needs: ["strace"])
  }

  /// The clients: ours at the last server, and the first exercise's at ours.
  @Test func clients() throws {
    try run(
      [Self.last, "13-contact-wire/solution"],
      #"""
      s = Own("j"); r = Server("--journal", "ours", "--peer", at(s))
      def ours(*words): r = run(CLIENT, "--server", at(s), "--user", "ann", *words); assert r.returncode == 0, r; return r.stdout
      ours("add", "Bob", "555"); ours("add", "Bäb", "+43 1 555"); ours("add", "Bob", "556")
      lines = [json.loads(l) for l in ours("--format", "json", "list").splitlines()]; assert len(lines) == 2, lines
      agree([s, r], {("ann", "Bob"): "556", ("ann", "Bäb"): "+43 1 555"})
      # The exercise's client has no answer to wait for.
      for n, server in enumerate((s, r)): assert run(OWN[1], server.port, "me", "own", str(n), "é" * 10).returncode == 0
      until(lambda: len(s.list()) == 4); assert agree([s, r])["own", "1"] == "é" * 10
      for value in ("é" * 11, "", "a\tb"): assert run(OWN[1], s.port, "me", "own", "x", value).returncode == 2
      """#)
  }

  /// Runs a script, in a folder and a network of its own, where that can be had. It gets the solutions as programs.
  private func run(_ solutions: [String], _ body: String, needs witnesses: [String] = []) throws {
    if !Witness.areRequired, witnesses.contains(where: { Witness.path($0) == nil }) { return }
    try Place.withTemporaryFolder { folder in
      let programs = try solutions.enumerated().map { number, solution in
        try Self.compiled(solution, to: "\(folder)/own\(number)")
      }
      let script = try Place.file("witness.py", in: folder, Self.library + body + "\ndone()\n")
      let command = [
        "/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", folder, try #require(Witness.python), "-W", "ignore",
        script,
        Place.product("contact-server"), Place.product("contact-client"), solutions[0],
      ]
      let result = try Program.run(inItsOwnNetwork(command + programs), deadline: 150)
      #expect(result.status == 0 && result.output == "right\n", "\(result.output)\(result.errors)")
    }
  }

  private static func compiled(_ solution: String, to program: String) throws -> String {
    var environment: [String: String] = [:]
    for name in ["PATH", "HOME"] { environment[name] = ProcessInfo.processInfo.environment[name] }
    let result = try Program.run(
      [
        "swiftc", "-I", "\(Place.root)/Sources/CLinux", "\(CourseExercise.lessons)/\(solution).swift", "-o",
        program,
      ], environment: environment, deadline: 120)
    #expect(result.status == 0, "\(result.errors)")
    return program
  }

  private static let library = #"""
    import atexit, json, os, re, signal, socket, struct, subprocess, sys, threading, time
    SERVER, CLIENT, SOLUTION = sys.argv[1:4]; OWN = sys.argv[4:]

    def pad(text, size): data = text.encode(); assert len(data) <= size; return data + bytes(size - len(data))
    def hello(role=2, name="python"): return bytes([role]) + pad(name, 256)
    def fields(user, contact, phone): return pad(user, 256) + pad(contact, 256) + pad(phone, 20)
    LIST, ASK = b"\2", b"\4"
    def record(clock, user, contact, phone): return struct.pack(">I", clock) + fields(user, contact, phone)
    def server_update(*r): return b"\1" + record(*r)
    def heartbeat(clock, status=1): return struct.pack(">BBI", 2, status, clock)
    def update_clock(clock): return struct.pack(">BI", 3, clock)
    def answer(records): return struct.pack(">I", len(records)) + b"".join(record(*r) for r in records)
    def take(s, count):
        data = b""
        while len(data) < count:
            more = s.recv(count - len(data))
            if not more: raise EOFError("%d of %d bytes" % (len(data), count))
            data += more
        return data
    def value(data): return data.split(b"\0", 1)[0].decode()
    def contact(data): return value(data[:256]), value(data[256:512]), value(data[512:532])

    def until(look, what=lambda: "", deadline=30):
        end = time.monotonic() + deadline
        while True:
            found = look()
            if found: return found
            assert time.monotonic() < end, "it did not happen in %s s: %s" % (deadline, what())
            time.sleep(0.01)
    def free_port():
        with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]
    def at(server): return "127.0.0.1:%d" % server.port
    def dial(port): s = socket.create_connection(("127.0.0.1", port)); s.settimeout(60); return s
    def run(*words): return subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)

    class Process:
        all = []
        def start(self, words, **more):
            self.log = "log-%d" % len(Process.all); Process.all.append(self)
            self.process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stderr=open(self.log, "wb"), **more)
            self.pid = self.process.pid
        def list(self): c = Client(self); book = c.list(); c.s.close(); return book
        def kill(self): self.process.kill(); self.process.wait()
        def ticks(self): f = open("/proc/%d/stat" % self.pid).read().rsplit(")", 1)[1].split(); return int(f[11]) + int(f[12])
    class Server(Process):
        def __init__(self, *options):
            self.start([SERVER, "--name", "ours", *options], stdout=subprocess.PIPE)
            self.port = int(self.process.stdout.readline().decode().rsplit(":", 1)[1])
    class Own(Process):
        def __init__(self, journal, port=None, peers=()):
            self.port = port or free_port(); self.start([OWN[0], self.port, journal, *peers])
            def up():
                assert self.process.poll() is None, open(self.log).read()
                try: dial(self.port).close(); return True
                except ConnectionRefusedError: return False
            until(up)
    atexit.register(lambda: [p.process.kill() for p in Process.all])
    def done(): print("right"); sys.exit()

    class Client:
        def __init__(self, server): self.s = dial(server.port); self.s.sendall(hello())
        def update(self, *contact): self.s.sendall(b"\1" + fields(*contact))
        def fill(self, contacts): self.s.sendall(b"".join(b"\1" + fields(*c) for c in contacts))
        def list(self):
            self.s.sendall(LIST); count, = struct.unpack(">I", take(self.s, 4)); data = take(self.s, 532 * count)
            contacts = [contact(data[532 * n:532 * n + 532]) for n in range(count)]; book = {(u, n): f for u, n, f in contacts}
            assert len(book) == count, "a contact comes twice"; return book
        def put(self, *contact): self.update(*contact); return self.list()

    class Peer:
        # Another server, which has nothing itself.
        def __init__(self, s, reads=True):
            self.s, self.heard, self.place, self.end = s, [], 0, None; self.send(hello(1))
            self.thread = threading.Thread(target=self.read, daemon=True)
            if reads: self.thread.start()
        def send(self, data):
            try: self.s.sendall(data)
            except OSError: pass
        def read(self):
            try:
                while True: self.message()
            except (EOFError, OSError) as e: self.end = str(e)
        def number(self, size=4): return int.from_bytes(take(self.s, size), "big")
        def record(self): return (self.number(), *contact(take(self.s, 532)))
        def message(self):
            kind = self.number(1)
            if kind == 0: m = ("answer", [self.record() for _ in range(self.number(3))])
            elif kind == 1: m = ("update", *self.record())
            elif kind == 2: m = ("heartbeat", self.number(1), self.number())
            elif kind == 3: m = ("clock", self.number())
            elif kind == 4: m = ("ask",)
            else: raise AssertionError("byte %d is no command" % kind)
            if kind == 4: self.send(answer([]))
            self.heard.append(m)
        def wait(self, *wanted, anywhere=False):
            def look():
                for n in range(0 if anywhere else self.place, len(self.heard)):
                    if self.heard[n][:len(wanted)] == wanted: self.place = n + 1; return [self.heard[n]]
            return until(look, lambda: "%s in %s %s" % (wanted, self.heard[-20:], self.end))[0]

    def at_once(*works):
        failures = []
        def run(work):
            try: work()
            except BaseException as e: failures.append(e)
        threads = [threading.Thread(target=run, args=(w,)) for w in works]
        for t in threads: t.start()
        for t in threads: t.join()
        if failures: raise failures[0]
    def agree(servers, wanted=None):
        # All show the same, at some time.
        clients = [Client(s) for s in servers]
        def look():
            books = [c.list() for c in clients]
            return all(b == (books[0] if wanted is None else wanted) for b in books) and [books[0]]
        book = until(look, lambda: [sorted(c.list().items())[:5] for c in clients])[0]
        for c in clients: c.s.close()
        return book

    """# + "\n"
}
