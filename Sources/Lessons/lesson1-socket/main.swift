// Lesson 1: socket.
// Follow it with `swift run lesson1-socket`; or, without the narrator, `strace .build/debug/lesson1-socket --bare`.

import Glibc
import LessonSupport

begin()
let stream = Int32(SOCK_STREAM.rawValue)  // an enum in Swift's Glibc

say("A program holds nothing but small numbers, its descriptors. 0, 1 and 2 are there when it starts.")
let first = socket(AF_INET, stream, 0)
guard first >= 0 else { fail("socket") }

let target = link("/proc/self/fd/\(first)")
let isListed = text("/proc/net/tcp").contains(" \(target.filter(\.isNumber)) ")
say(
  """
  A socket, and a number that leads to it: descriptor \(first) is \(target). It is no connection:
  it has no address, its state is CLOSE, and /proc/net/tcp \(isListed ? "lists it" : "does not list it").
  """)

var bytes: Int32 = 0
var length = socklen_t(MemoryLayout<Int32>.size)
guard getsockopt(first, SOL_SOCKET, SO_RCVBUF, &bytes, &length) == 0 else { fail("getsockopt") }
say(
  "Room for what arrives. The default is the middle number of tcp_rmem: \(numbers("/proc/sys/net/ipv4/tcp_rmem"))"
)
guard getsockopt(first, SOL_SOCKET, SO_SNDBUF, &bytes, &length) == 0 else { fail("getsockopt") }
say(
  "Room for what leaves. The default is the middle number of tcp_wmem: \(numbers("/proc/sys/net/ipv4/tcp_wmem"))"
)

say("Is the descriptor the socket? Make a second one with dup.")
let second = dup(first)
guard second >= 0 else { fail("dup") }

say("No new socket: two numbers, one inode. What is set through one is set for both.")
var on: Int32 = 1
guard setsockopt(second, SOL_SOCKET, SO_KEEPALIVE, &on, length) == 0 else { fail("setsockopt") }
guard getsockopt(first, SOL_SOCKET, SO_KEEPALIVE, &on, &length) == 0 else { fail("getsockopt") }

guard close(first) == 0 else { fail("close") }
say("Closing a descriptor is not closing the socket: it lives as long as one descriptor leads to it.")

let third = socket(AF_INET, stream, 0)
guard third >= 0 else { fail("socket") }
say("Another socket, under an old number: the kernel always gives the lowest one that is free.")

say("What it refuses: a stream over UDP …")
guard socket(AF_INET, stream, Int32(IPPROTO_UDP)) == -1, errno == EPROTONOSUPPORT else { fail("socket") }

var limit = rlimit(rlim_cur: rlim_t(max(second, third) + 1), rlim_max: rlim_t(max(second, third) + 1))
guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { fail("setrlimit") }
say(
  "… and one descriptor too many. setrlimit has just set the limit: numbers 0 to \(limit.rlim_cur - 1), no more."
)
guard socket(AF_INET, stream, 0) == -1, errno == EMFILE else { fail("socket") }

say("A server that never closes ends like this. In lesson 2, bind gives a socket an address.")

// --- a look into /proc: readlink, and open, read, close ---

func link(_ path: String) -> String {
  var name = [CChar](repeating: 0, count: 256)
  let length = readlink(path, &name, name.count)
  guard length >= 0 else { fail("readlink \(path)") }
  return String(decoding: name[..<length].map(UInt8.init(bitPattern:)), as: UTF8.self)
}

func text(_ path: String) -> String {
  let file = open(path, O_RDONLY)
  guard file >= 0 else { fail("open \(path)") }
  defer { close(file) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 4096)
  while case let count = read(file, &chunk, chunk.count), count > 0 { bytes += chunk[..<count] }
  return String(decoding: bytes, as: UTF8.self)
}

func numbers(_ path: String) -> String {
  text(path).split { $0 == "\t" || $0 == "\n" }.joined(separator: " ")
}
