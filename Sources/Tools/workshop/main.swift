// Exercises that the kernel judges: workshop [COMMAND]

import CommandLineTool
import Glibc
import Judging

let words = Array(CommandLine.arguments.dropFirst())
Judge.becomeProgram(words)
do throws(Complaint) {
  guard words.count >= 3 else { throw .usage("workshop SOURCE CHECK HEADERS") }
  let judge = Judge(check: try Check(path: words[1]), source: words[0], headers: words[2])
  if words.count > 3 { exit(try judge.predict()) }
  let verdict = try judge.judge()
  print(verdict.hasPassed ? "passed: \(verdict.trials)" : verdict.text)
} catch { exit(command: "workshop", complaint: error) }
