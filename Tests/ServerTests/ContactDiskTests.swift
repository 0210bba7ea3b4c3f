import TestSupport
import Testing

/// A disk that is full, or fails: Updates are refused, reads go on, and nothing that was shown is lost.
@Suite(.enabled(if: Witness.havePython)) struct ContactServerDiskTests {
  /// A file system without room, and a limit on the size of files.
  @Test func aFullDisk() async throws {
    try await ContactWitness.runBeside(
      #"""
      def exercise(s, make_room, error):
          # Fills the journal's place up; what a server does then, and once there is room again.
          p = Peer.to(s, book=None); p.wait("ask"); p.send(answer([])); p.wait("heartbeat", 1); p.beat()
          c = Client(s); book = {}
          for n in range(1000):
              shown = c.put("anna", str(n), "1")
              if len(shown) == len(book): break
              book = shown; assert len(book) == n + 1
          else: raise AssertionError("it never was full")
          assert shown == book and n > 5; line, = s.says("journal fails: ")
          assert error in line and "of those that came last 1" in line, line
          p.wait("heartbeat", 2, deadline=3)
          # What is there may be read, and nothing is taken: from nobody.
          refusal = "update refused: anna/0 = 2", "the journal cannot be written"
          until(lambda: c.put("anna", "0", "2") == book == s.list() and s.lines(*refusal))
          sent = [m for m in p.heard if m[0] == "update"]
          assert len(sent) == n and all(m[4] == "1" for m in sent)
          p.send(server_update(5000, "peer", "x", "1") + ASK)
          assert len(p.wait("answer")[1]) == n and s.list() == book
          asked = p.count("ask"); make_room()
          s.says("journal works: ", deadline=12); p.wait("ask")
          assert p.count("ask") == asked + 1; p.wait("heartbeat", 1); p.send(answer([(5000, "peer", "x", "1")]))
          book["peer", "x"] = "1"
          until(lambda: s.list() == book); book["anna", "0"] = "3"; assert c.put("anna", "0", "3") == book
          p.wait("update", 5001, "anna", "0", "3"); p.close(); c.close()
          return book
      def full():
          # In this process's own mount namespace: it is gone with it.
          os.mkdir("disk"); subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "disk"], check=True)
          open("disk/filler", "wb").write(bytes(32768))
          s = Server("--journal", "disk/j", "--heartbeat", "0.3")
          book = exercise(s, lambda: os.unlink("disk/filler"), "ENOSPC")
          s.kill(); s = Server("--journal", "disk/j"); assert s.list() == book and "torn" not in s.log(); s.kill()
          # A disk that is full from the beginning: it is said, and it does not start; and starts when there is room.
          os.unlink("disk/j")
          try:
              open("disk/filler", "wb", buffering=0).write(bytes(1 << 20))
              open("disk/filler", "ab", buffering=0).write(b"x")
          except OSError: pass
          status, said = fails("--name", "a", "--journal", "disk/j"); assert status == 1 and "ENOSPC" in said, said
          os.unlink("disk/filler"); s = Server("--journal", "disk/j")
          assert Client(s).put("a", "b", "1") == {("a", "b"): "1"}; s.kill()
      def limited():
          name, (_, hard) = resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)
          s = Server("--journal", "limited", "--heartbeat", "0.3", limit=(name, (32768, hard)))
          book = exercise(s, lambda: resource.prlimit(s.pid, name, (hard, hard)), "EFBIG")
          s.kill(); s = Server("--journal", "limited"); assert s.list() == book and "torn" not in s.log(); s.kill()
      at_once(*[limited, full][:1 + (os.geteuid() == 0)])
      print("right")
      """#)
  }

  /// strace and `follow --inject` have a write, and an fdatasync, fail.
  @Test(.enabled(if: Witness.have("strace"))) func aDiskThatFails() async throws {
    try await ContactWitness.runBeside(
      #"""
      def once(tool, call, when):
          path = tool + call; open(path, "xb").close()
          if tool == "strace":
              # The server is this process's own child, and strace stands beside it.
              fault = "inject=%s:error=EIO:when=%d" % (call, when)
              within = ["strace", "-D", "-qq", "-o", "/dev/null", "-P", path, "-e", fault]
          else: within = [FOLLOW, "-o", "/dev/null", "--inject", "%s:errno=EIO:when=%d" % (call, when), "--"]
          s = Server("--journal", path, "--heartbeat", "0.3", within=within); c = Client(s); book = {}
          p = Peer.to(s, book=None); p.wait("ask"); p.send(answer([])); p.beat()
          for n in range(10):
              shown = c.put("anna", str(n), "1")
              if len(shown) == len(book): break
              book = shown
          assert shown == book and n == 3, (n, s.log()); s.says("journal fails: ", "EIO", call); p.wait("heartbeat", 2)
          s.says("journal works", deadline=12); p.wait("ask"); p.wait("heartbeat", 1); p.send(answer([]))
          book["anna", "new"] = "1"; assert c.put("anna", "new", "1") == book; p.wait("update", 5, "anna", "new", "1")
          # What was refused was sent to nobody, and does not come back.
          assert not [m for m in p.heard if m[0] == "update" and m[3] == "3"]; c.close(); p.close(); assert s.stop() == 0
          s = Server("--journal", path); assert s.list() == book and "torn" not in s.log(); s.kill()
      # The first sync is the start's, and the first write the header's, which follow does not see: nothing of that file was
      # synced before.
      at_once(
          lambda: once("strace", "write", 5), lambda: once("strace", "fdatasync", 5),
          lambda: once("follow", "write", 4), lambda: once("follow", "fdatasync", 5))
      print("right")
      """#)
  }
}
