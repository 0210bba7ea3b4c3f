import CLinux
import CommandLineTool
import Glibc
import SystemCalls
import Tracing

/// Something that Foundation's documentation has, and Linux has not, or not so: tried in this run.
struct Attempt {
  enum Way: String {
    /// A program that compiles here is run.
    case run
    /// The compiler is given a small file.
    case compile
  }

  let name: String
  let way: Way
  /// What somebody would expect of it.
  let expected: String
  /// What happened, in the system's own words.
  let outcome: String

  /// Tries all.
  ///
  /// - Parameters:
  ///   - place: where the programs are.
  ///   - progress: is told what is being tried.
  /// - Returns: what happened.
  /// - Throws: where the program that tries them does not list them.
  static func all(_ place: Place, progress: (String) -> Void) throws -> [Attempt] {
    var attempts: [Attempt] = []
    let list = try output(of: [place.program("Attempts"), "--list"])
    guard list.end == .exited(0) else {
      throw Failure(
        "wrapper-Attempts does not list what it tries: \(list.end?.words ?? "it has not ended")"
      )
    }
    for line in list.lines {
      let parts = line.split(separator: "\t", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { continue }
      progress(parts[0])
      attempts.append(
        Attempt(name: parts[0], way: .run, expected: parts[1], outcome: try run(parts[0], place)))
    }
    guard let package = place.package else {
      printToStandardError(
        "compare: what does not compile is not tried: its sources are not beside this program\n")
      return attempts
    }
    let folder = "\(package)/Sources/Wrappers/NotThere"
    // One that is known to compile tells whether the compiler works at all.
    progress("the compiler")
    let trouble = try compile("\(package)/Sources/Wrappers/FileHandle/main.swift", []).map {
      "not tried: swiftc \($0)"
    }
    for name in files(of: folder) {
      progress(name)
      let path = "\(folder)/\(name).swift"
      let expected = text(ofFile: path)?.split(separator: "\n").first.map {
        String($0.drop { $0 == "/" || $0 == " " })
      }
      let outcome =
        try trouble ?? compile(path, ["-parse-as-library", "-module-name", "NotThere"]) ?? "it compiles"
      attempts.append(Attempt(name: name, way: .compile, expected: expected ?? "", outcome: outcome))
    }
    return attempts
  }

  /// Runs an attempt; some of them dial a server, which this is.
  private static func run(_ name: String, _ place: Place) throws -> String {
    let server = try HTTPServer()
    let result = try output(of: [place.program("Attempts"), name, "\(server.port)"]) { try? server.step() }
    let fatal = result.lines.last { $0.contains("Fatal error:") }.map {
      String($0[($0.firstRange(of: "Fatal error:")?.lowerBound ?? $0.startIndex)...])
    }
    guard let end = result.end else { return "it had not ended after 10 s, and was ended" }
    if end != .exited(0) { return [end.words, fatal].compactMap { $0 }.joined(separator: ": ") }
    return result.lines.last ?? "it said nothing"
  }

  /// The compiler's first error in a file; nil where it has none. See: swiftc --help
  private static func compile(_ path: String, _ options: [String]) throws -> String? {
    let result: (lines: [String], end: Tracer.Status?)
    do throws(SystemCallError) {
      result = try output(of: ["swiftc", "-typecheck"] + options + [path])
    } catch {
      return "cannot be started (\(error.errno)); is it in PATH?"
    }
    guard let end = result.end else { return "had not ended after 10 s, and was ended" }
    if end == .exited(0) { return nil }
    let sign = " error: "
    let error = result.lines.first { $0.hasPrefix("\(path):") && $0.contains(sign) }
    if let error, let place = error.firstRange(of: sign) { return "error: \(error[place.upperBound...])" }
    let other = result.lines.first { $0.contains("error: ") } ?? end.words
    return "failed for another reason: \(other)"
  }

  /// What a program prints, and how it ended: nil where it had not after ten seconds.
  private static func output(of command: [String], meanwhile: () -> Void = {}) throws(SystemCallError)
    -> (lines: [String], end: Tracer.Status?)
  {
    let (readEnd, writeEnd) = try Descriptor.pipe()
    let output = Descriptor(owning: readEnd)
    let started = Result { () throws(SystemCallError) in try Child(command, output: writeEnd) }
    close(writeEnd)
    let child = try started.get()
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    let deadline = monotonicNanoseconds() &+ 10_000_000_000
    while monotonicNanoseconds() < deadline {
      var entry = pollfd(fd: output.number, events: Int16(POLLIN), revents: 0)
      if poll(&entry, 1, 2) > 0 {
        let count = read(output.number, &buffer, buffer.count)
        if count <= 0 { break }
        // More than a few lines nobody reads.
        if bytes.count < 1 << 20 { bytes += buffer[..<count] }
      }
      meanwhile()
    }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    return (lines, child.wait(atMost: 1)?.status)
  }

  /// The Swift files of a folder, by name, without their ending.
  private static func files(of folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasSuffix(".swift") { names.append(String(name.dropLast(".swift".count))) }
    }
    return names.sorted()
  }
}
