/// How long to wait before the next try: twice as long each time, from half a second to half a minute, and a part of it left to
/// chance, so that many who have lost the same server do not come back all at once.
struct Backoff {
  private var failures = 0

  static let (least, most) = (500, 30_000)

  /// In milliseconds: from half of the step to all of it, but not less than half a second.
  mutating func next(using generator: inout some RandomNumberGenerator) -> Int {
    let step = min(Self.most, Self.least << min(failures, 10))
    failures += 1
    return max(Self.least, Int.random(in: step / 2...step, using: &generator))
  }

  /// All is well again.
  mutating func reset() { failures = 0 }
}
