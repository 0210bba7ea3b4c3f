/// Which lane of a picture each lifeline runs in.
///
/// The two ends of a connection get lanes beside each other, that which dialled on the left. A lane is used again once its
/// lifeline has ended: a server's hundred short connections need three lanes, not two hundred.
struct PictureLanes {
  private(set) var lanes: [Int: Int] = [:]
  /// Lifelines for which there was no lane.
  private(set) var leftOut = 0

  /// The parts of each lane that are taken, in bands.
  private var taken: [[ClosedRange<Int>]] = []

  /// More would be no picture any more.
  static let limit = 24
  /// So many stand on a page. Where there are more, a socket in TIME_WAIT gives its lane away.
  private static let comfortable = 4

  var count: Int { taken.count }
  /// Whether lifelines end with TIME_WAIT.
  private(set) var isTight = false

  init(_ lifelines: [Int: Lifeline], from oldest: Int) {
    assign(lifelines, from: oldest)
    guard count > Self.comfortable, lifelines.values.contains(where: { $0.isLeftSince != nil }) else {
      return
    }
    isTight = true
    (lanes, leftOut, taken) = ([:], 0, [])
    assign(lifelines, from: oldest)
  }

  /// The last band in which something stands on a lifeline.
  func last(of line: Lifeline) -> Int { isTight ? min(line.isLeftSince ?? .max, line.last) : line.last }

  private mutating func assign(_ lifelines: [Int: Lifeline], from oldest: Int) {
    let ordered = lifelines.values.filter { last(of: $0) >= oldest }.sorted {
      ($0.first, $0.isAddress ? 1 : 0, $0.id) < ($1.first, $1.isAddress ? 1 : 0, $1.id)
    }
    var seen: Set<Int> = []
    for line in ordered where seen.insert(line.id).inserted {
      var block = [line]
      if let partner = line.partner.flatMap({ lifelines[$0] }), seen.insert(partner.id).inserted {
        // A server's end that was there first, and the end that dials it, stay in that order if it is not known who did.
        block = partner.dials && !line.dials ? [partner, line] : [line, partner]
      }
      let span = block.map { max($0.first, oldest - 1)...max($0.first, last(of: $0)) }
      let whole = (span.map(\.lowerBound).min() ?? 0)...(span.map(\.upperBound).max() ?? 0)
      if place(block, over: whole) { continue }
      for (line, span) in zip(block, span) where !place([line], over: span) {
        leftOut += line.isAddress ? 0 : 1
      }
    }
  }

  /// Puts lifelines side by side into the first lanes that are free all the while.
  private mutating func place(_ block: [Lifeline], over span: ClosedRange<Int>) -> Bool {
    guard block.count <= Self.limit else { return false }
    for start in 0...(Self.limit - block.count) {
      let isFree = (start..<(start + block.count)).allSatisfy { lane in
        lane >= taken.count || !taken[lane].contains { $0.overlaps(span) }
      }
      guard isFree else { continue }
      while taken.count < start + block.count { taken.append([]) }
      for (offset, line) in block.enumerated() {
        taken[start + offset].append(span)
        lanes[line.id] = start + offset
      }
      return true
    }
    return false
  }
}
