import CLinux
import CommandLineTool
import Glibc
import Story
import SystemCalls
import Tracing

/// What a lesson was told on its command line.
public struct Lesson: Sendable {
  /// The port to bind: 0, the kernel's choice, unless `--port` was given. A client's is the one to dial.
  public let port: UInt16
  /// The program to start, for a server whose client is not started by somebody else.
  let client: String?
  /// The server that has started this client; nil where somebody else has.
  public let server: pid_t?

  /// Whether whoever dials this server is started by somebody else.
  public var isAlone: Bool { client == nil }

  /// Whether this is the program that the lesson has started beside itself, with `startCopy`.
  public let isCopy: Bool
}

/// What a lesson's program is.
public enum Role: Sendable {
  /// Both ends of its connections.
  case whole
  /// The same, of a lab: it asks something, breaks something on purpose, and cures it. With `ownNetwork` it runs in a network
  /// namespace of its own wherever that is allowed, so that the kernel's counters count nothing but the lab.
  case lab(asks: String, choices: [String], ownNetwork: Bool = false)
  /// A server, which starts its client unless `--alone`.
  case server(client: String)
  /// A client, which needs the port of its server.
  case client(server: String)
}

/// A lesson's first line.
///
/// The lesson starts itself again, as a program to be followed, and this process becomes the narrator: it stops the other at
/// each socket call, asks the kernel, and tells. In the followed program, and with `--bare`, `begin` returns, and the lesson's
/// own code runs; its first descriptor is 3.
@discardableResult
public func begin(_ role: Role = .whole) -> Lesson {
  let name = CommandLine.arguments.first?.split(separator: "/").last.map(String.init) ?? "lesson"
  do throws(Complaint) {
    if let rest = Launcher.becomeTraced(Array(CommandLine.arguments.dropFirst())) {
      isNarrated = true
      return try lesson(role, try syntax(name, role).parse(rest))
    }
    // What a shell or an editor has left open is no lesson's affair: the first descriptor is to be 3.
    clinux_close_range(3, .max)
    let closed = reserveStandardStreams()
    let words = Array(CommandLine.arguments.dropFirst())
    let arguments = try syntax(name, role).parse(words)
    if arguments.has("help") {
      print(syntax(name, role).help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
      exit(ExitStatus.success)
    }
    let lesson = try lesson(role, arguments)
    if arguments.has("bare") { return try bare(lesson, words, arguments) }
    if closed.contains(STDOUT_FILENO) {
      throw Complaint("standard output is closed, and the story goes there")
    }
    exit(try narrate(name, role, lesson, words, arguments))
  } catch {
    exit(command: name, complaint: error)
  }
}

/// How a client is told which server has started it.
let startedBy = "SOCKETSTEPS_SERVER"

private func syntax(_ name: String, _ role: Role) -> CommandLineSyntax {
  var own: [CommandLineSyntax.Option] = []
  switch role {
  case .whole, .lab: own = [.init("port", value: "N", help: "the port to bind (0, the kernel's choice)")]
  case .server(let client):
    own = [
      .init("port", value: "N", help: "the port to bind (0, the kernel's choice)"),
      .init("alone", help: "do not start \(client): somebody else will dial"),
    ]
  case .client(let server):
    own = [.init("port", value: "N", help: "the port that \(server) listens on")]
  }
  var kind = "A lesson on the life of a TCP socket."
  if case .lab = role { kind = "A lab: it breaks something on purpose, lets you see it, and cures it." }
  return CommandLineSyntax(
    command: name,
    purpose:
      "\(kind) It makes raw system calls; what is printed beside each is what the "
      + "kernel said of it in this run. Lessons/README.md is the course.",
    options: [
      .init("bare", help: "no narrator: the lesson's calls and words alone, for strace"),
      .init("step", help: "wait for a key after each step (the default at a terminal)"),
      .init("no-step", help: "do not wait"),
      .init("predict", help: "guess what each call will do, before it runs; a score at the end"),
    ] + own + Telling.options)
}

private func lesson(_ role: Role, _ arguments: Arguments) throws(Complaint) -> Lesson {
  // Whatever else an environment has handed down, the parent is known.
  let starter = getenv(startedBy).flatMap { pid_t(String(cString: $0)) }
  let parent = starter == getppid() ? starter : nil
  switch role {
  case .whole, .lab:
    return Lesson(port: try port(arguments, from: 0), client: nil, server: nil, isCopy: parent != nil)
  case .server(let client):
    if arguments.has("alone"), arguments.has("isolated") {
      throw .usage(
        "--isolated has a network of its own, in which nobody else could dial; without --alone both are in it"
      )
    }
    return Lesson(
      port: try port(arguments, from: 0), client: arguments.has("alone") ? nil : client, server: nil,
      isCopy: false)
  case .client(let server):
    guard arguments.has("port") else {
      throw .usage(
        "a client needs a server to dial: 'swift run \(server)' runs both, and 'swift run \(server) --alone', in another "
          + "terminal, names the port for --port")
    }
    if arguments.has("isolated") {
      throw .usage(
        "--isolated has a network of its own, in which no server listens; 'swift run \(server) --isolated' runs both in one"
      )
    }
    return Lesson(port: try port(arguments, from: 1), client: nil, server: parent, isCopy: false)
  }
}

private func port(_ arguments: Arguments, from least: Int) throws(Complaint) -> UInt16 {
  UInt16(clamping: try arguments.number("port", in: least...65535) ?? 0)
}

/// The lesson's own code in this very process.
private func bare(_ lesson: Lesson, _ words: [String], _ arguments: Arguments) throws(Complaint) -> Lesson {
  for option in ["predict", "step", "pcap", "svg"] where arguments.has(option) {
    throw .usage("--\(option) needs the narrator, and --bare leaves it out")
  }
  guard arguments.has("isolated") else { return lesson }
  _ = try Telling.isolate(arguments, port: lesson.port)
  // An ordinary user has all capabilities in the new namespaces until the next exec.
  let path = destination(ofLink: "/proc/self/exe") ?? "/proc/self/exe"
  let failure = Launcher.execute(
    [path] + words.filter { $0 != "--isolated" }, named: CommandLine.arguments.first)
  throw Complaint("cannot start itself again: \(failure)")
}

private func narrate(
  _ name: String, _ role: Role, _ lesson: Lesson, _ words: [String], _ arguments: Arguments
) throws(Complaint) -> Int32 {
  signal(SIGPIPE, SIG_IGN)  // a closed pipe is an error of write, and ends the lesson in order
  if arguments.has("step"), arguments.has("no-step") {
    throw .usage("--step and --no-step exclude each other")
  }
  var telling = try Telling(arguments, to: STDOUT_FILENO)
  telling.text.showsDescriptors = true
  telling.text.showsListing = name.hasSuffix("bind")
  telling.text.showsWindows = name.hasSuffix("write")
  let teller = telling.teller(output: Output(descriptor: STDOUT_FILENO))
  var options = Narrator.Options()
  let isAtTerminal = [STDIN_FILENO, STDOUT_FILENO].allSatisfy { Terminal(descriptor: $0).isTerminal }
  options.predicts = arguments.has("predict")
  options.needsPackets = telling.needsPackets
  options.namespaces = try Telling.isolate(arguments, port: lesson.port)
  if case .lab(let question, let choices, let ownNetwork) = role {
    options.experiment = Experiment(question: question, choices: choices)
    if ownNetwork, !arguments.has("isolated") {
      (options.namespaces, options.note) = Telling.isolateIfPossible(port: lesson.port)
    }
  }
  options.invitesClients = name.hasSuffix("listen")
  options.pauses = arguments.has("step") || isAtTerminal && !arguments.has("no-step")
  let status = try Narrator(subject: .lesson, options: options, teller: teller).run(
    name: name, arguments: words)
  for (path, reason) in teller.failures {
    printToStandardError("\(name): \(path) is not whole, it could not be written: \(reason)\n")
  }
  return min(status, 1) == status || status == ExitStatus.interrupted || status == ExitStatus.outputClosed
    ? status : lessonStatus(status)
}

/// A lesson has two ways to end by itself: it showed what it teaches, or not.
private func lessonStatus(_ status: Int32) -> Int32 {
  [128 + SIGTERM, 128 + SIGHUP].contains(status) ? status : ExitStatus.failure
}
