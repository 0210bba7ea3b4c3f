import CLinux
import Glibc
import SystemCalls

/// The program's side of its start: it waits until its tracer holds it, and only then installs the filter that stops it at
/// socket calls. Were the filter there first, early calls would get ENOSYS.
public enum Launcher {
  /// The hidden word by which a tool starts itself again as the program to be followed; two descriptors follow:
  /// where it says that it is there, and where it waits until it may go on.
  static let word = "--started-by-its-tracer"

  /// What is left of a command line that `Tracer.start` made, once this process is traced and filtered; nil for any other
  /// command line.
  ///
  /// Ends the process where it was not started by a tracer, or its tracer is gone.
  public static func becomeTraced(_ arguments: [String]) -> [String]? {
    guard arguments.first == word else { return nil }
    guard arguments.count >= 3, let ready = Int32(arguments[1]), let gate = Int32(arguments[2]) else {
      refuse("is for this program's own use")
    }
    var byte: UInt8 = 0
    // The tracer waits for this, so as not to take the exec that led here for one of the program's own.
    guard let told = try? systemCall("write", "ready", { write(ready, &byte, 1) }), told == 1 else {
      refuse("is for this program's own use")
    }
    close(ready)
    // The gate opens when the tracer has seized this process; end of file means that it could not, and has said so.
    guard let opened = try? systemCall("read", "gate", { read(gate, &byte, 1) }), opened == 1 else {
      exit(127)
    }
    close(gate)
    do throws(SystemCallError) {
      try SocketFilter.install()
    } catch {
      refuse(
        "cannot install the filter that finds socket calls (\(error)); does the container forbid seccomp?")
    }
    return Array(arguments.dropFirst(3))
  }

  /// Becomes another program, which finds `name`, or else the command's first word, as its own name. Returns only where
  /// that failed.
  public static func execute(_ command: [String], named name: String? = nil) -> ErrorNumber {
    let path = command.first ?? ""
    let command = [name ?? path] + command.dropFirst()
    var words: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) } + [nil]
    execvp(path, &words)
    return .last
  }

  private static func refuse(_ reason: String) -> Never {
    let text = "\(word) \(reason)\n"
    _ = Array(text.utf8).withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    exit(2)
  }
}

/// A seccomp filter that hands the calls of `SystemCall` to the tracer and lets all others run at full speed.
///
/// See: seccomp(2), include/uapi/linux/filter.h
enum SocketFilter {
  /// The program: is it this processor's own calling convention? Then: is the number one of ours?
  static func program(for architecture: Architecture = .native) -> [sock_filter] {
    let load = UInt16(BPF_LD | BPF_W | BPF_ABS)
    let equal = UInt16(BPF_JMP | BPF_JEQ | BPF_K)
    let answer = UInt16(BPF_RET | BPF_K)
    let numbers = SystemCall.allCases.compactMap { architecture.number(of: $0) }.sorted()
    var program = [
      sock_filter(code: load, jt: 0, jf: 0, k: UInt32(MemoryLayout<seccomp_data>.offset(of: \.arch) ?? 4)),
      sock_filter(code: equal, jt: 0, jf: UInt8(numbers.count + 1), k: architecture.audit),
      sock_filter(code: load, jt: 0, jf: 0, k: UInt32(MemoryLayout<seccomp_data>.offset(of: \.nr) ?? 0)),
    ]
    for (index, number) in numbers.enumerated() {
      program.append(sock_filter(code: equal, jt: UInt8(numbers.count - index), jf: 0, k: UInt32(number)))
    }
    program.append(sock_filter(code: answer, jt: 0, jf: 0, k: CLINUX_SECCOMP_RET_ALLOW))
    program.append(sock_filter(code: answer, jt: 0, jf: 0, k: CLINUX_SECCOMP_RET_TRACE))
    return program
  }

  /// Installs it for this thread, and all that it will start.
  static func install() throws(SystemCallError) {
    var instructions = program()
    func load() -> Int32 {
      instructions.withUnsafeMutableBufferPointer { buffer in
        var program = sock_fprog(len: UInt16(buffer.count), filter: buffer.baseAddress)
        return clinux_seccomp_set_filter(0, &program)
      }
    }
    // With CAP_SYS_ADMIN the program may go on to gain privileges; without, it must give that up first.
    if load() == 0 { return }
    try systemCall("prctl", "PR_SET_NO_NEW_PRIVS") { clinux_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }
    try systemCall("seccomp", "SECCOMP_SET_MODE_FILTER", load)
  }
}
