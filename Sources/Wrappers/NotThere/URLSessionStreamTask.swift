// Would open a TCP connection to a host and a port, and read and write bytes on it.

import Foundation

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

func dial(_ port: Int) async throws {
  let task = URLSession.shared.streamTask(withHostName: "127.0.0.1", port: port)
  task.resume()
  try await task.write(Data("hello".utf8), timeout: 5)
  let (answer, atEnd) = try await task.readData(ofMinLength: 1, maxLength: 100, timeout: 5)
  print(answer ?? Data(), atEnd)
}
