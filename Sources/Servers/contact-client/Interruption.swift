import CLinux
import Glibc
import SystemCalls

/// The signals that end a watch, as a descriptor that becomes readable. They do what they have always done once it is over.
/// See: signalfd(2)
final class Interruption {
  private let signals: Descriptor
  private var before = sigset_t()

  init() throws(SystemCallError) {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&set, signal) }
    pthread_sigmask(SIG_BLOCK, &set, &before)
    signals = Descriptor(
      owning: try systemCall("signalfd") { signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK)) })
  }

  var descriptor: Int32 { signals.number }

  /// The one that has come is dealt with: ctrl-C ends the watch, and not the prompt that it was begun at.
  func end() {
    var info = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    var isOver = false
    while read(signals.number, &info, size) == size {
      isOver = isOver || info.ssi_signo != UInt32(SIGINT)
    }
    pthread_sigmask(SIG_SETMASK, &before, nil)
    if isOver { raise(SIGTERM) }
  }
}
