// Gets a URL again and again with Data(contentsOf:), which makes an error of every status but success, without the number.

import Foundation
import FoundationNetworking

guard CommandLine.arguments.count == 3, let count = Int(CommandLine.arguments[2]),
  let url = URL(string: CommandLine.arguments[1])
else { fail("URL COUNT") }

func fail(_ what: String) -> Never {
  FileHandle.standardError.write(Data("wrapper-DataContentsOf: \(what)\n".utf8))
  exit(1)
}

// --- the job ---
do {
  for _ in 0..<count {
    let body = try Data(contentsOf: url)
    guard !body.isEmpty else { fail("an answer without a body") }
  }
} catch { fail("\(error)") }
