import CLinux
import Glibc
import SystemCalls

/// Starts a program, or attaches to one that runs, and follows it, through threads, children and exec, from one socket call to
/// the next.
///
/// All of ptrace belongs to the thread that attached: create a tracer and use it on one thread. The program stands still from
/// the moment `next()` returns an event of it until `next()` is called again; its other threads run until their own next
/// socket call. A started program does not outlive its tracer; an attached one runs on.
///
/// See: ptrace(2), seccomp(2)
public final class Tracer {
  /// What happened.
  public enum Event: Sendable {
    /// A call that concerns a socket is about to run. Only with `reportsEntries`.
    case entered(Call)
    /// It has run.
    case returned(Call)
    /// It wrote to the descriptor `spokenDescriptor`; the write itself is not reported.
    case said(process: pid_t, bytes: [UInt8])
    /// A process appeared: the program itself, or a child of it.
    case started(process: pid_t, parent: pid_t?)
    /// A call will not return: its thread was killed in it, or another thread's exec ended it.
    case abandoned(Call)
    /// A process became another program.
    case executed(process: pid_t)
    /// A signal is about to reach the program.
    case signalled(process: pid_t, signal: Int32)
    /// A process is about to end, with all its descriptors still open.
    case ending(process: pid_t)
    /// A process has ended; its descriptors are closed.
    case ended(process: pid_t, status: Status)
    /// Attaching has made a call return EINTR; it is named as far as it is known.
    case disturbed(process: pid_t, thread: pid_t, call: String)
    /// Nothing happened for the time that was given. `running` are the calls that have not returned.
    case quiet(running: [Call])
    /// A call that is told waits, and the turn is another thread's, where threads take turns.
    case blocked(Call)
    /// This tracer got a signal itself. With `fromTerminal` the program got it too. One that comes twice at once is one.
    case interrupted(signal: Int32, fromTerminal: Bool)
  }

  /// How a process ended.
  public enum Status: Sendable, Hashable {
    case exited(Int32)
    case killed(signal: Int32)

    /// As a shell has it: 128 and the signal's number.
    public var shellStatus: Int32 {
      switch self {
      case .exited(let status): status
      case .killed(let signal): 128 + signal
      }
    }
  }

  /// The signals that a tracer takes for itself, but for those that it was started to ignore, by nohup say.
  public static let ownSignals: [Int32] = [SIGINT, SIGTERM, SIGHUP].filter { signal in
    var action = sigaction()
    guard sigaction(signal, nil, &action) == 0 else { return true }
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
      != unsafeBitCast(SIG_IGN, to: Int.self)
  }

  private struct Thread {
    let process: pid_t
    /// The call that it is in, from the stop at its entry on.
    var call: Call?
    /// Its last told call is to be resumed by restart_syscall.
    var isRestarting = false
    /// It has been seen on its way out.
    var isExiting = false
    /// It was attached to and has not stood still yet.
    var isNewlyAttached = false
    /// It runs on by itself.
    var isLetGo = false
    /// What is to be put right at its call's exit.
    var shortening: Shortening?
    /// What its call is to return in place of its own result.
    var failure: ErrorNumber?
    /// A call that the kernel makes again is the same call, and is not counted again.
    var repeated: (call: Call, fault: Fault?)?

    var isChanged: Bool { shortening != nil || failure != nil }
  }

  private struct Stop {
    let thread: pid_t
    var request: Int
    var signal: Int32 = 0
    /// A call that is told stands at its entry.
    var isEntry = false
  }

  /// In nanoseconds.
  private static let patience: UInt64 = 20_000
  /// How long others that have something to do on a processor may take for it, in nanoseconds.
  private static let restPatience: UInt64 = 1_000_000_000
  /// So many stops may follow each other before somebody looks for signals.
  private static let busyStops = 64
  /// A signal that comes again sooner than this, in nanoseconds, came once.
  private static let echo: UInt64 = 300_000_000

  private var threads: [pid_t: Thread] = [:]
  private var tables: [pid_t: DescriptorTable] = [:]
  /// The thread that stands still because of the last event, and how it goes on.
  private var held: Stop?
  private var pending: [Event] = []
  /// The thread whose turn it is, where they take turns, and the stops of others that wait for theirs.
  private var turn: pid_t?
  private var postponed: [(thread: pid_t, status: Int32)] = []
  private var stops = 0
  private var lastInterruption: (signal: Int32, time: UInt64) = (0, 0)
  /// Signals on their way to a process's first thread, with what came with them.
  private var redirected: [pid_t: [Int32: siginfo_t]] = [:]
  /// Children that stopped before the event that tells where they come from.
  private var parents: [pid_t: pid_t] = [:]
  private let waited: sigset_t
  /// Of these, those that are for the tracer itself.
  private let interruptions: sigset_t
  private let maskBefore: sigset_t

  /// Whether `.entered` is wanted. Without it a call costs its two stops and nothing else.
  public var reportsEntries = false
  /// Whether one thread at a time goes on, until it ends or waits in a call, and only then another. What a program does on its
  /// own account then comes in the same order in each run, and before what others make of it.
  public var takesTurns = false
  /// A descriptor of the program that was started, and of its children, whose writes are reported, as words and not as calls.
  public var spokenDescriptor: Int32?
  /// What is done to calls. Set before the program is started.
  public var faults: [Fault] = [] {
    didSet { faultCounts = faults.map { _ in (0, 0) } }
  }
  private var faultCounts: [(calls: UInt64, injected: UInt64)] = []
  /// Why calls were not shortened at the last attempt, or nil where nothing stood in the way.
  public private(set) var shorteningRefusal: SystemCallError?
  /// Whether calls were not left out since the program has a seccomp filter of its own.
  public private(set) var hasOwnFilter = false
  /// The process that was started, or attached to.
  public private(set) var process: pid_t = 0
  /// Whether it was attached to: then it runs on when it is let go.
  public private(set) var isAttached = false

  /// Blocks the signals that it waits for, on this thread.
  public init() {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in [SIGCHLD] + Self.ownSignals { sigaddset(&set, signal) }
    var before = sigset_t()
    pthread_sigmask(SIG_BLOCK, &set, &before)
    waited = set
    sigdelset(&set, SIGCHLD)
    interruptions = set
    maskBefore = before
  }

  deinit {
    release()
    var mask = maskBefore
    pthread_sigmask(SIG_SETMASK, &mask, nil)
  }

  // --- starting ---

  /// Starts this executable again, as `becomeTraced(arguments)` of `Launcher` expects it, and takes hold of it.
  ///
  /// - Parameters:
  ///   - name: what it finds as its own name, argv[0].
  ///   - arguments: the rest of its command line.
  ///   - standardOutput: a descriptor to be its standard output, nil for this process's own.
  /// - Throws: what `posix_spawn`, `pipe2` or `ptrace` failed with; EPERM from `ptrace` where tracing is forbidden.
  public func start(name: String, arguments: [String], standardOutput: Int32? = nil) throws(SystemCallError) {
    let (readyRead, readyWrite) = try Descriptor.pipe()
    let readyHere = Descriptor(owning: readyRead)
    let readyThere = Descriptor(owning: readyWrite)
    let (gateRead, gateWrite) = try Descriptor.pipe()
    let gateThere = Descriptor(owning: gateRead)
    let gateHere = Descriptor(owning: gateWrite)
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // A duplicate onto itself: the descriptor stays open across exec.
    for number in [readyWrite, gateRead] {
      posix_spawn_file_actions_adddup2(&actions, number, number)
    }
    if let standardOutput { posix_spawn_file_actions_adddup2(&actions, standardOutput, STDOUT_FILENO) }

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var mask = maskBefore
    var defaults = sigset_t()
    sigemptyset(&defaults)
    sigaddset(&defaults, SIGPIPE)  // ignored here, and not to be ignored there
    posix_spawnattr_setsigmask(&attributes, &mask)
    posix_spawnattr_setsigdefault(&attributes, &defaults)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    let words = [name, Launcher.word, "\(readyWrite)", "\(gateRead)"] + arguments
    var vector: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for word in vector { free(word) } }
    var child: pid_t = 0
    // By its path, where that still leads to it: the kernel names a process after the path, and "exe" says nothing.
    let itself = destination(ofLink: "/proc/self/exe") ?? ""
    let path = access(itself, X_OK) == 0 ? itself : "/proc/self/exe"
    let failure = posix_spawn(&child, path, &actions, &attributes, &vector, environ)
    if failure != 0 { throw SystemCallError(call: "posix_spawn", asked: name, errno: ErrorNumber(failure)) }

    let options = Self.options | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL
    do throws(SystemCallError) {
      try readyThere.close()  // end of file, should the child fail to start
      try gateThere.close()
      var byte: UInt8 = 0
      try systemCall("read", "ready") { read(readyHere.number, &byte, 1) }
      try systemCall("ptrace", "PTRACE_SEIZE") { clinux_ptrace(Int(PTRACE_SEIZE), child, 0, UInt(options)) }
    } catch {
      // The gate closes unopened, and the child ends by itself.
      kill(child, SIGKILL)
      var status: Int32 = 0
      _ = try? systemCall("waitpid") { waitpid(child, &status, 0) }
      throw error
    }
    process = child
    register(thread: child, process: child)
    pending.append(.started(process: child, parent: nil))
    var byte: UInt8 = 1
    try systemCall("write", "gate") { write(gateHere.number, &byte, 1) }
  }

  /// Takes hold of a process that runs, with all its threads. It has no filter: every call of it stops it, and those that do
  /// not concern sockets are let go on at once.
  ///
  /// A thread that waits in a call stands still for a moment. The kernel then makes the call again, but for some, `epoll_wait`
  /// among them, that return EINTR; that is reported as `.disturbed`. See: signal(7)
  ///
  /// - Parameter number: a process, or a thread of it.
  /// - Throws: ESRCH where there is none, EPERM where it may not be traced, or is traced already.
  public func attach(to number: pid_t) throws(SystemCallError) {
    guard let whole = Self.number("Tgid", of: number) else {
      throw SystemCallError(call: "ptrace", asked: "PTRACE_SEIZE", errno: ErrorNumber(ESRCH))
    }
    process = whole
    isAttached = true
    // A thread may start others while they are gone through.
    var isNew = true
    var refusal: SystemCallError?
    while isNew {
      isNew = false
      for thread in numberedEntries(ofDirectory: "/proc/\(whole)/task") ?? [] where threads[thread] == nil {
        do throws(SystemCallError) {
          try systemCall("ptrace", "PTRACE_SEIZE \(thread)") {
            clinux_ptrace(Int(PTRACE_SEIZE), thread, 0, UInt(Self.options))
          }
          register(thread: thread, process: whole)
          threads[thread]?.isNewlyAttached = true
          try systemCall("ptrace", "PTRACE_INTERRUPT \(thread)") {
            clinux_ptrace(Int(PTRACE_INTERRUPT), thread, 0, 0)
          }
          isNew = true
        } catch {
          let tracer = Self.number("TracerPid", of: thread)
          // One that has ended meanwhile, be it the first, or was born into these hands.
          if error.errno.rawValue == ESRCH || tracer == getpid()
            || ProcessStatus(of: thread)?.hasEnded ?? true
          {
            refusal = error
            continue
          }
          throw error
        }
      }
    }
    if threads.isEmpty {
      throw refusal ?? SystemCallError(call: "ptrace", asked: "PTRACE_SEIZE", errno: ErrorNumber(ESRCH))
    }
  }

  /// What an attached program is followed with. A started one has a filter for its tracer besides, and does not outlive it; a
  /// filter of its own that asks a tracer is not to be answered.
  private static let options =
    1 /* PTRACE_O_TRACESYSGOOD */ | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE
    | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT

  // --- following ---

  /// Lets the program go on, and waits for what happens next, until all of it has ended.
  ///
  /// - Parameter quietAfter: milliseconds after which `.quiet` is reported, nil to wait as long as it takes.
  /// - Returns: the event, or nil.
  /// - Throws: what `ptrace` or `waitpid` failed with.
  public func next(quietAfter: Int? = nil) throws(SystemCallError) -> Event? {
    while true {
      if !pending.isEmpty { return pending.removeFirst() }
      try resume()
      // Of one thread what came first comes first: one that was killed may have several.
      if let place = postponed.firstIndex(where: { turn == nil || $0.thread == turn }) {
        let next = postponed.remove(at: place)
        turn = next.thread
        try handle(next.thread, next.status)
        continue
      }
      var status: Int32 = 0
      let thread = look(&status)
      if thread > 0 {
        if takesTurns, let turn, thread != turn {
          postponed.append((thread, status))
          continue
        }
        if takesTurns { turn = thread }
        try handle(thread, status)
        stops &+= 1
        // A program that never rests must not drown a ctrl-C.
        if stops % Self.busyStops == 0, let event = wait(milliseconds: 0, for: interruptions) { return event }
      } else if thread == 0, threads.isEmpty {
        // What is left are children that a shell has handed down; they are nobody's story.
        return nil
      } else if thread == 0, let turn {
        // Waiting for something: whoever may bring it is next.
        if !Self.runs(turn) {
          self.turn = nil
          if let call = threads[turn]?.call, threads.count > 1 { return .blocked(call) }
        } else if let event = wait(milliseconds: 1, for: waited), case .interrupted = event {
          return event
        }
      } else if thread == 0 {
        if let event = wait(milliseconds: quietAfter, for: waited) { return event }
      } else if ErrorNumber.last.rawValue == ECHILD {
        return nil
      } else if ErrorNumber.last.rawValue != EINTR {
        throw SystemCallError(call: "waitpid", errno: .last)
      }
    }
  }

  /// Waits until each thread that does not stand still waits for something, but not for ever: what a call has set off, somebody
  /// else's call that it lets return say, is then done. Where threads take turns; elsewhere they run on.
  public func awaitRest() {
    guard takesTurns else { return }
    let standing = Set(postponed.map(\.thread) + (held.map { [$0.thread] } ?? []))
    let deadline = monotonicNanoseconds() &+ Self.restPatience
    for thread in threads.keys where !standing.contains(thread) {
      // One that stands still is found below.
      while ProcessStatus(of: thread)?.state == "R", monotonicNanoseconds() < deadline {
        var time = timespec(tv_sec: 0, tv_nsec: 100_000)
        nanosleep(&time, nil)
      }
    }
    // Those that stand still now do so because of what has been told, and come before what is yet to be.
    var status: Int32 = 0
    while case let thread = clinux_wait_any(&status, WNOHANG), thread > 0 {
      postponed.append((thread, status))
    }
  }

  /// Whether a thread is on a processor, or waits for one, or for a page of its program. One that its tracer has let go on may
  /// not be on its way yet.
  private static func runs(_ thread: pid_t) -> Bool {
    ["R", "D", "t"].contains(ProcessStatus(of: thread)?.state ?? "X")
  }

  /// The signals of this tracer, for somebody who polls at a pause.
  public func makeSignalDescriptor() throws(SystemCallError) -> Descriptor {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in Self.ownSignals { sigaddset(&set, signal) }
    return Descriptor(owning: try systemCall("signalfd") { signalfd(-1, &set, Int32(SFD_CLOEXEC)) })
  }

  /// The processes that are followed.
  public var processes: [pid_t] { tables.keys.sorted() }

  /// How many threads were followed at the same time, at most.
  public private(set) var mostThreads = 0
  /// How many were followed, those included that have ended.
  public private(set) var threadsInAll = 0

  /// How many threads are followed, of all processes together.
  public var threadCount: Int { threads.count }

  /// The descriptors of a process that are sockets; nil where the system does not let them be listed.
  public func sockets(of process: pid_t) -> [Int32]? {
    tables[process]?.reader = reader(of: process)
    return tables[process]?.openSockets()
  }

  /// The thread by whose number a process's descriptors are to be asked for: the first one, unless it has ended before the
  /// others. Then /proc and pidfd_open know nothing of the process by its own number.
  public func reader(of process: pid_t) -> pid_t {
    if let first = threads[process], !first.isExiting { return process }
    return threads.filter { $0.value.process == process && !$0.value.isExiting }.keys.min() ?? process
  }

  /// Sends a signal to the program that was started.
  public func send(_ signal: Int32) {
    if threads[process] != nil { kill(process, signal) }
  }

  /// Ends everything that was started, and waits until it is gone. What was attached to runs on.
  public func release() {
    if isAttached { return detach() }
    for process in tables.keys { kill(process, SIGKILL) }
    // One that stands still on its way out is past hearing SIGKILL.
    for thread in postponed.map(\.thread) + (held.map { [$0.thread] } ?? []) {
      _ = clinux_ptrace(Int(PTRACE_CONT), thread, 0, 0)
    }
    held = nil
    postponed = []
    var status: Int32 = 0
    while !threads.isEmpty {
      let thread = clinux_wait_any(&status, 0)
      if thread < 0 && ErrorNumber.last.rawValue == ECHILD { break }
      guard thread > 0 else { continue }
      if status & 0xff == 0x7f {
        // Stopped on its way out, or a child that nobody has met yet.
        if threads[thread] == nil { kill(thread, SIGKILL) }
        _ = clinux_ptrace(Int(PTRACE_CONT), thread, 0, 0)
      } else {
        threads[thread] = nil
      }
    }
    threads = [:]
    tables = [:]
  }

  /// Brings calls that were changed to their end, so that nothing stays changed when the program is let go. Such a call may
  /// return EINTR. Returns what happened meanwhile.
  public func putAllRight() -> [Event] {
    if let stop = held { detach(stop.thread, signal: stop.signal) }
    held = nil
    for (thread, state) in threads where state.isChanged {
      _ = clinux_ptrace(Int(PTRACE_INTERRUPT), thread, 0, 0)
    }
    while threads.values.contains(where: \.isChanged) {
      var status: Int32 = 0
      let thread = clinux_wait_any(&status, 0)
      if thread < 0 && ErrorNumber.last.rawValue == ECHILD { break }
      guard thread > 0 else { continue }
      do throws(SystemCallError) { try handle(thread, status) } catch { threads[thread] = nil }
      if let stop = held { detach(stop.thread, signal: stop.signal) }
      held = nil
    }
    defer { pending = [] }
    return pending
  }

  /// Lets go of a program that was attached to.
  ///
  /// Threads that run, or wait in a call, are not stopped for it, which might give that call an EINTR: the kernel lets go of
  /// them when this process ends. See: ptrace(2), PTRACE_O_EXITKILL
  private func detach() {
    _ = putAllRight()
    threads = [:]
    tables = [:]
  }

  private func detach(_ thread: pid_t, signal: Int32) {
    _ = clinux_ptrace(Int(PTRACE_DETACH), thread, 0, UInt(signal))
    threads[thread]?.isLetGo = true
    threads[thread]?.shortening = nil
    threads[thread]?.failure = nil
  }

  /// What became of each fault: how many calls were looked at, and to how many it was done.
  public var faultFigures: [(fault: Fault, calls: UInt64, injected: UInt64)] {
    zip(faults, faultCounts).map { ($0, $1.calls, $1.injected) }
  }

  // --- inside ---

  /// Looks for a stop, for as long as a call to the kernel and back usually takes: to sleep and be woken costs more.
  private func look(_ status: inout Int32) -> pid_t {
    let deadline = monotonicNanoseconds() &+ Self.patience
    while true {
      let thread = clinux_wait_any(&status, WNOHANG)
      if thread != 0 || monotonicNanoseconds() >= deadline { return thread }
    }
  }

  private func wait(milliseconds: Int?, for signals: sigset_t) -> Event? {
    var set = signals
    var info = siginfo_t()
    let signal: Int32
    if let milliseconds {
      var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
      signal = sigtimedwait(&set, &info, &time)
    } else {
      signal = sigwaitinfo(&set, &info)
    }
    if signal < 0 {
      if milliseconds == 0 { return nil }
      let running = threads.values.compactMap(\.call).sorted { $0.entered < $1.entered }
      return ErrorNumber.last.rawValue == EAGAIN ? .quiet(running: running) : nil
    }
    if signal == SIGCHLD { return nil }
    // Sent to the whole group, and by the same hand to this process alone as well (timeout(1) does that), it is one.
    let now = monotonicNanoseconds()
    defer { lastInterruption = (signal, now) }
    if signal == lastInterruption.signal, now &- lastInterruption.time < Self.echo { return nil }
    let kernel: Int32 = 0x80  // SI_KERNEL: the terminal's driver sent it, to the whole foreground group
    return .interrupted(signal: signal, fromTerminal: info.si_code == kernel)
  }

  private func resume() throws(SystemCallError) {
    guard let stop = held else { return }
    // A signal that a thread has just sent, say, is to reach the other before the next call does.
    if stop.isEntry { awaitRest() }
    held = nil
    try go(on: stop)
  }

  private func go(on stop: Stop) throws(SystemCallError) {
    // A call's time begins when it is let go on, not when somebody began to look at it.
    if stop.isEntry {
      inject(into: stop.thread)
      threads[stop.thread]?.call?.entered = monotonicNanoseconds()
    }
    if clinux_ptrace(stop.request, stop.thread, 0, UInt(stop.signal)) != -1 { return }
    let failure = ErrorNumber.last
    // ESRCH: killed while it stood still. Its end is reported like any other.
    if failure.rawValue != ESRCH {
      throw SystemCallError(call: "ptrace", asked: "\(stop.request)", errno: failure)
    }
  }

  private func register(thread: pid_t, process: pid_t) {
    threads[thread] = Thread(process: process)
    mostThreads = max(mostThreads, threads.count)
    threadsInAll += 1
    if tables[process] == nil { tables[process] = DescriptorTable(process: process) }
  }

  private func handle(_ thread: pid_t, _ status: Int32) throws(SystemCallError) {
    if status & 0xff != 0x7f {
      end(thread, status & 0x7f == 0 ? .exited(status >> 8 & 0xff) : .killed(signal: status & 0x7f))
      return
    }
    if threads[thread] == nil { meet(thread) }
    let signal = status >> 8 & 0xff
    let event = status >> 16
    let cont = Stop(thread: thread, request: resumption)
    switch (event, signal) {
    case (PTRACE_EVENT_SECCOMP, _), (0, SIGTRAP | 0x80): try standAtCall(thread)
    case (PTRACE_EVENT_FORK, _), (PTRACE_EVENT_VFORK, _), (PTRACE_EVENT_CLONE, _):
      if let child = eventMessage(thread) { parents[pid_t(truncatingIfNeeded: child)] = thread }
      if let child = eventMessage(thread), threads[pid_t(truncatingIfNeeded: child)] == nil {
        meet(pid_t(truncatingIfNeeded: child))
      }
      // It waits for its child to become another program, in state D.
      if event == PTRACE_EVENT_VFORK { turn = nil }
      held = cont
    case (PTRACE_EVENT_EXEC, _):
      execute(thread)
      held = cont
    case (PTRACE_EVENT_EXIT, _):
      threads[thread]?.isExiting = true
      if let process = threads[thread]?.process,
        !threads.values.contains(where: { $0.process == process && !$0.isExiting })
      {
        pending.append(.ending(process: process))
      }
      held = cont
    case (PTRACE_EVENT_STOP, SIGSTOP), (PTRACE_EVENT_STOP, SIGTSTP), (PTRACE_EVENT_STOP, SIGTTIN),
      (PTRACE_EVENT_STOP, SIGTTOU):
      // The whole program was stopped, by ctrl-Z say. It stays so until SIGCONT.
      held = Stop(thread: thread, request: Int(PTRACE_LISTEN))
      turn = nil
    case (PTRACE_EVENT_STOP, _):
      held = cont
      lookAtAttached(thread)
    case (0, _):
      held = Stop(thread: thread, request: resumption, signal: signal)
      if isRedirected(signal, from: thread) {
        held = Stop(thread: thread, request: resumption)
        return
      }
      // A handler may make calls of its own, and whether the kernel then repeats the first is not seen from here.
      threads[thread]?.repeated = nil
      if let process = threads[thread]?.process {
        pending.append(.signalled(process: process, signal: signal))
      }
    default: held = cont
    }
  }

  /// Sends a signal that asks the whole process to end on to its first thread, where that was passed over only since it stood
  /// still for its tracer's sake: the kernel gives such a signal to the first thread unless that blocks it or stands still, and
  /// programs count on the call that it waits in being interrupted. See: signal(7)
  private func isRedirected(_ signal: Int32, from thread: pid_t) -> Bool {
    guard [SIGINT, SIGTERM, SIGHUP].contains(signal), let process = threads[thread]?.process else {
      return false
    }
    var info = siginfo_t()
    guard Self.information(&info, of: thread) else { return false }
    if thread == process {
      // What came with it says who sent it.
      if info.si_code == -6 /* SI_TKILL */, info._sifields._kill.si_pid == getpid(),
        var first = redirected[process]?.removeValue(forKey: signal)
      {
        _ = withUnsafeMutablePointer(to: &first) {
          clinux_ptrace(Int(PTRACE_SETSIGINFO), thread, 0, UInt(bitPattern: $0))
        }
      }
      return false
    }
    // SI_USER or SI_KERNEL: sent to the process.
    guard [0, 0x80].contains(info.si_code), let first = threads[process], !first.isExiting, !first.isLetGo,
      redirected[process]?[signal] == nil,
      ProcessStatus(of: process)?.has(signal, in: "SigBlk") == false
    else { return false }
    redirected[process, default: [:]][signal] = info
    return clinux_tgkill(process, process, signal) == 0
  }

  private static func information(_ info: inout siginfo_t, of thread: pid_t) -> Bool {
    withUnsafeMutablePointer(to: &info) {
      clinux_ptrace(Int(PTRACE_GETSIGINFO), thread, 0, UInt(bitPattern: $0)) != -1
    }
  }

  private func eventMessage(_ thread: pid_t) -> UInt? {
    var message: UInt = 0
    let result = withUnsafeMutablePointer(to: &message) {
      clinux_ptrace(Int(PTRACE_GETEVENTMSG), thread, 0, UInt(bitPattern: $0))
    }
    return result == -1 ? nil : message
  }

  /// A thread or process that nobody has spoken of yet.
  private func meet(_ thread: pid_t) {
    let process = Self.number("Tgid", of: thread) ?? thread
    let isNew = tables[process] == nil
    // A child may be met before the event that announces it.
    let parent =
      parents[thread].flatMap { threads[$0]?.process }
      ?? Self.number("PPid", of: thread).flatMap {
        tables[$0] == nil ? nil : $0
      }
    if isNew, let parent, let table = tables[parent] { tables[process] = table.copied(to: process) }
    register(thread: thread, process: process)
    if isNew { pending.append(.started(process: process, parent: parent)) }
  }

  /// A process or a thread out of a status: "Tgid", "PPid".
  private static func number(_ name: String, of thread: pid_t) -> pid_t? {
    ProcessStatus(of: thread)?.number(name).flatMap { pid_t(exactly: $0) }
  }

  /// Whichever thread called exec goes on as the process's first; all others are gone.
  private func execute(_ process: pid_t) {
    var gone: Set<pid_t> = []
    for (thread, state) in threads where state.process == process {
      if let call = state.call { pending.append(.abandoned(call)) }
      threads[thread] = nil
      if thread != process { gone.insert(thread) }
    }
    postponed.removeAll { gone.contains($0.thread) }
    threads[process] = Thread(process: process)
    redirected[process] = nil
    tables[process] = DescriptorTable(process: process)
    pending.append(.executed(process: process))
  }

  private func end(_ thread: pid_t, _ status: Status) {
    parents[thread] = nil
    if turn == thread { turn = nil }
    guard let ended = threads.removeValue(forKey: thread) else { return }
    let process = ended.process
    if let call = ended.call { pending.append(.abandoned(call)) }
    // The first thread's end is reported when the last one is gone.
    if thread == process {
      for (other, state) in threads where state.process == process { threads[other] = nil }
      tables[process] = nil
      redirected[process] = nil
      pending.append(.ended(process: process, status: status))
    }
  }

  private func information(_ thread: pid_t) throws(SystemCallError) -> ptrace_syscall_info? {
    var info = ptrace_syscall_info()
    let size = UInt(MemoryLayout<ptrace_syscall_info>.size)
    let result = withUnsafeMutablePointer(to: &info) {
      clinux_ptrace(Int(PTRACE_GET_SYSCALL_INFO), thread, size, UInt(bitPattern: $0))
    }
    if result != -1 { return info }
    let failure = ErrorNumber.last
    if failure.rawValue == ESRCH { return nil }
    throw SystemCallError(call: "ptrace", asked: "PTRACE_GET_SYSCALL_INFO", errno: failure)
  }

  /// How a thread goes on from a stop that is no call's entry.
  private var resumption: Int { Int(isAttached ? PTRACE_SYSCALL : PTRACE_CONT) }

  private func standAtCall(_ thread: pid_t) throws(SystemCallError) {
    let stopped = monotonicNanoseconds()
    held = Stop(thread: thread, request: resumption)
    // A call by another convention, `int 0x80` say, has other numbers.
    guard let info = try information(thread), info.arch == Architecture.native.audit else { return }
    switch Int(info.op) {
    case Int(PTRACE_SYSCALL_INFO_SECCOMP):
      enter(thread, number: info.seccomp.nr, CallArguments(info.seccomp.args))
    case Int(PTRACE_SYSCALL_INFO_ENTRY):
      enter(thread, number: info.entry.nr, CallArguments(info.entry.args))
    case Int(PTRACE_SYSCALL_INFO_EXIT): leave(thread, result: info.exit.rval, at: stopped)
    default: break
    }
  }

  private func enter(_ thread: pid_t, number: UInt64, _ arguments: CallArguments) {
    guard let process = threads[thread]?.process,
      let systemCall = Architecture.native.systemCall(number: Int(truncatingIfNeeded: number))
    else { return }
    let call = Call(systemCall, arguments, process: process, thread: thread, entered: monotonicNanoseconds())
    if systemCall == .write, call.arguments.int(0) == spokenDescriptor {
      let count = Int(clamping: call.arguments[2])
      let bytes = ProcessMemory(process: thread).read(call.arguments[1], count)
      pending.append(.said(process: process, bytes: bytes))
      return
    }
    let isRestarting = threads[thread]?.isRestarting ?? false
    threads[thread]?.isRestarting = false
    // Whatever else it resumes, a sleep say, is not about sockets.
    if systemCall == .restartSyscall, !isRestarting { return }
    tables[process]?.reader = thread
    let other = call.arguments.int(0)
    let isSignal = systemCall == .kill && other != process && tables[other] != nil
    guard isSignal || tables[process]?.concerns(call) ?? false else {
      // It runs unseen from here; what it closes, other calls may soon open as something else.
      tables[process]?.forgetClosed(by: call)
      return
    }
    // A closed number may be a new descriptor before this thread has been seen again.
    tables[process]?.forgetClosed(by: call)
    threads[thread]?.call = call
    held = Stop(thread: thread, request: Int(PTRACE_SYSCALL), isEntry: true)
    if reportsEntries { pending.append(.entered(call)) }
  }

  private func leave(_ thread: pid_t, result: Int64, at stopped: UInt64) {
    guard var call = threads[thread]?.call else { return }
    threads[thread]?.call = nil
    call.returned = stopped
    call.result = putRight(thread, result: result)
    threads[thread]?.isRestarting = call.result == -516  // ERESTART_RESTARTBLOCK
    threads[thread]?.repeated = call.error?.isRestart ?? false ? (call, call.injection?.fault) : nil
    tables[call.process]?.apply(call)
    pending.append(.returned(call))
  }

  /// What attaching did to the call that a thread was in.
  private func lookAtAttached(_ thread: pid_t) {
    guard threads[thread]?.isNewlyAttached == true, let process = threads[thread]?.process else { return }
    threads[thread]?.isNewlyAttached = false
    guard let registers = Registers(of: thread), registers.call >= 0 else { return }
    let call = Architecture.native.systemCall(number: registers.call)
    if registers.result == -Int64(EINTR) {
      pending.append(
        .disturbed(process: process, thread: thread, call: call?.name ?? "call \(registers.call)"))
    }
    threads[thread]?.isRestarting = registers.result == -516 && call != nil
  }

  // --- faults ---

  /// Changes a call that is about to run, where a fault is due.
  private func inject(into thread: pid_t) {
    guard !faults.isEmpty, let call = threads[thread]?.call else { return }
    let repeated = threads[thread]?.repeated
    threads[thread]?.repeated = nil
    let isAgain = repeated.map {
      $0.call.systemCall == call.systemCall && $0.call.arguments == call.arguments
    }
    guard let fault = isAgain == true ? repeated?.fault : due(for: call) else { return }
    switch fault.effect {
    case .errno(let failure):
      if !fault.isMade {
        guard var registers = Registers(of: thread) else { return }
        registers.skipCall()
        guard registers.store() else { return }
      }
      threads[thread]?.failure = failure
      note(Injection(fault: fault, length: nil, left: nil), thread)
    case .length(let limit):
      guard let shortening = Shortening(call, to: limit) else { return }
      threads[thread]?.shortening = shortening
      note(Injection(fault: fault, length: shortening.length, left: shortening.left), thread)
    }
  }

  private func note(_ injection: Injection, _ thread: pid_t) {
    threads[thread]?.call?.injection = injection
    if let place = faults.firstIndex(of: injection.fault) { faultCounts[place].injected += 1 }
  }

  /// The first fault whose turn it is; each that means this call counts it.
  private func due(for call: Call) -> Fault? {
    var due: Fault?
    for (place, fault) in faults.enumerated() where fault.call == call.systemCall {
      switch fault.effect {
      case .length: if !canBeShortened(call) { continue }
      case .errno: if !fault.isMade, !canBeSkipped(call) { continue }
      }
      faultCounts[place].calls += 1
      if due == nil, fault.occasion.includes(faultCounts[place].calls) { due = fault }
    }
    return due
  }

  /// Whether a call can be left out. To an attached program's own seccomp filter a call that is left out has the number -1,
  /// which may kill it. (One that was started has its filters asked before.) See: seccomp(2), proc_pid_status(5)
  private func canBeSkipped(_ call: Call) -> Bool {
    guard isAttached, ProcessStatus(of: call.thread)?.number("Seccomp") ?? 0 != 0 else { return true }
    hasOwnFilter = true
    return false
  }

  /// Whether a call is about a stream socket, and looks at how much came. What cannot be found out is not.
  private func canBeShortened(_ call: Call) -> Bool {
    let flags: Int32? =
      switch call.systemCall {
      case .recvfrom: call.arguments.int(3)
      case .recvmsg: call.arguments.int(2)
      default: nil
      }
    // (The error queue holds records, which a short read would cut.)
    if let flags, flags & Int32(MSG_WAITALL | MSG_ERRQUEUE) != 0 { return false }
    guard let descriptor = call.descriptors.first(where: { tables[call.process]?.isSocket($0) ?? false })
    else {
      return false
    }
    do throws(SystemCallError) {
      let process = Descriptor(
        owning: try systemCall("pidfd_open", "\(call.thread)") {
          let whole = clinux_pidfd_open(call.process, 0)
          return whole >= 0 ? whole : clinux_pidfd_open(call.thread, CLINUX_PIDFD_THREAD)
        })
      let duplicate = Descriptor(
        owning: try systemCall("pidfd_getfd", "\(descriptor)") {
          clinux_pidfd_getfd(process.number, descriptor, 0)
        })
      var type: Int32 = 0
      var length = socklen_t(MemoryLayout<Int32>.size)
      try systemCall("getsockopt", "SO_TYPE") {
        getsockopt(duplicate.number, SOL_SOCKET, SO_TYPE, &type, &length)
      }
      return type == Int32(SOCK_STREAM.rawValue)
    } catch {
      shorteningRefusal = error
      return false
    }
  }

  /// Undoes what was changed at the call's entry. Returns what the call is to be told to have returned.
  private func putRight(_ thread: pid_t, result: Int64) -> Int64 {
    threads[thread]?.shortening?.putRight()
    threads[thread]?.shortening = nil
    guard let failure = threads[thread]?.failure else { return result }
    threads[thread]?.failure = nil
    guard var registers = Registers(of: thread) else { return result }
    registers.result = -Int64(failure.rawValue)
    return registers.store() ? registers.result : result
  }
}
