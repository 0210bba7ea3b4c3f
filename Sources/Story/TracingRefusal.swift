import CommandLineTool
import Glibc
import SystemCalls

/// Why tracing was refused, and what to do.
enum TracingRefusal {
  static func explain(_ error: SystemCallError) -> Complaint {
    switch (error.call, error.errno.rawValue) {
    case ("ptrace", EPERM):
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
}
