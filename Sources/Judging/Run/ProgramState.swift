import CommandLineTool
import Glibc
import KernelState
import SystemCalls
import Tracing

/// The kernel's view of the program that is judged, at this moment. Every question is asked anew.
final class ProgramState {
  struct Socket {
    let descriptor: Int32
    let state: SocketState

    /// "fd 4: ESTABLISHED, 127.0.0.1:4000 with 127.0.0.1:40122, 5 bytes unread"
    var inWords: String {
      var text = "fd \(descriptor): \(state.state ?? "a socket")"
      if let local = state.local, local.port != 0 { text += ", \(local)" }
      if let peer = state.peer { text += " with \(peer)" }
      if state.isListening {
        text += ", accept queue \(state.number(.acceptQueue) ?? 0) of \(state.number(.backlog) ?? 0)"
      } else if let waiting = state.number(.readable), waiting > 0 {
        text += ", \(counted(Int(clamping: waiting), "byte")) that nobody has read"
      }
      return text
    }
  }

  let kernel = Kernel()
  private let record: Record
  let port: UInt16

  init(record: Record, port: UInt16) {
    self.record = record
    self.port = port
  }

  /// Its TCP sockets to which a descriptor leads, each by the first of its descriptors.
  func sockets() -> [Socket] {
    var known: Set<UInt64> = []
    return record.now.processes.flatMap { process in
      let reader = Self.reader(of: process)
      return (numberedEntries(ofDirectory: "/proc/\(reader)/fd") ?? []).sorted().compactMap {
        (number: Int32) -> Socket? in
        guard let link = destination(ofLink: "/proc/\(reader)/fd/\(number)"),
          let inode = socketInode(ofLink: link),
          !known.contains(inode), let state = kernel.socket(descriptor: number, of: reader), state.isTCP
        else { return nil }
        known.insert(inode)
        return Socket(descriptor: number, state: state)
      }
    }
  }

  /// The thread by whose number a process is asked: its first may have ended, and the others go on.
  private static func reader(of process: pid_t) -> pid_t {
    if let open = numberedEntries(ofDirectory: "/proc/\(process)/fd"), !open.isEmpty { return process }
    let threads = numberedEntries(ofDirectory: "/proc/\(process)/task") ?? []
    return threads.first { !(numberedEntries(ofDirectory: "/proc/\($0)/fd") ?? []).isEmpty } ?? process
  }

  /// How many descriptors it has open, all its processes together; nil once it has ended.
  func descriptors() -> Int? {
    let numbers = record.now.processes.compactMap {
      numberedEntries(ofDirectory: "/proc/\(Self.reader(of: $0))/fd")?.count
    }
    return numbers.isEmpty ? nil : numbers.reduce(0, +)
  }

  func listener() -> Socket? { sockets().first { $0.state.isListening && $0.state.local?.port == port } }

  /// The program's end of a connection of the judge's, if a descriptor leads to it. One that was reset has no peer's address any more.
  func end(of connection: Connection) -> Socket? {
    sockets().first { socket in
      if let cookie = connection.remoteCookie, let own = socket.state.cookie { return cookie == own }
      return socket.state.peer?.canonical == connection.own.canonical
    }
  }

  /// The same, whether a descriptor leads to it or not.
  func remote(of own: SocketAddress, at peer: SocketAddress) -> SocketState? {
    kernel.socket(local: peer.canonical, peer: own.canonical)
  }

  /// Calls that have not returned for a while, the first first.
  private var waiting: [(call: Call, text: String)] {
    record.now.waiting.filter { access("/proc/\($0.key)", F_OK) == 0 }.map(\.value).sorted {
      $0.call.entered < $1.call.entered
    }
  }

  /// Whether it has something to do on a processor, or has made a call a moment ago.
  var isBusy: Bool {
    let now = record.now
    if now.processes.isEmpty { return now.end == nil && now.process == 0 }
    if monotonicNanoseconds() &- now.lastCall < 200_000_000, now.lastCall > 0, waiting.isEmpty {
      return true
    }
    return isRunning
  }

  /// Whether it stands still: no thread of it runs, and it makes no call, in two looks.
  func rests() -> Bool {
    let before = record.now
    if before.end != nil { return true }
    if isRunning { return false }
    _ = poll(nil, 0, 25)
    return !isRunning && record.now.steps == before.steps
  }

  private var isRunning: Bool {
    record.now.processes.contains { process in
      (numberedEntries(ofDirectory: "/proc/\(process)/task") ?? []).contains {
        // Stopped by its tracer, which has something to do with it, is no rest either.
        ["R", "t"].contains(ProcessStatus(of: $0)?.state ?? "S")
      }
    }
  }

  /// Whether a thread waits in one of these calls, and the program does nothing else: a call now and then, but no work.
  func waits(in calls: Set<SystemCall>) -> Bool {
    guard isThread(in: calls) else { return false }
    let (steps, time) = (record.now.steps, ownProcessorTime)
    _ = poll(nil, 0, 80)
    return record.now.steps - steps <= 5 && ownProcessorTime &- time < 20_000_000 && isThread(in: calls)
  }

  private func isThread(in calls: Set<SystemCall>) -> Bool {
    threads.contains { thread in
      guard let number = Self.call(of: thread)?.number else { return false }
      return Architecture.native.systemCall(number: number).map(calls.contains) ?? false
    }
  }

  private var threads: [pid_t] {
    record.now.processes.flatMap { numberedEntries(ofDirectory: "/proc/\($0)/task") ?? [] }
  }

  /// The call that a thread waits in, and its first argument. See: proc_pid_syscall(5)
  private static func call(of thread: pid_t) -> (number: Int, argument: UInt64)? {
    let words = text(ofFile: "/proc/\(thread)/syscall")?.split(separator: " ") ?? []
    guard words.count > 1, let number = Int(words[0]) else { return nil }
    return (number, UInt64(words[1].dropFirst(2), radix: 16) ?? 0)
  }

  /// Where the program stands, in words; nil where it has nothing to say.
  func standing() -> String? {
    let now = record.now
    if let end = now.end { return end.inASentence }
    guard let process = now.processes.first else { return nil }
    let waiting = waiting
    // A loop may be seen at any place; what it does is the same.
    if let again = now.again, again.times >= 20, waiting.allSatisfy({ $0.call.systemCall == again.call }) {
      let result = again.error.map { "fails with \($0.name)" } ?? "returns 0"
      return "It calls \(again.call.name) again and again, and each time it \(result)."
    }
    if !waiting.isEmpty {
      return waiting.map { call, text in
        let socket = call.descriptor.flatMap { number in sockets().first { $0.descriptor == number } }
        return "It waits in \(text)" + (socket.map { " — \($0.inWords)" } ?? "") + "."
      }.joined(separator: " ")
    }
    _ = poll(nil, 0, 50)
    let later = record.now
    if let end = later.end { return end.inASentence }
    if later.steps > now.steps + 2 { return "It makes call after call." }
    let state = ProcessStatus(of: process)?.state ?? "?"
    if state == "R" {
      return "It uses the processor and makes no call that concerns a socket: a loop that never ends?"
    }
    if state == "T" { return "It is stopped by a signal." }
    if let call = untold(process) { return "It waits in \(call)." }
    return nil
  }

  /// Nanoseconds of processor time that it has taken so far, with what was spent on following it.
  var processorTime: UInt64 { ownProcessorTime &+ Self.nanoseconds(CLOCK_PROCESS_CPUTIME_ID) }

  private static func nanoseconds(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    guard clock_gettime(clock, &time) == 0 else { return 0 }
    return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
  }

  /// The program's alone. See: clock_getcpuclockid(3)
  private var ownProcessorTime: UInt64 {
    return record.now.processes.reduce(0) { total, process in
      var clock = clockid_t()
      return clock_getcpuclockid(process, &clock) == 0 ? total &+ Self.nanoseconds(clock) : total
    }
  }

  /// Calls in which a program may wait and which are not told, from /proc/PID/syscall. See: proc_pid_syscall(5)
  private func untold(_ process: pid_t) -> String? {
    guard let (number, argument) = Self.call(of: process) else { return nil }
    #if arch(arm64)
      let names = [
        73: "ppoll", 101: "nanosleep", 115: "clock_nanosleep", 98: "futex", 260: "wait4",
        133: "rt_sigsuspend",
      ]
      let (read, write) = (63, 64)
    #else
      let names = [
        34: "pause", 35: "nanosleep", 230: "clock_nanosleep", 202: "futex", 61: "wait4", 130: "rt_sigsuspend",
      ]
      let (read, write) = (0, 1)
    #endif
    if number == read || number == write, let descriptor = Int32(exactly: argument) {
      let link = destination(ofLink: "/proc/\(process)/fd/\(descriptor)") ?? "?"
      let socket = sockets().first { $0.descriptor == descriptor }?.inWords
      let what = socket ?? (descriptor == 0 ? "its standard input" : link)
      return "\(number == read ? "read" : "write")(\(descriptor), …) — \(what)"
    }
    return names[number].map { $0 + "()" + ($0 == "futex" ? ", for another thread or a lock" : "") }
  }
}

extension Tracer.Status {
  /// "exit status 1", "killed by SIGSEGV"
  var inWords: String {
    switch self {
    case .exited(let status): "exit status \(status)"
    case .killed(let signal): "killed by \(signalName(signal))"
    }
  }

  var inASentence: String {
    switch self {
    case .exited: "The program has ended, with \(inWords)."
    case .killed: "The program was \(inWords)."
    }
  }

  /// What to make of it, where that is no secret.
  var advice: (missing: String?, hint: String)? {
    switch self {
    case .killed(SIGPIPE):
      (
        "signal(SIGPIPE, SIG_IGN)",
        "Who writes to a connection whose peer has gone gets SIGPIPE, which ends the program. Where it is ignored, write "
          + "returns EPIPE."
      )
    case .killed(SIGILL), .killed(SIGTRAP):
      (
        nil,
        "Swift stops a program that would go on with a wrong value: an index out of range, a number that is too large, a nil that "
          + "was unwrapped. Which, and where, it says on standard error."
      )
    case .killed(SIGSEGV), .killed(SIGBUS):
      (
        nil,
        "It has used memory that it does not have: a pointer that is no longer valid, or a recursion without end."
      )
    case .killed(SIGABRT): (nil, "It has ended itself by abort(3): the C library says why on standard error.")
    default: nil
    }
  }
}
