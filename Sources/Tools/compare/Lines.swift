import CommandLineTool
import KernelState

// What was found, for a program: one JSON object a line. Lessons/reference/compare.md has their members.

extension Observation {
  var json: JSON {
    .object([
      .init("program", .string(wrapper.name)), .init("job", .string(job.rawValue)),
      .init("about", .string(wrapper.about)), .init("raw", .boolean(wrapper.isRaw)),
      .init("command", .array(command.map { .string($0) })),
      .init("calls", .array(calls.map(\.json))), .init("states", .array(states.map(\.json))),
      .init("threads", .number(threads)), .init("threadsInAll", .number(threadsInAll)),
      .init("descriptors", .number(descriptors)),
      .init(
        "descriptorKinds",
        .object(kinds.sorted { $0.key < $1.key }.map { .init($0.key, .number($0.value)) })),
      .init("leftOpen", .array(leftOpen.map { .number($0) })),
      .init("optionsRefused", .string(refusal.map { "\($0)" })),
      .init("residentKiB", .number(resident)), .init("anonymousKiB", .number(anonymous)),
    ])
  }
}

extension ObservedCall {
  fileprivate var json: JSON {
    .object([
      .init("stage", .string(stage.rawValue)), .init("call", .string(call.systemCall.name)),
      .init("text", .string(text.line)), .init("pid", .number(call.process)),
      .init("tid", .number(call.thread)),
      .init("fd", call.descriptor.map { .number($0) } ?? .null),
      .init("result", call.error == nil ? .number(call.result ?? 0) : .integer(-1)),
      .init("errno", .string(call.error?.name)), .init("socket", .string(role?.rawValue)),
    ])
  }
}

extension ObservedState {
  fileprivate var json: JSON {
    let fields = Field.allCases.filter { [.socket, .options].contains($0.group) }
    return .object(
      [
        .init("stage", .string(stage.rawValue)), .init("socket", .string(role.rawValue)),
        .init("fd", .number(descriptor)),
      ]
        + fields.compactMap { field in
          state[field].map { value in
            switch value {
            case .number(let number): .init(field.rawValue, .number(number))
            case .flag(let flag): .init(field.rawValue, .boolean(flag))
            case .text, .address: .init(field.rawValue, .string(value.description))
            }
          }
        })
  }
}

extension Figures {
  func json(_ wrapper: Wrapper, _ job: Job) -> JSON {
    func runs(_ measurements: [Measurement]) -> JSON {
      .array(
        measurements.map {
          .object([
            .init("count", .number($0.count)), .init("p50Nanoseconds", .number($0.median)),
            .init("p99Nanoseconds", .number($0.slow)),
            .init("processorNanoseconds", .number($0.processorTime)),
          ])
        })
    }
    return .object([
      .init("measured", .string(wrapper.name)), .init("job", .string(job.rawValue)),
      .init("against", .string(wrapper.raw.name)), .init("what", .string(job.measured)),
      .init("runs", .number(own.count)), .init("own", runs(own)), .init("rawCalls", runs(raw)),
      .init(
        "ratios",
        .object(
          Figure.allCases.map { figure in
            .init(
              figure.rawValue,
              ratio(figure).map {
                .object([
                  .init("median", .decimal($0.median)), .init("least", .decimal($0.least)),
                  .init("most", .decimal($0.most)),
                ])
              } ?? .null)
          })),
    ])
  }
}

extension Failures {
  /// A line each.
  var lines: String {
    all.map { wrapper, job, reason in
      JSON.object([
        .init("failed", .string(wrapper.name)), .init("job", .string(job.rawValue)),
        .init("reason", .string(reason)),
      ]).line + "\n"
    }.joined()
  }
}

extension Attempt {
  var json: JSON {
    .object([
      .init("attempt", .string(name)), .init("way", .string(way.rawValue)),
      .init("expected", .string(expected)), .init("outcome", .string(outcome)),
    ])
  }
}
