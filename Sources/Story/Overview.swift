import CommandLineTool
import KernelState

/// The whole run at a glance: a row for each step that changed a state, a column for each socket.
struct Overview {
  private struct Row {
    let number: Int
    let call: String
    let failed: Bool
    let cells: [Int: String]
  }

  private var rows: [Row] = []
  private var left = 0
  private var columns: [Int] = []
  private var titles: [Int: [String]] = [:]
  private var last: [Int: String] = [:]
  private var newest = 0
  private var omitted = 0

  /// A story may go on for days; its end is what one wants to see.
  private static let limit = 60
  /// More sockets than this are counted, and not drawn.
  private static let columnLimit = 24
  /// A column's width.
  private static let column = 16

  /// `owner` is whose a socket is, where that has to be said.
  mutating func add(_ step: Step, owner: (SocketSnapshot) -> String?) {
    let isNew = note(step.after, owner)
    let cells = cells(step.after)
    guard isNew || cells != last || step.isFailure else { return }
    last = cells
    rows.append(
      Row(number: step.number, call: step.call.systemCall.name, failed: step.isFailure, cells: cells))
    if rows.count > Self.limit {
      rows.removeFirst()
      left += 1
    }
  }

  mutating func add(_ ending: StoryItem.Ending, owner: (SocketSnapshot) -> String?) {
    _ = note(ending.sockets, owner)
    let cells = cells(ending.sockets)
    if cells != last, !cells.isEmpty {
      rows.append(Row(number: 0, call: "(ended)", failed: false, cells: cells))
    }
  }

  private mutating func note(_ sockets: [SocketSnapshot], _ owner: (SocketSnapshot) -> String?) -> Bool {
    var isNew = false
    for socket in sockets {
      if titles[socket.id] == nil {
        guard socket.id > newest else { continue }  // one of those that are counted, and not drawn
        newest = socket.id
        if columns.count >= Self.columnLimit { forgetOldColumns() }
        guard columns.count < Self.columnLimit else {
          omitted += 1
          continue
        }
        columns.append(socket.id)
        isNew = true
      }
      let title =
        socket.descriptor.map { (owner(socket).map { "\($0) " } ?? "") + "fd \($0)" }
        ?? (socket.label == "peer" ? "peer" : nil)
      let known = titles[socket.id] ?? []
      if let title, let last = known.last, title.hasSuffix(" \(last)") {
        titles[socket.id] = known.dropLast() + [title]  // the same, and whose it is
      } else if let title, known.last != title {
        titles[socket.id] = known + [title]
      }
      if title == nil, known.isEmpty { titles[socket.id] = ["no fd"] }
    }
    return isNew
  }

  /// Makes room: what no row that is left has to say anything of needs no column.
  private mutating func forgetOldColumns() {
    columns.removeAll { id in
      let isOld = last[id] == nil && !rows.contains { $0.cells[id] != nil }
      if isOld { titles[id] = nil }
      return isOld
    }
  }

  private func cells(_ sockets: [SocketSnapshot]) -> [Int: String] {
    Dictionary(sockets.filter { titles[$0.id] != nil }.map { ($0.id, Self.cell($0)) }) { first, _ in first }
  }

  private static func cell(_ socket: SocketSnapshot) -> String {
    let text = socket.state.headline
    let waiting = socket.state.waiting
    guard waiting > 0 else { return text }
    let exact = " +\(waiting)"
    let short = "+" + (waiting < 1_000_000 ? "\(waiting / 1000)k" : "\(waiting / 1_000_000)M")
    if text.count + exact.count < column { return text + exact }
    if waiting >= 1000, text.count + short.count < column { return text + short }
    return text
  }

  /// The table, in pieces where it is too wide.
  func lines(width: Int, color: Bool) -> [String] {
    guard !rows.isEmpty else { return [] }
    let shown = columns.filter { id in rows.contains { $0.cells[id] != nil } }
    let names = rows.map(\.call.count).max() ?? 0
    let first = 4 + min(16, max(8, names)) + 2
    let column = Self.column
    let perPiece = max(1, (width - first) / column)
    var lines: [String] = []
    for start in stride(from: 0, to: shown.count, by: perPiece) {
      let piece = Array(shown[start..<min(shown.count, start + perPiece)])
      lines.append("")
      let heads = piece.map { id in
        let names = titles[id] ?? ["no fd"]
        let whole = names.joined(separator: " → ")
        let title = whole.count > column - 2 && names.first == "no fd" ? names[names.count - 1] : whole
        return title.truncated(to: column - 2).padded(to: column)
      }
      lines.append(
        Style.heading(String(repeating: " ", count: first) + heads.joined().trimmedRight, color: color))
      if left > 0 {
        lines.append("    … the last \(rows.count) of \(rows.count + left) steps that changed a state")
      }
      var before: [Int: String] = [:]
      for row in rows {
        let isNew = piece.contains {
          row.cells[$0] != before[$0] && !(row.cells[$0] == nil && before[$0] == "gone")
        }
        guard isNew || row.failed && start == 0 else { continue }
        let number = row.number == 0 ? "" : "\(row.number)"
        var line = number.paddedLeft(to: 3) + (row.failed ? "✗" : " ") + row.call.truncated(to: first - 5)
        line = (row.failed ? Style.bad : Style.plain)(line.padded(to: first), color: color)
        for (index, id) in piece.enumerated() {
          let cell = row.cells[id] ?? (before[id] == nil ? "" : "gone")
          let text = cell.truncated(to: column - 1)
          let changed = before[id] != cell && !(cell == "gone" && before[id] == "gone")
          let shown = cell == "gone" && before[id] == "gone" ? "" : text
          line += (changed ? Style.changed : Style.quiet)(shown, color: color)
          if index < piece.count - 1 { line += String(repeating: " ", count: column - shown.count) }
          if row.cells[id] != nil || before[id] != nil { before[id] = cell }
        }
        lines.append(line.trimmedRight)
      }
    }
    if omitted > 0 { lines += ["", "    … and \(counted(omitted, "more socket"))"] }
    return lines
  }
}
