/// What came of judging one program.
public struct Verdict: Sendable {
  public let hasPassed: Bool
  /// As it is printed, with a newline at its end; empty where it has passed.
  public let text: String
  /// What a passed check has seen, a line for each trial.
  public let trials: [String]
}
