import CommandLineTool
import Glibc
import SystemCalls
import Tracing

/// The Swift compiler: whichever comes first in PATH.
struct Compiler {
  struct Result: Sendable {
    let succeeded: Bool
    /// All that it printed.
    let output: String
  }

  /// Compiles one file. To be called before there is a second thread: signals that end this process end the compiler, too.
  ///
  /// - Parameters:
  ///   - source: the file's path.
  ///   - headers: the folder of the module map that `import CLinux` needs.
  ///   - program: where the program is to be.
  /// - Returns: whether it has compiled, and what was said.
  /// - Throws: where there is no compiler; with a signal's status where one came.
  static func compile(_ source: String, headers: String, to program: String) throws(Complaint) -> Result {
    var (signals, before) = (sigset_t(), sigset_t())
    sigemptyset(&signals)
    for signal in Tracer.ownSignals { sigaddset(&signals, signal) }
    pthread_sigmask(SIG_BLOCK, &signals, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    let compiler: ChildProcess
    do throws(SystemCallError) {
      compiler = try ChildProcess(["swiftc", "-I", headers, source, "-o", program])
    } catch {
      throw Complaint("swiftc was not started: \(error.errno). Is it in PATH? 'workshop doctor' says more")
    }
    var output: [UInt8] = []
    while !compiler.hasSaidAll {
      var entry = pollfd(fd: compiler.descriptor, events: Int16(POLLIN), revents: 0)
      if poll(&entry, 1, 20) > 0 { output += compiler.read() }
      var none = timespec()
      let signal = sigtimedwait(&signals, nil, &none)
      if signal > 0 {
        compiler.end()
        throw Complaint("interrupted", status: 128 + signal)
      }
    }
    return Result(succeeded: compiler.wait() == 0, output: String(decoding: output, as: UTF8.self))
  }
}
