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

// TODO 1: make the socket, close-on-exec from the start. Look at what the call returns.
// (SOCK_STREAM and its like are enums in Swift's Glibc; what the call takes is an Int32 of their rawValue.)
let first: Int32 = -1
print("socket: descriptor \(first)")
waitForEnter()

// TODO 2: make the second descriptor.
let second: Int32 = -1
print("dup: descriptor \(second)")
waitForEnter()

// TODO 3: close the first one.
print("one closed")
waitForEnter()

// TODO 4: close the second one.
print("both closed")
waitForEnter()

// --- words ---

/// Says which call failed, and why, and ends the program.
func fail(_ call: String) -> Never {
  perror(call)
  exit(1)
}

func waitForEnter() { _ = readLine() }
