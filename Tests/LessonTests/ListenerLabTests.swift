import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

extension StoryLine {
  fileprivate var process: Int { self["pid"] as? Int ?? 0 }

  /// The port of the lab's listening socket.
  fileprivate var port: String {
    sockets.compactMap { $0.state == "LISTEN" ? $0.local : nil }.first ?? "none"
  }
}

/// The first number of a text that follows some words.
private func number(after words: String, in text: String?) throws -> Int {
  let text = try #require(text)
  let start = try #require(text.range(of: words), "\(text)").upperBound
  return try #require(Int(text[start...].drop { !$0.isNumber }.prefix { $0.isNumber }))
}

/// A command in a network namespace in which something else holds than here: `net/ipv4/tcp_syn_retries=1`.
private func under(_ settings: [String], _ command: [String]) -> [String] {
  let writes = settings.map { setting in
    let parts = setting.split(separator: "=")
    return "echo \(parts[1]) >/proc/sys/\(parts[0]); "
  }
  return [
    "unshare", "-n", "sh", "-ec", "ip link set lo up; \(writes.joined())exec \"$@\"", "sh",
  ] + command
}

/// What ss says of sockets with a port at one of their ends.
private func rows(_ port: String, inNetworkOf process: Int? = nil) throws -> [SSRow] {
  let suffix = ":\(port.split(separator: ":").last ?? "")"
  return try SSRow.all(inNetworkOf: process).filter {
    $0.local.hasSuffix(suffix) || $0.peer.hasSuffix(suffix)
  }
}

@Suite(.enabled(if: Witness.have("ss", "unshare", "ip") && Witness.havePython)) struct ListenerLabTests {
  private func expectCannotShow(_ result: Program.Result, _ lab: String, _ what: String) {
    expectCannotShow(result.status, result.errors, lab, what)
  }

  private func expectCannotShow(_ run: LabRun, _ lab: String, _ what: String) {
    expectCannotShow(run.status, run.errors, lab, what)
  }

  private func expectCannotShow(_ status: Int32, _ errors: String, _ lab: String, _ what: String) {
    #expect(status == 1)
    #expect(errors.hasPrefix("\(lab): cannot show what this lab is about: "), "\(errors)")
    #expect(errors.contains(what), "\(errors)")
    #expect(errors.filter { $0 == "\n" }.count == 1)
  }

  // --- lab-close-wait ---

  @Test func closeWaitIsWhatTheVerdictSays() throws {
    var (port, waiting, left, atTheEnd): (String, [SSRow], [SSRow], [SSRow]) = ("", [], [], [])
    let run = try LabRun.visited("lab-close-wait") { step, count, _ in
      if step.call == "listen" { port = step.port }
      if step.call == "read", count == 4 { waiting = try rows(port) }
      // The first of the forgotten is closed.
      if step.call == "close", count == 3 { left = try rows(port) }
      atTheEnd = try rows(port)
    }
    #expect(run.status == 0, "\(run.errors)")
    let forgotten = waiting.filter { $0.state == "CLOSE_WAIT" && $0.local == port }
    #expect(try number(after: "/proc/net/tcp has", in: run.verdicts("broken").last) == forgotten.count)
    #expect(forgotten.count == 2)
    for row in forgotten { #expect(!row.rest.contains("timer:(") && !row.rest.contains("ino:0 ")) }
    let peers = waiting.filter { $0.state == "FIN_WAIT2" && $0.peer == port }
    #expect(peers.count == 2)
    for row in peers { #expect(row.rest.contains("timer:(timewait,")) }
    // The second client's end has gone by itself, and its other one has not.
    let second = try #require(left.first { $0.state == "CLOSE_WAIT" })
    #expect(!left.contains { $0.local == second.peer })
    let rest = atTheEnd.filter { $0.state == "TIME_WAIT" && $0.peer == port }
    #expect(try number(after: "connections", in: run.verdicts("cured").last) == rest.count)
    #expect(!atTheEnd.contains { $0.state == "CLOSE_WAIT" })
  }

  /// Somebody else ends the sockets that the server has forgotten.
  @Test(.enabled(if: Privilege.isRoot)) func withoutCloseWaitThereIsNothingToShow() throws {
    var port = ""
    let run = try LabRun.visited("lab-close-wait") { step, count, _ in
      if step.call == "listen" { port = step.port }
      guard step.call == "read", count == 4 else { return }
      let kill = [
        "ss", "-K", "state", "close-wait", "sport", "=", ":\(port.split(separator: ":").last ?? "")",
      ]
      let status = try Program.run(kill).status
      #expect(status == 0)
    }
    expectCannotShow(run, "lab-close-wait", "of the server's two ends, 0 are in CLOSE_WAIT")
    #expect(run.verdicts("broken") == [])
  }

  // --- lab-full-accept-queue ---

  private func drops(_ rows: [SSRow]) throws -> Int {
    try number(after: ",d", in: rows.first { $0.state == "LISTEN" }?.rest)
  }

  @Test func theFullQueueIsWhatTheVerdictSays() throws {
    var (port, atDial, atDrops, atLong, atTheEnd): (String, [SSRow], [SSRow], [SSRow], [SSRow]) =
      ("", [], [], [], [])
    var counted: [Int] = []
    let run = try LabRun.visited("lab-full-accept-queue") { step, count, _ in
      if step.call == "listen" { port = step.port }
      if step.errno == "EINPROGRESS" { atDial = try rows(port, inNetworkOf: step.process) }
      if step.callText.contains("SO_MEMINFO"), atDrops.isEmpty {
        atDrops = try rows(port, inNetworkOf: step.process)
        let counters = try LabRun.counters(step.process)
        counted = ["ListenOverflows", "ListenDrops", "TCPTimeouts"].compactMap { counters["TcpExt\($0)"] }
      }
      if step.callText.contains("TCP_INFO") { atLong = try rows(port, inNetworkOf: step.process) }
      atTheEnd = try rows(port, inNetworkOf: step.process)
    }
    #expect(run.status == 0, "\(run.errors)")
    let broken = run.verdicts("broken").last
    // A connection more than the backlog, and a client whose timer runs.
    let full = try #require(atDial.first { $0.state == "LISTEN" })
    #expect(try number(after: "The queue holds", in: broken) == full.receiveQueue)
    #expect(try number(after: "backlog of", in: broken) == full.sendQueue)
    #expect(full.receiveQueue == 2 && full.sendQueue == 1)
    let late = try #require(atDial.first { $0.state == "SYN_SENT" })
    #expect(late.rest.contains("timer:(on,"))
    // Each SYN dropped, by three counts. Others read later, and there may be one more by then.
    let dropped = try number(after: "thrown away", in: broken)
    #expect(dropped >= 2)
    #expect(try drops(atDrops) >= dropped)
    #expect(counted.count == 3 && counted[0] >= dropped && counted[1] >= dropped && counted[2] >= dropped - 1)
    // Afterwards none.
    let cured = run.verdicts("cured").last
    let long = try #require(atLong.first { $0.state == "LISTEN" })
    #expect(try number(after: "The queue held", in: cured) == long.receiveQueue)
    #expect(try number(after: "backlog of", in: cured) == long.sendQueue)
    #expect(long.receiveQueue == 4 && long.sendQueue == 8)
    #expect(try drops(atTheEnd) == drops(atLong))
    #expect(atTheEnd.first { $0.state == "LISTEN" }?.receiveQueue == 0)
    #expect(atTheEnd.filter { $0.state == "ESTABLISHED" && $0.local == port }.count == 5)
  }

  /// A client that gives up before there is room.
  @Test(.enabled(if: Privilege.isRoot)) func aClientThatGivesUpIsNotCured() throws {
    let impatient = ["net/ipv4/tcp_syn_retries=1", "net/ipv4/tcp_syn_linear_timeouts=0"]
    let result = try Program.run(under(impatient, [Place.product("lab-full-accept-queue"), "--bare"]))
    expectCannotShow(result, "lab-full-accept-queue", "connect has failed in the end: Connection timed out")
    #expect(result.output.contains("broken: ") && !result.output.contains("cured: "))
  }

  @Test(.enabled(if: Privilege.isRoot)) func aQueueThatCannotGrowIsNotCured() throws {
    let result = try Program.run(
      under(["net/core/somaxconn=4"], [Place.product("lab-full-accept-queue"), "--bare"]))
    expectCannotShow(result, "lab-full-accept-queue", "net.core.somaxconn is 4")
  }

  // --- lab-port-taken ---

  /// What a plain Python program is told when it binds the same port, without SO_REUSEADDR and with it.
  private static let bind = """
    import errno, socket, sys
    for option in None, socket.SO_REUSEADDR:
        s = socket.socket()
        if option: s.setsockopt(socket.SOL_SOCKET, option, 1)
        try: s.bind(("127.0.0.1", int(sys.argv[1]))); print("bound")
        except OSError as e: print(errno.errorcode[e.errno])
        s.close()
    """

  @Test func theTakenPortIsWhatTheVerdictsSay() throws {
    var (port, witnesses): (String, [[Substring]]) = ("", [])
    var (over, queues, left): ([SSRow], [Int], [Int]) = ([], [], [])
    let run = try LabRun.visited("lab-port-taken") { step, _, _ in
      if step.call == "listen" { port = step.port }
      if step.call == "bind", step.errno == "EADDRINUSE" {
        if over.isEmpty { over = try rows(port) }
        let python = try #require(Witness.python)
        let number = String(port.split(separator: ":").last ?? "")
        witnesses.append(try Program.run([python, "-c", Self.bind, number]).output.split(separator: "\n"))
        // Who has it, the narrator says as well.
        let holder = step["portHolder"] as? String ?? ""
        #expect(holder.contains(witnesses.count == 1 ? "TIME_WAIT" : "in LISTEN"), "\(holder)")
      }
      let now = try rows(port).filter { $0.state == "LISTEN" }.map(\.receiveQueue)
      if now.count == 2 { queues = now }
      left = now
    }
    #expect(run.status == 0, "\(run.errors)")
    #expect(over.map(\.state) == ["TIME_WAIT"] && over.first?.local == port)
    #expect(try number(after: "/proc/net/tcp has", in: run.verdicts("broken").first) == over.count)
    // Where TIME_WAIT has the port SO_REUSEADDR helps, where a listener has it not.
    #expect(witnesses == [["EADDRINUSE", "bound"], ["EADDRINUSE", "EADDRINUSE"]])
    let cured = run.verdicts("cured").last
    #expect(queues == [1, 1] && left == [1])
    #expect(try number(after: "queues holding", in: cured) == queues[0])
    #expect(try number(after: " and ", in: cured) == queues[1])
    #expect(try number(after: "still holds", in: cured) == left[0])
    #expect(run.lines.contains { $0.call == "recvfrom" && $0.errno == "ECONNRESET" })
  }

  /// A kernel that keeps nothing of a connection; and one that lets a listener inherit another one's queue.
  @Test(
    .enabled(if: Privilege.isRoot),
    arguments: [
      ("net/ipv4/tcp_max_tw_buckets=0", "what is left of the connection is in []"),
      ("net/ipv4/tcp_migrate_req=1", "the client was not reset; net.ipv4.tcp_migrate_req is 1"),
    ]) func aPortThatIsFreeIsNotShown(setting: String, what: String) throws
  {
    for words in [["--bare"], ["--no-step"]] {
      let result = try Program.run(under([setting], [Place.product("lab-port-taken")] + words))
      expectCannotShow(result, "lab-port-taken", what)
    }
  }

  // --- lab-descriptor-limit ---

  @Test func theLimitIsWhatTheVerdictSays() throws {
    var (port, queues, atTheEnd): (String, [Int], [SSRow]) = ("", [], [])
    var idle: [Int] = []
    func queue() throws -> Int { try rows(port).first { $0.state == "LISTEN" }?.receiveQueue ?? -1 }
    let run = try LabRun.visited("lab-descriptor-limit") { step, _, _ in
      if step.call == "listen" { port = step.port }
      if step.call == "accept", step.errno == "EMFILE" {
        queues.append(try queue())
        // As many descriptors as it may have, by its limits and its folder.
        let limits = text(ofFile: "/proc/\(step.process)/limits") ?? ""
        let line = limits.split(separator: "\n").first { $0.hasPrefix("Max open files") }
        let limit = try number(after: "Max open files", in: line.map(String.init))
        #expect(numberedEntries(ofDirectory: "/proc/\(step.process)/fd")?.count == limit)
        // The client is connected, and nobody has its other end.
        #expect(try rows(port).filter { $0.state == "ESTABLISHED" && $0.local == port }.count == 2)
      }
      if step.call == "poll", step["result"] as? Int == 0 { idle.append(try queue()) }
      atTheEnd = try rows(port)
    }
    #expect(run.status == 0, "\(run.errors)")
    let broken = run.verdicts("broken").last
    #expect(try number(after: "has returned", in: broken) == queues.count)
    #expect(try Set(queues) == [number(after: "TCP_INFO:", in: broken)])
    #expect(queues == [1, 1, 1, 1])
    // Nobody waits once Bob is turned away; Carl does, while nobody asks.
    #expect(idle == [0, 1])
    let listener = try #require(atTheEnd.first { $0.state == "LISTEN" })
    #expect(
      try number(after: "the accept queue holds", in: run.verdicts("cured").last) == listener.receiveQueue)
    #expect(listener.receiveQueue == 0)
  }

  /// Somebody gives it more.
  @Test(.enabled(if: Witness.have("prlimit"))) func withDescriptorsThereIsNothingToShow() throws {
    let run = try LabRun.visited("lab-descriptor-limit") { step, count, _ in
      guard step.call == "poll", count == 2 else { return }
      let status = try Program.run(["prlimit", "--pid", "\(step.process)", "--nofile=100:"]).status
      #expect(status == 0)
    }
    expectCannotShow(run, "lab-descriptor-limit", "accept found a descriptor that is free")
    #expect(run.verdicts("broken") == [])
  }
}
