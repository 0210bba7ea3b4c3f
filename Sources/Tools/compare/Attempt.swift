import CLinux
import CommandLineTool
import Glibc
import SystemCalls

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
  /// - Parameter progress: is told what is being tried.
  static func all(_ place: Place, progress: (String) -> Void) throws -> [Attempt] {
    var attempts: [Attempt] = []
    for line in try output(of: [place.program("Attempts"), "--list"]).lines {
      let parts = line.split(separator: "\t", maxSplits: 1).map(String.init)
      guard parts.count == 2 else { continue }
      progress(parts[0])
      attempts.append(
        Attempt(name: parts[0], way: .run, expected: parts[1], outcome: try run(parts[0], place)))
    }
    guard let folder = place.package.map({ "\($0)/Sources/Wrappers/NotThere" }) else { return attempts }
    for name in files(of: folder) {
      progress(name)
      let path = "\(folder)/\(name).swift"
      let expected = text(ofFile: path)?.split(separator: "\n").first.map {
        String($0.drop { $0 == "/" || $0 == " " })
      }
      attempts.append(
        Attempt(name: name, way: .compile, expected: expected ?? "", outcome: try compile(path)))
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
    if let failure = Child.failure(end) { return [failure, fatal].compactMap { $0 }.joined(separator: ": ") }
    return result.lines.last ?? "it said nothing"
  }

  /// The compiler's first error; or that there was none, which is worth knowing, too.
  private static func compile(_ path: String) throws -> String {
    let result: (lines: [String], end: Int32?)
    do throws(SystemCallError) {
      result = try output(of: ["swiftc", "-typecheck", "-parse-as-library", "-module-name", "NotThere", path])
    } catch {
      return "not tried: the compiler, swiftc, cannot be started (\(error.errno)); is it in PATH?"
    }
    let error = result.lines.first { $0.contains(" error: ") }
    if let error, let place = error.firstRange(of: " error: ") {
      return "error: \(error[place.upperBound...])"
    }
    return result.end == 0 ? "it compiles" : "swiftc failed without an error's text"
  }

  /// What a program prints, and how it ended: nil where it had not after ten seconds.
  private static func output(of command: [String], meanwhile: () -> Void = {}) throws(SystemCallError)
    -> (lines: [String], end: Int32?)
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
