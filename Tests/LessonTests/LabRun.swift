import Foundation
import SystemCalls
import TestSupport
import Testing

/// A lab that is gone through with a key a pause: while it stands still, others bear witness.
final class LabRun {
  /// It has ended before what was waited for.
  struct Ended: Error { let errors: String }

  private let program: Program
  private let lab: String
  private var position = 0
  private var isPaused = true
  private(set) var lines: [StoryLine] = []
  /// -1 until it has ended.
  private(set) var status: Int32 = -1

  init(_ lab: String) throws {
    self.lab = lab
    program = try Program([Place.product(lab), "--format", "json", "--step"], onTerminal: true)
    // It asks something first.
    position = try program.waitForTerminal("q: quit")
  }

  /// Goes through all of a lab. `look` gets, at each pause, the step that was told last, which of its call's it is, and the process in
  /// whose network it was made.
  static func visited(_ lab: String, _ look: (StoryLine, _ ofItsCall: Int, _ network: Int) throws -> Void)
    throws -> LabRun
  {
    let run = try LabRun(lab)
    while try run.next() != .end {
      guard run.isPaused, let step = run.steps.last else { continue }
      try look(step, run.steps.count { $0.call == step.call }, run.first)
    }
    run.status = try run.program.finish().status
    return run
  }

  /// Goes on to the first pause after a line, and returns that line's verdict, if it is one.
  func pause(_ isWanted: (StoryLine) -> Bool) throws -> String {
    var place = lines.count
    var found: StoryLine?
    while true {
      if try next() == .end { throw Ended(errors: errors) }
      found = found ?? lines[place...].first(where: isWanted)
      place = lines.count
      if isPaused, let found { return found.verdictText ?? "" }
    }
  }

  /// Takes what comes next, after a key where it waits for one.
  private func next() throws -> Program.Event {
    if isPaused { program.press("\n") }
    isPaused = false
    let event = try program.next("q: quit", from: position)
    switch event {
    case .line(let text): lines.append(try StoryLine(text))
    case .shown(let end): (position, isPaused) = (end, true)
    case .end: break
    }
    return event
  }

  /// Lets it run to its end. Returns its exit status.
  func finish() throws -> Int32 {
    program.press("c")
    status = try program.finish().status
    return status
  }

  // --- what it has told ---

  var steps: [StoryLine] { lines.filter(\.isStep) }
  var said: [String] { lines.compactMap(\.say) }
  var errors: String { String(decoding: program.errorBytes, as: UTF8.self) }
  var isBroken: Bool { lines.contains { $0.isVerdict("broken") } }
  /// The verdicts on one half, in their order.
  func verdicts(_ half: String) -> [String] {
    lines.filter { $0.isVerdict(half) }.compactMap { $0["verdict"] as? String }
  }
  private var first: Int { steps.first?["pid"] as? Int ?? 0 }
  var process: Int { steps.last?["pid"] as? Int ?? 0 }
  /// Whose network namespace it runs in, where it has one of its own.
  var network: Int? { Course.withOwnNetwork.contains(lab) ? process : nil }
  var listener: String? { steps.last { $0.call == "listen" }?.sockets.first { $0.state == "LISTEN" }?.local }

  /// What each call of that name has returned: a number, or errno's name.
  func results(_ call: String) -> [String] {
    steps.filter { $0.call == call }.map { $0.errno ?? "\($0["result"] as? Int ?? -1)" }
  }

  // --- what Python reads ---

  /// What the kernel has counted in a process's network, under nstat's names.
  static func counters(_ process: Int) throws -> [String: Int] {
    let script = """
      import sys
      for name in "snmp", "netstat":
          lines = open(f"/proc/{sys.argv[1]}/net/{name}").read().splitlines()
          for names, numbers in zip(lines[::2], lines[1::2]):
              names, numbers = names.split(), numbers.split()
              for one, number in zip(names[1:], numbers[1:]): print(names[0][:-1] + one, number)
      """
    let pairs = try python(script, process).map { $0.split(separator: " ") }.filter { $0.count == 2 }
    return Dictionary(uniqueKeysWithValues: pairs.map { (String($0[0]), Int($0[1]) ?? -1) })
  }

  func counter(_ name: String) throws -> Int { try #require(Self.counters(process)[name]) }

  /// How often each thread but the first has given up the processor of its own accord.
  func switches() throws -> [Int: Int] {
    let script = """
      import os, re, sys
      process = sys.argv[1]
      for thread in os.listdir("/proc/%s/task" % process):
          if thread == process: continue
          status = open("/proc/%s/task/%s/status" % (process, thread)).read()
          print(thread, re.search(r"^voluntary_ctxt_switches:\\s*(\\d+)", status, re.M).group(1))
      """
    let pairs = try Self.python(script, process).compactMap { line -> (Int, Int)? in
      let numbers = line.split(separator: " ").compactMap { Int($0) }
      return numbers.count == 2 ? (numbers[0], numbers[1]) : nil
    }
    return Dictionary(pairs) { $1 }
  }

  private static func python(_ script: String, _ process: Int) throws -> [String] {
    let result = try Program.run([try #require(Witness.python), "-c", script, "\(process)"])
    #expect(result.status == 0, "\(result.errors)")
    return result.lines
  }
}

extension StoryLine {
  func isVerdict(_ half: String) -> Bool { self["verdict"] != nil && self["half"] as? String == half }
}
