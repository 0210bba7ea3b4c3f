import Foundation
import FoundationNetworking

/// What URLSession has, and what it does with it.
let urls = [
  Attempt(
    name: "URLSessionWebSocketTask",
    promise: "a WebSocket to ws://127.0.0.1:PORT/: messages to and fro"
  ) { port in
    guard let url = URL(string: "ws://127.0.0.1:\(port)/") else { return "no URL" }
    let task = URLSession.shared.webSocketTask(with: url)
    nonisolated(unsafe) var told: String?
    task.resume()
    Task {
      do { told = "received \(try await task.receive())" } catch { told = "error: \(error)" }
    }
    _ = Pair.wait(5) { told != nil }
    return told ?? "nothing within 5 s"
  },
  Attempt(
    name: "URLSession-Task-cancel",
    promise: "a task that waits in URLSession.data(from:) and is cancelled: it ends at once, with an error"
  ) { _ in
    let listener = try Pair.listen()
    let address = Pair.port(of: listener)
    guard let url = URL(string: "http://127.0.0.1:\(address)/") else { return "no URL" }
    nonisolated(unsafe) var told: String?
    let task = Task {
      do { told = "\(try await URLSession.shared.data(from: url).0.count) bytes" } catch { told = "error: \(error)" }
    }
    _ = Pair.wait(0.2) { told != nil }
    task.cancel()
    _ = Pair.wait(2) { told != nil }
    return told ?? "it still waits after two seconds"
  },
]
