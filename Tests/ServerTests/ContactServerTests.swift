import Glibc
import TestSupport
import Testing

/// What a client sees of `contact-server`, and what becomes of those who do not keep to the protocol.
@Suite(.enabled(if: Witness.havePython)) struct ContactServerTests {
  @Test func aPlainClient() throws {
    try ContactWitness.run(
      #"""
      s = Server("--journal", "j"); raw = dial(s.port)
      raw.sendall(hello() + LIST); assert take(raw, 4) == bytes(4)
      raw.sendall(update("anna", "bob", "1") + update("anna", "carl", "2") + update("bob", "bob", "3"))
      raw.sendall(update("anna", "bob", "4") + LIST)
      # In the order in which they came; what has changed stays where it was.
      wanted = fields("anna", "bob", "4") + fields("anna", "carl", "2") + fields("bob", "bob", "3")
      assert take(raw, 4 + 3 * 532) == b"\0\0\0\3" + wanted
      assert s.list() == {("anna", "bob"): "4", ("anna", "carl"): "2", ("bob", "bob"): "3"}
      # Bytes, not characters: two spellings of the same letter are two keys.
      assert len(Client(s).put("\u00e9", "x", "1")) == 4 and len(Client(s).put("e\u0301", "x", "2")) == 5
      raw.close(); assert s.stop() == 0
      print("right")
      """#)
  }

  /// Many at once, a byte at a time, and cut anywhere.
  @Test func commandsTakeEffectInTheirOrder() throws {
    try ContactWitness.run(
      #"""
      s = Server("--journal", "j"); c = dial(s.port)
      def one(n): return update("u", "same", str(n)) + update("u", "contact %d" % n, str(n)) + LIST
      c.sendall(hello() + b"".join(one(n) for n in range(50)))
      for n in range(50):
          book = {("u", "contact %d" % m): str(m) for m in range(n + 1)}; book["u", "same"] = str(n)
          assert listing(c) == book, n
      # Cut anywhere.
      data = hello() + b"".join(update("v", "contact %d" % n, str(n)) + LIST * (n % 7) for n in range(40)) + LIST
      for size in (lambda: 1, lambda: random.randint(1, 700)):
          c = dial(s.port); asked = sum(n % 7 for n in range(40)) + 1; books = []
          reader = threading.Thread(target=lambda: [books.append(listing(c)) for _ in range(asked)]); reader.start()
          place = 0
          while place < len(data): n = size(); c.sendall(data[place:place + n]); place += n
          reader.join(30); assert len(books) == asked and books[-1] == s.list() and len(books[-1]) == 91
      print("right")
      """#)
  }

  /// What stands behind the first NUL is nobody's; a value may fill its field.
  @Test func whatAFieldHolds() throws {
    try ContactWitness.run(
      #"""
      s = Server("--in-memory"); c = dial(s.port)
      def field(text, size):
          return text.encode() + b"\0" + bytes([7, 255, 192, 10] * size)[:size - 1 - len(text.encode())]
      c.sendall(bytes([2]) + field("noisy", 256))
      c.sendall(b"\1" + field("anna", 256) + field("bob", 256) + field("1", 20) + LIST)
      assert take(c, 536) == b"\0\0\0\1" + fields("anna", "bob", "1")
      c.sendall(update("anna", "bob", "2") + LIST); assert listing(c) == {("anna", "bob"): "2"}
      s.says("'noisy'", "anna/bob = 1")
      full = ("\u00e9" * 128, "\U0001f600" * 64, "+" + "9" * 19); c.sendall(update(*full) + LIST)
      take(c, 536); assert take(c, 532) == "".join(full).encode()
      c = dial(s.port); c.sendall(bytes([2]) + b"x" * 256 + LIST); assert len(listing(c)) == 2
      # A value that is full and one that is a byte shorter are two.
      c.sendall(update("x" * 256, "y", "1") + update("x" * 255, "y", "2") + LIST); assert len(listing(c)) == 4
      print("right")
      """#)
  }

  /// One line in the log, with the address and the reason; nothing and nobody else is touched.
  @Test func badInput() throws {
    try ContactWitness.run(
      #"""
      s = Server("--journal", "j", "--heartbeat", 60); good = Client(s); book = good.put("anna", "bob", "1")
      size = os.path.getsize("j")
      def bad(field, place):
          return b"\1" + b"".join(pad(field if n == place else "x", w) for n, w in enumerate((256, 256, 20)))
      cases = [(bytes([n]), "begins with byte %d, which is no role" % n) for n in (0, 3, 255)]
      values = {
          b"": "is empty", b"\xff": "is not valid UTF-8", b"a\xc0\xaf": "is not valid UTF-8", b"ab\xc3": "is not valid UTF-8",
          b"\xed\xa0\x80": "is not valid UTF-8", b"\xf4\x90\x80\x80": "is not valid UTF-8",
          b"a\nb": "has the control character U+000A in it", b"\x1b[31m": "has the control character U+001B in it",
          b"a\x7f": "has the control character U+007F in it", b"\xc2\x85": "has the control character U+0085 in it"}
      for text, reason in values.items(): cases.append((hello(name=text), "the name " + reason))
      cases += [(hello() + bytes([n]), "%d is no command of a client's" % n) for n in (0, 3, 4, 255)]
      for place, title in enumerate(("user name", "contact name", "phone number")):
          for text, reason in values.items(): cases.append((hello() + bad(text, place), "the %s %s" % (title, reason)))
      cases.append((hello() + b"\1" + b"x" * 512 + b"1" * 19 + b"\xc3", "the phone number is not valid UTF-8"))
      for cut in (hello()[:1], hello()[:256]): cases.append((cut, None))
      for cut in (1, 300, 532): cases.append((hello() + update("half", "half", "1")[:cut], None))
      link = [(bytes([n]), "%d is no command of a server's" % n) for n in (5, 255)]
      link += [(heartbeat(1, n), "%d is no HealthStatus" % n) for n in (0, 4, 255)]
      link += [
          (server_update(7, "", "b", "1"), "the user name is empty"),
          (server_update(7, "a", "b", "\t"), "control character U+0009"), (answer([]) * 2, "an answer to no AskForUpdate"),
          (answer([(7, "a", "\n", "1")]), "control character U+000A"), (ASK * 40, "16 AskForUpdates wait"),
          (heartbeat(1)[:3], None), (answer([(7, "a", "b", "1")])[:100], None),
          (server_update(7, "half", "half", "1")[:-1], None)]
      cases += [(hello(1) + data, reason) for data, reason in link]
      for n, (data, reason) in enumerate(cases):
          c = dial(s.port); address = "%s:%d" % c.getsockname(); c.sendall(data)
          if reason is None:
              c.shutdown(socket.SHUT_WR); reason = "it has closed the connection in the middle of a message"
          assert ended(c); is_link = data[0] == 1 and len(data) > 257
          event = "link down: with " if is_link else "connection refused: "
          line, = s.says(event + address); assert reason in line, (line, reason)
          others = ("link up", "book asked for", "book received") if is_link else ()
          assert [l for l in s.lines(address) if not any(o in l for o in others)] == [line], s.lines(address)
          assert good.list() == book
      # What came before it stays, and what comes behind it is not looked at. Who ends between two messages is no case.
      c = dial(s.port); c.sendall(hello() + update("before", "x", "1") + b"\x09" + update("behind", "x", "1"))
      ended(c)
      book["before", "x"] = "1"; assert good.list() == book; count = len(s.log().splitlines())
      for c in (dial(s.port), Client(s).s): c.close()
      assert good.list() == book and len(s.log().splitlines()) == count, s.log()
      c = Client(s).s; c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
      address = "%s:%d" % c.getsockname(); c.close()
      s.says("connection lost: " + address, "ECONNRESET")
      assert os.path.getsize("j") == size + 540 and "\x1b" not in s.log()
      good.close(); assert s.stop() == 0
      print("right")
      """#)
  }

  /// The real ten seconds, once, for all who can be late.
  @Test func whoIsTooSlow() async throws {
    try await ContactWitness.runBeside(
      #"""
      s = Server("--journal", "j", "--heartbeat", 6); good = Client(s); book = good.put("anna", "bob", "1"); gone = {}
      begin = time.monotonic()
      idle = Client(s)
      def watch(name, s): ended(s); gone[name] = time.monotonic() - begin
      def slowly(s, data):
          try:
              for b in data: s.send(bytes([b])); time.sleep(1)
          except OSError: pass
      def case(name, *, at_once=b"", slow=b""):
          c = dial(s.port); sockets[name] = "%s:%d" % c.getsockname(); c.sendall(at_once)
          threading.Thread(target=watch, args=(name, c), daemon=True).start()
          if slow: threading.Thread(target=slowly, args=(c, slow), daemon=True).start()
      sockets = {}
      case("silent"); case("half a hello", at_once=hello()[:128]); case("a slow hello", slow=hello())
      case("half an Update", at_once=hello() + update("x", "y", "1") + update("half", "half", "1")[:300])
      case("a slow Update", at_once=hello(), slow=update("slow", "slow", "1"))
      case("half an Update between servers", at_once=hello(1) + server_update(9, "half", "half", "1")[:300])
      case("half a record", at_once=hello(1) + answer([(9, "half", "half", "1")])[:300])
      # Short of ten seconds all is well.
      patient = dial(s.port); patient.send(hello()[:200]); time.sleep(5)
      patient.send(hello()[200:] + update("p", "q", "1")[:200]); good.put("anna", "bob", "2")
      time.sleep(5); assert gone == {}, gone; patient.send(update("p", "q", "1")[200:] + LIST)
      assert len(listing(patient)) == 3
      until(lambda: len(gone) == 7, lambda: gone)
      assert all(9.9 < t < 25 for t in gone.values()), gone
      hello_reason = "it has not said who it is in 10 seconds"
      message_reason = "a message that it has begun is not whole after 10 seconds"
      for name, address in sockets.items():
          is_link = name in ("half a record", "half an Update between servers")
          line, = s.says(address, "link down: " if is_link else "connection refused: ")
          assert (hello_reason if name in ("silent", "half a hello", "a slow hello") else message_reason) in line, line
      assert good.list() == idle.list() == {("anna", "bob"): "2", ("x", "y"): "1", ("p", "q"): "1"}
      print("right")
      """#)
  }

  @Test func whoMaySpeakAsAServer() throws {
    try ContactWitness.run(
      #"""
      s = Server("--in-memory", "--allow-server", "127.0.0.2", "--allow-server", "127.0.0.3")
      for source in ("127.0.0.2", "127.0.0.3"):
          p = Peer.to(s, source=source); p.wait("ask"); p.send(server_update(5, "anna", source, "1"))
      for source in ("127.0.0.1", "127.0.0.4"):
          c = dial(s.port, source=source); c.sendall(hello(1) + server_update(5, "no", "no", "1")); ended(c)
          line, = s.says(source + ":", "connection refused")
          assert "its address is not allowed to" in line
      until(lambda: len(s.list()) == 2); assert Client(s).put("a", "b", "1")[("a", "b")] == "1" and len(s.list()) == 3
      # However the address is written.
      if os.path.exists("/proc/net/if_inet6"):
          s = Server("--in-memory", "--host", "::", "--allow-server", "127.0.0.2")
          Peer.to(s, source="127.0.0.2").wait("ask")
          p = Peer.to(s); s.says("127.0.0.1", "not allowed"); until(lambda: p.end is not None)
      print("right")
      """#)
  }

  @Test func atMostSoManyConnections() throws {
    try ContactWitness.run(
      #"""
      listener = socket.create_server((LOOPBACK, 0))
      s = Server("--in-memory", "--max-connections", 2, "--peer", "%s:%d" % listener.getsockname())
      # A link that it has dialled itself is not counted.
      p = Peer.at(listener); p.wait("ask")
      a, b = Client(s), Client(s); a.list(); b.list(); c = Client(s); c.s.sendall(update("x", "y", "1") + LIST)
      c.s.settimeout(0.3)
      try: listing(c.s); print("served too early")
      except TimeoutError: pass
      a.close(); c.s.settimeout(20); assert listing(c.s) == b.list() == {("x", "y"): "1"}
      # Who is closed for bad input gives its place back, too.
      for _ in range(5): d = dial(s.port); d.sendall(b"\x09") if b.close() is None else 0; ended(d)
      assert len(s.list()) == 1
      # So do descriptors: with few of them others wait, and nothing spins.
      s = Server("--in-memory", limit=(resource.RLIMIT_NOFILE, (64, 64))); all = [dial(s.port) for _ in range(100)]
      for c in all[:20]: c.sendall(hello() + LIST); listing(c)
      a = s.ticks(); time.sleep(0.5); assert s.ticks() - a < 15, s.ticks() - a
      for c in all[:60]: c.close()
      for c in all[60:]: c.sendall(hello() + LIST); listing(c); c.close()
      print("right")
      """#)
  }

  @Test func whereContactsAreKept() throws {
    try ContactWitness.run(
      #"""
      runtime = {k: os.environ[k] for k in ("LD_LIBRARY_PATH",) if k in os.environ}
      home = os.getcwd()
      # --in-memory leaves nothing behind.
      before = set(os.listdir(".")); s = Server("--in-memory"); s2 = Client(s); s2.put("a", "b", "1"); s2.close()
      assert s.stop() == 0
      assert set(os.listdir(".")) - before == {s.log_file}
      s = Server("--in-memory"); assert s.list() == {}; s.kill()
      # A place of its own.
      places = (
          ({"XDG_STATE_HOME": home + "/state/deep"}, "state/deep"), ({"HOME": home + "/home"}, "home/.local/state"),
          ({"XDG_STATE_HOME": "relative", "HOME": home + "/other"}, "other/.local/state"))
      for variables, place in places:
          for round in range(2):
              s = Server(name="be ta", env={**runtime, **variables}); c = Client(s); book = c.put("a", str(round), "1")
              assert len(book) == round + 1; s.kill()
          path = place + "/socketsteps"; assert os.listdir(path) == ["be ta.journal"], os.listdir(path)
          assert os.stat(path).st_mode & 0o777 == 0o700 and os.stat(path + "/be ta.journal").st_mode & 0o777 == 0o600
      status, text = fails("--name", "x", env=runtime)
      assert status == 1 and "neither XDG_STATE_HOME nor HOME is set; --journal FILE says where" in text, text
      print("right")
      """#)
  }

  @Test func figuresAndTheLog() throws {
    try ContactWitness.run(
      #"""
      import json
      # Figures, in text and in JSON; every line of a log in JSON is an object.
      listener = socket.create_server((LOOPBACK, 0)); peer = "%s:%d" % listener.getsockname()
      for form in ("text", "json"):
          s = Server("--journal", "f", "--peer", peer, "--log", form); p = Peer.at(listener); p.wait("heartbeat")
          c = Client(s); c.put("anna \"\\", "b\u00e9", "1")
          p.send(heartbeat(5, 2)); p.wait("ask"); p.send(heartbeat(4)); p.wait("clock", 5)
          os.kill(s.pid, signal.SIGUSR1)
          if form == "text":
              s.says("figures: clock 5 (published 5), contacts: 1, clients: 1, links: 1, bytes in the journal: 560")
              s.says("link figures: " + peer + ", which was dialled: its clock 4, last HeartBeat 0 s ago, healthy, "
                  "waiting to be sent: contacts: 0, bytes of answers and messages: 0")
          else: s.says("link figures")
          bad = dial(s.port); bad.send(b"\x07"); ended(bad); c.close(); p.close(); assert s.stop() == 0
          if form == "json":
              lines = [json.loads(l) for l in s.log().splitlines()]
              assert all(l["time"].endswith("Z") and l["event"] for l in lines)
              events = {l["event"]: l for l in lines}
              assert set(events) >= {
                  "journal", "link up", "contact taken", "peer health", "behind", "peer behind", "figures", "link figures",
                  "connection refused", "link down", "stopping"}, set(events)
              f = events["figures"]
              assert [f[x] for x in ("clock", "contacts", "links", "journalBytes")] == [5, 1, 1, 1100], f
              f = events["link figures"]; assert [f[x] for x in ("peer", "clock", "dialled")] == [peer, 4, True], f
              t = events["contact taken"]
              assert (t["user"], t["contact"], t["phone"], t["clock"]) == ("anna \"\\", "b\u00e9", "1", 2), t
      # However many links there are.
      s = Server("--in-memory"); peers = [dial(s.port) for _ in range(40)]
      for n, p in enumerate(peers): p.sendall(hello(1, "%02d" % n + "x" * 250)); take(p, 7)
      os.kill(s.pid, signal.SIGUSR1); s.says("figures: ", "links: 40"); until(lambda: len(s.lines("link figures: ")) == 40)
      print("right")
      """#)
  }

  @Test func itFinishesWhatItWasAskedFor() async throws {
    try await ContactWitness.runBeside(
      #"""
      # What has come before the signal is done and answered, and other servers get it; then all are let go.
      def drains(number):
          path = "j%d" % number; s = Server("--journal", path); p = Peer.to(s); p.wait("heartbeat")
          c = dial(s.port); other = Client(s); other.list(); silent = dial(s.port)
          c.sendall(hello() + b"".join(update("anna", str(n), "1") + LIST for n in range(100)))
          listing(c); os.kill(s.pid, number)
          for n in range(1, 100): assert len(listing(c)) == n + 1
          assert ended(c) and ended(other.s) and ended(silent); p.wait("heartbeat", 3); assert s.process.wait(20) == 0
          assert {m[3] for m in p.heard if m[0] == "update"} == {str(n) for n in range(100)}
          try: dial(s.port); raise AssertionError("somebody still listens")
          except ConnectionRefusedError: pass
          s = Server("--journal", path); assert len(s.list()) == 100; s.kill()
      def deaf(signals):
          s = Server("--in-memory"); c = Client(s); c.fill([("deaf", "contact %d" % n, "1") for n in range(20000)])
          c.s.sendall(LIST * 3); take(c.s, 4); begin = time.monotonic()
          for n in range(signals): s.process.send_signal(signal.SIGTERM); s.says("stopping")
          assert s.process.wait(30) == 0; return time.monotonic() - begin
      # Who does not read is not waited for, where it is asked twice; nor for ever, where it is asked once.
      def impatient(): assert deaf(2) < 4
      def patient(): assert 4 < deaf(1) < 20
      at_once(lambda: drains(signal.SIGTERM), lambda: drains(signal.SIGINT), impatient, patient)
      print("right")
      """#)
  }

  @Test func badOptionsAreExplained() throws {
    let alpha = ["--name", "alpha"]
    for (words, expected) in [
      ([], "a server needs a --name, for the logs of others"), (["--name", ""], "--name: the name is empty"),
      (["--name", "a\nb"], "--name: the name has the control character U+000A in it"),
      (
        ["--name", String(repeating: "x", count: 257)],
        "--name: the name has 257 bytes, and there is room for 256"
      ),
      (["--name", "a/b"], "'a/b' makes no name of a file; --journal FILE says where"),
      (alpha + ["--journal", ""], "--journal needs the name of a file"),
      (alpha + ["--peer", "nowhere:1"], "--peer: "), (alpha + ["--peer", "127.0.0.1"], "--peer: "),
      (alpha + ["--peer", "127.0.0.1:0"], "--peer 127.0.0.1:0: nobody listens on port 0"),
      (alpha + ["--host", "nowhere"], "--host: 'nowhere' is no IP address"),
      (alpha + ["--allow-server", "somebody"], "--allow-server: 'somebody' is no IP address"),
      (alpha + ["--port", "65536"], "--port takes a whole number"),
      (alpha + ["--max-connections", "0"], "--max-connections takes a whole number"),
      (alpha + ["--log", "xml"], "--log"), (alpha + ["extra"], "'extra' was not expected"),
      (alpha + ["--heartbeet", "1"], "did you mean --heartbeat?"),
      (
        alpha + ["--in-memory", "--journal", "x"], "--journal is about a journal, and --in-memory keeps none"
      ),
      (alpha + ["--in-memory", "--salvage"], "--salvage is about a journal"),
    ]
      + ["0", "0.05", "3601", "x", "nan", "-1", ""].map({
        (alpha + ["--heartbeat", $0], "--heartbeat takes seconds from 0.1 to 3600")
      })
    {
      let result = try Program.run([Place.product("contact-server")] + words)
      #expect(result.status == 2 && result.output.isEmpty, "\(words)")
      #expect(
        result.errors.hasPrefix("contact-server: ") && result.errors.contains(expected), "\(result.errors)")
      #expect(result.errors.split(separator: "\n").count <= 2, "\(result.errors)")
    }
    let help = try Program.run([Place.product("contact-server"), "--help"])
    #expect(help.status == 0 && help.errors.isEmpty)
    for option in ["--name", "--peer", "--journal", "--salvage", "--accept-loss"] {
      #expect(help.output.contains(option))
    }
  }

  @Test func aPortThatIsTaken() throws {
    let server = try Program([Place.product("contact-server"), "--name", "alpha", "--in-memory"])
    let port = try #require(try server.line()).split(separator: ":").last.map(String.init) ?? ""
    let second = try Program.run([
      Place.product("contact-server"), "--name", "beta", "--in-memory", "--port", port,
    ])
    #expect(second.status == 1)
    #expect(
      second.errors.hasPrefix("contact-server: bind 127.0.0.1:\(port): EADDRINUSE (Address already in use)")
        && second.errors.contains("--port 0 lets the kernel choose"), "\(second.errors)")
    server.send(SIGTERM)
    #expect(try server.finish().status == 0)
  }
}
