import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// A program of a test, in Python: nothing of the toolkit is in it.
enum Script {
  /// Runs `body` with a `follow` command whose program is the script, and the file for its story.
  static func follow<Result>(
    _ script: String, options: [String] = [], arguments: [String] = [],
    _ body: (_ command: [String], _ story: String) throws -> Result
  ) throws -> Result {
    try Place.withTemporaryFolder { folder in
      let path = try Place.file("program.py", in: folder, script)
      let story = "\(folder)/story"
      let command =
        [Place.product("follow"), "--format", "json", "-o", story] + options + ["--", try python(), path]
        + arguments
      return try body(command, story)
    }
  }

  static func python() throws -> String { try #require(Witness.python) }

  /// The whole story of a script, and how it ended.
  static func story(_ script: String, options: [String] = []) throws -> (
    lines: [StoryLine], result: Program.Result
  ) {
    try follow(script, options: options) { command, story in
      let result = try Program.run(command)
      return (try StoryLine.all(text(ofFile: story) ?? ""), result)
    }
  }
}

@Suite(.enabled(if: Witness.havePython)) struct FollowTests {
  private static let everyCall = """
    import array, os, select, socket, struct, tempfile
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", 0)); s.listen(3)
    s.getsockname(); s.settimeout(5)
    c = socket.socket(); c.connect(s.getsockname()); c.getpeername()
    a, _ = s.accept()
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 3))
    a.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE); a.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    c.send(b"hello \\x00\\xff world\\n" * 4); a.recv(10); a.recv(1000)
    os.write(c.fileno(), b"written"); os.read(a.fileno(), 100)
    os.writev(c.fileno(), [b"one", b"two"]); os.readv(a.fileno(), [bytearray(4), bytearray(9)])
    c.sendmsg([b"part", b"s"]); a.recvmsg(100)
    select.select([a], [a], [], 0); select.poll().poll(0)
    p = select.poll(); p.register(a, select.POLLIN | select.POLLOUT); p.poll(100)
    e = select.epoll(); e.register(a, select.EPOLLIN | select.EPOLLET); e.poll(0); e.modify(a, select.EPOLLOUT); e.poll(0)
    e.unregister(a); e.close()
    d = os.dup(a.fileno()); os.dup2(a.fileno(), 30); os.close(d); os.close(30)
    a.setblocking(False)
    try: a.recv(10)
    except BlockingIOError: pass
    f = tempfile.TemporaryFile(); f.write(b"file"); f.flush(); os.sendfile(c.fileno(), f.fileno(), 0, 4)
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0)); u.sendto(b"datagram", u.getsockname()); u.recvfrom(100)
    x, y = socket.socketpair(); x.send(b"pair"); y.recv(10)
    socket.send_fds(x, [b"fd"], [0]); m, fds, _, _ = socket.recv_fds(y, 10, 4)
    n = socket.socket(socket.AF_UNIX); n.bind("\\0socketsteps-test-%d" % os.getpid()); n.listen(1); n.close()
    v = socket.socket(socket.AF_INET6)
    try: v.connect(("::1", 1))
    except OSError: pass
    c.shutdown(socket.SHUT_WR); a.recv(10); a.recv(10)
    try: s.connect(("127.0.0.1", 1))
    except OSError: pass
    """

  /// strace prints the same lines, in the same order, but for what no two runs share.
  @Test(.enabled(if: Witness.have("strace"))) func straceSeesTheSameCalls() throws {
    try Place.withTemporaryFolder { folder in
      let path = try Place.file("program.py", in: folder, Self.everyCall)
      let seen = try Strace.socketCalls(of: [try Script.python(), path]).values.flatMap { $0 }
      let story = "\(folder)/story"
      let command = [
        Place.product("follow"), "--format", "json", "-o", story, "--", try Script.python(), path,
      ]
      #expect(try Program.run(command).status == 0)
      let told = try StoryLine.all(text(ofFile: story) ?? "").filter(\.isStep).map(\.callText)
      let difference = comparable(told).difference(from: comparable(seen))
      #expect(difference.isEmpty, "\(difference)")
      #expect(told.count > 80)
    }
  }

  /// Without pointers, and what strace 6.1 prints otherwise: see CallTextTests.
  private func comparable(_ lines: [String]) -> [String] {
    lines.map {
      masked($0.replacing(/0x[0-9a-f]{6,}/, with: "0xN"))
        .replacing(/left \{[^}]*\}/, with: "left").replacing(/@"socketsteps-test-[N0-9]*"/, with: "@NAME")
    }
  }

  @Test func everyLineKeepsToTheSchema() throws {
    try Script.follow(Self.everyCall) { command, story in
      #expect(try Program.run(command).status == 0)
      let problem = try Schema.problem(with: text(ofFile: story) ?? "")
      #expect(problem == nil)
    }
  }

  /// Whoever follows the changes alone arrives at the sockets: none is told twice, and none is left out.
  @Test func changesAndSocketsAgree() throws {
    let (lines, result) = try Script.story(Self.everyCall)
    #expect(result.status == 0)
    let fields = ["state", "local", "peer", "receiveQueue", "sendQueue", "acceptQueue", "backlog"]
    var known: [String: String] = [:]
    func text(_ value: Any?) -> String? { value.flatMap { $0 is NSNull ? nil : "\($0)" } }
    for step in lines.filter(\.isStep) {
      for change in (step["meanwhile"] as? [[String: Any]] ?? []) + step.changes {
        guard let id = change["id"] as? Int, let field = change["field"] as? String, fields.contains(field)
        else { continue }
        let key = "\(id) \(field)"
        // A socket that appears has the rest of its members in `sockets`.
        if let before = known[key] { #expect(text(change["from"]) == before, "\(step.callText): \(change)") }
        known[key] = text(change["to"])
      }
      for socket in step.sockets {
        for field in fields {
          guard let id = socket.number("id"), let value = text(socket.members[field]) else { continue }
          let key = "\(id) \(field)"
          if let told = known[key] { #expect(told == value, "\(step.callText): \(field) of \(id)") }
          known[key] = value
        }
      }
    }
  }

  /// While a descriptor is held on to, the kernel keeps the ended connection apart from it; ss lists the connection.
  @Test func timeWaitBehindAnOpenDescriptor() throws {
    let (lines, _) = try Script.story(
      """
      import socket
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
      c = socket.create_connection(s.getsockname()); a, _ = s.accept()
      c.shutdown(socket.SHUT_WR); a.recv(1); a.close(); c.recv(1); c.getsockname()
      """)
    let last = try #require(lines.last { $0.call == "getsockname" })
    let client = try #require(last.sockets.first { $0.fd == last["fd"] as? Int })
    #expect(client.state == "TIME_WAIT" && client.peer != nil)
    #expect((client["timer"] as? [String: Any])?["kind"] as? String == "timewait")
  }

  /// The socket that has the port is named, not another one on the same port.
  @Test func whoHasThePort() throws {
    let (lines, _) = try Script.story(
      """
      import socket
      def bound(host, port):
          s = socket.socket(); s.bind((host, port)); return s
      a = bound("127.0.0.2", 0); port = a.getsockname()[1]
      b = bound("127.0.0.1", port)
      try: bound("127.0.0.1", port)
      except OSError: pass
      """)
    let refused = try #require(lines.first { $0.errno == "EADDRINUSE" })
    let holder = try #require(refused.sockets.first { $0.local?.hasPrefix("127.0.0.1:") ?? false })
    let named = refused["portHolder"] as? String
    // The list of idle sockets came with Linux 6.8.
    if holder["listedAs"] != nil {
      #expect(named == "fd \(holder.fd ?? -1) of this program has the port, in CLOSE")
    }
  }

  /// A thread that waits is told of, though another one makes calls all the time.
  @Test func waitingIsToldBesideABusyThread() throws {
    let (lines, _) = try Script.story(
      """
      import socket, threading, time
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
      thread = threading.Thread(target=s.accept); thread.start()
      for i in range(12):
          socket.socket().close(); time.sleep(0.1)
      socket.create_connection(s.getsockname()); thread.join()
      """)
    let waiting = try #require(
      lines.firstIndex { ($0["waiting"] as? String)?.hasPrefix("accept4(") ?? false })
    #expect(waiting < (lines.firstIndex { $0.call == "accept4" } ?? 0))
  }

  /// Many more sockets than are read at every step: none is lost, and none is told twice.
  @Test func hundredsOfSockets() throws {
    let (lines, result) = try Script.story(
      """
      import socket
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(300)
      pairs = []
      for i in range(80):
          c = socket.create_connection(s.getsockname()); pairs.append((c, s.accept()[0]))
      for c, a in pairs: c.close(); a.close()
      """)
    #expect(result.status == 0)
    let steps = lines.filter(\.isStep)
    #expect(steps.count { $0.call == "accept4" } == 80)
    let full = try #require(steps.last { $0.call == "accept4" })
    // Only what was read again is told again.
    #expect(full.sockets.count < 10)
    #expect(full.sockets.contains { $0.fd == full["result"] as? Int && $0.state == "ESTABLISHED" })
    let appeared = steps.flatMap(\.changes).filter {
      $0["field"] as? String == "exists" && $0["to"] as? Bool == true
    }
    #expect(appeared.count == Set(appeared.compactMap { $0["id"] as? Int }).count)
    #expect(steps.last { $0.call == "close" }?.sockets.contains { $0.state == "TIME_WAIT" } == true)
  }

  /// A number that led to a file, and then to a socket that no socket call made.
  @Test func socketsThatComeByOtherWays() throws {
    let (lines, _) = try Script.story(
      """
      import os, socket
      f = os.open("/dev/null", os.O_RDONLY); os.read(f, 1); os.close(f)
      a, b = socket.socketpair(); assert a.fileno() == f
      g = os.open("/dev/null", os.O_RDONLY); h = os.dup(g); os.close(g); os.close(h)
      socket.send_fds(a, [b"x"], [a.fileno()]); _, fds, _, _ = socket.recv_fds(b, 10, 4)
      os.write(fds[0], b"through"); b.recv(100)
      a.close(); b.close(); os.close(fds[0])
      """)
    let steps = lines.filter(\.isStep)
    let pair = try #require(steps.first { $0.call == "socketpair" })
    #expect(pair.sockets.count == 2)
    #expect(steps.contains { $0.callText.contains("\"through\"") && $0.call == "write" })
    #expect(steps.count { $0.call == "close" && $0["fd"] as? Int ?? 0 >= 3 } >= 3)
  }

  /// The first thread ends, and another goes on: the process is asked for by the one that lives.
  @Test func theFirstThreadMayEnd() throws {
    let (lines, _) = try Script.story(
      """
      import ctypes, os, socket, threading, time
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1); pid = os.getpid()
      def work():
          while ") Z" not in open("/proc/%d/stat" % pid).read(): time.sleep(0.01)
          c = socket.socket(); c.connect(s.getsockname()); os._exit(0)
      threading.Thread(target=work).start(); ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
      """)
    let connect = try #require(lines.last { $0.call == "connect" })
    #expect(connect.callText.contains("sin_addr=inet_addr(\"127.0.0.1\")"))
    // pidfd_open speaks for a thread since Linux 6.9; without, sock_diag still knows the states.
    #expect(connect.sockets.first { $0.state == "LISTEN" }?.number("acceptQueue") == 1)
  }

  /// Another program on the same port of another address, and its clients, are not this story's.
  @Test func onlyItsOwnSockets() throws {
    let foreign = """
      import socket
      s = socket.socket(); s.bind(("127.0.0.2", 0)); s.listen(5); port = s.getsockname()[1]
      c = [socket.create_connection(("127.0.0.2", port)) for _ in range(2)]
      print(port, flush=True); input()
      """
    let other = try Program([try Script.python(), "-c", foreign])
    let port = try #require(try other.line())
    let (lines, result) = try Script.story(
      "import socket; s = socket.socket(); s.bind(('127.0.0.1', \(port))); s.listen(1); c = socket.create_connection(s.getsockname())"
    )
    try #require(result.status == 0, "\(result.errors)")
    let connect = try #require(lines.last { $0.call == "connect" })
    #expect(connect.sockets.count == 3)
    #expect(connect.sockets.allSatisfy { !($0.local ?? "").hasPrefix("127.0.0.2") })
  }

  /// A listening socket is closed while a connection waits in it: all of that is close's doing.
  @Test func whatACloseDoes() throws {
    let (lines, _) = try Script.story(
      """
      import socket
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1); c = socket.create_connection(s.getsockname())
      s.close(); c.getsockname()
      """)
    let close = try #require(
      lines.first {
        $0.call == "close" && $0["fd"] as? Int == 3 && !$0.changes.isEmpty && $0.sockets.count < 3
      })
    #expect((close["meanwhile"] as? [Any])?.isEmpty == true)
    #expect(
      close.changes.contains { $0["field"] as? String == "state" && $0["from"] as? String == "ESTABLISHED" })
  }

  /// Several calls run at once: each is credited with what it did, and with nothing else.
  @Test func nobodyIsCreditedWithWhatOthersDid() throws {
    let (lines, result) = try Script.story(
      """
      import os, socket
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(5)
      if os.fork() == 0:
          for i in range(3):
              a, _ = s.accept()
              while (data := a.recv(100)): a.sendall(data)
              a.close()
          os._exit(0)
      for i in range(3):
          c = socket.socket(); c.connect(s.getsockname()); c.getsockname(); c.sendall(b"ping"); c.getpeername()
          assert c.recv(100) == b"ping"; c.close()
      os.wait()
      """)
    #expect(result.status == 0)
    for step in lines.filter(\.isStep) {
      let fields = step.changes.compactMap { change -> String? in
        guard let field = change["field"] as? String else { return nil }
        if let from = change["from"] as? Int, let to = change["to"] as? Int {
          return field + (to > from ? "+" : "-")
        }
        return field
      }
      switch step.call {
      case "getsockname", "getpeername":
        #expect(fields.isEmpty, "\(step.callText): \(fields)")
      case "recvfrom":
        #expect(
          !fields.contains("receiveQueue+") && !fields.contains("acceptQueue+"), "\(step.callText): \(fields)"
        )
      case "sendto": #expect(!fields.contains("receiveQueue-"), "\(step.callText): \(fields)")
      case "accept4":
        #expect(
          !fields.contains("receiveQueue-") && !fields.contains("acceptQueue+"), "\(step.callText): \(fields)"
        )
      default: break
      }
      if step.call == "connect", step.errno == nil {
        #expect(
          step.changes.contains { $0["field"] as? String == "state" && $0["to"] as? String == "ESTABLISHED" })
      }
      if !Privilege.canTap { continue }
      if ["getsockname", "getpeername", "socket", "bind", "listen"].contains(step.call) { continue }
      if step.call == "connect" { #expect(step.packets.contains { ($0["flags"] as? [String]) == ["SYN"] }) }
    }
  }

  /// A child that is killed in a call leaves nothing behind that would swallow what happens next.
  @Test func aCallThatNeverReturns() throws {
    let (lines, _) = try Script.story(
      """
      import os, select, signal, socket
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(5)
      child = os.fork()
      if child == 0: s.accept()
      while "accept" not in open("/proc/%d/wchan" % child).read(): select.select([], [], [], 0.01)
      os.kill(child, signal.SIGKILL); os.waitpid(child, 0)
      c = socket.socket(); c.connect(s.getsockname()); c.getsockname()
      """)
    let connect = try #require(lines.last { $0.call == "connect" })
    #expect(connect.changes.contains { $0["field"] as? String == "acceptQueue" && $0["to"] as? Int == 1 })
  }

  /// timeout(1) signals its child, and then the whole group: that is no second ctrl-C, and the program ends in its own way.
  @Test(.enabled(if: Witness.have("timeout")), arguments: [[], ["--summary"]])
  func aSignalThatComesTwiceAtOnce(options: [String]) throws {
    let script = """
      import select, signal, socket, sys
      signal.signal(signal.SIGTERM, lambda *_: (select.select([], [], [], 0.2), print("clean", flush=True), sys.exit(0)))
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1); s.accept()
      """
    try Script.follow(script, options: options) { command, _ in
      let result = try Program.run([try #require(Witness.path("timeout")), "1"] + command)
      #expect(result.output.hasPrefix("clean\n"), "\(result.errors)")
    }
  }

  /// Started by nohup, it leaves SIGHUP alone.
  @Test func anIgnoredSignalStaysIgnored() throws {
    try Script.follow("import sys; print('ready', flush=True); sys.stdin.readline(); print('end')") {
      command, _ in
      let program = try Program(["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh"] + command)
      #expect(try program.line() == "ready")
      program.send(SIGHUP)
      program.send(SIGHUP)
      program.write("\n")
      #expect(try program.line() == "end")
      #expect(try program.finish().status == 0)
    }
  }

  /// Nobody reads the story, and the pipe is full: a signal still ends it.
  @Test func aReaderThatDoesNotReadIsNoPrison() throws {
    try Place.withTemporaryFolder { folder in
      let script = try Place.file(
        "program.py", in: folder, "import socket\nwhile True: socket.socket().close()")
      let program = try Program([
        Place.product("follow"), "-o", "/dev/stdout", "--", try Script.python(), script,
      ])
      // Its output is a pipe that this test does not read: 64 KiB, then it is full.
      _ = try Clock.poll { () -> Bool? in
        (text(ofFile: "/proc/\(program.process)/wchan") ?? "").contains("poll") ? true : nil
      }
      program.send(SIGTERM)
      program.send(SIGTERM)
      program.send(SIGINT)
      _ = try Clock.poll { program.hasEnded ? true : nil }
    }
  }

  /// A name with escape sequences in it is shown, and not obeyed.
  @Test func namesDoNotSteerTheTerminal() throws {
    let program =
      "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0evil\\x1b[2J\\x07'); s.listen(1)"
    let result = try Program.run([Place.product("follow"), "-v", "--", try Script.python(), "-c", program])
    #expect(result.errors.contains("evil"))
    #expect(!result.errors.unicodeScalars.contains { $0.value == 0x1b || $0.value == 7 })
  }

  @Test func theProgramsOwnStreamsAreLeftAlone() throws {
    let script =
      "import sys; d = sys.stdin.read(); print(d.upper(), end=''); print('err', file=sys.stderr); sys.exit(3)"
    try Script.follow(script) { command, _ in
      let result = try Program.run(command, input: "words\n")
      #expect(result.output == "WORDS\n")
      #expect(result.errors == "err\n")
      #expect(result.status == 3)
    }
  }

  @Test func theStoryGoesToStandardErrorByDefault() throws {
    let program = "import socket; socket.socket().close(); print('mine')"
    let result = try Program.run([Place.product("follow"), "--", try Script.python(), "-c", program])
    #expect(result.output == "mine\n")
    #expect(result.errors.contains("socket(AF_INET"))
    #expect(result.errors.contains("new: CLOSE"))
  }

  @Test func aSignalsDeathComesOut() throws {
    let (lines, result) = try Script.story("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    #expect(result.status == 128 + SIGTERM)
    #expect(lines.last?["signal"] as? String == "SIGTERM")
  }

  @Test func commandsThatDoNotStart() throws {
    let missing = try Program.run([Place.product("follow"), "--", "no-such-command-anywhere"])
    #expect(missing.status == 127)
    #expect(missing.errors.hasPrefix("follow: no-such-command-anywhere was not started: ENOENT"))
    #expect(missing.errors.filter { $0 == "\n" }.count == 1)
    let forbidden = try Program.run([Place.product("follow"), "--", "/etc/passwd"])
    #expect(forbidden.status == 126)
    #expect(forbidden.errors.contains("EACCES"))
  }

  @Test(arguments: [
    (["--only", "lissen", "--", "true"], "did you mean listen?"), ([], "what is to be followed?"),
    (["--only", "", "--", "true"], "--only needs"), (["--nope", "--", "true"], "there is no option --nope"),
    (["--summary", "--step", "--", "true"], "leave --step out"),
  ])
  func badOptions(words: [String], expected: String) throws {
    let result = try Program.run([Place.product("follow")] + words)
    #expect(result.status == 2)
    #expect(result.errors.contains(expected))
  }

  @Test func aFileThatCannotBeWritten() throws {
    let result = try Program.run([Place.product("follow"), "-o", "/nowhere/story", "--", "true"])
    #expect(result.status == 1)
    #expect(
      result.errors
        == "follow: cannot write the story to /nowhere/story: ENOENT (No such file or directory)\n")
    // A disk that fills up is no reason to end the program.
    let full = try Program.run([Place.product("follow"), "-o", "/dev/full", "--", "sh", "-c", "exit 5"])
    #expect(full.status == 5)
  }

  @Test func onlySomeCalls() throws {
    let (lines, _) = try Script.story(Self.everyCall, options: ["--only", "listen,accept4"])
    #expect(Set(lines.filter(\.isStep).map(\.call)) == ["listen", "accept4"])
  }

  @Test func threads() throws {
    let (lines, result) = try Script.story(
      """
      import socket, socketserver, threading
      class Echo(socketserver.BaseRequestHandler):
          def handle(self):
              while (data := self.request.recv(100)): self.request.sendall(data)
      server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
      thread = threading.Thread(target=server.serve_forever); thread.start()
      for i in range(3):
          client = socket.create_connection(server.server_address); client.sendall(b"hi"); assert client.recv(10) == b"hi"; client.close()
      server.shutdown(); thread.join(); server.server_close()
      """)
    #expect(result.status == 0)
    let steps = lines.filter(\.isStep)
    #expect(Set(steps.compactMap { $0["pid"] as? Int }).count == 1)
    #expect(Set(steps.compactMap { $0["tid"] as? Int }).count == 5)
    let accepted = steps.filter { $0.call == "accept4" }
    #expect(accepted.count == 3)
    // The descriptor is told by the call that made it, though other threads run beside it.
    for accept in accepted {
      #expect(
        accept.changes.contains {
          $0["field"] as? String == "fd" && $0["to"] as? Int == accept["result"] as? Int
        })
    }
  }

  @Test func forks() throws {
    let (lines, result) = try Script.story(
      """
      import os, socket
      server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen(5)
      child = os.fork()
      if child == 0:
          connection, _ = server.accept(); server.close()
          connection.sendall(connection.recv(100)); os._exit(7)
      server_address = server.getsockname(); server.close()
      client = socket.create_connection(server_address); client.sendall(b"fork"); assert client.recv(10) == b"fork"
      assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
      """)
    #expect(result.status == 0)
    let started = lines.first { $0["process"] as? String == "started" }
    let child = try #require(started?["pid"] as? Int)
    #expect(lines.contains { $0.call == "accept4" && $0["pid"] as? Int == child })
    #expect(
      lines.contains {
        $0["process"] as? String == "ended" && $0["pid"] as? Int == child && $0["status"] as? Int == 7
      })
    // One listening socket, held by two processes.
    let held = lines.filter(\.isStep).flatMap(\.sockets).filter { $0.state == "LISTEN" }
    #expect(held.contains { ($0["descriptors"] as? [Any])?.count == 2 })
  }

  /// The side that closes first: FIN_WAIT2, then TIME_WAIT with its timer, under one cookie, as ss has it.
  @Test(.enabled(if: Witness.have("ss"))) func aClosedSocketIsFollowedIntoTimeWait() throws {
    let (lines, _) = try Script.story(
      """
      import socket
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
      c = socket.create_connection(s.getsockname()); a, _ = s.accept()
      c.close(); a.close()
      """)
    let steps = lines.filter(\.isStep)
    let closes = steps.filter { $0.call == "close" }
    let connected = try #require(steps.last { $0.call == "accept4" })
    let client = try #require(connected.sockets.first { $0.fd == connected["result"] as? Int }?.peer)
    func state(_ step: StoryLine) -> StorySocket? { step.sockets.first { $0.local == client } }
    let first = try #require(closes.first { state($0)?.state == "FIN_WAIT2" })
    let last = try #require(closes.first { state($0)?.state == "TIME_WAIT" })
    #expect(state(first)?.number("cookie") == state(last)?.number("cookie"))
    #expect(state(last)?.fd == nil)
    #expect((state(last)?["timer"] as? [String: Any])?["kind"] as? String == "timewait")
    let row = try #require(try SSRow.all().first { $0.local == client })
    #expect(row.state == "TIME_WAIT")
    #expect(row.rest.contains("timer:(timewait,"))
  }

  /// Over IPv6, and from an IPv4 client to a socket that takes both.
  @Test func bothEndsAreFoundWhateverTheFamily() throws {
    let (lines, result) = try Script.story(
      """
      import socket
      s = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
      port = s.getsockname()[1]
      for host in ("::1", "127.0.0.1"):
          c = socket.create_connection((host, port)); c.send(b"x")
          a, _ = s.accept(); c.close(); a.close()
      """)
    try #require(result.status == 0, "\(result.errors)")
    let connects = lines.filter { $0.call == "connect" && $0.errno == nil }
    #expect(connects.count == 2)
    for connect in connects {
      let client = try #require(connect.sockets.first { $0.fd == connect["fd"] as? Int })
      #expect(client.state == "ESTABLISHED")
      #expect(connect.sockets.first { $0.state == "LISTEN" }?.number("acceptQueue") == 1)
      let unaccepted = connect.sockets.filter { $0.fd == nil && $0.state == "ESTABLISHED" }
      #expect(unaccepted.count == 1)
    }
  }

  /// Another program's network namespace: sock_diag answers for ours only, and must not be believed.
  @Test(.enabled(if: Privilege.isRoot && Witness.have("unshare", "ip"))) func anotherNetworkNamespace() throws
  {
    let script = """
      import socket, subprocess
      subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
      s = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen(7)
      """
    try Place.withTemporaryFolder { folder in
      let path = try Place.file("program.py", in: folder, script)
      let story = "\(folder)/story"
      let result = try Program.run([
        Place.product("follow"), "--format", "json", "-o", story, "--", try #require(Witness.path("unshare")),
        "-n",
        try Script.python(), path,
      ])
      #expect(result.status == 0, "\(result.errors)")
      let listen = try #require(
        try StoryLine.all(text(ofFile: story) ?? "").first { $0.call == "listen" && $0.errno == nil })
      let listener = try #require(listen.sockets.first { $0.state == "LISTEN" })
      #expect(listener.local == "127.0.0.1:8080" && listener.number("backlog") == 7)
    }
  }

  /// Keys come from the terminal; the program's input is its own.
  @Test func stepByStep() throws {
    let script = "import socket; s = socket.socket(); s.close(); print(input())"
    try Script.follow(script, options: ["--step"]) { command, story in
      let shell = "exec \"$@\" < \"$0\""
      let input = try Place.file("input", in: String(story.dropLast("/story".count)), "words\n")
      let program = try Program(["/bin/sh", "-c", shell, input] + command, onTerminal: true)
      var position = 0
      var pauses = 0
      while !program.hasEnded {
        guard let next = try? program.waitForTerminal("q: quit", from: position, deadline: 3) else { break }
        position = next
        pauses += 1
        program.press("\n")
      }
      let result = try program.finish()
      #expect(result.output == "words\n", "\(result.errors)")
      #expect(pauses >= 2)
    }
  }

  @Test func execGoesOn() throws {
    let script =
      "import os, socket, sys; socket.socket(); os.execv(sys.executable, [sys.executable, '-c', 'import socket; socket.socket(socket.AF_INET6)'])"
    let (lines, _) = try Script.story(script)
    #expect(lines.contains { $0["process"] as? String == "executed" })
    #expect(
      lines.filter(\.isStep).last { $0.call == "socket" }?.callText.hasPrefix("socket(AF_INET6") == true)
  }

  @Test func aBlockedCallIsToldAsWaiting() throws {
    try Script.follow("import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(1); s.accept()")
    { command, story in
      let program = try Program(command)
      let line = try Clock.poll {
        try StoryLine.all(text(ofFile: story) ?? "").first { $0["waiting"] != nil }
      }
      #expect((line["waiting"] as? String)?.hasPrefix("accept4(3, ") == true)
      // SIGTERM is passed on, and is the program's end and ours.
      program.send(SIGTERM)
      #expect(try program.finish().status == 128 + SIGTERM)
      let ended = try StoryLine.all(text(ofFile: story) ?? "").last
      #expect(ended?["signal"] as? String == "SIGTERM")
    }
  }

  @Test func interruptReachesTheProgramOnceAndItsStoryGoesOn() throws {
    let script = """
      import select, socket, signal, sys
      count = 0
      def handler(*_):
          global count; count += 1
      signal.signal(signal.SIGINT, handler)
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1); print("ready", flush=True)
      while count == 0: select.select([], [], [], 0.02)
      s.close(); select.select([], [], [], 0.2); print(count, flush=True); sys.exit(9)
      """
    try Script.follow(script) { command, story in
      let program = try Program(command, onTerminal: true)
      #expect(try program.line() == "ready")
      program.press("\u{3}")
      #expect(try program.line() == "1")
      #expect(try program.finish().status == 9)
      #expect(try StoryLine.all(text(ofFile: story) ?? "").contains { $0.call == "close" })
    }
  }

  @Test func aStoppedProgramStaysStoppedUntilItIsContinued() throws {
    let script =
      "import os, socket, sys; print(os.getpid(), flush=True); sys.stdin.readline(); socket.socket().close(); print('done')"
    try Script.follow(script) { command, _ in
      let program = try Program(command)
      let pid = try #require(try program.line().flatMap { pid_t($0) })
      kill(pid, SIGSTOP)
      func state() -> Character? {
        (text(ofFile: "/proc/\(pid)/stat") ?? "").split(separator: ")").last?.dropFirst().first
      }
      _ = try Clock.poll { state() == "T" || state() == "t" ? true : nil }
      program.write("\n")
      // Stopped is stopped: its input is there, and it does not read it.
      #expect(program.lineIfAny(within: 0.5) == nil)
      kill(pid, SIGCONT)
      #expect(try program.line() == "done")
      #expect(try program.finish().status == 0)
    }
  }

  /// The tracer is killed without a warning.
  @Test func nothingOutlivesItsTracer() throws {
    let script = """
      import os, socket, threading
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
      child = os.fork()
      if child == 0: s.accept()
      print(os.getpid(), child, flush=True); s.accept()
      """
    try Script.follow(script) { command, _ in
      let program = try Program(command)
      let pids = try #require(try program.line()).split(separator: " ").compactMap { pid_t($0) }
      #expect(pids.count == 2)
      kill(program.process, SIGKILL)
      for pid in pids {
        _ = try Clock.poll { () -> Bool? in
          let stat = text(ofFile: "/proc/\(pid)/stat") ?? " Z"
          return stat.contains(") Z") || stat == " Z" ? true : nil
        }
      }
    }
  }

  @Test func ioUringIsToldAsWhatItIs() throws {
    let (lines, result) = try Script.story(
      """
      import ctypes
      libc = ctypes.CDLL(None, use_errno=True)
      ring = libc.syscall(425, 4, ctypes.create_string_buffer(120))
      print(ring)
      """)
    guard let setup = lines.first(where: { $0.call == "io_uring_setup" }) else {
      Issue.record("io_uring_setup was not told")
      return
    }
    // Forbidden here: kernel.io_uring_disabled.
    if setup.errno == "EPERM" || setup.errno == "ENOSYS" { return }
    #expect(Int(result.lines.first ?? "") ?? -1 >= 0)
    #expect(lines.contains { ($0["note"] as? String)?.contains("io_uring") ?? false })
  }

  /// The summary's table counts what strace -c counts.
  @Test func theSummaryCounts() throws {
    let script = """
      import socket
      s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(5)
      c = socket.create_connection(s.getsockname()); d, _ = s.accept()
      for i in range(250): c.send(b"x" * 64); d.recv(64)
      try: s.getpeername()
      except OSError: pass
      """
    let (lines, result) = try Script.story(script, options: ["--summary"])
    #expect(result.status == 0)
    let rows = try #require(lines.first?["summary"] as? [[String: Any]])
    func row(_ call: String) -> [String: Any] { rows.first { $0["call"] as? String == call } ?? [:] }
    #expect(row("sendto")["calls"] as? Int == 250 && row("sendto")["bytes"] as? Int == 16000)
    #expect(row("recvfrom")["calls"] as? Int == 250 && row("recvfrom")["bytes"] as? Int == 16000)
    #expect(row("getpeername")["errors"] as? Int ?? 0 >= 1)
    #expect(row("listen")["calls"] as? Int == 1)
    let table = try Program.run([
      Place.product("follow"), "--summary", "--", try Script.python(), "-c",
      "import socket; socket.socket().close()",
    ]).errors
    #expect(table.contains("calls") && table.contains("socket"))
  }

  /// Memory stays flat: twenty times the calls do not need more of it.
  @Test func theSummaryKeepsNothing() throws {
    func peak(_ calls: Int) throws -> Int {
      let script = """
        import socket
        a, b = socket.socketpair()
        for i in range(\(calls)): a.send(b'x'); b.recv(1)
        print('ready', flush=True); input()
        """
      return try Script.follow(script, options: ["--summary"]) { command, _ in
        let program = try Program(command)
        #expect(try program.line(deadline: 60) == "ready")
        let status = (text(ofFile: "/proc/\(program.process)/status") ?? "").split(separator: "\n")
        let memory = status.first { $0.hasPrefix("VmHWM:") }.flatMap { Int($0.filter(\.isNumber)) }
        program.write("\n")
        #expect(try program.finish().status == 0)
        return try #require(memory)
      }
    }
    let small = try peak(200)
    let large = try peak(4000)
    #expect(large < small + 2048, "\(small) KiB, then \(large) KiB")
  }

  /// The story is told to nobody; the program runs to its end, and its status comes out.
  @Test func aReaderThatGoesAwayDoesNotEndTheProgram() throws {
    try Place.withTemporaryFolder { folder in
      let script = try Place.file(
        "program.py", in: folder,
        "import socket, sys\nfor i in range(50): socket.socket().close()\nopen(sys.argv[1], 'w').write('ran')\nsys.exit(4)"
      )
      let shell = "\"$0\" -o /dev/stdout -- \"$1\" \"$2\" \"$3\"; echo $? > \"$4\""
      let program = try Program([
        "/bin/sh", "-c", shell, Place.product("follow"), try Script.python(), script, "\(folder)/ran",
        "\(folder)/status",
      ])
      _ = try program.line()
      program.closeOutput()
      _ = try program.finish()
      #expect(text(ofFile: "\(folder)/ran") == "ran")
      #expect(text(ofFile: "\(folder)/status") == "4\n")
    }
  }
}

/// Programs that nobody here wrote, beside `ss`.
@Suite struct ForeignProgramTests {
  private func step(_ story: String, _ isMeant: (StoryLine) -> Bool) throws -> StoryLine {
    try Clock.poll { try StoryLine.all(completeLines(story)).first { $0.isStep && isMeant($0) } }
  }

  private func completeLines(_ path: String) -> String {
    let all = text(ofFile: path) ?? ""
    return all.lastIndex(of: "\n").map { String(all[...$0]) } ?? ""
  }

  private func port(_ address: String?) -> Int? { address?.split(separator: ":").last.flatMap { Int($0) } }

  private func ssRow(_ socket: StorySocket) throws -> SSRow? {
    guard let cookie = socket.number("cookie") else { return nil }
    let text = "sk:" + String(cookie, radix: 16) + " "
    return try SSRow.all().first { "\($0.rest) ".contains(text) }
  }

  @Test(.enabled(if: Witness.havePython && Witness.have("curl", "ss"))) func httpServerAndCurl() throws {
    try Place.withTemporaryFolder { folder in
      _ = try Place.file("page.txt", in: folder, "hello\n")
      let story = "\(folder)/story"
      let server = try Program([
        Place.product("follow"), "--format", "json", "-o", story, "--", try Script.python(), "-u", "-m",
        "http.server",
        "--bind", "127.0.0.1", "-d", folder, "0",
      ])
      let listening = try step(story) { $0.call == "listen" }
      let listener = try #require(listening.sockets.first { $0.state == "LISTEN" })
      let row = try #require(try ssRow(listener))
      #expect(
        row.state == "LISTEN" && row.local == listener.local && row.sendQueue == listener.number("backlog"))
      let port = try #require(self.port(listener.local))
      let page = try Program.run([
        try #require(Witness.path("curl")), "-sS", "http://127.0.0.1:\(port)/page.txt",
      ])
      #expect(page.output == "hello\n")
      let accepted = try step(story) { $0.call == "accept4" && $0.errno == nil }
      #expect(accepted.sockets.contains { $0.state == "ESTABLISHED" && self.port($0.local) == port })
      let request = try step(story) { $0.callText.contains("GET /page.txt HTTP/1.1") }
      #expect(request.call == "recvfrom")
      #expect(try step(story) { $0.callText.contains("HTTP/1.0 200 OK") }.call.hasPrefix("send"))
      // curl is the peer, and named.
      let lines = try StoryLine.all(completeLines(story))
      let peers = lines.filter(\.isStep).flatMap(\.sockets).compactMap { $0["heldBy"] as? [String: Any] }
      #expect(peers.contains { $0["name"] as? String == "curl" })
      server.send(SIGINT)
      _ = try server.finish()
      #expect(try StoryLine.all(completeLines(story)).last?["ended"] as? Bool == true)
    }
  }

  /// Python's own servers, a thread or a process for each client, with two clients held open while ss is asked.
  @Test(
    .enabled(if: Witness.havePython && Witness.have("ss")),
    arguments: ["ThreadingTCPServer", "ForkingTCPServer"])
  func pythonServers(kind: String) throws {
    let script = """
      import socket, socketserver, sys, threading
      class Echo(socketserver.BaseRequestHandler):
          def handle(self):
              while (data := self.request.recv(100)): self.request.sendall(data)
      server = socketserver.\(kind)(("127.0.0.1", 0), Echo); server.daemon_threads = True
      print(server.server_address[1], flush=True)
      threading.Thread(target=server.serve_forever, daemon=True, args=(30,)).start()
      sys.stdin.readline(); import os; os._exit(0)
      """
    try Script.follow(script) { command, story in
      let server = try Program(command)
      let port = try #require(try server.line())
      let client = """
        import socket, sys
        c = [socket.create_connection(("127.0.0.1", \(port))) for _ in range(2)]
        for s in c: s.sendall(b"hi"); assert s.recv(10) == b"hi"
        print("ready", flush=True); sys.stdin.readline()
        """
      let clients = try Program([try Script.python(), "-c", client])
      #expect(try clients.line() == "ready")
      // Both were answered: the story has told at least the sends.
      let last = try Clock.poll { () -> StoryLine? in
        let steps = try StoryLine.all(self.completeLines(story)).filter(\.isStep)
        return steps.count { $0.callText.contains("\"hi\"") && $0.call == "sendto" } == 2 ? steps.last : nil
      }
      var compared = 0
      for socket in last.sockets where ["LISTEN", "ESTABLISHED"].contains(socket.state) {
        let row = try #require(try ssRow(socket), "\(socket.members)")
        #expect(row.state == socket.state && row.local == socket.local)
        if let peer = socket.peer { #expect(row.peer == peer) }
        compared += 1
      }
      // The listener, two connections, and their other ends.
      #expect(compared == 5)
      clients.write("\n")
      server.write("\n")
      _ = try clients.finish()
      server.send(SIGTERM)
      _ = try server.finish()
    }
  }

  @Test(.enabled(if: Witness.have("nc", "ss"))) func netcat() throws {
    try Place.withTemporaryFolder { folder in
      let story = "\(folder)/story"
      let server = try Program([
        Place.product("follow"), "--format", "json", "-o", story, "--", try #require(Witness.path("nc")),
        "-l", "127.0.0.1", "0",
      ])
      let listening = try step(story) { $0.call == "listen" }
      let listener = try #require(listening.sockets.first { $0.state == "LISTEN" })
      let port = try #require(self.port(listener.local))
      let client = try Program([try #require(Witness.path("nc")), "-N", "127.0.0.1", "\(port)"])
      client.write("over the wire\n")
      #expect(try server.line() == "over the wire")
      let accepted = try step(story) { $0.call.hasPrefix("accept") && $0.errno == nil }
      let connected = try #require(accepted.sockets.first { $0.fd == accepted["result"] as? Int })
      let row = try #require(try ssRow(connected))
      #expect(row.state == "ESTABLISHED" && row.local == connected.local && row.peer == connected.peer)
      client.endInput()
      server.endInput()
      _ = try client.finish()
      #expect(try server.finish().status == 0)
    }
  }

  @Test(.enabled(if: Witness.have("node", "curl", "ss"))) func node() throws {
    try Place.withTemporaryFolder { folder in
      let script = try Place.file(
        "server.js", in: folder,
        """
        const server = require('http').createServer((_, r) => r.end('node\\n'));
        server.listen(0, '127.0.0.1', () => console.log(server.address().port));
        process.on('SIGTERM', () => { server.close(); server.closeAllConnections(); });
        """)
      let story = "\(folder)/story"
      let server = try Program([
        Place.product("follow"), "--format", "json", "-o", story, "--", try #require(Witness.path("node")),
        script,
      ])
      let port = try #require(try server.line(deadline: 60))
      #expect(
        try Program.run([try #require(Witness.path("curl")), "-sS", "http://127.0.0.1:\(port)/"]).output
          == "node\n")
      let accepted = try step(story) { $0.call == "accept4" && $0.errno == nil }
      #expect(accepted.sockets.contains { $0.state == "LISTEN" && $0.local == "127.0.0.1:\(port)" })
      #expect(try step(story) { $0.call == "epoll_ctl" }.callText.contains("EPOLL_CTL_ADD"))
      let listener = try #require(accepted.sockets.first { $0.state == "LISTEN" })
      let row = try #require(try ssRow(listener))
      #expect(
        row.state == "LISTEN" && row.local == listener.local && row.sendQueue == listener.number("backlog"))
      server.send(SIGTERM)
      #expect(try server.finish().status == 0)
    }
  }
}
