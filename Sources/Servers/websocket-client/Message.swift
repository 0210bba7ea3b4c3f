import CommandLineTool
import WebSockets

/// A message, and whom it is for.
struct Message {
  enum Receiver {
    case server, all
  }

  /// As it is sent.
  let text: String

  /// - Throws: why it cannot be sent.
  init(_ receiver: Receiver, _ text: String) throws(Complaint) {
    guard !text.isEmpty else { throw Complaint("there is no message") }
    switch receiver {
    case .all: self.text = LinkMessage.mark + text
    case .server:
      if LinkMessage.isMarked(text) {
        throw Complaint(
          "a message that begins with '\(LinkMessage.mark)' is one for all: 2 sends those, or -2")
      }
      self.text = text
    }
  }

  /// What a line of the prompt asks for.
  enum Line {
    case message(Message)
    case nothing, help, quit

    /// - Throws: a line of help.
    init(_ line: String) throws(Complaint) {
      let line = line.drop { $0 == " " || $0 == "\t" }
      let word = line.prefix { $0 != " " && $0 != "\t" }
      // Of the space between the command and the message one belongs to neither; more are the message's.
      let rest = line[word.endIndex...].dropFirst()
      switch word {
      case "": self = .nothing
      case "1", "2":
        guard !rest.isEmpty else { throw Complaint("\(word) needs a message behind it: \(word) hello") }
        self = .message(try Message(word == "1" ? .server : .all, String(rest)))
      case "q", "quit": self = .quit
      case "help", "h", "?": self = .help
      default:
        throw Complaint("'\(String(word.prefix(20)).printable)' is no command; \(Self.summary)")
      }
    }

    static let summary = "1 MESSAGE sends to the server, 2 MESSAGE to all clients, q leaves"
  }
}
