import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// A run of a lab at whose pauses, the program frozen, others bear witness.
private struct Visited {
  let lines: [StoryLine]
  let result: Program.Result

  /// The verdicts on one half, in their order.
  func verdicts(_ half: String) -> [String] {
    lines.compactMap { $0["half"] as? String == half ? $0["verdict"] as? String : nil }
  }

  /// Stops at each step, and calls `visit` with the steps of its call so far.
  init(_ command: [String], _ visit: (_ step: StoryLine, _ ofItsCall: Int) throws -> Void) throws {
    let program = try Program(command + ["--format", "json", "--step"], onTerminal: true)
    var position = try program.waitForTerminal("q: quit")  // the lab's question
    program.press("\n")
    var (lines, seen): ([StoryLine], [String: Int]) = ([], [:])
    while let text = try program.line() {
      let line = try StoryLine(text)
      lines.append(line)
      guard line.isStep else { continue }
      position = try program.waitForTerminal("q: quit", from: position)
      seen[line.call, default: 0] += 1
      try visit(line, seen[line.call] ?? 0)
      program.press("\n")
    }
    self.lines = lines
    result = try program.finish()
  }
}

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
    #expect(result.status == 1)
    #expect(result.errors.hasPrefix("\(lab): cannot show what this lab is about: "), "\(result.errors)")
    #expect(result.errors.contains(what), "\(result.errors)")
    #expect(result.errors.filter { $0 == "\n" }.count == 1)
  }

  // --- lab-close-wait ---

  @Test func closeWaitIsWhatTheVerdictSays() throws {
    var (port, waiting, left, atTheEnd): (String, [SSRow], [SSRow], [SSRow]) = ("", [], [], [])
    let run = try Visited([Place.product("lab-close-wait")]) { step, count in
      if step.call == "listen" { port = step.port }
      if step.call == "read", count == 4 { waiting = try rows(port) }
      // The first of the forgotten is closed.
      if step.call == "close", count == 3 { left = try rows(port) }
      atTheEnd = try rows(port)
    }
    #expect(run.result.status == 0, "\(run.result.errors)")
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
    let run = try Visited([Place.product("lab-close-wait")]) { step, count in
      if step.call == "listen" { port = step.port }
      guard step.call == "read", count == 4 else { return }
      let kill = [
        "ss", "-K", "state", "close-wait", "sport", "=", ":\(port.split(separator: ":").last ?? "")",
      ]
      let status = try Program.run(kill).status
      #expect(status == 0)
    }
    expectCannotShow(run.result, "lab-close-wait", "of the server's two ends, 0 are in CLOSE_WAIT")
    #expect(run.verdicts("broken") == [])
  }

  // --- lab-full-accept-queue ---

  /// What is counted in a process's network, read by Python.
  private static let overflows = """
    import sys
    names, values = [l.split() for l in open(f"/proc/{sys.argv[1]}/net/netstat") if l.startswith("TcpExt:")]
    counters = dict(zip(names, values))
    print(counters["ListenOverflows"], counters["ListenDrops"], counters["TCPTimeouts"])
    """

  private func counters(of process: Int) throws -> [Int] {
    let python = try #require(Witness.python)
    let result = try Program.run([python, "-c", Self.overflows, "\(process)"])
    return result.output.split { $0.isWhitespace }.compactMap { Int($0) }
  }

  private func drops(_ rows: [SSRow]) throws -> Int {
    try number(after: ",d", in: rows.first { $0.state == "LISTEN" }?.rest)
  }

  @Test func theFullQueueIsWhatTheVerdictSays() throws {
    var (port, atDial, atDrops, atLong, atTheEnd): (String, [SSRow], [SSRow], [SSRow], [SSRow]) =
      ("", [], [], [], [])
    var counted: [Int] = []
    let run = try Visited([Place.product("lab-full-accept-queue")]) { step, count in
      if step.call == "listen" { port = step.port }
      if step.errno == "EINPROGRESS" { atDial = try rows(port, inNetworkOf: step.process) }
      if step.callText.contains("SO_MEMINFO"), atDrops.isEmpty {
        atDrops = try rows(port, inNetworkOf: step.process)
        counted = try counters(of: step.process)
      }
      if step.callText.contains("TCP_INFO") { atLong = try rows(port, inNetworkOf: step.process) }
      atTheEnd = try rows(port, inNetworkOf: step.process)
    }
    #expect(run.result.status == 0, "\(run.result.errors)")
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
    let run = try Visited([Place.product("lab-port-taken")]) { step, _ in
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
    #expect(run.result.status == 0, "\(run.result.errors)")
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
    let run = try Visited([Place.product("lab-descriptor-limit")]) { step, _ in
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
    #expect(run.result.status == 0, "\(run.result.errors)")
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
    let run = try Visited([Place.product("lab-descriptor-limit")]) { step, count in
      guard step.call == "poll", count == 2 else { return }
      let status = try Program.run(["prlimit", "--pid", "\(step.process)", "--nofile=100:"]).status
      #expect(status == 0)
    }
    expectCannotShow(run.result, "lab-descriptor-limit", "accept found a descriptor that is free")
    #expect(run.verdicts("broken") == [])
  }

  // --- all of them ---

  static let labs = [
    "lab-close-wait", "lab-descriptor-limit", "lab-full-accept-queue", "lab-port-taken",
  ]

  @Test(arguments: labs) func itRunsWithoutANarrator(lab: String) throws {
    let result = try Program.run([Place.product(lab), "--bare"])
    #expect(result.status == 0, "\(result.errors)")
    let halves = result.lines.map { String($0.prefix { $0 != ":" }) }.filter {
      ["broken", "cured"].contains($0)
    }
    #expect(halves.first == "broken" && halves.last == "cured")
  }

  @Test(.enabled(if: Privilege.isRoot && Witness.have("setpriv")), arguments: labs)
  func anOrdinaryUserMayRunIt(lab: String) throws {
    try Place.withTemporaryFolder { folder in
      #expect(try Program.run(["/bin/cp", Place.product(lab), folder]).status == 0)
      let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
      let result = try Program.run(user + ["\(folder)/\(lab)", "--format", "json", "--no-step"])
      #expect(result.status == 0, "\(result.errors)")
      let lines = try StoryLine.all(result.output)
      #expect(lines.last { $0["half"] != nil }?["half"] as? String == "cured")
    }
  }

  @Test(arguments: labs) func itRunsWhereNamespacesAreRefused(lab: String) throws {
    let script =
      "cd /proc/sys/user && echo 0 >max_net_namespaces && echo 0 >max_user_namespaces && exec \"$0\" --format json"
    let result = try Program.run(["unshare", "-Ur", "/bin/sh", "-c", script, Place.product(lab)])
    #expect(result.status == 0, "\(result.errors)")
    let lines = try StoryLine.all(result.output)
    #expect(lines.last { $0["half"] != nil }?["half"] as? String == "cured")
    let notes = lines.filter { ($0["note"] as? String ?? "").hasPrefix("No network of its own") }
    #expect(notes.count == (Course.withOwnNetwork.contains(lab) ? 1 : 0))
  }

  /// The lab's own question is asked first, and the run decides who was right.
  @Test(arguments: labs) func itsQuestionIsAnsweredByTheKernel(lab: String) throws {
    for answer in 1...3 {
      let input = "\(answer)\n" + String(repeating: "\n", count: 100)
      let result = try Program.run([Place.product(lab), "--predict", "--format", "json"], input: input)
      #expect(result.status == 0, "\(result.errors)")
      let lines = try StoryLine.all(result.output)
      let decided = lines.filter { $0["truth"] != nil }
      #expect(decided.count == 1)
      let right = ["lab-port-taken": 2, "lab-descriptor-limit": 3][lab] ?? 1
      #expect(decided.first?["right"] as? Bool == (answer == right))
      // In words, no wider than the terminal that they are for.
      let told = try Program.run(
        [Place.product(lab), "--predict"], input: input, environment: ["COLUMNS": "80"])
      #expect(told.lines.allSatisfy { $0.count <= 80 })
    }
  }
}
