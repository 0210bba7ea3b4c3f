/// What several runs of two programs, one after the other in turn, have come to.
struct Figures {
  var own: [Measurement] = []
  var raw: [Measurement] = []

  enum Figure: String, CaseIterable {
    case median = "p50"
    case slow = "p99"
    case processorTime
  }

  /// A ratio, and from where to where it went in the single runs.
  struct Ratio {
    let median: Double
    let least: Double
    let most: Double
    let runs: Int
  }

  /// How many times raw's it is; nil where nothing was measured.
  func ratio(_ figure: Figure) -> Ratio? {
    let ratios = zip(own, raw).map { Double($0[figure]) / Double(max(1, $1[figure])) }.sorted()
    guard let least = ratios.first, let most = ratios.last else { return nil }
    return Ratio(
      median: (ratios[(ratios.count - 1) / 2] + ratios[ratios.count / 2]) / 2, least: least, most: most,
      runs: ratios.count)
  }

  /// The median of its runs, in nanoseconds.
  static func median(_ runs: [Measurement], _ figure: Figure) -> UInt64? {
    let sorted = runs.map { $0[figure] }.sorted()
    return sorted.isEmpty ? nil : sorted[(sorted.count - 1) / 2] / 2 &+ sorted[sorted.count / 2] / 2
  }
}

extension Measurement {
  subscript(figure: Figures.Figure) -> UInt64 {
    switch figure {
    case .median: median
    case .slow: slow
    case .processorTime: processorTime
    }
  }
}
