import TestSupport
import Testing

/// Clients that do not pause, and what has to go on all the same.
@Suite(.enabled(if: Witness.havePython)) struct ContactServerBusyTests {
  /// A journal whose records are overwritten again and again does not grow for as long as somebody writes.
  @Test func theJournalIsCompactedBesideTheClients() throws {
    try ContactWitness.run(
      #"""
      s = Server("--journal", "j"); stop = threading.Event(); largest = 0
      def write(user):
          c = Client(s); n = 0
          while not stop.is_set():
              n += 1; c.s.sendall(b"".join(update(user, "c%d" % k, str(n)) for k in range(300)))
              assert len(c.list()) >= 300
          return n
      def watch():
          global largest
          begin = time.monotonic()
          while not (len(s.lines("journal compacted")) >= 2) and time.monotonic() - begin < 60:
              largest = max(largest, os.path.getsize("j")); stop.wait(0.01)
          stop.set()
      at_once(watch, lambda: write("a"), lambda: write("b"))
      assert len(s.lines("journal compacted")) >= 2, s.log()
      # One has begun at 64 MiB, and was done long before the double of it.
      assert largest < 128 << 20, largest
      book = s.list(); s.kill(); assert not os.path.exists("j.compacted") or os.path.getsize("j.compacted")
      s = Server("--journal", "j"); assert s.list() == book and len(book) == 600; assert not os.path.exists("j.compacted")
      print("right")
      """#)
  }

  /// Somebody who asks without end gets an answer a turn, and others theirs; and the server can be ended.
  @Test func whoAsksWithoutEndStopsNobody() throws {
    try ContactWitness.run(
      #"""
      s = Server("--journal", "j"); stop = threading.Event()
      def ask(what):
          c = dial(s.port); c.sendall(hello())
          def drain():
              try:
                  while c.recv(1 << 16): pass
              except OSError: pass
          threading.Thread(target=drain, daemon=True).start()
          try:
              while not stop.is_set(): c.sendall(what)
          except OSError: pass
      flood = [threading.Thread(target=ask, args=(what,), daemon=True) for what in (LIST * 100000, (update("f", "x", "1") + LIST) * 200)]
      for t in flood: t.start()
      c = Client(s); begin = time.monotonic()
      for n in range(100): assert c.put("good", "x", str(n))["good", "x"] == str(n)
      took = time.monotonic() - begin; assert took < 30, took
      begin = time.monotonic(); assert s.stop() == 0; took = time.monotonic() - begin; assert took < 20, took
      stop.set(); print("right")
      """#)
  }

  /// A server that is told to end, and whose peer is talking, sends it all that it has shown.
  @Test func thePeerGetsAllBeforeTheEnd() throws {
    try ContactWitness.run(
      #"""
      b = Server("--in-memory", name="beta")
      for n in range(3):
          a = Server("--in-memory", "--peer", "127.0.0.1:%d" % b.port); a.says("link up")
          stop = threading.Event(); user = "round %d" % n
          def talk():
              c = Client(b); k = 0
              while not stop.is_set(): k += 1; c.fill([("b", "x%d" % (j % 50), str(k)) for j in range(100)]); c.list()
          t = threading.Thread(target=talk); t.start()
          c = Client(a); c.fill([(user, "c%d" % k, "1") for k in range(10000)])
          book = c.list(); shown = {k for k in book if k[0] == user}; assert len(shown) == 10000; c.close()
          assert a.stop() == 0; stop.set(); t.join()
          missing = shown - set(b.list()); assert not missing, len(missing)
      print("right")
      """#)
  }
}
