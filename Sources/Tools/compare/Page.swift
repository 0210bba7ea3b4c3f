import CommandLineTool
import KernelState

/// What was found, for a person.
struct Page {
  let width: Int
  let color: Bool

  private static let label = 11
  /// Of one of the two columns.
  private var column: Int { max(8, (width - Self.label - 6) / 2) }

  // --- one wrapper beside raw ---

  func text(_ own: Observation, beside raw: Observation, _ figures: [(job: Job, figures: Figures)]) -> String
  {
    var lines = ["", heading("\(own.wrapper.name) · \(own.job.rawValue)", own.wrapper.about), ""]
    lines.append(row("", [raw.wrapper.name], [own.wrapper.name], style: .heading))
    for stage in own.job.stages {
      let (left, right) = (raw.calls(of: stage), own.calls(of: stage))
      if left.isEmpty, right.isEmpty { continue }
      let same = left.map(Self.comparable) == right.map(Self.comparable)
      lines.append(row(stage.rawValue, callLines(left), same ? ["the same"] : callLines(right)))
    }
    if !raw.leftOpen.isEmpty || !own.leftOpen.isEmpty {
      lines.append(row("still open", [Self.list(raw.leftOpen)], [Self.list(own.leftOpen)]))
    }
    lines += stateLines(raw, own)
    lines += ["", row("costs", [], [], style: .heading)]
    lines.append(row("threads", [threads(raw)], [threads(own)]))
    lines.append(row("fds", descriptors(raw), descriptors(own)))
    lines.append(row("memory", memory(raw), memory(own)))
    for (job, figures) in figures { lines += [""] + figureLines(figures, job) }
    return lines.joined(separator: "\n") + "\n"
  }

  func heading(_ title: String, _ about: String) -> String {
    let first = " " + Style.strong(title, color: color)
    return title.count + about.count + 4 <= width
      ? first + String(repeating: " ", count: width - title.count - about.count - 2) + about
      : ([first] + about.wrapped(to: width - 2).map { " " + $0 }).joined(separator: "\n")
  }

  /// A row of the table, as many lines as its longer cell has.
  private func row(_ label: String, _ left: [String], _ right: [String], style: Style = .plain) -> String {
    let (left, right) = (left.flatMap { wrapped($0) }, right.flatMap { wrapped($0) })
    return (0..<max(1, left.count, right.count)).map { index in
      let label = (index == 0 ? label : "").padded(to: Self.label)
      let left = (index < left.count ? left[index] : "").padded(to: column)
      let right = index < right.count ? right[index] : ""
      let text =
        Style.heading(label, color: color) + "│ " + style(left, color: color) + " │ "
        + style(right, color: color)
      return " " + text.trimmedRight
    }.joined(separator: "\n")
  }

  /// Broken where it is longer than a column; the rest stands further in.
  private func wrapped(_ text: String) -> [String] {
    if text.count <= column { return [text] }
    return text.wrapped(to: column - 2).enumerated().map { $0 == 0 ? $1 : "  " + $1 }
  }

  /// The calls, one after the other; the same one several times in a row once, with how often. Those that only wait stand together
  /// in the end, by their names.
  private func callLines(_ calls: [ObservedCall]) -> [String] {
    if calls.isEmpty { return ["–"] }
    var lines: [Repeated] = []
    var waits: [Repeated] = []
    for call in calls {
      if call.waits {
        let name = call.call.systemCall.name
        if let place = waits.firstIndex(where: { $0.text == name }) {
          waits[place].count += 1
        } else {
          waits.append(Repeated(text: name))
        }
      } else if lines.last?.text == call.shortText.line {
        lines[lines.count - 1].count += 1
      } else {
        lines.append(Repeated(text: call.shortText.line))
      }
    }
    // What goes on for long shows its beginning.
    var shown = lines.prefix(10).map(\.description)
    let rest = lines.dropFirst(10).reduce(0) { $0 + $1.count }
    if rest > 0 { shown.append("… and \(counted(rest, "call")) more") }
    if !waits.isEmpty { shown.append("waiting: " + waits.map(\.description).joined(separator: ", ")) }
    return shown
  }

  private struct Repeated: CustomStringConvertible {
    let text: String
    var count = 1
    var description: String { count == 1 ? text : "\(text) ×\(count)" }
  }

  private static func list(_ descriptors: [Int32]) -> String {
    descriptors.isEmpty ? "–" : descriptors.map { "fd \($0)" }.joined(separator: ", ")
  }

  /// A call without what differs from run to run: its descriptor by its role, and the port, but not the address; its result where that
  /// is a new descriptor.
  private static func comparable(_ call: ObservedCall) -> String {
    let text = call.shortText.line.replacing(/^(\w+\()\d+/) { "\($0.output.1)\(call.role?.rawValue ?? "fd")" }
      .replacing(/:\d+/, with: ":N")
    return call.call.newDescriptor == nil ? text : text.replacing(#/ = \d+$/#, with: " = fd")
  }

  // --- the state that is left ---

  private static let always: [Field] = [
    .local, .backlog, .nonBlocking, .closeOnExec, .reuseAddress, .receiveBuffer, .sendBuffer,
  ]

  private func stateLines(_ raw: Observation, _ own: Observation) -> [String] {
    var lines: [String] = []
    let moments: [(role: Role, stage: Stage)] =
      own.job.isServers ? [(.listener, .listen), (.connection, .accept)] : [(.connection, .connect)]
    for (role, stage) in moments {
      guard let left = raw.state(of: role, at: stage), let right = own.state(of: role, at: stage) else {
        continue
      }
      lines += [
        "",
        row(role.rawValue, ["after \(stage.rawValue):"], [], style: .heading),
      ]
      var same = 0
      for field in Field.allCases
      where field.group == .options || Self.always.contains(field) && field.group == .socket {
        guard left[field] != nil || right[field] != nil else { continue }
        let (one, other) = (shown(field, left), shown(field, right))
        let isSame = one == other
        if isSame, !Self.always.contains(field) {
          same += 1
          continue
        }
        lines.append(row("", ["\(field.label): \(one)"], [isSame ? "the same" : "\(field.label): \(other)"]))
      }
      if same > 0 { lines.append(row("", ["and \(counted(same, "option"))"], ["the same"])) }
    }
    return lines
  }

  private func shown(_ field: Field, _ state: SocketState) -> String {
    // The kernel has chosen its port; the address is what a program decides.
    if field == .local, let address = state.local {
      return String(
        address.description.prefix(
          upTo: address.description.lastIndex(of: ":") ?? address.description.endIndex))
    }
    guard let value = state[field] else { return "not known" }
    return value.description + (field.unit.isEmpty ? "" : " \(field.unit)")
  }

  // --- costs ---

  private func threads(_ observation: Observation) -> String {
    "\(observation.threads)"
      + (observation.threadsInAll > observation.threads ? " at once, \(observation.threadsInAll) in all" : "")
  }

  private func descriptors(_ observation: Observation) -> [String] {
    let kinds = observation.kinds.sorted { $0.key < $1.key }.map {
      $0.value == 1 ? $0.key : "\($0.value) \($0.key)"
    }
    return ["\(observation.descriptors): \(kinds.joined(separator: ", "))"]
  }

  private func memory(_ observation: Observation) -> [String] {
    ["\(Self.mebibytes(observation.resident)) at the peak, \(Self.mebibytes(observation.anonymous)) its own"]
  }

  private func figureLines(_ figures: Figures, _ job: Job) -> [String] {
    func counts(_ measurements: [Measurement]) -> String {
      let counts = measurements.map(\.count).sorted()
      return "\(measurements.count) × \(Measurement.counted(counts.first ?? 0, job))"
    }
    var lines = [
      row("time", [job.measured], [""], style: .heading),
      row("", [counts(figures.raw)], [counts(figures.own)]),
    ]
    for figure in Figures.Figure.allCases {
      guard let left = Figures.median(figures.raw, figure), let right = Figures.median(figures.own, figure),
        let ratio = figures.ratio(figure)
      else { continue }
      lines.append(
        row(
          Self.name(figure, job), [Self.time(left)],
          ["\(Self.time(right))  \(Self.ratio(ratio))"]))
    }
    return lines
  }

  /// Of six starts the slowest is all that there is to say.
  static func name(_ figure: Figures.Figure, _ job: Job) -> String {
    switch figure {
    case .processorTime: "CPU"
    case .slow where job == .open: "slowest"
    case .median, .slow: figure.rawValue
    }
  }

  /// Nothing where there are none.
  func text(_ failures: Failures) -> String {
    failures.all.map { wrapper, job, reason in
      let lines = "✗ \(wrapper.name) · \(job.rawValue) failed: \(reason)".printable.wrapped(to: width - 4)
      return "\n" + lines.enumerated().map { ($0 == 0 ? " " : "   ") + $1 + "\n" }.joined()
    }.joined()
  }

  /// What stands before the first page.
  var introduction: String {
    let text =
      "The same job by raw calls and by a wrapper. Each call stands at the stage of the socket's life that it makes; what only waits stands "
      + "at the stage that it waited for, by its name. Then the state that the kernel had; threads, descriptors (fds, and what they lead to) and "
      + "memory (resident at the peak, and what of it the program has allocated itself); and times, as ratios to raw, of several runs "
      + "the one in the middle (and the least and the greatest). All options: --format json."
    return text.wrapped(to: width - 2).map { " " + Style.quiet($0, color: color) + "\n" }.joined()
  }

  func text(_ attempts: [Attempt]) -> String {
    var lines = [
      "", " " + Style.strong("Not on Linux, or not as documented: tried in this run", color: color),
    ]
    for attempt in attempts {
      lines += ["", " " + Style.heading(attempt.name, color: color)]
      lines += attempt.expected.printable.wrapped(to: width - 5).map { "   " + $0 }
      let outcome = "→ \(attempt.outcome)".printable.wrapped(to: width - 5)
      lines += outcome.enumerated().map { "   " + ($0 == 0 ? "" : "  ") + $1 }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  // --- numbers ---

  /// Nanoseconds, in the unit that suits them, with three digits or so.
  static func time(_ nanoseconds: UInt64) -> String {
    let value = Double(nanoseconds)
    return value < 999_500
      ? "\(value < 99_950 ? tenths(value / 1000) : "\(Int((value / 1000).rounded()))") µs"
      : "\(value < 99_950_000 ? tenths(value / 1e6) : "\(Int((value / 1e6).rounded()))") ms"
  }

  static func ratio(_ ratio: Figures.Ratio) -> String {
    if ratio.runs == 1 { return "× \(hundredths(ratio.median)) (one run)" }
    return "× \(hundredths(ratio.median)) (\(hundredths(ratio.least)) to \(hundredths(ratio.most)))"
  }

  static func hundredths(_ value: Double) -> String {
    if value >= 100 { return Int(exactly: value.rounded()).map(String.init) ?? "\(value)" }
    let number = Int((value * 100).rounded())
    return "\(number / 100).\(number % 100 < 10 ? "0" : "")\(number % 100)"
  }

  static func tenths(_ value: Double) -> String {
    let number = Int((value * 10).rounded())
    return "\(number / 10).\(number % 10)"
  }

  private static func mebibytes(_ kibibytes: Int) -> String { "\(tenths(Double(kibibytes) / 1024)) MiB" }
}
