import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// The programs that `compare` runs, each against a plain Python client or server.
@Suite(.enabled(if: Witness.havePython)) struct WrapperTests {
  private static let folder = "\(Place.root)/Sources/Wrappers"
  private static let servers = [
    "Raw", "FileHandle", "FileHandleReadData", "FileHandleReadability", "FileHandleNotification",
    "SocketPort",
    "DispatchSource", "DispatchIO",
  ]
  private static let clients = [
    "RawClient", "RawClientAnew", "URLSession", "DataContentsOf", "FileHandleClient",
  ]

  // MARK: Servers

  /// Sends and compares what comes back. It sends and reads at the same time, and ends its direction when all is sent.
  private static let client = """
    import os, socket, sys, threading
    port, job, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    s = socket.create_connection(("127.0.0.1", port), 30)
    right = True
    if job == "all":
        data = os.urandom(size); back = bytearray()
        def send(): s.sendall(data); s.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send); sender.start()
        while True:
            block = s.recv(65536)
            if not block: break
            back += block
        sender.join(); right = bytes(back) == data
    if job == "late":  # nothing is read until the server cannot write any more, and so reads no more
        data = bytes(1 << 20); sent = 0; s.settimeout(0.5)
        try:
            while True: sent += s.send(data)
        except TimeoutError: s.settimeout(30)
        s.shutdown(socket.SHUT_WR); back = 0
        while True:
            block = s.recv(1 << 20)
            if not block: break
            back += len(block)
        right = back == sent
    if job == "bytes":
        for number in range(size):
            s.sendall(bytes([number % 256])); right = right and s.recv(2) == bytes([number % 256])
        s.shutdown(socket.SHUT_WR); right = right and s.recv(2) == b""
    s.close(); print(right)
    """

  /// The port that one of a program's descriptors listens on, as the kernel's table has it.
  private func port(of process: pid_t) throws -> UInt16 {
    try Clock.poll {
      let numbers = numberedEntries(ofDirectory: "/proc/\(process)/fd") ?? []
      let links = Set(numbers.compactMap { destination(ofLink: "/proc/\(process)/fd/\($0)") })
      for row in (text(ofFile: "/proc/net/tcp") ?? "").split(separator: "\n").dropFirst() {
        let fields = row.split(separator: " ")
        guard fields.count > 9, fields[3] == "0A", links.contains("socket:[\(fields[9])]") else { continue }
        return fields[1].split(separator: ":").last.flatMap { UInt16($0, radix: 16) }
      }
      return nil
    }
  }

  private func serve(_ port: UInt16, _ job: String, _ size: Int) throws {
    let result = try Program.run([try Script.python(), "-c", Self.client, "\(port)", job, "\(size)"])
    #expect(result.output == "True\n", "\(result.errors)")
  }

  @Test(arguments: servers, ["all", "bytes", "close"]) func aServerEchoes(name: String, job: String) throws {
    let program = try Program([Place.product("wrapper-\(name)")])
    let port = try port(of: program.process)
    // Byte by byte is what FileHandleReadData is about: less of it will do.
    let size = name == "FileHandleReadData" ? 64 << 10 : 8 << 20
    try serve(port, job, job == "bytes" ? 200 : size)
    let result = try program.finish(deadline: 20)
    #expect(result.status == 0 && result.output == "" && result.errors == "", "\(result)")
    #expect(numberedEntries(ofDirectory: "/proc/\(program.process)/task") == nil)
    // Nothing of it is left in the kernel but, for a minute, the state that remembers the connection.
    let suffix = String(format: ":%04X", Int(port))
    try Clock.poll { () -> Void? in
      for row in (text(ofFile: "/proc/net/tcp") ?? "").split(separator: "\n") {
        let fields = row.split(separator: " ")
        if fields.count > 3, fields[1].hasSuffix(suffix), fields[3] != "06" { return nil }
      }
      return ()
    }
  }

  /// A client that sends and does not read: the server stops, holds what it holds, and goes on where it was.
  @Test(arguments: ["Raw", "FileHandle", "DispatchSource", "DispatchIO"])
  func aServerWaitsForItsClient(name: String) throws {
    let program = try Program([Place.product("wrapper-\(name)")])
    try serve(try port(of: program.process), "late", 0)
    #expect(try program.finish(deadline: 20).status == 0)
  }

  /// strace sees both sockets closed, which the kernel would else do at the program's end.
  @Test(.enabled(if: Witness.have("strace")), arguments: servers)
  func aServerClosesWhatItOpened(name: String) throws {
    try Place.withTemporaryFolder { folder in
      let strace = try #require(Witness.path("strace"))
      let calls = "trace=listen,accept,accept4,close"
      let program = try Program(
        [strace, "-ff", "-y", "-o", "\(folder)/calls", "-e", calls, Place.product("wrapper-\(name)")])
      let process = try Clock.poll { () -> pid_t? in
        let children = text(ofFile: "/proc/\(program.process)/task/\(program.process)/children") ?? ""
        return children.split(separator: " ").compactMap { pid_t($0) }.first {
          destination(ofLink: "/proc/\($0)/exe")?.hasSuffix("/wrapper-\(name)") ?? false
        }
      }
      try serve(try port(of: process), "bytes", 1)
      let result = try program.finish(deadline: 20)
      #expect(result.status == 0, "\(result)")
      var lines: [Substring] = []
      for file in try FileManager.default.contentsOfDirectory(atPath: folder) {
        lines += (text(ofFile: "\(folder)/\(file)") ?? "").split(separator: "\n").map { $0[...] }
      }
      func sockets(_ call: some RegexComponent<(Substring, Substring)>) -> [Substring] {
        lines.compactMap { $0.firstMatch(of: call)?.output.1 }
      }
      let listener = sockets(#/^listen\(\d+(<.*>), /#)
      let connection = sockets(#/^accept4?\(.*\) += \d+(<.*>)/#)
      #expect(listener.count == 1 && connection.count == 1, "\(lines)")
      for socket in listener + connection {
        #expect(lines.contains { $0.hasPrefix("close(") && $0.contains(socket) }, "\(socket) in \(lines)")
      }
    }
  }

  @Test(arguments: servers) func aServerSaysWhatFailed(name: String) throws {
    // A port that another listens on, on every address.
    let taken = try Program([Place.product("wrapper-SocketPort")])
    let port = try port(of: taken.process)
    for word in ["\(port)", "seventy"] {
      let result = try Program.run([Place.product("wrapper-\(name)"), word], deadline: 20)
      #expect(result.status == 1 && result.output == "")
      #expect(
        result.errors.split(separator: "\n").last?.hasPrefix("wrapper-\(name): ") ?? false, "\(result.errors)"
      )
    }
  }

  // MARK: Clients

  /// Answers until its input ends, then prints how many requests and connections it had.
  private static let server = """
    import http.server, sys, threading
    mode, status = sys.argv[1], int(sys.argv[2])
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        requests = connections = 0
        def setup(self): super().setup(); Handler.connections += 1
        def do_GET(self):
            Handler.requests += 1
            self.send_response(status); self.send_header("Content-Length", "5")
            if mode == "close": self.send_header("Connection", "close")
            self.end_headers(); self.wfile.write(b"hello")
            if mode == "silent": self.close_connection = True
        def log_message(self, *words): pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True); sys.stdin.read()
    print(Handler.requests, Handler.connections, flush=True)
    """

  /// Runs a client, and returns how it ended and how many requests and connections the server had.
  private func get(_ name: String, _ mode: String, _ status: Int, count: Int) throws -> (
    Program.Result, [Int]
  ) {
    let server = try Program([try Script.python(), "-c", Self.server, mode, "\(status)"])
    let port = try #require(try server.line())
    let result = try Program.run(
      [Place.product("wrapper-\(name)"), "http://127.0.0.1:\(port)/some/where", "\(count)"], deadline: 30)
    server.endInput()
    let seen = (try server.line() ?? "").split(separator: " ").compactMap { Int($0) }
    #expect(seen.count == 2)
    return (result, seen)
  }

  @Test(arguments: clients, ["keep", "close", "silent"]) func aClientGets(name: String, mode: String) throws {
    let (result, seen) = try get(name, mode, 200, count: 20)
    #expect(result.status == 0 && result.output == "" && result.errors == "", "\(result)")
    #expect(seen.first == 20)
    // One connection for all where it may stay open, for those that keep it; else one for each.
    let keeps = mode == "keep" && ["RawClient", "URLSession"].contains(name)
    #expect(seen.last == (keeps ? 1 : 20))
  }

  @Test(arguments: clients) func aClientSaysWhatFailed(name: String) throws {
    let (result, seen) = try get(name, "keep", 404, count: 20)
    let reset = try Program.run([Place.product("wrapper-\(name)"), "http://127.0.0.1:1/", "1"], deadline: 30)
    let wrong = try Program.run([Place.product("wrapper-\(name)"), "http://127.0.0.1:1/"], deadline: 30)
    #expect(seen.first == 1)
    for result in [result, reset, wrong] {
      #expect(result.status == 1 && result.output == "")
      #expect(result.errors.hasPrefix("wrapper-\(name): "))
      #expect(result.errors.filter { $0 == "\n" }.count == 1, "\(result.errors)")
    }
  }

  // MARK: What is not as promised, and what is not there

  /// What each attempt says here: a part of its line, or of its last words where it ends by a signal.
  private static let attempts: [String: (ends: Bool, says: String)] = [
    "FileHandle-accept": (false, "no key; accepted as descriptor"),
    "FileHandle-readData": (false, "waited for more than the 5 bytes"),
    "FileHandle-readToEnd-nonblocking": (
      false, "Resource temporarily unavailable\"}; of the 5 bytes that had come, 0"
    ),
    "FileHandle-readDataToEndOfFile-nonblocking": (true, "Resource temporarily unavailable"),
    "FileHandle-availableData-reset": (true, "Connection reset by peer"),
    "FileHandle-availableData-signal": (true, "Interrupted system call"),
    "FileHandle-close-in-handler": (true, ""),
    "FileHandle-write-reset": (true, ""),
    "FileHandle-close-FIN": (false, "; when close had returned, one still did in "),
    "InputStream-descriptor": (false, "No such device or address"),
    "OutputStream-descriptor": (false, "No such device or address"),
    "CFStreamCreatePairWithSocket": (true, "_CFSocketStreamCreatePair"),
    "SocketPort-receive": (false, "read what came; the delegate got 0 messages"),
    "SocketPort-invalidate": (true, ""),
    "SocketPort-taken": (false, "nil; descriptors left behind: ["),
    "URLSessionWebSocketTask": (false, "WebSockets not supported"),
  ]

  @Test(arguments: attempts.keys.sorted()) func anAttemptSaysWhatHappened(name: String) throws {
    let expected = try #require(Self.attempts[name])
    let result = try Program.run([Place.product("wrapper-Attempts"), name], deadline: 30)
    #expect(expected.ends ? result.status > 128 : result.status == 0, "\(result)")
    #expect(
      (expected.ends ? result.errors : result.output).contains(expected.says) || expected.says == "",
      "\(result)")
    #expect(result.output.filter { $0 == "\n" }.count == (expected.ends ? 0 : 1), "\(result.output)")
    if name == "FileHandle-write-reset" { #expect(result.status == 128 + SIGPIPE) }
  }

  @Test func theListNamesEachAttemptAndItsPromise() throws {
    let result = try Program.run([Place.product("wrapper-Attempts"), "--list"])
    let rows = result.lines.dropLast().map { $0.split(separator: "\t") }
    #expect(rows.allSatisfy { $0.count == 2 && !$0[1].isEmpty })
    #expect(rows.compactMap { $0.first.map { String($0) } }.sorted() == Self.attempts.keys.sorted())
    #expect(try Program.run([Place.product("wrapper-Attempts"), "nothing"]).status == 2)
  }

  /// The WebSocket task does not even dial: nobody comes to the port, as a server there sees it.
  @Test func nobodyComesFromAWebSocketTask() throws {
    let script = """
      import select, socket, sys
      s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1], flush=True)
      ready = select.select([s, sys.stdin], [], [])[0]; print("somebody" if s in ready else "nobody")
      """
    let server = try Program([try Script.python(), "-c", script])
    let port = try #require(try server.line())
    let result = try Program.run([Place.product("wrapper-Attempts"), "URLSessionWebSocketTask", port])
    #expect(result.status == 0)
    server.endInput()
    #expect(try server.finish().output == "nobody\n")
  }

  /// What the compiler's first error of each file is about.
  private static let notThere = [
    "BonjourService": "'NetService'", "BoundStreams": "'getBoundStreams'", "CFSocket": "'CFSocketCallBack'",
    "CFStreamPair": "'CFReadStream'", "FileHandleBytes": "'bytes'", "NetworkFramework": "'Network'",
    "StreamsToHost": "'getStreamsToHost'", "URLSessionBytes": "'bytes'",
    "URLSessionStreamTask": "'streamTask(",
  ]

  @Test(.enabled(if: Witness.have("swiftc")), arguments: notThere.keys.sorted())
  func whatIsNotThereDoesNotCompile(name: String) throws {
    let path = "\(Self.folder)/NotThere/\(name).swift"
    #expect((text(ofFile: path) ?? "").hasPrefix("// Would "))
    let compiler = try #require(Witness.path("swiftc"))
    let result = try Program.run([compiler, "-typecheck", path], deadline: 120)
    #expect(result.status == 1)
    let first = result.errors.split(separator: "\n").first { $0.contains("error: ") }
    #expect(first?.contains(Self.notThere[name] ?? "?") ?? false, "\(result.errors)")
  }

  // MARK: The sources

  /// Each is short enough to be read as an example, and marks what is to be compared.
  @Test func theSourcesAreShortAndMarked() throws {
    let entries = try FileManager.default.contentsOfDirectory(atPath: Self.folder).sorted()
    #expect(entries == (Self.servers + Self.clients + ["Attempts", "NotThere"]).sorted())
    for name in entries where name != "NotThere" {
      let source = try String(contentsOfFile: "\(Self.folder)/\(name)/main.swift", encoding: .utf8)
      #expect(source.filter { $0 == "\n" }.count < 60, "\(name)")
      #expect(source.split(separator: "\n").filter { $0 == "// --- the job ---" }.count == 1, "\(name)")
      let allowed: Set<Substring> = ["Foundation", "FoundationNetworking", "Dispatch", "Glibc"]
      for match in source.matches(of: #/(?m)^import (\w+)$/#) {
        #expect(allowed.contains(match.output.1), "\(name)")
      }
    }
    let files = try FileManager.default.contentsOfDirectory(atPath: "\(Self.folder)/NotThere").sorted()
    #expect(files == Self.notThere.keys.map { "\($0).swift" }.sorted())
  }
}
