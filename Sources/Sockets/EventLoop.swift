import CLinux
import Glibc
import SystemCalls

/// What a descriptor is ready for. See: epoll_ctl(2)
public struct Readiness: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// A read would not wait; at the end of the stream, or after an error, it would not either.
  public static let readable = Readiness(rawValue: EPOLLIN.rawValue)
  /// A write would not wait.
  public static let writable = Readiness(rawValue: EPOLLOUT.rawValue)
  /// The connection is over in both directions. Always reported.
  public static let hungUp = Readiness(rawValue: EPOLLHUP.rawValue)
  /// An error waits to be read. Always reported.
  public static let failed = Readiness(rawValue: EPOLLERR.rawValue)
}

/// Who is told that a descriptor is ready.
public protocol EventHandler: AnyObject {
  func ready(_ readiness: Readiness)
}

/// One thread, many descriptors: waits until some of them are ready, and tells their handlers, one after the other.
///
/// Level-triggered: what is not dealt with is reported again. So a handler does a bounded piece of work each time, one read
/// say, and a busy peer gets no more turns than the others. A loop belongs to the thread that runs it.
///
/// See: epoll(7)
public final class EventLoop {
  private let epoll: Descriptor
  private let events: UnsafeMutableBufferPointer<epoll_event>
  private struct Watch {
    var handler: (any EventHandler)?
    /// Which of those that have had this number: an event of a closed one may still be under way.
    var generation: UInt32 = 0
  }

  /// By descriptor: the kernel always gives the lowest free number.
  private var watches: [Watch] = []
  private var isStopped = false
  /// Is called when all that were ready have been told, and before the kernel is asked again: for what is better done once for all
  /// of them.
  public var atTurnsEnd: () -> Void = {}

  /// Room for one read, which all handlers of this loop share: no idle connection holds a buffer.
  public let scratch: UnsafeMutableRawBufferPointer

  /// At most so many are told before the kernel is asked again.
  private static let batch = 512

  /// - Parameter scratchSize: bytes; one read takes no more.
  /// - Throws: EMFILE, ENFILE or ENOMEM of `epoll_create1`.
  public init(scratchSize: Int = 64 * 1024) throws(SystemCallError) {
    epoll = Descriptor(
      owning: try systemCall("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    events = .allocate(capacity: Self.batch)
    scratch = .allocate(byteCount: scratchSize, alignment: 16)
  }

  deinit {
    events.deallocate()
    scratch.deallocate()
  }

  /// Watches a descriptor from now on.
  ///
  /// - Throws: ENOSPC where /proc/sys/fs/epoll/max_user_watches is reached, EPERM for a file that cannot be waited for.
  public func add(_ descriptor: Int32, for interest: Readiness, _ handler: any EventHandler)
    throws(SystemCallError)
  {
    let place = Int(descriptor)
    if place >= watches.count { watches += Array(repeating: Watch(), count: place + 1 - watches.count) }
    watches[place].generation &+= 1
    try control(EPOLL_CTL_ADD, descriptor, interest)
    watches[place].handler = handler
  }

  /// Watches it for something else; for nothing but its end with `[]`.
  public func change(_ descriptor: Int32, to interest: Readiness) throws(SystemCallError) {
    try control(EPOLL_CTL_MOD, descriptor, interest)
  }

  /// Forgets a descriptor, which is then to be closed: that takes it out of the kernel's list, too.
  public func forget(_ descriptor: Int32) {
    if watches.indices.contains(Int(descriptor)) { watches[Int(descriptor)].handler = nil }
  }

  /// Forgets a descriptor that stays open.
  public func remove(_ descriptor: Int32) throws(SystemCallError) {
    forget(descriptor)
    try control(EPOLL_CTL_DEL, descriptor, [])
  }

  private func control(_ operation: Int32, _ descriptor: Int32, _ interest: Readiness) throws(SystemCallError)
  {
    var event = epoll_event()
    event.events = interest.rawValue
    guard watches.indices.contains(Int(descriptor)) else {
      throw SystemCallError(call: "epoll_ctl", asked: "\(descriptor)", errno: ErrorNumber(EBADF))
    }
    event.data.u64 = UInt64(watches[Int(descriptor)].generation) << 32 | UInt64(descriptor)
    try systemCall("epoll_ctl", "\(descriptor)") { epoll_ctl(epoll.number, operation, descriptor, &event) }
  }

  /// Ends `run` when the handlers of this turn have been told.
  public func stop() { isStopped = true }

  /// Waits and tells, until `stop`.
  ///
  /// - Throws: what `epoll_wait` failed with.
  public func run() throws(SystemCallError) {
    while !isStopped {
      let count = try systemCall("epoll_wait") {
        epoll_wait(epoll.number, events.baseAddress, Int32(Self.batch), -1)
      }
      for place in 0..<Int(count) {
        let event = events[place]
        let watch = watches[Int(UInt32(truncatingIfNeeded: event.data.u64))]
        // What an earlier handler of this turn has forgotten is nobody's, and may be another's by now.
        guard let handler = watch.handler, watch.generation == UInt32(event.data.u64 >> 32) else { continue }
        handler.ready(Readiness(rawValue: event.events))
      }
      atTurnsEnd()
    }
  }
}
