import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// What lesson 18 promises, item by item, in what the kernel said in one run.
@Suite struct TwoServersLessonTests {
  private static let lesson = "lesson18-two-servers"

  /// One run, and where both servers listen.
  private struct Run {
    let lines: [StoryLine]
    let steps: [StoryLine]
    let listeners: Set<String>

    init() throws {
      lines = try Course.story(TwoServersLessonTests.lesson)
      steps = lines.filter(\.isStep)
      let places = steps.filter { $0.call == "listen" }.compactMap { step in
        step.sockets.first { $0.fd == step["fd"] as? Int }?.local
      }
      listeners = Set(places)
      #expect(places.count == 2 && listeners.count == 2)
    }

    /// The ends of connections, without the listening sockets.
    func ends(_ step: StoryLine) -> [StorySocket] {
      step.sockets.filter { $0.peer != nil }
    }

    func said(_ text: String) throws -> Int {
      try #require(lines.firstIndex { $0.say?.contains(text) ?? false }, "nobody says '\(text)'")
    }
  }

  @Test func aSocketThatListensCannotDial() throws {
    let run = try Run()
    let refused = try #require(run.steps.first { $0.call == "connect" })
    #expect(refused.errno == "EISCONN")
    #expect(refused.sockets.first { $0.fd == refused["fd"] as? Int }?.state == "LISTEN")
    let text = try Program.run([Place.product(Self.lesson), "--no-step"], environment: ["COLUMNS": "80"])
    #expect(text.output.contains("▸ The socket listens: it is there to be dialled, and cannot dial."))
  }

  /// The ends that accept has returned have a listener's address, those that have dialled a port that no call has chosen.
  @Test func fourConnectedEndsAndTheirPorts() throws {
    let run = try Run()
    let last = try #require(run.steps.last { $0.call == "getsockname" })
    let ends = run.ends(last)
    #expect(ends.count == 4)
    #expect(ends.allSatisfy { $0.state == "ESTABLISHED" })
    let accepted = Set(run.steps.filter { $0.call == "accept" }.prefix(2).compactMap { $0["result"] as? Int })
    let dialled = Set(
      run.steps.filter { $0.call == "connect" && $0["result"] as? Int == 0 }.prefix(2).compactMap {
        $0["fd"] as? Int
      })
    #expect(accepted.count == 2 && dialled.count == 2 && accepted.isDisjoint(with: dialled))
    for end in ends {
      let (fd, local) = (try #require(end.fd), try #require(end.local))
      #expect(accepted.contains(fd) == run.listeners.contains(local))
      #expect(dialled.contains(fd) == !run.listeners.contains(local))
      // Each has its other end here.
      #expect(ends.contains { $0.local == end.peer && $0.peer == end.local })
    }
    #expect(!run.steps.contains { $0.call == "bind" && dialled.contains($0["fd"] as? Int ?? -1) })
    // A trace of the SYN is all that the kernel keeps besides: it was acknowledged, and counts as a byte.
    for call in ["connect", "accept"] {
      let fresh = try #require(run.steps.last { $0.call == call && $0["result"] as? Int ?? -1 >= 0 })
      let end = fresh.sockets.first { socket in
        call == "accept" ? socket.fd == fresh["result"] as? Int : socket.fd == fresh["fd"] as? Int
      }
      #expect(
        (end?["tcp"] as? [String: Any])?["bytesAcknowledged"] as? Int == (call == "connect" ? 1 : 0))
    }
  }

  /// What the accepted end knows of its peer is a port that nobody listens on; the hello says the rest.
  @Test func thePeersPortIsNoPlaceToDial() throws {
    let run = try Run()
    let asked = try #require(run.steps.firstIndex { $0.call == "getpeername" })
    let end = try #require(run.steps[asked].sockets.first { $0.fd == run.steps[asked]["fd"] as? Int })
    let back = try #require(run.steps[asked...].first { $0.call == "connect" })
    #expect(back.errno == "ECONNREFUSED")
    let port = try #require(end.peer?.split(separator: ":").last)
    #expect(back.callText.contains("htons(\(port))"))
    #expect(!run.listeners.contains(end.peer ?? ""))
    #expect(try run.said("this is B, instance b0b") < run.said("this is A, instance a11ce"))
  }

  /// A plain Python reader takes the frames out of the bytes that were written: who has dialled masks, but for the one time.
  @Test(.enabled(if: Witness.havePython && Witness.have("strace"))) func whoHasDialledMasks() throws {
    let script = """
      import re, subprocess, sys
      out = subprocess.run(["strace", "-f", "-xx", "-s", "4096", "-e", "trace=write,connect,accept", *sys.argv[1:]],
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
      dialled, told = set(), []
      for line in out.splitlines():
          if m := re.search(r"connect\\((\\d+),.*= 0", line): dialled.add(int(m[1]))
          if m := re.search(r"accept\\(.*= (\\d+)", line): dialled.discard(int(m[1]))
          m = re.search(r'write\\((\\d+), "((?:\\\\x..)*)"', line)
          if not m or int(m[1]) < 3: continue
          data = bytes.fromhex(m[2].replace("\\\\x", ""))
          if data[0] & 0x80 == 0: continue   # the handshake
          size, masked = data[1] & 0x7f, data[1] >> 7
          key, payload = (data[2:6], data[6:]) if masked else (bytes(4), data[2:])
          assert len(payload) == size < 126
          text = bytes(b ^ key[i % 4] for i, b in enumerate(payload))
          shown = int.from_bytes(text, "big") if data[0] == 0x88 else text.decode().replace("\\n", "|")
          print("dialled" if int(m[1]) in dialled else "accepted", "masked" if masked else "plain", shown)
      """
    let result = try Program.run([
      try #require(Witness.python), "-c", script, Place.product(Self.lesson), "--bare",
    ])
    #expect(
      result.lines.filter { !$0.isEmpty } == [
        "dialled masked hello b0b B", "dialled plain hello a11ce A", "accepted plain 1002",
        "accepted plain breakfast", "dialled masked hello a11ce A", "accepted plain lunch",
        "dialled masked lunch", "accepted plain all a11ce 1 A|dinner", "dialled masked all a11ce 1 A|dinner",
        "accepted plain 1001", "dialled masked 1001", "dialled masked 1001", "accepted plain 1001",
      ], "\(result.errors)")
  }

  @Test func aServerThatHasDialledIsRefusedWithoutAMask() throws {
    let run = try Run()
    let refused = try run.said("refuses it with 1002 (protocol error): a frame is not masked")
    let told = try run.said("A, fd 7: Close 1002 (protocol error)")
    let right = try run.said("B, fd 8: this is A, instance a11ce")
    #expect(refused < told && told < right)
    // The other link lives on, and carries.
    let left = try #require(run.lines[told...].first { $0.call == "close" && $0["fd"] as? Int == 7 })
    #expect(run.ends(left).filter { $0.state == "ESTABLISHED" }.count == 2)
    let breakfast = try run.said("B, fd 5: to its clients: breakfast")
    #expect(told < breakfast && breakfast < right)
  }

  @Test func overTwoLinksItIsToldOnce() throws {
    let said = try Run().lines.compactMap(\.say)
    func count(_ text: String) -> Int { said.filter { $0.contains("to its clients: \(text)") }.count }
    #expect(count("breakfast") == 1)
    #expect(count("lunch") == 2)
    #expect(count("dinner") == 1)
    #expect(said.contains("B, fd 8: number 1 of a11ce has been told already"))
  }

  /// Both of B's ends hear 1001; and TIME_WAIT is where a connection was accepted, not where the end was decided.
  @Test func theEndIsSeenAtBothEndsAndTimeWaitIsAtTheListenersPorts() throws {
    let run = try Run()
    for end in ["B, fd 5", "B, fd 8", "A, fd 6", "A, fd 7"] {
      _ = try run.said("\(end): Close 1001 (going away)")
    }
    let left = try #require(run.steps.last).sockets
    // The link that was refused, too.
    let waiting = left.filter { $0.state == "TIME_WAIT" }
    #expect(waiting.count == 3)
    #expect(waiting.allSatisfy { run.listeners.contains($0.local ?? "") })
    #expect(Set(waiting.compactMap(\.local)) == run.listeners)
    #expect(left.allSatisfy { ["TIME_WAIT", "CLOSE"].contains($0.state) })
  }

  /// The same, asked of the kernel by somebody else when the program has ended: in a network of its own.
  @Test(.enabled(if: Witness.have("ss", "ip") && Privilege.isRoot)) func ssFindsTheSameTimeWaits() throws {
    let script = "\"$0\" --bare --port 8080 > /dev/null && ss -tanHO | sort"
    let result = try Program.run(inItsOwnNetwork(["/bin/sh", "-c", script, Place.product(Self.lesson)]))
    let rows = result.lines.filter { !$0.isEmpty }.map { $0.split(separator: " ").map(String.init) }
    #expect(result.status == 0 && rows.count == 3, "\(result.output)")
    #expect(rows.allSatisfy { $0.first == "TIME-WAIT" })
    #expect(
      rows.compactMap { $0.count > 3 ? $0[3] : nil }.sorted() == [
        "127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:8081",
      ])
  }

  /// A port that was given is A's, and B has the next one; again and again, whatever is left in TIME_WAIT.
  @Test(.enabled(if: Witness.have("ip") && Privilege.isRoot)) func aPortThatIsGivenIsUsedAgain() throws {
    let script = "for i in 1 2 3; do \"$0\" --bare --port 8080 > /dev/null || exit 1; done"
    let result = try Program.run(inItsOwnNetwork(["/bin/sh", "-c", script, Place.product(Self.lesson)]))
    #expect(result.status == 0, "\(result.errors)")
  }
}
