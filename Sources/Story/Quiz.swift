import CommandLineTool
import Glibc
import SystemCalls
import Tracing

/// Asks, and keeps the score.
final class Quiz {
  private(set) var score: (right: Int, of: Int) = (0, 0)
  /// What was answered right once is not asked again.
  private var known: Set<String> = []
  /// The lengths of the last writes of the program.
  private var recent: [Int64] = []
  private var isOver = false
  private var lines = AnswerLines()

  /// What is to be asked of a call, or nil.
  func question(about call: Call, text: String, sockets: [SocketSnapshot], descriptors: [Int32]) -> Question?
  {
    guard !isOver else { return nil }
    let question = Question.about(
      call, text: text, sockets: sockets, descriptors: descriptors, recent: recent)
    return question.flatMap { known.contains($0.key) ? nil : $0 }
  }

  /// No further questions.
  func stop() { isOver = true }

  /// Reads a line with the number of a choice from standard input.
  func readChoice(of count: Int, signals: Int32, meanwhile: (descriptor: Int32, action: () -> Void)?)
    -> AnswerLines.Answer
  {
    let answer = lines.next(of: count, signals: signals, meanwhile: meanwhile)
    if case .end = answer { isOver = true }
    return answer
  }

  /// Compares the answer with what happened.
  func judge(_ question: Question, choice: String?, step: Step, waited: Bool) -> Prediction {
    let prediction = Prediction(
      step: step.number, question: question, choice: choice, truths: question.answer(step, waited))
    if let isRight = prediction.isRight {
      score.of += 1
      if isRight {
        score.right += 1
        known.insert(question.key)
      }
    }
    return prediction
  }

  func count(_ isRight: Bool) {
    score.of += 1
    if isRight { score.right += 1 }
  }

  /// Remembers what the program has written.
  func note(_ step: Step) {
    switch step.call.systemCall {
    case .write, .sendto: if let count = step.call.result, count > 0 { recent = (recent + [count]).suffix(2) }
    case .read, .recvfrom: recent = []
    default: break
    }
  }
}

/// The answers on standard input, one number a line.
struct AnswerLines {
  enum Answer {
    /// From 1 on.
    case choice(Int)
    case none
    /// What stood there, and is no answer.
    case nonsense(String)
    case end
    case interrupted(Int32)
  }

  private var unread: [UInt8] = []
  private var isAtEnd = false

  /// Waits for a line. An empty one chooses nothing.
  mutating func next(of count: Int, signals: Int32, meanwhile: (descriptor: Int32, action: () -> Void)?)
    -> Answer
  {
    while true {
      if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
        let line = String(decoding: unread[..<end], as: UTF8.self)
        unread.removeSubrange(...end)
        return answer(line, of: count)
      }
      if isAtEnd || unread.count > 4096 {
        let line = String(decoding: unread, as: UTF8.self)
        unread = []
        return line.isEmpty ? .end : answer(line, of: count)
      }
      var entries = [
        pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
        pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
        pollfd(fd: meanwhile?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
      ]
      guard (try? systemCall("poll", "", { poll(&entries, 3, -1) })) != nil else { return .end }
      if entries[2].revents != 0 { meanwhile?.action() }
      if entries[1].revents != 0, let signal = Pause.signal(from: signals) { return .interrupted(signal) }
      guard entries[0].revents != 0 else { continue }
      var chunk = [UInt8](repeating: 0, count: 4096)
      let got = (try? systemCall("read", "stdin", { read(STDIN_FILENO, &chunk, chunk.count) })) ?? 0
      if got == 0 { isAtEnd = true } else { unread += chunk[..<got] }
    }
  }

  private func answer(_ line: String, of count: Int) -> Answer {
    let word = line.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    if word.isEmpty { return .none }
    guard let number = Int(word), (1...count).contains(number) else { return .nonsense(word) }
    return .choice(number)
  }
}
