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
    "Starts a program and tells the story of its sockets: each call as strace prints it, and what the kernel says "
    + "changed. The program's own input and output are left alone; the story goes to standard error, or to a file. "
    + "Ctrl-C reaches the program; a second one ends it.",
  options: [
    .init("output", short: "o", value: "FILE", help: "write the story to FILE"),
    .init("only", value: "CALLS", help: "tell these calls only: listen,accept,…"),
    .init("summary", help: "no story; at the end a table of calls, errors, bytes and time"),
    .init("step", help: "wait for a key after each step, at the terminal itself"),
    .init("no-step", help: "do not wait (the default)"),
  ] + Telling.options,
  operands: "-- COMMAND [ARGS…]")

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

func output(_ path: String?) throws(Complaint) -> Output {
  guard let path else { return Output(descriptor: STDERR_FILENO) }
  do throws(SystemCallError) {
    return Output(descriptor: try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC).release())
  } catch {
    throw Complaint("cannot write the story to \(path): \(error.errno)")
  }
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
  guard !arguments.operands.isEmpty else { throw .usage("what is to be followed? follow -- COMMAND [ARGS…]") }

  signal(SIGPIPE, SIG_IGN)  // a story that nobody reads is no reason to end the program
  let only = try arguments["only"].map { list throws(Complaint) in try calls(list) }
  if arguments["output"] == nil, closed.contains(STDERR_FILENO) {
    throw Complaint("standard error is closed, and the story would go there; give it a file with -o")
  }
  let output = try output(arguments["output"])
  var telling = Telling(arguments, to: output.descriptor)
  telling.text.collapsesRepetitions = !arguments.has("step")
  telling.text.isFiltered = only != nil
  if arguments.has("summary") {
    if arguments.has("step") { throw .usage("--summary tells nothing to wait after; leave --step out") }
    let summary = Summary(command: arguments.operands, only: only, output: output, isJSON: telling.isJSON)
    return complain(of: output, after: try summary.run(name: name))
  }
  var options = Narrator.Options()
  options.pauses = arguments.has("step")
  options.only = only
  let teller = telling.teller(output: output)
  let narrator = Narrator(subject: .program(arguments.operands), options: options, teller: teller)
  return complain(of: output, after: try narrator.run(name: name, arguments: arguments.operands))
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
