import CommandLineTool
import KernelState

/// A picture as SVG: a layout put into elements, with a title over it and a key to the states under it.
struct PictureDrawing {
  /// What stands over the picture.
  struct Heading {
    var title = ""
    /// The command that was followed.
    var command: String?
    /// The calls of a connection's life, and the one that the lesson is about.
    var calls: [String] = []
    var topic: String?
  }

  private let picture: Picture
  private let heading: Heading
  private let layout: PictureLayout
  private let key: [KeyEntry]

  private struct KeyEntry {
    enum Sample { case state(String), remark(String), arrow, reset, gone }
    let sample: Sample
    let text: String
  }

  private static let keyWidth = 440
  private static let keyHeight = 30
  private static let footer = "Each state and packet is what the kernel said of it in this run. SocketSteps"

  init(_ picture: Picture, heading: Heading) {
    self.picture = picture
    self.heading = heading
    layout = PictureLayout(picture, top: heading.calls.isEmpty && heading.command == nil ? 72 : 98)
    key = Self.key(to: picture, layout)
  }

  /// The whole file.
  var text: String {
    var svg = SVG()
    let columns = max(1, (layout.width - 2 * PictureLayout.margin) / Self.keyWidth)
    let keyTop = layout.bottom + (key.isEmpty ? 0 : 20)
    let height = keyTop + (key.count + columns - 1) / columns * Self.keyHeight + 48
    let width = layout.width
    svg.element(
      "svg",
      [
        "xmlns": "http://www.w3.org/2000/svg", "width": width, "height": height,
        "viewBox": "0 0 \(width) \(height)", "role": "img", "aria-labelledby": "story-title story-text",
      ]
    ) { svg in
      svg.element(
        "title", ["id": "story-title"],
        [heading.title, heading.command].compactMap { $0 }.joined(separator: " · "))
      svg.element("desc", ["id": "story-text"], summary)
      svg.styleSheet(PictureStyle.sheet)
      svg.box("paper", x: 0, y: 0, width: width, height: height)
      drawHeading(&svg)
      for row in layout.rows where row.hasPanel {
        svg.box(
          "panel", x: PictureLayout.margin, y: row.y, width: width - 2 * PictureLayout.margin,
          height: row.height, radius: 8)
        if row.number?.isFailure == true {
          svg.box("fail", x: PictureLayout.margin, y: row.y + 8, width: 3, height: row.height - 16)
        }
      }
      for bar in layout.bars { draw(bar, &svg) }
      for row in layout.rows { draw(row, &svg) }
      drawKey(&svg, top: keyTop, columns: columns)
      svg.words(Self.footer, "legend", x: PictureLayout.margin, y: height - 20)
    }
    return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + svg.text
  }

  private var summary: String {
    let steps = picture.bands.count(where: \.isStep)
    let sockets = picture.lifelines.values.count { !$0.isAddress }
    return
      "Time runs down. \(counted(steps, "step")) at the left, each a system call and its result; at the right "
      + "\(counted(sockets, "socket")), each a line that is marked where its state changes, and the packets between them."
  }

  private func drawHeading(_ svg: inout SVG) {
    svg.words(heading.title, "title", x: PictureLayout.margin, y: 48)
    let room = layout.width - 2 * PictureLayout.margin
    if let command = heading.command {
      svg.words(
        Lettering.heading.fit(command, in: room), "command", x: PictureLayout.margin, y: 78,
        title: String(command.prefix(4096)))
    } else if !heading.calls.isEmpty {
      svg.element("text", ["class": "crumbs", "x": PictureLayout.margin, "y": 76]) { svg in
        for (index, call) in heading.calls.enumerated() {
          if index > 0 { svg.element("tspan", [:], "→") }
          svg.element("tspan", call == heading.topic ? ["class": "here"] : [:], call)
        }
      }
    }
  }

  // --- rows ---

  private func draw(_ row: PictureLayout.Row, _ svg: inout SVG) {
    if !row.lines.isEmpty {
      svg.element("g", [:], title: row.details.isEmpty ? nil : row.details) { svg in
        if let number = row.number {
          let style = number.isFailure ? "fault number" : "number"
          svg.words(number.text, style, x: PictureLayout.numberX, y: row.y + 22)
        }
        for line in row.lines { svg.words(line.text, line.style, x: line.x, y: line.y) }
      }
    }
    for (arrow, from, to, y) in row.arrows {
      draw(arrow, from: from, to: to, y: y, over: row.hasPanel ? "halo" : "halo bare", &svg)
    }
    for label in row.labels { draw(label, &svg) }
  }

  private func draw(
    _ arrow: Arrow, from: Int, to: Int, y: Int, over halo: String, _ svg: inout SVG
  ) {
    let forward = to >= from ? 1 : -1
    let start = PictureLayout.x(lane: from) + 6 * forward
    let end = PictureLayout.x(lane: to) - 6 * forward
    // The label of a socket that is connected to itself stands beside the arrow's bend.
    let bend = from == to ? 24 : 0
    let room = PictureLayout.pitch - 20 - bend
    let middle = PictureLayout.x(lane: from) + forward * (PictureLayout.pitch + bend) / 2
    let text = Lettering.small.width(arrow.label) <= room ? arrow.label : arrow.shortLabel
    svg.element("g", [:], title: arrow.details) { svg in
      // Where it passes other lifelines, it passes over them.
      if abs(to - from) > 1 {
        svg.path(halo, "M\(start + 8 * forward) \(y)H\(end - 12 * forward)")
      }
      let style = arrow.isReset ? "reset" : "arrow"
      if from == to {
        let x = PictureLayout.x(lane: from)
        svg.path(style, "M\(x + 6) \(y - 8)H\(x + bend)V\(y)H\(x + 14)")
        svg.path(arrow.isReset ? "resettip" : "tip", "M\(x + 6) \(y)l10 -4v8z")
      } else {
        svg.path(style, "M\(start) \(y)H\(end - 8 * forward)")
        svg.path(arrow.isReset ? "resettip" : "tip", "M\(end) \(y)l\(-10 * forward) -4v8z")
      }
      svg.words(
        Lettering.small.fit(text, in: room), arrow.isReset ? "resetname" : "packet", x: middle, y: y - 5)
    }
  }

  private func draw(_ bar: PictureLayout.Bar, _ svg: inout SVG) {
    guard let look = bar.look else {
      svg.path("thread", "M\(bar.x) \(bar.from)V\(bar.to)")
      return
    }
    svg.element("g", ["class": look.rawValue]) { svg in
      Self.draw(look.shape, x: bar.x, y: bar.from, height: bar.to - bar.from, &svg)
    }
  }

  private static func draw(_ shape: Look.Shape, x: Int, y: Int, height: Int, _ svg: inout SVG) {
    switch shape {
    case .hollow: svg.box("hollow", x: x - 3, y: y, width: 6, height: height)
    case .dashed: svg.box("dashed", x: x - 3, y: y, width: 6, height: height)
    case .dotted: svg.box("dotted", x: x - 3, y: y, width: 6, height: height)
    case .full: svg.box("bar", x: x - 4, y: y, width: 8, height: height)
    case .leftHalf, .rightHalf:
      svg.box("hollow", x: x - 3, y: y, width: 6, height: height)
      svg.box("bar", x: shape == .leftHalf ? x - 4 : x, y: y, width: 4, height: height)
    case .double:
      svg.box("bar", x: x - 4, y: y, width: 3, height: height)
      svg.box("bar", x: x + 1, y: y, width: 3, height: height)
    }
  }

  private func draw(_ label: PictureLayout.Label, _ svg: inout SVG) {
    let x = label.x
    let y = label.y
    svg.element("g", [:], title: label.details.isEmpty ? nil : label.details) { svg in
      switch label.kind {
      case .head(let name, let address, let isAddress):
        let width = PictureLayout.headWidth
        svg.box(
          isAddress ? "head foreign" : "head", x: x - width / 2, y: y, width: width,
          height: PictureLayout.headHeight, radius: 6)
        svg.words(name, "name", x: x, y: y + (address.isEmpty ? 22 : 16))
        if !address.isEmpty { svg.words(address, "address", x: x, y: y + 29) }
      case .name(let name):
        let width = Lettering.label.width(name) + 16
        svg.box("head", x: x - width / 2, y: y, width: width, height: 18, radius: 5)
        svg.words(name, "other-name", x: x, y: y + 13)
      case .reminder(let name):
        let width = Lettering.label.width(name) + 8
        svg.box("paper", x: x - width / 2, y: y, width: width, height: 18)
        svg.words(name, "reminder", x: x, y: y + 13)
      case .state(let text, let look, let isSolid):
        let width = Lettering.label.width(text) + 18
        svg.element("g", ["class": look.rawValue]) { svg in
          svg.box(isSolid ? "pill" : "tag", x: x - width / 2, y: y, width: width, height: 20, radius: 10)
          svg.words(text, isSolid ? "on" : "in", x: x, y: y + 14)
        }
      case .remark(let text):
        let width = Lettering.small.width(text) + 12
        svg.box("slip", x: x - width / 2, y: y, width: width, height: 17, radius: 4)
        svg.words(text, "remark", x: x, y: y + 12)
      case .gone:
        svg.path("cap", "M\(x - 9) \(y)h18")
        svg.words("gone", "address", x: x, y: y + 15)
      }
    }
  }

  // --- the key ---

  private static func key(to picture: Picture, _ layout: PictureLayout) -> [KeyEntry] {
    // In the order of a connection's life.
    let states: [TCPState] = [
      .close, .listen, .synSent, .synReceived, .established, .finWait1, .finWait2, .closing, .closeWait,
      .lastAck, .timeWait,
    ]
    var entries = states.filter { layout.states.contains($0.name) }
      .map { KeyEntry(sample: .state($0.name), text: Look.meaning(of: $0)) }
    let marks = picture.bands.flatMap(\.marks)
    let arrows = picture.bands.flatMap(\.arrows)
    if marks.contains(where: { $0.remarks.contains { $0.hasSuffix("to read") } }) {
      entries.append(KeyEntry(sample: .remark("13 to read"), text: "bytes that wait in the receive buffer"))
    }
    if arrows.contains(where: { !$0.isReset }) {
      entries.append(KeyEntry(sample: .arrow, text: "a packet, from its sender to its receiver"))
    }
    if arrows.contains(where: \.isReset) {
      entries.append(KeyEntry(sample: .reset, text: "a packet with RST: no such connection, or no longer"))
    }
    if marks.contains(where: { $0.end == .gone }) {
      entries.append(KeyEntry(sample: .gone, text: "the kernel knows the socket no more"))
    }
    return entries
  }

  private func drawKey(_ svg: inout SVG, top: Int, columns: Int) {
    guard !key.isEmpty else { return }
    svg.path("rule", "M\(PictureLayout.margin) \(top - 14)H\(layout.width - PictureLayout.margin)")
    let perColumn = (key.count + columns - 1) / columns
    for (index, entry) in key.enumerated() {
      let x = PictureLayout.margin + index / perColumn * Self.keyWidth
      let y = top + index % perColumn * Self.keyHeight
      drawSample(entry.sample, x: x, y: y, &svg)
      svg.words(entry.text, "legend", x: x + 136, y: y + 19)
    }
  }

  private func drawSample(_ sample: KeyEntry.Sample, x: Int, y: Int, _ svg: inout SVG) {
    let middle = x + 72
    switch sample {
    case .state(let name):
      let look = Look(state: name)
      svg.element("g", ["class": look.rawValue]) { svg in
        Self.draw(look.shape, x: x + 6, y: y + 3, height: 24, &svg)
      }
      draw(PictureLayout.Label(kind: .state(name, look, isSolid: true), x: middle, y: y + 5), &svg)
    case .remark(let text): draw(PictureLayout.Label(kind: .remark(text), x: middle, y: y + 6), &svg)
    case .arrow, .reset:
      let isReset = if case .reset = sample { true } else { false }
      svg.path(isReset ? "reset" : "arrow", "M\(middle - 40) \(y + 15)h70")
      svg.path(isReset ? "resettip" : "tip", "M\(middle + 40) \(y + 15)l-10 -4v8z")
    case .gone: svg.path("cap", "M\(middle - 9) \(y + 15)h18")
    }
  }
}
