import Foundation
import Glibc
import SystemCalls
import TestSupport

/// A small course in a temporary folder: 01-socket, 02-bind, and two exercises of 10-listen. All of them want a socket that
/// listens.
struct LittleCourse {
  let folder: String

  static func with<Result>(_ body: (LittleCourse) throws -> Result) throws -> Result {
    try Place.withTemporaryFolder { folder in
      let course = LittleCourse(folder: folder)
      try course.add("01-socket", title: "A socket")
      try course.add("02-bind", title: "An address for it")
      try course.add("10-listen", title: "A socket that listens")
      try course.add("10-listen", "2", title: "A longer queue")
      return try body(course)
    }
  }

  static let hints = ["The first hint names the call.", "The second hint says where.", "listen(listener, 5)"]

  static let starter = """
    // What is to be done: the task of this exercise is a paragraph that is longer than any line of a terminal is wide, so that
    // it must be filled anew.
    //
    //   - an item of it
    //
    // New: socket(2).
    import Glibc

    // TODO 1: a socket that listens
    print("nothing yet")

    """

  static let solution = """
    // What is to be done.
    import Glibc

    let port = CommandLine.arguments.count > 1 ? UInt16(CommandLine.arguments[1]) ?? 0 : 0
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard listener >= 0, bound == 0, listen(listener, 5) == 0 else { exit(1) }
    while true { pause() }

    """

  /// Compiles, and does not listen.
  static let wrong = solution.replacing(", listen(listener, 5) == 0", with: "")

  /// A check that takes most of a minute where the program listens.
  static let longCheck = """
    {title: "x", lesson: "x", hints: ["x"], trials: [{name: "it takes long", limits: {seconds: 60},
      peer: [{connect: "a"}, \(Array(repeating: "{silence: \"a\", milliseconds: 10000}", count: 5).joined(separator: ", "))]}]}
    """

  func add(_ lesson: String, _ suffix: String = "", title: String) throws {
    try FileManager.default.createDirectory(atPath: "\(folder)/\(lesson)", withIntermediateDirectories: true)
    try write("\(lesson)/exercise\(suffix).swift", Self.starter)
    try write("\(lesson)/solution\(suffix).swift", Self.solution)
    let hints = Self.hints.map { "\"\($0)\"" }.joined(separator: ", ")
    try write(
      "\(lesson)/check\(suffix).json",
      """
      {title: "\(title)", lesson: "lesson3-listen", hints: [\(hints)],
       trials: [{name: "a client dials", peer: [{connect: "a"}], expect: [{listening: {backlog: 5}}]}]}
      """)
  }

  /// Writes a file beside and renames it, as editors do.
  func write(_ path: String, _ text: String) throws {
    try write(path, bytes: Array(text.utf8))
  }

  func write(_ path: String, bytes: [UInt8]) throws {
    let beside = "\(folder)/\(path)~"
    let file = try Descriptor.open(beside, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
    try writeAll(bytes, to: file.number)
    try systemCall("rename", path) { rename(beside, "\(folder)/\(path)") }
  }

  func text(_ path: String) -> String? { SystemCalls.text(ofFile: "\(folder)/\(path)") }

  static let progressPath = ".workshop/progress"

  var progress: String { text(Self.progressPath) ?? "" }

  /// What the progress says of an exercise: what stands behind its name.
  func entry(_ name: String) -> String? {
    progress.split(separator: "\n").first { $0.hasPrefix("\(name):") }.map {
      String($0.dropFirst(name.count + 2))
    }
  }

  func writeProgress(_ bytes: [UInt8]) throws {
    try FileManager.default.createDirectory(atPath: "\(folder)/.workshop", withIntermediateDirectories: true)
    try write(Self.progressPath, bytes: bytes)
  }

  func command(_ words: [String]) -> [String] {
    [Place.product("workshop")] + words + ["--course", folder]
  }

  /// What the tool is started with: it needs the compiler.
  static func environment(columns: Int = 80) -> [String: String] {
    ["COLUMNS": "\(columns)", "PATH": ProcessInfo.processInfo.environment["PATH"] ?? ""]
  }

  func run(_ words: String..., input: String = "", columns: Int = 80) throws -> Program.Result {
    try Program.run(
      command(words), input: input, environment: Self.environment(columns: columns), deadline: 120)
  }
}

/// A text without the lines' ends that its layout has put into it.
func flowing(_ text: String) -> String { text.split(whereSeparator: \.isWhitespace).joined(separator: " ") }
