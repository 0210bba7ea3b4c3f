import CommandLineTool
import LoadGeneration

/// The one in the middle, or halfway between two of them; 0 of none.
func median(_ values: [Double]) -> Double {
  guard !values.isEmpty else { return 0 }
  let sorted = values.sorted()
  return (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
}

/// What the runs of one server have come to: medians, and the spread of what matters most.
struct Row {
  let name: String
  let perSecond: Double
  let spread: ClosedRange<Double>
  /// Microseconds: p50, p90, p99, p99.9, the greatest.
  let latencies: [Double]
  /// Microseconds of the server's processor time a message.
  let cost: Double?
  let wrong: UInt64
  let unanswered: UInt64
  let silent: Int
  let failures: Int
  /// Of the counted time, in seconds: less than planned where a run ended early.
  let seconds: Double
  let reason: String?
  let isGeneratorBusy: Bool

  /// Something came back on every connection, and nothing that was not sent.
  var isClean: Bool { wrong == 0 && failures == 0 && silent == 0 && perSecond > 0 }

  private static let shares = [0.5, 0.9, 0.99, 0.999]

  init(name: String, _ measurements: [Measurement]) {
    let results = measurements.map(\.result)
    let rates = results.map(\.perSecond)
    self.name = name
    perSecond = median(rates)
    spread = (rates.min() ?? 0)...(rates.max() ?? 0)
    latencies =
      Self.shares.map { share in median(results.map { Double($0.latencies.percentile(share)) / 1000 }) }
      + [median(results.map { Double($0.latencies.maximum) / 1000 })]
    let costs = measurements.compactMap(\.cost)
    cost = costs.isEmpty ? nil : median(costs)
    wrong = results.reduce(0) { $0 &+ $1.wrong }
    unanswered = results.reduce(0) { $0 &+ $1.unanswered }
    silent = results.reduce(0) { $0 + $1.silent }
    failures = results.reduce(0) { $0 + $1.failures }
    seconds = results.map(\.seconds).min() ?? 0
    reason = results.lazy.compactMap(\.reason).first
    isGeneratorBusy = results.filter(\.isGeneratorBusy).count * 2 > results.count
  }

  var json: JSON {
    func number(_ value: Double) -> JSON { .number(Int64(value.rounded())) }
    return .object([
      .init("server", .string(name)), .init("messagesPerSecond", number(perSecond)),
      .init("least", number(spread.lowerBound)), .init("most", number(spread.upperBound)),
      .init("p50Nanoseconds", number(latencies[0] * 1000)),
      .init("p90Nanoseconds", number(latencies[1] * 1000)),
      .init("p99Nanoseconds", number(latencies[2] * 1000)),
      .init("p999Nanoseconds", number(latencies[3] * 1000)),
      .init("maximumNanoseconds", number(latencies[4] * 1000)),
      .init("serverNanosecondsPerMessage", cost.map { number($0 * 1000) } ?? .null),
      .init("wrong", .number(wrong)), .init("unanswered", .number(unanswered)),
      .init("silent", .number(silent)),
      .init("failures", .number(failures)), .init("seconds", .decimal(seconds)),
      .init("generatorBusy", .boolean(isGeneratorBusy)),
    ])
  }

  static func table(_ rows: [Row], _ plan: LoadPlan) -> String {
    func fixed(_ value: Double) -> String {
      let tenths = Int((value * 10).rounded())
      return value >= 100 ? "\(Int(value.rounded()))" : "\(tenths / 10).\(tenths % 10)"
    }
    var text =
      "\(counted(plan.connections, "connection")), \(counted(plan.size, "byte")) a message, \(plan.pipelining) at once"
      + (plan.rate.map { ", \(Int($0)) a second" } ?? "") + "\n"
    text += "messages/s     least … most    µs p50    p90    p99  p99.9     max   µs of CPU\n"
    for row in rows {
      let spread = "\(Int(row.spread.lowerBound)) … \(Int(row.spread.upperBound))"
      text +=
        "  \(row.name)\n" + "\(Int(row.perSecond))".paddedLeft(to: 10) + (row.isGeneratorBusy ? "*" : " ")
        + spread.paddedLeft(to: 17)
        + zip(row.latencies, [9, 7, 7, 7, 8]).map { fixed($0).paddedLeft(to: $1) }.joined()
        + (row.cost.map(fixed) ?? "–").paddedLeft(to: 12) + "\n"
      if row.wrong > 0 { text += "    \(row.wrong) messages came back with other bytes\n" }
      // Some are always under way.
      if row.unanswered > UInt64(clamping: plan.connections * plan.pipelining) {
        text += "    \(counted(Int(clamping: row.unanswered), "message")) due and not back at the end\n"
      }
      if let rate = plan.rate, row.perSecond < rate * 0.99 {
        text += "    the rate was not kept: \(Int(rate)) a second were due\n"
      }
      if row.silent > 0 {
        text += "    \(counted(row.silent, "connection")) got nothing back in the counted time\n"
      }
      if row.failures > 0 {
        text += "    \(counted(row.failures, "connection")) failed; the first: \(row.reason ?? "")\n"
      }
      if row.seconds < plan.duration * 0.99 {
        text += "    it ended after \(fixed(row.seconds)) of \(fixed(plan.duration)) seconds\n"
      }
    }
    if rows.allSatisfy(\.isClean) { text += "every byte that came back was the one that was sent\n" }
    if rows.contains(where: \.isGeneratorBusy) {
      text += "* the generator had no time left; the server may be faster\n"
    }
    return text
  }
}

/// One server beside another, pair by pair: what was measured one after the other has had the same machine.
struct Comparison {
  /// The first's messages a second for one of the second's: the median of all pairs, and their spread.
  let messages: Double
  let spread: ClosedRange<Double>
  /// The first's processor time a message for the second's, where both were started here.
  let cost: Double?

  init?(_ one: [Measurement], _ other: [Measurement]) {
    let pairs = zip(one, other).filter { $1.result.perSecond > 0 }
    guard !pairs.isEmpty else { return nil }
    let ratios = pairs.map { $0.result.perSecond / $1.result.perSecond }
    messages = median(ratios)
    spread = (ratios.min() ?? 0)...(ratios.max() ?? 0)
    let costs = pairs.compactMap { one, other in
      one.cost.flatMap { cost in other.cost.flatMap { $0 > 0 ? cost / $0 : nil } }
    }
    cost = costs.isEmpty ? nil : median(costs)
  }

  var text: String {
    func hundredths(_ value: Double) -> String {
      let number = Int((value * 100).rounded())
      return "\(number / 100).\("\(number % 100)".count == 1 ? "0" : "")\(number % 100)"
    }
    return
      "ratio: \(hundredths(messages)) of its messages a second (\(hundredths(spread.lowerBound)) … "
      + "\(hundredths(spread.upperBound)))" + (cost.map { ", \(hundredths($0)) of its processor time" } ?? "")
      + "\n"
  }

  var json: JSON {
    .object([
      .init("messagesPerSecondRatio", .decimal(messages)), .init("least", .decimal(spread.lowerBound)),
      .init("most", .decimal(spread.upperBound)),
      .init("serverTimeRatio", cost.map { .decimal($0) } ?? .null),
    ])
  }
}
