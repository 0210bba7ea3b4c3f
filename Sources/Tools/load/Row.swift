import CommandLineTool
import LoadGeneration

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
  let failures: UInt64
  let reason: String?
  let isGeneratorBusy: Bool

  var isClean: Bool { wrong == 0 && failures == 0 }

  private static let shares = [0.5, 0.9, 0.99, 0.999]

  init(name: String, _ measurements: [Measurement]) {
    func median(_ values: [Double]) -> Double { values.isEmpty ? 0 : values.sorted()[values.count / 2] }
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
    failures = results.reduce(0) { $0 &+ $1.failures }
    reason = results.lazy.compactMap(\.firstFailure).first.map { "\($0)" }
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
      .init("failures", .number(failures)),
      .init("generatorBusy", .boolean(isGeneratorBusy)),
    ])
  }

  static func table(_ rows: [Row], _ plan: LoadPlan) -> String {
    func fixed(_ value: Double) -> String {
      value >= 100 ? "\(Int(value.rounded()))" : "\(Int(value)).\(Int((value * 10).rounded()) % 10)"
    }
    var text =
      "\(counted(plan.connections, "connection")), \(counted(plan.size, "byte")) a message, \(plan.pipelining) at once"
      + (plan.rate.map { ", \(Int($0)) a second" } ?? "") + "\n"
    text += "messages/s    least … most       µs p50     p90     p99   p99.9      max   µs CPU  server\n"
    for row in rows {
      let spread = "\(Int(row.spread.lowerBound)) … \(Int(row.spread.upperBound))"
      text +=
        "\(Int(row.perSecond))".paddedLeft(to: 10) + (row.isGeneratorBusy ? "*" : " ")
        + spread.paddedLeft(to: 19)
        + row.latencies.map { fixed($0).paddedLeft(to: 8) }.joined()
        + (row.cost.map(fixed) ?? "–").paddedLeft(to: 9)
        + "  \(row.name)\n"
      if row.wrong > 0 { text += "    \(row.wrong) messages came back with other bytes\n" }
      if row.unanswered > 0 {
        text += "    \(counted(Int(clamping: row.unanswered), "message")) due and not back at the end\n"
      }
      if row.failures > 0 {
        text += "    \(counted(Int(clamping: row.failures), "connection")) failed: \(row.reason ?? "")\n"
      }
    }
    if rows.contains(where: \.isGeneratorBusy) {
      text += "* the generator had no time left; the server may be faster\n"
    }
    if rows.count == 2, rows[1].perSecond > 0 {
      func ratio(_ one: Double, _ other: Double) -> String {
        let hundredths = Int((one / other * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
      }
      text += "ratio: \(ratio(rows[0].perSecond, rows[1].perSecond)) of its messages a second"
      if let one = rows[0].cost, let other = rows[1].cost, other > 0 {
        text += ", \(ratio(one, other)) of its processor time"
      }
      text += "\n"
    }
    return text
  }
}
