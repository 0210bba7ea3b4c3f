import Glibc
import Tracing

/// How the processes of a story are called, beside their calls and their sockets.
///
/// The first one needs no name, and others go by their numbers; but the two programs of a lesson that is a pair are "server" and
/// "client", once both are there.
struct ProcessNames {
  private var first: pid_t?
  private var tool = ""
  private var role: String?
  /// A lesson's program that starts its server, itself the client.
  private var serverName: String?
  private var names: [pid_t: String] = [:]

  mutating func note(_ opening: StoryItem.Opening) {
    first = opening.process
    tool = opening.tool
    role = Self.role(opening.tool)
    serverName = role == nil ? "\(opening.tool)-server" : nil
  }

  mutating func note(_ event: StoryItem.ProcessEvent, of process: pid_t) {
    guard let first, case .executed(let program) = event,
      let name = program.split(separator: "/").last.map(String.init)
    else { return }
    if name == serverName { names = [first: "client", process: "server"] }
    if let role, let other = Self.role(name) { names = [first: role, process: other] }
  }

  /// The first process of a story whose opening was not told.
  mutating func begin(with process: pid_t) { if first == nil { first = process } }

  /// Whether both programs of a pair are there.
  var hasPair: Bool { !names.isEmpty }

  /// Nil where no name is needed.
  subscript(process: pid_t) -> String? { names[process] ?? (process == first ? nil : "\(process)") }

  /// What stands before a call: whose it is.
  func prefix(_ call: Call) -> String {
    guard first != nil else { return "" }
    let name = call.thread == call.process ? self[call.process] : "\(call.thread)"
    return name.map { "[\($0)] " } ?? ""
  }

  /// A program's own words, and whose they are where two speak.
  func speech(_ words: String, of process: pid_t) -> String {
    names[process].map { "\($0): \(words)" } ?? words
  }

  func text(_ event: StoryItem.ProcessEvent, of process: pid_t) -> String {
    guard let name = names[process] else {
      // A lab's second process: where it has been built matters to nobody.
      if case .executed(let program) = event, program.split(separator: "/").last ?? "" == tool {
        return "process \(process) becomes \(tool) once more"
      }
      return event.text(of: "process \(process)")
    }
    if case .executed(let program) = event {
      return "process \(process) becomes the \(name), \(program.split(separator: "/").last ?? "")"
    }
    return event.text(of: "the \(name)")
  }

  /// "server", of "lesson8-minimal-server".
  private static func role(_ program: String) -> String? {
    guard LessonName(program) != nil, let role = program.split(separator: "-").last.map(String.init) else {
      return nil
    }
    return ["server", "client"].contains(role) ? role : nil
  }
}
