// Tells any program's socket story: follow -- COMMAND [ARGS…]

import CommandLineTool
import Glibc
import Story
import SystemCalls
import Tracing

let name = "follow"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "Starts a program, or attaches to one, and tells the story of its sockets: each call as strace prints it, and what the "
    + "kernel says changed. The program's own input and output are left alone; the story goes to standard error, or to a file. "
    + "Ctrl-C reaches a program that was started, and a second one ends it; one that was attached to is let go, and runs on.",
  options: [
    .init("pid", short: "p", value: "N", help: "attach to process N, with all its threads"),
    .init(
      "inject", value: "SPEC",
      help:
        "do something to calls: CALL:errno=NAME or CALL:length=BYTES, then :when=N (the Nth only) or :every=N. No byte is "
        + "lost. May be given more than once"),
    .init("output", short: "o", value: "FILE", help: "write the story to FILE"),
    .init("only", value: "CALLS", help: "tell these calls only: listen,accept,…"),
    .init("summary", help: "no story; at the end a table of calls, errors, bytes and time"),
    .init("step", help: "wait for a key after each step, at the terminal itself"),
    .init("no-step", help: "do not wait (the default)"),
  ] + Telling.options,
  operands: "-- COMMAND [ARGS…]  |  --pid N")

func calls(_ list: String) throws(Complaint) -> Set<SystemCall> {
  var calls: Set<SystemCall> = []
  for word in list.split(separator: ",") {
    guard let call = SystemCall(rawValue: String(word)) else {
      let near = SystemCall.allCases.map(\.rawValue).min { word.distance(to: $0) < word.distance(to: $1) }
      throw .usage("--only: '\(word)' is no call that concerns sockets; did you mean \(near ?? "")?")
    }
    calls.insert(call)
  }
  if calls.isEmpty { throw .usage("--only needs the names of calls: listen,accept,…") }
  return calls
}

func faults(_ specifications: [String]) throws(Complaint) -> [Fault] {
  var faults: [Fault] = []
  for specification in specifications {
    do throws(Fault.Mistake) { faults.append(try Fault(specification)) } catch {
      let hint = error.unknown.flatMap { unknown in
        unknown.word.count > 40
          ? nil
          : unknown.known.filter { $0.distance(to: unknown.word) <= 2 }.min {
            $0.distance(to: unknown.word) < $1.distance(to: unknown.word)
          }
      }
      throw .usage("--inject \(specification): \(error)" + (hint.map { "; did you mean \($0)?" } ?? ""))
    }
  }
  return faults
}

/// Whom to follow: a command to start, or a process that runs.
func subject(_ arguments: Arguments) throws(Complaint) -> Narrator.Subject {
  guard let process = try arguments.number("pid", in: 1...Int(Int32.max)) else {
    if arguments.operands.isEmpty {
      throw .usage("what is to be followed? follow -- COMMAND [ARGS…], or follow --pid N")
    }
    return .program(arguments.operands)
  }
  if !arguments.operands.isEmpty { throw .usage("--pid follows a process that runs; leave the command out") }
  if arguments.has("isolated") {
    throw .usage("--isolated is for a program that is started; leave it or --pid out")
  }
  return .running(pid_t(clamping: process))
}

func run() throws(Complaint) -> Int32 {
  let words = Array(CommandLine.arguments.dropFirst())
  if let command = Launcher.becomeTraced(words) {
    let failure = Launcher.execute(command)
    let hint = failure.rawValue == ENOENT ? "; is it in PATH, or does it need ./ ?" : ""
    throw Complaint(
      "\(command.first ?? "") was not started: \(failure)\(hint)",
      status: failure.rawValue == ENOENT ? 127 : 126)
  }
  let closed = reserveStandardStreams()
  let arguments = try syntax.parse(words)
  if arguments.has("help") {
    print(syntax.help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return ExitStatus.success
  }
  if arguments.has("step"), arguments.has("no-step") {
    throw .usage("--step and --no-step exclude each other")
  }
  let subject = try subject(arguments)
  let faults = try faults(arguments.all("inject"))

  signal(SIGPIPE, SIG_IGN)  // a story that nobody reads is no reason to end the program
  let only = try arguments["only"].map { list throws(Complaint) in try calls(list) }
  if arguments["output"] == nil, closed.contains(STDERR_FILENO) {
    throw Complaint("standard error is closed, and the story would go there; give it a file with -o")
  }
  let file = try arguments["output"].map { path throws(Complaint) in try Telling.file(path, "the story") }
  let output = file ?? Output(descriptor: STDERR_FILENO)
  var telling = try Telling(arguments, to: output.descriptor)
  telling.text.collapsesRepetitions = !arguments.has("step")
  telling.text.isFiltered = only != nil
  if arguments.has("summary") {
    if arguments.has("step") { throw .usage("--summary tells nothing to wait after; leave --step out") }
    for option in ["pcap", "svg"] where arguments.has(option) {
      throw .usage("--summary tells no story; leave --\(option) out")
    }
    _ = try Telling.isolate(arguments)
    let summary = Summary(
      subject: subject, only: only, faults: faults, output: output, isJSON: telling.isJSON)
    return complain(of: output, after: try summary.run(name: name))
  }
  var options = Narrator.Options()
  options.pauses = arguments.has("step")
  options.only = only
  options.faults = faults
  options.needsPackets = telling.needsPackets
  options.namespaces = try Telling.isolate(arguments)
  let teller = telling.teller(output: output)
  let narrator = Narrator(subject: subject, options: options, teller: teller)
  let status = try narrator.run(name: name, arguments: arguments.operands)
  for (path, reason) in teller.failures {
    printToStandardError("\(name): \(path) is not whole, it could not be written: \(reason)\n")
  }
  return complain(of: output, after: status)
}

/// Says that a story could not be written to its end. The status stays the program's.
func complain(of output: Output, after status: Int32) -> Int32 {
  if let failure = output.failure, failure.rawValue != EPIPE {
    printToStandardError("\(name): the story broke off, it could not be written: \(failure)\n")
  }
  return status
}

do throws(Complaint) {
  exit(try run())
} catch {
  exit(command: name, complaint: error)
}
