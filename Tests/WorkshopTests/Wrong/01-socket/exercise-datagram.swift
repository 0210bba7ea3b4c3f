// wrong: a UDP socket

import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

// Close-on-exec: a program that this one may start one day does not get the socket, too.
let first = socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
guard first >= 0 else { fail("socket") }
print("socket: descriptor \(first)")
waitForEnter()

let second = dup(first)
guard second >= 0 else { fail("dup") }
print("dup: descriptor \(second)")
waitForEnter()

guard close(first) == 0 else { fail("close") }
print("one closed")
waitForEnter()

guard close(second) == 0 else { fail("close") }
print("both closed")
waitForEnter()

// --- words ---

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  perror(call)
  exit(1)
}

func waitForEnter() { _ = readLine() }
