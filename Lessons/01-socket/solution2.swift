// Lesson 1, second exercise: an error is a result.
//
// The program makes TCP sockets until the kernel refuses one. It prints how many it got, and why no more:
//     13 sockets, then: Too many open files
// Then it closes them all, waits for Enter, and ends with status 0.
//
// The kernel may refuse at any call, the first one too, and for any reason: the text is errno's (strerror).
// The limit of 16 descriptors, which the program sets for itself, is there so that it is over soon.
//
// - Arguments: none.
// - Known: socket, close. New: errno.
// - See: socket(2) for its errors, errno(3), strerror(3), getrlimit(2)

import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too
let tcp = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)

var limit = rlimit(rlim_cur: 16, rlim_max: 16)
guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { fail("setrlimit") }

var sockets: [Int32] = []
var reason: Int32 = 0
while true {
  let descriptor = socket(AF_INET, tcp, 0)
  if descriptor < 0 {
    reason = errno  // saved at once: any further call may change it
    break
  }
  sockets.append(descriptor)
}
print("\(sockets.count) sockets, then: \(String(cString: strerror(reason)))")

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
