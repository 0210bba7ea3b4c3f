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
    let told = Box<String>()
    task.resume()
    Task {
      do { told.value = "received \(try await task.receive())" } catch { told.value = "error: \(error)" }
    }
    _ = Pair.wait(5) { told.value != nil }
    return told.value ?? "nothing within 5 s"
  }
]
