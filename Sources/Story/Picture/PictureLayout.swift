import CommandLineTool

/// Where everything of a picture stands, in pixels: the story in words at the left, a lane for each lifeline at the right.
struct PictureLayout {
  /// A line of the words at the left.
  struct Line {
    let text: String
    let style: String
    var x = PictureLayout.textX
    var y: Int
  }

  /// What stands on a lifeline.
  struct Label {
    enum Kind {
      /// The name at its head, and its address.
      case head(String, String, isAddress: Bool)
      /// Another name.
      case name(String)
      /// The same again, where the head is far above.
      case reminder(String)
      /// A state; not solid where only its queue is another.
      case state(String, Look, isSolid: Bool)
      case remark(String)
      case gone
    }

    let kind: Kind
    let x: Int
    /// Its upper edge.
    let y: Int
    var details = ""
  }

  /// A lifeline while it stands in one state; nil where there is no socket yet, or none any more.
  struct Bar {
    let x: Int
    let from: Int
    let to: Int
    let look: Look?
  }

  struct Row {
    let y: Int
    var height = 0
    var hasPanel = false
    var number: (text: String, isFailure: Bool)?
    var lines: [Line] = []
    var labels: [Label] = []
    var arrows: [(arrow: Arrow, from: Int, to: Int, y: Int)] = []
    /// For who points at the words.
    var details = ""
  }

  private(set) var rows: [Row] = []
  private(set) var bars: [Bar] = []
  private(set) var width = 0
  /// Where the rows end.
  private(set) var bottom: Int
  /// States that occur.
  private(set) var states: Set<String> = []
  let lanes: PictureLanes

  static let margin = 24
  static let numberX = 56
  static let textX = 68
  static let textWidth = 452
  static let lanesX = 536
  static let pitch = 156
  static let headWidth = 136
  static let headHeight = 36
  private static let leastWidth = 800
  static let lineHeight = 18
  private static let padding = 8
  /// After so many pixels it is said again whose lifelines these are.
  private static let reminderEvery = 1400

  private let picture: Picture
  /// Where the bar begins that each lifeline is in.
  private var open: [Int: (y: Int, look: Look?)] = [:]
  private var titles: [Int: String] = [:]
  private var lastReminder: Int

  init(_ picture: Picture, top: Int) {
    self.picture = picture
    bottom = top
    lastReminder = top
    let oldest = picture.bands.first?.serial ?? 0
    lanes = PictureLanes(picture.lifelines, from: oldest)
    width = max(Self.leastWidth, Self.lanesX + lanes.count * Self.pitch + Self.margin)
    addStart(before: oldest)
    for band in picture.bands { add(band) }
    close()
  }

  static func x(lane: Int) -> Int { lanesX + lane * pitch + pitch / 2 }

  // --- rows ---

  /// What was there before the first band.
  private mutating func addStart(before oldest: Int) {
    var row = Row(y: bottom)
    for text in leftOut {
      row.lines.append(Line(text: text, style: "aside", y: row.y + 23 + row.lines.count * Self.lineHeight))
    }
    for line in drawn where line.first < oldest {
      row.labels.append(head(of: line, title: line.start.title, y: row.y + Self.padding))
      guard !line.isAddress else { continue }
      let y = row.y + Self.padding + Self.headHeight + 6
      let look = look(line.start)
      let x = Self.x(lane: lanes.lanes[line.id] ?? 0)
      row.labels.append(
        Label(kind: .state(fitted(line.start.headline), look, isSolid: true), x: x, y: y))
      turn(line.id, to: look, at: y - 6)
    }
    if !row.labels.isEmpty {
      row.height = Self.headHeight + 2 * Self.padding + 30
    } else if !row.lines.isEmpty {
      row.height = 18 + row.lines.count * Self.lineHeight
    }
    push(row)
  }

  /// What is counted, and not drawn.
  private var leftOut: [String] {
    var texts: [String] = []
    if picture.stepsLeftOut > 0 {
      let steps = picture.bands.count(where: \.isStep)
      texts.append("… the last \(steps) of \(picture.stepsLeftOut + steps) steps that changed something")
    }
    let sockets = picture.socketsLeftOut + lanes.leftOut
    if sockets > 0 { texts.append("… and \(counted(sockets, "more socket")), not drawn") }
    let isBornWithSome = drawn.contains { $0.first < 0 }
    if picture.stepsLeftOut == 0, isBornWithSome { texts.append("what the program was started with") }
    return texts
  }

  /// The lane of a lifeline, as long as it has one.
  private func lane(of id: Int, in band: Band) -> Int? {
    guard let line = picture.lifelines[id], lanes.last(of: line) >= band.serial else { return nil }
    return lanes.lanes[id]
  }

  /// The lifelines that have a lane, from left to right.
  private var drawn: [Lifeline] {
    picture.lifelines.values.filter { lanes.lanes[$0.id] != nil }.sorted {
      (lanes.lanes[$0.id] ?? 0, $0.first) < (lanes.lanes[$1.id] ?? 0, $1.first)
    }
  }

  private mutating func add(_ whole: Band) {
    var band = whole
    band.marks.removeAll { lane(of: $0.lifeline, in: whole) == nil }
    band.arrows.removeAll { lane(of: $0.from, in: whole) == nil || lane(of: $0.to, in: whole) == nil }
    band.arrowsLeftOut += whole.arrows.count - band.arrows.count
    if case .meanwhile = band.kind, band.isEmpty { return }
    if bottom - lastReminder > Self.reminderEvery, band.isStep { addReminder() }
    var row = Row(y: bottom)
    var left = row.y + Self.padding + 14
    switch band.kind {
    case .step(let call):
      row.hasPanel = true
      row.number = ("\(call.number)", call.isFailure)
      row.details = call.details
      row.lines = call.lines(&left)
    case .meanwhile: row.lines = [Line(text: "meanwhile", style: "aside", y: left)]
    case .quiet(let calls, let more, let names):
      row.details = calls.map(\.details).joined(separator: "\n\n")
      row.lines = calls.flatMap { $0.quietLines(&left) }
      if more > 0 {
        let text = "… \(counted(more, "more call")) that changed nothing: \(names.joined(separator: ", "))"
        row.lines += Self.lines(text, "aside", &left)
      } else {
        left -= Self.lineHeight + 2
      }
    case .words(let text): row.lines = Self.lines(text, "words", &left)
    case .note(let text): row.lines = Self.lines(text, "aside", &left)
    case .ending(let text):
      row.hasPanel = true
      row.number = ("■", false)
      row.lines = Self.lines(text, "words", &left)
    }
    place(band, in: &row)
    if band.arrowsLeftOut > 0 {
      left += Self.lineHeight
      let text = "… and \(counted(band.arrowsLeftOut, "more packet"))"
      row.lines.append(Line(text: text, style: "aside", y: left))
    }
    row.height = max(row.height, left + Self.padding + 6 - row.y)
    push(row)
  }

  private mutating func push(_ row: Row) {
    guard row.height > 0 else { return }
    rows.append(row)
    bottom = row.y + row.height + 6
  }

  private mutating func addReminder() {
    lastReminder = bottom
    var row = Row(y: bottom)
    row.height = 22
    for line in drawn where open[line.id] != nil {
      let x = Self.x(lane: lanes.lanes[line.id] ?? 0)
      let text = Lettering.label.fit(titles[line.id] ?? "", in: Self.headWidth - 12)
      row.labels.append(Label(kind: .reminder(text), x: x, y: row.y + 2))
    }
    push(row)
  }

  // --- on the lifelines ---

  /// Puts a band's marks and packets under one another.
  private mutating func place(_ band: Band, in row: inout Row) {
    var y = row.y + Self.padding
    let births = band.marks.filter(\.isBirth)
    for mark in births {
      guard let line = picture.lifelines[mark.lifeline] else { continue }
      row.labels.append(head(of: line, title: mark.standing?.title ?? line.start.title, y: y))
    }
    if !births.isEmpty { y += Self.headHeight + 6 }
    /// Lifelines that end with a packet in this band: an address, or a socket that is gone already.
    var ends: [Int: Int] = [:]
    for arrow in band.arrows {
      guard let from = lanes.lanes[arrow.from], let to = lanes.lanes[arrow.to] else { continue }
      row.arrows.append((arrow, from, to, y + 17))
      y += 22
      for id in [arrow.from, arrow.to] where isLast(band, of: id) { ends[id] = y + 2 }
    }
    if !row.arrows.isEmpty { y += 8 }
    var deepest = y
    for mark in band.marks {
      guard let lane = lanes.lanes[mark.lifeline] else { continue }
      if !mark.isBirth || picture.lifelines[mark.lifeline]?.isAddress == false { ends[mark.lifeline] = nil }
      deepest = max(deepest, place(mark, in: band, x: Self.x(lane: lane), y: y, &row))
    }
    for (id, y) in ends { finish(id, at: y) }
    if deepest > row.y + Self.padding { row.height = deepest + Self.padding - row.y }
  }

  private func isLast(_ band: Band, of id: Int) -> Bool {
    picture.lifelines[id].map { lanes.last(of: $0) == band.serial } ?? false
  }

  /// Puts a mark under `y`, and returns where it ends.
  private mutating func place(_ mark: Mark, in band: Band, x: Int, y top: Int, _ row: inout Row) -> Int {
    var y = top
    func add(_ kind: Label.Kind, _ height: Int) {
      row.labels.append(Label(kind: kind, x: x, y: y, details: mark.details))
      y += height + 4
    }
    if let title = mark.title {
      titles[mark.lifeline] = title
      add(.name(Lettering.label.fit(title, in: Self.headWidth - 12)), 18)
    }
    if let standing = mark.standing {
      let look = look(standing)
      let isNew = mark.isBirth && row.arrows.isEmpty
      turn(mark.lifeline, to: look, at: isNew ? y - 6 : y + 10)
      add(.state(fitted(standing.headline), look, isSolid: mark.isStateChange), 20)
    }
    for remark in mark.remarks.prefix(4) {
      add(.remark(Lettering.small.fit(remark, in: Self.headWidth - 12)), 17)
    }
    if mark.end == .gone {
      row.labels.append(Label(kind: .gone, x: x, y: y + 8, details: mark.details))
      finish(mark.lifeline, at: y + 8)
      if !isLast(band, of: mark.lifeline) { open[mark.lifeline] = (y + 30, nil) }
      y += 30
    } else if mark.end != nil || isLast(band, of: mark.lifeline), open[mark.lifeline]?.look != nil {
      // It goes on, and is drawn no further.
      finish(mark.lifeline, at: y + 6)
      bars.append(Bar(x: x, from: y + 6, to: y + 24, look: nil))
      y += 26
    }
    return y - 4
  }

  private mutating func head(of line: Lifeline, title: String, y: Int) -> Label {
    let address = line.isAddress ? "no socket seen" : line.localAtBirth?.description.printable ?? ""
    var title = title
    if line.isAddress, let local = line.local { title = "\(local)".printable }
    titles[line.id] = title
    open[line.id] = (y + Self.headHeight, nil)
    let room = Self.headWidth - 10
    let ends = [line.local, line.peer].compactMap { $0?.description.printable }.joined(separator: " → ")
    return Label(
      kind: .head(
        line.isAddress ? Lettering.small.fitEnd(title, in: room) : Lettering.call.fit(title, in: room),
        Lettering.small.fitEnd(address, in: room), isAddress: line.isAddress),
      x: Self.x(lane: lanes.lanes[line.id] ?? 0), y: y, details: ends.isEmpty ? title : "\(title)\n\(ends)")
  }

  private mutating func look(_ standing: Lifeline.Standing) -> Look {
    if let state = standing.state { states.insert(state) }
    return Look(state: standing.state)
  }

  private func fitted(_ text: String) -> String { Lettering.label.fit(text, in: Self.pitch - 30) }

  private mutating func turn(_ id: Int, to look: Look, at y: Int) {
    finish(id, at: y)
    open[id] = (y, look)
  }

  private mutating func finish(_ id: Int, at y: Int) {
    guard let lane = lanes.lanes[id], let bar = open.removeValue(forKey: id), y > bar.y else { return }
    bars.append(Bar(x: Self.x(lane: lane), from: bar.y, to: y, look: bar.look))
  }

  /// What is still there goes on below.
  private mutating func close() {
    for id in open.keys.sorted() {
      let isAlive = picture.lifelines[id]?.isAlive ?? false
      finish(id, at: bottom - 6)
      if isAlive, let lane = lanes.lanes[id] {
        bars.append(Bar(x: Self.x(lane: lane), from: bottom - 6, to: bottom + 14, look: nil))
      }
    }
    bottom += 18
  }
}
