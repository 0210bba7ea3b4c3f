import CommandLineTool
import Glibc
import KernelState
import SystemCalls
import Tracing

/// A story for a program: one JSON object a line. `Lessons/reference/json.md` has the schema.
public final class JSONTeller: Teller {
  public let output: Output

  public init(output: Output) { self.output = output }

  public func tell(_ item: StoryItem) {
    let members: [JSON.Member] =
      switch item {
      case .opening(let opening):
        [
          .init("story", .string(opening.tool)),
          .init("command", .array(opening.command.map { .string($0) })),
          .init("pid", .number(opening.process)),
          .init("attached", .boolean(opening.isAttached)),
          .init("sockets", .array(opening.sockets.map(Self.socket))),
        ]
      case .said(let text, let process): [.init("say", .string(text)), .init("pid", .number(process))]
      case .note(let text): [.init("note", .string(text))]
      case .waiting(let call, let text):
        [
          .init("waiting", .string(text)), .init("pid", .number(call.process)),
          .init("tid", .number(call.thread)),
        ]
      case .question(let question):
        [
          .init("question", .string(question.text)), .init("text", .string(question.call)),
          .init("pid", .number(question.caller.process)), .init("tid", .number(question.caller.thread)),
          .init("choices", .array(question.choices.map { .string($0) })),
        ]
      case .prediction(let prediction):
        [
          .init("prediction", .string(prediction.choice)), .init("actual", .string(prediction.actual)),
          .init("right", prediction.isRight.map { .boolean($0) } ?? .null),
          .init("ofStep", .number(prediction.step)),
        ]
      case .experiment(let experiment):
        [
          .init("experiment", .string(experiment.question)),
          .init("choices", .array(experiment.choices.map { .string($0) })),
        ]
      case .verdict(let verdict):
        [
          .init("verdict", .string(verdict.text)), .init("half", .string(verdict.half.rawValue)),
          .init("truth", .string(verdict.truth)), .init("guess", .string(verdict.guess)),
          .init("right", verdict.isRight.map { .boolean($0) } ?? .null),
        ]
      case .process(let process, let event): Self.members(of: event, process: process)
      case .step(let step): Self.members(of: step)
      case .ending(let ending): Self.members(of: ending)
      }
    output.write(JSON.object(members).line + "\n")
    // Whoever reads it may wait for this line.
    output.flush()
  }

  private static func members(of step: Step) -> [JSON.Member] {
    let call = step.call
    return [
      .init("step", .number(step.number)),
      .init("time", .number(step.time)),
      .init("pid", .number(call.process)),
      .init("tid", .number(call.thread)),
      .init("call", .string(call.systemCall.name)),
      .init("text", .string(step.text.line)),
      .init("result", call.error == nil ? .number(call.result ?? 0) : .integer(-1)),
      .init("errno", .string(call.error?.name)),
      .init("fd", call.descriptor.map { .number($0) } ?? .null),
      .init("nanoseconds", .number(call.returned &- call.entered)),
      .init(
        "injected",
        call.injection.map {
          .object([
            .init("fault", .string($0.fault.description)),
            .init("length", $0.length.map { .number($0) } ?? .null),
            .init("left", $0.left.map { .number($0) } ?? .null),
          ])
        } ?? .null),
      .init("descriptors", descriptors(step.descriptors)),
      .init("meanwhile", .array(step.meanwhile.flatMap(changes))),
      .init("changes", .array(step.changes.flatMap(changes))),
      .init("sockets", .array(step.after.filter(\.wasRead).map(socket))),
      .init("packets", .array(step.packets.map(packet))),
      .init("portHolder", .string(step.portHolder)),
    ]
  }

  private static func members(of event: StoryItem.ProcessEvent, process: pid_t) -> [JSON.Member] {
    let pid = JSON.Member("pid", .number(process))
    switch event {
    case .started(let parent):
      return [
        .init("process", .string("started")), pid, .init("parent", parent.map { .number($0) } ?? .null),
      ]
    case .executed(let program):
      return [.init("process", .string("executed")), pid, .init("program", .string(program))]
    case .signalled(let signal, let isIgnored):
      return [
        .init("process", .string("signalled")), pid, .init("signal", .string(signalName(signal))),
        .init("ignored", .boolean(isIgnored)),
      ]
    case .ended(let status): return [.init("process", .string("ended")), pid] + members(of: status)
    }
  }

  private static func members(of status: Tracer.Status?) -> [JSON.Member] {
    switch status {
    case .exited(let status)?: [.init("status", .number(status)), .init("signal", .null)]
    case .killed(let signal)?: [.init("status", .null), .init("signal", .string(signalName(signal)))]
    case nil: [.init("status", .null), .init("signal", .null)]
    }
  }

  private static func members(of ending: StoryItem.Ending) -> [JSON.Member] {
    [.init("ended", .boolean(true)), .init("pid", .number(ending.process))] + members(of: ending.status) + [
      .init("letGo", .boolean(ending.isLetGo)),
      .init(
        "score",
        ending.score.map { .object([.init("right", .number($0.right)), .init("of", .number($0.of))]) }
          ?? .null),
      .init("changes", .array(ending.changes.flatMap(changes))),
      .init("sockets", .array(ending.sockets.map(socket))),
      .init("packets", .array(ending.packets.map(packet))),
    ]
  }

  private static func descriptors(_ list: DescriptorList) -> JSON {
    .object([
      .init("before", .array(list.before.map { .number($0) })),
      .init("after", .array(list.after.map { .number($0) })),
    ])
  }

  static func value(_ value: Reading.Value?) -> JSON {
    switch value {
    case .number(let number)?: .number(number)
    case .flag(let flag)?: .boolean(flag)
    case .text(let text)?: .string(text)
    case .address(let address)?: .string(address.description)
    case nil: .null
    }
  }

  static func socket(_ socket: SocketSnapshot) -> JSON {
    let state = socket.state
    func group(_ group: Field.Group) -> JSON {
      let members = Field.allCases.filter { $0.group == group && $0 != .closeOnExec && state[$0] != nil }
        .map { JSON.Member($0.rawValue, value(state[$0])) }
      return members.isEmpty ? .null : .object(members)
    }
    var members: [JSON.Member] = [
      .init("id", .number(socket.id)),
      .init("fd", socket.descriptor.map { .number($0) } ?? .null),
      .init(
        "descriptors",
        .array(
          socket.holders.map { holder in
            .object([
              .init("pid", .number(holder.process)), .init("fd", .number(holder.descriptor)),
              .init("closeOnExec", socket.closeOnExec[holder].map { .boolean($0) } ?? .null),
            ])
          })),
    ]
    let always: [Field] = [
      .cookie, .inode, .family, .type, .protocol, .state, .listedAs, .local, .peer, .receiveQueue, .readable,
      .sendQueue, .notSent,
    ]
    members += always.map { .init($0.rawValue, value(state[$0])) }
    if state.isListening {
      members += [Field.acceptQueue, .backlog].map { .init($0.rawValue, value(state[$0])) }
    }
    let timer = state[.timer].map { kind in
      JSON.object([
        .init("kind", value(kind)), .init("milliseconds", value(state[.timerRemaining])),
        .init("retransmits", value(state[.timerRetransmits])),
      ])
    }
    members += [
      .init("timer", timer ?? .null), .init("shutdown", value(state[.shutdown])),
      .init("uid", value(state[.uid])),
      .init(
        "heldBy",
        socket.owner.map { .object([.init("pid", .number($0.process)), .init("name", .string($0.name))]) }
          ?? .null),
      .init("options", group(.options)), .init("memory", group(.memory)), .init("tcp", group(.tcp)),
    ]
    return .object(members)
  }

  private static func changes(_ change: SocketChange) -> [JSON] {
    let socket = change.socket
    func entry(_ field: String, _ from: JSON, _ to: JSON, holder: SocketSnapshot.Holder? = nil) -> JSON {
      let members: [JSON.Member] = [
        .init("id", .number(socket.id)), .init("cookie", value(socket.state[.cookie])),
        .init("field", .string(field)),
        .init("from", from), .init("to", to),
      ]
      let place = holder.map {
        JSON.Member(
          "descriptor", .object([.init("pid", .number($0.process)), .init("fd", .number($0.descriptor))]))
      }
      return .object(members + (place.map { [$0] } ?? []))
    }
    func numbers(_ holders: [SocketSnapshot.Holder]) -> JSON {
      switch holders.count {
      case 0: .null
      case 1: .number(holders[0].descriptor)
      default: .array(holders.map { .number($0.descriptor) })
      }
    }
    /// A socket that came, or went: what it came or went with.
    func whole(isNew: Bool) -> [JSON] {
      let members: [(String, JSON, JSON)] = [
        ("exists", .boolean(true), .boolean(false)), ("state", value(socket.state[.state]), .null),
        ("fd", numbers(socket.holders), .null),
      ]
      return members.filter { $0.1 != .null }.map { entry($0.0, isNew ? $0.2 : $0.1, isNew ? $0.1 : $0.2) }
    }
    switch change.kind {
    case .appeared: return whole(isNew: true)
    case .vanished: return whole(isNew: false)
    case .holders(let from, let to): return [entry("fd", numbers(from), numbers(to))]
    case .closeOnExec(let holder, let flag):
      return [entry("closeOnExec", .boolean(!flag), .boolean(flag), holder: holder)]
    case .field(let field):
      return [entry(field.field.rawValue, value(field.from?.value), value(field.to?.value))]
    }
  }

  private static func packet(_ packet: Packet) -> JSON {
    .object([
      .init("time", .number(packet.time)), .init("from", .string(packet.from.description)),
      .init("to", .string(packet.to.description)),
      .init("flags", .array(packet.flags.map { .string($0.rawValue) })),
      .init("sequence", .number(packet.sequence)),
      .init("acknowledgment", packet.has(.ack) ? .number(packet.acknowledgment) : .null),
      .init("window", .number(packet.window)), .init("length", .number(packet.length)),
      .init("options", .array(packet.options.map { .string($0.description) })),
    ])
  }
}
