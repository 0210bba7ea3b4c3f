import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// Lessons 8 to 12, the items of their rows.
@Suite struct ProgramTests {
  /// A server of a lesson that waits for clients of others, and its port.
  private func alone(_ lesson: String) throws -> (program: Program, port: String) {
    let program = try Program([Place.product(lesson), "--bare", "--alone"])
    let line = try #require(try program.line())
    #expect(line.hasPrefix("listening on 127.0.0.1:"))
    return (program, String(line.split(separator: ":").last ?? ""))
  }

  private func python(_ script: String) throws -> Program.Result {
    try Program.run([try #require(Witness.python), "-c", script])
  }

  @Test func theMinimalPairPrintsItsRow() throws {
    let (server, port) = try alone("lesson8-minimal-server")
    let client = try Program.run([Place.product("lesson8-minimal-client"), "--bare", "--port", port])
    #expect(client.output == "OK\n" && client.status == 0)
    let result = try server.finish()
    #expect(
      result.output == "Received Data : this data is from client\ntotal bytes : 24\nSent Data : OK\n")
    #expect(result.status == 0 && result.errors == "")
    let both = try Program.run([Place.product("lesson8-minimal-server"), "--bare"])
    #expect(both.lines.sorted() == (result.lines + client.lines.dropLast()).sorted())
  }

  @Test(.enabled(if: Witness.havePython)) func itReadsAtMostTenThousandBytes() throws {
    let (server, port) = try alone("lesson8-minimal-server")
    let client = try python(
      "import socket; s = socket.create_connection(('127.0.0.1', \(port))); s.sendall(b'x' * 20000); print(s.recv(10))"
    )
    #expect(client.output == "b'OK'\n")
    #expect(try server.finish().output.contains("total bytes : 10000\n"))
  }

  /// connect binds; the client's words wait in a connection that nobody has accepted.
  @Test func connectBindsByItself() throws {
    let lines = try Course.story("lesson8-minimal-server")
    let steps = lines.filter(\.isStep)
    #expect(!steps.contains { $0.call == "bind" && $0["pid"] as? Int != steps[0]["pid"] as? Int })
    let connect = try #require(steps.first { $0.call == "connect" })
    let socket = try #require(connect.sockets.first { $0.state == "ESTABLISHED" && $0.fd == 3 })
    #expect(!(socket.local ?? "").hasSuffix(":0"))
    let write = try #require(steps.firstIndex { $0.call == "write" })
    let accept = try #require(steps.firstIndex { $0.call == "accept" })
    #expect(write < accept)
    #expect(steps[write].sockets.contains { $0.fd == nil && $0.number("receiveQueue") == 24 })
    // Each says its own.
    let speakers = Dictionary(grouping: lines.filter { $0.say != nil }) { $0["pid"] as? Int ?? 0 }
    #expect(speakers.values.map(\.count).sorted() == [1, 3])
  }

  /// What a program does comes in the same order each time, also while others take the processors.
  @Test(arguments: Course.concurrent.sorted()) func eachRunHasTheSameOrder(lesson: String) throws {
    let busy = try (0..<4).map { _ in try Program(["/bin/sh", "-c", "while :; do :; done"]) }
    defer { for program in busy { program.send(SIGKILL) } }
    func calls() throws -> [String] {
      try Course.story(lesson).filter(\.isStep).map { masked($0.callText) }
    }
    let first = try calls()
    for _ in 0..<4 { #expect(try calls() == first) }
  }

  /// Whose call is asked about is said, and a network in which nobody can dial is refused.
  @Test func aPairsOptions() throws {
    let questions = try Program.run(
      [Place.product("lesson8-minimal-server"), "--predict", "--no-step"],
      input: String(repeating: "1\n", count: 60))
    #expect(questions.output.contains(" ? │ [client] connect(3,"))
    #expect(questions.output.contains("the other program's"))
    let alone = try Program.run([Place.product("lesson8-minimal-server"), "--alone", "--isolated"])
    #expect(alone.status == 2 && alone.errors.contains("nobody else could dial"))
    let client = try Program.run([Place.product("lesson8-minimal-client"), "--port", "1", "--isolated"])
    #expect(client.status == 2 && client.errors.contains("no server listens"))
  }

  @Test func theClientNeedsAServer() throws {
    for lesson in ["lesson8-minimal", "lesson9-echo"] {
      let lost = try Program.run([Place.product("\(lesson)-client")])
      #expect(lost.status == 2 && lost.errors.contains("'swift run \(lesson)-server --alone'"))
      let refused = try Program.run([Place.product("\(lesson)-client"), "--bare", "--port", "1"])
      #expect(refused.status == 1 && refused.errors.contains("connect: ECONNREFUSED"))
      try Place.withTemporaryFolder { folder in
        #expect(try Program.run(["/bin/cp", Place.product("\(lesson)-server"), folder]).status == 0)
        let server = try Program.run(["\(folder)/\(lesson)-server", "--no-step"])
        #expect(server.status == 1)
        #expect(
          server.errors.contains("the program beside it") && server.errors.contains("'swift build' makes it"))
      }
    }
  }

  /// A plain Python client as witness: all bytes, half-close, one after another, signals in between.
  @Test(.enabled(if: Witness.havePython)) func theEchoServerOfLessonNineIsRight() throws {
    let (server, port) = try alone("lesson9-echo-server")
    let result = try python(
      """
      import os, signal, socket, struct, threading
      def dial(): return socket.create_connection(("127.0.0.1", \(port)), 20)
      def exchange(s, data):
          threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
          back = b""
          while True:
              d = s.recv(65536)
              if not d: return back
              back += d
      a, b = dial(), dial()
      rude = dial(); rude.sendall(b"x" * 50000)
      rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); rude.close()
      storm = threading.Event()
      def signals():
          while not storm.wait(0.001): os.kill(\(server.process), signal.SIGUSR1)
      thread = threading.Thread(target=signals); thread.start()
      data = os.urandom(1 << 20)
      print(exchange(a, data) == data)
      a.close()
      print(exchange(b, data[:5000]) == data[:5000])
      b.close()
      print(exchange(dial(), b"last") == b"last")
      storm.set(); thread.join()
      """)
    #expect(result.output == "True\nTrue\nTrue\n", "\(result.errors)")
    server.send(SIGTERM)
    #expect(try server.finish().status == 128 + SIGTERM)
  }

  @Test func lessonNineShowsEachOfItsLoops() throws {
    let steps = try Course.story("lesson9-echo-server").filter(\.isStep)
    let server = steps[0]["pid"] as? Int
    let own = steps.filter { $0["pid"] as? Int == server }
    #expect(own.contains { $0.call == "read" && $0.errno == "ERESTARTSYS" })
    #expect(own.contains { $0.call == "write" && $0.errno == "EPIPE" })
    #expect(own.filter { $0.call == "accept" }.count == 3)
    #expect(own.filter { $0.call == "read" && $0["result"] as? Int == 0 }.count == 2)
    // The second client waits in the queue while the first one is served.
    #expect(
      own.contains { step in
        step.call == "read" && step.sockets.contains { $0.state == "LISTEN" && $0.number("acceptQueue") == 1 }
      })
  }

  @Test func framesAreWrongBeforeTheyAreRight() throws {
    let lines = try Course.story("lesson10-framing")
    let said = lines.compactMap(\.say)
    let first = try #require(said.firstIndex { $0.contains("'buy 10sell 7'") })
    let second = try #require(said.firstIndex { $0.contains("'buy 1'. It was 'buy 100000'") })
    let cure = try #require(said.firstIndex { $0.hasPrefix("First cure") })
    #expect(first < second && second < cure)
    for text in [
      "A record: 'sell 007'", "after 'buy'", "A message of 6 bytes", "A line: 'sell 7'", "Refused.",
    ] {
      #expect(said.contains { $0.contains(text) }, "\(text)")
    }
    // Inside a record the end comes after some bytes of it, between two after none.
    let ends = lines.filter { $0.call == "read" && $0["result"] as? Int == 0 }.map(\.callText)
    #expect(ends == ["read(5, \"\", 5) = 0", "read(5, \"\", 8) = 0"])
  }

  /// The stack is what the limit says, so it was measured.
  @Test(arguments: [1024, 4096]) func aThreadCostsItsStack(limit: Int) throws {
    let result = try Program.run([
      "/bin/sh", "-c", "ulimit -s \(limit) && exec \"$@\"", "sh", Place.product("lesson11-threads"), "--bare",
    ])
    #expect(result.status == 0, "\(result.errors)")
    let text = result.output.split(separator: "\n").joined(separator: " ")
    let space = try #require(text.firstMatch(of: /For each, (\d+) KiB of address space/)?.output.1)
    #expect((limit...limit + 8).contains(Int(space) ?? 0), "\(space)")
    let switches = try #require(text.firstMatch(of: /to another (\d+) times/)?.output.1)
    #expect((900...3000).contains(Int(switches) ?? 0), "\(switches)")
    #expect(text.contains("/proc/self/status: 4 threads"))
  }

  @Test func threadsWaitSideBySide() throws {
    let lines = try Course.story("lesson11-threads")
    let waiting = lines.filter { $0["waiting"] != nil }
    #expect(Set(waiting.compactMap { $0["tid"] as? Int }).count == 4)
    // The last that came is answered first.
    let answers = lines.filter { $0.call == "write" }.map(\.callText)
    #expect(answers.first?.contains("three") == true && answers.last?.contains("one") == true)
  }

  @Test func theLoopIsShownStepByStep() throws {
    let steps = try Course.story("lesson12-event-loop").filter(\.isStep)
    let waits = steps.filter { $0.call == "epoll_wait" }.map(\.callText)
    func ready(_ descriptor: Int, _ event: String) -> String {
      "epoll_wait(8, [{events=\(event), data={u32=\(descriptor), u64=\(descriptor)}}], 8, -1) = 1"
    }
    #expect(
      waits == [
        ready(6, "EPOLLIN"), ready(6, "EPOLLIN"), ready(6, "EPOLLIN"), "epoll_wait(8, [], 8, 0) = 0",
        "epoll_wait(8, [], 8, 0) = 0", ready(7, "EPOLLOUT"), ready(9, "EPOLLIN"), ready(10, "EPOLLIN"),
      ])
    // Edge-triggered: nothing is reported, and two bytes are there.
    let silent = try #require(steps.firstIndex { $0.callText == "epoll_wait(8, [], 8, 0) = 0" })
    #expect(steps[silent].sockets.first { $0.fd == 6 }?.number("receiveQueue") == 2)
    #expect(steps.contains { $0.call == "write" && $0.errno == "EAGAIN" })
    for call in ["poll", "timerfd_create", "timerfd_settime", "signalfd4"] {
      #expect(steps.contains { $0.call == call }, "\(call)")
    }
  }
}
