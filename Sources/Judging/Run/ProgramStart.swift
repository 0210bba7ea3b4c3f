import CommandLineTool
import CLinux
import Glibc
import SystemCalls
import Tracing

/// How a judged program is started: this executable is started again, takes the program's place in a folder of its own, with
/// limits and with pipes for its standard streams, and becomes it.
struct ProgramStart {
  private static let word = "--judged"

  let program: String
  let arguments: [String]
  let folder: String
  let limits: Limits
  /// Descriptors that are to be its standard input, output and error.
  let streams: [Int32]

  /// The command line that `become` expects.
  var words: [String] {
    [Self.word, folder, "\(limits.seconds)", "\(limits.memory)"] + streams.map { "\($0)" } + [program]
      + arguments
  }

  /// Nil where the words are no command line of this kind. Returns else only by ending the process.
  static func become(_ words: [String]) -> Never? {
    guard words.first == word, words.count >= 8, let seconds = rlim_t(words[2]), let memory = rlim_t(words[3])
    else {
      return nil
    }
    func refuse(_ what: String) -> Never {
      printToStandardError("the program was not started: \(what): \(ErrorNumber.last)\n")
      exit(127)
    }
    guard chdir(words[1]) == 0 else { refuse("chdir \(words[1])") }
    for (number, word) in words[4..<7].enumerated() {
      guard let stream = Int32(word), dup2(stream, Int32(number)) >= 0 else { refuse("dup2 \(word)") }
    }
    // What the judge has open is no affair of the program's: its first descriptor is to be 3.
    clinux_close_range(3, .max)
    // A signal that it sends to its group, by a mistake with fork say, is not to reach the judge.
    setpgid(0, 0)
    // What the judge looks at while it runs comes sooner than these. They hold where it cannot look.
    limit(RLIMIT_CPU, seconds + 1)
    limit(RLIMIT_AS, (memory << 20) * 8)
    limit(RLIMIT_FSIZE, 256 << 20)
    limit(RLIMIT_CORE, 0)
    // A program that dies of a fault is to die at once, without writing pages about it.
    setenv("SWIFT_BACKTRACE", "enable=no", 1)
    let failure = Launcher.execute(Array(words[7...]))
    errno = failure.rawValue
    refuse(words[7])
  }

  private static func limit(_ resource: __rlimit_resource, _ value: rlim_t) {
    var limits = rlimit()
    guard getrlimit(__rlimit_resource_t(resource.rawValue), &limits) == 0 else { return }
    limits.rlim_cur = min(value, limits.rlim_max)
    _ = setrlimit(__rlimit_resource_t(resource.rawValue), &limits)
  }
}
