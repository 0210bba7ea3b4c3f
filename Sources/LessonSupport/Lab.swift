import Glibc
import Story
import SystemCalls

/// Whether there is a narrator: it understands what `Aside` has.
nonisolated(unsafe) var isNarrated = false

/// Says what the kernel's state has come to, at the end of a lab's half: the effect has occurred, or it is cured. Whether it did
/// is looked at first, and `cannotShow` says if not.
///
/// - Parameters:
///   - half: which half has ended.
///   - text: what has been read, and from where.
///   - truth: the number of the choice that has come true, from 1 on.
public func verdict(_ half: Verdict.Half, _ text: String, truth: Int? = nil) {
  let line = text.split(separator: "\n").joined(separator: " ")
  if isNarrated {
    tell(.verdict(half, truth: truth ?? 0, text: line))
  } else {
    say("\(half.rawValue): \(line)")
  }
}

/// A stretch in which a timer of the kernel runs that is shorter than a narrator's patience, a delayed acknowledgement say: its
/// calls are told as ever, but nobody waits between them for a key, or until the kernel has come to rest.
public func whileTheClockRuns<Result>(_ stretch: () -> Result) -> Result {
  if isNarrated { tell(.clockRuns) }
  defer { if isNarrated { tell(.clockStands) } }
  return stretch()
}

private func tell(_ aside: Aside) {
  var line = aside.line
  line.withUTF8 { _ = write(STDOUT_FILENO, $0.baseAddress, $0.count) }
}

/// Polls until something is so. Nothing is asked of a socket that the narrator would tell, if `isSo` reads files of /proc only.
///
/// - Parameters:
///   - seconds: for how long at most.
///   - isSo: what is waited for.
/// - Returns: whether it became so.
public func wait(atMost seconds: Double, until isSo: () -> Bool) -> Bool {
  let deadline = nanoseconds() + Int(seconds * 1e9)
  while !isSo() {
    if nanoseconds() >= deadline { return false }
    usleep(2000)
  }
  return true
}
