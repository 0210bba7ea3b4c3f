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
    let keys = (notification.userInfo ?? [:]).keys.map { "\($0)" }.sorted()
    let accepted = Pair.sockets().subtracting(before).filter { Pair.isPeer($0, of: client) }.sorted()
    return "the notification's userInfo has \(keys.isEmpty ? "no key" : keys.joined(separator: ", ")); "
      + (accepted.first.map { "accepted as descriptor \($0)" } ?? "nothing was accepted")
  }
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
