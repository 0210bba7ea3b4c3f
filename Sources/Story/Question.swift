import Glibc
import KernelState
import SystemCalls
import Tracing

/// What a learner is asked about a call that stands at its entry. Nobody knows the answer yet: the kernel gives it.
public struct Question: Sendable {
  /// Whose call it is.
  let caller: Call
  /// The call, as far as it is known before it returns.
  public let call: String
  /// "Which state will fd 3 be in?"
  public let text: String
  /// The values that it could take; the last stands for all that are not listed.
  public let choices: [String]
  /// Two questions with the same key ask for the same piece of knowledge.
  let key: String
  /// What the kernel answered, in the order in which it happened; each is right. `waited` is whether the call did not return for
  /// a while.
  let answer: @Sendable (_ step: Step, _ waited: Bool) -> [String]

  public static let somethingElse = "something else"
}

/// How an answer compares with the kernel's.
public struct Prediction: Sendable {
  /// The step that was asked about.
  public let step: Int
  public let question: Question
  /// What the learner chose, or nil where nothing was.
  public let choice: String?
  /// What happened, one after the other.
  let truths: [String]
  /// The same in words.
  public var actual: String { truths.joined(separator: ", then ") }
  /// Nil where nothing was chosen.
  public var isRight: Bool? {
    guard let choice else { return nil }
    return truths.contains(choice)
      || choice == Question.somethingElse && !question.choices.contains(where: truths.contains)
  }
}

extension Question {
  /// The choices with their numbers, in one line where that fits.
  func choiceLines(width: Int) -> [String] {
    let numbered = choices.enumerated().map { "[\($0 + 1)] \($1)" }
    let line = numbered.joined(separator: "   ")
    return line.count <= width ? [line] : numbered
  }

  /// What is asked of a call, with the sockets as they are before it. Nil where its outcome teaches nothing.
  ///
  /// `recent` are the lengths of the last writes: what somebody would expect who takes a stream for messages.
  static func about(
    _ call: Call, text: String, sockets: [SocketSnapshot], descriptors: [Int32], recent: [Int64]
  ) -> Question? {
    let subject = sockets.first { socket in
      socket.holders.contains { $0.process == call.process && $0.descriptor == call.descriptor }
    }
    let asking = Asking(call: call, callText: text, sockets: sockets, subject: subject)
    switch call.systemCall {
    case .socket, .dup: return asking.number(descriptors)
    case .bind: return asking.bind()
    case .listen: return asking.listen()
    case .connect: return asking.state(["CLOSE", "SYN_SENT", "LISTEN", "ESTABLISHED"])
    case .accept, .accept4: return asking.accept()
    case .read, .recvfrom: return asking.read(recent)
    case .write, .sendto: return asking.write()
    case .close, .shutdown: return asking.ending()
    case .setsockopt: return asking.buffer()
    default: return nil
    }
  }
}

/// Makes the question about one call.
private struct Asking {
  let call: Call
  let callText: String
  let sockets: [SocketSnapshot]
  let subject: SocketSnapshot?

  private var label: String { subject?.label ?? "it" }
  private var peer: SocketSnapshot? {
    guard let local = subject?.state.local?.canonical, let far = subject?.state.peer?.canonical else {
      return nil
    }
    return sockets.first { $0.state.local?.canonical == far && $0.state.peer?.canonical == local }
  }
  /// Whether another process has it.
  private func isOthers(_ socket: SocketSnapshot) -> Bool {
    !socket.holders.isEmpty && socket.holders.allSatisfy { $0.process != call.process }
  }
  private var situation: String {
    "\(call.systemCall.name) \(subject?.state.state ?? "") \(peer?.state.state ?? "") \(subject?.holders.count ?? 0)"
  }

  private func question(
    _ text: String, _ choices: [String], key: String, answer: @escaping @Sendable (Step) -> String
  ) -> Question {
    question(text, choices, key: key, answers: { step, _ in [answer(step)] })
  }

  private func question(
    _ text: String, _ choices: [String], key: String, answers: @escaping @Sendable (Step, Bool) -> [String]
  ) -> Question {
    var seen: Set<String> = []
    let unique = choices.filter { seen.insert($0).inserted }
    return Question(
      caller: call, call: callText, text: text, choices: unique + [Question.somethingElse], key: key,
      answer: answers)
  }

  /// "0", "13", "EAGAIN"
  @Sendable private static func outcome(_ step: Step) -> String {
    step.call.error?.name ?? "\(step.call.result ?? 0)"
  }

  func number(_ descriptors: [Int32]) -> Question? {
    let taken = Set(descriptors)
    guard let lowest = (0...Int32.max - 1).first(where: { !taken.contains($0) }),
      let highest = descriptors.max()
    else { return nil }
    // At its limit of descriptors it fails, and that is nothing that a reader can see here.
    let limits = text(ofFile: "/proc/\(call.process)/limits")?.split(separator: "\n")
    let limit = limits?.first { $0.hasPrefix("Max open files") }?.split(whereSeparator: \.isWhitespace)
      .dropFirst(3).first
    if let limit, let most = Int32(limit), lowest >= most { return nil }
    let numbers = [lowest, highest, highest &+ 1, lowest &+ 1].sorted().map { "fd \($0)" }
    return question(
      "Which descriptor will it be?", numbers + ["none: it fails"],
      key: "number \(lowest == highest &+ 1)"
    ) { step in step.call.error == nil ? "fd \(step.call.result ?? 0)" : "none: it fails" }
  }

  func bind() -> Question? {
    let length = Int(min(call.arguments[2] & 0xffff_ffff, 128))
    let address = SocketAddress(bytes: ProcessMemory(process: call.thread).read(call.arguments[1], length))
    let port = address?.port ?? 0
    let others = sockets.filter { port != 0 && $0.state.local?.port == port }.map { $0.state.state ?? "" }
      .sorted()
    let reuse = subject?.state[.reuseAddress] == .flag(true)
    return question(
      "What will bind return?", ["0", "EADDRINUSE", "EADDRNOTAVAIL", "EACCES"],
      key: "bind \(address?.host ?? "") \(min(port, 1024)) \(others) \(reuse)"
    ) { step in Self.outcome(step) }
  }

  /// Which state the socket that the call names will be in.
  func state(_ choices: [String], whose: String? = nil) -> Question? {
    guard let subject, let before = subject.state.state else { return nil }
    let order = [
      "CLOSE", "LISTEN", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE_WAIT",
      "LAST_ACK", "gone",
    ]
    let all = Set(choices + [before])
    let id = subject.id
    let hasPackets = call.systemCall == .connect || subject.state.peer != nil
    let when = hasPackets ? ", once the packets have passed" : ""
    return question(
      "Which state will \(whose ?? label) be in\(when)?", order.filter(all.contains), key: situation
    ) { step in step.after.first { $0.id == id }?.state.state ?? "gone" }
  }

  func listen() -> Question? {
    guard subject?.state.isListening == true else { return state(["CLOSE", "LISTEN", "ESTABLISHED"]) }
    let limit = text(ofFile: "/proc/sys/net/core/somaxconn").flatMap { UInt64($0.prefix { $0.isNumber }) }
    let wanted = UInt64(UInt32(bitPattern: call.arguments.int(1)))
    let numbers = [limit, wanted, subject?.state.number(.backlog)].compactMap { $0 }.sorted()
    let id = subject?.id
    return question(
      "What will the backlog be?", numbers.map(String.init), key: "backlog"
    ) { step in
      step.after.first { $0.id == id }?.state.number(.backlog).map(String.init) ?? "unknown"
    }
  }

  func accept() -> Question? {
    let waiting = subject?.state.number(.acceptQueue) ?? 0
    let id = subject?.id
    guard waiting > 0 else { return waits(["a new descriptor", "EAGAIN"], key: "accept of nothing") }
    let numbers = [waiting - 1, waiting, waiting &+ 1]
    return question(
      "How many connections will wait in the accept queue?", numbers.map(String.init), key: "accept"
    ) { step in
      step.after.first { $0.id == id }?.state.number(.acceptQueue).map(String.init) ?? "unknown"
    }
  }

  /// A call that may have to wait.
  private func waits(_ choices: [String], key: String) -> Question? {
    let makesDescriptor = call.systemCall.makesDescriptor
    return question(
      "What will \(call.systemCall.name) do?", ["it waits"] + choices, key: key,
      answers: { step, waited in
        let made = makesDescriptor && step.call.error == nil
        return (waited ? ["it waits"] : []) + [made ? "a new descriptor" : Self.outcome(step)]
      })
  }

  func read(_ recent: [Int64]) -> Question? {
    guard let subject, subject.state.isTCP else { return nil }
    // With MSG_WAITALL it depends on what is still on its way.
    if call.systemCall == .recvfrom, call.arguments.int(3) & Int32(MSG_WAITALL) != 0 { return nil }
    let room = call.arguments[2]
    let queued = subject.state.number(.readable) ?? 0
    guard queued > 0 else {
      return waits(
        ["0", "EAGAIN", "ECONNRESET"], key: "read of nothing \(subject.state.state ?? "") \(recent.count)")
    }
    let numbers = [min(room, queued), queued, room] + recent.suffix(2).compactMap { UInt64(exactly: $0) }
    return question(
      "How many bytes will \(call.systemCall.name) return?", numbers.sorted().map(String.init),
      key: "read \(queued > room) \(recent.suffix(2).reduce(0, +) == Int64(clamping: queued))"
    ) { step in Self.outcome(step) }
  }

  func write() -> Question? {
    guard let subject, subject.state.isTCP else { return nil }
    let count = call.arguments[2]
    let peer = peer
    if count <= 1000, subject.state.state == "ESTABLISHED", let peer, !peer.holders.isEmpty {
      let waiting = peer.state.number(.receiveQueue) ?? 0
      let numbers = [0, waiting, count, waiting &+ count].sorted()
      return question(
        "How many bytes will wait in the receive queue of \(isOthers(peer) ? "the other program's " : "")\(peer.label)?",
        numbers.map(String.init),
        key: "write \(waiting > 0)"
      ) { step in
        step.after.first { $0.id == peer.id }?.state.number(.receiveQueue).map(String.init) ?? "unknown"
      }
    }
    let isFull = (subject.state.number(.sendQueue) ?? 0) > 0
    return question(
      "What will \(call.systemCall.name) return?",
      ["\(count)", count > 1 ? "less than \(count)" : "0", "EAGAIN", "EPIPE", "ECONNRESET"],
      key: "\(situation) \(isFull)"
    ) { step in
      if let result = step.call.result, result >= 0, UInt64(result) < count { return "less than \(count)" }
      return Self.outcome(step)
    }
  }

  func ending() -> Question? {
    guard let subject, subject.state.isTCP else { return nil }
    let others = subject.holders.count > 1
    switch subject.state.state {
    case "ESTABLISHED":
      return state(
        ["FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE_WAIT", "gone"], whose: others ? "the socket" : nil)
    case "CLOSE_WAIT": return state(["LAST_ACK", "TIME_WAIT", "FIN_WAIT2", "gone"])
    case "FIN_WAIT2": return state(["TIME_WAIT", "CLOSE_WAIT", "gone"])
    default: return state(["CLOSE", "TIME_WAIT", "gone"], whose: others ? "the socket" : nil)
    }
  }

  /// The kernel has its own mind about the size of a buffer.
  func buffer() -> Question? {
    let names = [SO_RCVBUF: Field.receiveBuffer, SO_SNDBUF: .sendBuffer]
    guard call.arguments.int(1) == SOL_SOCKET, let field = names[call.arguments.int(2)], let subject,
      let before = subject.state.number(field)
    else { return nil }
    let bytes = ProcessMemory(process: call.thread).read(call.arguments[3], 4)
    let wanted = bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    let id = subject.id
    return question(
      "How many bytes will the \(field.label) have?",
      [wanted / 2, wanted, wanted &* 2, before].sorted().map(String.init),
      key: "buffer"
    ) { step in step.after.first { $0.id == id }?.state.number(field).map(String.init) ?? "unknown" }
  }
}
