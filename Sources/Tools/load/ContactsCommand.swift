import CLinux
import CommandLineTool
import Glibc
import LoadGeneration
import Sockets
import SystemCalls

/// load contacts: Updates to a contact server.
enum ContactsCommand {
  static func run(_ arguments: Arguments, _ target: Target, _ interruption: Interruption) throws
    -> Int32
  {
    var plan = ContactPlan()
    plan.connections = try arguments.number("connections", in: 1...10_000) ?? plan.connections
    plan.keys = try arguments.number("keys", in: 1...1 << 20) ?? plan.keys
    plan.nameSize = try arguments.number("name-size", in: 8...256) ?? plan.nameSize
    plan.outstanding = try arguments.number("pipelining", in: 1...100_000)
    plan.duration = Double(try arguments.number("duration", in: 1...86_400) ?? 2)
    let runs = try arguments.number("runs", in: 1...1000) ?? 1
    for option in ["versus", "size", "rate"] where arguments.has(option) {
      throw Complaint.usage("--\(option) belongs to 'load echo'")
    }
    var results: [ContactResult] = []
    for _ in 0..<runs {
      let result: ContactResult
      do { result = try measure(plan, target, interruption.descriptor) } catch {
        if let signal = interruption.signal() { return 128 + signal }
        throw error
      }
      if let signal = result.interruption { return 128 + signal }
      results.append(result)
    }
    let output = Output(descriptor: STDOUT_FILENO)
    output.write(arguments["format"] == "json" ? json(results, target) : text(results, plan))
    output.flush()
    return results.allSatisfy { $0.failures == 0 && $0.wrong == 0 && $0.refused == 0 }
      ? ExitStatus.success : ExitStatus.failure
  }

  private static func measure(_ plan: ContactPlan, _ target: Target, _ interruption: Int32) throws
    -> ContactResult
  {
    switch target {
    case .running(let address):
      return try measure(plan, address, nil, interruption)
    case .command(let command, let places):
      let server = try ServerUnderLoad(command, on: places.server, interruption: interruption)
      let (address, meter) = (server.address, server.meter)
      let result = Result { try measure(plan, address, meter, interruption) }
      server.end()
      return try result.get()
    }
  }

  private static func measure(
    _ plan: ContactPlan, _ address: SocketAddress, _ meter: (() -> UInt64?)?, _ interruption: Int32
  ) throws -> ContactResult {
    let before = try ServerClock.read(of: address, interruption: interruption)
    var result = try ContactLoad(plan, to: address, interruption: interruption).run(meter: meter)
    guard result.failures == 0, result.interruption == nil, let before,
      let after = try ServerClock.read(of: address, interruption: interruption)
    else { return result }
    // A contact that was refused may be shown all the same, as it was sent later.
    let counted = after >= before ? UInt64(after - before) : 0
    result.refused = result.updates > counted ? result.updates - counted : 0
    return result
  }

  private static func cost(_ results: [ContactResult]) -> Double? {
    let costs = results.compactMap { result in
      result.serverTime.map { Double($0) / Double(max(1, result.updates)) }
    }
    return costs.isEmpty ? nil : median(costs)
  }

  private static func isBusy(_ results: [ContactResult]) -> Bool {
    results.filter { $0.seconds > 0 && $0.processorSeconds / $0.seconds > 0.97 }.count * 2 > results.count
  }

  private static func json(_ results: [ContactResult], _ target: Target) -> String {
    let rates = results.map(\.perSecond)
    return JSON.object([
      .init("server", .string(target.title)), .init("updatesPerSecond", .number(Int64(median(rates)))),
      .init("least", .number(Int64(rates.min() ?? 0))), .init("most", .number(Int64(rates.max() ?? 0))),
      .init("updates", .number(results.reduce(0) { $0 &+ $1.updates })),
      .init("seconds", .decimal(results.map(\.seconds).max() ?? 0)),
      .init("serverNanosecondsPerUpdate", cost(results).map { .number(Int64($0)) } ?? .null),
      .init("wrong", .number(results.reduce(0) { $0 + $1.wrong })),
      .init("refused", .number(results.reduce(0) { $0 &+ $1.refused })),
      .init("failures", .number(results.reduce(0) { $0 + $1.failures })),
      .init("generatorBusy", .boolean(isBusy(results))),
    ]).line + "\n"
  }

  private static func text(_ results: [ContactResult], _ plan: ContactPlan) -> String {
    let rates = results.map(\.perSecond)
    var text =
      "\(counted(plan.connections, "connection")), \(counted(plan.keys, "contact")), "
      + (plan.outstanding.map { "\($0) Updates on their way on each, until the server has them on disk" }
        ?? "as many Updates as it takes") + "\n"
    text +=
      "\(Int(median(rates))) Updates a second, up to the ListAll that has shown the last"
      + (rates.count > 1 ? " (\(Int(rates.min() ?? 0)) … \(Int(rates.max() ?? 0)))" : "") + "\n"
    if let cost = cost(results) { text += "\(Int(cost)) ns of the server's processor time for each\n" }
    let (wrong, failures) = (results.reduce(0) { $0 + $1.wrong }, results.reduce(0) { $0 + $1.failures })
    if wrong > 0 { text += "\(counted(wrong, "contact")) not shown as sent\n" }
    if failures > 0 {
      text +=
        "\(counted(failures, "connection")) failed; the first: \(results.lazy.compactMap(\.reason).first ?? "")\n"
    }
    let refused = results.reduce(0) { $0 &+ $1.refused }
    if refused > 0 { text += "\(refused) Updates were refused: the server's clock has not counted them\n" }
    if wrong == 0, failures == 0, refused == 0 { text += "every contact was shown as it was sent last\n" }
    if isBusy(results) { text += "the generator had no time left; the server may be faster\n" }
    return text
  }
}

/// What is put under load.
enum Target {
  case running(SocketAddress)
  /// Is started, on some processors.
  case command(String, (server: UInt, generator: UInt))

  var title: String {
    switch self {
    case .running(let address): "\(address)"
    case .command(let command, _): command
    }
  }
}
