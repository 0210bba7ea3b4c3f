import CommandLineTool
import Foundation

/// The Swift compiler that this toolkit was built with, or whichever comes first in PATH.
struct Compiler {
  struct Result: Sendable {
    let succeeded: Bool
    /// All that it printed.
    let output: String
  }

  /// Compiles one file.
  ///
  /// - Parameters:
  ///   - headers: the folder of the module map that `import CLinux` needs.
  ///   - program: where the program is to be.
  /// - Throws: where there is no compiler.
  static func compile(_ source: String, headers: String, to program: String) throws(Complaint) -> Result {
    let compiler = Process()
    compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    compiler.arguments = ["swiftc", "-I", headers, source, "-o", program]
    let pipe = Pipe()
    compiler.standardOutput = pipe
    compiler.standardError = pipe
    compiler.standardInput = FileHandle.nullDevice
    do { try compiler.run() } catch {
      throw Complaint("swiftc was not started (\(error)); 'workshop doctor' says more")
    }
    let output = (try? pipe.fileHandleForReading.readToEnd()) ?? Data()
    compiler.waitUntilExit()
    if compiler.terminationStatus == 127, compiler.terminationReason == .exit {
      throw Complaint("there is no swiftc in PATH; 'workshop doctor' says more")
    }
    return Result(
      succeeded: compiler.terminationReason == .exit && compiler.terminationStatus == 0,
      output: String(decoding: output, as: UTF8.self))
  }
}
