import KernelState
import SystemCalls

/// One socket in a picture, from its head to its end; or the address of a packet's other end, of which no socket was seen.
struct Lifeline {
  /// How a socket stands: what a label on its lifeline says.
  struct Standing: Equatable {
    var title: String
    /// "LISTEN 1/2"
    var headline: String
    /// "LISTEN"; nil for a socket of a kind that has no states.
    var state: String?
    /// Bytes to be read, and bytes that the peer has not acknowledged.
    var waiting: UInt64 = 0
    var sending: UInt64 = 0

    /// What is different in its queues. A state that is new says by itself that they are empty.
    func remarks(since before: Standing?) -> [String] {
      let isSameState = before.map { $0.state == state } ?? false
      var remarks: [String] = []
      if before?.waiting ?? 0 != waiting, waiting > 0 || isSameState {
        remarks.append(waiting > 0 ? "\(waiting) to read" : "all read")
      }
      if before?.sending ?? 0 != sending, isSameState {
        remarks.append(sending > 0 ? "\(sending) queued" : "all acknowledged")
      }
      return remarks
    }
  }

  let id: Int
  /// The band in which it begins, and the last in which something happens to it.
  var first: Int
  var last: Int
  /// As it stood at its head, or before the first band that is still there.
  var start: Standing
  /// As it stands now.
  var now: Standing
  var local: SocketAddress?
  /// The address that it had when it was met.
  var localAtBirth: SocketAddress?
  var peer: SocketAddress?
  /// Where packets reach it that name no connection: a bound or listening TCP socket.
  var bound: SocketAddress?
  /// The other end of its connection.
  var partner: Int?
  /// Whether it is the end that began the connection.
  var dials = false
  var isAlive = true
  /// The band from which on nothing is left of it but TIME_WAIT, without a descriptor.
  var isLeftSince: Int?
  /// In how many steps in a row it was not seen, and nothing said that it has gone.
  var misses = 0
  /// Whether it is only an address.
  var isAddress = false

  var isListening: Bool { now.state == TCPState.listen.name }

  /// Whether a packet from or to an address without a connection of its own is its.
  func takes(_ address: SocketAddress) -> Bool {
    guard let bound, bound.port == address.port else { return false }
    return bound.isWildcard || bound == address
  }
}

/// What happened to one socket in one band of a picture.
struct Mark {
  enum End { case gone, outOfSight }

  let lifeline: Int
  var isBirth = false
  /// What it is called from here on.
  var title: String?
  /// What it stands in from here on.
  var standing: Lifeline.Standing?
  /// Whether the state itself is another one.
  var isStateChange = false
  /// "+13 bytes", "SO_REUSEADDR on"
  var remarks: [String] = []
  var end: End?
  /// All that changed, for who points at it.
  var details = ""

  var isVisible: Bool { isBirth || title != nil || standing != nil || !remarks.isEmpty || end != nil }
}

/// A packet between two lifelines.
struct Arrow {
  let from: Int
  let to: Int
  let label: String
  /// The same for where there is little room.
  let shortLabel: String
  let isReset: Bool
  let details: String

  init(_ packet: Packet, from: Int, to: Int) {
    self.from = from
    self.to = to
    isReset = packet.has(.rst)
    var words = packet.flagText
    if packet.window == 0, !isReset { words += " window 0" }
    label = words + (packet.length > 0 ? " \(packet.length) byte\(packet.length == 1 ? "" : "s")" : "")
    shortLabel = packet.length > 0 ? "\(packet.has(.fin) ? "FIN " : "")\(packet.length) bytes" : words
    var details = ["\(packet.from) → \(packet.to)", packet.flagText, "seq \(packet.sequence)"]
    if packet.has(.ack) { details.append("ack \(packet.acknowledgment)") }
    details += ["window \(packet.window)", "\(packet.length) bytes"] + packet.options.map(\.description)
    self.details = details.joined(separator: "\n")
  }
}

/// A part of a picture from edge to edge: a step, or words between two.
struct Band {
  enum Kind {
    case step(CallLine)
    /// What happened between two steps: the peer's doing, or time's.
    case meanwhile
    /// Calls that changed nothing, the first of them and how many more; the names of those.
    case quiet([CallLine], more: Int, names: [String])
    /// The program's own words.
    case words(String)
    /// The toolkit's.
    case note(String)
    case ending(String)
  }

  /// A call as it is printed.
  struct CallLine {
    let number: Int
    let call: String
    let result: String
    let isFailure: Bool
    /// Why it failed, and what to do.
    var advice: String?
    /// How often the same came again.
    var repetitions = 0
    /// For who points at it.
    let details: String

    init(_ step: Step, prefix: String) {
      number = step.number
      call = prefix + step.shortText.call
      result = step.shortText.result
      isFailure = step.isFailure
      let took = (step.call.returned &- step.call.entered) / 1000
      let changes = (step.meanwhile + step.changes).compactMap { change in
        change.words.map { "\(change.socket.label): \($0)" }
      }
      details = ([step.text.line, "\(took) µs in the call"] + changes).details
    }
  }

  let serial: Int
  var kind: Kind
  var marks: [Mark] = []
  var arrows: [Arrow] = []
  /// Packets for which there was no room.
  var arrowsLeftOut = 0

  var isStep: Bool { if case .step = kind { true } else { false } }
  /// Whether anything stands at the lifelines.
  var isEmpty: Bool { marks.isEmpty && arrows.isEmpty && arrowsLeftOut == 0 }
}
