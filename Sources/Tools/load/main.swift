// Puts a server under load, and says how it fared: load echo HOST:PORT, load websocket HOST:PORT, load contacts HOST:PORT

import CLinux
import CommandLineTool
import Glibc
import LoadGeneration
import Sockets
import SystemCalls
import WebSockets

let name = "load"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "'load echo' sends messages to an echo server, looks at every byte that comes back, and counts. A closed loop sends the next "
    + "message when one has come back; with --rate messages are due at fixed times, and late ones count from then. 'load websocket' "
    + "does the same with WebSocket messages, to the server's /ws. 'load contacts' "
    + "sends Updates to a contact server until a ListAll on each connection has shown the last of them. The server runs already, "
    + "or is started: with --server on one processor, while this runs on another.",
  options: [
    .init("connections", value: "N", help: "connections at once (echo, websocket: 64; contacts: 50)"),
    .init("size", value: "BYTES", help: "echo, websocket: bytes a message (64)"),
    .init(
      "pipelining", value: "N",
      help:
        "messages on their way at once on each connection (echo, websocket: 1; contacts: as many as it takes)"
    ),
    .init("keys", value: "N", help: "contacts: so many different ones (1000)"),
    .init("name-size", value: "BYTES", help: "contacts: bytes of each name (20)"),
    .init("duration", value: "S", help: "seconds to count (2); a warm-up comes before"),
    .init("rate", value: "N", help: "messages a second over all connections, at fixed times"),
    .init("server", value: "COMMAND", help: "start this server; it prints 'listening on HOST:PORT' first"),
    .init("versus", value: "COMMAND", help: "and this one, in turn with the other; prints the ratio"),
    .init("runs", value: "N", help: "runs of each (1; 5 with --versus); medians are printed"),
    .init("same-core", help: "server and generator share one processor"),
    .init("format", choices: ["text", "json"], help: "how to print it"),
  ],
  operands: "echo|websocket|contacts [HOST:PORT]", mixesOperands: true)

struct Measurement {
  let result: LoadResult

  /// Processor time of the server a message, in microseconds; nil where it was not started here.
  var cost: Double? {
    guard let time = result.serverTime, result.messages > 0 else { return nil }
    return Double(time) / 1000 / Double(result.messages)
  }
}

func run() throws -> Int32 {
  let arguments = try syntax.parse(Array(CommandLine.arguments.dropFirst()))
  if arguments.has("help") {
    print(syntax.help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return ExitStatus.success
  }
  guard let what = arguments.operands.first, ["echo", "websocket", "contacts"].contains(what),
    arguments.operands.count <= 2
  else {
    throw Complaint.usage(
      "what is to be done? load echo HOST:PORT, load websocket HOST:PORT, load contacts HOST:PORT, or one of them with --server COMMAND"
    )
  }
  var plan = LoadPlan()
  plan.connections = try arguments.number("connections", in: 1...100_000) ?? plan.connections
  plan.size = try arguments.number("size", in: 1...1 << 26) ?? plan.size
  plan.pipelining = try arguments.number("pipelining", in: 1...100_000) ?? plan.pipelining
  plan.duration = Double(try arguments.number("duration", in: 1...86_400) ?? 2)
  plan.rate = try arguments.number("rate", in: 1...100_000_000).map(Double.init)
  if reserveStandardStreams().contains(STDOUT_FILENO) {
    throw Complaint("standard output is closed, and the figures go there")
  }
  let most = raiseDescriptorLimit()
  // Besides, some are needed for the loop, and for the server's output.
  if plan.connections > most - 20 {
    throw Complaint(
      "\(plan.connections) connections need as many descriptors, and the hard limit is \(most) (ulimit -Hn)")
  }
  signal(SIGPIPE, SIG_IGN)
  // From here on a signal ends what was started, too.
  let interruption = try Interruption()

  var commands: [String?]
  var address: SocketAddress?
  if let place = arguments.operands.dropFirst().first {
    if arguments.has("server") || arguments.has("versus") {
      throw Complaint.usage("either a server that runs, HOST:PORT, or --server and --versus")
    }
    do throws(AddressMistake) { address = try SocketAddress(place) } catch {
      throw Complaint.usage("\(error)")
    }
    commands = [nil]
  } else {
    guard let server = arguments["server"] else {
      throw Complaint.usage("which server? HOST:PORT, or --server COMMAND")
    }
    commands = [server]
    if let other = arguments["versus"] { commands.append(other) }
  }
  let places = processors(isShared: arguments.has("same-core"))
  if address == nil { _ = clinux_pin(0, places.generator) }
  if what == "contacts" {
    let target = address.map { Target.running($0) } ?? .command(arguments["server"] ?? "", places)
    return try ContactsCommand.run(arguments, target, interruption)
  }
  for option in ["keys", "name-size"] where arguments.has(option) {
    throw Complaint.usage("--\(option) belongs to 'load contacts'")
  }
  let runs = try arguments.number("runs", in: 1...1000) ?? (commands.count > 1 ? 5 : 1)

  var measurements: [[Measurement]] = commands.map { _ in [] }
  let isAtTerminal = Terminal(descriptor: STDERR_FILENO).isTerminal
  for run in 0..<runs {
    // The other one first, each second time: whoever comes later may find the machine warmer.
    for place in run % 2 == 0 ? Array(commands.indices) : commands.indices.reversed() {
      let command = commands[place]
      func progress(_ so: LoadResult) {
        guard isAtTerminal else { return }
        printToStandardError("\r\(run + 1)/\(runs) \(command ?? "") \(Int(so.perSecond)) a second \u{1b}[K\r")
      }
      let result: LoadResult
      do { result = try measure(command, progress) } catch {
        if let signal = interruption.signal() { return 128 + signal }
        throw error
      }
      if let signal = result.interruption { return 128 + signal }
      measurements[place].append(Measurement(result: result))
    }
  }
  if isAtTerminal { printToStandardError("\r\u{1b}[K") }
  let rows = zip(commands, measurements).map { Row(name: $0 ?? "\(address.map { "\($0)" } ?? "")", $1) }
  let output = Output(descriptor: STDOUT_FILENO)
  let comparison = measurements.count == 2 ? Comparison(measurements[0], measurements[1]) : nil
  if arguments["format"] == "json" {
    for row in rows { output.write(row.json.line + "\n") }
    if let comparison { output.write(comparison.json.line + "\n") }
  } else {
    output.write(Row.table(rows, plan))
    if let comparison { output.write(comparison.text) }
  }
  output.flush()
  return rows.allSatisfy(\.isClean) ? ExitStatus.success : ExitStatus.failure

  func enveloped(_ address: SocketAddress) throws -> LoadPlan {
    var plan = plan
    if what == "websocket" {
      plan.envelope = try webSocketEnvelope(plan.size, address, interruption: interruption.descriptor)
    }
    return plan
  }

  func measure(_ command: String?, _ progress: @escaping (LoadResult) -> Void) throws -> LoadResult {
    guard let command else {
      guard let address else { throw Complaint.usage("which server?") }
      return try EchoLoad(
        enveloped(address), to: address, interruption: interruption.descriptor, progress: progress
      ).run()
    }
    let server = try ServerUnderLoad(command, on: places.server, interruption: interruption.descriptor)
    let (place, meter) = (server.address, server.meter)
    let result = Result {
      try EchoLoad(
        enveloped(place), to: place, meter: meter, interruption: interruption.descriptor, progress: progress
      ).run()
    }
    server.end()
    return try result.get()
  }
}

/// Where the server runs and where the generator does, a bit each: on the first two processors that this process may use, or both
/// on the first.
func processors(isShared: Bool) -> (server: UInt, generator: UInt) {
  let allowed = clinux_processors(0)
  let first = allowed & (~allowed &+ 1)
  let rest = allowed & ~first
  let second = rest & (~rest &+ 1)
  return (first, isShared || second == 0 ? first : second)
}

do {
  exit(try run())
} catch let complaint as Complaint {
  exit(command: name, complaint: complaint)
} catch {
  exit(command: name, complaint: Complaint("\(error)"))
}
