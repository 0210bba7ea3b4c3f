/// What was not as it was to be.
struct Failure: Error, Sendable {
  /// "the 5 bytes "hello" come back on connection a"
  var expected: String
  /// What the kernel shows instead.
  var observed: [String]
  /// Bytes that differ from what was to come.
  var difference: ByteDifference?
  /// The likely missing call.
  var missing: String?
  var hint: String?
  /// The check's own hint, which is for this very failure.
  var isHintTheChecks = false

  init(
    _ expected: String, observed: [String], difference: ByteDifference? = nil, missing: String? = nil,
    hint: String? = nil
  ) {
    self.expected = expected
    self.observed = observed
    self.difference = difference
    self.missing = missing
    self.hint = hint
  }
}
