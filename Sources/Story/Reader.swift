import CommandLineTool
import Glibc
import SystemCalls
import Tracing

/// Whoever reads the story: at a terminal, to be waited for after each step; and to be asked, with `--predict`.
final class Reader {
  enum Answer {
    /// What was chosen; nil for no choice, or where there was none.
    case answered(String?)
    case quit
    case interrupted(Int32)
  }

  /// So many lines that are no answer are enough.
  private static let patience = 10

  private let pause: Pause?
  private let quiz: Quiz?
  private let teller: any Teller
  /// What is to be done while somebody is waited for, as soon as this descriptor has something to read.
  var meanwhile: (descriptor: Int32, action: () -> Void)?
  /// A step was told that nobody has been waited for.
  private var isPauseDue = false

  init(pauses: Bool, predicts: Bool, teller: any Teller) {
    pause = pauses ? Pause() : nil
    quiz = predicts ? Quiz() : nil
    self.teller = teller
  }

  var hasTerminal: Bool { pause != nil }

  /// How many answers were right, of how many; nil where nothing is asked.
  var score: (right: Int, of: Int)? { quiz?.score }

  /// What is to be asked of a call, or nil.
  func question(about call: Call, sockets: [SocketSnapshot], descriptors: [Int32]) -> Question? {
    guard let quiz else { return nil }
    let text = CallText(call, memory: ProcessMemory(process: call.thread), style: .short).pending
    return quiz.question(about: call, text: text, sockets: sockets, descriptors: descriptors)
  }

  /// Asks, or waits for a key where a step was told since the last time. The program stands still meanwhile.
  func wait(asking question: Question?, hint: Hint, sockets: [SocketSnapshot], signals: Int32) -> Answer {
    guard let question else {
      defer { isPauseDue = false }
      return isPauseDue && pause != nil
        ? waitForKey([], hint, sockets, signals) { _ in [] } : .answered(nil)
    }
    isPauseDue = false
    teller.tell(.question(question))
    guard pause != nil else { return waitForLine(question.choices, signals) }
    return waitForKey(question.choices, hint, sockets, signals) { room in
      question.call.wrappedCall(to: room) + question.text.wrapped(to: room - 2).map { "  " + $0 }
        + question.choiceLines(width: room - 4).map { "    " + $0 }
    }
  }

  /// Has a lab's question answered, where there is somebody to answer it. It has been told.
  func answer(_ experiment: Experiment, hint: Hint, sockets: [SocketSnapshot], signals: Int32) -> Answer {
    if pause != nil {
      return waitForKey(experiment.choices, hint, sockets, signals) { experiment.lines(width: $0) }
    }
    return quiz == nil ? .answered(nil) : waitForLine(experiment.choices, signals)
  }

  /// Forgets keys that were pressed before now.
  func forgetKeys() { pause?.forgetKeys() }

  /// Counts an answer to a lab's question.
  func count(_ verdict: Verdict) {
    if let isRight = verdict.isRight { quiz?.count(isRight) }
  }

  /// Compares an answer with what happened.
  func judge(_ question: Question, choice: String?, step: Step, waited: Bool) -> Prediction? {
    quiz?.judge(question, choice: choice, step: step, waited: waited)
  }

  /// A step has been told.
  func note(_ step: Step) {
    quiz?.note(step)
    isPauseDue = true
  }

  /// `lines` is what was asked, for a width.
  private func waitForKey(
    _ choices: [String], _ hint: Hint, _ sockets: [SocketSnapshot], _ signals: Int32,
    asking lines: (Int) -> [String]
  ) -> Answer {
    guard let pause else { return .answered(nil) }
    _ = teller.flush()
    while true {
      switch pause.wait(hint: hint, choices: choices.count, signals: signals, meanwhile: meanwhile) {
      case .next: return .answered(nil)
      case .choice(let number): return .answered(choices[number - 1])
      case .run:
        pause.stop()
        quiz?.stop()
        return .answered(nil)
      case .everything:
        pause.show(Everything.text(of: sockets, width: pause.width))
        pause.show(lines(pause.width - 6).map { "   \($0)\n" }.joined())
      case .quit: return .quit
      case .interrupted(let signal): return .interrupted(signal)
      }
    }
  }

  private func waitForLine(_ choices: [String], _ signals: Int32) -> Answer {
    for _ in 0..<Self.patience {
      _ = teller.flush()
      switch quiz?.readChoice(of: choices.count, signals: signals, meanwhile: meanwhile) ?? .end {
      case .choice(let number): return .answered(choices[number - 1])
      case .none: return .answered(nil)
      case .nonsense(let word):
        teller.tell(
          .note(
            "'\(word.truncated(to: 20))' is no answer; the choices are 1 to \(choices.count), or an empty line."
          ))
      case .end:
        teller.tell(.note("Standard input has ended: no further questions."))
        return .answered(nil)
      case .interrupted(let signal): return .interrupted(signal)
      }
    }
    teller.tell(.note("That was no answer \(Self.patience) times in a row: no further questions."))
    quiz?.stop()
    return .answered(nil)
  }
}
