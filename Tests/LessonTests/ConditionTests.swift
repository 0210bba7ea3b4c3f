import Glibc
import SystemCalls
import TestSupport
import Testing

/// Poor conditions: each gives one clear line, a right exit status, and never a state that the kernel did not reach.
@Suite struct ConditionTests {
  private let lesson = Place.product("lesson3-listen")

  /// A port that is taken, by a socket of this test.
  private func withTakenPort<Result>(_ body: (UInt16) throws -> Result) throws -> Result {
    let taken = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    defer { close(taken) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = bind(taken, $0, length)
        _ = getsockname(taken, $0, &length)
      }
    }
    return try body(UInt16(bigEndian: address.sin_port))
  }

  /// A shell that becomes the narrator may leave it a child that it has not started, and that lives on.
  @Test func aChildThatItHasNotStartedIsNotWaitedFor() throws {
    let result = try Program.run(
      ["sh", "-c", "sleep 60 & exec \"$@\"", "sh", Place.product("lesson1-socket"), "--format", "json"],
      deadline: 30)
    #expect(result.status == 0)
    #expect(try StoryLine.all(result.output).contains { $0["ended"] != nil })
  }

  @Test func aPortThatIsTaken() throws {
    try withTakenPort { port in
      let result = try Program.run([lesson, "--port", "\(port)", "--format", "json"])
      #expect(result.status == 1)
      #expect(result.errors == "lesson3-listen: bind: EADDRINUSE (Address already in use)\n")
      let steps = try StoryLine.all(result.output).filter(\.isStep)
      #expect(steps.last?.call == "bind" && steps.last?.errno == "EADDRINUSE")
      #expect(steps.last?.changes.isEmpty == true)
      for socket in steps.flatMap(\.sockets) {
        #expect(socket.state == "CLOSE")
        #expect(socket.local == nil)
      }
      let text = try Program.run([lesson, "--port", "\(port)"]).output
      #expect(text.contains("✗ bind"))
      #expect(text.contains("has the port"))
      #expect(!text.contains("LISTEN"))
    }
  }

  /// A stream that was closed does not become a socket of ours that the story is then written into.
  @Test func aClosedStandardStream() throws {
    let lessonResult = try Program.run(["/bin/sh", "-c", "exec \"$0\" --no-step >&-", lesson])
    #expect(lessonResult.status == 1)
    #expect(lessonResult.errors == "lesson3-listen: standard output is closed, and the story goes there\n")
    let follow = Place.product("follow")
    #expect(try Program.run(["/bin/sh", "-c", "exec \"$0\" -- true 2>&-", follow]).status == 1)
    // Input is the program's own affair, and it finds it closed.
    let program = "exec \"$0\" -o /dev/null -- sh -c '[ -e /proc/$$/fd/0 ] || echo closed' <&- 2>/dev/null"
    #expect(try Program.run(["/bin/sh", "-c", program, follow]).output == "closed\n")
  }

  @Test func aPortThatIsGiven() throws {
    let port = try withTakenPort { $0 }
    let result = try Program.run([lesson, "--port", "\(port)", "--format", "json"])
    #expect(result.status == 0)
    #expect(result.output.contains("\"local\":\"127.0.0.1:\(port)\""))
  }

  /// A program that asks the kernel for what it refuses: nothing is told but the refusal.
  @Test(.enabled(if: Witness.havePython)) func listenOnAConnectedSocket() throws {
    try Place.withTemporaryFolder { folder in
      let script = try Place.file(
        "connected.py", in: folder,
        """
        import socket
        a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen(1)
        b = socket.create_connection(a.getsockname())
        try: b.listen(5)
        except OSError: pass
        """)
      let story = "\(folder)/story.jsonl"
      let command = [
        Place.product("follow"), "--format", "json", "-o", story, "--", try #require(Witness.python), script,
      ]
      #expect(try Program.run(command).status == 0)
      let steps = try StoryLine.all(text(ofFile: story) ?? "").filter(\.isStep)
      let refused = try #require(steps.last { $0.call == "listen" })
      #expect(refused.errno == "EINVAL")
      #expect(refused.changes.isEmpty)
      let client = try #require(refused.sockets.first { $0.fd == refused["fd"] as? Int })
      #expect(client.state == "ESTABLISHED")
    }
  }

  /// strace holds its program already: nobody else may.
  @Test(.enabled(if: Witness.have("strace"))) func tracingIsRefused() throws {
    let strace = try #require(Witness.path("strace"))
    let result = try Program.run([strace, "-f", "-o", "/dev/null", lesson, "--no-step"])
    #expect(result.status == 1)
    #expect(result.output == "")
    #expect(result.errors.contains("does not let this program be traced (ptrace PTRACE_SEIZE: EPERM"))
    #expect(result.errors.filter { $0 == "\n" }.count == 1)
    // Without the narrator it works.
    #expect(try Program.run([strace, "-f", "-o", "/dev/null", lesson, "--bare"]).status == 0)
  }

  /// A seccomp filter that answers EPERM, as a container's profile does, and then the command.
  private static let refuse = """
    import ctypes, os, struct, sys
    libc = ctypes.CDLL(None, use_errno=True)
    number, error = int(sys.argv[1]), int(sys.argv[2])
    def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
    code = op(0x20, 0, 0, 0) + op(0x15, 0, 1, number) + op(6, 0, 0, 0x00050000 | error) + op(6, 0, 0, 0x7fff0000)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0
    os.execv(sys.argv[3], sys.argv[3:])
    """

  private func run(refusing number: Int, error: Int32, _ command: [String]) throws -> Program.Result {
    try Place.withTemporaryFolder { folder in
      let script = try Place.file("refuse.py", in: folder, Self.refuse)
      return try Program.run([try #require(Witness.python), script, "\(number)", "\(error)"] + command)
    }
  }

  /// As in Docker's default profile. 438: pidfd_getfd, on every architecture.
  @Test(.enabled(if: Witness.havePython)) func descriptorsCannotBeDuplicated() throws {
    let result = try run(refusing: 438, error: EPERM, [lesson, "--format", "json", "--no-step"])
    #expect(result.status == 0)
    let lines = try StoryLine.all(result.output)
    let notes = lines.compactMap { $0["note"] as? String }.filter {
      $0.contains("pidfd_getfd was refused (EPERM)")
    }
    #expect(notes.count == 1)
    let steps = lines.filter(\.isStep)
    // sock_diag still tells states and queues.
    let listen = try #require(steps.first { $0.call == "listen" })
    let listener = try #require(listen.sockets.first { $0.fd == 3 })
    #expect(
      listener.state == "LISTEN" && listener.number("acceptQueue") == 0 && listener.number("backlog") == 2)
    #expect((listener["options"] as? [String: Any])?["receiveBuffer"] == nil)
    let connect = try #require(steps.last { $0.call == "connect" })
    #expect(connect.sockets.filter { $0.state == "ESTABLISHED" }.count == 2)
    #expect(connect.sockets.first { $0.state == "LISTEN" }?.number("acceptQueue") == 1)
    // What it cannot know, a socket that is in no list, has no state.
    let socket = try #require(steps.first { $0.call == "socket" }?.sockets.first)
    #expect(socket.state == nil)
  }

  /// A kernel without the call at all.
  @Test(.enabled(if: Witness.havePython)) func theCallDoesNotExist() throws {
    let result = try run(refusing: 438, error: ENOSYS, [lesson, "--no-step"])
    #expect(result.status == 0)
    #expect(result.output.contains("pidfd_getfd was refused (ENOSYS)"))
    #expect(result.output.contains("LISTEN 1/2"))
  }

  #if arch(x86_64)
    private static let ptrace = 101
  #else
    private static let ptrace = 117
  #endif

  @Test(.enabled(if: Witness.havePython), arguments: [EPERM, ENOSYS]) func thereIsNoPtrace(error: Int32)
    throws
  {
    let result = try run(refusing: Self.ptrace, error: error, [lesson, "--no-step"])
    #expect(result.status == 1)
    #expect(result.output == "")
    #expect(result.errors.filter { $0 == "\n" }.count == 1)
    #expect(result.errors.contains(error == EPERM ? "does not let this program be traced" : "has no ptrace"))
  }

  /// An ordinary user: no packets, one line that says so, and EACCES on a low port.
  @Test(.enabled(if: Privilege.isRoot && Witness.have("setpriv"))) func anOrdinaryUser() throws {
    let user = [
      try #require(Witness.path("setpriv")), "--reuid=65534", "--regid=65534", "--clear-groups",
      "--inh-caps=-all",
    ]
    try Place.withTemporaryFolder { folder in
      // The build folder may not be open to everybody.
      for name in Course.lessons {
        for program in Course.programs(name) {
          #expect(try Program.run(["/bin/cp", Place.product(program), folder]).status == 0)
        }
        let result = try Program.run(user + ["\(folder)/\(name)", "--format", "json", "--no-step"])
        #expect(result.status == 0, "\(result.errors)")
        let lines = try StoryLine.all(result.output)
        // Said once, and only where packets would have been shown.
        let notes = lines.compactMap { $0["note"] as? String }.filter { $0.contains("CAP_NET_RAW") }
        #expect(notes.count == (["lesson1-socket", "lesson2-bind"].contains(name) ? 0 : 1))
        #expect(lines.filter(\.isStep).allSatisfy { $0.packets.isEmpty })
        let start = (text(ofFile: "/proc/sys/net/ipv4/ip_unprivileged_port_start") ?? "").prefix {
          $0 != "\n"
        }
        if name == "lesson2-bind", start != "0" {
          #expect(lines.contains { $0.call == "bind" && $0.errno == "EACCES" })
          #expect(!lines.contains { $0.say?.contains("Not refused: root") ?? false })
        }
        if name == "lesson3-listen" {
          let connect = lines.last { $0.call == "connect" }
          #expect(connect?.sockets.filter { $0.state == "ESTABLISHED" }.count == 2)
        }
      }
    }
  }

  @Test(.enabled(if: Privilege.canTap)) func packetsAreThoseOfTheHandshake() throws {
    let steps = try Course.story("lesson3-listen").filter(\.isStep)
    let refused = try #require(steps.first { $0.call == "connect" })
    #expect(refused.packets.map { $0["flags"] as? [String] } == [["SYN"], ["RST", "ACK"]])
    let connected = try #require(steps.last { $0.call == "connect" })
    #expect(connected.packets.map { $0["flags"] as? [String] } == [["SYN"], ["SYN", "ACK"], ["ACK"]])
    #expect(connected.packets.map { $0["sequence"] as? Int } == [0, 0, 1])
    #expect(connected.packets.map { $0["acknowledgment"] as? Int } == [nil, 1, 1])
    #expect(steps.filter { $0.call != "connect" }.allSatisfy { $0.packets.isEmpty })
  }

  /// tshark hears the same packets, with the same numbers.
  @Test(
    .enabled(if: Privilege.canTap && Witness.have("tshark")),
    arguments: [("lesson3-listen", 5), ("lesson4-accept", 6), ("lesson5-read", 15), ("lesson7-close", 40)])
  func tsharkHearsTheSamePackets(lesson: String, atLeast count: Int) throws {
    let tshark = try #require(Witness.path("tshark"))
    let capture = try Program([
      tshark, "-i", "lo", "-l", "-n", "-f", "tcp", "-T", "fields", "-e", "tcp.srcport", "-e", "tcp.dstport",
      "-e",
      "tcp.flags.str", "-e", "tcp.seq", "-e", "tcp.window_size_value", "-e", "tcp.len",
    ])
    // It says that it captures before it does: knock until it hears.
    let knock = [try #require(Witness.path("bash")), "-c", "exec 3<>/dev/tcp/127.0.0.1/1"]
    _ = try Clock.poll { () -> Bool? in
      _ = try Program.run(knock)
      return capture.lineIfAny(within: 0.2) == nil ? nil : true
    }
    let steps = try Course.story(lesson).filter(\.isStep)
    let told = steps.flatMap(\.packets).map { packet -> String in
      func port(_ name: String) -> String {
        String((packet[name] as? String ?? "").split(separator: ":").last ?? "")
      }
      // A RST in answer to a SYN carries sequence number 0; Wireshark counts a direction without a SYN from 1.
      let sequence =
        (packet["flags"] as? [String])?.contains("RST") == true ? "" : "\(packet["sequence"] ?? "")"
      return "\(port("from")) \(port("to")) \(sequence) \(packet["window"] ?? "") \(packet["length"] ?? "")"
    }
    #expect(told.count >= count)
    var heard: Set<String> = []
    while heard.intersection(told).count < Set(told).count {
      guard let line = capture.lineIfAny(within: 10) else { break }
      let words = line.split(separator: "\t").map(String.init)
      if words.count == 6 {
        let sequence = words[2].contains("R") ? "" : words[3]
        heard.insert([words[0], words[1], sequence, words[4], words[5]].joined(separator: " "))
      }
    }
    #expect(heard.isSuperset(of: told), "told \(told), heard \(heard)")
    capture.send(SIGINT)
    _ = try capture.finish()
  }
}
