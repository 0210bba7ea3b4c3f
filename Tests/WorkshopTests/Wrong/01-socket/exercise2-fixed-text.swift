// wrong: the reason is guessed, not asked for

import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too
let tcp = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)

var limit = rlimit(rlim_cur: 16, rlim_max: 16)
guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { fail("setrlimit") }

var sockets: [Int32] = []
while true {
  let descriptor = socket(AF_INET, tcp, 0)
  if descriptor < 0 {
    break
  }
  sockets.append(descriptor)
}
print("\(sockets.count) sockets, then: Too many open files")

for descriptor in sockets {
  guard close(descriptor) == 0 else { fail("close") }
}
waitForEnter()

// --- words ---

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  perror(call)
  exit(1)
}

func waitForEnter() { _ = readLine() }
