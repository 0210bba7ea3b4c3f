// Lesson 2: bind.
// Follow it with `swift run lesson2-bind`; or, without the narrator, `strace .build/debug/lesson2-bind --bare`.

import CLinux
import Glibc
import LessonSupport

let lesson = begin()
let stream = Int32(SOCK_STREAM.rawValue)  // an enum in Swift's Glibc

say("A socket, as in lesson 1. bind gives it its local address: which host, and which port.")
let first = socket(AF_INET, stream, 0)
guard first >= 0 else { fail("socket") }
var address = ipv4("127.0.0.1", lesson.port)
guard withSockaddr(address, { bind(first, $0, $1) }) == 0 else { fail("bind") }
guard withSockaddr(&address, filled: { getsockname(first, $0, $1) }) == 0 else { fail("getsockname") }
let port = UInt16(bigEndian: address.sin_port)

let range = text("/proc/sys/net/ipv4/ip_local_port_range")
say(
  lesson.port == 0
    ? "Port 0 let the kernel choose, in ip_local_port_range, \(range): \(port)." : "Port \(port), as asked.")
say("An address, and still CLOSE: the socket neither waits nor dials. But the port is taken:")
let second = socket(AF_INET, stream, 0)
guard second >= 0 else { fail("socket") }
guard withSockaddr(address, { bind(second, $0, $1) }) == -1 else { cannotShow("one port was given twice") }
guard errno == EADDRINUSE else { fail("bind") }

say("The host must be one of this machine's own. 192.0.2.1 is reserved for documentation, and nobody's.")
let elsewhere = ipv4("192.0.2.1", 0)
guard withSockaddr(elsewhere, { bind(second, $0, $1) }) == -1 else {
  cannotShow("this machine has 192.0.2.1")
}
guard errno == EADDRNOTAVAIL else { fail("bind") }

say("127.0.0.1 can be reached from this machine only. 0.0.0.0 stands for all of its addresses at once:")
var anywhere = ipv4("0.0.0.0", 0)
guard withSockaddr(anywhere, { bind(second, $0, $1) }) == 0 else { fail("bind") }
guard withSockaddr(&anywhere, filled: { getsockname(second, $0, $1) }) == 0 else { fail("getsockname") }

say("So it takes the port on every one of them, 127.0.0.1 too:")
let third = socket(AF_INET, stream, 0)
guard third >= 0 else { fail("socket") }
let covered = ipv4("127.0.0.1", UInt16(bigEndian: anywhere.sin_port))
guard withSockaddr(covered, { bind(third, $0, $1) }) == -1 else { cannotShow("one port was given twice") }
guard errno == EADDRINUSE else { fail("bind") }

// The rule of low ports, as this system has it.
let start = UInt16(text("/proc/sys/net/ipv4/ip_unprivileged_port_start")) ?? 1024
if start == 0 {
  say(
    "Do ports below 1024 need root? Not here: net.ipv4.ip_unprivileged_port_start is 0, as containers like to have it."
  )
} else {
  say(
    """
    Do ports below 1024 need root? Two things count: net.ipv4.ip_unprivileged_port_start, which is \(start) here,
    and whether the process has the capability CAP_NET_BIND_SERVICE. Try \(start - 1).
    """)
  let low = ipv4("127.0.0.1", start - 1)
  let allowed = withSockaddr(low) { bind(third, $0, $1) }
  if allowed == 0 || errno == EADDRINUSE {
    say(
      "Not refused: root has that capability. Let this process give it up, and remain root, and try once more."
    )
    guard clinux_drop_effective_capability(UInt32(CLINUX_CAP_NET_BIND_SERVICE)) == 0 else { fail("capset") }
    let fourth = socket(AF_INET, stream, 0)
    guard fourth >= 0 else { fail("socket") }
    guard withSockaddr(low, { bind(fourth, $0, $1) }) == -1 else { cannotShow("no capability was needed") }
  }
  guard errno == EACCES else { fail("bind") }
  say(
    "EACCES: \(geteuid() == 0 ? "root, and refused. It is the capability that counts" : "this process has no such capability")."
  )
}

say("An address alone brings no client. In lesson 3, listen does.")

// --- an address in C's shape, and a look into /proc ---

func ipv4(_ host: String, _ port: UInt16) -> sockaddr_in {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = inet_addr(host)
  address.sin_port = port.bigEndian  // network byte order
  return address
}

func text(_ path: String) -> String {
  let file = open(path, O_RDONLY)
  guard file >= 0 else { fail("open \(path)") }
  defer { close(file) }
  var bytes = [UInt8](repeating: 0, count: 256)
  let count = max(0, read(file, &bytes, bytes.count))
  let words = String(decoding: bytes[..<count], as: UTF8.self).split { $0 == "\t" || $0 == "\n" }
  return words.joined(separator: " to ")
}
