// Sends its standard input to a server, and prints what comes back.

import CommandLineTool
import Glibc
import Sockets
import SystemCalls

let name = "echo-client"

let syntax = CommandLineSyntax(
  command: name,
  purpose:
    "Sends its standard input to a server and prints the answer. At the end of the input it ends its direction only, and reads "
    + "on until the server has ended its own.",
  options: [], operands: "HOST:PORT", mixesOperands: true)

func run() throws(Complaint) {
  let arguments = try syntax.parse(Array(CommandLine.arguments.dropFirst()))
  if arguments.has("help") {
    print(syntax.help(width: Terminal(descriptor: STDOUT_FILENO).width), terminator: "")
    return
  }
  guard let place = arguments.operands.first, arguments.operands.count == 1 else {
    throw .usage("which server? One: echo-client HOST:PORT")
  }
  let address: SocketAddress
  do throws(AddressMistake) { address = try SocketAddress(place) } catch { throw .usage("\(error)") }
  // A descriptor of this program's must not get the number of a stream that was closed, and with it its bytes.
  if reserveStandardStreams().contains(STDOUT_FILENO) {
    throw Complaint("standard output is closed, and the answer goes there")
  }
  signal(SIGPIPE, SIG_IGN)
  let outcome: EchoClient.Outcome
  do throws(SystemCallError) { outcome = try EchoClient(to: address).run() } catch {
    // Whoever reads the answer has gone: no more to do, and no more to say.
    if error.call == "write", error.errno.rawValue == EPIPE { exit(ExitStatus.outputClosed) }
    throw Complaint("\(error)")
  }
  if !outcome.isComplete || outcome.received < outcome.sent {
    throw Complaint(
      "the server has closed the connection when \(outcome.received) of \(counted(outcome.sent, "byte")) had come back"
        + (outcome.isComplete ? "" : ", before the end of the input"))
  }
}

do throws(Complaint) { try run() } catch { exit(command: name, complaint: error) }
