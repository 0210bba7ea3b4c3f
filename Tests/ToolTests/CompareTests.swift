import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `compare`, against witnesses that know nothing of it: strace for the calls, ss for the states, Python for the other side.
@Suite struct CompareTests {
  private static let servers = [
    "Raw", "FileHandle", "FileHandleReadData", "FileHandleReadability", "FileHandleNotification",
    "SocketPort",
    "DispatchSource", "DispatchIO",
  ]
  private static let clients = [
    "RawClient", "RawClientAnew", "URLSession", "DataContentsOf", "FileHandleClient",
  ]
  private static let wrappers = (servers + clients).filter { !$0.hasPrefix("Raw") }
  /// Whose calls are the same in each run; where several threads take part, some come once more or less often.
  private static let steady: Set = [
    "Raw", "FileHandle", "FileHandleReadData", "RawClient", "FileHandleClient",
  ]

  /// The lines of a comparison in JSON, read by Foundation.
  private func lines(_ words: [String]) throws -> [[String: Any]] {
    let result = try Program.run(compare(["--format", "json"] + words), deadline: 120)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors == "")
    return try result.output.split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  /// In a network of its own: 10,000 round trips as fast as can be are nothing for others' stories.
  private func compare(_ words: [String]) -> [String] { inItsOwnNetwork([Place.product("compare")] + words) }

  /// Raw comes along with any other.
  private func asked(_ wrapper: String) -> String {
    ["Raw": "FileHandle", "RawClient": "URLSession", "RawClientAnew": "FileHandleClient"][wrapper] ?? wrapper
  }

  /// Plays the other side of a program that strace follows: a client that says hello, or an HTTP server; the first argument is which.
  private static let otherSide = """
    import os, socket, subprocess, sys, threading, time
    def family(pid):
        try: children = open(f"/proc/{pid}/task/{pid}/children").read().split()
        except OSError: children = []
        return [pid] + [d for c in children for d in family(int(c))]
    def listening(pid):
        inodes = set()
        for p in family(pid):
            try:
                for fd in os.listdir(f"/proc/{p}/fd"): inodes.add(os.readlink(f"/proc/{p}/fd/{fd}"))
            except OSError: pass
        for line in open("/proc/net/tcp").read().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes: return int(words[1].split(":")[1], 16)
    command = sys.argv[2:]
    if sys.argv[1] == "client":
        program = subprocess.Popen(command)
        deadline = time.monotonic() + 20; port = None
        while port is None and time.monotonic() < deadline: port = listening(program.pid)
        s = socket.create_connection(("127.0.0.1", port), 20)
        s.sendall(b"Hello, kernel.")
        got = b""
        while len(got) < 14: got += s.recv(100)
        s.shutdown(socket.SHUT_WR)
        assert got == b"Hello, kernel." and s.recv(1) == b""
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        command += [f"http://127.0.0.1:{listener.getsockname()[1]}/", "1"]
        program = subprocess.Popen(command)
        listener.settimeout(20)
        s, _ = listener.accept()
        request = b""
        while b"\\r\\n\\r\\n" not in request: request += s.recv(4096)
        body = b"A page, by a server of raw calls.\\n"
        s.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
        if b"connection: close" in request.lower(): s.close()
    sys.exit(program.wait(20))
    """

  @Test(.enabled(if: Witness.have("strace") && Witness.havePython), arguments: servers + clients)
  func itHoldsWhatStraceShows(wrapper: String) throws {
    let job = Self.clients.contains(wrapper) ? "http" : "echo"
    let python = try #require(Witness.python)
    var told: [String] = []
    var seen: [String] = []
    for _ in 0..<6 {
      let program = try #require(
        lines([asked(wrapper), "--job", job, "--runs", "1"]).first { $0["program"] as? String == wrapper })
      let calls = try #require(program["calls"] as? [[String: Any]])
      told = comparable(calls.compactMap { $0["text"] as? String }, wrapper)
      let threads = try Strace.socketCalls(of: [Place.product("wrapper-\(wrapper)")]) {
        [python, "-c", Self.otherSide, job == "http" ? "server" : "client"] + $0
      }
      seen = comparable(threads.values.flatMap { $0 }, wrapper)
      if told == seen { break }
    }
    #expect(told == seen, "\(told.difference(from: seen))")
    #expect(told.count >= 5)
  }

  /// What a program asks of its TCP sockets, sorted: its threads run at the same time.
  private func comparable(_ calls: [String], _ wrapper: String) -> [String] {
    // An eventfd, an epoll instance and a timer are asked as often as there is an occasion, and so is what is there to read.
    let waiting =
      /^(epoll_|eventfd|timerfd_|poll|ppoll|select|pselect|read\(\d+, "\\[0-7]|write\(\d+, "\\[0-7])/
    let texts = calls.filter { Self.steady.contains(wrapper) || $0.firstMatch(of: waiting) == nil }.map {
      text in
      let plain = text.replacing(/^(\w+\()\d+/) { "\($0.output.1)FD" }.replacing(#/ = \d+$/#, with: " = N")
        .replacing(/htons\(\d+\)/, with: "PORT").replacing(/127\.0\.0\.1:\d+/, with: "HOST")
        .replacing(/\[\d+, \d+\]/, with: "[FD, FD]")
      return masked(plain)
    }
    return Self.steady.contains(wrapper)
      ? texts.sorted() : Set(texts.filter { !$0.hasPrefix("close(") }).sorted()
  }

  @Test(.enabled(if: Witness.have("ss")), arguments: servers)
  func theListenerIsAsSsHasIt(wrapper: String) throws {
    let lines = try lines([asked(wrapper), "--job", "open", "--runs", "1"])
    let program = try #require(lines.first { $0["program"] as? String == wrapper })
    let states = try #require(program["states"] as? [[String: Any]])
    let listener = try #require(
      states.last { $0["socket"] as? String == "listener" && $0["state"] as? String == "LISTEN" })
    let alone = try Program([Place.product("wrapper-\(wrapper)")])
    defer { alone.send(SIGKILL) }
    let inodes = { () -> [String] in
      (numberedEntries(ofDirectory: "/proc/\(alone.process)/fd") ?? []).compactMap {
        destination(ofLink: "/proc/\(alone.process)/fd/\($0)").flatMap(socketInode).map { "ino:\($0) " }
      }
    }
    let row = try Clock.poll {
      try SSRow.all().first { row in
        row.state == "LISTEN" && inodes().contains { "\(row.rest) ".contains($0) }
      }
    }
    let address = { (text: String) in text.split(separator: ":").first.map(String.init) }
    #expect(address(row.local) == address(try #require(listener["local"] as? String)))
    #expect(row.sendQueue == listener["backlog"] as? Int)
    if wrapper == "SocketPort" { #expect(address(row.local) == "0.0.0.0") }
    let buffer = try #require(listener["receiveBuffer"] as? Int)
    #expect(row.rest.contains(",rb\(buffer),"))
  }

  @Test func ratiosComeWithTheirRunsAndTheirSpread() throws {
    let lines = try lines(["FileHandle", "DispatchIO", "FileHandleClient", "--runs", "2"])
    let measured = lines.filter { $0["measured"] != nil }
    #expect(
      measured.compactMap { "\($0["measured"] ?? "") \($0["job"] ?? "")" }.sorted()
        == [
          "DispatchIO echo", "DispatchIO open", "FileHandle echo", "FileHandle open", "FileHandleClient http",
        ])
    for line in measured {
      #expect(line["runs"] as? Int == 2)
      #expect(line["against"] as? String == (line["job"] as? String == "http" ? "RawClientAnew" : "Raw"))
      let own = try #require(line["own"] as? [[String: Int]])
      let raw = try #require(line["rawCalls"] as? [[String: Int]])
      #expect(own.count == 2 && raw.count == 2)
      if line["job"] as? String == "echo" { #expect(own.allSatisfy { $0["count"] == 10_000 }) }
      let ratios = try #require(line["ratios"] as? [String: [String: Double]])
      for (figure, member) in [
        ("p50", "p50Nanoseconds"), ("p99", "p99Nanoseconds"), ("processorTime", "processorNanoseconds"),
      ] {
        let ratio = try #require(ratios[figure])
        let single = try zip(own, raw).map { try Double(#require($0[member])) / Double(#require($1[member])) }
        #expect(abs(try #require(ratio["least"]) - (single.min() ?? 0)) < 1e-6)
        #expect(abs(try #require(ratio["most"]) - (single.max() ?? 0)) < 1e-6)
        #expect(abs(try #require(ratio["median"]) - single.reduce(0, +) / 2) < 1e-6)
      }
      #expect(own.allSatisfy { ($0["p50Nanoseconds"] ?? 0) <= ($0["p99Nanoseconds"] ?? 0) })
    }
  }

  /// What a user runs first. (That it takes less than a minute, `.ci/run` sees to, where nothing else runs.)
  @Test func everything() throws {
    // With the compiler: it is where this test's own was.
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    let result = try Program.run(
      compare(["--runs", "1"]), environment: ["PATH": path], deadline: 120)
    #expect(result.status == 0, "\(result.errors)")
    for wrapper in Self.wrappers {
      #expect(result.output.contains(" \(wrapper) · \(Self.clients.contains(wrapper) ? "http" : "echo")"))
    }
    #expect(result.output.contains("local address: 0.0.0.0"))
    // What was tried, by running it, and by the compiler.
    let files = try FileManager.default.contentsOfDirectory(atPath: "\(Place.root)/Sources/Wrappers/NotThere")
    for file in files { #expect(result.output.contains("\n \(file.dropLast(".swift".count))\n")) }
    let flowing = result.output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    #expect(flowing.contains("WebSockets not supported by libcurl"))
    #expect(flowing.contains("error: type 'Stream' has no member 'getStreamsToHost'"))
    #expect(result.output.contains("→ ended by SIG"))
    #expect(files.count >= 5)
    for line in result.lines { #expect(line.count <= 80, "\(line)") }
  }

  /// What the text shows is what comes out, but for ports, times and the like. With SOCKETSTEPS_WRITE_TRANSCRIPTS in the environment
  /// what differs is written anew, but not the figures: they are of a release build on a machine at rest.
  @Test func theTextShowsWhatComesOut() throws {
    let path = "\(Place.root)/Lessons/compare/README.md"
    var text = try String(contentsOfFile: path, encoding: .utf8)
    func place(_ marker: String) throws -> Range<String.Index> {
      let start = try #require(text.range(of: "<!-- \(marker) -->\n```text\n"))
      let end = try #require(text.range(of: "```", range: start.upperBound..<text.endIndex))
      return start.upperBound..<end.lowerBound
    }
    func plain(_ text: some StringProtocol) -> [String] {
      // Numbers, and where a line is broken because of them.
      String(text).replacing(/[0-9][0-9.,]*/, with: "N").replacing(/N [µm]s/, with: "N s").split {
        $0.isWhitespace || $0 == "│"
      }.map(String.init)
    }
    let environment = ["PATH": getenv("PATH").map { String(cString: $0) } ?? ""]
    let compared = try Program.run(
      compare(["SocketPort", "--job", "echo", "--runs", "3"]), deadline: 120)
    let table = try #require(compared.output.range(of: "\n\n echo: "))
    let own = compared.output[..<table.lowerBound].drop { $0 == "\n" } + "\n"
    let all = try Program.run(
      compare(["--runs", "1"]), environment: environment, deadline: 120)
    let title = try #require(all.output.range(of: " Not on Linux"))
    for (marker, shown) in [
      ("transcript: compare SocketPort --job echo --runs 3", String(own)),
      ("attempts", String(all.output[title.lowerBound...])),
    ] {
      // An error's members come in any order.
      let words = [plain(text[try place(marker)]), plain(shown)].map { $0.joined(separator: " ") }.map {
        $0.split { ", {}".contains($0) }.sorted()
      }
      let difference = words[0].difference(from: words[1])
      if !difference.isEmpty, getenv("SOCKETSTEPS_WRITE_TRANSCRIPTS") != nil {
        text.replaceSubrange(try place(marker), with: shown)
        try text.write(toFile: path, atomically: true, encoding: .utf8)
      } else {
        #expect(difference.isEmpty, "\(marker): \(difference)")
      }
    }
    let start = try #require(text.range(of: "<!-- figures -->"))
    for wrapper in Self.servers + Self.clients {
      #expect(text[start.upperBound...].contains("| \(wrapper) |"))
    }
  }

  @Test(arguments: [40, 80, 120]) func nothingIsWiderThanTheTerminal(columns: Int) throws {
    let program = try Program(
      compare(["FileHandleReadability", "URLSession", "--runs", "1", "--color", "never"]),
      onTerminal: true, outputOnTerminal: true, columns: UInt16(columns))
    #expect(try program.finish(deadline: 120).status == 0)
    let lines = String(decoding: program.terminalBytes, as: UTF8.self).split(whereSeparator: \.isNewline)
    #expect(lines.count > 50)
    for line in lines { #expect(line.count <= columns, "\(line)") }
  }

  @Test func sourcesStandSideBySide() throws {
    let result = try Program.run(
      [Place.product("compare"), "--sources", "DispatchSource"], environment: ["COLUMNS": "200"])
    #expect(result.status == 0)
    #expect(result.lines.contains { $0.contains("socket(AF_INET") && $0.contains("│") })
    #expect(result.output.contains("makeReadSource") && result.output.contains("accept(listener"))
    #expect(!result.output.contains("import "))
  }

  @Test func badWordsAreExplained() throws {
    for (words, expected) in [
      (["FileHandel"], "there is no wrapper 'FileHandel'; did you mean FileHandle?"),
      (["URLSession", "--job", "echo"], "URLSession does not do the job echo, but http"),
      (["Raw", "rawclient"], "Raw, RawClient is what the others are compared with"),
      (["--job", "ehco"], "--job is open, echo, http, not 'ehco'"), (["--runs", "0"], "from 1 to 100"),
    ] {
      let result = try Program.run([Place.product("compare")] + words)
      #expect(result.status == 2)
      #expect(result.errors.hasPrefix("compare: ") && result.errors.contains(expected), "\(result.errors)")
      #expect(result.output == "")
    }
  }

  /// One who is followed himself, by strace, cannot follow others; he times all the same.
  @Test(.enabled(if: Witness.have("strace"))) func whereNobodyMayBeFollowedItSaysSo() throws {
    let strace = try #require(Witness.path("strace"))
    let result = try Program.run(
      [
        strace, "-f", "-o", "/dev/null", "-e", "trace=none", Place.product("compare"), "FileHandle", "--job",
        "open",
      ]
        + ["--runs", "1"], deadline: 120)
    #expect(result.status == 0)
    #expect(result.errors.contains("no program may be followed here"))
    #expect(result.output.contains("FileHandle") && !result.output.contains("calls"))
  }

  @Test func closedStreamsAreNoDescriptorsOfThePrograms() throws {
    let result = try Program.run(
      [
        "sh", "-c", "exec \"$@\" <&- 2>&-", "sh", Place.product("compare"), "FileHandle", "--job", "open",
        "--runs", "1",
      ])
    #expect(result.status == 0)
    #expect(result.output.contains("FileHandle · open"))
  }

  /// One that does something else than its job is named; the others are shown all the same.
  @Test(.enabled(if: Witness.havePython)) func aFailureIsAResult() throws {
    try Place.withTemporaryFolder { folder in
      let names = ["compare", "wrapper-Raw", "wrapper-FileHandle"]
      for name in names {
        try FileManager.default.copyItem(atPath: Place.product(name), toPath: "\(folder)/\(name)")
      }
      let wrong = """
        #!\(try #require(Witness.python))
        import socket
        s, _ = socket.create_server(("127.0.0.1", 0)).accept()
        while data := s.recv(100): s.sendall(data.upper())
        """
      for (program, reason) in [
        (wrong, "it sent back something else than it was sent"), ("#!/bin/sh\nexit 3\n", "exit status 3"),
        ("#!/bin/sh\nkill -SEGV $$\n", "ended by SIGSEGV"),
      ] {
        let path = try Place.file("wrapper-DispatchIO", in: folder, program)
        chmod(path, 0o755)
        let words = ["\(folder)/compare", "FileHandle", "DispatchIO", "--job", "echo", "--runs", "1"]
        let result = try Program.run(words)
        #expect(result.status == 1)
        #expect(result.output.contains("✗ DispatchIO · echo failed: \(reason)"), "\(result.output)")
        #expect(result.output.contains("FileHandle · echo"))
        let lines = try Program.run(words + ["--format", "json"]).output.split(separator: "\n")
        #expect(lines.contains { $0.contains("\"failed\":\"DispatchIO\"") && $0.contains(reason) })
      }
    }
  }

  /// A compiler that does not work says nothing about Foundation.
  @Test func theCompilersOwnTroublesAreNoResults() throws {
    try Place.withTemporaryFolder { folder in
      let path = try Place.file(
        "swiftc", in: folder, "#!/bin/sh\necho '<unknown>:0: error: no disk'\nexit 1\n")
      chmod(path, 0o755)
      let result = try Program.run(
        compare(["--runs", "1", "--format", "json"]),
        environment: ["PATH": "\(folder):/usr/bin:/bin"], deadline: 120)
      #expect(result.status == 0)
      let compiled = result.output.split(separator: "\n").filter { $0.contains("\"way\":\"compile\"") }
      #expect(compiled.count >= 5)
      #expect(compiled.allSatisfy { $0.contains("not tried: swiftc failed for another reason") })
    }
  }

  @Test func aClosedPipeAndASignalEndIt() throws {
    let program = try Program(compare(["--format", "json", "FileHandle"]))
    program.closeOutput()
    #expect(try program.finish(deadline: 120).status == 141)
    let other = try Program(compare(["--job", "echo", "--runs", "50"]))
    // In the middle of a measurement: a program runs that nobody follows.
    _ = try Clock.poll(deadline: 60) {
      let children =
        text(ofFile: "/proc/\(other.process)/task/\(other.process)/children")?.split(separator: " ") ?? []
      return children.contains {
        (text(ofFile: "/proc/\($0)/status") ?? "").contains("TracerPid:\t0")
          && (text(ofFile: "/proc/\($0)/comm") ?? "").hasPrefix("wrapper-")
      } ? true : nil
    }
    other.send(SIGTERM)
    #expect(try other.finish().status == 143)
    // What it had started is gone, too.
    _ = try Clock.poll { kill(-other.process, 0) == -1 && errno == ESRCH ? true : nil }
  }
}
