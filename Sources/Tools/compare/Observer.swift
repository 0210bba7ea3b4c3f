import CLinux
import Glibc
import KernelState
import SystemCalls
import Tracing

/// Runs a program under the tracer, plays its other side, and notes what it does.
final class Observer {
  private let tracer = Tracer()
  private let kernel = Kernel()
  private var observation: Observation
  private let client: EchoClient?
  private let server: HTTPServer?
  /// The TCP sockets that its descriptors lead to, and how far each has come. There may be others, a pair by which it wakes itself up.
  private var held: [Int32: (role: Role, stage: Stage)] = [:]
  /// Places of the calls that wait for something, or prepare for it, until it is known what.
  private var undecided: [Int] = []
  private var reached: Stage = .open
  private var end: Tracer.Status?
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
      case .ending(let process) where process == tracer.process: measureAtTheEnd(process)
      case .ended(let process, let end) where process == tracer.process: self.end = end
      case .interrupted(let signal, _): throw Interrupted(signal: signal)
      default: break
      }
      try dialWhenListening()
      try client?.step()
      try server?.step()
      guard monotonicNanoseconds() < deadline else {
        throw Failure("it did not end in 20 s")
      }
    }
    decide(.close)
    observation.threads = tracer.mostThreads
    observation.threadsInAll = tracer.threadsInAll
    observation.leftOpen = held.keys.sorted()
    observation.refusal = kernel.duplicateRefusal
    guard let end else { throw Failure("it has not ended") }
    if end != .exited(0) { throw Failure(end.words) }
    if let client, !client.isDone { throw Failure("it ended before its client did") }
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
    let descriptor = call.descriptor ?? -1
    // A socket that is closed has no role any more once it is.
    let before = held[descriptor]
    let milestone = milestone(call, descriptor)
    let role = (held[descriptor] ?? before)?.role
    if let milestone {
      // What was waited for has come.
      decide(milestone)
      if milestone != .close { reached = milestone }
    }
    let waits = milestone == nil && waits(call)
    if waits { undecided.append(observation.calls.count) }
    // To set something up belongs to what has made it.
    observation.calls.append(
      ObservedCall(
        stage: milestone ?? before?.stage ?? reached, waits: waits, call: call, text: text, shortText: short,
        role: role))
    measure(call.process)
    read(of: call.process)
  }

  private func decide(_ stage: Stage) {
    for place in undecided { observation.calls[place].stage = stage }
    undecided = []
  }

  /// The stage that a call begins, where it is one that every program has to make.
  private func milestone(_ call: Call, _ descriptor: Int32) -> Stage? {
    switch call.systemCall {
    case .socket:
      let isStream = call.arguments.int(1) & 0xf == Int32(SOCK_STREAM.rawValue)
      guard isStream, [AF_INET, AF_INET6].contains(call.arguments.int(0)) else { return nil }
      if let made = call.newDescriptor {
        held[made] = (observation.job.isServers ? .listener : .connection, .open)
      }
      return .open
    case .bind: return reach(.bind, descriptor)
    case .listen: return reach(.listen, descriptor)
    case .connect: return reach(.connect, descriptor)
    case .accept, .accept4:
      guard held[descriptor]?.role == .listener else { return nil }
      if let made = call.newDescriptor { held[made] = (.connection, .accept) }
      return .accept
    case .dup, .dup2, .dup3, .fcntl:
      if let made = call.newDescriptor { held[made] = held[descriptor] }
      return nil
    case .read, .readv, .preadv2, .recvfrom, .recvmsg:
      return held[descriptor]?.role == .connection ? .read : nil
    case .write, .writev, .pwritev2, .sendto, .sendmsg:
      return held[descriptor]?.role == .connection ? .write : nil
    case .shutdown: return held[descriptor] == nil ? nil : .close
    case .close: return held.removeValue(forKey: descriptor) == nil ? nil : .close
    default: return nil
    }
  }

  private func reach(_ stage: Stage, _ descriptor: Int32) -> Stage? {
    // Whatever else it asks, a name server say, is no part of the job.
    guard held[descriptor] != nil else { return nil }
    held[descriptor]?.stage = stage
    return stage
  }

  /// Whether a call waits for something, or prepares for it, or asks how much is there.
  private func waits(_ call: Call) -> Bool {
    switch call.systemCall {
    case .poll, .ppoll, .select, .pselect6, .epollCreate, .epollCreate1, .epollCtl, .epollWait, .epollPwait,
      .epollPwait2, .eventfd2, .timerfdCreate, .timerfdSettime, .signalfd4, .restartSyscall:
      true
    // Those of a socket of the job's are no such: they are of an eventfd, or of a pair by which it wakes itself up.
    case .read, .write, .close: true
    case .ioctl: [Int32(truncatingIfNeeded: FIONREAD), Int32(TIOCOUTQ)].contains(call.arguments.int(1))
    default: false
    }
  }

  // --- asking the kernel ---

  /// The states of the program's sockets, as they are after this stage so far.
  private func read(of process: pid_t) {
    for (descriptor, socket) in held.sorted(by: { $0.key < $1.key }) {
      guard let state = kernel.socket(descriptor: descriptor, of: process) else { continue }
      let place = observation.states.firstIndex { $0.stage == reached && $0.descriptor == descriptor }
      let new = ObservedState(stage: reached, role: socket.role, descriptor: descriptor, state: state)
      if let place { observation.states[place] = new } else { observation.states.append(new) }
    }
  }

  private func dialWhenListening() throws {
    guard let client, !client.hasDialled,
      let port = observation.states.first(where: { $0.state.isListening })?.state.local?.port
    else { return }
    try client.dial(port)
  }

  private func measure(_ process: pid_t) {
    let numbers = (numberedEntries(ofDirectory: "/proc/\(process)/fd") ?? []).filter { $0 > 2 }
    if numbers.count > observation.descriptors {
      observation.descriptors = numbers.count
      observation.kinds = [:]
      for number in numbers {
        guard let link = destination(ofLink: "/proc/\(process)/fd/\(number)") else { continue }
        observation.kinds[kind(of: link), default: 0] += 1
      }
    }
    measureMemory(process)
  }

  /// The first thread may have lost its memory's map by now; the last one has it still.
  private func measureAtTheEnd(_ process: pid_t) {
    for thread in numberedEntries(ofDirectory: "/proc/\(process)/task") ?? [] { measureMemory(thread) }
  }

  private func measureMemory(_ thread: pid_t) {
    let status = ProcessStatus(of: thread)
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

extension Tracer.Status {
  var words: String {
    switch self {
    case .exited(let status): "exit status \(status)"
    case .killed(let signal): "ended by \(signalName(signal))"
    }
  }
}
