import CommandLineTool

extension Page {
  /// What the programs do, beside each other; their beginnings, where options are read, are left out.
  func sources(_ own: String, _ raw: String, _ wrapper: Wrapper) -> String {
    let (left, right) = (Self.core(raw), Self.core(own))
    let half = (width - 4) / 2
    var lines = ["", heading("\(wrapper.raw.name) beside \(wrapper.name)", wrapper.about), ""]
    // Aligned by nothing but their order: they are two programs.
    let (a, b) = (left.flatMap { broken($0, half) }, right.flatMap { broken($0, half) })
    for index in 0..<max(a.count, b.count) {
      let one = (index < a.count ? a[index] : "").padded(to: half)
      lines.append(" \(one) │ \(index < b.count ? b[index] : "")".trimmedRight)
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// From the line that says where the job begins to the next line of its kind, or to the end.
  static func core(_ source: String) -> [String] {
    let lines = source.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    let start = lines.firstIndex { $0.hasPrefix("// --- the job ---") }.map { $0 + 1 } ?? 0
    let end = lines[start...].firstIndex { $0.hasPrefix("// ---") } ?? lines.endIndex
    var core = lines[start..<end]
    while core.last?.isEmpty ?? false { core.removeLast() }
    return Array(core)
  }

  /// A line of a source, cut where it is too long: its indent is kept, and the rest stands further in.
  private func broken(_ line: String, _ width: Int) -> [String] {
    if line.count <= width { return [line] }
    let indent = String(line.prefix { $0 == " " })
    let room = max(8, width - indent.count - 4)
    return String(line.dropFirst(indent.count)).wrapped(to: room).enumerated().map {
      indent + ($0 == 0 ? "" : "    ") + $1
    }
  }
}
