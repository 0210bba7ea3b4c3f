import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// The lessons, and what is true of every one of them.
enum Course {
  static let lessons = [
    "lesson1-socket", "lesson2-bind", "lesson3-listen", "lesson4-accept", "lesson5-read", "lesson6-write",
    "lesson7-close", "lesson8-minimal-server", "lesson9-echo-server", "lesson10-framing", "lesson11-threads",
    "lesson12-event-loop", "lesson13-contact-wire", "lesson14-contact-book", "lesson15-replication",
    "lesson16-upgrade", "lesson17-frames", "lesson18-two-servers",
  ]
  static let labs = [
    "lab-broken-pipe",
    "lab-close-wait",
    "lab-descriptor-limit",
    "lab-full-accept-queue",
    "lab-half-open",
    "lab-nagle",
    "lab-port-taken",
    "lab-reset",
    "lab-self-connect",
    "lab-wakeups",
    "lab-zero-window",
  ]
  static let all = lessons + labs
  /// Labs that run in a network of their own by themselves.
  static let withOwnNetwork: Set<String> = [
    "lab-broken-pipe",
    "lab-full-accept-queue",
    "lab-half-open",
    "lab-nagle",
    "lab-reset",
    "lab-self-connect",
    "lab-wakeups",
    "lab-zero-window",
  ]
  /// Those of whose runs no two are alike in all: how buffers fill up, and what a timer cuts off, hangs on the time at which each
  /// packet goes out.
  static let timed: Set = [
    "lesson6-write", "lesson7-close", "lesson9-echo-server", "lesson12-event-loop",
    "lab-half-open",
    "lab-nagle",
    "lab-zero-window",
  ]
  /// Those that several threads or processes take part in: without the narrator they run at the same time.
  static let concurrent: Set = [
    "lesson8-minimal-server", "lesson9-echo-server", "lesson11-threads", "lesson14-contact-book",
    "lab-wakeups",
  ]

  /// Lesson 2 binds a port of its own choice, which as root is not refused: it runs where no other test does the same. And a lab that
  /// counts has a network of its own where it has no narrator to make one.
  static func alone(_ command: [String]) -> [String] {
    let names = command.compactMap { $0.split(separator: "/").last.map(String.init) }
    return names.contains { $0 == "lesson2-bind" || withOwnNetwork.contains($0) }
      ? inItsOwnNetwork(command) : command
  }

  /// What a lesson is made of: some start another program.
  static func programs(_ lesson: String) -> [String] {
    if lesson == "lesson14-contact-book" { return [lesson, "\(lesson)-server"] }
    return [lesson] + (lesson.hasSuffix("-server") ? ["\(lesson.dropLast("server".count))client"] : [])
  }

  /// The text of a lesson or a lab.
  static func text(_ lesson: String) -> String {
    lesson.hasPrefix("lab-")
      ? "\(Place.root)/Lessons/labs/\(lesson.dropFirst("lab-".count)).md" : "\(folder(lesson))/README.md"
  }

  static func folder(_ lesson: String) -> String {
    var name = String(lesson.dropFirst("lesson".count))
    if name.hasSuffix("-server") { name.removeLast("-server".count) }
    return "\(Place.root)/Lessons/\(name.prefix { $0 != "-" }.count == 1 ? "0" : "")\(name)"
  }

  static func story(_ lesson: String, _ options: [String] = []) throws -> [StoryLine] {
    let result = try Program.run(alone([Place.product(lesson), "--format", "json", "--no-step"] + options))
    #expect(result.status == 0)
    #expect(result.errors == "")
    return try StoryLine.all(result.output)
  }
}

@Suite struct EveryLessonTests {
  /// The story is true: strace, which knows nothing of the toolkit, sees the same calls with the same results.
  @Test(.enabled(if: Witness.have("strace")), arguments: Course.all)
  func straceSeesTheSameCalls(lesson: String) throws {
    let told = try Course.story(lesson).filter(\.isStep)
    let seen = try Strace.socketCalls(of: [Place.product(lesson), "--bare"], within: Course.alone)
    #expect(
      comparable(Dictionary(grouping: told) { $0["tid"] as? Int ?? 0 }.mapValues { $0.map(\.callText) })
        == comparable(seen))
    #expect(told.count >= 9)
  }

  /// What each thread has done. Which one is the first, their numbers decide.
  private func comparable(_ threads: [Int: [String]]) -> [[String]] {
    threads.values.map(comparable).filter { !$0.isEmpty }.sorted { $0.joined() < $1.joined() }
  }

  /// strace leaves a time limit as bytes. And how many writes it takes until a peer's window is full, time decides; and whether a
  /// signal comes while a call waits.
  private func comparable(_ calls: [String]) -> [String] {
    let calls = calls.filter { !$0.contains("ERESTARTSYS") }
    let plain = calls.map { call in
      masked(call).replacing(/(TIMEO_OLD, ).*(, 16)/) { "\($0.1)…\($0.2)" }
        .replacing("0x33 /* IP_??? */", with: "IP_LOCAL_PORT_RANGE")  // strace knows it from 6.4 on
        .replacing(/^(write.*, N\) = )N$/) { "\($0.1)some" }
    }
    return plain.indices.filter { $0 == 0 || !plain[$0].hasSuffix("= some") || plain[$0] != plain[$0 - 1] }
      .map {
        plain[$0]
      }
  }

  @Test(arguments: Course.all) func theWordsAreTheSameWithoutTheNarrator(lesson: String) throws {
    let said = try Course.story(lesson).compactMap { $0.say ?? $0.verdictText }.joined(separator: "\n")
    let bare = try Program.run(Course.alone([Place.product(lesson), "--bare"]))
    #expect(bare.status == 0)
    guard Course.concurrent.contains(lesson) else {
      #expect(masked(said) == masked(bare.output.trimmingCharacters(in: .newlines)))
      return
    }
    // Who speaks first, time decides; and the kernel what a thread costs.
    func lines(_ text: String) -> [String] {
      text.split(separator: "\n").map { String($0).replacing(/\d+/, with: "N") }.filter {
        !$0.hasPrefix("EINTR")
      }
      .sorted()
    }
    #expect(lines(said) == lines(bare.output))
  }

  /// At each pause, with the program frozen, `ss` is asked for every socket of the step.
  @Test(.enabled(if: Witness.have("ss")), arguments: Course.all)
  func ssAgreesAtEveryPause(lesson: String) throws {
    let program = try Program([Place.product(lesson), "--format", "json", "--step"], onTerminal: true)
    var position = 0
    var compared = 0
    // A lab asks something first.
    if lesson.hasPrefix("lab-") {
      position = try program.waitForTerminal("q: quit")
      program.press("\n")
    }
    // A step that no pause follows is one of a stretch in which the kernel's clock runs. After the last of it there is a pause, but it
    // has been told before the kernel had come to rest.
    var last: StoryLine?
    var count = 0
    var process: Int?
    while case let event = try program.next("q: quit", from: position), event != .end {
      if case .line(let text) = event {
        let line = try StoryLine(text)
        guard line.isStep else { continue }
        last = line
        count += 1
        process = process ?? line["pid"] as? Int
      }
      guard case .shown(let end) = event else { continue }
      position = end
      let isOfStretch = count > 1
      count = 0
      let line = try #require(last)
      if isOfStretch {
        program.press("\n")
        continue
      }
      let rows = try SSRow.all(inNetworkOf: Course.withOwnNetwork.contains(lesson) ? process : nil)
      // While a window is probed, packets come and go at any time.
      let isProbing = line.sockets.contains {
        ($0["timer"] as? [String: Any])?["kind"] as? String == "window probe" || $0.state == "SYN_SENT"
      }
      // What a signal does to its receiver's sockets comes when the call has returned.
      for socket in line.sockets where !line.callText.hasPrefix("kill(") {
        compared += try compare(socket, rows, isProbing: isProbing)
      }
      program.press("\n")
    }
    #expect(try program.finish().status == 0)
    if lesson == "lesson3-listen" { #expect(compared >= 8) }
  }

  /// Returns 1 where ss lists the socket. It does not list closed ones.
  private func compare(_ socket: StorySocket, _ rows: [SSRow], isProbing: Bool) throws -> Int {
    let cookie = "sk:" + String(try #require(socket.number("cookie")), radix: 16) + " "
    let row = rows.first { "\($0.rest) ".contains(cookie) }
    guard socket.state != "CLOSE" else {
      #expect(row == nil || row?.state == "CLOSE")
      return 0
    }
    let found = try #require(row, "ss does not list \(socket.members)")
    #expect(found.state == socket.state)
    #expect(found.local == socket.local)
    if let peer = socket.peer { #expect(found.peer == peer) }
    if socket.state == "LISTEN" {
      #expect(found.receiveQueue == socket.number("acceptQueue"))
      #expect(found.sendQueue == socket.number("backlog"))
    } else {
      #expect(found.receiveQueue == socket.number("receiveQueue") ?? 0)
      #expect(found.sendQueue == socket.number("sendQueue") ?? 0)
    }
    let timer = socket["timer"] as? [String: Any]
    let kinds = [
      "retransmit": "on", "keepalive": "keepalive", "timewait": "timewait", "window probe": "persist",
    ]
    #expect(found.rest.contains("timer:(") == (timer != nil))
    if let kind = timer?["kind"] as? String { #expect(found.rest.contains("timer:(\(kinds[kind] ?? kind),")) }
    // What is left of a connection in TIME_WAIT has no more; what a descriptor adds to it, ss does not know.
    if socket.state == "TIME_WAIT" { return 1 }
    // Memory: skmem:(r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d0)
    // (None of one in FIN_WAIT2 that nobody holds any more.)
    let memory = isProbing ? [:] : socket["memory"] as? [String: Int] ?? [:]
    if !isProbing { #expect(memory.isEmpty != found.rest.contains("skmem:")) }
    for (name, member) in memory.isEmpty
      ? []
      : [
        ("(r", "receiveMemory"), (",t", "sendMemory"), (",f", "forwardMemory"), (",w", "queuedMemory"),
        (",o", "optionMemory"),
        (",bl", "backlogMemory"), (",d", "drops"),
      ]
    {
      let value = try #require(memory[member], "\(member)")
      #expect(found.rest.firstRange(of: "\(name)\(value)") != nil, "\(member) \(value): \(found.rest)")
    }
    let options = socket["options"] as? [String: Any] ?? [:]
    for (name, member) in [(",rb", "receiveBuffer"), (",tb", "sendBuffer")] {
      if let value = options[member] as? Int { #expect(found.rest.contains("\(name)\(value),")) }
    }
    // TCP_INFO, but for what moves by itself.
    let tcp = socket["tcp"] as? [String: Int] ?? [:]
    for (name, member) in [
      ("mss", "mss"), ("cwnd", "congestionWindow"), ("pmtu", "pathMTU"), ("rcvmss", "receiveMSS"),
      ("bytes_sent", "bytesSent"), ("bytes_received", "bytesReceived"), ("segs_out", "segmentsSent"),
      ("segs_in", "segmentsReceived"), ("snd_wnd", "sendWindow"),
    ] {
      if isProbing, name.hasPrefix("segs") || name == "cwnd" { continue }
      // What a socket sends again, at any time, is counted again, and it sends less at a time then.
      let sendsAgain = found.rest.contains(" bytes_retrans:") || found.state == "SYN_SENT"
      if sendsAgain, name.hasPrefix("segs") || name == "bytes_sent" || name == "cwnd" { continue }
      if let value = tcp[member], value > 0, found.rest.contains(" \(name):") {
        #expect(found.rest.contains(" \(name):\(value)"), "\(member) \(value): \(found.rest)")
      }
    }
    if let inode = socket.number("inode"), inode != 0 { #expect(found.rest.contains("ino:\(inode) ")) }
    return 1
  }

  /// json.md holds the schema, and every line keeps to it.
  @Test(.enabled(if: Witness.havePython), arguments: Course.all) func jsonKeepsToItsSchema(lesson: String)
    throws
  {
    let result = try Program.run([Place.product(lesson), "--format", "json"])
    let problem = try Schema.problem(with: result.output)
    #expect(problem == nil)
  }

  /// The transcript in the lesson's text is what the lesson prints, but for ports, inodes and the like. With
  /// SOCKETSTEPS_WRITE_TRANSCRIPTS in the environment it is written anew.
  @Test(.enabled(if: Privilege.isRoot, "the transcripts are root's: with packets"), arguments: Course.all)
  func theTranscriptIsReal(lesson: String) throws {
    let text = try String(contentsOfFile: Course.text(lesson), encoding: .utf8)
    let marker = "<!-- transcript: \(lesson) --no-step -->\n```text\n"
    let start = try #require(text.range(of: marker), "no transcript in the text of \(lesson)")
    let end = try #require(text.range(of: "```", range: start.upperBound..<text.endIndex))
    let transcript = String(text[start.upperBound..<end.lowerBound])
    func run() throws -> String {
      // In a network of its own: the packets of others, when they come fast enough, are a note in the story.
      try Program.run(inItsOwnNetwork([Place.product(lesson), "--no-step"]), environment: ["COLUMNS": "80"])
        .output
    }
    // One of several runs is alike. In a lab with several sockets it may be another one that the kernel lists first in the end; and
    // on a busy machine a call may wait for so long that this is told. That each run has the same order is another test.
    let isTimed = Course.timed.contains(lesson)
    let attempts = isTimed ? 6 : 4
    var difference: CollectionDifference<Substring>?
    for _ in 0..<attempts where difference?.isEmpty != true {
      difference = flowing(try run(), isTimed).difference(from: flowing(transcript, isTimed))
    }
    let isAlike = difference?.isEmpty == true
    // Only what differs is written anew: ports and inodes are no change.
    if !isAlike, getenv("SOCKETSTEPS_WRITE_TRANSCRIPTS") != nil {
      let renewed = text.replacingCharacters(in: start.upperBound..<end.lowerBound, with: try run())
      try renewed.write(toFile: Course.text(lesson), atomically: true, encoding: .utf8)
      return
    }
    #expect(isAlike, "\(String(describing: difference))")
  }

  /// So is the picture in the text of lesson 3, which the README shows: its words, that is.
  @Test(.enabled(if: Privilege.isRoot, "the picture is root's: with packets")) func thePictureIsReal() throws
  {
    try Place.withTemporaryFolder { folder in
      let place = "\(Course.folder("lesson3-listen"))/run.svg"
      let file = "\(folder)/run.svg"
      let command = inItsOwnNetwork([Place.product("lesson3-listen"), "--no-step", "--svg", file])
      #expect(try Program.run(command).status == 0)
      let drawn = try String(contentsOfFile: file, encoding: .utf8)
      if getenv("SOCKETSTEPS_WRITE_TRANSCRIPTS") != nil {
        return try drawn.write(toFile: place, atomically: true, encoding: .utf8)
      }
      func words(_ picture: String) -> [String] {
        // As in `flowing`: without the packets of the end.
        picture.matches(of: />([^<]+)</).map { masked(String($0.output.1).replacing(/\d+ µs/, with: "N µs")) }
          .prefix {
            !$0.contains("The program has ended")
          }.map { $0 }
      }
      #expect(words(drawn) == words(try String(contentsOfFile: place, encoding: .utf8)))
      #expect(words(drawn).contains("LISTEN 1/2"))
    }
  }

  /// Words and numbers without the layout, which moves with the width of a port; and without the packets of the program's
  /// end, where the kernel may acknowledge the client's FIN before it resets the connection, or not.
  private func flowing(_ text: String, _ isTimed: Bool) -> [Substring] {
    // Where time decides, neither the packets that carry bytes or acknowledge them, nor the table at the end.
    let data = /[─◀]─ (PSH ACK|ACK) .*─/
    let table = text.range(of: "\n              fd 3 ")?.lowerBound ?? text.endIndex
    let text = isTimed ? String(text[..<table]) : text
    let told =
      !isTimed
      ? text
      : text.split(separator: "\n", omittingEmptySubsequences: false).filter {
        $0.firstMatch(of: data) == nil
      }.joined(
        separator: "\n")
    let end = told.range(of: "The program has ended")?.lowerBound ?? told.endIndex
    let last = told[end...].split(separator: "\n").filter { !$0.contains("──") }.joined(separator: "\n")
    let words = (told[..<end] + last).split { $0.isWhitespace || "│─▶◀".contains($0) }.joined(separator: " ")
    // Where a line is broken, the length of what stands in it decides; and what a thread costs, and a switch, the kernel.
    let plain = words.replacing(/"\\17\\0[^"]*"[. ]*,/, with: "SIGNAL,")
      .replacing(/\d+ (KiB|ns|times)/) { "N \($0.output.1)" }
    return masked(plain).split(separator: " ")
  }

  @Test(arguments: Course.all, [40, 80, 120]) func nothingIsWiderThanTheTerminal(
    lesson: String, columns: Int
  ) throws {
    let program = try Program(
      [Place.product(lesson), "--no-step", "--color", "never"], onTerminal: true, outputOnTerminal: true,
      columns: UInt16(columns))
    _ = try program.finish()
    let lines = String(decoding: program.terminalBytes, as: UTF8.self).split(whereSeparator: \.isNewline)
    #expect(lines.count > 30)
    for line in lines { #expect(line.count <= columns, "\(line)") }
  }

  @Test(arguments: Course.all) func colorIsOnlyWhereItIsWanted(lesson: String) throws {
    let escape = "\u{1b}"
    #expect(!(try Program.run([Place.product(lesson)]).output.contains(escape)))
    #expect(try Program.run([Place.product(lesson), "--color", "always"]).output.contains(escape))
    let quiet = try Program(
      [Place.product(lesson), "--no-step"], environment: ["NO_COLOR": "1"], onTerminal: true,
      outputOnTerminal: true)
    _ = try quiet.finish()
    #expect(!quiet.terminalBytes.contains(0x1b))
  }

  @Test(arguments: Course.all) func badOptionsAreExplained(lesson: String) throws {
    for (words, expected) in [
      (["--prot", "1"], "did you mean --port?"), (["--port", "70000"], "from 0 to 65535, not '70000'"),
      (["--format", "xml"], "--format is text, json"), (["extra"], "'extra' was not expected"),
      (["--step", "--no-step"], "exclude each other"),
    ] {
      let result = try Program.run([Place.product(lesson)] + words)
      #expect(result.status == 2)
      #expect(result.errors.contains(expected))
      #expect(result.errors.hasPrefix("\(lesson): "))
      #expect(result.errors.filter { $0 == "\n" }.count == 1)
      #expect(result.output == "")
    }
    let help = try Program.run([Place.product(lesson), "--help"])
    #expect(help.status == 0 && help.output.contains("--port N"))
  }

  @Test(arguments: Course.all) func withoutATerminalThereIsNothingToWaitFor(lesson: String) throws {
    let result = try Program.run([Place.product(lesson), "--step"])
    #expect(result.status == 1)
    #expect(result.errors.contains("--no-step"))
  }

  /// A reader that goes away ends the lesson, without a word and without leaving anything behind.
  @Test(arguments: Course.all) func aClosedPipeEndsIt(lesson: String) throws {
    let program = try Program([Place.product(lesson), "--format", "json"])
    _ = try program.line()
    program.closeOutput()
    let result = try program.finish()
    #expect(result.status == 141)
    #expect(result.errors == "")
  }

  @Test(arguments: Course.all) func verboseSaysWhereEachValueIsFrom(lesson: String) throws {
    let output = try Program.run([Place.product(lesson), "--verbose"]).output
    for source in ["getsockopt SO_RCVBUF", "TCP_INFO tcpi_state", "fstat st_ino", "/fdinfo/"] {
      #expect(output.contains(source), "\(source)")
    }
  }
}

@Suite struct PauseTests {
  private let lesson = Place.product("lesson3-listen")

  private func isStopped(_ process: pid_t) -> Bool {
    (text(ofFile: "/proc/\(process)/stat") ?? "").split(separator: ")").last?.hasPrefix(" t") ?? false
  }

  private func child(of process: pid_t) -> pid_t? {
    text(ofFile: "/proc/\(process)/task/\(process)/children")?.split(separator: " ").first.flatMap {
      pid_t($0)
    }
  }

  @Test func theProgramIsFrozen() throws {
    let program = try Program([lesson], onTerminal: true, outputOnTerminal: true)
    let position = try program.waitForTerminal("q: quit")
    let child = try #require(self.child(of: program.process))
    #expect(isStopped(child))
    try program.waitForTerminal("ls -l /proc/\(child)/fd")
    program.press("\n")
    try program.waitForTerminal("q: quit", from: position)
    #expect(isStopped(child))
    program.press("c")
    #expect(try program.finish().status == 0)
    #expect(kill(child, 0) == -1)
  }

  @Test func aQuestionMarkShowsEverything() throws {
    let program = try Program([lesson], onTerminal: true, outputOnTerminal: true)
    let position = try program.waitForTerminal("q: quit")
    program.press("?")
    try program.waitForTerminal("getsockopt SO_SNDBUF", from: position)
    try program.waitForTerminal("q: quit", from: position)
    program.press("q")
    #expect(try program.finish().status == 0)
  }

  /// Ctrl-C at a pause, and at none, ends both; the terminal is as it was.
  @Test func controlCEndsBoth() throws {
    let program = try Program([lesson], onTerminal: true, outputOnTerminal: true)
    try program.waitForTerminal("q: quit")
    let child = try #require(self.child(of: program.process))
    program.press("\u{3}")
    #expect(try program.finish().status == 130)
    #expect(kill(child, 0) == -1)
  }

  @Test(arguments: [SIGTERM, SIGINT, SIGHUP]) func aSignalEndsBoth(signal: Int32) throws {
    let program = try Program([lesson], onTerminal: true, outputOnTerminal: true)
    try program.waitForTerminal("q: quit")
    let child = try #require(self.child(of: program.process))
    program.send(signal)
    #expect(try program.finish().status == 128 + signal)
    #expect(kill(child, 0) == -1)
  }

  /// Whatever happens to the narrator, the program that it started does not live on, nor stay stopped.
  @Test func aKilledNarratorTakesTheProgramWithIt() throws {
    let program = try Program([lesson], onTerminal: true, outputOnTerminal: true)
    try program.waitForTerminal("q: quit")
    let child = try #require(self.child(of: program.process))
    program.send(SIGKILL)
    #expect(try program.finish().status == 137)
    _ = try Clock.poll { kill(child, 0) == -1 || self.isZombie(child) ? true : nil }
  }

  private func isZombie(_ process: pid_t) -> Bool {
    (text(ofFile: "/proc/\(process)/stat") ?? "").split(separator: ")").last?.hasPrefix(" Z") ?? true
  }

  /// The foreign client of the hint: while the program is frozen, the kernel completes its handshake.
  @Test func theKernelAnswersWhileTheProgramStandsStill() throws {
    let program = try Program([lesson, "--format", "json", "--step"], onTerminal: true)
    var position = 0
    var client: Int32 = -1
    defer { if client >= 0 { close(client) } }
    var queue: [Int] = []
    while let text = try program.line() {
      let line = try StoryLine(text)
      guard line.isStep else { continue }
      position = try program.waitForTerminal("q: quit", from: position)
      let listener = line.sockets.first { $0.state == "LISTEN" }
      if let length = listener?.number("acceptQueue") { queue.append(length) }
      if line.call == "listen", client < 0,
        let port = listener?.local?.split(separator: ":").last.flatMap({ UInt16($0) })
      {
        client = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        address.sin_port = port.bigEndian
        let connected = withUnsafePointer(to: &address) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(client, $0, 16) }
        }
        #expect(connected == 0)
      }
      program.press("\n")
    }
    #expect(queue.first == 0)
    // The foreign client, and then the lesson's own.
    #expect(queue.last == 2)
  }
}
