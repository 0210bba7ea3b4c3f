import CLinux
import CommandLineTool
import Glibc
import SystemCalls

/// What is to be done, as the command line or the prompt says it.
enum Request {
  case add(contact: String, phone: String, user: String?)
  case list(user: String?, format: String)
  case importFile(String, user: String?)
  case watch(user: String?, interval: Int32)
  case prompt

  static let names = ["add", "list", "import", "watch"]

  /// - Parameters:
  ///   - words: the command and what belongs to it.
  ///   - options: those that stand beside it.
  ///   - defaults: those of the command line, for a command at the prompt.
  /// - Throws: what makes no sense.
  init(_ words: [String], _ options: Arguments, defaults: Arguments? = nil) throws(Complaint) {
    func option(_ name: String) -> String? { options[name] ?? defaults?[name] }
    let user = option("user")
    func needs(_ count: Int, _ form: String) throws(Complaint) {
      guard words.count == count + 1 else {
        throw .usage(
          "'\(words[0])' takes \(form.isEmpty ? "nothing" : form) behind it, not \(counted(words.count - 1, "word"))"
            + (words.count > count + 1 ? "; a name with spaces in it needs quotes" : ""))
      }
    }
    switch words.first {
    case nil: self = .prompt
    case "add":
      try needs(2, "CONTACT PHONE")
      self = .add(contact: words[1], phone: words[2], user: user)
    case "list":
      try needs(0, "")
      self = .list(user: user, format: option("format") ?? "table")
    case "import":
      try needs(1, "FILE.csv")
      self = .importFile(words[1], user: user)
    case "watch":
      try needs(0, "")
      var interval: Int32 = 2000
      if let text = option("interval") {
        guard let seconds = Double(text), seconds >= 0.05, seconds <= 86_400 else {
          throw .usage("--interval takes seconds from 0.05 to 86400, not '\(text)'")
        }
        interval = Int32(seconds * 1000)
      }
      self = .watch(user: user, interval: interval)
    case let word?:
      let near = Self.names.min { $0.distance(to: word) < $1.distance(to: word) }
      let hint = near.flatMap { $0.distance(to: word) <= 2 ? "; did you mean \($0)?" : nil } ?? ""
      throw .usage(
        "there is no command '\(word.printable)'\(hint.isEmpty ? "." : hint) There are \(Self.names.joined(separator: ", ")), and none for a prompt"
      )
    }
  }

  func perform(by commands: Commands) throws(Complaint) {
    switch self {
    case .add(let contact, let phone, let user): try commands.add(contact, phone, user: user)
    case .list(let user, let format): try commands.list(user: user, format: format)
    case .importFile(let path, let user): try commands.importFile(path, user: user)
    case .watch(let user, let interval): try commands.watch(user: user, interval: interval)
    case .prompt: break
    }
  }
}
