import CommandLineTool
import Glibc
import SystemCalls

/// Why tracing was refused, and what to do.
public enum TracingRefusal {
  /// One line that says what to do.
  public static func explain(_ error: SystemCallError, attachingTo process: pid_t? = nil) -> Complaint {
    switch (error.call, error.errno.rawValue) {
    case ("ptrace", ESRCH):
      if let process { return Complaint("there is no process \(process)") }
      return Complaint("\(error)")
    case ("ptrace", EPERM):
      if let process {
        let thread = error.asked.split(separator: " ").last.flatMap { pid_t($0) } ?? process
        return Complaint("process \(process) cannot be followed: \(reason(thread, of: process)) (\(error))")
      }
      let scope =
        text(ofFile: "/proc/sys/kernel/yama/ptrace_scope").flatMap { Int($0.prefix { $0 != "\n" }) } ?? 0
      let cause =
        scope >= 2
        ? "kernel.yama.ptrace_scope is \(scope); as root: sysctl kernel.yama.ptrace_scope=1"
        : "is it traced already, by strace or a debugger? In a container, add the SYS_PTRACE capability"
      return Complaint("the kernel does not let this program be traced (\(error)): \(cause)")
    case ("ptrace", EIO), ("ptrace", EINVAL):
      return Complaint("this kernel cannot say which call a program makes (\(error)); Linux 5.3 or later can")
    case ("ptrace", ENOSYS):
      return Complaint("this system has no ptrace (\(error)); gVisor and some containers leave it out")
    case (_, EMFILE), (_, ENFILE):
      return Complaint("\(error): raise the limit of open files; ulimit -n 64 is enough here")
    case ("posix_spawn", EAGAIN): return Complaint("\(error): no more processes are allowed; see ulimit -u")
    default: return Complaint("\(error)")
    }
  }

  /// Why a running process may not be attached to.
  private static func reason(_ thread: pid_t, of process: pid_t) -> String {
    let status = ProcessStatus(of: thread)
    if process == getpid() { return "it is this very program" }
    if let tracer = status?.number("TracerPid"), tracer != 0 {
      let name =
        text(ofFile: "/proc/\(tracer)/comm")?.split(separator: "\n").first.map { "\($0)" }
        ?? "another program"
      return
        "\(name.printable), pid \(tracer), traces \(thread == process ? "it" : "its thread \(thread)") already"
    }
    if status?.hasEnded ?? false {
      return "it has ended, and its parent has not asked how"
    }
    if status?.number("Kthread") == 1 { return "it is a thread of the kernel" }
    if let user = status?.number("Uid"), user != Int(geteuid()), geteuid() != 0 {
      return "it belongs to user \(user); as root it can be"
    }
    let scope =
      text(ofFile: "/proc/sys/kernel/yama/ptrace_scope").flatMap { Int($0.prefix { $0 != "\n" }) } ?? 0
    if scope > 0, geteuid() != 0 {
      return
        "kernel.yama.ptrace_scope is \(scope), so only root may; or, as root: sysctl kernel.yama.ptrace_scope=0"
    }
    return "it is protected (prctl PR_SET_DUMPABLE), or a container forbids it: add the SYS_PTRACE capability"
  }
}
