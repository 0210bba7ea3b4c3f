import CommandLineTool

extension Page {
  /// One line a program: what it costs, as ratios to raw. What nobody could follow has no counts.
  func summary(
    _ pairs: [(wrapper: Wrapper, job: Job)], _ observations: [Observation], _ figures: [String: Figures],
    runs: Int
  ) -> String {
    var lines: [String] = []
    for job in Job.allCases {
      let wrappers = pairs.filter { $0.job == job }.map(\.wrapper)
      guard wrappers.count > 1 else { continue }
      let title = "\(job.rawValue): \(job.measured); times raw's, median of \(counted(runs, "run"))"
      lines += [""] + title.wrapped(to: width - 2).map { " " + Style.strong($0, color: color) }
      let names = wrappers.map(\.name.count).max() ?? 0
      var columns =
        ["calls", "threads", "fds", "MiB"] + Figures.Figure.allCases.map { Self.name($0, job) }
      // Where there is no room for all, what was measured goes before what was counted.
      if observations.isEmpty || width < names + 1 + columns.count * 8 { columns.removeFirst(4) }
      let room = max(1, min(8, (width - 1) / columns.count) - 1)
      // And where there is none for that either, a name has a line of its own.
      let isNarrow = width < names + 1 + columns.count * 8
      let start = isNarrow ? 0 : names
      func line(_ name: String, _ cells: [String]) -> [String] {
        let figures = cells.map { " " + $0.paddedLeft(to: room) }.joined()
        return isNarrow && !name.isEmpty
          ? [" " + name, " " + figures] : [" " + name.padded(to: start) + figures]
      }
      lines += line("", columns)
      for wrapper in wrappers {
        let row = observations.first { $0.job == job && $0.wrapper.name == wrapper.name }
        // Raw was timed beside each of the others: the middle of all that, in units of time.
        let runsOfRaw = wrappers.filter { $0.rawName == wrapper.name }.flatMap {
          figures[Comparison.key($0, job)]?.raw ?? []
        }
        let own = figures[Comparison.key(wrapper, job)]
        func cell(_ figure: Figures.Figure) -> String {
          wrapper.isRaw
            ? Figures.median(runsOfRaw, figure).map(Self.time) ?? "–"
            : own?.ratio(figure).map { Self.hundredths($0.median) } ?? "–"
        }
        let cells = [
          "\(row?.calls.count ?? 0)", "\(row?.threads ?? 0)", "\(row?.descriptors ?? 0)",
          Self.tenths(Double(row?.resident ?? 0) / 1024),
          cell(.median), cell(.slow), cell(.processorTime),
        ].suffix(columns.count)
        lines += line(wrapper.name, Array(cells))
      }
    }
    if lines.isEmpty { return "" }
    var legend =
      "calls: that concern sockets, or what is waited for beside them; threads, fds: at the same time, at most, the "
      + "latter as seen after those calls; MiB: resident, at the peak. How much the ratios differ from run to run stands above. "
    if observations.isEmpty { legend = "" }
    #if DEBUG
      legend +=
        "The programs' own code was built for debugging: swift run -c release compare has it optimised."
    #endif
    if !legend.isEmpty {
      lines += [""] + legend.wrapped(to: width - 2).map { " " + Style.quiet($0, color: color) }
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
