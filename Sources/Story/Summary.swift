import CommandLineTool
import Glibc
import SystemCalls
import Tracing

/// A program's socket calls, counted: how many, how many failed, how many bytes, how long. No state is read, so that the
/// program runs nearly as fast as alone.
public final class Summary {
  private struct Row {
    var calls: UInt64 = 0
    var errors: UInt64 = 0
    var injected: UInt64 = 0
    var bytes: UInt64 = 0
    var nanoseconds: UInt64 = 0
  }

  private let tracer = Tracer()
  private let subject: Narrator.Subject
  private let only: Set<SystemCall>?
  private let output: Output
  private let isJSON: Bool
  private var rows: [SystemCall: Row] = [:]
  private var notes: [String] = []

  public init(
    subject: Narrator.Subject, only: Set<SystemCall>?, faults: [Fault] = [], output: Output, isJSON: Bool
  ) {
    self.subject = subject
    tracer.faults = faults
    self.only = only
    self.output = output
    self.isJSON = isJSON
  }

  /// Starts the program, or attaches to it, counts until all of it has ended, or until ctrl-C lets it go, prints the table,
  /// and returns the status to exit with.
  public func run(name: String) throws(Complaint) -> Int32 {
    var attached: pid_t?
    do throws(SystemCallError) {
      switch subject {
      case .lesson: try tracer.start(name: name, arguments: [])
      case .program(let command): try tracer.start(name: name, arguments: command)
      case .running(let process):
        attached = process
        try tracer.attach(to: process)
      }
      return try count(isAttached: attached != nil)
    } catch {
      tracer.release()
      throw TracingRefusal.explain(error, attachingTo: attached)
    }
  }

  private func count(isAttached: Bool) throws(SystemCallError) -> Int32 {
    var status = ExitStatus.failure
    var hasBegun = isAttached
    var interruptions = 0
    following: while let event = try tracer.next() {
      switch event {
      case .returned(let call) where hasBegun: add(call)
      case .executed: hasBegun = true
      case .disturbed(_, let thread, let call): notes.append(Narrator.disturbance(thread, call))
      case .ended(tracer.process, let end): status = end.shellStatus
      case .interrupted(let signal, let fromTerminal):
        interruptions += 1
        if isAttached || interruptions > 1 || !hasBegun {
          tracer.release()
          status = isAttached ? ExitStatus.success : 128 + signal
          // Of a program that was let go nothing more is heard.
          if isAttached { break following }
        } else if !fromTerminal {
          tracer.send(signal)
        }
      default: break
      }
    }
    if hasBegun {
      for note in notes + tracer.faultNotes {
        output.write(isJSON ? JSON.object([.init("note", .string(note))]).line + "\n" : "note: \(note)\n")
      }
      output.write(isJSON ? json() : table())
      output.flush()
    }
    return status
  }

  private func add(_ call: Call) {
    if let only, !only.contains(call.systemCall) { return }
    var row = rows[call.systemCall] ?? Row()
    row.calls += 1
    if call.injection != nil { row.injected += 1 }
    if call.error != nil {
      row.errors += 1
    } else {
      row.bytes &+= call.bytesMoved(memory: ProcessMemory(process: call.thread))
    }
    row.nanoseconds &+= call.returned &- call.entered
    rows[call.systemCall] = row
  }

  private var sorted: [(SystemCall, Row)] {
    rows.sorted { ($1.value.nanoseconds, $0.key.rawValue) < ($0.value.nanoseconds, $1.key.rawValue) }.map {
      ($0, $1)
    }
  }

  private func table() -> String {
    if rows.isEmpty { return "No socket calls.\n" }
    var total = Row()
    func line(_ cells: [String]) -> String {
      cells[0].padded(to: 16) + cells[1].paddedLeft(to: 10) + cells[2].paddedLeft(to: 10)
        + cells[3].paddedLeft(to: 16)
        + cells[4].paddedLeft(to: 14) + cells[5].paddedLeft(to: 12) + "\n"
    }
    func cells(_ name: String, _ row: Row) -> [String] {
      let each = row.calls == 0 ? 0 : row.nanoseconds / row.calls / 1000
      return [
        name, "\(row.calls)", row.errors == 0 ? "" : "\(row.errors)", row.bytes == 0 ? "" : "\(row.bytes)",
        milliseconds(row.nanoseconds), "\(each)",
      ]
    }
    var text = line(["call", "calls", "errors", "bytes", "time ms", "µs a call"])
    for (call, row) in sorted {
      text += line(cells(call.name, row))
      total.calls += row.calls
      total.errors += row.errors
      total.bytes += row.bytes
      total.nanoseconds &+= row.nanoseconds
    }
    return text + line(cells("all", total))
      + "Time is from a call's entry to its exit, followed; waiting counts.\n"
  }

  private func milliseconds(_ nanoseconds: UInt64) -> String {
    let micro = nanoseconds / 1000
    return "\(micro / 1000)." + "\(micro % 1000)".leftPadded
  }

  private func json() -> String {
    let calls = sorted.map { call, row in
      JSON.object([
        .init("call", .string(call.name)), .init("calls", .number(row.calls)),
        .init("errors", .number(row.errors)), .init("injected", .number(row.injected)),
        .init("bytes", .number(row.bytes)), .init("nanoseconds", .number(row.nanoseconds)),
      ])
    }
    return JSON.object([.init("summary", .array(calls))]).line + "\n"
  }
}

extension String {
  /// Three digits, with zeros in front.
  fileprivate var leftPadded: String { String(repeating: "0", count: max(0, 3 - count)) + self }
}
