/// What came of judging one program.
public struct Verdict: Sendable {
  public let hasPassed: Bool
  /// As it is printed, with a newline at its end; empty where it has passed.
  public let text: String
  /// Faults that a check wants to be done to calls, and that were not done, since the program makes no such call: "1 MiB:
  /// write:length=5". They prove nothing.
  public let unused: [String]
  /// What a passed check has seen, a line for each trial.
  public let trials: [String]
}
