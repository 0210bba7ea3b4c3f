// Exercises that the kernel judges: workshop [COMMAND [N]]

import CommandLineTool
import Glibc
import Judging
import SystemCalls

let name = "workshop"

/// What can be asked for.
enum Command: String, CaseIterable {
  case list, start, check, watch, hint, predict, solution, reset, doctor

  /// What follows it.
  var operand: String {
    switch self {
    case .list, .doctor: ""
    case .check: " [N|all]"
    default: " [N]"
    }
  }

  var help: String {
    switch self {
    case .list: "all exercises: what is done, what is next"
    case .start: "the task, the file to edit, and the lesson to run first"
    case .check:
      "compiles your file, runs it, and says what the kernel has seen; all: those that are done or begun"
    case .watch: "the same whenever you save the file"
    case .hint: "tells more each time"
    case .predict: "runs your program, and asks before each call what it will do"
    case .solution: "what the solution has that your file has not, once that has passed"
    case .reset: "makes the file what it was at first, and keeps yours beside it"
    case .doctor: "whether exercises can be judged on this system, and if not, what to do"
    }
  }

  /// Options that are its own.
  var options: Set<String> {
    switch self {
    case .check: ["format"]
    case .watch: ["poll"]
    case .solution: ["give-up"]
    case .reset: ["yes"]
    default: []
    }
  }
}

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "You write what is missing in a small program; the workshop compiles it, runs it, plays the other side, and says what the kernel "
    + "has seen. Without a command it shows where you are. N is an exercise's number, its name, or its file; without it the one in "
    + "progress is meant, or the next.",
  options: [
    .init(
      "course", value: "DIR", help: "the exercises in DIR, a course of your own (Lessons of this package)"),
    .init(
      "format", choices: ["text", "json"], help: "check: how to print the verdict; json is one object a line"),
    .init("poll", help: "watch: look at the file again and again; for folders that another machine shares"),
    .init("give-up", help: "solution: show it although the exercise has not passed"),
    .init("yes", short: "y", help: "reset: do not ask"),
    .init("color", choices: ColorMode.allCases.map(\.rawValue), help: "when to colour (auto: at a terminal)"),
  ],
  operands: "[COMMAND [N]]", mixesOperands: true)

func help(width: Int) -> String {
  let rows = Command.allCases.map { (words: "  \($0.rawValue)\($0.operand)", help: $0.help) }
  let column = width < 60 ? 6 : (rows.map(\.words.count).max() ?? 0) + 2
  var text = syntax.help(width: width) + "\n"
  for row in rows {
    let lines = row.help.wrapped(to: max(20, width - column))
    let isBeside = row.words.count + 2 <= column
    text += row.words.padded(to: column) + (isBeside ? lines.first ?? "" : "") + "\n"
    for line in lines.dropFirst(isBeside ? 1 : 0) {
      text += String(repeating: " ", count: column) + line + "\n"
    }
  }
  return text
}

/// The command that a word means; nil for none.
func command(_ arguments: Arguments) throws(Complaint) -> Command? {
  guard let word = arguments.operands.first else { return nil }
  guard let command = Command(rawValue: word) else {
    let near = Command.allCases.map(\.rawValue).min { $0.distance(to: word) < $1.distance(to: word) } ?? ""
    let hint = near.distance(to: word) <= 2 ? "; did you mean \(near)?" : ""
    throw .usage("there is no command '\(word.printable.truncated(to: 40))'\(hint)")
  }
  let allowed = command.operand.isEmpty ? 1 : 2
  if arguments.operands.count > allowed {
    throw .usage("'\(arguments.operands[allowed].printable)' was not expected after \(command.rawValue)")
  }
  return command
}

func run() throws(Complaint) -> Int32 {
  var words = try commandLineWords()
  Doctor.becomePatient(words)
  Judge.becomeProgram(words)
  let isForParent = words.contains(Job.word)
  words.removeAll { $0 == Job.word }

  let closed = reserveStandardStreams()
  let arguments = try syntax.parse(words)
  if arguments.has("help") || arguments.operands == ["help"] {
    print(help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return ExitStatus.success
  }
  let command = try command(arguments)
  for other in Command.allCases where other != command {
    if let option = other.options.first(where: arguments.has) {
      throw .usage("--\(option) is for '\(other.rawValue)'")
    }
  }
  if closed.contains(STDOUT_FILENO) {
    throw Complaint("standard output is closed, and the answer goes there")
  }
  signal(SIGPIPE, SIG_IGN)
  // A learner's program that crashes is to end at once, without pages about it.
  setenv("SWIFT_BACKTRACE", "enable=no", 1)

  let word = arguments.operands.dropFirst().first
  if command == .doctor {
    let output = Output(descriptor: STDOUT_FILENO)
    let terminal = Terminal(descriptor: STDOUT_FILENO)
    let color = terminal.wantsColor(arguments["color"].flatMap(ColorMode.init) ?? .auto)
    let status = Doctor(place: try Place(course: arguments["course"])).run(
      output, Page(width: terminal.width, color: color))
    return try close(output, status)
  }
  let workshop = try Workshop(arguments)
  if isForParent {
    let status = try workshop.checkForParent(try workshop.exercise(word))
    return try close(workshop.output, status)
  }
  workshop.open()
  return try close(workshop.output, try perform(command, word, workshop))
}

func perform(_ command: Command?, _ word: String?, _ workshop: Workshop) throws(Complaint) -> Int32 {
  switch command {
  case nil: workshop.output.write(workshop.overview)
  case .list: workshop.output.write(workshop.list())
  case .start: try workshop.start(try workshop.exercise(word))
  case .check where word == "all": return try workshop.checkAll()
  case .check: return try workshop.check(try workshop.exercise(word))
  case .watch: return try workshop.watch(try workshop.exercise(word))
  case .hint: workshop.output.write(try workshop.hintText(try workshop.exercise(word)))
  case .predict: return try workshop.predict(try workshop.latestExercise(word))
  case .solution:
    try workshop.showSolution(
      try workshop.latestExercise(word), givesUp: workshop.options.has("give-up"))
  case .reset: return try workshop.reset(try workshop.exercise(word), asks: !workshop.options.has("yes"))
  case .doctor: break
  }
  return ExitStatus.success
}

/// Hands what was written to the kernel.
func close(_ output: Output, _ status: Int32) throws(Complaint) -> Int32 {
  output.flush()
  guard let failure = output.failure else { return status }
  if failure.rawValue == EPIPE { return ExitStatus.outputClosed }
  throw Complaint("standard output: \(failure)")
}

do throws(Complaint) { exit(try run()) } catch { exit(command: name, complaint: error) }
