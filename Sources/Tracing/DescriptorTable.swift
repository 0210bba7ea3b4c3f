import Glibc
import SystemCalls

/// What the descriptors of one process are, as far as it was asked: whether a call concerns a socket must be known at every
/// stop, and /proc is too slow for that.
///
/// What a descriptor is can only change through a close, a dup2 or an exec, all of which are seen; so an entry holds until
/// then.
struct DescriptorTable {
  enum Kind: Sendable {
    case socket
    /// An epoll instance, and whether a socket was ever added to it.
    case epoll(hasSockets: Bool)
    case ioUring
    /// A timer, signals or a word between threads, as a descriptor.
    case waitable
    /// A file that was synced: whoever does that means it to last, and what is written to it from then on is told.
    case lasting
    case other
  }

  /// The thread by whose number /proc is asked.
  var reader: pid_t
  private var kinds: [Int32: Kind] = [:]

  init(process: pid_t) {
    reader = process
  }

  /// The same table for a forked child.
  func copied(to process: pid_t) -> DescriptorTable {
    var copy = DescriptorTable(process: process)
    copy.kinds = kinds
    return copy
  }

  mutating func kind(_ descriptor: Int32) -> Kind {
    if let known = kinds[descriptor] { return known }
    guard descriptor >= 0, let link = destination(ofLink: "/proc/\(reader)/fd/\(descriptor)") else {
      return .other
    }
    let kind: Kind =
      if link.hasPrefix("socket:") {
        .socket
      } else if link == "anon_inode:[eventpoll]" {
        // Met for the first time: sockets may have been added before.
        .epoll(hasSockets: true)
      } else if link == "anon_inode:[io_uring]" {
        .ioUring
      } else if ["timerfd", "signalfd", "eventfd"].contains(where: { link == "anon_inode:[\($0)]" }) {
        .waitable
      } else {
        .other
      }
    kinds[descriptor] = kind
    return kind
  }

  mutating func isSocket(_ descriptor: Int32) -> Bool {
    if case .socket = kind(descriptor) { true } else { false }
  }

  private mutating func isWaitable(_ descriptor: Int32) -> Bool {
    if case .waitable = kind(descriptor) { true } else { false }
  }

  private mutating func isLasting(_ descriptor: Int32) -> Bool {
    if case .lasting = kind(descriptor) { true } else { false }
  }

  mutating func set(_ descriptor: Int32, _ kind: Kind) { kinds[descriptor] = kind }
  mutating func forget(_ descriptor: Int32) { kinds[descriptor] = nil }
  mutating func forgetAll() { kinds = [:] }

  /// The sockets that the process has open now, by what /proc lists; nil where it may not be asked.
  mutating func openSockets() -> [Int32]? {
    numberedEntries(ofDirectory: "/proc/\(reader)/fd")?.filter { isSocket($0) }
  }
}

extension DescriptorTable {
  /// Whether a call that is about to run has to do with a socket.
  mutating func concerns(_ call: Call) -> Bool {
    let arguments = call.arguments
    switch call.systemCall {
    case .socket, .socketpair, .bind, .listen, .accept, .accept4, .connect, .shutdown, .getsockname,
      .getpeername,
      .setsockopt, .getsockopt, .sendto, .sendmsg, .sendmmsg, .recvfrom, .recvmsg, .recvmmsg, .ioUringSetup,
      .epollCreate, .epollCreate1, .timerfdCreate, .signalfd4, .eventfd2:
      return true
    case .close:
      // An epoll instance's end is told, as its beginning was.
      if case .other = kind(arguments.int(0)) { return false }
      return true
    case .timerfdSettime: return isWaitable(arguments.int(0))
    case .fsync, .fdatasync:
      set(arguments.int(0), .lasting)
      return true
    case .write, .writev:
      return isSocket(arguments.int(0)) || isWaitable(arguments.int(0)) || isLasting(arguments.int(0))
    case .read: return isSocket(arguments.int(0)) || isWaitable(arguments.int(0))
    case .readv, .preadv2, .pwritev2, .dup, .fcntl, .ioctl: return isSocket(arguments.int(0))
    case .dup2, .dup3, .sendfile: return isSocket(arguments.int(0)) || isSocket(arguments.int(1))
    case .splice: return isSocket(arguments.int(0)) || isSocket(arguments.int(2))
    case .closeRange:
      let (first, last) = (UInt32(truncatingIfNeeded: arguments[0]), UInt32(truncatingIfNeeded: arguments[1]))
      return (openSockets() ?? []).contains { UInt32($0) >= first && UInt32($0) <= last }
    case .poll, .ppoll:
      struct Entry: BitwiseCopyable {
        var descriptor: Int32
        var events: UInt32
      }
      let count = min(Int(UInt32(truncatingIfNeeded: arguments[1])), 4096)
      let entries = ProcessMemory(process: reader).values(Entry.self, at: arguments[0], count: count)
      for entry in entries where entry.descriptor >= 0 && isSocket(entry.descriptor) { return true }
      return false
    case .select, .pselect6:
      let count = Int(min(max(0, arguments.int(0)), 4096))
      for index in 1...3 where arguments[index] != 0 {
        let words = ProcessMemory(process: reader).values(
          UInt64.self, at: arguments[index], count: (count + 63) / 64)
        for (place, word) in words.enumerated() where word != 0 {
          for bit in 0..<64 where word >> UInt64(bit) & 1 == 1 && isSocket(Int32(place * 64 + bit)) {
            return true
          }
        }
      }
      return false
    case .epollCtl:
      guard isSocket(arguments.int(2)) || isWaitable(arguments.int(2)) else { return false }
      set(arguments.int(0), .epoll(hasSockets: true))
      return true
    case .epollWait, .epollPwait, .epollPwait2:
      if case .epoll(let hasSockets) = kind(arguments.int(0)) { return hasSockets }
      return true
    case .ioUringEnter, .ioUringRegister, .restartSyscall: return true
    // The tracer knows whom it means.
    case .kill: return false
    }
  }

  /// Forgets the descriptors that a call closes.
  mutating func forgetClosed(by call: Call) {
    switch call.systemCall {
    case .close: forget(call.arguments.int(0))
    case .closeRange: forgetAll()
    case .dup2, .dup3: forget(call.arguments.int(1))
    default: break
    }
  }

  /// Follows what a call has done to the table.
  mutating func apply(_ call: Call) {
    forgetClosed(by: call)
    if call.systemCall == .socketpair, call.result == 0 {
      for end in ProcessMemory(process: reader).values(Int32.self, at: call.arguments[3], count: 2) {
        set(end, .socket)
      }
    }
    guard let new = call.newDescriptor else { return }
    switch call.systemCall {
    case .socket, .accept, .accept4: set(new, .socket)
    case .epollCreate, .epollCreate1: set(new, .epoll(hasSockets: false))
    case .ioUringSetup: set(new, .ioUring)
    case .timerfdCreate, .signalfd4, .eventfd2: set(new, .waitable)
    default: set(new, kind(call.arguments.int(0)))
    }
  }
}
