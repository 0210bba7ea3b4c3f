import CLinux
import Glibc
import SystemCalls

/// A network namespace of one's own: its loopback interface, its ports, nobody else's packets. An ordinary user may have one
/// in a user namespace of his own, and in it may listen to packets.
///
/// See: network_namespaces(7), user_namespaces(7)
public enum Isolation {
  /// Moves this process, and what it will start, into a new network namespace, and brings its loopback interface up. Who may not
  /// do so gets a new user namespace first; root keeps the one that it has, and with it all its powers.
  ///
  /// Users and groups keep their numbers, so that what an ordinary user starts from here has no capabilities, as ever.
  ///
  /// - Parameter port: one to be bound by what is started. A low one is allowed there, to everybody; 0 changes nothing.
  /// - Returns: whether there is a new user namespace.
  /// - Throws: what the system refused. EINVAL where this process has more than one thread.
  public static func enter(allowing port: UInt16 = 0) throws(SystemCallError) -> Bool {
    let isOwner = clinux_unshare(CLINUX_CLONE_NEWNET) == 0
    if !isOwner { try enterUserNamespace() }
    try systemCall("ioctl", "SIOCSIFFLAGS lo") { clinux_interface_up("lo") }
    let start = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    if port > 0, let lowest = text(ofFile: start).flatMap({ UInt16($0.prefix { $0.isNumber }) }),
      port < lowest
    {
      try write("\(port)", to: start)
    }
    return !isOwner
  }

  private static func enterUserNamespace() throws(SystemCallError) {
    let user = geteuid()
    let group = getegid()
    try systemCall("unshare", "CLONE_NEWUSER|CLONE_NEWNET") {
      clinux_unshare(CLINUX_CLONE_NEWUSER | CLINUX_CLONE_NEWNET)
    }
    // Without this an ordinary user may not map a group. See: user_namespaces(7)
    try write("deny", to: "/proc/self/setgroups")
    try write("\(user) \(user) 1", to: "/proc/self/uid_map")
    try write("\(group) \(group) 1", to: "/proc/self/gid_map")
  }

  private static func write(_ text: String, to path: String) throws(SystemCallError) {
    let file = try Descriptor.open(path, O_WRONLY)
    let bytes = Array(text.utf8)
    // One write: these files take no second one.
    try systemCall("write", path) { Glibc.write(file.number, bytes, bytes.count) }
  }
}
