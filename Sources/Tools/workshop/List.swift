import CommandLineTool

extension Workshop {
  /// All exercises, a line each; and, unless `says` is false, what to type.
  func list(says: Bool = true) -> String {
    let page = page
    let next = inProgress ?? self.next()
    let names = (course.exercises.map(\.name.count).max() ?? 0) + 2
    var text = page.bar(done: doneCount, of: course.exercises.count) + "\n"
    for exercise in course.exercises {
      let entry = progress[exercise]
      let (mark, style) = mark(exercise, isNext: exercise === next)
      let number = "\(exercise.number)".paddedLeft(to: "\(course.exercises.count)".count)
      let isWide = page.width >= 72
      let remark = remark(exercise, entry)
      let room = page.width - number.count - 7 - (isWide ? names + remark.count + 2 : 0)
      let start = " \(style(mark, color: page.color)) \(number)  "
      let title = exercise.title.wrapped(to: max(16, room))
      let head = isWide ? exercise.name.padded(to: names) : ""
      for (row, line) in title.enumerated() {
        if row == 0 {
          let end = isWide && !remark.isEmpty ? Style.quiet("  \(remark)", color: page.color) : ""
          let shown = exercise === next ? Style.heading(line, color: page.color) : line
          text +=
            start + head
            + (end.isEmpty ? shown : shown + String(repeating: " ", count: max(0, room - line.count)) + end)
        } else {
          text += String(repeating: " ", count: number.count + 5 + head.count) + line
        }
        text += "\n"
      }
      if !isWide {
        let below = [exercise.name, remark].filter { !$0.isEmpty }.joined(separator: " · ")
        text += page.paragraph(below, indent: number.count + 5, style: .quiet)
      }
      if case .failure(let complaint) = exercise.check {
        text += page.paragraph(complaint.description, indent: number.count + 5, style: .bad)
      }
    }
    guard says, let next else { return text }
    let word = inProgress == nil ? "start \(next.number)" : "watch"
    return text + "\n" + page.rows([(inProgress == nil ? "next" : "go on", place.command(word))])
  }

  private func mark(_ exercise: Exercise, isNext: Bool) -> (String, Style) {
    if progress[exercise].isDone { return ("✓", .good) }
    if !exercise.isUsable { return ("✗", .bad) }
    if isNext { return ("▸", .strong) }
    return progress.knows(exercise) ? ("·", .quiet) : (" ", .plain)
  }

  private func remark(_ exercise: Exercise, _ entry: ProgressEntry) -> String {
    var parts: [String] = []
    if let done = entry.done { parts.append(done.isEmpty ? "done" : String(done.prefix(10))) }
    if entry.done == nil, entry.isCurrent { parts.append("in progress") }
    if entry.done == nil, !entry.isCurrent, entry.started != nil { parts.append("begun") }
    if entry.done == nil, entry.hints > 0 { parts.append(counted(entry.hints, "hint")) }
    if entry.isGivenUp { parts.append("solution seen") }
    return parts.joined(separator: ", ")
  }
}
