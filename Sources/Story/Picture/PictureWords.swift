import CommandLineTool

// The words at the left of a picture, in lines. `y` is the first line's baseline, and becomes the last one's.

extension PictureLayout {
  static func lines(_ text: String, _ style: String, _ y: inout Int) -> [Line] {
    var lines: [Line] = []
    for part in Lettering.words.wrap(text, in: textWidth) {
      if !lines.isEmpty { y += lineHeight + 1 }
      lines.append(Line(text: part, style: style, y: y))
    }
    return lines
  }
}

extension Band.CallLine {
  func lines(_ y: inout Int) -> [PictureLayout.Line] {
    typealias Line = PictureLayout.Line
    let width = PictureLayout.textWidth
    var lines: [Line] = []
    let parts = Lettering.call.wrapCall(call, in: width, lines: 2)
    for part in parts {
      if !lines.isEmpty { y += PictureLayout.lineHeight }
      lines.append(Line(text: part, style: "call", y: y))
    }
    let text = (isFailure ? "✗ " : "= ") + result
    let end = Lettering.call.width(parts.last ?? "") + 8
    if !isFailure, end + Lettering.call.width(text) <= width {
      lines.append(Line(text: text, style: "result", x: PictureLayout.textX + end, y: y))
    } else {
      y += PictureLayout.lineHeight
      let style = isFailure ? "fault" : "result"
      lines.append(Line(text: Lettering.call.fit(text, in: width), style: style, y: y))
    }
    if repetitions > 0 {
      y += PictureLayout.lineHeight
      let times = repetitions == 1 ? "once more" : "\(repetitions) times more"
      lines.append(Line(text: "the same \(times)", style: "aside", y: y))
    }
    if let advice {
      y += PictureLayout.lineHeight + 2
      lines += PictureLayout.lines("▸ " + advice.printable, "advice", &y)
    }
    return lines
  }

  /// A call that changed nothing, in one line. `y` becomes the next one's.
  func quietLines(_ y: inout Int) -> [PictureLayout.Line] {
    let width = PictureLayout.textWidth
    // "-1 EAGAIN (Resource temporarily unavailable)": its name says it.
    let isLong = Lettering.call.width(" = \(result)") > width / 2
    let short = isLong ? result.prefix { $0 != "(" }.trimmingSpaces : result
    let end = Lettering.call.fit(" = \(short)", in: width / 2)
    let text = Lettering.call.fit(call, in: width - Lettering.call.width(end)) + end
    defer { y += PictureLayout.lineHeight + 2 }
    return [
      PictureLayout.Line(text: "\(number)", style: "number", x: PictureLayout.numberX, y: y),
      PictureLayout.Line(text: text, style: "still", y: y),
    ]
  }
}

extension Substring {
  fileprivate var trimmingSpaces: String { String(self).trimmedRight }
}
