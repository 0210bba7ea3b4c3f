import Foundation

/// A listening FileHandle that is asked to accept.
let accepting = [
  Attempt(
    name: "FileHandle-accept",
    promise: "acceptConnectionInBackgroundAndNotify: a notification with a FileHandle for the new connection"
  ) { _ in
    let listening = FileHandle(fileDescriptor: try Pair.listen())
    let client = try Pair.dial(listening.fileDescriptor)
    let before = Pair.sockets()
    let notification = try firstNotification(from: listening)
    let new = Pair.sockets().subtracting(before).sorted()
    let keys = (notification.userInfo ?? [:]).keys.map { "\($0)" }.sorted()
    var told = "the notification's userInfo has \(keys.isEmpty ? "no key" : keys.joined(separator: ", "))"
    told += "; new sockets among the descriptors: \(new)"
    // Which of them is the client's other end?
    for number in new where Pair.isPeer(number, of: client) { told += "; \(number) is the accepted connection" }
    return told
  },
  Attempt(
    name: "FileHandle-accept-once",
    promise: "acceptConnectionInBackgroundAndNotify: one call accepts one connection; the next waits for the next call"
  ) { _ in
    let listening = FileHandle(fileDescriptor: try Pair.listen())
    let first = try Pair.dial(listening.fileDescriptor)
    _ = try firstNotification(from: listening)
    let second = try Pair.dial(listening.fileDescriptor)
    func isAccepted(_ client: Int32) -> Bool { Pair.sockets().contains { Pair.isPeer($0, of: client) } }
    let both = Pair.wait { isAccepted(second) }
    return "after one call and one notification the first client is \(isAccepted(first) ? "" : "not ")accepted, "
      + "the second, which dialled later, is \(both ? "accepted too" : "not")"
  },
]

private func firstNotification(from listening: FileHandle) throws -> Notification {
  nonisolated(unsafe) var received: Notification?
  let observer = NotificationCenter.default.addObserver(
    forName: .NSFileHandleConnectionAccepted, object: listening, queue: nil
  ) { received = $0 }
  defer { NotificationCenter.default.removeObserver(observer) }
  listening.acceptConnectionInBackgroundAndNotify()
  _ = Pair.wait(5) { received != nil }
  guard let received else { throw Pair.Failure(description: "no notification within 5 s") }
  return received
}
