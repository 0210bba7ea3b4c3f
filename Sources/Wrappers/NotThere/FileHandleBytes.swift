// Would read a descriptor byte by byte, or line by line, as an asynchronous sequence.

import Foundation

func lines(of handle: FileHandle) async throws {
  for try await line in handle.bytes.lines { print(line) }
}
