import Glibc
import TestSupport
import Testing

/// What is left after a crash, and what a server makes of it.
@Suite(.enabled(if: Witness.havePython)) struct ContactServerCrashTests {
  /// `kill -9` under load, again and again: what a ListAll has shown is there. SOCKETSTEPS_CRASH_ROUNDS has it done more often.
  @Test func kill9() throws {
    let rounds = getenv("SOCKETSTEPS_CRASH_ROUNDS").map { String(cString: $0) } ?? "200"
    try ContactWitness.run(
      #"""
      quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
      rounds = int(os.environ["ROUNDS"]); names = "abc"; contacts = 6
      # Of each contact: the last value that a ListAll has shown, and the last that was sent. Each is one client's own,
      # and only counts up.
      shown, sent = {}, {}; updates = lists = 0
      def write(name, port):
          global updates, lists
          try:
              c = Client(port, name=name)
              while True:
                  batch = b""
                  for _ in range(random.randint(1, 4)):
                      key = name, str(random.randrange(contacts)); sent[key] = sent.get(key, 0) + 1
                      batch += update(*key, str(sent[key])); updates += 1
                  c.s.sendall(batch + LIST); book = listing(c.s); lists += 1
                  for key, phone in book.items():
                      if key[0] == name: shown[key] = int(phone)
          except (OSError, EOFError): pass
      def check(s, shown):
          book = s.list()
          for key, number in shown.items():
              assert number <= int(book.get(key, 0)) <= sent[key], (key, number, book.get(key), sent[key])
          return book
      s = None
      for round in range(rounds):
          if round % 50 == 0 and s is not None: s.kill(); os.unlink("j"); shown.clear(); sent.clear()
          if round % 4 == 0:
              # Somewhere in its start.
              early = subprocess.Popen([PROGRAM, "--name", "early", "--journal", "j"], **quiet)
              time.sleep(random.random() * 0.02); early.kill(); early.wait()
          s = Server("--journal", "j"); book = check(s, shown)
          # Whatever has come through, shown or not, stays from here on.
          for key, phone in book.items(): shown[key] = int(phone)
          threads = [threading.Thread(target=write, args=(name, s.port)) for name in names]
          for t in threads: t.start()
          time.sleep(random.random() ** 2 * 0.08); s.kill()
          for t in threads: t.join()
      s = Server("--journal", "j"); check(s, shown); assert lists > rounds
      print("right")
      """#, environment: ["ROUNDS": rounds])
  }

  /// A torn end is cut off; damage is named, with its place, and nothing is done to the file.
  @Test func tornAndDamaged() throws {
    try ContactWitness.run(
      #"""
      size, header = 540, 20
      def start(*options): return Server("--journal", "j", *options)
      s = start(); c = Client(s); book = {}
      for n in range(5): book = c.put("anna", str(n), "1")
      second = fails("--name", "beta", "--journal", "j")
      assert second == (1, "contact-server: the journal j: another server has it open; "
          "two may not share a journal\n"), second
      s.kill(); whole = open("j", "rb").read(); assert len(whole) == header + 5 * size
      def put(data): open("j", "wb").write(data)
      # An end that is torn is cut off: it was shown to nobody.
      for cut in (1, 4, 100, 539):
          put(whole[:-cut]); s = start(); line, = s.lines("journal: "); left = size - cut
          assert "j: 4 contacts; %d byte%s of a torn record were cut off its end" % (left, "s"[:left > 1]) in line, line
          assert os.path.getsize("j") == header + 4 * size and s.list() == {k: v for k, v in book.items() if k[1] != "4"}
          # What is written behind it is found again.
          assert Client(s).put("anna", "4", "1") == book; s.kill(); s = start()
          assert s.list() == book and "torn" not in s.log(); s.kill()
      # Blocks that a crash of the machine has left empty.
      for zeros in (10, 540, 5000):
          put(whole + bytes(zeros)); s = start()
          assert s.list() == book and s.lines("%d bytes of a torn record" % zeros); s.kill()
      for cut in (0, 1, 8, 19):
          put(whole[:cut]); s = start(); assert s.list() == {} and os.path.getsize("j") == header; s.kill()
      # What is no journal is left alone.
      foreign = 'is no journal of contacts: it does not begin with "contacts"'
      for data, text in ((b"#!/bin/sh\necho hello\n" * 50, foreign), (b"x", foreign)):
          put(data); status, said = fails("--name", "a", "--journal", "j")
          assert status == 1 and text in said and open("j", "rb").read() == data, said
          status, said = fails("--name", "a", "--journal", "j", "--salvage")
          assert status == 1 and text in said and open("j", "rb").read() == data, said
      for path, text in ((".", "the journal .: "), ("/dev/null", "it is no regular file"), ("none/there", "ENOENT")):
          status, said = fails("--name", "a", "--journal", path); assert status == 1 and text in said, said
      # Damage: no start, and it is said where.
      def flipped(place, bit=1): data = bytearray(whole); data[place] ^= bit; return bytes(data)
      damages = {
          header: "record 1, at byte 20, is damaged, and intact ones follow it",
          header + 2 * size + 300: "record 3, at byte 1100, is damaged, and intact ones follow it",
          header + 3 * size - 1: "record 3, at byte 1100, is damaged",
          len(whole) - 1: "record 5, at byte 2180, is damaged, and was written whole",
          12: "the header, its first 20 bytes, is damaged", 0: "the header, its first 20 bytes, is damaged"}
      for place, text in damages.items():
          put(flipped(place)); status, said = fails("--name", "a", "--journal", "j")
          assert status == 1 and "; --salvage keeps every intact" in said
          assert said.startswith("contact-server: the journal j: " + text), said
          assert open("j", "rb").read() == flipped(place)
      # Bytes that are missing in the middle.
      put(whole[:header + size] + whole[header + size + 7:]); status, said = fails("--name", "a", "--journal", "j")
      assert status == 1 and "record 2, at byte 560, is damaged" in said, said
      s = start("--salvage")
      assert len(s.list()) == 4 and s.lines("salvaged 4 intact records, passed over 533 bytes"); s.kill()
      print("right")
      """#)
  }

  /// What is intact is kept, and the damaged file too; clients' Updates wait for another server.
  @Test func salvage() throws {
    try ContactWitness.run(
      #"""
      size, header = 540, 20
      def start(*options): return Server("--journal", "j", *options)
      def awaits(): return open("j", "rb").read()[15]
      s = start(); c = Client(s); book = {}
      for n in range(5): book = c.put("anna", str(n), "1")
      s.kill(); data = bytearray(open("j", "rb").read()); data[header + 2 * size + 5] ^= 4; damaged = bytes(data)
      del book["anna", "2"]
      def fresh():
          for name in os.listdir("."):
              if name.startswith("j"): os.unlink(name)
          open("j", "wb").write(damaged); return start("--salvage")
      def refuses(s):
          count = len(s.lines("update refused")); c = Client(s); assert c.put("anna", "new", "1") == book; c.close()
          why = "the journal was salvaged, and no other server has answered yet"
          until(lambda: len(s.lines("update refused", "anna/new = 1", why)) == count + 1)
      s = fresh(); s.says("salvaged 4 intact records, passed over 540 bytes; the file as it was is ", "/j.damaged")
      s.says("clients' Updates are refused until another server has answered in full; --accept-loss")
      assert open("j.damaged", "rb").read() == damaged and s.list() == book and awaits() == 1; refuses(s)
      # A restart is no answer; nor is a part of one, or a refusal of the file's.
      s.kill(); s = start(); refuses(s)
      p = Peer.to(s, book=None); p.wait("ask"); p.send(answer([(9, "anna", "2", "1"), (10, "x", "y", "1")])[:-100])
      book["anna", "2"] = "1"; until(lambda: s.list() == book); p.close(); s.says("link down"); refuses(s)
      p = Peer.to(s, book=None); p.wait("ask"); p.send(server_update(11, "x", "z", "1") + heartbeat(11))
      book["x", "z"] = "1"; until(lambda: s.list() == book); refuses(s)
      s.stop(); s = start(); refuses(s)
      # The whole of one is, and that is remembered. Its clock is larger than all before.
      p = Peer.to(s, book=[(20, "x", "y", "1")]); p.wait("ask"); book["x", "y"] = "1"; until(lambda: s.list() == book)
      book["anna", "new"] = "1"; assert Client(s).put("anna", "new", "1") == book
      p.wait("update", 21, "anna", "new", "1")
      until(lambda: awaits() == 0); s.kill(); s = start()
      assert Client(s).put("anna", "again", "1") == {**book, ("anna", "again"): "1"}; s.kill()
      # An empty answer is one.
      book = {("anna", n): "1" for n in "0134"}; s = fresh(); refuses(s); p = Peer.to(s)
      s.says("book received: from ", "contacts: 0"); assert len(Client(s).put("anna", "new", "1")) == 5; s.kill()
      # Whoever accepts the loss need not wait, then and later.
      s = fresh(); refuses(s); s.kill(); s = start("--accept-loss"); book["anna", "new"] = "1"
      assert Client(s).put("anna", "new", "1") == book; until(lambda: awaits() == 0); s.kill()
      s = start(); assert Client(s).put("anna", "new", "2")["anna", "new"] == "2"; s.kill()
      # A second salvage keeps the first file, too; and an intact journal is no case for one.
      open("j", "wb").write(damaged); s = start("--salvage"); s.says("the file as it was is ", "/j.damaged-2")
      assert open("j.damaged", "rb").read() == open("j.damaged-2", "rb").read() == damaged; s.kill()
      s = start("--salvage", "--accept-loss")
      assert "intact" not in s.log() and sorted(os.listdir(".")).count("j.damaged-3") == 0; s.kill()
      print("right")
      """#)
  }
}
