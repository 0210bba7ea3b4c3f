// Gets a URL again and again with URLSession, which keeps connections by itself.

import Foundation
import FoundationNetworking

guard CommandLine.arguments.count == 3, let count = Int(CommandLine.arguments[2]),
  let url = URL(string: CommandLine.arguments[1])
else { fail("URL COUNT") }

func fail(_ what: String) -> Never {
  FileHandle.standardError.write(Data("wrapper-URLSession: \(what)\n".utf8))
  exit(1)
}

// --- the job ---
let session = URLSession(configuration: .ephemeral)  // no cache: each request reaches the server
do {
  for _ in 0..<count {
    let (body, response) = try await session.data(from: url)
    guard let status = (response as? HTTPURLResponse)?.statusCode, status == 200, !body.isEmpty else {
      fail("an answer of \(body.count) bytes, and no 200 with a body")
    }
  }
  session.invalidateAndCancel()
} catch { fail("\(error)") }
