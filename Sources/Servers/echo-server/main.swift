// Sends back whatever its clients send: the product of lessons 8 to 12.

import CommandLineTool
import Glibc
import Sockets
import SystemCalls

let name = "echo-server"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "Sends back whatever its clients send. It prints where it listens, and then nothing; a line of figures (connections, bytes) on "
    + "SIGUSR1. "
    + "SIGTERM and SIGINT let it accept nothing more, send back what has come, and end; a second one ends it at once.",
  options: [
    .init("host", value: "H", help: "the IP address to listen on (127.0.0.1); 0.0.0.0 or :: for all"),
    .init("port", value: "N", help: "the port; 0 lets the kernel choose (0)"),
    .init("threads", value: "N", help: "so many threads, each with a listening socket of its own (1)"),
    .init(
      "max-connections", value: "N",
      help: "further clients wait in the accept queue (as many as descriptors allow)"),
    .init(
      "idle-timeout", value: "S",
      help: "end a connection that has moved no byte for S to S + 1 seconds; 0 for never (0)"
    ),
  ])

func run() throws(Complaint) {
  let arguments = try syntax.parse(Array(CommandLine.arguments.dropFirst()))
  if arguments.has("help") {
    print(syntax.help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return
  }
  let port = UInt16(clamping: try arguments.number("port", in: 0...65535) ?? 0)
  let threads = try arguments.number("threads", in: 1...1024) ?? 1
  let limits = EchoLimits(
    connections: try arguments.number("max-connections", in: 1...10_000_000) ?? .max,
    idleTimeout: try arguments.number("idle-timeout", in: 0...1_000_000) ?? 0)
  var address: SocketAddress
  do throws(AddressMistake) {
    address = try SocketAddress(host: arguments["host"] ?? "127.0.0.1", port: port)
  } catch {
    throw .usage("--host: \(error)")
  }
  // A descriptor of the server's must not get the number of a stream that was closed, and with it its words.
  _ = reserveStandardStreams()
  // Nobody may read the figures any more.
  signal(SIGPIPE, SIG_IGN)
  raiseDescriptorLimit()
  do throws(SystemCallError) {
    let server = try EchoServer(at: address, threads: threads, limits: limits)
    let output = Output(descriptor: STDOUT_FILENO)
    output.write("listening on \(server.address)\n")
    output.flush()
    try server.run()
  } catch {
    throw Complaint("\(error)\(error.adviceOnListening)")
  }
}

do throws(Complaint) { try run() } catch { exit(command: name, complaint: error) }
