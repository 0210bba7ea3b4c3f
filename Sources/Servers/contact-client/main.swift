// Stores contacts on a contact server, and lists them.

import CommandLineTool
import Contacts
import Glibc
import Sockets
import SystemCalls

let name = "contact-client"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "Stores contacts on a contact server, and lists them. 'add CONTACT PHONE' ends with status 0 only once the server has shown the "
    + "contact; 'import FILE.csv' takes lines of user,contact,phone or contact,phone, all or none; 'list' prints, 'watch' prints "
    + "what changes. Without a command there is a prompt.",
  options: [
    .init("server", value: "HOST:PORT", help: "where the server listens; needed"),
    .init(
      "name", value: "NAME", help: "what this client is called in the server's log (the user's login name)"),
    .init(
      "user", value: "U",
      help: "whose contacts: for add and import NAME unless given, for list and watch everybody's"),
    .init(
      "format", choices: ["table", "json", "csv"], help: "how list prints them; json is an object a line"),
    .init("interval", value: "SECONDS", help: "how often watch looks (2)"),
  ],
  operands: "[add CONTACT PHONE | list | import FILE.csv | watch]", mixesOperands: true)

func run() throws(Complaint) -> Int32 {
  let arguments = try syntax.parse(try commandLineWords())
  if arguments.has("help") {
    print(syntax.help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return ExitStatus.success
  }
  guard let place = arguments["server"] else {
    throw .usage("which server? --server HOST:PORT, as contact-server prints it")
  }
  let server: SocketAddress
  do throws(AddressMistake) { server = try SocketAddress(place) } catch { throw .usage("--server: \(error)") }
  if server.port == 0, server.family != AF_UNIX {
    throw .usage("--server \(place): nobody listens on port 0")
  }
  let ownName = arguments["name"] ?? loginName()
  let hello: Hello
  do throws(ProtocolViolation) { hello = try Hello(.client, name: ownName) } catch {
    throw .usage("--name: \(error)")
  }
  if reserveStandardStreams().contains(STDOUT_FILENO) {
    throw Complaint("standard output is closed, and the answer goes there")
  }
  signal(SIGPIPE, SIG_IGN)
  let request = try Request(arguments.operands, arguments)
  let output = Output(descriptor: STDOUT_FILENO)
  let commands = Commands(server: server, hello: hello, ownName: ownName, output: output)
  if case .prompt = request {
    try Prompt(commands: commands, options: arguments).run()
  } else {
    try request.perform(by: commands)
  }
  output.flush()
  if let failure = output.failure {
    if failure.rawValue == EPIPE { return ExitStatus.outputClosed }
    throw Complaint("standard output: \(failure)")
  }
  return ExitStatus.success
}

/// The user's login name, as the C library knows it. See: getpwuid(3)
func loginName() -> String {
  guard let entry = getpwuid(getuid()), let name = entry.pointee.pw_name else { return "user \(getuid())" }
  return String(cString: name)
}

do throws(Complaint) { exit(try run()) } catch { exit(command: name, complaint: error) }
