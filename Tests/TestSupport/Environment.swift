import Glibc
import SystemCalls

/// Programs from elsewhere that bear witness. Where one is missing its tests are skipped, except where witnesses are
/// required (`.ci/run` does): there they run, and fail.
public enum Witness {
  public static let areRequired = getenv("SOCKETSTEPS_REQUIRE_WITNESSES") != nil

  /// The path of a program, or nil.
  public static func path(_ name: String) -> String? {
    let variable = getenv("PATH").map { String(cString: $0) } ?? ""
    let places: [String] = variable.split(separator: ":").map { String($0) } + ["/usr/sbin", "/sbin"]
    let paths: [String] = places.map { "\($0)/\(name)" }
    return paths.first { access($0, X_OK) == 0 }
  }

  /// Whether a test that needs these programs is to run.
  public static func have(_ names: String...) -> Bool { areRequired || names.allSatisfy { path($0) != nil } }

  /// A Python 3 that is a program itself, no shell script in front of one; one with jsonschema where there is one. Nil
  /// where there is no Python.
  public static let python: String? = {
    let candidates: [String] = ["/usr/bin/python3", path("python3") ?? ""].filter { !$0.isEmpty }
    for script in ["import jsonschema, sys; print(sys.executable)", "import sys; print(sys.executable)"] {
      for candidate in candidates {
        let result = try? Program.run([candidate, "-W", "ignore", "-c", script])
        if let result, result.status == 0, let line = result.lines.first { return line }
      }
    }
    return nil
  }()

  /// Whether tests that need Python run.
  public static var havePython: Bool { areRequired || python != nil }

  /// A Python 3 that has `websockets` and `aiohttp`, which are others' clients and servers: the one that the environment variable
  /// SOCKETSTEPS_WEBSOCKET_PYTHON names, such as a virtual environment's. Nil where that is none.
  public static let webSocketPython: String? = {
    guard let path = getenv("SOCKETSTEPS_WEBSOCKET_PYTHON").map({ String(cString: $0) }),
      let result = try? Program.run([path, "-c", "import aiohttp, websockets.sync.client"]),
      result.status == 0
    else { return nil }
    return path
  }()

  /// Whether tests that need that one run.
  public static var haveWebSocketPython: Bool { areRequired || webSocketPython != nil }
}

/// What this process may do.
public enum Privilege {
  /// Where witnesses are required, root is too.
  public static var isRoot: Bool { geteuid() == 0 || Witness.areRequired }
  /// Whether the loopback interface may be listened to.
  public static let canTap: Bool = {
    let tap = socket(AF_PACKET, Int32(SOCK_DGRAM.rawValue), 0)
    if tap >= 0 { close(tap) }
    return tap >= 0 || Witness.areRequired
  }()
}

/// Where things are.
public enum Place {
  /// The folder of the built executables.
  public static let products: String = {
    let own = destination(ofLink: "/proc/self/exe") ?? ""
    // The runner is the test bundle itself, or a helper that was told where it is.
    let candidates = [own] + CommandLine.arguments.filter { $0.hasSuffix(".xctest") }
    for candidate in candidates {
      let folder = String(candidate[..<(candidate.lastIndex(of: "/") ?? candidate.endIndex)])
      if access("\(folder)/lesson3-listen", X_OK) == 0 { return folder }
    }
    return "\(root)/.build/debug"
  }()

  public static func product(_ name: String) -> String { "\(products)/\(name)" }

  /// The package's folder.
  public static let root: String = {
    let parts = #filePath.split(separator: "/").dropLast(3)
    return "/" + parts.joined(separator: "/")
  }()

  /// A new folder, removed when `body` is done.
  public static func withTemporaryFolder<Result>(in place: String = "/tmp", _ body: (String) throws -> Result)
    throws
    -> Result
  {
    let folder = try temporaryFolder(in: place)
    defer { remove(folder) }
    return try body(folder)
  }

  /// A new folder, for whoever removes it.
  public static func temporaryFolder(in place: String = "/tmp") throws -> String {
    var template = Array("\(place)/socketsteps-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SystemCallError(call: "mkdtemp", errno: .last) }
    let folder = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    chmod(folder, 0o755)
    return folder
  }

  /// Removes a folder with all that is in it.
  public static func remove(_ folder: String) { _ = try? Program.run(["/bin/rm", "-rf", folder]) }

  /// Writes a text file and returns its path.
  public static func file(_ name: String, in folder: String, _ text: String) throws -> String {
    let path = "\(folder)/\(name)"
    let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
    try Array(text.utf8).withUnsafeBytes { try writeAll($0, to: file.number) }
    return path
  }
}

/// A command in a network of its own, where that can be had: its packets are nobody else's.
public func inItsOwnNetwork(_ command: [String]) -> [String] {
  guard Privilege.isRoot, let ip = Witness.path("ip") else { return command }
  return ["unshare", "-n", "sh", "-c", "\(ip) link set lo up; exec \"$@\"", "sh"] + command
}

/// A text with what varies from run to run replaced: ports, pids, inodes, queue sizes that depend on them.
public func masked(_ text: String) -> String {
  var result = ""
  var number = ""
  func flush() {
    // Small numbers are descriptors, lengths and flags; they belong to the story.
    result += number.count >= 4 ? "N" : number
    number = ""
  }
  // Pointers vary too, and how long a call waited; and what a signalfd has on a signal's sender.
  let text = text.replacing(/0x[0-9a-f]{6,}/, with: "PTR").replacing(/waited \d+ ms/, with: "waited N ms")
    .replacing(#/TCP_INFO,\s+"[^"]*"/#, with: "TCP_INFO, BYTES")
    .replacing(/\d+\.\d+ (s|ms)\b/) { "T \($0.output.1)" }.replacing(/(process|child of|pid) \d+/) {
      "\($0.output.1) N"
    }
    .replacing(#/\[\d+\] /#, with: "[N] ").replacing(#/kill\(\d+/#, with: "kill(N").replacing(
      #/"\\17(\\0){11}[^"]*"/#, with: "SIGNAL")
  for character in text {
    if character.isASCII, character.isNumber {
      number.append(character)
    } else {
      flush()
      result.append(character)
    }
  }
  flush()
  return result
}
