import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// Four labs: their verdicts against what others see of the same kernel, and that they say so where their effect does not occur.
@Suite struct StreamLabTests {
  /// Goes through a lab, and looks at its network at each pause: `look` gets the step that has just been told, and the process whose
  /// network it is. Returns the whole story.
  private func walk(_ lab: String, look: (StoryLine, Int) throws -> Void) throws -> [StoryLine] {
    let run = try LabRun.visited(lab) { step, _, network in try look(step, network) }
    #expect(run.status == 0, "\(run.errors)")
    return run.lines
  }

  private func verdict(_ half: String, _ lines: [StoryLine]) throws -> String {
    let all = lines.filter { $0["half"] as? String == half }
    #expect(all.count == 1)
    return try #require(all.first?["verdict"] as? String)
  }

  private func result(_ step: StoryLine) -> Int? {
    step.callText.split(separator: "=").last.flatMap { Int($0.trimmingCharacters(in: .whitespaces)) }
  }

  // --- the verdicts ---

  @Test(.enabled(if: Witness.have("ss", "nsenter") && Witness.havePython)) func resetLosesTheSendQueue()
    throws
  {
    var queues: (send: Int, unread: Int, arrived: Int)?
    var counts: [[String: Int]] = []
    let lines = try walk("lab-reset") { step, process in
      if step.callText.hasPrefix("write(5,"), queues == nil {
        let rows = try SSRow.all(inNetworkOf: process)
        let server = try #require(rows.first { $0.state == "ESTABLISHED" && $0.sendQueue > 0 })
        let client = try #require(rows.first { $0.state == "ESTABLISHED" && $0.local == server.peer })
        queues = (server.sendQueue, server.receiveQueue, client.receiveQueue)
      }
      if step.callText.hasPrefix("close(4)") || step.callText.hasPrefix("close(5)") {
        counts.append(try LabRun.counters(process))
      }
    }
    let seen = try #require(queues)
    let taken = try #require(lines.first { $0.callText.hasPrefix("write(5,") }.flatMap(result))
    #expect(seen.arrived + seen.send == taken)
    let broken = try verdict("broken", lines)
    #expect(broken.contains("write had taken \(taken) bytes of the answer, and \(seen.arrived) came"))
    #expect(broken.contains("\(seen.send) bytes in its send queue, and \(seen.unread) unread ones"))
    #expect(try verdict("cured", lines).contains("write had taken \(taken) bytes, and \(taken) came"))
    // close(5), close(4), and then the cure's close(4), close(5).
    #expect(counts.map { $0["TcpExtTCPAbortOnClose"] } == [1, 1, 1, 1])
    #expect(counts.map { $0["TcpOutRsts"] } == [1, 1, 1, 1])
    #expect(counts.last?["TcpEstabResets"] == 2)
    let said = lines.compactMap(\.say).filter { $0.hasPrefix("The kernel has counted") }
    #expect(said.count == 2)
    #expect(said.first?.firstMatch(of: /TcpOutRsts +\+1\n/) != nil)
    #expect(said.last?.firstMatch(of: /TcpOutRsts +\+0\n/) != nil)
  }

  @Test(.enabled(if: Witness.have("ss", "nsenter") && Witness.havePython)) func aBrokenPipeEndsAProgram()
    throws
  {
    var isGone = false
    var resets: [Int?] = []
    var states: Set<String> = []
    var child: Int?
    let lines = try walk("lab-broken-pipe") { step, process in
      if let pid = step["pid"] as? Int, pid != process, child == nil { child = pid }
      if step.callText.hasPrefix("close(4)") {
        if let child, resets.isEmpty { isGone = kill(pid_t(child), 0) == -1 }
        resets.append(try LabRun.counters(process)["TcpOutRsts"])
      }
      if step.call == "poll" { states = Set(try SSRow.all(inNetworkOf: process).map(\.state)) }
    }
    #expect(isGone)
    #expect(states.isSuperset(of: ["CLOSE_WAIT", "FIN_WAIT2"]))
    // One for each pair of writes, none for the poll.
    #expect(resets == [1, 2, 3, 3])
    let broken = try verdict("broken", lines)
    #expect(broken.contains("signal 13, SIGPIPE") && broken.contains("as 141"))
    #expect(broken.contains("TcpOutRsts has grown by 1."))
    #expect(try verdict("cured", lines).contains("TcpOutRsts has grown by 0."))
    let ends = lines.filter(\.isStep).filter { $0.errno == "EPIPE" }
    #expect(ends.count == 3)
  }

  /// The kernel's word for it, told by strace: of three processes one is killed.
  @Test(.enabled(if: Witness.have("strace"))) func straceSeesTheSignal() throws {
    try Place.withTemporaryFolder { folder in
      let strace = try #require(Witness.path("strace"))
      let file = "\(folder)/strace"
      let command = [
        strace, "-f", "-o", file, "-e", "trace=none", Place.product("lab-broken-pipe"), "--bare",
      ]
      #expect(try Program.run(inItsOwnNetwork(command)).status == 0)
      let lines = (text(ofFile: file) ?? "").split(separator: "\n")
      #expect(lines.filter { $0.contains("+++ killed by SIGPIPE") }.count == 1)
      #expect(lines.filter { $0.contains("+++ exited with 0") }.count == 2)
    }
  }

  @Test(.enabled(if: Witness.have("ss", "nsenter") && Witness.havePython)) func aWindowStaysClosed() throws {
    var isProbing = false
    var probes: Int?
    var over: [SSRow] = []
    var last: [SSRow] = []
    let lines = try walk("lab-zero-window") { step, process in
      if step.callText.hasPrefix("getsockopt(5,") {
        let row = try SSRow.all(inNetworkOf: process).first { $0.sendQueue > 0 && $0.state == "ESTABLISHED" }
        isProbing = row?.rest.contains("timer:(persist,") ?? false
        probes = try LabRun.counters(process)["TcpExtTCPWinProbe"]
      }
      if step.call == "recvfrom" { over = try SSRow.all(inNetworkOf: process) }
      if step.errno == "ETIMEDOUT" { last = try SSRow.all(inNetworkOf: process) }
    }
    #expect(isProbing)
    #expect(try #require(probes) >= 3)
    let broken = try verdict("broken", lines)
    #expect(broken.contains("tcpi_snd_wnd 0, at the server tcpi_rcv_wnd 0."))
    #expect(broken.contains("tcpi_probes, those without an answer, is 0"))
    let intervals = broken.matches(of: /(\d+\.\d) s/).compactMap { Double($0.output.1) }
    #expect(intervals.count == 4)
    for (one, next) in zip(intervals, intervals.dropFirst()) { #expect((1.5...2.6).contains(next / one)) }
    // All that was sent has come, when the window was open again.
    let sent = lines.filter { $0.call == "sendto" }.prefix { $0.errno == nil }.compactMap(result).reduce(0, +)
    #expect(sent > 0)
    #expect(try verdict("cured", lines).contains("all \(sent) bytes of \(sent) have come"))
    #expect(over.allSatisfy { $0.state == "LISTEN" || $0.sendQueue == 0 && $0.receiveQueue == 0 })
    // Of the second connection the client's end is over, and the server's does not know.
    let left = last.filter { $0.state != "LISTEN" && $0.state != "TIME_WAIT" }
    #expect(left.map(\.state) == ["ESTABLISHED"])
    #expect(try #require(left.first).receiveQueue > 0)
    #expect(lines.contains { $0.call == "write" && $0.errno == "ETIMEDOUT" })
  }

  @Test(.enabled(if: Witness.have("ss", "nsenter") && Witness.havePython))
  func nagleWaitsForTheAcknowledgement() throws {
    var delayed: [Int?] = []
    let lines = try walk("lab-nagle") { step, process in
      if step.call == "setsockopt" { delayed.append(try LabRun.counters(process)["TcpExtDelayedACKs"]) }
    }
    // Before anything was sent; and before TCP_NODELAY.
    #expect(delayed.count == 2 && delayed.first == 0)
    let counted = try #require(delayed.last ?? nil)
    #expect(counted >= 2)
    let broken = try verdict("broken", lines)
    #expect(broken.contains("After both writes 10 and 10 bytes were not sent"))
    // The packets have the kernel's own times: a head, and how much later its body went out.
    let halves = lines.flatMap(\.packets).filter { $0["length"] as? Int == 10 }.compactMap {
      ($0["time"] as? NSNumber)?.uint64Value
    }
    let gaps = stride(from: 0, to: halves.count - 1, by: 2).map { Double(halves[$0 + 1] - halves[$0]) / 1e6 }
    for time in try times(broken) { #expect(gaps.contains { $0 >= 30 && $0 <= time }, "\(time): \(gaps)") }
    #expect(gaps.suffix(2).allSatisfy { $0 < 30 }, "\(gaps)")
    // How long it takes under a narrator hangs on him; `straceTakesTheTime` looks at that.
    let cured = try times(try verdict("cured", lines))
    #expect(cured.count == 3)
    // The packets: the body goes out after the acknowledgement of the head, and in the cure before it.
    let unsent = lines.filter { $0.call == "ioctl" }.map(\.callText)
    #expect(unsent.filter { $0.contains("[10]") }.count >= 2)
    #expect(unsent.suffix(3).allSatisfy { $0.contains("[0]") })
  }

  private func times(_ text: String) throws -> [Double] {
    text.matches(of: /(\d+\.\d) ms/).compactMap { Double($0.output.1) }
  }

  /// strace's clock beside the lab's own: where a request waits, it is the server's recv that waits.
  @Test(.enabled(if: Witness.have("strace"))) func straceTakesTheTime() throws {
    try Place.withTemporaryFolder { folder in
      let strace = try #require(Witness.path("strace"))
      let file = "\(folder)/strace"
      let command = [strace, "-T", "-o", file, "-e", "trace=recvfrom", Place.product("lab-nagle"), "--bare"]
      let run = try Program.run(inItsOwnNetwork(command))
      #expect(run.status == 0)
      let waits = (text(ofFile: file) ?? "").split(separator: "\n").compactMap {
        $0.firstMatch(of: /<(\d+\.\d+)>$/).flatMap { Double($0.output.1) }
      }
      // The first, two that wait, three in the cure; or more, where something else held one up.
      #expect(waits.count >= 6)
      let broken = try #require(run.lines.first { $0.hasPrefix("broken: ") })
      let told = try times(broken)
      #expect(told.count == 2)
      for time in told { #expect(waits.contains { $0 >= 0.03 && $0 * 1000 <= time + 0.1 }) }
      #expect(waits.count { $0 < 0.03 } >= 4)
    }
  }

  // --- where the effect does not occur ---

  /// A network in which something is otherwise, and no further one can be made: the lab runs in it, with the narrator and without.
  private func elsewhere(_ change: String, _ command: [String]) throws -> Program.Result {
    let ip = try #require(Witness.path("ip"))
    let script =
      "\(ip) link set lo up && \(change) && echo 0 >/proc/sys/user/max_net_namespaces && exec \"$@\""
    return try Program.run(["unshare", "-Urn", "/bin/sh", "-c", script, "sh"] + command)
  }

  private static let changes = [
    // The whole answer fits into the client's window.
    ("lab-reset", "echo 4096 6291456 33554432 >/proc/sys/net/ipv4/tcp_rmem", "nothing was lost"),
    // Every segment is acknowledged at once. See: ip-route(8)
    (
      "lab-nagle",
      "ip route replace local 127.0.0.0/8 dev lo table local quickack 1"
        + " && ip route replace local 127.0.0.1 dev lo table local quickack 1",
      "has not waited for a delayed acknowledgement"
    ),
    // The first probe would come after nine seconds.
    (
      "lab-zero-window",
      "ip route replace local 127.0.0.0/8 dev lo table local rto_min 9s"
        + " && ip route replace local 127.0.0.1 dev lo table local rto_min 9s",
      "window probes, where four times were to be seen"
    ),
  ]

  @Test(
    .enabled(if: Isolation.isPossible && Witness.have("unshare", "ip")), arguments: changes, [true, false])
  func whereTheEffectDoesNotOccur(_ change: (lab: String, change: String, reason: String), isBare: Bool)
    throws
  {
    let result = try elsewhere(change.change, [Place.product(change.lab), isBare ? "--bare" : "--no-step"])
    #expect(result.status == 1)
    #expect(result.errors.hasPrefix("\(change.lab): cannot show what this lab is about: "))
    #expect(result.errors.contains(change.reason), "\(result.errors)")
    #expect(!result.output.contains("broken: ") && !result.output.contains("cured: "))
  }

  /// Whoever started it ignores SIGPIPE, and so does what it starts.
  @Test func whereSIGPIPEIsIgnored() throws {
    let lab = Place.product("lab-broken-pipe")
    let result = try Program.run(["/bin/sh", "-c", "trap '' PIPE; exec \"$0\" --bare", lab])
    #expect(result.status == 1)
    #expect(result.errors.hasPrefix("lab-broken-pipe: cannot show what this lab is about: "))
    #expect(result.errors.contains("SIGPIPE did not end it"))
    #expect(!result.output.contains("broken: "))
    // The narrator starts it as a shell would.
    #expect(try Program.run(["/bin/sh", "-c", "trap '' PIPE; exec \"$0\" --no-step", lab]).status == 0)
  }
}
