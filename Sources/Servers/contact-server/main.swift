// Keeps contacts for its clients, and shares them with other servers: the product of lessons 13 to 15.

import CommandLineTool
import Contacts
import Glibc
import Sockets
import SystemCalls

let name = "contact-server"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "Stores contacts for clients, keeps them in a journal that survives a crash, and replicates them with other servers. It prints "
    + "where it listens; events go to standard error, and figures on SIGUSR1. SIGTERM and SIGINT let it finish what it was asked "
    + "for; a second one ends it at once. The protocol has neither authentication nor encryption: leave it on 127.0.0.1, or in a "
    + "network that you trust.",
  options: [
    .init("name", value: "NAME", help: "what it is called in the logs of others; needed"),
    .init("host", value: "H", help: "the IP address to listen on (127.0.0.1); 0.0.0.0 or :: for all"),
    .init("port", value: "N", help: "the port; 0 lets the kernel choose (0)"),
    .init("peer", value: "HOST:PORT", help: "another server, to be dialled; may be given more than once"),
    .init(
      "journal", value: "FILE",
      help: "keep the contacts in FILE ($XDG_STATE_HOME/socketsteps/NAME.journal unless given)"),
    .init("in-memory", help: "keep no journal: the contacts end with the server"),
    .init(
      "allow-server", value: "ADDRESS",
      help: "an IP address that may speak as a server; may be given more than once (all may)"),
    .init(
      "heartbeat", value: "SECONDS", help: "between two HeartBeats; a link silent for three is closed (5)"),
    .init(
      "max-connections", value: "N",
      help: "further ones wait in the accept queue (as many as descriptors allow)"),
    .init("salvage", help: "start with what is intact of a damaged journal, and keep that one aside"),
    .init(
      "accept-loss", help: "after a salvage, take clients' Updates before another server has answered"),
    .init("log", choices: ["text", "json"], help: "how events are written"),
  ])

func run() throws(Complaint) {
  let arguments = try syntax.parse(try commandLineWords())
  if arguments.has("help") {
    print(syntax.help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return
  }
  let options = try options(arguments)
  if arguments.has("in-memory") {
    for option in ["journal", "salvage", "accept-loss"] where arguments.has(option) {
      throw .usage("--\(option) is about a journal, and --in-memory keeps none")
    }
  }
  // A descriptor of the server's must not get the number of a stream that was closed, and with it its words.
  _ = reserveStandardStreams()
  signal(SIGPIPE, SIG_IGN)
  // A write beyond RLIMIT_FSIZE is to fail with EFBIG, as one to a full disk does with ENOSPC.
  signal(SIGXFSZ, SIG_IGN)
  let most = raiseDescriptorLimit()
  let log = EventLog(isJSON: arguments["log"] == "json")

  let book = Book()
  let path = arguments.has("in-memory") ? nil : try JournalPlace.path(arguments)
  let journal = try path.map { path throws(Complaint) in
    try open(path, isNamed: arguments.has("journal"), salvages: arguments.has("salvage"), into: book, log)
  }
  let replica = Replica(book, awaitsAnswer: journal?.awaitsAnswer ?? false)
  if replica.awaitsAnswer {
    if arguments.has("accept-loss") {
      replica.acceptLoss()
    } else {
      log.write(
        "salvaged",
        "clients' Updates are refused until another server has answered in full; --accept-loss takes them at once"
      )
    }
  }
  do throws(SystemCallError) {
    var options = options
    // Some are for the loop, the journal and the links.
    options.maxConnections = min(options.maxConnections, max(1, most - 32 - 2 * options.peers.count))
    let server = try ContactServer(options, replica, journal: journal) { log.write($0) }
    let output = Output(descriptor: STDOUT_FILENO)
    output.write("listening on \(server.address)\n")
    output.flush()
    try server.run()
  } catch {
    throw Complaint("\(error)\(error.adviceOnListening)")
  }
}

func options(_ arguments: Arguments) throws(Complaint) -> ServerOptions {
  guard let own = arguments["name"] else {
    throw .usage("a server needs a --name, for the logs of others")
  }
  let port = UInt16(clamping: try arguments.number("port", in: 0...65535) ?? 0)
  func address(_ option: String, _ read: () throws(AddressMistake) -> SocketAddress) throws(Complaint)
    -> SocketAddress
  {
    do throws(AddressMistake) { return try read() } catch { throw .usage("--\(option): \(error)") }
  }
  var options: ServerOptions
  let host = try address("host") { () throws(AddressMistake) in
    try SocketAddress(host: arguments["host"] ?? "127.0.0.1", port: port)
  }
  do throws(ProtocolViolation) { options = try ServerOptions(name: own, address: host) } catch {
    throw .usage("--name: \(error)")
  }
  for peer in arguments.all("peer") {
    let place = try address("peer") { () throws(AddressMistake) in try SocketAddress(peer) }
    if place.port == 0, place.family != AF_UNIX { throw .usage("--peer \(peer): nobody listens on port 0") }
    options.peers.append(place)
  }
  for allowed in arguments.all("allow-server") {
    let place = try address("allow-server") { () throws(AddressMistake) in
      try SocketAddress(host: allowed, port: 0)
    }
    options.allowedServers = (options.allowedServers ?? []) + [place]
  }
  if let text = arguments["heartbeat"] {
    guard let seconds = Double(text), seconds >= 0.1, seconds <= 3600 else {
      throw .usage("--heartbeat takes seconds from 0.1 to 3600, not '\(text)'")
    }
    options.heartbeat = Int(seconds * 1000)
  }
  options.maxConnections = try arguments.number("max-connections", in: 1...10_000_000) ?? .max
  return options
}

/// Opens the journal, and tells what was found in it.
func open(_ path: String, isNamed: Bool, salvages: Bool, into book: Book, _ log: EventLog) throws(Complaint)
  -> Journal
{
  let (journal, findings): (Journal, Journal.Findings)
  do throws(JournalProblem) {
    (journal, findings) = try Journal.open(path, salvages: salvages, into: book)
  } catch {
    var advice = ""
    if case .inUse = error, !isNamed {
      advice =
        "; it is called after --name: another --name, or --journal FILE, gives this one a journal of its own"
    }
    throw Complaint("the journal \(path): \(error)\(advice)")
  }
  var fields: [JSON.Member] = [
    .init("path", .string(path)), .init("contacts", .number(book.count)),
    .init("records", .number(findings.records)),
  ]
  var text = "\(path): " + (findings.isNew ? "new" : counted(book.count, "contact"))
  if findings.tornBytes > 0 {
    text += "; \(counted(Int(clamping: findings.tornBytes), "byte")) of a torn record were cut off its end"
    fields.append(.init("tornBytes", .number(findings.tornBytes)))
  }
  if let (aside, bytes) = findings.salvaged {
    text +=
      "; salvaged \(counted(findings.records, "intact record")), passed over \(counted(Int(clamping: bytes), "byte")); "
      + "the file as it was is \(aside)"
    fields += [.init("aside", .string(aside)), .init("passedOverBytes", .number(bytes))]
  }
  if findings.refused > 0 {
    text += "; \(counted(findings.refused, "record")) did not fit into the book"
    fields.append(.init("refused", .number(findings.refused)))
  }
  log.write("journal", text, fields)
  return journal
}

do throws(Complaint) { try run() } catch { exit(command: name, complaint: error) }
