/// Why a program is not compared: what it did instead of its job.
struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// What programs did instead of their job. The others are shown all the same.
struct Failures {
  private(set) var all: [(wrapper: Wrapper, job: Job, reason: String)] = []

  func has(_ wrapper: Wrapper, _ job: Job) -> Bool {
    all.contains { $0.wrapper.name == wrapper.name && $0.job == job }
  }

  /// - Throws: what concerns all programs: that nobody may be followed, or that this one is to end.
  mutating func note(_ wrapper: Wrapper, _ job: Job, _ body: () throws -> Void) throws {
    do { try body() } catch let error where !(error is Refusal || error is Interrupted) {
      all.append((wrapper, job, "\(error)"))
    }
  }
}
