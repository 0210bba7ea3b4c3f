// A WebSocket client with a prompt.

import CommandLineTool
import Glibc
import Sockets
import SystemCalls
import WebSockets

let name = "websocket-client"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "Opens a WebSocket, and gives a prompt: '1 MESSAGE' sends a message to the server, '2 MESSAGE' one to all clients of a "
    + "websocket-server and of those that it is linked to; what comes is shown above. 'q' or ctrl-D closes the WebSocket and leaves. "
    + "Where the output is no terminal, what comes is printed as it is, a line each.",
  options: [
    .init(
      "one", short: "1", value: "TEXT",
      help: "send this to the server, print what comes until it has closed, and leave"),
    .init("all", short: "2", value: "TEXT", help: "the same, to all clients"),
    .init("echo", help: "send back whatever comes, until the server closes"),
    .init("max-message", value: "BYTES", help: "a message that comes may have so many (16777216)"),
  ],
  operands: "ws://HOST:PORT/ws", mixesOperands: true)

func run() throws(Complaint) -> Int32 {
  let arguments = try syntax.parse(try commandLineWords())
  if arguments.has("help") {
    print(syntax.help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return ExitStatus.success
  }
  guard let place = arguments.operands.first, arguments.operands.count == 1 else {
    throw .usage(
      arguments.operands.isEmpty
        ? "which WebSocket? websocket-client ws://127.0.0.1:8080/ws"
        : "one WebSocket at a time; a message with spaces in it needs quotes: -1 \"hello there\"")
  }
  if ["one", "all", "echo"].count(where: arguments.has) > 1 {
    throw .usage("-1, -2 and --echo exclude each other")
  }
  let url: WebSocketURL
  do throws(AddressMistake) { url = try WebSocketURL(place) } catch { throw .usage("\(error)") }
  var limits = SessionLimits()
  limits.message = try arguments.number("max-message", in: 1...1 << 30) ?? limits.message
  var message: Message?
  do throws(Complaint) {
    if let text = arguments["one"] { message = try Message(.server, text) }
    if let text = arguments["all"] { message = try Message(.all, text) }
  } catch { throw .usage(error.description) }
  if reserveStandardStreams().contains(STDOUT_FILENO) {
    throw Complaint("standard output is closed, and what comes goes there")
  }
  signal(SIGPIPE, SIG_IGN)
  let interruption: Interruption
  do throws(SystemCallError) { interruption = try Interruption() } catch { throw Complaint("\(error)") }
  var opened: WebSocketClient?
  do throws(WebSocketFailure) {
    let client = try WebSocketClient(
      url, protocols: arguments.has("echo") ? [] : [LinkMessage.namedProtocol], limits: limits,
      answers: arguments.has("echo"),
      interruption: interruption.descriptor)
    opened = client
    if arguments.has("echo") {
      client.received = { [unowned client] kind, bytes in client.session.send(kind, bytes) }
      while client.ending == nil { try client.wait() }
      guard let reason = reason(of: client) else { return ExitStatus.success }
      printToStandardError("\(name): \(reason.printable)\n")
      return ExitStatus.failure
    }
    let conversation = Conversation(client, interruption)
    if let message {
      try conversation.send(message)
      try conversation.close()
    } else {
      try conversation.prompt()
    }
    return try conversation.end()
  } catch {
    if error.isInterruption, let signal = interruption.signal() {
      // The server is told, and not waited for.
      opened?.session.close(.goingAway)
      return 128 + signal
    }
    // It may have words of the server's in it.
    throw Complaint(error.description.printable)
  }
}

/// Why it has not ended as it should; nil where it has.
func reason(of client: WebSocketClient) -> String? {
  guard let ending = client.ending else { return nil }
  if ending.failure != nil { return ending.description }
  return [nil, .normal].contains(ending.code) ? nil : "the server has closed it: \(ending.description)"
}

do throws(Complaint) { exit(try run()) } catch { exit(command: name, complaint: error) }
