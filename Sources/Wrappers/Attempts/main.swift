// Tries one thing that compiles on Linux and does not do what its documentation promises, and prints what happened in one
// line, in the system's own words. Some end the program: then the signal is what happened.

import Foundation

/// Something to try. `attempt` says what happened.
struct Attempt: Sendable {
  let name: String
  let promise: String
  let attempt: @Sendable (_ port: UInt16) throws -> String
}

let attempts = accepting + reading + writing + streams + ports + urls

let words = CommandLine.arguments.dropFirst()
if words.first == "--list" {
  for attempt in attempts { print("\(attempt.name)\t\(attempt.promise)") }
  exit(0)
}
guard let attempt = attempts.first(where: { $0.name == words.first }),
  let port = UInt16(words.dropFirst().first ?? "0")
else {
  FileHandle.standardError.write(Data("usage: wrapper-Attempts --list | NAME [PORT]\n".utf8))
  exit(2)
}

// --- the job ---
do { print(try attempt.attempt(port).replacing("\n", with: " ")) } catch { print("error: \(error)") }
exit(0)
