import CLinux
import CommandLineTool
import Glibc
import KernelState
import SystemCalls
import Tracing

/// Follows a program and has its story told: asks the kernel around every call, makes a `Step` of it, and waits at a
/// terminal, with the program frozen, where that is wanted.
public final class Narrator {
  /// Whose story it is: what that changes in the telling.
  public enum Subject: Sendable {
    /// A lesson: the tool itself, whose standard output is its own words.
    case lesson
    /// Any program, started by its command.
    case program([String])
    /// A program that runs.
    case running(pid_t)
  }

  public struct Options: Sendable {
    /// Waits after each step until a key is pressed.
    public var pauses = false
    /// Told are these calls only; all where it is nil.
    public var only: Set<SystemCall>?
    /// What is done to its calls.
    public var faults: [Fault] = []
    /// Without packets the story is not told: they are to be written down.
    public var needsPackets = false
    /// Asks, before a call runs, what it will do: at the terminal where it pauses, else on standard input.
    public var predicts = false
    /// The namespaces of its own that it runs in, as nsenter names them: "-U -n"; empty for none.
    public var namespaces = ""
    /// What a lab asks before it begins.
    public var experiment: Experiment?
    /// What is to be said at the beginning, in the toolkit's own name.
    public var note: String?
    /// Whether a pause says how to dial the program.
    public var invitesClients = true
    /// Milliseconds after which whoever is told is asked again whether they want more, though nothing has happened; nil for as long
    /// as it takes.
    public var heartbeat: Int?
    /// Whether the first signal that asks this process to end ends the program, too, and is not left to it.
    public var endsAtFirstSignal = false
    /// Whether a step waits until bytes that it has sent have arrived. Where it does not, their arrival is told as having happened
    /// meanwhile, and the program is held up less.
    public var awaitsArrival = true
    /// Whether the packets on the loopback interface belong to the story.
    public var hearsPackets = true

    public init() {}
  }

  private let tracer = Tracer()
  private let world = World()
  private let subject: Subject
  private let options: Options
  private let teller: any Teller
  private let reader: Reader
  private let tap: PacketTap?
  private let tapRefusal: SystemCallError?
  private var relative = RelativeSequences()

  /// A call that is told, from its entry on.
  private struct Running {
    let call: Call
    let full: CallText
    let short: CallText
    let descriptors: [Int32]
    /// When it was let go on: CLOCK_MONOTONIC, and the time of day, in nanoseconds.
    let began: UInt64
    let time: UInt64
    var isToldAsWaiting = false
    let before: [SocketSnapshot]
    let attribution: Attribution
    /// The address that a connect dials.
    let target: SocketAddress?
    /// What was asked of it, and answered.
    var question: (question: Question, choice: String?)?
    /// What it did, seen while another thread's call was told.
    var changes: [SocketChange] = []
    var packets: [Packet] = []
  }

  private var running: [pid_t: Running] = [:]
  private var meanwhile: [SocketChange] = []
  private var strayPackets: [Packet] = []
  private var stepCount = 0
  private var lastProcess: pid_t?
  private var notedRefusal = false
  private var lostPackets: UInt64 = 0
  /// Heard, and not told yet.
  private var heard: [Packet] = []
  private var heardBytes = 0
  /// Packets for which there was no room.
  private var overheard: UInt64 = 0
  private var hasBegun = false
  /// What the program has said, and nobody has been told yet.
  private var words: [(text: String, process: pid_t)] = []
  /// What was foreseen of the experiment.
  private var guess: String?
  /// A timer of the kernel runs that a lab is about: nobody may wait for anything.
  private var isClockRunning = false
  private var interruptions = 0
  private var mainEnd: Tracer.Status?
  private var isInterruptionTold = false
  private var isTapRefusalTold = false

  /// Readings, 5 ms apart, after which a state is told that may yet change.
  private static let settlingReadings = 12
  /// The same for bytes that a lesson's peer has yet to acknowledge.
  private static let patientReadings = 60
  /// Bytes of packets that are kept while nothing is told.
  private static let heardLimit = 8 << 20
  /// Signals that a program ignores unless it asks for them. See: signal(7)
  private static let unremarkable: Set<Int32> = [SIGCHLD, SIGCONT, SIGWINCH, SIGURG]
  /// A call that has not returned for so long is told as waiting, in milliseconds.
  private static let waitingAfter = 300

  public init(subject: Subject, options: Options, teller: any Teller) {
    self.subject = subject
    self.options = options
    self.teller = teller
    reader = Reader(pauses: options.pauses, predicts: options.predicts, teller: teller)
    var refusal: SystemCallError?
    var tap: PacketTap?
    if options.hearsPackets {
      do throws(SystemCallError) { tap = try PacketTap() } catch { refusal = error }
    }
    self.tap = tap
    tapRefusal = refusal
  }

  /// What became of each fault: how many calls were looked at, and to how many it was done.
  public var faultFigures: [(fault: Fault, calls: UInt64, injected: UInt64)] { tracer.faultFigures }

  /// How many threads there were at one time, of all processes together.
  public var mostThreads: Int { tracer.mostThreads }

  /// Starts the program, or attaches to it, and tells its story to the end.
  ///
  /// - Parameters:
  ///   - name: the tool's own name, which is also a lesson's.
  ///   - arguments: what the started copy of this executable gets.
  /// - Returns: the status to exit with.
  /// - Throws: a `Complaint` where the program cannot be started or followed.
  public func run(name: String, arguments: [String]) throws(Complaint) -> Int32 {
    if options.pauses, !reader.hasTerminal {
      throw Complaint("--step waits for keys, and there is no terminal to read them from; use --no-step")
    }
    if options.needsPackets, let tapRefusal {
      throw Complaint("there are no packets to write down: \(why(tapRefusal))")
    }
    // A reader that does not read must not keep signals from being heard.
    let signals = (try? tracer.makeSignalDescriptor())?.release() ?? -1
    for output in teller.outputs { output.interruption = signals }
    defer {
      for output in teller.outputs { output.interruption = -1 }
      if signals >= 0 { close(signals) }
    }
    // A lesson's words are told here, and nowhere else.
    var silence: Int32?
    if case .lesson = subject { silence = try? Descriptor.open("/dev/null", O_WRONLY).release() }
    defer { if let silence { close(silence) } }
    tracer.reportsEntries = true
    if case .lesson = subject { tracer.takesTurns = true }
    tracer.spokenDescriptor = silence == nil ? nil : STDOUT_FILENO
    tracer.faults = options.faults
    if case .running(let process) = subject {
      try attach(to: process, name: name)
    } else {
      do throws(SystemCallError) {
        try tracer.start(name: name, arguments: arguments, standardOutput: silence)
      } catch {
        throw TracingRefusal.explain(error)
      }
      if case .lesson = subject { begin(StoryItem.Opening(tool: name, process: tracer.process)) }
    }
    if let note = options.note { tell(.note(note)) }
    if let experiment = options.experiment {
      tell(.experiment(experiment))
      let answer = converse { reader.answer(experiment, hint: $0, sockets: world.sockets, signals: $1) }
      if let status = answer.status { return status }
      guess = answer.choice
    }
    let status = try follow()
    _ = teller.flush()
    return status
  }

  private func attach(to process: pid_t, name: String) throws(Complaint) {
    do throws(SystemCallError) { try tracer.attach(to: process) } catch {
      tracer.release()
      throw TracingRefusal.explain(error, attachingTo: process)
    }
    _ = world.observe(openDescriptors())
    // Each word ends with a NUL, be it empty or not.
    let words = (contents(ofFile: "/proc/\(tracer.process)/cmdline") ?? []).split(
      separator: 0, omittingEmptySubsequences: false)
    let command = words.dropLast().map { String(decoding: $0, as: UTF8.self) }
    begin(
      StoryItem.Opening(
        tool: name, command: command, process: tracer.process, isAttached: true, sockets: world.sockets))
    noteForeignCalls(tracer.process, destination(ofLink: "/proc/\(tracer.process)/exe") ?? "This")
    // Nothing may happen for a long time.
    _ = teller.flush()
  }

  // --- the events, one after the other ---

  private func follow() throws(Complaint) -> Int32 {
    var status = ExitStatus.failure
    while true {
      let event: Tracer.Event?
      do throws(SystemCallError) {
        let patience = running.isEmpty && interruptions != 1 ? nil : Self.waitingAfter
        event = try tracer.next(quietAfter: options.heartbeat.map { min($0, patience ?? $0) } ?? patience)
      } catch {
        tracer.release()
        throw TracingRefusal.explain(error)
      }
      guard let event else { return status }
      switch event {
      case .entered(let call):
        guard hasBegun else { continue }
        let question = isClockRunning ? nil : question(about: call)
        let answer = isClockRunning ? (choice: nil, status: nil) : wait(asking: question)
        if let status = answer.status { return status }
        sayHeld()
        enter(call)
        running[call.thread]?.question = question.map { ($0, answer.choice) }
      case .returned(let call):
        guard hasBegun else { continue }
        // One call may return after another, with none made in between.
        if options.pauses, !isClockRunning, let status = wait(asking: nil).status { return status }
        leave(call)
      case .abandoned(let call):
        // What it did is told, if by nobody's name.
        if let lost = running.removeValue(forKey: call.thread) {
          meanwhile += lost.changes
          strayPackets += lost.packets
        }
      case .said(let process, let bytes):
        let text = Self.words(bytes)
        // Of what has happened so far somebody may still want to see the state.
        if Aside(text) == .clockRuns, let status = wait(asking: nil).status { return status }
        words.append((text, process))
        // With questions, words are told after the answer: they may hold it.
        if !options.predicts || Aside(text) != nil { sayHeld() }
      case .disturbed(_, let thread, let call): tell(.note(Self.disturbance(thread, call)))
      case .blocked(let call): tellWaiting(call.thread)
      case .quiet:
        listen()
        tellWaiting()
        if interruptions == 1, !isInterruptionTold {
          isInterruptionTold = true
          let who =
            mainEnd == nil ? "The program got the signal" : "The program has ended; what it started has not,"
          tell(.note("\(who) and goes on. A second signal ends it."))
        }
      case .ending(let process):
        guard hasBegun, process == tracer.process else { continue }
        isClockRunning = false
        if let status = wait(asking: nil).status { return status }
      case .ended(let process, let end):
        world.kernel.forget(process: process)
        if process == tracer.process { status = end.shellStatus }
        guard hasBegun else { continue }
        if process == tracer.process { mainEnd = end }
        // The story is over when the last process is.
        if tracer.processes.isEmpty {
          tellEnding(mainEnd ?? end)
        } else {
          tell(.process(process, .ended(end)))
        }
      case .executed(let process): executed(process)
      case .started(let process, let parent):
        if hasBegun, parent != nil { tell(.process(process, .started(parent: parent))) }
      case .signalled(let process, let signal):
        if hasBegun, !Self.unremarkable.contains(signal) {
          let isIgnored = ProcessStatus(of: process)?.has(signal, in: "SigIgn") ?? false
          tell(.process(process, .signalled(signal, isIgnored: isIgnored)))
        }
      case .interrupted(let signal, let fromTerminal):
        if let end = interrupted(signal, fromTerminal: fromTerminal) { return end }
      }
      if !running.isEmpty { tellWaiting() }
      // Whoever reads it reads it while it happens.
      let isRead = teller.flush()
      if !teller.wantsMore {
        end()
        return ExitStatus.success
      }
      if case .lesson = subject, !isRead, teller.output.failure?.rawValue != EINTR {
        tracer.release()
        return ExitStatus.outputClosed
      }
    }
  }

  static func disturbance(_ thread: pid_t, _ call: String) -> String {
    "Attaching has given thread \(thread) an EINTR: its \(call) was waiting, and is one of the calls that the kernel does not make "
      + "again by itself. A program has to expect that (signal(7))."
  }

  private func begin(_ opening: StoryItem.Opening) {
    hasBegun = true
    tell(.opening(opening))
    if let refusal = world.kernel.sockDiagRefusal {
      tell(.note("Sockets without a descriptor are not shown: NETLINK_SOCK_DIAG was refused (\(refusal))."))
    }
    // What it was born with.
    if !opening.isAttached { _ = world.observe(openDescriptors()) }
    _ = tap?.drain()
  }

  private func executed(_ process: pid_t) {
    let program = destination(ofLink: "/proc/\(process)/exe") ?? "?"
    if process == tracer.process, !hasBegun, case .program(let command) = subject {
      begin(StoryItem.Opening(tool: "follow", command: command, process: process))
    } else {
      tell(.process(process, .executed(program: program)))
    }
    noteForeignCalls(process, program)
  }

  private func noteForeignCalls(_ process: pid_t, _ program: String) {
    guard let file = try? Descriptor.open("/proc/\(process)/exe", O_RDONLY) else { return }
    // The fifth byte of an ELF file is its class, 1 for 32 bits. See: elf(5)
    var header = [UInt8](repeating: 0, count: 5)
    guard read(file.number, &header, header.count) == header.count, header[4] == 1 else { return }
    tell(.note("\(program) is a 32-bit program: its calls have other numbers, and cannot be told."))
  }

  private func enter(_ call: Call) {
    guard isTold(call.systemCall) else { return }
    let target = call.systemCall == .connect ? address(call) : nil
    if let target { world.note(address: target) }
    distribute(world.observe(openDescriptors(), focus: focus(call)))
    let memory = ProcessMemory(process: call.thread)
    running[call.thread] = Running(
      call: call, full: CallText(call, memory: memory), short: CallText(call, memory: memory, style: .short),
      descriptors: descriptors(of: call.thread), began: Self.now(CLOCK_MONOTONIC),
      time: Self.now(CLOCK_REALTIME), before: world.sockets,
      attribution: Attribution(call: call, target: target, before: world.sockets), target: target)
  }

  /// Gives each change to the call that explains it best, of those that have not returned yet; the rest happened meanwhile.
  private func distribute(_ changes: [SocketChange]) {
    for change in changes {
      if let maker = claimant(change).thread {
        running[maker]?.changes.append(change)
      } else {
        meanwhile.append(change)
      }
    }
  }

  private func claimant(_ change: SocketChange) -> (thread: pid_t?, claim: Attribution.Claim) {
    var best: (thread: pid_t?, claim: Attribution.Claim, began: UInt64) = (nil, .none, .max)
    for (thread, call) in running {
      let claim = call.attribution.claim(change)
      // Of two that explain it alike, the one that has been at it for longer.
      if claim > best.claim || claim == best.claim && claim != .none && call.began < best.began {
        best = (thread, claim, call.began)
      }
    }
    return (best.thread, best.claim)
  }

  private func leave(_ call: Call) {
    guard let text = running.removeValue(forKey: call.thread), let result = call.result else { return }
    let before = world.sockets
    let mayRest = !options.awaitsArrival && call.systemCall.movesBytes
    let observed = settle(after: call, isSent: text.attribution.maySend && !mayRest)
    let attribution = Attribution(
      call: call, target: text.target, before: text.before, after: world.sockets)
    var changes = text.changes
    var others: [SocketChange] = []
    for change in observed {
      let claim = attribution.claim(change)
      let rival = claimant(change).claim
      let isOwn =
        claim != .none ? claim >= rival : rival == .none && running.isEmpty && attribution.adoptsTheRest
      if isOwn { changes.append(change) } else { others.append(change) }
    }
    let packets = collectPackets(formerly: before)
    let own = packets.filter { packet in
      // What passed before the call was let go on is not its doing.
      packet.time >= text.time && (attribution.covers(packet) || running.isEmpty && attribution.adoptsTheRest)
    }
    for packet in packets where !own.contains(packet) {
      let sender = running.first { packet.time >= $0.value.time && $0.value.attribution.covers(packet) }
      if let sender { running[sender.key]?.packets.append(packet) } else { strayPackets.append(packet) }
    }
    let memory = ProcessMemory(process: call.thread)
    stepCount += 1
    let step = Step(
      number: stepCount, time: text.time, call: call,
      text: text.full.finished(result: result, memory: memory),
      shortText: text.short.finished(result: result, memory: memory), before: before, after: world.sockets,
      meanwhile: meanwhile, changes: changes, strayPackets: strayPackets, ownPackets: text.packets + own,
      descriptors: DescriptorList(before: text.descriptors, after: descriptors(of: call.thread)),
      portHolder: portHolder(call))
    meanwhile = []
    strayPackets = []
    tell(.step(step))
    if let (question, choice) = text.question,
      let prediction = reader.judge(question, choice: choice, step: step, waited: text.isToldAsWaiting)
    {
      tell(.prediction(prediction))
    }
    reader.note(step)
    // Seen only now, and not this call's doing: it happened before the next step.
    distribute(others)
    noteRefusals()
    if call.systemCall == .ioUringSetup, call.error == nil {
      tell(
        .note(
          "From here on this program can hand calls to the kernel through io_uring's shared memory. "
            + "No system call is made for them, so they cannot be seen one by one; their effects can."))
    }
    lastProcess = call.process
  }

  /// A lesson is in no hurry, and shows the answer with the call that it answers.
  private var awaitsAcknowledgments: Bool { if case .lesson = subject { true } else { false } }

  private func isTold(_ call: SystemCall) -> Bool { options.only?.contains(call) ?? true }

  private static func words(_ bytes: [UInt8]) -> String {
    var text = String(decoding: bytes, as: UTF8.self)
    while text.hasSuffix("\n") { text.removeLast() }
    return text
  }

  private func sayHeld() {
    for (text, process) in words {
      switch Aside(text) {
      case nil: tell(.said(text, by: process))
      case .clockRuns: isClockRunning = true
      case .clockStands:
        isClockRunning = false
        // What was typed when nobody could be asked is no answer to what comes now.
        reader.forgetKeys()
      case .verdict(let half, let truth, let text):
        let choices = options.experiment?.choices ?? []
        let isDecided = choices.indices.contains(truth - 1)
        let verdict = Verdict(
          half: half, text: text, truth: isDecided ? choices[truth - 1] : nil,
          guess: isDecided ? guess : nil)
        reader.count(verdict)
        tell(.verdict(verdict))
      }
    }
    words = []
  }

  /// Tells the calls that have not returned for a while, each once.
  private func tellWaiting() {
    let now = Self.now(CLOCK_MONOTONIC)
    for (thread, call) in running.sorted(by: { $0.value.began < $1.value.began })
    where now &- call.began > UInt64(Self.waitingAfter) * 1_000_000 { tellWaiting(thread) }
  }

  private func tellWaiting(_ thread: pid_t) {
    guard let call = running[thread], !call.isToldAsWaiting else { return }
    running[thread]?.isToldAsWaiting = true
    tell(.waiting(call.call, text: call.full.pending))
  }

  /// Nanoseconds of a clock.
  private static func now(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
  }

  private func tellEnding(_ status: Tracer.Status?) {
    sayHeld()
    let before = world.sockets
    let changes = settle(after: nil, isSent: true)
    let packets = strayPackets + collectPackets(formerly: before)
    var isLetGo = false
    if case .running = subject, status == nil { isLetGo = true }
    for note in tracer.faultNotes { tell(.note(note)) }
    tell(
      .ending(
        StoryItem.Ending(
          process: tracer.process, status: status, isLetGo: isLetGo, score: reader.score,
          changes: meanwhile + changes, packets: packets, sockets: world.sockets)))
    meanwhile = []
    strayPackets = []
  }

  /// What to exit with, where the signal means the end.
  private func interrupted(_ signal: Int32, fromTerminal: Bool) -> Int32? {
    interruptions += 1
    if case .running = subject {
      end()
      return ExitStatus.success
    }
    if case .program = subject, hasBegun, interruptions == 1, !options.endsAtFirstSignal {
      // The program may have its own way to end; its story goes on until it does.
      if !fromTerminal { tracer.send(signal) }
      return nil
    }
    teller.willBeInterrupted()
    end()
    return 128 + signal
  }

  /// Ends the program and its story; of a program that was attached to, the story only.
  private func end() {
    if case .running = subject {
      for event in tracer.putAllRight() { if case .returned(let call) = event { leave(call) } }
      if hasBegun { tellEnding(nil) }
      tracer.release()
    } else {
      tracer.release()
      if hasBegun { tellEnding(nil) }
    }
    _ = teller.flush()
  }

  // --- asking the kernel ---

  private func openDescriptors() -> [World.Descriptors] {
    tracer.processes.map { process in
      let sockets = tracer.sockets(of: process)
      return World.Descriptors(process: process, sockets: sockets, reader: tracer.reader(of: process))
    }
  }

  private func focus(_ call: Call) -> World.Descriptors {
    World.Descriptors(process: call.process, sockets: call.descriptors, reader: call.thread)
  }

  private func descriptors(of thread: pid_t) -> [Int32] {
    numberedEntries(ofDirectory: "/proc/\(thread)/fd") ?? []
  }

  /// Who has the port that a bind was refused for.
  private func portHolder(_ call: Call) -> String? {
    guard call.systemCall == .bind, call.error?.rawValue == EADDRINUSE, let wanted = address(call)?.canonical
    else {
      return nil
    }
    return world.holder(
      of: wanted, besides: SocketSnapshot.Holder(process: call.process, descriptor: call.descriptor ?? -1))
  }

  /// The address that a call names.
  private func address(_ call: Call) -> SocketAddress? {
    let length = Int(min(call.arguments[2] & 0xffff_ffff, 128))
    return SocketAddress(bytes: ProcessMemory(process: call.thread).read(call.arguments[1], length))
  }

  /// Reads until two readings agree and no socket is on its way to another state.
  ///
  /// Only after a call that may have sent something: everything else is done when it returns.
  private func settle(after call: Call?, isSent: Bool) -> [SocketChange] {
    tracer.awaitRest()
    let before = world.sockets
    let focus = call.map(self.focus)
    world.observe(openDescriptors(), focus: focus)
    if isClockRunning { return World.changes(from: before, to: world.sockets) }
    let isUnderWay = awaitsAcknowledgments && (world.isPassing || world.isSending)
    if isSent || isUnderWay, world.sockets.contains(where: { $0.state.isTCP }) {
      for reading in 1...Self.patientReadings {
        var time = timespec(tv_sec: 0, tv_nsec: 5_000_000)
        nanosleep(&time, nil)
        let more = world.observe(openDescriptors(), focus: focus)
        let isStable = !more.contains { change in
          if case .field(let field) = change.kind { field.field.weight == .story } else { true }
        }
        if awaitsAcknowledgments && world.isSending { continue }
        if isStable && !world.isPassing || reading >= Self.settlingReadings { break }
      }
    }
    return World.changes(from: before, to: world.sockets)
  }

  /// What passed since the last time, of the sockets of this story.
  private func collectPackets(formerly: [SocketSnapshot]) -> [Packet] {
    guard let tap else { return [] }
    heard += tap.drain()
    let packets = heard.filter { world.owns($0, formerly: formerly) }.map { relative.number($0) }
    heard = []
    heardBytes = 0
    let lost = tap.lost &+ overheard
    if lost > lostPackets {
      let count = counted(Int(clamping: lost - lostPackets), "packet")
      tell(.note("\(count) of the loopback interface came too fast; some may be missing here."))
      lostPackets = lost
    }
    return packets
  }

  /// Takes what has come meanwhile out of the tap, so that others' packets do not fill it; and keeps what may belong to the
  /// story, but not without end: a listening socket may be another program's as well.
  private func listen() {
    guard let tap else { return }
    for packet in tap.drain() where world.owns(packet, formerly: []) || world.names(packet) {
      if heardBytes > Self.heardLimit {
        overheard += 1
      } else {
        heard.append(packet)
        heardBytes += packet.bytes.count
      }
    }
  }

  private func noteRefusals() {
    if let tapRefusal, !isTapRefusalTold,
      world.sockets.contains(where: { $0.state.isTCP && $0.state.peer != nil })
    {
      isTapRefusalTold = true
      tell(.note("Packets are not shown: \(why(tapRefusal))."))
    }
    guard !notedRefusal else { return }
    if let refusal = world.kernel.duplicateRefusal, [EPERM, EACCES, ENOSYS].contains(refusal.errno.rawValue) {
      // (A descriptor closed a moment ago, or a process that has ended, is no refusal.)
      notedRefusal = true
      let likely = refusal.call == "pidfd_getfd" ? ", as Docker's default profile does" : ""
      tell(
        .note(
          "Options and buffers are not shown: \(refusal.call) was refused (\(refusal.errno.name))\(likely). States and "
            + "queues come from sock_diag alone."))
    } else if let hidden = tracer.processes.first(where: {
      tracer.sockets(of: $0) == nil && !(ProcessStatus(of: $0)?.isExiting ?? true)
    }) {
      notedRefusal = true
      tell(
        .note(
          "Process \(hidden) does not let its descriptors be listed (it is not dumpable, prctl(2)): its sockets stand as "
            + "they were last seen."))
    }
  }

  /// Why there are no packets, and how there would be.
  private func why(_ refusal: SystemCallError) -> String {
    guard [EPERM, EACCES].contains(refusal.errno.rawValue) else {
      return "to listen on the loopback interface was refused (\(refusal))"
    }
    if case .running = subject {
      return "to listen on the loopback interface was refused; it needs CAP_NET_RAW, which root has"
    }
    return
      "to listen on the loopback interface was refused; it needs CAP_NET_RAW, which root has, or --isolated"
  }

  private func tell(_ item: StoryItem) { teller.tell(item) }

  // --- waiting for the reader ---

  private func question(about call: Call) -> Question? {
    guard isTold(call.systemCall) else { return nil }
    return reader.question(about: call, sockets: world.sockets, descriptors: descriptors(of: call.thread))
  }

  /// What the reader answers to a question, or to none; or what to exit with, where the reader has had enough.
  private func wait(asking question: Question?) -> (choice: String?, status: Int32?) {
    converse { reader.wait(asking: question, hint: $0, sockets: world.sockets, signals: $1) }
  }

  private func converse(_ exchange: (Hint, Int32) -> Reader.Answer) -> (choice: String?, status: Int32?) {
    let hint = Hint(
      sockets: world.sockets, process: lastProcess ?? tracer.process, isAlone: tracer.threadCount == 1,
      namespaces: options.namespaces, invitesClients: options.invitesClients)
    let signals = (try? tracer.makeSignalDescriptor())?.release() ?? -1
    defer { if signals >= 0 { close(signals) } }
    reader.meanwhile = tap.map { tap in (tap.descriptor, { [unowned self] in listen() }) }
    switch exchange(hint, signals) {
    case .answered(let choice): return (choice, nil)
    case .quit:
      end()
      return (nil, ExitStatus.success)
    case .interrupted(let signal):
      end()
      return (nil, 128 + signal)
    }
  }
}
