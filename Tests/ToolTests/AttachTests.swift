import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `follow --pid`: a program that runs, with several threads, is followed and let go.
@Suite(.enabled(if: Witness.havePython)) struct AttachTests {
  /// An echo server on epoll in one thread; another waits in accept, a third in poll. It prints its ports, and answers until its
  /// input ends.
  private static let server = """
    import os, select, socket, sys, threading, time
    first = socket.create_server(("127.0.0.1", 0)); second = socket.create_server(("127.0.0.1", 0))
    def serve():
        epoll = select.epoll(); epoll.register(first, select.EPOLLIN); open = {}
        while True:
            for number, _ in epoll.poll():
                if number == first.fileno():
                    connection, _ = first.accept(); open[connection.fileno()] = connection
                    epoll.register(connection, select.EPOLLIN)
                else:
                    block = open[number].recv(1000)
                    if block: open[number].sendall(block)
                    else: epoll.unregister(number); open.pop(number).close()
    def accept():
        while True:
            connection, _ = second.accept(); connection.sendall(b"second"); connection.close()
    def count():
        while True: time.sleep(0.01)
    for work in (serve, accept, count): threading.Thread(target=work, daemon=True).start()
    print(first.getsockname()[1], second.getsockname()[1], flush=True)
    sys.stdin.read()
    """

  /// Runs the server while `body` does something with its process and ports, and checks at the end that it lives.
  private func withServer(_ body: (Program, UInt16, UInt16) throws -> Void) throws {
    try Place.withTemporaryFolder { folder in
      let path = try Place.file("server.py", in: folder, Self.server)
      let program = try Program([try Script.python(), path])
      let ports = (try program.line() ?? "").split(separator: " ").compactMap { UInt16($0) }
      #expect(ports.count == 2)
      try body(program, ports[0], ports[1])
      // It runs on, untraced, and still answers.
      #expect(!program.hasEnded)
      #expect((text(ofFile: "/proc/\(program.process)/status") ?? "").contains("TracerPid:\t0\n"))
      for thread in numberedEntries(ofDirectory: "/proc/\(program.process)/task") ?? [] {
        let stat = text(ofFile: "/proc/\(program.process)/task/\(thread)/stat") ?? ""
        #expect(!stat.contains(") t ") && !stat.contains(") T "))
      }
      #expect(try echo(ports[0], "still there") == "still there")
      #expect(try echo(ports[1], "") == "second")
      program.endInput()
      #expect(try program.finish().status == 0)
    }
  }

  private func echo(_ port: UInt16, _ text: String) throws -> String {
    let script =
      "import socket, sys\ns = socket.create_connection(('127.0.0.1', \(port)), 10)\ns.sendall(b'\(text)')\n"
      + "print(s.recv(100).decode(), end='')"
    return try Program.run([try Script.python(), "-c", script]).output
  }

  private func expect(_ answer: String, from port: UInt16, sending text: String) throws {
    let echoed = try echo(port, text)
    #expect(echoed == answer)
  }

  /// Follows until `body` is done and the story holds a text, then presses ctrl-C, and returns the story.
  private func attach(
    _ server: Program, _ options: [String] = [], signal: Int32 = SIGINT, until told: String,
    _ body: () throws -> Void
  ) throws -> [StoryLine] {
    try Place.withTemporaryFolder { folder in
      let story = "\(folder)/story"
      let follow = try Program(
        [Place.product("follow"), "--format", "json", "-o", story, "--pid", "\(server.process)"] + options)
      _ = try Clock.poll { (text(ofFile: story) ?? "").contains("\n") ? true : nil }
      try body()
      _ = try Clock.poll { (text(ofFile: story) ?? "").contains(told) ? true : nil }
      follow.send(signal)
      let result = try follow.finish()
      if signal != SIGKILL { #expect(result.status == 0 && result.errors == "", "\(result.errors)") }
      return try StoryLine.all(text(ofFile: story) ?? "")
    }
  }

  @Test func itFindsWhatIsThereAndFollows() throws {
    try withServer { server, first, second in
      let lines = try attach(server, until: #"\"second\""#) {
        try expect("hello", from: first, sending: "hello")
        try expect("second", from: second, sending: "")
      }
      let opening = try #require(lines.first)
      #expect(opening["attached"] as? Bool == true)
      #expect((opening["command"] as? [String])?.last?.hasSuffix("server.py") == true)
      let found = (opening["sockets"] as? [[String: Any]] ?? []).map(StorySocket.init)
      #expect(Set(found.compactMap(\.local)) == ["127.0.0.1:\(first)", "127.0.0.1:\(second)"])
      #expect(found.allSatisfy { $0.state == "LISTEN" })
      let steps = lines.filter(\.isStep)
      #expect(
        steps.contains {
          $0.call == "recvfrom" && $0.callText.contains("\"hello\"") && $0["result"] as? Int == 5
        })
      #expect(steps.contains { $0.call == "sendto" && $0.callText.contains("\"hello\"") })
      #expect(steps.contains { $0.call == "sendto" && $0.callText.contains("\"second\"") })
      #expect(Set(steps.compactMap { $0["tid"] as? Int }).count == 2)
      // Exactly the calls that do not restart by themselves: epoll_wait's thread, and none for accept or sleep.
      let notes = lines.compactMap { $0["note"] as? String }.filter { $0.contains("EINTR") }
      #expect(notes.count == 1 && notes.first?.contains("epoll_wait") == true)
      #expect(lines.last?["letGo"] as? Bool == true)
      #expect(lines.last?["status"] == nil && lines.last?["signal"] == nil)
    }
  }

  @Test(.enabled(if: Witness.havePython)) func itKeepsToTheSchema() throws {
    try withServer { server, first, _ in
      let lines = try attach(server, until: "sendto(") { try expect("hello", from: first, sending: "hello") }
      let problem = try Schema.problem(with: lines.map(\.text).joined(separator: "\n") + "\n")
      #expect(problem == nil)
    }
  }

  /// Whatever happens to the follower, the program runs on; `withServer` looks.
  @Test(arguments: [SIGTERM, SIGHUP, SIGKILL]) func otherEndsLetItGoToo(signal: Int32) throws {
    try withServer { server, first, _ in
      _ = try attach(server, signal: signal, until: "sendto(") {
        try expect("hello", from: first, sending: "hello")
      }
    }
  }

  @Test func again() throws {
    try withServer { server, first, _ in
      for round in 0..<5 {
        let lines = try attach(server, ["--only", "recvfrom"], until: "\"r\(round)") {
          try expect("r\(round)", from: first, sending: "r\(round)")
        }
        #expect(lines.contains { $0.callText.contains("\"r\(round)\"") })
      }
    }
  }

  @Test func faultsAreInjectedAndTakenBack() throws {
    try withServer { server, first, second in
      let lines = try attach(
        server, ["--inject", "recvfrom:length=1", "--inject", "sendto:errno=EINTR:every=3"],
        until: #"\"o\""#
      ) {
        try expect("second", from: second, sending: "")
        let script =
          "import socket\ns = socket.create_connection(('127.0.0.1', \(first)), 10)\ns.sendall(b'hello')\nb = b''\n"
          + "while len(b) < 5: b += s.recv(9)\nprint(b.decode(), end='')"
        let output = try Program.run([try Script.python(), "-c", script]).output
        #expect(output == "hello")
      }
      #expect(lines.filter { $0.call == "recvfrom" && $0["result"] as? Int == 1 }.count == 5)
    }
  }

  @Test func aSummaryOfIt() throws {
    try withServer { server, first, _ in
      try Place.withTemporaryFolder { folder in
        let follow = try Program([
          Place.product("follow"), "--summary", "--pid", "\(server.process)", "-o", "\(folder)/table",
        ])
        // All threads are held before the first call is counted.
        _ = try Clock.poll { () -> Bool? in
          let threads = numberedEntries(ofDirectory: "/proc/\(server.process)/task") ?? []
          let isHeld = threads.allSatisfy {
            (text(ofFile: "/proc/\(server.process)/task/\($0)/status") ?? "").contains(
              "TracerPid:\t\(follow.process)\n")
          }
          return isHeld ? true : nil
        }
        try expect("counted", from: first, sending: "counted")
        follow.send(SIGINT)
        #expect(try follow.finish().status == 0)
        #expect((text(ofFile: "\(folder)/table") ?? "").contains("recvfrom"))
      }
    }
  }

  /// What it has is told at once, though it may do nothing for a long time.
  @Test func theBeginningIsToldAtOnce() throws {
    let program = try Program([
      try Script.python(), "-c",
      "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print('up', flush=True); sys.stdin.read()",
    ])
    #expect(try program.line() == "up")
    try Place.withTemporaryFolder { folder in
      let story = "\(folder)/story"
      let follow = try Program([Place.product("follow"), "-o", story, "--pid", "\(program.process)"])
      _ = try Clock.poll { (text(ofFile: story) ?? "").contains("LISTEN") ? true : nil }
      follow.send(SIGTERM)
      #expect(try follow.finish().status == 0)
    }
    program.endInput()
    #expect(try program.finish().status == 0)
  }

  @Test func itsEndIsTold() throws {
    let program = try Program([
      try Script.python(), "-c", "import sys; print('up', flush=True); sys.stdin.read(); sys.exit(7)",
    ])
    #expect(try program.line() == "up")
    try Place.withTemporaryFolder { folder in
      let story = "\(folder)/story"
      let follow = try Program([
        Place.product("follow"), "--format", "json", "-o", story, "-p", "\(program.process)",
      ])
      _ = try Clock.poll { (text(ofFile: story) ?? "").contains("\n") ? true : nil }
      program.endInput()
      #expect(try follow.finish().status == 7)
      #expect(try StoryLine.all(text(ofFile: story) ?? "").last?["status"] as? Int == 7)
    }
    #expect(try program.finish().status == 7)
  }

  @Test func refusalsAreExplained() throws {
    let follow = Place.product("follow")
    let ended = try Program([Witness.path("true") ?? "/bin/true"])
    _ = try ended.finish()
    let cases: [([String], Int32, String)] = [
      (["--pid", "\(ended.process)"], 1, "there is no process \(ended.process)"),
      (["--pid", "0"], 2, "--pid takes a whole number"), (["--pid", "x"], 2, "--pid takes a whole number"),
      (["--pid", "1", "--", "ls"], 2, "leave the command out"),
      (["--pid", "1", "--isolated"], 2, "leave it or --pid out"),
      ([], 2, "or follow --pid N"),
    ]
    for (words, status, expected) in cases {
      let result = try Program.run([follow] + words)
      #expect(result.status == status)
      #expect(result.errors.contains(expected), "\(result.errors)")
      #expect(result.errors.filter { $0 == "\n" }.count == 1)
    }
    // Traced already: by whom is said.
    let sleeper = try Program([Place.product("follow"), "-o", "/dev/null", "--", "sleep", "60"])
    let child = try Clock.poll { () -> pid_t? in
      let children = text(ofFile: "/proc/\(sleeper.process)/task/\(sleeper.process)/children") ?? ""
      guard let child = children.split(separator: " ").first.flatMap({ pid_t($0) }),
        (text(ofFile: "/proc/\(child)/comm") ?? "") == "sleep\n"
      else { return nil }
      return child
    }
    let twice = try Program.run([follow, "--pid", "\(child)"])
    #expect(twice.status == 1)
    #expect(twice.errors.contains("follow, pid \(sleeper.process), traces it already"), "\(twice.errors)")
    kill(child, SIGTERM)
    _ = try sleeper.finish()
  }

  /// Another user's program.
  @Test(.enabled(if: Privilege.isRoot && Witness.have("setpriv"))) func anotherUsersProgram() throws {
    let setpriv = try #require(Witness.path("setpriv"))
    try Place.withTemporaryFolder { folder in
      #expect(try Program.run(["/bin/cp", Place.product("follow"), folder]).status == 0)
      let result = try Program.run(
        [
          setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "\(folder)/follow", "--pid",
          "\(getpid())",
        ])
      #expect(result.status == 1)
      #expect(result.errors.contains("it belongs to user 0; as root it can be"), "\(result.errors)")
    }
  }
}
