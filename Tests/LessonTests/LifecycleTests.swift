import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// What lessons 4 to 7 promise, item by item, in what the kernel said in one run.
@Suite struct LifecycleTests {
  private func inodes(_ step: StoryLine) -> [Int] {
    step.sockets.compactMap { $0.number("inode") }.filter { $0 != 0 }
  }

  @Test func acceptGivesAConnectionItsDescriptor() throws {
    let steps = try Course.story("lesson4-accept").filter(\.isStep)
    let accept = try #require(steps.first { $0.call == "accept" })
    let listener = try #require(accept.sockets.first { $0.state == "LISTEN" })
    let connection = try #require(accept.sockets.first { $0.fd == accept["result"] as? Int })
    #expect(listener.number("acceptQueue") == 1)
    #expect(connection.local == listener.local)
    #expect(Set(inodes(accept)).count == inodes(accept).count)
    // First come, first served.
    let dials = steps.filter { $0.call == "connect" }
    let first = try #require(dials.first?.sockets.first { $0.fd == dials.first?["fd"] as? Int })
    #expect(connection.peer == first.local)
    #expect(accept.packets.isEmpty)
    // The listener is the one that it was, and both connections have its port.
    let last = try #require(steps.last)
    #expect(last.errno == "EAGAIN")
    #expect(last.sockets.filter { $0.local == listener.local }.count == 3)
    #expect(last.sockets.first { $0.state == "LISTEN" }?.number("acceptQueue") == 0)
    // Inherited, and not.
    func option(_ socket: StorySocket, _ name: String) -> Bool? {
      (socket["options"] as? [String: Any])?[name] as? Bool
    }
    #expect(option(listener, "nonBlocking") == true && option(connection, "nonBlocking") == false)
    #expect(option(listener, "keepAlive") == true && option(connection, "keepAlive") == true)
    let other = try #require(
      last.sockets.first { $0.fd == steps.first { $0.call == "accept4" }?["result"] as? Int })
    #expect(option(other, "nonBlocking") == true)
    #expect((other["descriptors"] as? [[String: Any]])?.first?["closeOnExec"] as? Bool == true)
  }

  @Test func readTakesBytesAndNoMessages() throws {
    let lines = try Course.story("lesson5-read")
    let steps = lines.filter(\.isStep)
    func queues(_ step: StoryLine) -> [Int] {
      step.changes.filter { $0["field"] as? String == "receiveQueue" }.flatMap { change in
        ["from", "to"].compactMap { change[$0] as? Int }
      }
    }
    let moves = steps.filter { ["read", "write"].contains($0.call) }
    #expect(moves.map(queues).prefix(5) == [[0, 7], [7, 13], [13, 0], [0, 11], [11, 7]])
    let reads = steps.filter { $0.call == "read" }
    #expect(
      reads.map { $0.errno ?? "\($0["result"] ?? "")" } == [
        "13", "4", "7", "EAGAIN", "3", "0", "0", "ECONNRESET", "0",
      ])
    // The one that waited was told so while it did.
    #expect(reads[3]["nanoseconds"] as? Int ?? 0 > 450_000_000)
    #expect(lines.contains { ($0["waiting"] as? String)?.hasPrefix("read(") ?? false })
  }

  @Test func writeFillsTwoQueuesAndAWindow() throws {
    let lines = try Course.story("lesson6-write")
    let steps = lines.filter(\.isStep)
    func tcp(_ socket: StorySocket?, _ name: String) -> Int? {
      (socket?["tcp"] as? [String: Any])?[name] as? Int
    }
    let writes = steps.filter { $0.call == "write" }
    let small = try #require(writes.first)
    let client = small["fd"] as? Int
    #expect(small["result"] as? Int == 5)
    #expect(small.sockets.first { $0.fd == client }?.number("sendQueue") == 0)
    #expect(small.sockets.first { $0.fd != client && $0.peer != nil }?.number("receiveQueue") == 5)
    let short = writes[1]
    let sender = short.sockets.first { $0.fd == client }
    #expect((1..<200_000).contains(short["result"] as? Int ?? 0))
    #expect(sender?.number("sendQueue") ?? 0 > 0)
    #expect(tcp(sender, "sendWindow") == 0)
    #expect((sender?["timer"] as? [String: Any])?["kind"] as? String == "window probe")
    #expect(writes.contains { $0.errno == "EAGAIN" })
    let read = try #require(steps.first { $0.call == "read" })
    #expect(tcp(read.sockets.first { $0.fd == client }, "bytesAcknowledged") ?? 0 > 30_000)
    let all = writes.compactMap { $0["result"] as? Int }.filter { $0 > 6 }.reduce(5, +)
    let drained = try #require(steps.first { $0.call == "recvfrom" })
    #expect((read["result"] as? Int ?? 0) + (drained["result"] as? Int ?? 0) == all)
    #expect(drained.sockets.first { $0.fd == client }?.number("sendQueue") == 0)
    // The first write after the peer's close, and the second.
    let late = writes.suffix(2)
    #expect(late.first?["result"] as? Int == 6 && late.last?.errno == "EPIPE")
    if Privilege.canTap {
      #expect(late.first?.packets.contains { ($0["flags"] as? [String])?.contains("RST") ?? false } == true)
    }
    #expect(lines.contains { $0["signal"] as? String == "SIGPIPE" })
    #expect(lines.filter { $0["signal"] as? String == "SIGPIPE" }.count == 1)  // none for MSG_NOSIGNAL
  }

  @Test func closePassesThroughEveryState() throws {
    let steps = try Course.story("lesson7-close").filter(\.isStep)
    let states = Set(steps.flatMap(\.sockets).compactMap(\.state))
    #expect(
      states.isSuperset(of: [
        "FIN_WAIT1", "FIN_WAIT2", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "LISTEN",
      ]))
    let waits = steps.flatMap(\.sockets).filter { $0.state == "TIME_WAIT" }
    for wait in waits { #expect((wait["timer"] as? [String: Any])?["kind"] as? String == "timewait") }
    // One descriptor of two: nothing happens. The other: a FIN.
    let closes = steps.filter { $0.call == "close" }
    #expect(closes[0].packets.isEmpty)
    #expect(closes[0].changes.allSatisfy { $0["field"] as? String == "fd" })
    func flags(_ step: StoryLine) -> [String] {
      step.packets.compactMap { ($0["flags"] as? [String])?.joined(separator: " ") }
    }
    if Privilege.canTap {
      #expect(flags(closes[1]) == ["FIN ACK", "ACK"])
      let resets = closes.filter { flags($0).contains { $0.hasPrefix("RST") } }
      #expect(resets.count == 2)  // unread data, and linger 0
    }
    let binds = steps.suffix(3).filter { $0.call == "bind" }
    #expect(binds.map { $0.errno ?? "0" } == ["EADDRINUSE", "0"])
    #expect((binds.first?["portHolder"] as? String)?.contains("TIME_WAIT") == true)
  }

  /// A forgotten read, a half-close, a reset and a TIME_WAIT: what ss says of each while the program stands still.
  @Test(.enabled(if: Witness.have("ss"))) func ssSaysTheSameOfWhatLasts() throws {
    func rows(_ port: String) throws -> [SSRow] {
      try SSRow.all().filter { $0.local.hasSuffix(":\(port)") || $0.peer.hasSuffix(":\(port)") }
    }
    func port(_ line: StoryLine) -> String? {
      line.sockets.first { $0.state == "LISTEN" }?.local?.split(separator: ":").last.map(String.init)
    }
    func look(_ lesson: String, _ check: (Int, StoryLine, [SSRow]) throws -> Void) throws {
      let program = try Program([Place.product(lesson), "--format", "json", "--step"], onTerminal: true)
      var position = 0
      var known: String?
      while let text = try program.line() {
        let line = try StoryLine(text)
        guard line.isStep else { continue }
        position = try program.waitForTerminal("q: quit", from: position)
        known = port(line) ?? known
        if let known { try check(line["step"] as? Int ?? 0, line, try rows(known)) }
        program.press("\n")
      }
      #expect(try program.finish().status == 0)
    }
    var seen: Set<String> = []
    try look("lesson5-read") { _, line, rows in
      if line.callText.hasPrefix("write(4, \"kernel\"") {
        #expect(rows.contains { $0.state == "ESTABLISHED" && $0.receiveQueue == 13 })
        seen.insert("forgotten read")
      }
      if line.call == "shutdown" {
        #expect(rows.contains { $0.state == "FIN_WAIT2" } && rows.contains { $0.state == "CLOSE_WAIT" })
        seen.insert("half-close")
      }
      if line.call == "close" {
        // The reset has taken both ends of the second connection away.
        #expect(rows.filter { $0.state == "ESTABLISHED" }.isEmpty)
        seen.insert("reset")
      }
    }
    try look("lesson7-close") { _, line, rows in
      for socket in line.sockets where ["TIME_WAIT", "FIN_WAIT1", "LAST_ACK"].contains(socket.state ?? "") {
        let row = rows.first { $0.local == socket.local && $0.peer == socket.peer }
        #expect(row?.state == socket.state)
        if socket.state == "TIME_WAIT" { #expect(row?.rest.contains("timer:(timewait,") == true) }
        seen.insert(socket.state ?? "")
      }
    }
    #expect(seen == ["forgotten read", "half-close", "reset", "TIME_WAIT", "FIN_WAIT1", "LAST_ACK"])
  }

  /// TIME_WAIT sockets of one run do not stop the next on the same port.
  @Test func twoHundredRunsInARow() throws {
    let range = (text(ofFile: "/proc/sys/net/ipv4/ip_local_port_range") ?? "").split(
      whereSeparator: \.isWhitespace)
    // Below those that the kernel gives out, so that no other test has it.
    let highest = max(2000, Int(range.first ?? "32768") ?? 32768) - 1
    let port = "\(highest - Int(getpid()) % 500)"
    // (Lesson 7's TIME_WAIT does stop lessons 2 and 3, which do not set SO_REUSEADDR yet.)
    let quick = ["lesson4-accept", "lesson6-write", "lesson7-close"]
    for run in 0..<200 {
      let lesson = run < 20 ? "lesson3-listen" : quick[run % quick.count]
      let result = try Program.run([Place.product(lesson), "--bare", "--port", port])
      #expect(result.status == 0, "run \(run), \(lesson): \(result.errors)")
      if result.status != 0 { return }
    }
    for lesson in Course.lessons.dropFirst(3) {
      let result = try Program.run([Place.product(lesson), "--no-step", "--port", port])
      #expect(result.status == 0, "\(lesson): \(result.errors)")
    }
    let stopped = try Program.run([Place.product("lesson3-listen"), "--no-step", "--port", port])
    #expect(stopped.status == 1)
    #expect(stopped.output.contains("What is left of a connection has the port, in TIME_WAIT, for another"))
  }

  /// Ctrl-C at a pause leaves no process, and no network namespace, behind.
  @Test(arguments: [
    ("lesson3-listen", 1, []), ("lesson7-close", 1, []), ("lesson6-write", 1, ["--isolated"]),
  ])
  func controlCAtAnyPauseLeavesNothing(lesson: String, every: Int, options: [String]) throws {
    if options.contains("--isolated"), !Isolation.isPossible { return }
    var pauses = 0
    while true {
      let program = try Program([Place.product(lesson)] + options, onTerminal: true, outputOnTerminal: true)
      var position = 0
      for pause in 0...pauses {
        // At the end there is no pause any more, but the end.
        let next = try Clock.poll { () -> Int? in
          if let place = try? program.waitForTerminal("q: quit", from: position, deadline: 0.2) {
            return place
          }
          return program.hasEnded ? .max : nil
        }
        if next == .max { break }
        position = next
        if pause < pauses { program.press("\n") }
      }
      let tree = Self.tree(program.process)
      program.press("\u{3}")
      let result = try program.finish()
      #expect(tree.allSatisfy { kill($0, 0) == -1 }, "pause \(pauses)")
      if result.status == 0 { break }
      #expect(result.status == 130, "pause \(pauses)")
      pauses += every
    }
    #expect(pauses > 5)
  }

  private static func tree(_ process: pid_t) -> [pid_t] {
    let children = text(ofFile: "/proc/\(process)/task/\(process)/children")?.split(separator: " ") ?? []
    return [process] + children.compactMap { pid_t($0) }
  }
}

/// Whether this system lets one have namespaces of one's own.
enum Isolation {
  static let isPossible =
    Witness.areRequired
    || (try? Program.run([Place.product("lesson1-socket"), "--isolated", "--no-step"]))?.status == 0
}
