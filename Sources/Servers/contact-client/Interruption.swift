import Glibc
import Sockets

extension Interruption {
  /// What they were to end is over: ctrl-C ends a watch, and not the prompt that it was begun at; the others end both.
  func end() {
    var isOver = false
    while let signal = signal() { isOver = isOver || signal != SIGINT }
    restore()
    if isOver { raise(SIGTERM) }
  }
}
