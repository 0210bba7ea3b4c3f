/// What a server tells of itself: a line an event. Of messages, which may come by the hundred thousand, and of clients, the first ones
/// of each second, and how many there were more.
struct MessageLog {
  /// Gets what has happened, and the rest of the sentence.
  let write: (_ event: String, _ text: String) -> Void
  /// What may still be told in this second, and what was not.
  private var budget = Self.messagesPerSecond
  private var more = 0
  private var eventBudget = Self.eventsPerSecond
  private var moreEvents = 0
  private var shortage = 0
  private(set) var messages: UInt64 = 0

  private static let (messagesPerSecond, eventsPerSecond) = (50, 1000)
  /// So much of a message is shown.
  private static let shownBytes = 200
  /// And of a whole line so much: made visible, each byte may become six, and a log drops what a pipe has no room for.
  private static let lineBytes = 600

  init(_ write: @escaping (_ event: String, _ text: String) -> Void) {
    // Words from elsewhere, such as the reason in a Close, make no lines of their own.
    self.write = { event, text in write(event, Self.line(text)) }
  }

  private static func line(_ text: String) -> String {
    let line = text.replacing("\n", with: "\\n")
    return line.utf8.count > lineBytes
      ? String(decoding: line.utf8.prefix(lineBytes), as: UTF8.self) + "…" : line
  }

  @inline(__always)
  mutating func received(_ kind: MessageKind, _ bytes: UnsafeRawBufferPointer, from sender: () -> String) {
    messages &+= 1
    guard budget > 0 else {
      more += 1
      return
    }
    budget -= 1
    write("message", "from \(sender()): \(Self.shown(kind, bytes))")
  }

  mutating func receivedForAll(_ text: @autoclosure () -> String) {
    messages &+= 1
    guard budget > 0 else {
      more += 1
      return
    }
    budget -= 1
    write("message for all", text())
  }

  /// Something that anybody may have happen as often as he likes.
  mutating func tell(_ event: String, _ text: @autoclosure () -> String) {
    guard eventBudget > 0 else {
      moreEvents += 1
      return
    }
    eventBudget -= 1
    write(event, text())
  }

  mutating func short(of what: String) {
    if shortage == 0 { write("no room", "\(what); others wait in the accept queue") }
    shortage = 10
  }

  /// A second has gone by.
  mutating func tick() {
    (budget, eventBudget) = (Self.messagesPerSecond, Self.eventsPerSecond)
    shortage = max(0, shortage - 1)
    if more > 0 { write("messages", "\(more) more in the last second") }
    if moreEvents > 0 {
      write("clients", "\(moreEvents) more that came, left or were refused in the last second")
    }
    (more, moreEvents) = (0, 0)
  }

  static func shown(_ kind: MessageKind, _ bytes: UnsafeRawBufferPointer) -> String {
    let part = bytes.prefix(shownBytes)
    switch kind {
    case .text:
      let text = String(decoding: part, as: UTF8.self).replacing("\n", with: "\\n")
      return bytes.count > shownBytes ? "\(text)… (\(bytes.count) bytes)" : text
    case .binary:
      let hex = part.prefix(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
      return "\(bytes.count) bytes" + (bytes.isEmpty ? "" : ": \(hex)") + (bytes.count > 16 ? " …" : "")
    }
  }
}
