import CommandLineTool
import Glibc
import SystemCalls

/// Where the course is, what belongs to it, and how this program is called from here.
struct Place {
  /// The folder of the lessons' folders.
  let course: String
  /// Where the progress is kept.
  let state: String
  /// The package's folder, nil where there is none to be found.
  let package: String?
  /// How a shell calls this program.
  private let invocation: String
  /// What stands behind each command, so that it is about this course.
  private let option: String
  private let current: String

  /// - Parameter folder: a course of somebody's own, nil for the package's.
  /// - Throws: where there is no such folder.
  init(course folder: String?) throws(Complaint) {
    let current = Self.real(".") ?? "/"
    let executable = destination(ofLink: "/proc/self/exe") ?? ""
    let here = Self.package(from: current)
    let package = here ?? Self.package(from: executable)
    if let folder {
      guard let course = Self.real(folder), Self.isFolder(course) else {
        throw .usage("--course \(folder): there is no such folder")
      }
      (self.course, state, option) = (course, course, " --course \(Self.quoted(folder))")
    } else if let package {
      (course, state, option) = ("\(package)/Lessons", package, "")
    } else {
      throw Complaint(
        "neither this folder, nor one above it, nor the one that this program was built in is the package with its Lessons; go there, or name a course: --course DIR"
      )
    }
    self.package = package
    self.current = current
    let words = CommandLine.arguments.first ?? "workshop"
    // What 'swift run' starts has a path that nobody has typed: a whole one, or one with the processor's name.
    let isTyped = [".build/debug/", ".build/release/", "./"].contains(where: words.hasPrefix)
    let isBuilt =
      !isTyped && (words.hasPrefix(".build/") || words.hasPrefix("/") && words.contains("/.build/"))
    invocation = isBuilt && here != nil ? "swift run workshop" : Self.quoted(words)
  }

  /// What this program is given when it starts itself again.
  var courseWords: [String] { option.isEmpty ? [] : ["--course", course] }

  /// The folder with the header that `import CLinux` needs.
  var headers: String { "\(package ?? course)/Sources/CLinux" }

  /// A command as it is to be typed: "swift run workshop hint 3".
  func command(_ words: String) -> String { "\(invocation) \(words)\(option)" }

  /// A path as somebody here would type it.
  func shown(_ path: String) -> String {
    if path.hasPrefix("\(current)/") { return String(path.dropFirst(current.count + 1)) }
    guard let package, path.hasPrefix("\(package)/"), current.hasPrefix("\(package)/") else { return path }
    // Both are in the package, and nobody has to go far.
    var (from, to) = (current.split(separator: "/")[...], path.split(separator: "/")[...])
    while let first = from.first, first == to.first, to.count > 1 {
      (from, to) = (from.dropFirst(), to.dropFirst())
    }
    return String(repeating: "../", count: from.count) + to.joined(separator: "/")
  }

  /// A command that runs a lesson: "swift run lesson3-listen"; nil where it is none of the package's.
  func run(lesson: String) -> String? {
    guard let package, !lesson.contains("/") else { return nil }
    let isProgram = ["Lessons", "Labs", "Servers", "Tools"].contains {
      access("\(package)/Sources/\($0)/\(lesson)/main.swift", F_OK) == 0
    }
    return isProgram ? "swift run \(lesson)" : nil
  }

  static func isFolder(_ path: String) -> Bool {
    var state = stat()
    return stat(path, &state) == 0 && state.st_mode & S_IFMT == S_IFDIR
  }

  /// See: realpath(3)
  private static func real(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }

  private static func package(from path: String) -> String? {
    var folders = path.split(separator: "/")
    while !folders.isEmpty {
      let folder = "/" + folders.joined(separator: "/")
      if access("\(folder)/Package.swift", R_OK) == 0, isFolder("\(folder)/Lessons") { return folder }
      folders.removeLast()
    }
    return nil
  }

  /// As a shell takes it for one word.
  private static func quoted(_ word: String) -> String {
    let plain = word.unicodeScalars.allSatisfy {
      $0.isASCII
        && ($0.properties.isAlphabetic || ("0"..."9").contains($0)
          || "/._-+:,@%=".unicodeScalars.contains($0))
    }
    return plain && !word.isEmpty ? word : "'\(word.replacing("'", with: "'\\''"))'"
  }
}
