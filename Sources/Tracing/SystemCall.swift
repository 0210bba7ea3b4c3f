import CLinux

/// The system calls that concern sockets, the timers, signals and words between threads that an event loop waits for beside them, and
/// what has a file last, and signals that one program of a story sends to another, by the kernel's names.
///
/// See: syscalls(2)
public enum SystemCall: String, CaseIterable, Sendable, Hashable {
  case socket, socketpair, bind, listen, accept, accept4, connect
  case read, write, readv, writev, preadv2, pwritev2
  case sendto, sendmsg, sendmmsg, recvfrom, recvmsg, recvmmsg
  case shutdown, close
  case closeRange = "close_range"
  case dup, dup2, dup3, fcntl, setsockopt, getsockopt, getsockname, getpeername, ioctl, sendfile, splice
  case poll, ppoll, select, pselect6
  case epollCreate = "epoll_create"
  case epollCreate1 = "epoll_create1"
  case epollCtl = "epoll_ctl"
  case epollWait = "epoll_wait"
  case epollPwait = "epoll_pwait"
  case epollPwait2 = "epoll_pwait2"
  case ioUringSetup = "io_uring_setup"
  case ioUringEnter = "io_uring_enter"
  case ioUringRegister = "io_uring_register"
  case timerfdCreate = "timerfd_create"
  case timerfdSettime = "timerfd_settime"
  case signalfd4, eventfd2
  case fsync, fdatasync
  case kill
  case restartSyscall = "restart_syscall"

  public var name: String { rawValue }

  /// Which argument is the socket, where one argument is.
  public var descriptorArgument: Int? {
    switch self {
    case .socket, .socketpair, .closeRange, .poll, .ppoll, .select, .pselect6, .epollCreate, .epollCreate1,
      .ioUringSetup, .restartSyscall, .timerfdCreate, .signalfd4, .eventfd2, .kill:
      nil
    default: 0
    }
  }

  /// Whether a result that is not negative is a new descriptor.
  public var makesDescriptor: Bool {
    switch self {
    case .socket, .accept, .accept4, .dup, .dup2, .dup3, .epollCreate, .epollCreate1, .ioUringSetup,
      .timerfdCreate, .signalfd4, .eventfd2:
      true
    default: false
    }
  }

  /// Whether it moves bytes in or out, so that its result counts them.
  public var movesBytes: Bool {
    switch self {
    case .read, .write, .readv, .writev, .preadv2, .pwritev2, .sendto, .sendmsg, .recvfrom, .recvmsg,
      .sendfile, .splice:
      true
    default: false
    }
  }
}

/// A processor that the tables here know: its system call numbers, and the few values that differ.
public enum Architecture: String, CaseIterable, Sendable {
  case amd64, arm64

  /// The one that this program was compiled for.
  public static var native: Architecture {
    #if arch(arm64)
      .arm64
    #else
      .amd64
    #endif
  }

  /// The number of a call, or nil where the processor does not have it.
  ///
  /// See: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
  public func number(of call: SystemCall) -> Int? {
    switch self {
    case .amd64: Self.x86Numbers[call]
    case .arm64: Self.arm64Numbers[call]
    }
  }

  public func systemCall(number: Int) -> SystemCall? {
    switch self {
    case .amd64: Self.x86Calls[number]
    case .arm64: Self.arm64Calls[number]
    }
  }

  private static let common: [SystemCall: Int] = [
    .ioUringSetup: 425, .ioUringEnter: 426, .ioUringRegister: 427, .closeRange: 436, .epollPwait2: 441,
  ]

  private static let x86Numbers: [SystemCall: Int] = [
    .read: 0, .write: 1, .close: 3, .poll: 7, .ioctl: 16, .readv: 19, .writev: 20, .select: 23, .dup: 32,
    .dup2: 33,
    .sendfile: 40, .socket: 41, .connect: 42, .accept: 43, .sendto: 44, .recvfrom: 45, .sendmsg: 46,
    .recvmsg: 47,
    .shutdown: 48, .bind: 49, .listen: 50, .getsockname: 51, .getpeername: 52, .socketpair: 53,
    .setsockopt: 54,
    .getsockopt: 55, .fcntl: 72, .epollCreate: 213, .restartSyscall: 219, .epollWait: 232, .epollCtl: 233,
    .pselect6: 270, .ppoll: 271, .splice: 275, .epollPwait: 281, .accept4: 288, .epollCreate1: 291,
    .dup3: 292,
    .recvmmsg: 299, .sendmmsg: 307, .preadv2: 327, .pwritev2: 328, .timerfdCreate: 283, .timerfdSettime: 286,
    .signalfd4: 289, .eventfd2: 290, .fsync: 74, .fdatasync: 75, .kill: 62,
  ].merging(common) { own, _ in own }

  private static let arm64Numbers: [SystemCall: Int] = [
    .epollCreate1: 20, .epollCtl: 21, .epollPwait: 22, .dup: 23, .dup3: 24, .fcntl: 25, .ioctl: 29,
    .close: 57,
    .read: 63, .write: 64, .readv: 65, .writev: 66, .sendfile: 71, .pselect6: 72, .ppoll: 73, .splice: 76,
    .restartSyscall: 128, .socket: 198, .socketpair: 199, .bind: 200, .listen: 201, .accept: 202,
    .connect: 203,
    .getsockname: 204, .getpeername: 205, .sendto: 206, .recvfrom: 207, .setsockopt: 208, .getsockopt: 209,
    .shutdown: 210, .sendmsg: 211, .recvmsg: 212, .accept4: 242, .recvmmsg: 243, .sendmmsg: 269,
    .preadv2: 286, .pwritev2: 287, .eventfd2: 19, .signalfd4: 74, .timerfdCreate: 85, .timerfdSettime: 86,
    .fsync: 82, .fdatasync: 83, .kill: 129,
  ].merging(common) { own, _ in own }

  private static let x86Calls = Dictionary(uniqueKeysWithValues: x86Numbers.map { ($1, $0) })
  private static let arm64Calls = Dictionary(uniqueKeysWithValues: arm64Numbers.map { ($1, $0) })

  /// By which the kernel's interfaces name it. See: include/uapi/linux/audit.h
  var audit: UInt32 { self == .amd64 ? CLINUX_AUDIT_ARCH_X86_64 : CLINUX_AUDIT_ARCH_AARCH64 }

  /// `struct epoll_event` is packed on x86-64 and nowhere else. See: include/uapi/linux/eventpoll.h
  var epollEventSize: Int { self == .amd64 ? 12 : 16 }
}
