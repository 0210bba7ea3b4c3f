import CLinux
import Glibc
import Sockets
import SystemCalls

/// A server that is started for a measurement, and ended after it.
public struct ServerUnderLoad: ~Copyable {
  public let address: SocketAddress
  private let process: pid_t

  /// Why a server cannot be measured.
  public struct Failure: Error, CustomStringConvertible {
    public let description: String
  }

  /// Starts a command, and waits until it prints "listening on ADDRESS" on its standard output.
  ///
  /// - Parameters:
  ///   - command: as a shell reads it.
  ///   - processor: where it is to run; nil for anywhere.
  /// - Throws: `Failure` where it prints something else, and what `pipe2` or `posix_spawn` failed with.
  public init(_ command: String, on processor: UInt32?) throws {
    let (readEnd, writeEnd) = try Descriptor.pipe()
    let output = Descriptor(owning: readEnd)
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, writeEnd, STDOUT_FILENO)
    let words = ["sh", "-c", "exec \(command)"]
    var vector: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }
    var process: pid_t = 0
    let failure = posix_spawn(&process, "/bin/sh", &actions, nil, &vector, environ)
    close(writeEnd)
    if failure != 0 {
      throw SystemCallError(call: "posix_spawn", asked: command, errno: ErrorNumber(failure))
    }
    if let processor { _ = clinux_pin(process, processor) }
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while line.count < 200, read(output.number, &byte, 1) == 1, byte != UInt8(ascii: "\n") {
      line.append(byte)
    }
    let text = String(decoding: line, as: UTF8.self)
    guard text.hasPrefix("listening on "),
      let address = try? SocketAddress(String(text.dropFirst("listening on ".count)))
    else {
      kill(process, SIGKILL)
      var status: Int32 = 0
      waitpid(process, &status, 0)
      throw Failure(description: "'\(command)' did not print where it listens first, but '\(text)'")
    }
    self.address = address
    self.process = process
  }

  /// Ends it, and returns the processor time that it took in all, in seconds.
  public consuming func end() -> Double {
    kill(process, SIGKILL)
    var status: Int32 = 0
    var usage = rusage()
    _ = clinux_wait4(process, &status, &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }
}
