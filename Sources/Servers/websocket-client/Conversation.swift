import CommandLineTool
import Glibc
import Sockets
import SystemCalls
import WebSockets

/// What is said over a WebSocket, and shown.
final class Conversation {
  private let client: WebSocketClient
  private let interruption: Interruption
  private let output = Output(descriptor: STDOUT_FILENO)
  private let isAtTerminal = Terminal(descriptor: STDOUT_FILENO).isTerminal
  /// What has come and was not shown yet.
  private var lines: [String] = []
  private var hasFailed = false
  private var signal: Int32?

  init(_ client: WebSocketClient, _ interruption: Interruption) {
    self.client = client
    self.interruption = interruption
    client.received = { [unowned self] kind, bytes in show(kind, bytes) }
    output.interruption = interruption.descriptor
  }

  func send(_ message: Message) throws(WebSocketFailure) {
    client.session.send(message.text)
    client.session.flush()
  }

  /// Reads commands until one says that it is enough.
  func prompt() throws(WebSocketFailure) {
    let editor = LineEditor()
    editor.companion = LineEditor.Companion(
      events: { [client] in client.awaited },
      step: { [unowned self] in step() })
    if isAtTerminal { printNow("open; \(Message.Line.summary)\n") }
    // What has come with the server's answer is here already, and no poll reports it.
    client.work()
    flush()
    while client.ending == nil, signal == nil, output.failure == nil {
      let outcome: LineEditor.Outcome
      do throws(SystemCallError) { outcome = try editor.readLine(prompt: "websocket> ") } catch {
        // That line was too long, or no UTF-8; the next one may be better.
        guard [EMSGSIZE, EILSEQ].contains(error.errno.rawValue) else {
          return complain("standard input: \(error)")
        }
        complain(
          error.errno.rawValue == EMSGSIZE
            ? "a line of more than 1 MiB is not sent" : "a line that is no valid UTF-8 is not sent")
        continue
      }
      switch outcome {
      case .line(let line): if try perform(line) { continue }
      case .interrupted: signal = SIGINT
      case .end: break
      }
      break
    }
    // Whom nobody hears any more does not wait for the server's farewell.
    if output.failure != nil { return client.session.close(.goingAway) }
    try close(signal == nil ? .normal : .goingAway)
  }

  /// Closes it. What comes until then is shown as it comes: it may be much.
  func close(_ code: CloseCode = .normal) throws(WebSocketFailure) {
    client.session.close(code)
    while client.ending == nil {
      try client.wait()
      flush()
    }
  }

  /// False where it was the last one.
  private func perform(_ line: String) throws(WebSocketFailure) -> Bool {
    let asked: Message.Line
    do throws(Complaint) { asked = try Message.Line(line) } catch {
      complain(error.description)
      return true
    }
    switch asked {
    case .nothing: break
    case .quit: return false
    case .help: printNow(Message.Line.summary + "\n")
    case .message(let message):
      try send(message)
      // A server that takes nothing is not to have all of a file wait for it here.
      while client.ending == nil, client.session.waiting > 256 * 1024 { try client.wait() }
      client.work()
      flush()
    }
    return true
  }

  private func step() -> LineEditor.Companion.Step {
    if let signal = interruption.signal() {
      self.signal = signal
      return .end
    }
    client.work()
    if isAtTerminal, !lines.isEmpty {
      defer { lines = [] }
      return .show(lines.joined(separator: "\n"))
    }
    flush()
    // Whom nobody hears any more has no reason to stay.
    return client.ending == nil && output.failure == nil ? .nothing : .end
  }

  /// Shows what is left, and says how it has ended.
  ///
  /// - Returns: the exit status.
  func end() throws(WebSocketFailure) -> Int32 {
    flush()
    if let signal { return 128 + signal }
    if let reason = reason(of: client) { complain(reason) }
    if let failure = output.failure {
      return failure.rawValue == EPIPE ? ExitStatus.outputClosed : ExitStatus.failure
    }
    return hasFailed && !isAtTerminal || reason(of: client) != nil ? ExitStatus.failure : ExitStatus.success
  }

  private func complain(_ text: String) {
    flush()
    printToStandardError("\(name): \(text.printable)\n")
    hasFailed = true
  }

  private func printNow(_ text: String) {
    flush()
    output.write(text)
    output.flush()
  }

  private func flush() {
    for line in lines { output.write(line + "\n") }
    lines = []
    output.flush()
  }

  private func show(_ kind: MessageKind, _ bytes: UnsafeRawBufferPointer) {
    guard kind == .text else {
      lines.append(
        isAtTerminal
          ? "← \(counted(bytes.count, "byte")), binary" : "(\(counted(bytes.count, "byte")), binary)")
      return
    }
    let text = String(decoding: bytes, as: UTF8.self)
    let forAll = client.chosen == LinkMessage.namedProtocol ? LinkMessage.sender(of: text) : nil
    let words = forAll?.text ?? text
    guard isAtTerminal else { return lines.append(words) }
    // Words from elsewhere must not steer the terminal.
    let shown = words.split(separator: "\n", omittingEmptySubsequences: false).map { String($0).printable }
    lines.append(
      "← " + shown.joined(separator: "\n  ")
        + (forAll.map { "   (for all, from \($0.sender.printable))" } ?? ""))
  }
}
