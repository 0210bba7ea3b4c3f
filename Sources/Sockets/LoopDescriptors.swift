import CLinux
import Glibc
import SystemCalls

/// Time, as a descriptor. See: timerfd_create(2)
public final class LoopTimer: EventHandler {
  private let timer: Descriptor
  private unowned let loop: EventLoop
  private let action: (UInt64) -> Void

  /// A timer that does not run yet. The loop keeps it until `close`. The action is told how often it has run out since the last
  /// time: more than once where the process was busy, or stopped.
  public init(on loop: EventLoop, _ action: @escaping (UInt64) -> Void) throws(SystemCallError) {
    self.loop = loop
    self.action = action
    timer = Descriptor(
      owning: try systemCall("timerfd_create") {
        timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC | TFD_NONBLOCK))
      })
    try loop.add(timer.number, for: .readable, self)
  }

  /// Calls the action after so many milliseconds, from 1 on, once or again and again. A timer that runs starts anew.
  public func start(milliseconds: Int, repeats: Bool = false) {
    set(timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000), repeats: repeats)
  }

  /// Calls the action at a time of CLOCK_MONOTONIC, in nanoseconds, or at once where that is over.
  public func start(at time: UInt64) {
    // All zero would stop it.
    let time = max(time, 1)
    let moment = timespec(tv_sec: Int(time / 1_000_000_000), tv_nsec: Int(time % 1_000_000_000))
    var setting = itimerspec(it_interval: timespec(tv_sec: 0, tv_nsec: 0), it_value: moment)
    timerfd_settime(timer.number, Int32(TFD_TIMER_ABSTIME), &setting, nil)
  }

  public func stop() { set(timespec(tv_sec: 0, tv_nsec: 0), repeats: false) }

  private func set(_ time: timespec, repeats: Bool) {
    var setting = itimerspec(it_interval: repeats ? time : timespec(tv_sec: 0, tv_nsec: 0), it_value: time)
    timerfd_settime(timer.number, 0, &setting, nil)
  }

  public func ready(_ readiness: Readiness) {
    var expirations: UInt64 = 0
    guard read(timer.number, &expirations, 8) == 8 else { return }
    action(expirations)
  }

  /// The loop lets go of it; its descriptor is closed with the last reference.
  public func close() { loop.forget(timer.number) }
}

/// Signals, as a descriptor: they interrupt no call, and are dealt with where everything else is. For as long as the loop lives.
/// See: signalfd(2)
public final class LoopSignals: EventHandler {
  private let signals: Descriptor
  private let action: (Int32) -> Void

  /// Blocks the signals on this thread; threads that it starts from here on inherit that.
  public init(_ numbers: [Int32], on loop: EventLoop, _ action: @escaping (Int32) -> Void)
    throws(SystemCallError)
  {
    self.action = action
    var set = sigset_t()
    sigemptyset(&set)
    for number in numbers { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    signals = Descriptor(
      owning: try systemCall("signalfd") { signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK)) })
    try loop.add(signals.number, for: .readable, self)
  }

  public func ready(_ readiness: Readiness) {
    var info = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    while read(signals.number, &info, size) == size { action(Int32(bitPattern: info.ssi_signo)) }
  }
}

/// A word from another thread, as a descriptor. For as long as the loop lives. See: eventfd(2)
public final class LoopWaker: EventHandler {
  private let event: Descriptor
  private let action: () -> Void

  public init(on loop: EventLoop, _ action: @escaping () -> Void) throws(SystemCallError) {
    self.action = action
    event = Descriptor(
      owning: try systemCall("eventfd") { eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) })
    try loop.add(event.number, for: .readable, self)
  }

  /// What another thread may have of it.
  public struct Handle: Sendable {
    fileprivate let number: Int32

    /// Has the action called on the loop's thread; several at once may be one. From any thread, while the loop lives.
    public func wake() {
      var one: UInt64 = 1
      _ = write(number, &one, 8)
    }
  }

  public var handle: Handle { Handle(number: event.number) }

  public func ready(_ readiness: Readiness) {
    var count: UInt64 = 0
    guard read(event.number, &count, 8) == 8 else { return }
    action()
  }
}
