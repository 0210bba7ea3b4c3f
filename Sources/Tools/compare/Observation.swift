import Glibc
import KernelState
import SystemCalls
import Tracing

/// A step in a socket's life.
enum Stage: String, CaseIterable {
  case open, bind, listen, connect, accept, read, write, close
}

/// What a descriptor of the program is.
enum Role: String {
  case listener, connection
}

/// A call of a program, and the stage that it belongs to.
struct ObservedCall {
  let stage: Stage
  /// Whether it is one that waits for something, or prepares for it.
  var waits = false
  let call: Call
  /// As strace prints it; and with short addresses.
  let text: CallText.Finished
  let shortText: CallText.Finished
  let role: Role?
}

/// A socket as the kernel had it when a stage was over.
struct ObservedState {
  let stage: Stage
  let role: Role
  let descriptor: Int32
  var state: SocketState
}

/// One run of a program under the tracer, and what the kernel said of it.
struct Observation {
  let wrapper: Wrapper
  let job: Job
  let command: [String]
  var calls: [ObservedCall] = []
  var states: [ObservedState] = []
  /// At the same time.
  var threads = 0
  /// At the same time, besides the three standard ones.
  var descriptors = 0
  /// What they led to, at any time: "socket", "anon_inode:[eventpoll]", "pipe".
  var kinds: [String: Int] = [:]
  /// Peak of the resident set, in KiB, as of its last call: VmHWM of /proc/PID/status.
  var resident = 0
  /// Peak of what it has allocated itself and that is resident, in KiB, as seen at its calls: RssAnon of /proc/PID/status.
  var anonymous = 0
  var end: Tracer.Status?

  func calls(of stage: Stage) -> [ObservedCall] { calls.filter { $0.stage == stage } }

  /// What the kernel had of a socket when it was ready for use: the listener at `listen`, the connection at `accept` or `connect`.
  func state(of role: Role, at stage: Stage) -> SocketState? {
    states.last { $0.role == role && $0.stage == stage }?.state
  }
}

/// Runs a program under the tracer, plays its other side, and notes what it does.
final class Observer {
  private let tracer = Tracer()
  private let kernel = Kernel()
  private var observation: Observation
  private let client: EchoClient?
  private let server: HTTPServer?
  private var roles: [Int32: Role] = [:]
  /// The TCP sockets that it has made; there may be others, a pair by which it wakes itself up.
  private var streams: Set<Int32> = []
  /// Calls that wait for something, or prepare for it, until it is known what.
  private var undecided: [(call: Call, text: CallText.Finished, short: CallText.Finished, role: Role?)] = []
  private var reached: Stage = .open
  private var seen: Set<String> = []
  /// Of the calls that have not returned: what they were given is written over by what they give.
  private var texts: [pid_t: (CallText, CallText)] = [:]

  /// For so long a program may do nothing, in milliseconds, and for so long a whole run may last, in nanoseconds.
  private static let quiet = 20
  private static let patience: UInt64 = 20_000_000_000

  init(_ wrapper: Wrapper, job: Job, place: Place) throws {
    var command = [place.program(wrapper.name)]
    if job == .http {
      let server = try HTTPServer()
      command += ["http://127.0.0.1:\(server.port)/", "1"]
      self.server = server
      client = nil
    } else {
      client = EchoClient(message: job == .echo ? Array("Hello, kernel.".utf8) : [])
      server = nil
    }
    observation = Observation(wrapper: wrapper, job: job, command: command)
  }

  /// - Throws: where the program cannot be followed, or does not do its job.
  func run() throws -> Observation {
    do throws(SystemCallError) {
      try tracer.start(name: name, arguments: observation.command)
    } catch {
      if error.call == "ptrace" { throw Refusal(error: error) }
      throw Failure("\(observation.command[0]) cannot be started: \(error)")
    }
    defer { tracer.release() }
    tracer.reportsEntries = true
    let deadline = monotonicNanoseconds() &+ Self.patience
    while let event = try tracer.next(quietAfter: Self.quiet) {
      switch event {
      case .entered(let call):
        let memory = ProcessMemory(process: call.thread)
        texts[call.thread] = (CallText(call, memory: memory), CallText(call, memory: memory, style: .short))
      case .returned(let call): note(call)
      case .ending(let process) where process == tracer.process:
        measure(process)
      case .ended(let process, let end) where process == tracer.process: observation.end = end
      case .interrupted(let signal, _): throw Interrupted(signal: signal)
      default: break
      }
      try dialWhenListening()
      try client?.step()
      try server?.step()
      guard monotonicNanoseconds() < deadline else {
        throw Failure("\(observation.wrapper.name) did not end its job \(observation.job.rawValue) in 20 s")
      }
    }
    decide(.close)
    guard observation.end == .exited(0) else {
      throw Failure("\(observation.command.joined(separator: " ")) failed: \(describe(observation.end))")
    }
    if let client, !client.isDone { throw Failure("\(observation.wrapper.name) ended before its client did") }
    return observation
  }

  // --- which stage ---

  private func note(_ call: Call) {
    guard let result = call.result, let (full, shortened) = texts.removeValue(forKey: call.thread) else {
      return
    }
    let memory = ProcessMemory(process: call.thread)
    let text = full.finished(result: result, memory: memory)
    let short = shortened.finished(result: result, memory: memory)
    var role = call.descriptor.flatMap { roles[$0] }
    let milestone = milestone(call, &role)
    if let milestone {
      // What was waited for has come.
      decide(milestone)
      reached = milestone
      observation.calls.append(
        ObservedCall(stage: milestone, call: call, text: text, shortText: short, role: role))
    } else if Self.waits(call.systemCall) {
      undecided.append((call, text, short, role))
    } else {
      // To set something up belongs to what has made it.
      observation.calls.append(
        ObservedCall(stage: reached, call: call, text: text, shortText: short, role: role))
    }
    if call.systemCall == .close, call.error == nil {
      roles[call.arguments.int(0)] = nil
      streams.remove(call.arguments.int(0))
    }
    measure(call.process)
    read(of: call.process)
  }

  private func decide(_ stage: Stage) {
    for (call, text, short, role) in undecided {
      observation.calls.append(
        ObservedCall(stage: stage, waits: true, call: call, text: text, shortText: short, role: role))
    }
    undecided = []
  }

  /// The stage that a call begins, where it is one that every program has to make.
  private func milestone(_ call: Call, _ role: inout Role?) -> Stage? {
    let descriptor = call.descriptor ?? -1
    switch call.systemCall {
    case .socket:
      let isStream = call.arguments.int(1) & 0xf == Int32(SOCK_STREAM.rawValue)
      guard isStream, [AF_INET, AF_INET6].contains(call.arguments.int(0)) else { return nil }
      if let made = call.newDescriptor { streams.insert(made) }
      return .open
    case .bind:
      guard streams.contains(descriptor) else { return nil }
      roles[descriptor] = .listener
      role = .listener
      return .bind
    case .listen:
      roles[descriptor] = .listener
      role = .listener
      return .listen
    case .connect:
      // Whatever else it asks, a name server say, is no part of the job.
      guard streams.contains(descriptor) else { return nil }
      roles[descriptor] = .connection
      role = .connection
      return .connect
    case .accept, .accept4:
      if let made = call.newDescriptor { roles[made] = .connection }
      return .accept
    case .dup, .dup2, .dup3, .fcntl:
      if let made = call.newDescriptor, let role { roles[made] = role }
      return nil
    case .read, .readv, .preadv2, .recvfrom, .recvmsg: return role == .connection ? .read : nil
    case .write, .writev, .pwritev2, .sendto, .sendmsg: return role == .connection ? .write : nil
    case .shutdown, .close: return role == nil ? nil : .close
    default: return nil
    }
  }

  private static func waits(_ call: SystemCall) -> Bool {
    switch call {
    case .poll, .ppoll, .select, .pselect6, .epollCreate, .epollCreate1, .epollCtl, .epollWait, .epollPwait,
      .epollPwait2, .eventfd2, .timerfdCreate, .timerfdSettime, .signalfd4, .restartSyscall, .read, .write:
      true  // (Reads and writes that are here are those of an eventfd, or of a pair of its own.)
    default: false
    }
  }

  // --- asking the kernel ---

  /// The states of the program's sockets, as they are after this stage so far.
  private func read(of process: pid_t) {
    for (descriptor, role) in roles {
      guard let state = kernel.socket(descriptor: descriptor, of: process) else { continue }
      observation.states.removeAll { $0.stage == reached && $0.descriptor == descriptor }
      observation.states.append(
        ObservedState(stage: reached, role: role, descriptor: descriptor, state: state))
    }
  }

  private func dialWhenListening() throws {
    guard let client, !client.hasDialled,
      let port = observation.states.first(where: { $0.state.isListening })?.state.local?.port
    else { return }
    try client.dial(port)
  }

  private func measure(_ process: pid_t) {
    observation.threads = max(observation.threads, tracer.threadCount)
    let numbers = (numberedEntries(ofDirectory: "/proc/\(process)/fd") ?? []).filter { $0 > 2 }
    observation.descriptors = max(observation.descriptors, numbers.count)
    for number in numbers {
      guard let link = destination(ofLink: "/proc/\(process)/fd/\(number)"),
        seen.insert("\(number) \(link)").inserted
      else { continue }
      observation.kinds[kind(of: link), default: 0] += 1
    }
    let status = ProcessStatus(of: process)
    observation.anonymous = max(observation.anonymous, status?.number("RssAnon") ?? 0)
    observation.resident = max(observation.resident, status?.number("VmHWM") ?? 0)
  }

  /// "socket:[123]" is a socket, "anon_inode:[eventpoll]" an eventpoll, "/dev/urandom" a file.
  private func kind(of link: String) -> String {
    if link.hasPrefix("anon_inode:") {
      return link.dropFirst("anon_inode:".count).filter { $0 != "[" && $0 != "]" }
    }
    return link.hasPrefix("/") ? "file" : String(link.prefix { $0 != ":" })
  }
}

/// Nobody may be followed here.
struct Refusal: Error {
  let error: SystemCallError
}

/// A signal that asks this program to end.
struct Interrupted: Error {
  let signal: Int32
}

func describe(_ end: Tracer.Status?) -> String {
  switch end {
  case .exited(let status)?: "exit status \(status)"
  case .killed(let signal)?: "ended by \(signalName(signal))"
  case nil: "it has not ended"
  }
}
