// Puts Foundation's wrappers beside raw calls: compare [WRAPPER…]

import CLinux
import CommandLineTool
import Glibc
import SystemCalls
import Tracing

let name = "compare"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "Does the same job by raw Glibc calls and by each of Foundation's and Dispatch's wrappers, and puts side by side what the kernel "
    + "was asked, what it was left with, and what it cost. Each is a small program, followed call by call, and then timed while "
    + "nobody follows it. The wrappers: \(Wrapper.all.filter { !$0.isRaw }.map(\.name).joined(separator: ", ")); all, unless some "
    + "are named. All together end with what Linux does not have, or not as documented: that is tried then.",
  options: [
    .init("job", choices: Job.allCases.map(\.rawValue), help: "one job only (all that a program can do)"),
    .init("runs", value: "N", help: "how often each is timed (3)"),
    .init("sources", help: "print the programs' sources side by side, and end"),
    .init("format", choices: ["text", "json"], help: "how to print it; json is one object a line"),
    .init("color", choices: ColorMode.allCases.map(\.rawValue), help: "when to colour (auto: at a terminal)"),
  ],
  operands: "[WRAPPER…]", mixesOperands: true)

func wrappers(_ words: [String]) throws(Complaint) -> [Wrapper] {
  if words.isEmpty { return Wrapper.all }
  let chosen = try words.map { word throws(Complaint) in
    if let wrapper = Wrapper.all.first(where: { $0.name.lowercased() == word.lowercased() }) {
      return wrapper
    }
    let names = Wrapper.all.filter { !$0.isRaw }.map(\.name)
    let near = names.filter { $0.lowercased().distance(to: word.lowercased()) <= 3 }.min {
      $0.lowercased().distance(to: word.lowercased()) < $1.lowercased().distance(to: word.lowercased())
    }
    throw .usage(
      "there is no wrapper '\(word)'; \(near.map { "did you mean \($0)?" } ?? "there are \(names.joined(separator: ", "))")"
    )
  }
  if chosen.allSatisfy(\.isRaw) {
    throw .usage(
      "\(chosen.map(\.name).joined(separator: ", ")) is what the others are compared with; name one of those")
  }
  return chosen
}

func sources(_ wrappers: [Wrapper], _ place: Place, _ page: Page, _ output: Output) throws(Complaint) {
  for wrapper in wrappers where !wrapper.isRaw {
    guard let own = place.source(wrapper.name), let raw = place.source(wrapper.raw.name) else {
      throw Complaint(
        "the source of \(wrapper.name) is not found; it is looked for in Sources/Wrappers of the package that this program was built in"
      )
    }
    output.write(page.sources(own, raw, wrapper))
  }
  output.flush()
}

func run() throws -> Int32 {
  let words = Array(CommandLine.arguments.dropFirst())
  if let command = Launcher.becomeTraced(words) {
    let failure = Launcher.execute(command)
    throw Complaint("\(command.first ?? "") was not started: \(failure); 'swift build' makes it", status: 127)
  }
  // What a shell or an editor has left open is no affair of the programs: their first descriptor is to be 3.
  clinux_close_range(3, .max)
  let closed = reserveStandardStreams()
  // The programs are to find all three open: one of them is the number of their listening socket else.
  for number in closed { _ = fcntl(number, F_SETFD, 0) }
  let arguments = try syntax.parse(words)
  let terminal = Terminal(descriptor: STDOUT_FILENO)
  if arguments.has("help") {
    print(syntax.help(width: terminal.width), terminator: "")
    return ExitStatus.success
  }
  if closed.contains(STDOUT_FILENO) {
    throw Complaint("standard output is closed, and the comparison goes there")
  }
  signal(SIGPIPE, SIG_IGN)
  let chosen = try wrappers(arguments.operands)
  let place = Place(executable: destination(ofLink: "/proc/self/exe") ?? "")
  let page = Page(
    width: terminal.width, color: terminal.wantsColor(arguments["color"].flatMap(ColorMode.init) ?? .auto))
  let output = Output(descriptor: STDOUT_FILENO)
  if arguments.has("sources") {
    try sources(chosen, place, page, output)
    return ExitStatus.success
  }
  let job = arguments["job"].flatMap(Job.init)
  if let job, !arguments.operands.isEmpty, let other = chosen.first(where: { !$0.jobs.contains(job) }) {
    let jobs = other.jobs.map(\.rawValue).joined(separator: ", ")
    throw Complaint.usage("\(other.name) does not do the job \(job.rawValue), but \(jobs)")
  }
  let runs = try arguments.number("runs", in: 1...100) ?? 3
  // A program that dies of a fault is to die at once, without writing pages about it.
  setenv("SWIFT_BACKTRACE", "enable=no", 1)
  return try Comparison(
    wrappers: chosen, jobs: job.map { [$0] } ?? Job.allCases, runs: runs,
    triesAttempts: arguments.operands.isEmpty && job == nil, place: place, page: page,
    isJSON: arguments["format"] == "json", output: output
  ).run()
}

do {
  exit(try run())
} catch let interrupted as Interrupted {
  exit(128 + interrupted.signal)
} catch let complaint as Complaint {
  exit(command: name, complaint: complaint)
} catch {
  exit(command: name, complaint: Complaint("\(error)"))
}
