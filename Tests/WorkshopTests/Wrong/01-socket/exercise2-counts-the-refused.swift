// wrong: what the refused call returned is taken for a descriptor

import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too
let tcp = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)

var limit = rlimit(rlim_cur: 16, rlim_max: 16)
guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { fail("setrlimit") }

var sockets: [Int32] = []
var reason: Int32 = 0
while true {
  let descriptor = socket(AF_INET, tcp, 0)
  sockets.append(descriptor)
  if descriptor < 0 {
    reason = errno
    break
  }
}
print("\(sockets.count) sockets, then: \(String(cString: strerror(reason)))")

for descriptor in sockets {
  close(descriptor)
}
waitForEnter()

// --- words ---

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  perror(call)
  exit(1)
}

func waitForEnter() { _ = readLine() }
