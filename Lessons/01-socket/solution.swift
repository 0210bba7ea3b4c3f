// Lesson 1, first exercise: one socket, two descriptors.
//
// The program
//   1. makes a TCP socket (IPv4), whose descriptor is close-on-exec, and prints "socket: descriptor N";
//   2. makes a second descriptor of the same socket, and prints "dup: descriptor N";
//   3. closes the first one: the socket is still there;
//   4. closes the second one: the socket is gone.
// After each of these it waits for Enter, so that one can look at it. At the end its status is 0. If the
// kernel refuses a call, the program says so on standard error, and its status is 1: fail does that.
//
// - Arguments: none.
// - Try it: swiftc -I Sources/CLinux Lessons/01-socket/exercise.swift -o /tmp/try && /tmp/try
//   and while it waits, in a second terminal: ls -l /proc/PID/fd
// - New: socket, dup, close. See: socket(2), dup(2), close(2)

import Glibc

setvbuf(stdout, nil, _IOLBF, 0)  // each line at once, in a pipe too

// Close-on-exec: a program that this one may start one day does not get the socket, too.
let first = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
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
