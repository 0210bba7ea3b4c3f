import CLinux
import Glibc

/// The registers of a thread that stands at a system call's entry or exit: what the call was given, and what it returns.
///
/// See: ptrace(2), PTRACE_GETREGSET; syscall(2) for which register holds what
struct Registers {
  private var words = user_regs_struct()
  private let thread: pid_t

  /// Nil where the thread does not stand still any more.
  init?(of thread: pid_t) {
    self.thread = thread
    guard Self.transfer(Int(PTRACE_GETREGSET), thread, &words) else { return nil }
  }

  /// Gives them back to the thread. False where it has gone.
  @discardableResult
  func store() -> Bool {
    var words = words
    return Self.transfer(Int(PTRACE_SETREGSET), thread, &words)
  }

  private static func transfer<Set>(_ request: Int, _ thread: pid_t, _ set: inout Set, kind: UInt = 1) -> Bool
  {
    withUnsafeMutablePointer(to: &set) { pointer in
      var vector = iovec(iov_base: pointer, iov_len: MemoryLayout<Set>.size)
      return withUnsafeMutablePointer(to: &vector) {
        clinux_ptrace(request, thread, kind /* NT_PRSTATUS */, UInt(bitPattern: $0)) != -1
      }
    }
  }

  #if arch(x86_64)
    /// A call's arguments, 0 to 5.
    subscript(argument index: Int) -> UInt64 {
      get { UInt64(words[keyPath: Self.arguments[min(max(index, 0), 5)]]) }
      set { words[keyPath: Self.arguments[min(max(index, 0), 5)]] = numericCast(newValue) }
    }

    private static var arguments: [WritableKeyPath<user_regs_struct, UInt64>] {
      [\.rdi, \.rsi, \.rdx, \.r10, \.r8, \.r9]
    }

    /// What the call returns: a negative errno where it failed.
    var result: Int64 {
      get { Int64(bitPattern: UInt64(words.rax)) }
      set { words.rax = numericCast(UInt64(bitPattern: newValue)) }
    }

    /// The number of the call that the thread is in, or has just left; negative where it is in none.
    var call: Int { Int(truncatingIfNeeded: Int64(bitPattern: UInt64(words.orig_rax))) }

    var stackPointer: UInt64 { UInt64(words.rsp) }

    /// At a call's entry: the kernel makes no call, and goes on to its exit. To be stored like the rest.
    mutating func skipCall() { words.orig_rax = .max }
  #else
    /// A call's arguments, 0 to 5.
    subscript(argument index: Int) -> UInt64 {
      get {
        let place = min(max(index, 0), 5)
        return withUnsafeBytes(of: words.regs) { $0.load(fromByteOffset: place * 8, as: UInt64.self) }
      }
      set {
        let place = min(max(index, 0), 5)
        withUnsafeMutableBytes(of: &words.regs) {
          $0.storeBytes(of: newValue, toByteOffset: place * 8, as: UInt64.self)
        }
      }
    }

    /// What the call returns: a negative errno where it failed.
    var result: Int64 {
      get { Int64(bitPattern: self[argument: 0]) }
      set { self[argument: 0] = UInt64(bitPattern: newValue) }
    }

    /// The number of the call that the thread is in, or has just left; negative where it is in none.
    var call: Int {
      var number: Int32 = -1
      return Self.transfer(Int(PTRACE_GETREGSET), thread, &number, kind: 0x404) ? Int(number) : -1
    }

    var stackPointer: UInt64 { UInt64(words.sp) }

    /// At a call's entry: the kernel makes no call, and goes on to its exit. The call's number is a register set of its own
    /// here. See: include/uapi/linux/elf.h, NT_ARM_SYSTEM_CALL
    mutating func skipCall() {
      var number: Int32 = -1
      _ = Self.transfer(Int(PTRACE_SETREGSET), thread, &number, kind: 0x404)
    }
  #endif
}
