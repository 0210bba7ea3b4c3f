import CommandLineTool

/// What a lab asks before it begins: what will the kernel do?
public struct Experiment: Sendable {
  public let question: String
  /// The answers to choose from. Which one is right, the run decides.
  public let choices: [String]

  public init(question: String, choices: [String]) {
    self.question = question
    self.choices = choices
  }
}

extension Experiment {
  /// For a reader: the question, and the choices with their numbers.
  func lines(width: Int) -> [String] {
    question.wrapped(to: width)
      + choices.enumerated().flatMap { index, choice in
        choice.wrapped(to: width - 6).enumerated().map { $0 == 0 ? "  [\(index + 1)] \($1)" : "      \($1)" }
      }
  }
}

/// What a lab has read from the kernel's state at the end of one of its halves.
public struct Verdict: Sendable {
  public enum Half: String, Sendable, CaseIterable {
    /// The effect that the lab is about has occurred.
    case broken
    /// With the cure it does not.
    case cured
  }

  public let half: Half
  public let text: String
  /// Which of the experiment's choices has come true; nil where this half decides nothing about it.
  public let truth: String?
  /// What was foreseen; nil where nothing was.
  public let guess: String?

  /// Nil where there is nothing to compare.
  public var isRight: Bool? {
    guard let truth, let guess else { return nil }
    return truth == guess
  }
}

/// What a lab tells its narrator, and nobody else: one write to its standard output, marked at its beginning.
public enum Aside: Sendable, Hashable {
  /// From here on a timer of the kernel runs that the lab is about: nobody may wait for a key, or for quiet.
  case clockRuns
  case clockStands
  /// `truth` is the number of a choice, from 1 on, or 0.
  case verdict(Verdict.Half, truth: Int, text: String)

  /// A byte that no text has: RS, record separator (ASCII).
  private static let sign = "\u{1e}"

  public var line: String {
    switch self {
    case .clockRuns: "\(Self.sign)clock runs\n"
    case .clockStands: "\(Self.sign)clock stands\n"
    case .verdict(let half, let truth, let text): "\(Self.sign)verdict \(half.rawValue) \(truth) \(text)\n"
    }
  }

  /// Nil for ordinary words.
  init?(_ words: String) {
    guard words.hasPrefix(Self.sign) else { return nil }
    let line = words.dropFirst()
    switch line {
    case "clock runs": self = .clockRuns
    case "clock stands": self = .clockStands
    default:
      let parts = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
      guard parts.count == 4, parts[0] == "verdict", let half = Verdict.Half(rawValue: String(parts[1])),
        let truth = Int(parts[2])
      else { return nil }
      self = .verdict(half, truth: truth, text: String(parts[3]))
    }
  }
}
