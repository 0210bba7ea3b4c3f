import CLinux
import Glibc
import SystemCalls

/// Signals that are to end something, as a descriptor that becomes readable when one has come: they interrupt no call meanwhile.
///
/// See: signalfd(2)
public final class Interruption {
  private let signals: Descriptor
  private var before = sigset_t()

  /// Blocks them on this thread; threads that it starts from here on inherit that.
  public init(_ numbers: [Int32] = [SIGINT, SIGTERM, SIGHUP]) throws(SystemCallError) {
    var set = sigset_t()
    sigemptyset(&set)
    for number in numbers { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, &before)
    signals = Descriptor(
      owning: try systemCall("signalfd") { signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK)) })
  }

  /// To be waited for.
  public var descriptor: Int32 { signals.number }

  /// The signal that has come, or nil. Each is told once.
  public func signal() -> Int32? {
    var info = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    return read(signals.number, &info, size) == size ? Int32(bitPattern: info.ssi_signo) : nil
  }

  /// From here on they do what they did before.
  public func restore() { pthread_sigmask(SIG_SETMASK, &before, nil) }
}
