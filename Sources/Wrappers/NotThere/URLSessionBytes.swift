// Would hand out an answer's bytes while they come, instead of all of them at the end.

import Foundation

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

func lines(of url: URL) async throws {
  let (bytes, _) = try await URLSession.shared.bytes(from: url)
  for try await line in bytes.lines { print(line) }
}
