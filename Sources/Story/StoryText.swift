import CommandLineTool
import KernelState
import SystemCalls
import Tracing

// What the tellers say alike.

extension SocketState {
  /// "LISTEN 1/2", "CLOSE :41873", "ESTABLISHED", "SOCK_DGRAM": the state, and what goes with it.
  var headline: String {
    var text = state ?? self.text(.type) ?? "?"
    if isListening, let queue = number(.acceptQueue), let backlog = number(.backlog) {
      text += " \(queue)/\(backlog)"
    }
    if state == TCPState.close.name, let local, local.port != 0 { text += " :\(local.port)" }
    return text
  }

  /// Bytes that wait to be read. FIONREAD counts them; sock_diag, which alone can be asked where there is no descriptor,
  /// counts a FIN with them. See: net/ipv4/tcp_diag.c
  var waiting: UInt64 {
    if isListening { return 0 }
    if let readable = number(.readable) { return readable }
    guard let queue = number(.receiveQueue), queue > 0 else { return 0 }
    let states: [TCPState] = [.closeWait, .lastAck, .closing, .timeWait]
    return states.contains { $0.name == state } ? queue - 1 : queue
  }
}

extension Packet {
  /// "SYN ACK": the flags in the order in which they are spoken of.
  var flagText: String {
    let order: [Flag] = [.syn, .fin, .rst, .psh, .urg, .ack, .ece, .cwr]
    return order.filter(has).map(\.rawValue).joined(separator: " ")
  }
}

extension StoryItem.ProcessEvent {
  func text(of subject: String) -> String {
    switch self {
    case .started(let parent): "\(subject) begins" + (parent.map { ", a child of \($0)" } ?? "")
    case .executed(let program): "\(subject) becomes \(program)"
    case .signalled(let signal, isIgnored: true):
      "\(signalName(signal)) for \(subject), which ignores it"
    case .signalled(let signal, isIgnored: false): "\(signalName(signal)) reaches \(subject)"
    case .ended(.exited(let status)): "\(subject) ends, status \(status)"
    case .ended(.killed(let signal)): "\(subject) is killed by \(signalName(signal))"
    }
  }
}

extension StoryItem.Ending {
  var text: String {
    switch status {
    case .exited(0)?: "The program has ended; the kernel has closed its descriptors."
    case .exited(let status)?:
      "The program has ended with status \(status); the kernel has closed its descriptors."
    case .killed(let signal)?:
      "The program was killed by \(signalName(signal)); the kernel has closed its descriptors."
    case nil: isLetGo ? "Let go here; the program runs on." : "The program was ended here."
    }
  }
}

extension SocketChange {
  /// "CLOSE → LISTEN", "accept queue: 0 → 1", "gone"; nil for a measurement that moves all the time.
  var words: String? {
    switch kind {
    case .appeared: return "new: \(socket.state.headline)"
    case .vanished: return "\(socket.state.headline) → gone"
    case .holders(let from, let to):
      func list(_ holders: [SocketSnapshot.Holder]) -> String {
        holders.isEmpty ? "no fd" : "fd " + holders.map { "\($0.descriptor)" }.joined(separator: ", ")
      }
      return "\(list(from)) → \(list(to))"
    case .closeOnExec(let holder, let flag):
      return "fd \(holder.descriptor) close-on-exec \(flag ? "off → on" : "on → off")"
    case .field(let change):
      guard change.field.weight != .measure, change.field != .listedAs else { return nil }
      let texts = [change.from, change.to].map { $0?.value.description ?? "–" }
      if change.field == .state { return "\(texts[0]) → \(texts[1])" }
      let unit = change.field.unit.isEmpty ? "" : " \(change.field.unit)"
      return "\(change.field.label): \(texts[0]) → \(texts[1])\(unit)"
    }
  }

  /// Those whose label is long.
  private static let option: [Field: String] = [.receiveBuffer: "SO_RCVBUF", .sendBuffer: "SO_SNDBUF"]

  /// A setting that a call changed, in few words; nil where it says nothing that the state does not say.
  func remark(by step: Step?, isStateChange: Bool) -> String? {
    guard case .field(let field) = kind, let value = field.to?.value, let step else { return nil }
    if field.field == .shutdown {
      return step.call.systemCall == .shutdown && !isStateChange ? "shut: \(value)" : nil
    }
    let isSetter = [.setsockopt, .fcntl, .ioctl].contains(step.call.systemCall)
    return isSetter && field.field.weight == .setting && step.concerns(socket)
      ? "\(Self.option[field.field] ?? field.field.label) \(value)" : nil
  }
}

extension [String] {
  /// The lines as one text, as much of it as one reads beside a pointer.
  var details: String {
    var text = ""
    for line in self {
      if text.count + line.count > 1500 { return text + "\n…" }
      text += (text.isEmpty ? "" : "\n") + line
    }
    return text
  }
}
