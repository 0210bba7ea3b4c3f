import CommandLineTool
import Glibc
import KernelState
import SystemCalls
import Tracing

/// A story for a reader at a terminal.
public final class TerminalTeller: Teller {
  public struct Options: Sendable {
    public var color = false
    /// All that the kernel says, not only what changed.
    public var isVerbose = false
    /// In columns.
    public var width = 80
    /// Shows the descriptors that the program has, where they changed.
    public var showsDescriptors = false
    /// Tells every change of a connection's windows, and not only that one closes or opens.
    public var showsWindows = false
    /// Only some calls are told.
    public var isFiltered = false
    /// Shows in which list of the kernel a socket stands that is in none of the usual ones.
    public var showsListing = false
    /// Tells which program has a connection's other end.
    public var showsOwners = true
    /// Tells a step that is the same as the one before, and changed nothing, as a count.
    public var collapsesRepetitions = false

    public init() {}
  }

  public let output: Output
  private let options: Options
  private var ladder = PacketLadder()
  private var overview = Overview()
  private var firstProcess: pid_t?
  private var names = ProcessNames()
  private var hasStep = false
  /// Those that made a call that was told, or hold a socket.
  private var processes: Set<pid_t> = []
  /// What they were last seen to become.
  private var programs: [pid_t: String] = [:]

  /// The step before, and how often it has come again without any change.
  private var lastStep: Step?
  private var repetitions = 0
  /// What the label of the socket at hand takes, where that is more than usual.
  private var labelWidth = 0
  private var lastWaiting: String?
  /// What is told was there before, and is not new.
  private var isListing = false

  private var width: Int { min(options.width, 100) }
  /// The gutter: the step's number, or nothing, and a bar.
  private static let gutter = "   │ "

  public init(output: Output, options: Options) {
    self.output = output
    self.options = options
  }

  public func tell(_ item: StoryItem) {
    switch item {
    case .opening(let opening): tell(opening)
    case .said(let text, let process): tell(said: names.speech(text, of: process))
    case .step(let step):
      if isRepetition(step) {
        repetitions += 1
      } else {
        tellRepetitions()
        tell(step)
      }
      lastStep = step
    case .waiting(let waiting, let call):
      // Whoever polls every second says nothing new each time.
      if repetitions > 0 || call == lastWaiting { return }
      lastWaiting = call
      gap()
      line(
        "   ┆ "
          + Style.quiet(
            "\(names.prefix(waiting))\(call) waits …".truncated(to: width - 5), color: options.color))
    case .note(let text):
      gap()
      for (index, part) in text.printable.wrapped(to: width - 9).enumerated() {
        line("   " + Style.quiet((index == 0 ? "note: " : "      ") + part, color: options.color))
      }
    case .process(let process, let event): tell(event, of: process)
    case .question(let question): tell(question)
    case .prediction(let prediction): tell(prediction)
    case .experiment(let experiment):
      for text in experiment.lines(width: width - 4) {
        line("   " + Style.words(text, color: options.color))
      }
      blank()
    case .verdict(let verdict): tell(verdict)
    case .ending(let ending):
      tellRepetitions()
      tell(ending)
    }
  }

  /// Whether a step says nothing that the step before did not say.
  private func isRepetition(_ step: Step) -> Bool {
    guard options.collapsesRepetitions, let last = lastStep else { return false }
    return step.shortText == last.shortText && step.call.process == last.call.process && step.packets.isEmpty
      && last.packets.isEmpty
      && [step.changes, step.meanwhile, last.changes].allSatisfy { changeLines($0, step: nil).isEmpty }
  }

  private func tellRepetitions() {
    if repetitions > 0 {
      gap()
      let times = repetitions == 1 ? "once more" : "\(repetitions) times more"
      line("   ┆ " + Style.quiet("the same \(times)", color: options.color))
    }
    repetitions = 0
  }

  // --- the items ---

  private func tell(_ opening: StoryItem.Opening) {
    let lifecycle = LessonName.lifecycle
    var title = opening.tool
    var rest = ""
    if let name = LessonName(opening.tool) {
      title = name.title
      if lifecycle.contains(name.topic) {
        rest = lifecycle.map { $0 == name.topic ? "[\($0)]" : $0 }.joined(separator: " → ")
      }
    } else if !opening.command.isEmpty {
      title += " · " + opening.command.joined(separator: " ")
    }
    title = title.split(separator: "\n").joined(separator: " ").printable.truncated(to: width - 2)
    firstProcess = opening.process
    names.note(opening)
    let isOneLine = title.count + 4 + rest.count < width
    let gap = String(repeating: " ", count: max(1, width - 2 - title.count - rest.count))
    line(" " + Style.strong(title, color: options.color) + (rest.isEmpty || !isOneLine ? "" : gap + rest))
    if !rest.isEmpty, !isOneLine { for part in rest.wrapped(to: width - 2) { line(" " + part) } }
    blank()
    if opening.isAttached { tellSocketsFound(opening) }
  }

  /// What a program has that ran before it was followed.
  private func tellSocketsFound(_ opening: StoryItem.Opening) {
    processes.insert(opening.process)
    line(opening.sockets.isEmpty ? "   It has no sockets now." : "   It has these sockets now:")
    isListing = true
    defer { isListing = false }
    let found = opening.sockets.map { SocketChange(socket: $0, kind: .appeared) }
    for text in changeLines(found, step: nil) { line("   " + text) }
    blank()
  }

  private func tell(said text: String) {
    let gutter = hasStep ? Self.gutter : "   "
    // A lesson's source breaks its lines where the source is wide; here they flow anew, but for tables, whose lines begin with a space.
    var parts: [String] = []
    var flowing: [Substring] = []
    func flow() {
      let words = flowing.joined(separator: " ").printable
      if !flowing.isEmpty { parts += words.wrapped(to: width - gutter.count - 1) }
      flowing = []
    }
    for row in text.split(separator: "\n") {
      if row.hasPrefix(" ") {
        flow()
        let row = String(row).printable
        parts += row.count < width - gutter.count ? [row] : row.wrapped(to: width - gutter.count - 1)
      } else {
        flowing.append(row)
      }
    }
    flow()
    gap()
    for part in parts { line((gutter + Style.words(part, color: options.color)).trimmedRight) }
    if !hasStep { blank() }
  }

  private func tell(_ step: Step) {
    gap()
    introduce(step.call.process)
    let meanwhile =
      changeLines(step.meanwhile, step: nil) + ladderLines(step.strayPackets, step.before + step.after)
    if !meanwhile.isEmpty {
      line("   ┆ " + Style.quiet("meanwhile", color: options.color))
      for text in meanwhile { line(("   ┆ " + text).trimmedRight) }
      if !step.strayPackets.isEmpty { line("   ┆") }
    }
    tell(call: step)
    let lines = changeLines(step.changes, step: step)
    for text in lines { body(text) }
    if options.showsDescriptors, Attribution.changesDescriptors(step.call),
      step.descriptors.before != step.descriptors.after
    {
      let lists = [step.descriptors.before, step.descriptors.after].map {
        Self.list($0, asRuns: max(step.descriptors.before.count, step.descriptors.after.count) > 7)
      }
      for text in fieldLines("", "descriptors", lists.joined(separator: " → ")) { body(text) }
    }
    if options.showsDescriptors, step.isFailure, lines.isEmpty, step.packets.isEmpty {
      body("  " + Style.quiet("No socket changed.", color: options.color))
    }
    if let advice = Advice.text(for: step) {
      for (index, part) in advice.wrapped(to: width - 10).enumerated() {
        body((index == 0 ? "  ▸ " : "    ") + part)
      }
    }
    for text in ladderLines(step.ownPackets, step.after + step.before) { body(text) }
    if options.isVerbose { tellEverything(step) }
    overview.add(step, owner: owner)
    processes.insert(step.call.process)
    for socket in step.after { processes.formUnion(socket.holders.map(\.process)) }
    hasStep = true
  }

  private func tell(_ question: Question) {
    gap()
    for (index, part) in (names.prefix(question.caller) + question.call).wrappedCall(to: width - 6)
      .enumerated()
    {
      line((index == 0 ? " ? │ " : Self.gutter) + Style.heading(part, color: options.color))
    }
    for part in question.text.wrapped(to: width - 9) { body("  " + Style.words(part, color: options.color)) }
    for text in question.choiceLines(width: width - 10) { body("    " + text) }
  }

  private func tell(_ prediction: Prediction) {
    switch prediction.isRight {
    case true?: body("  " + Style.good("✓ as you said: \(prediction.actual)", color: options.color))
    case false?:
      let text = "✗ you said \(prediction.choice ?? ""), and it is: \(prediction.actual)"
      for part in text.wrapped(to: width - 9) { body("  " + Style.bad(part, color: options.color)) }
    case nil: body("  " + Style.quiet("(no guess; it is: \(prediction.actual))", color: options.color))
    }
  }

  private func tell(_ verdict: Verdict) {
    gap()
    let lines = "\(verdict.half.rawValue): \(verdict.text)".wrapped(to: width - 9)
    for (index, part) in lines.enumerated() {
      line((index == 0 ? " ⚑ │ " : Self.gutter) + Style.strong(part, color: options.color))
    }
    guard let truth = verdict.truth else { return }
    switch verdict.isRight {
    case true?:
      for part in "✓ as you said: \(truth)".wrapped(to: width - 9) {
        body("  " + Style.good(part, color: options.color))
      }
    case false?:
      let text = "✗ you said: \(verdict.guess ?? ""); it is: \(truth)"
      for part in text.wrapped(to: width - 9) { body("  " + Style.bad(part, color: options.color)) }
    case nil:
      for part in "The answer: \(truth)".wrapped(to: width - 9) {
        body("  " + Style.quiet(part, color: options.color))
      }
    }
  }

  private func ladderLines(_ packets: [Packet], _ ends: [SocketSnapshot]) -> [String] {
    if packets.isEmpty { return [] }
    let lines = ladder.lines(of: packets, width: width - 6, color: options.color) { local, peer in
      self.label(local: local, peer: peer, among: ends)
    }
    return [""] + lines
  }

  /// Says once which program a further process is.
  private func introduce(_ process: pid_t) {
    guard process != firstProcess, !processes.contains(process), let program = programs[process] else {
      return
    }
    line(
      "   ┆ "
        + Style.quiet("[\(process)] is \(program)".printable.truncated(to: width - 5), color: options.color))
  }

  private func tell(call step: Step) {
    let text = options.isVerbose ? step.text : step.shortText
    let failed =
      step.call.error.map { !$0.isRestart && ![EAGAIN, EINPROGRESS].contains($0.rawValue) } ?? false
    let number = "\(step.number)".paddedLeft(to: 2)
    let bar = failed ? Style.bad("✗", color: options.color) : "│"
    let room = width - 6
    let call = names.prefix(step.call) + text.call
    let result = "= \(text.result)"
    let resultStyle: Style = failed ? .bad : .good
    var lines: [String]
    if call.count + 2 + result.count <= room {
      let gap = String(repeating: " ", count: room - call.count - result.count)
      lines = [Style.heading(call, color: options.color) + gap + resultStyle(result, color: options.color)]
    } else {
      let parts = call.wrappedCall(to: room)
      lines = parts.map { Style.heading($0, color: options.color) }
      if let last = parts.last, last.count + 2 + result.count <= room {
        let gap = String(repeating: " ", count: room - last.count - result.count)
        lines[lines.count - 1] += gap + resultStyle(result, color: options.color)
      } else {
        lines += result.wrapped(to: room - 4).map { "    " + resultStyle($0, color: options.color) }
      }
    }
    for (index, text) in lines.enumerated() {
      line((index == 0 ? "\(number) \(bar) " : Self.gutter) + text)
    }
  }

  private func tellEverything(_ step: Step) {
    for socket in step.after {
      body("")
      body("  " + Style.heading(socket.label, color: options.color))
      for text in Everything.lines(of: socket.state, width: width - 10) { body("    " + text) }
    }
  }

  private func tell(_ event: StoryItem.ProcessEvent, of process: pid_t) {
    if case .executed(let program) = event { programs[process] = program }
    names.note(event, of: process)
    // Processes that have nothing to do with sockets, a shell's helpers say, are not part of the story.
    if case .started(let parent?) = event {
      guard processes.contains(parent) else { return }
      processes.insert(process)
    } else {
      guard processes.contains(process) else { return }
    }
    let text = names.text(event, of: process)
    gap()
    line("   ┆ " + Style.quiet(text.printable.truncated(to: width - 5), color: options.color))
  }

  private func tell(_ ending: StoryItem.Ending) {
    gap()
    for part in ending.text.wrapped(to: width - 4) { line("   " + part) }
    if !hasStep {
      let none = ending.isLetGo ? "No socket call returned meanwhile." : "It made no socket calls."
      line("   " + (options.isFiltered ? "It made none of the calls that were to be told." : none))
    }
    for text in changeLines(ending.changes, step: nil) { line("   " + text) }
    if !ending.packets.isEmpty {
      blank()
      let packetLines = ladder.lines(of: ending.packets, width: width - 6, color: options.color) { _, _ in nil
      }
      for text in packetLines { line("   " + text) }
    }
    if let score = ending.score, score.of > 0 {
      blank()
      line("   " + Style.strong("You foresaw \(score.right) of \(score.of).", color: options.color))
    }
    overview.add(ending, owner: owner)
    for text in overview.lines(width: width, color: options.color) { line(text) }
  }

  // --- what changed ---

  private func changeLines(_ changes: [SocketChange], step: Step?) -> [String] {
    var order: [Int] = []
    var groups: [Int: [SocketChange]] = [:]
    for change in changes {
      if groups[change.socket.id] == nil { order.append(change.socket.id) }
      groups[change.socket.id, default: []].append(change)
    }
    // First what the call is about, then what has a descriptor, then the rest.
    let ranked = order.enumerated().sorted { a, b in
      func rank(_ id: Int) -> Int {
        guard let socket = groups[id]?.first?.socket else { return 3 }
        if let step, step.concerns(socket) { return 0 }
        return socket.holders.isEmpty ? 2 : 1
      }
      return (rank(a.element), a.offset) < (rank(b.element), b.offset)
    }
    return ranked.flatMap { lines(of: groups[$0.element] ?? [], step: step) }
  }

  private func lines(of changes: [SocketChange], step: Step?) -> [String] {
    guard let socket = changes.last?.socket else { return [] }
    var story: [(change: FieldChange, socket: SocketSnapshot)] = []
    var heads: [String] = []
    var showsAddresses = false
    var isNew = false
    var isGone = false
    var flags = ""
    for change in changes {
      switch change.kind {
      case .appeared:
        isNew = true
        heads.append(
          (isListing ? "" : "new: ") + (socket.state.state ?? socket.state.text(.type) ?? "socket"))
        showsAddresses = true
      case .vanished:
        isGone = true
        heads.append("\(socket.state.state ?? socket.state.text(.type) ?? "socket") → gone")
      case .holders(let from, let to):
        if from.isEmpty || to.isEmpty { showsAddresses = true }
        if from.isEmpty, options.showsDescriptors { flags = Self.flags(of: socket) }
        heads += Self.holders(from, to, state: socket.state.state)
      case .closeOnExec(let holder, let flag):
        heads.append("fd \(holder.descriptor) close-on-exec \(flag ? "off → on" : "on → off")")
      case .field(let field):
        switch field.field {
        case .state:
          if let from = field.from, let to = field.to { heads.append("\(from.value) → \(to.value)") }
          showsAddresses = true
        case .local, .peer: showsAddresses = true
        default: if isTold(field, of: socket, step: step) { story.append((field, change.socket)) }
        }
      }
    }
    let label = isGone ? socket.formerLabel : self.label(socket)
    labelWidth = min(label.count, 20)
    defer { labelWidth = 0 }
    var lines: [String] = []
    let addresses = showsAddresses ? Self.addresses(socket, isNew: isNew) : ""
    if !heads.isEmpty || showsAddresses {
      let head = heads.isEmpty ? "still \(socket.state.state ?? "open")" : heads.joined(separator: ", ")
      lines += headLines(label, head, addresses)
    }
    if isNew, options.showsOwners, let owner = socket.owner {
      lines += fieldLines("", "held by", "\(owner.name), pid \(owner.process)".printable)
    }
    if !flags.isEmpty { lines += fieldLines("", "flags", flags) }
    for text in fieldTexts(story, socket: socket, isNew: isNew) {
      lines += fieldLines(lines.isEmpty ? label : "", text.label, text.value)
    }
    return lines
  }

  /// What its first descriptor was given, beside its number.
  private static func flags(of socket: SocketSnapshot) -> String {
    let isClosedOnExec = socket.holders.first.flatMap { socket.closeOnExec[$0] } ?? false
    let flags =
      (socket.state[.nonBlocking] == .flag(true) ? ["non-blocking"] : [])
      + (isClosedOnExec ? ["close-on-exec"] : [])
    return flags.joined(separator: ", ")
  }

  private func isTold(_ change: FieldChange, of socket: SocketSnapshot, step: Step?) -> Bool {
    if change.field == .timerRemaining { return false }
    if options.isVerbose { return true }
    if change.field == .sendWindow || change.field == .receiveWindow {
      guard case .number(let from)? = change.from?.value, case .number(let to)? = change.to?.value else {
        return false
      }
      return options.showsWindows || from == 0 || to == 0
    }
    if change.field == .listedAs { return options.showsListing }
    if change.field == .inode { return options.showsDescriptors && change.from?.value == .number(0) }
    // Of a connection that was reset, sock_diag lists no queue any more; what has arrived can still be read.
    if change.field == .readable {
      return socket.state.isTCP && change.from != nil && change.to != nil
        && socket.state[.receiveQueue] == nil
    }
    switch change.field.weight {
    case .story: return true
    case .setting:
      guard let step, step.concerns(socket) else { return false }
      return [.setsockopt, .fcntl, .ioctl].contains(step.call.systemCall)
    case .measure: return false
    }
  }

  private func fieldTexts(
    _ changes: [(change: FieldChange, socket: SocketSnapshot)], socket: SocketSnapshot, isNew: Bool
  ) -> [(label: String, value: String)] {
    var texts: [(String, String)] = []
    let becameListener = changes.contains { $0.change.field == .backlog && $0.change.from == nil }
    if becameListener || isNew && socket.state.isListening, let backlog = socket.state.number(.backlog) {
      texts.append(("accept queue", "\(socket.state.number(.acceptQueue) ?? 0) of \(backlog)"))
    }
    for (change, socket) in changes {
      let unit = Self.unit(change)
      switch (change.from?.value, change.to?.value) {
      case (nil, .number(0)?), (nil, .text("no")?), (nil, .flag(false)?), (.number(0)?, nil),
        (.text("no")?, nil):
        continue
      default: break
      }
      switch change.field {
      case .acceptQueue, .backlog: if becameListener { continue }
      default: break
      }
      if change.field == .acceptQueue, let backlog = socket.state.number(.backlog) {
        texts.append(
          (
            change.field.label,
            "\(Self.text(change.from, .acceptQueue)) → \(Self.text(change.to, .acceptQueue)) of \(backlog)"
          ))
      } else if change.field == .listedAs {
        texts.append((change.field.label, "as \(Self.text(change.to, .listedAs))"))
      } else if change.field == .timer {
        let remaining = socket.state.number(.timerRemaining).map { ", \(Self.seconds($0)) left" } ?? ""
        let to = change.to.map { "\($0.value)\(remaining)" } ?? "none"
        texts.append((change.field.label, "\(Self.text(change.from, .timer)) → \(to)"))
      } else {
        let from = Self.text(change.from, change.field)
        var value = "\(from) → \(Self.text(change.to, change.field))\(unit)"
        if change.field == .receiveQueue, let queue = socket.state.number(.receiveQueue),
          let readable = socket.state.number(.readable), readable != queue
        {
          // sock_diag counts a FIN as a byte, FIONREAD does not.
          value += ", \(readable) readable"
        }
        texts.append((change.field.label, value))
      }
    }
    return texts
  }

  private static func text(_ reading: Reading?, _ field: Field) -> String {
    if let reading { return reading.value.description }
    return field == .timer ? "none" : "–"
  }

  /// "0 1 2 3", or its runs: "0–5 10 12".
  private static func list(_ numbers: [Int32], asRuns: Bool) -> String {
    if !asRuns { return numbers.map(String.init).joined(separator: " ") }
    var runs: [ClosedRange<Int32>] = []
    for number in numbers {
      if let last = runs.last, last.upperBound + 1 == number {
        runs[runs.count - 1] = last.lowerBound...number
      } else {
        runs.append(number...number)
      }
    }
    return runs.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)–\($0.upperBound)" }.joined(
      separator: " ")
  }

  private static func unit(_ change: FieldChange) -> String {
    guard !change.field.unit.isEmpty else { return "" }
    if change.field.unit == "bytes", case .number(1)? = change.to?.value { return " byte" }
    return " \(change.field.unit)"
  }

  private static func seconds(_ milliseconds: UInt64) -> String {
    "\(milliseconds / 1000).\(milliseconds % 1000 / 100) s"
  }

  private static func holders(
    _ from: [SocketSnapshot.Holder], _ to: [SocketSnapshot.Holder], state: String?
  ) -> [String] {
    if from.isEmpty, let first = to.first { return ["\(state ?? ""), now fd \(first.descriptor)"] }
    if to.isEmpty { return [] }  // the label says it
    let lost = from.filter { !to.contains($0) }
    let gained = to.filter { !from.contains($0) }
    let new = Set(gained.map(\.process)).subtracting(from.map(\.process))
    var texts = new.sorted().map { "also held by process \($0)" }
    if gained.contains(where: { !new.contains($0.process) }) {
      texts.append("one socket, \(to.count) descriptors")
    }
    let processes = Set((from + to).map(\.process))
    texts += lost.map {
      processes.count > 1
        ? "process \($0.process) closed its fd \($0.descriptor)" : "fd \($0.descriptor) closed"
    }
    return texts
  }

  /// "127.0.0.1:52114 → 127.0.0.1:41873", and for a new socket without addresses what it is.
  private static func addresses(_ socket: SocketSnapshot, isNew: Bool) -> String {
    switch (socket.state.local, socket.state.peer) {
    case (let local?, let peer?): return "\(local) → \(peer)".printable
    case (let local?, nil): return "\(local)".printable
    default:
      guard isNew else { return "" }
      let inode = socket.state.inode.map { "socket:[\($0)]" }
      let names = ["AF_INET": "IPv4", "AF_INET6": "IPv6", "AF_UNIX": "Unix"]
      let family = socket.state.family.map { names[$0] ?? $0 }
      let kind = socket.state.family == "AF_UNIX" ? nil : socket.state.text(.protocol)
      return [inode, kind, family].compactMap { $0 }.joined(separator: " ") + " no address"
    }
  }

  private func label(local: SocketAddress, peer: SocketAddress, among sockets: [SocketSnapshot])
    -> String?
  {
    let exact = sockets.first {
      $0.state.local?.canonical == local.canonical && $0.state.peer?.canonical == peer.canonical
    }
    if let exact { return label(exact) }
    // A bound or listening socket, and one whose connection was refused, have no peer.
    let bound = sockets.first {
      guard let own = $0.state.local?.canonical, $0.state.peer == nil, own.port == local.port else {
        return false
      }
      return own.isWildcard || own == local.canonical
    }
    return bound.map(label)
  }

  /// The label, with its owner in front where that has to be said.
  private func label(_ socket: SocketSnapshot) -> String {
    (owner(socket).map { "\($0) " } ?? "") + socket.label
  }

  /// The process that alone has descriptors for a socket, where it has a name.
  private func owner(_ socket: SocketSnapshot) -> String? {
    guard let holder = socket.holders.first,
      socket.holders.allSatisfy({ $0.process == holder.process })
    else { return nil }
    return names[holder.process]
  }

  // --- lines ---

  /// Where both ends have a name, it stands before each number.
  private var labelColumn: Int { names.hasPair ? 12 : 9 }
  private static let headColumn = 25

  private func headLines(_ label: String, _ head: String, _ addresses: String) -> [String] {
    let start = "  " + label.padded(to: max(labelColumn, labelWidth)) + " "
    let styled = Style.changed(head, color: options.color)
    if addresses.isEmpty {
      let parts = head.wrapped(to: width - 6 - start.count)
      return parts.enumerated().map { index, part in
        (index == 0 ? start : String(repeating: " ", count: start.count))
          + Style.changed(part, color: options.color)
      }
    }
    let isOneLine = start.count + max(head.count, Self.headColumn) + 1 + addresses.count <= width - 6
    if isOneLine {
      return [
        start + styled + String(repeating: " ", count: max(1, Self.headColumn + 1 - head.count)) + addresses
      ]
    }
    return head.wrapped(to: width - 6 - start.count).enumerated().map { index, part in
      (index == 0 ? start : String(repeating: " ", count: start.count))
        + Style.changed(part, color: options.color)
    }
      + addresses.wrapped(to: width - 6 - start.count).map { String(repeating: " ", count: start.count) + $0 }
  }

  /// A field and its value beside each other, and below each other where that is too wide.
  private func fieldLines(_ label: String, _ name: String, _ value: String) -> [String] {
    let start = "  " + label.padded(to: max(labelColumn, labelWidth)) + " "
    let room = width - 6 - start.count
    for column in [Self.headColumn + 1, name.count + 2]
    where max(column, name.count + 1) + value.count <= room {
      return [
        start + name.padded(to: max(column, name.count + 1)) + Style.changed(value, color: options.color)
      ]
    }
    let indent = String(repeating: " ", count: start.count)
    return [start + name]
      + value.wrapped(to: room - 2).map { indent + "  " + Style.changed($0, color: options.color) }
  }

  /// Which thread it is, where it is not the program's first one.
  private func body(_ text: String) { line((Self.gutter + text).trimmedRight) }

  private func gap() {
    if hasStep { line("   │") }
  }

  private func blank() { line("") }
  private func line(_ text: String) { output.write(text + "\n") }
}

/// A lesson's number and topic, out of its command's name.
struct LessonName {
  /// Nil for a lab.
  let number: Int?
  let topic: String
  /// "lesson 3 · listen", "lab · close wait"
  var title: String { "\(number.map { "lesson \($0)" } ?? "lab") · \(topic)" }

  /// The calls of a server's life, in their order.
  static let lifecycle = ["socket", "bind", "listen", "accept", "read", "write", "close"]

  init?(_ command: String) {
    guard let dash = command.firstIndex(of: "-") else { return nil }
    let kind = command[..<dash]
    number = kind.hasPrefix("lesson") ? Int(kind.dropFirst("lesson".count)) : nil
    guard number != nil || kind == "lab" else { return nil }
    topic = command[command.index(after: dash)...].split(separator: "-").joined(separator: " ")
  }
}

extension String {
  /// A call broken between its arguments; the rest stands four columns further in. What a program moved stays as it is: a text in
  /// quotes is broken only where it is longer than a line, between two of its bytes.
  func wrappedCall(to width: Int) -> [String] {
    var lines: [String] = []
    var current = ""
    for (piece, isGlued) in callPieces(upTo: Swift.max(8, width - 4)) {
      let space = isGlued || current.isEmpty ? "" : " "
      if current.isEmpty {
        current = (lines.isEmpty ? "" : "    ") + piece
      } else if current.count + space.count + piece.count <= width {
        current += space + piece
      } else {
        lines.append(current)
        current = "    " + piece
      }
    }
    return lines + (current.isEmpty ? [] : [current])
  }
}

extension String {
  /// Words, as spaces outside of quotes part them; what is longer than `limit` in several pieces, of which all but the first belong
  /// to the one before without a space.
  private func callPieces(upTo limit: Int) -> [(text: String, isGlued: Bool)] {
    var pieces: [(text: String, isGlued: Bool)] = []
    var (word, isQuoted, isCut) = ("", false, false)
    func finish() {
      if !word.isEmpty { pieces.append((word, isCut)) }
      (word, isCut) = ("", false)
    }
    for unit in units {
      if unit == "\"" { isQuoted.toggle() }
      if unit == " ", !isQuoted {
        finish()
        continue
      }
      if word.count + unit.count > limit {
        finish()
        isCut = true
      }
      word += unit
    }
    finish()
    return pieces
  }

  /// Characters, and what stands for one: "\\n", "\\377", "...".
  private var units: [String] {
    var units: [String] = []
    var rest = self[...]
    while let first = rest.first {
      var length = 1
      if first == "\\" {
        let digits = rest.dropFirst().prefix(3).prefix { ("0"..."7").contains($0) }.count
        length = 1 + Swift.max(1, digits)
      } else if rest.hasPrefix("...") {
        length = 3
      }
      units.append(String(rest.prefix(length)))
      rest = rest.dropFirst(length)
    }
    return units
  }
}
