import CommandLineTool
import Glibc
import Story
import SystemCalls
import Tracing

let name = "follow"
if let command = Launcher.becomeTraced(Array(CommandLine.arguments.dropFirst())) {
  let failure = Launcher.execute(command)
  printToStandardError("\(name): \(command.first ?? ""): \(failure)\n")
  exit(failure.rawValue == ENOENT ? 127 : 126)
}
print("todo")
