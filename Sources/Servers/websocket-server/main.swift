// Echoes WebSocket messages, and brings those for all to the clients of its peers, too: the product of lessons 16 to 18.

import CommandLineTool
import Glibc
import Sockets
import SystemCalls
import WebSockets

let name = "websocket-server"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "Serves a page at /, and WebSockets at /ws: what a client sends goes back to it, and a text that begins with '/all ' goes to every "
    + "client of this server and of those that it is linked to. 'start A' listens on port 8080 and dials ws://127.0.0.1:8081/ws, 'start "
    + "B' the reverse; 'start' alone takes all from its options. It prints where it listens, and then what happens; figures on SIGUSR1. "
    + "Ctrl-C closes every connection with code 1001; a second one ends it at once. There is neither authentication nor encryption: "
    + "leave it on 127.0.0.1, or in a network that you trust.",
  options: [
    .init("name", value: "NAME", help: "what other servers call it (A or B; else 'server')"),
    .init("host", value: "H", help: "the IP address to listen on (127.0.0.1); 0.0.0.0 or :: for all"),
    .init("port", value: "N", help: "the port; 0 lets the kernel choose (A: 8080, B: 8081; else 0)"),
    .init(
      "peer", value: "URL",
      help:
        "another server, to be dialled: ws://HOST:PORT/ws; may be given more than once, and instead of A's or B's own"
    ),
    .init("wait", value: "SECONDS", help: "wait so long before it dials for the first time (10)"),
    .init(
      "origin", value: "O",
      help:
        "pages of this origin may use it, too: http://HOST:PORT, or * for all; may be given more than once (its own page)"
    ),
    .init("max-message", value: "BYTES", help: "a message may have so many (16777216)"),
    .init(
      "max-connections", value: "N",
      help: "further ones wait in the accept queue (as many as descriptors allow)"),
  ],
  operands: "start [A|B]", mixesOperands: true)

/// What `start A` and `start B` stand for.
let presets: [String: (port: UInt16, peer: String)] = [
  "A": (8080, "ws://127.0.0.1:8081/ws"), "B": (8081, "ws://127.0.0.1:8080/ws"),
]

func run() throws(Complaint) {
  let arguments = try syntax.parse(try commandLineWords())
  if arguments.has("help") {
    print(syntax.help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return
  }
  var options = try options(arguments)
  // A descriptor of the server's must not get the number of a stream that was closed, and with it its words.
  _ = reserveStandardStreams()
  signal(SIGPIPE, SIG_IGN)
  // Some are for the loop and the links.
  options.maxConnections = min(
    options.maxConnections, max(1, raiseDescriptorLimit() - 32 - 2 * options.peers.count))
  let log = EventLog(STDOUT_FILENO)
  do throws(SystemCallError) {
    let server = try WebSocketServer(options) { log.write($0, $1) }
    let output = Output(descriptor: STDOUT_FILENO)
    output.write("listening on \(server.address)\n")
    output.flush()
    log.write(
      "started",
      "\(options.name): http://\(server.address)/ is a page, ws://\(server.address)/ws the WebSocket"
        + (options.peers.isEmpty
          ? ""
          : "; in \(seconds(options.wait)) it dials \(options.peers.map(\.description).joined(separator: ", "))")
    )
    try server.run()
  } catch {
    throw Complaint("\(error)\(error.adviceOnListening)")
  }
}

func seconds(_ milliseconds: Int) -> String {
  milliseconds % 1000 == 0 ? counted(milliseconds / 1000, "second") : "\(Double(milliseconds) / 1000) seconds"
}

func options(_ arguments: Arguments) throws(Complaint) -> WebSocketServerOptions {
  let words = arguments.operands
  guard words.first == "start", words.count <= 2 else {
    throw .usage(
      words.isEmpty
        ? "what is to be done? websocket-server start A"
        : "it is 'start', 'start A' or 'start B', not '\(words.joined(separator: " "))'")
  }
  let letter = words.count == 2 ? words[1].uppercased() : nil
  let preset = letter.flatMap { presets[$0] }
  if let letter, preset == nil {
    throw .usage("there are servers A and B, not '\(letter)'; --name gives another name")
  }
  let port = try arguments.number("port", in: 0...65535).map { UInt16(clamping: $0) } ?? preset?.port ?? 0
  let host: SocketAddress
  do throws(AddressMistake) {
    host = try SocketAddress(host: arguments["host"] ?? "127.0.0.1", port: port)
  } catch {
    throw .usage("--host: \(error)")
  }
  var options: WebSocketServerOptions
  do throws(LinkMistake) {
    options = try WebSocketServerOptions(name: arguments["name"] ?? letter ?? "server", address: host)
  } catch { throw .usage("--name: \(error)") }
  let peers = arguments.has("peer") ? arguments.all("peer") : preset.map { [$0.peer] } ?? []
  for peer in peers {
    do throws(AddressMistake) { options.peers.append(try WebSocketURL(peer)) } catch {
      throw .usage("--peer: \(error)")
    }
  }
  if let text = arguments["wait"] {
    guard let seconds = Double(text), seconds >= 0, seconds <= 86_400 else {
      throw .usage("--wait takes seconds from 0 to 86400, not '\(text)'")
    }
    options.wait = Int(seconds * 1000)
  }
  options.origins = arguments.all("origin")
  for origin in options.origins
  where origin != "*" && origin != "null" && (!origin.contains("://") || origin.hasSuffix("/")) {
    throw .usage(
      "--origin: '\(origin)' is no origin; one looks like http://127.0.0.1:3000, with nothing behind it")
  }
  options.limits.message = try arguments.number("max-message", in: 1...1 << 30) ?? options.limits.message
  options.maxConnections = try arguments.number("max-connections", in: 1...10_000_000) ?? .max
  return options
}

do throws(Complaint) { try run() } catch { exit(command: name, complaint: error) }
