import Foundation
import TestSupport
import Testing

/// What a learner's program may do to the judge, and what the judge does to it.
@Suite(.serialized) struct JudgeTests {
  /// A server that listens on the port that it is given, on descriptor 3.
  private static let server = """
    import CLinux
    import Glibc

    signal(SIGPIPE, SIG_IGN)
    let port = UInt16(CommandLine.arguments[1]) ?? 0
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let isBound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, 16) == 0 }
    }
    guard isBound, listen(listener, 5) == 0 else {
      perror("bind")
      exit(1)
    }

    """

  private static let hello = """
    peer: [ {connect: "a"}, {send: "a", bytes: "hello"}, {receive: "a", bytes: "hello"} ]
    """

  private func judged(_ program: String, _ trial: String) throws -> JudgedLine {
    let check = """
      { title: "A server", lesson: "lesson3-listen", hints: ["one"], trials: [ { name: "a trial", \(trial) } ] }
      """
    return try TemporaryCourse.with(program: Self.server + program, check: check) { try $0.judged() }
  }

  private static func words(_ text: String) -> String {
    text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  /// Each is ended in time, and what it did is told; nothing of it is left.
  @Test(arguments: [
    ("while true {}", "a loop that never ends?"),
    ("while true { print(\"hello hello hello hello\") }", "It has printed more, and was ended."),
    (
      "while true { fputs(String(repeating: \"hello \", count: 10_000), stderr) }",
      "It has printed more, and was ended."
    ),
    (
      "@_silgen_name(\"fork\") func split() -> Int32\nwhile true { _ = split() }",
      "the program starts no more than 8 processes"
    ),
    (
      "var all: [[UInt8]] = []\nwhile true { all.append([UInt8](repeating: 1, count: 1 << 20)) }",
      "the program needs no more than 512 MiB of memory"
    ),
    (
      "while true {\n  var thread = pthread_t()\n  pthread_create(&thread, nil, { _ in\n    pause()\n    return nil\n  }, nil)\n}",
      "the program has no more than 64 threads"
    ),
    ("sleep(1000)", "It waits in clock_nanosleep()."), ("pause()", "It waits in pause()."),
    (
      "_ = readLine()\nvar ends: [Int32] = [0, 0]\npipe(&ends)\nvar byte: UInt8 = 0\nread(ends[0], &byte, 1)",
      "It waits in read("
    ),
    ("_ = [1][Int(port)]", "The program was killed by SIGILL."),
    ("kill(getpid(), SIGSEGV)\npause()", "The program was killed by SIGSEGV."),
    ("abort()", "The program was killed by SIGABRT."),
    ("exit(3)", "The program has ended, with exit status 3."),
    ("close(listener)\npause()", "The program has closed the listening socket."),
    (
      "let c = accept(listener, nil, nil)\nvar b = [UInt8](repeating: 0, count: 9)\nread(c, &b, 9)\nwrite(c, \"hexlo\", 5)\npause()",
      "byte 2: 0x78 instead of 0x6c"
    ),
    ("let c = accept(listener, nil, nil)\nclose(c)\npause()", "Likely missing: read"),
    (
      "signal(SIGPIPE, SIG_DFL)\nlet c = accept(listener, nil, nil)\nshutdown(c, Int32(SHUT_WR))\nwrite(c, \"x\", 1)\npause()",
      "signal(SIGPIPE, SIG_IGN)"
    ),
  ])
  func whatAProgramDoesIsTold(program: String, words: String) throws {
    let begun = Clock.now()
    let judged = try judged(program, Self.hello)
    #expect(!judged.passed)
    #expect(Self.words(judged.text).contains(words), "\(judged.text)")
    #expect(Clock.now() - begun < 60)
  }

  /// Nothing of a fork bomb is left, not even those that nobody has counted.
  @Test func nothingIsLeft() throws {
    let mark = "socketsteps-left-\(getpid())"
    let program = """
      @_silgen_name("fork") func split() -> Int32
      prctl_name("\(mark.prefix(15))")
      while true { _ = split() }

      func prctl_name(_ name: String) { _ = clinux_prctl(15, UInt(bitPattern: strdup(name)), 0, 0, 0) }
      """
    _ = try judged(program, Self.hello)
    func left() throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: "/proc").filter { process in
        let name = try? String(contentsOfFile: "/proc/\(process)/comm", encoding: .utf8)
        return name?.hasPrefix(String(mark.prefix(15))) ?? false
      }
    }
    // Those that nobody had counted are killed by the kernel when the judge ends, and their end takes its time.
    _ = try Clock.poll { try left().isEmpty ? true : nil }
  }

  /// The program finds nothing of the judge's: its first descriptor is 3, its folder is empty, and signals are as they should be.
  @Test func itStartsClean() throws {
    let program = """
      print("first descriptor \\(listener)")
      var path = [CChar](repeating: 0, count: 4096)
      getcwd(&path, path.count)
      let folder = opendir(".")
      var names = 0
      while let folder, let entry = readdir(folder) { if entry.pointee.d_name.0 != 46 { names += 1 } }
      print("entries \\(names)")
      var blocked = sigset_t()
      pthread_sigmask(SIG_BLOCK, nil, &blocked)
      print("blocked \\((1...31).filter { sigismember(&blocked, $0) == 1 })")
      exit(0)
      """
    let judged = try judged(
      program,
      "expect: [ {exit: 0}, {output: \"first descriptor 3\\nentries 0\\nblocked []\\n\", whole: true}, {errors: \"\", whole: true} ]"
    )
    #expect(judged.passed, "\(judged.text)")
  }

  /// What one trial has written the next one finds; and each starts its program anew, on the same port.
  @Test func trialsShareAFolder() throws {
    let check = """
      { title: "t", lesson: "lesson3-listen", hints: ["one"], trials: [
        { name: "writes", arguments: ["PORT", "w"], expect: [ {exit: 0} ] },
        { name: "reads", keepsPort: true, arguments: ["PORT", "r"], expect: [ {exit: 0}, {output: "port PORT"} ] } ] }
      """
    let program = """
      let file = open("note", CommandLine.arguments[2] == "w" ? O_CREAT | O_WRONLY : O_RDONLY, 0o600)
      if CommandLine.arguments[2] == "w" {
        let text = "port \\(port)"
        exit(write(file, text, text.utf8.count) > 0 ? 0 : 1)
      }
      var text = [UInt8](repeating: 0, count: 100)
      let count = read(file, &text, 100)
      print(String(decoding: text.prefix(max(0, count)), as: UTF8.self))
      """
    try TemporaryCourse.with(program: Self.server + program, check: check) { course in
      let judged = try course.judged()
      #expect(judged.passed, "\(judged.text)")
    }
  }

  /// What the compiler says is told as it is.
  @Test func theCompilersWords() throws {
    let judged = try judged("let number: Int = \"text\"", Self.hello)
    #expect(!judged.passed)
    #expect(judged.text.contains("It does not compile. swiftc says:"))
    #expect(judged.text.contains("error: cannot convert value of type 'String' to specified type 'Int'"))
  }

  /// What the judge does to calls is told, and what it means.
  @Test(arguments: [
    (
      "accept:errno=EINTR:when=1",
      "The judge let accept return EINTR, which may happen at any time: a signal came"
    ),
    ("accept:errno=ECONNABORTED:when=1", "that one client has gone before it was accepted"),
    ("write:length=2:when=1", "write was given 5 bytes and took 2"),
    ("read:errno=EINTR:when=1", "The judge let read return EINTR"),
  ])
  func faultsAreHints(fault: String, words: String) throws {
    let program = """
      let c = accept(listener, nil, nil)
      guard c >= 0 else { exit(1) }
      var bytes = [UInt8](repeating: 0, count: 100)
      let count = read(c, &bytes, 100)
      guard count >= 0 else { exit(1) }
      write(c, bytes, count)
      pause()
      """
    let right = try judged(program, Self.hello)
    #expect(right.passed, "\(right.text)")
    let judged = try judged(program, "inject: [\"\(fault)\"], " + Self.hello)
    #expect(!judged.passed)
    #expect(Self.words(judged.text).contains(words), "\(judged.text)")
  }
}
