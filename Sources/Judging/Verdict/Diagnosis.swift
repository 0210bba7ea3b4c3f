import CommandLineTool
import Glibc
import KernelState
import Story
import SystemCalls
import Tracing

/// Why something was not as it was to be: what the kernel shows, and which call is likely missing.
struct Diagnosis {
  private let program: ProgramState
  private let record: Record
  private let port: UInt16
  /// Whether its standard input is full of what it has not read.
  private let hasUnreadInput: Bool

  init(_ side: OtherSide) {
    hasUnreadInput = !side.unfed.isEmpty
    program = side.program
    record = side.record
    port = side.port
  }

  /// Where the program stands, as a list of none or one.
  var standing: [String] { program.standing().map { [$0] } ?? [] }

  /// Its sockets, one a line.
  private var sockets: [String] {
    let found = program.sockets().map(\.inWords)
    if !found.isEmpty { return found }
    return record.now.end == nil ? ["The program has no TCP socket."] : []
  }

  private func has(_ call: String) -> Bool { CallName(call).map { record.now.succeeded($0) > 0 } ?? false }

  /// The call that failed last, when it is one of those: "bind failed: EADDRINUSE (…)".
  private func failure(of calls: [SystemCall]) -> String? {
    guard let step = record.now.lastFailure, calls.contains(step.call.systemCall), let error = step.call.error
    else {
      return nil
    }
    return "\(step.call.systemCall.name) has failed: \(error)."
  }

  /// What is likely wrong with the arguments of a call that failed.
  private static func advice(_ step: Step) -> String? {
    guard let error = step.call.error, [.bind, .connect].contains(step.call.systemCall) else { return nil }
    if step.text.call.contains("1.0.0.127") {
      return
        "1.0.0.127 is 127.0.0.1 with its bytes exchanged: sin_addr is in network byte order, as inet_addr gives it."
    }
    if error.rawValue == EAFNOSUPPORT || error.rawValue == EINVAL && step.text.call.contains("AF_UNSPEC") {
      return "sin_family says which kind of address it is; it is to be AF_INET, and 0 when nobody has set it."
    }
    return nil
  }

  private var isEnded: Bool { record.now.end != nil }

  // --- what is true of all ---

  /// A failure with what the story says beside: how the program has ended, and what was done to its calls.
  func completed(_ failure: Failure) -> Failure {
    var failure = failure
    let now = record.now
    if let end = now.end {
      // How it ended is what matters most.
      failure.observed.removeAll { $0 == end.inASentence }
      failure.observed.insert(end.inASentence, at: 0)
      if let advice = end.advice { (failure.missing, failure.hint) = advice }
    }
    if case .killed? = now.end { return failure }
    guard let injected = now.lastInjected, now.steps - injected.number < Self.near,
      let hint = Self.hint(injected.step)
    else { return failure }
    if isEnded, !failure.isHintTheChecks, now.steps == injected.number, let error = injected.step.call.error {
      // It has given up because of it.
      failure.hint = hint
      failure.missing =
        [EINTR, ECONNABORTED].contains(error.rawValue) ? "\(injected.step.call.systemCall.name), again" : nil
    } else if failure.missing == nil, failure.hint == nil || isEnded && !failure.isHintTheChecks {
      failure.hint = hint
    }
    return failure
  }

  /// What was done to a call so many steps ago is likely to have to do with the failure.
  private static let near = 6

  private static func hint(_ step: Step) -> String? {
    let name = step.call.systemCall.name
    guard let injection = step.call.injection else { return nil }
    switch injection.fault.effect {
    case .length:
      // It failed by itself, and not because it was short.
      guard step.call.error == nil else { return nil }
      let moved = step.call.result ?? 0
      return
        "\(name) was given \(injection.length ?? 0) bytes and moved \(moved): the judge let it be short, as the kernel may at any time. What it "
        + "returns says how far it came."
    case .errno(let error):
      let meaning: String
      switch error.rawValue {
      case EINTR: meaning = "a signal came, nothing was done, and the call is to be made again"
      case ECONNABORTED:
        meaning = "that one client has gone before it was accepted, and the next may be waiting"
      case EMFILE, ENFILE: meaning = "no descriptor is free now; closing one frees it"
      case EAGAIN: meaning = "nothing is there now, and later there may be"
      default: meaning = "\(error.text)"
      }
      return "The judge let \(name) return \(error.name), which may happen at any time: \(meaning)."
    }
  }

  // --- nobody there ---

  func nobodyListens(_ expected: String) -> Failure {
    let others = program.sockets().filter(\.state.isListening)
    var result = Failure(expected, observed: sockets + standing)
    if let other = others.first?.state.local {
      result.observed.insert("It listens on port \(other.port), and not on port \(port).", at: 0)
      result.missing = "the right port in sin_port"
      if other.port == port.byteSwapped {
        result.missing = "bigEndian"
        result.hint =
          "\(other.port) is \(port) with its two bytes exchanged: sin_port is in network byte order, so it is "
          + "(\(port) as UInt16).bigEndian. See ip(7), htons(3)."
      } else if !has("bind") {
        result.missing = "bind"
        result.hint = "Without bind the kernel chooses a port when listen is called."
      }
      return result
    }
    // A call that failed comes before one that is missing.
    if let failed = failure(of: [.socket, .bind, .listen, .setsockopt]) {
      result.observed.insert(failed, at: 0)
      result.hint =
        record.now.lastFailure.flatMap(Self.advice) ?? "What errno says is told with that call below."
      return result
    }
    result.missing = ["socket", "bind", "listen"].first { !has($0) }
    if !isEnded, has("listen") {
      result.observed.insert(Self.noListener, at: 0)
      return result
    }
    if isEnded, result.missing == nil {
      result.hint = "The listening socket ends with the program. A server goes on, until it is told to stop."
    }
    return result
  }

  func refused(_ expected: String, _ error: ErrorNumber) -> Failure {
    var result = Failure(expected, observed: ["connect returned \(error)."] + sockets + standing)
    if error.rawValue == ETIMEDOUT {
      result.missing = "accept"
      result.hint = "The accept queue is full: the kernel drops further connection requests."
    }
    return result
  }

  func nobodyDials(_ expected: String) -> Failure {
    var result = Failure(expected, observed: sockets + standing)
    if let failed = failure(of: [.socket, .connect]) {
      result.observed.insert(failed, at: 0)
      if let step = record.now.lastFailure,
        step.text.call.contains("htons(\(port.byteSwapped))")
          || step.text.call.contains(":\(port.byteSwapped)")
      {
        result.missing = "bigEndian"
        result.hint =
          "\(port.byteSwapped) is \(port) with its two bytes exchanged: sin_port is in network byte order."
      }
      return result
    }
    result.missing = ["socket", "connect"].first { !has($0) }
    return result
  }

  private static let noListener = "The program has closed the listening socket."

  // --- bytes ---

  /// What the program has done with a connection so far; and the call that is missing for it to read, where one is.
  private func progress(_ connection: Connection) -> (observed: [String], missing: String?) {
    if let end = program.end(of: connection) {
      let waiting = end.state.number(.readable) ?? 0
      return ([end.inWords + "."], waiting > 0 ? "read" : nil)
    }
    let remote = program.remote(of: connection.own, at: connection.peer)
    if let remote, remote.inode ?? 0 == 0,
      remote.state == TCPState.established.name || remote.state == TCPState.closeWait.name
    {
      let bytes = remote.number(.receiveQueue) ?? 0
      return (
        [
          "no fd: \(remote.state ?? "?"), in the accept queue, with \(counted(Int(clamping: bytes), "byte")). Nobody has accepted it."
        ],
        "accept"
      )
    }
    if !isEnded, !has("accept"), !has("connect"), program.listener() == nil {
      return ([Self.noListener + " What nobody had accepted was reset."], "accept")
    }
    return (["The program has no descriptor for connection \(connection.name) any more."], nil)
  }

  func notRead(_ expected: String, _ connection: Connection) -> Failure {
    let (observed, missing) = progress(connection)
    return Failure(
      expected, observed: observed + standing, missing: missing ?? "read",
      hint: "The program's receive buffer is full, and so is the send buffer here: it does not read.")
  }

  func brokenOff(_ expected: String, _ connection: Connection, _ error: ErrorNumber) -> Failure {
    var result = Failure(
      expected, observed: ["send returned \(error): the program's end is gone."] + standing)
    if !isEnded {
      result.missing = "read, again"
      result.hint =
        "The program has closed the connection before all had come. The end of the stream is a read that returns 0."
    }
    return result
  }

  func notAnswered(
    _ expected: String, _ connection: Connection, wanted: [UInt8], got: [UInt8], _ outcome: Connection.Outcome
  ) -> Failure {
    var result = Failure(expected, observed: [])
    let count =
      got.isEmpty ? "No byte has come" : "\(got.count) of \(counted(wanted.count, "byte")) have come"
    switch outcome {
    case .end: result.observed = ["\(count), and then the end of the stream."]
    case .reset: result.observed = ["\(count), and then a reset (RST)."]
    default: result.observed = ["\(count), and nothing more."]
    }
    if !got.isEmpty, got.count < 4096 || wanted.count < 4096 {
      result.difference = ByteDifference(expected: wanted, got: got)
    }
    let (observed, missing) = progress(connection)
    result.observed += observed + standing
    if hasUnreadInput {
      result.missing = "read from standard input, again"
    } else if let short = record.now.shortWrite, !got.isEmpty {
      rewrite(short, &result)
    } else if isEnded, missing == nil || missing == "accept" {
      if missing == nil, got.isEmpty, !has("write") {
        result.missing = has("read") ? "write" : has("accept") || has("connect") ? "read" : "accept"
      }
      if case .killed? = record.now.end { result.missing = nil }
    } else if missing != nil {
      result.missing = missing
      if missing == "read", has("read") {
        result.hint =
          "One read returns what has come so far, and no more. What has not come yet needs another one."
      }
    } else if !has("write") {
      result.missing = has("read") ? "write" : "read"
    }
    if case .reset = outcome {
      result.hint =
        "A socket that is closed while bytes wait in its receive queue sends RST instead of FIN (lesson 7)."
    }
    if let failed = failure(of: [.read, .recvfrom, .write, .sendto, .accept, .accept4]) {
      result.observed.append(failed)
    }
    return result
  }

  func otherBytes(_ expected: String, _ connection: Connection, _ difference: ByteDifference) -> Failure {
    var result = Failure(expected, observed: ["Other bytes have come."], difference: difference)
    if let short = record.now.shortWrite { rewrite(short, &result) }
    return result
  }

  private func rewrite(_ short: (wanted: UInt64, taken: Int64), _ result: inout Failure) {
    result.missing = "write, again, for the rest"
    result.hint =
      "write was given \(short.wanted) bytes and took \(short.taken). It returns how many: the rest is to be written again."
  }

  func tooMuch(_ expected: String, _ connection: Connection, _ bytes: [UInt8]) -> Failure {
    Failure(
      expected, observed: ["More has come: \(ByteDifference.quoted(bytes))."] + standing,
      difference: ByteDifference(expected: [], got: bytes))
  }

  // --- the end ---

  func notClosed(_ expected: String, _ connection: Connection) -> Failure {
    let (observed, missing) = progress(connection)
    var result = Failure(expected, observed: observed + standing, missing: missing ?? "close")
    if missing == "read" {
      result.hint = "The end of the stream comes after all bytes: a read that returns 0 tells of it."
    }
    return result
  }

  func endedEarly(_ expected: String, _ connection: Connection) -> Failure {
    Failure(expected, observed: ["The program has ended connection \(connection.name)."] + standing)
  }

  func wasReset(_ expected: String, _ connection: Connection) -> Failure {
    Failure(
      expected, observed: ["A reset (RST) has come."] + standing,
      hint: isEnded
        ? nil
        : "A socket that is closed while bytes wait in its receive queue sends RST instead of FIN (lesson 7)."
    )
  }

  // --- expectations ---

  func not(_ judgement: Judgement) -> Failure {
    let now = record.now
    var result = Failure(judgement.expected, observed: [])
    switch judgement.kind {
    case .listening(let backlog, let address):
      guard let state = program.listener()?.state else { return nobodyListens(judgement.expected) }
      result.observed = sockets
      if let backlog, state.number(.backlog) != UInt64(clamping: backlog) {
        result.missing = "the backlog, listen's second argument"
        result.hint = "The backlog is \(state.number(.backlog) ?? 0), and was to be \(backlog)."
      } else if let address, let host = state.local?.host, host != address {
        result.missing = "the address in sin_addr"
        result.hint =
          host == "0.0.0.0"
          ? "0.0.0.0 is every address of this machine. inet_addr(\"\(address)\") is the one that is wanted."
          : "It listens on \(host), and was to listen on \(address)."
      }
    case .socket(let fields, let count):
      let found = judgement.matching(fields)
      result.observed = found.isEmpty || count == nil ? sockets : found.map(\.inWords)
      if count == 0, fields[.state] == TCPState.closeWait.name {
        result.missing = "close"
        result.hint =
          "In CLOSE_WAIT the peer has ended the connection, and the kernel waits for the program's close."
      }
      result.observed += fieldsSeen(fields, found)
    case .closed(let name):
      guard let connection = judgement.connections[name] else { return result }
      return notClosed(judgement.expected, connection)
    case .called(let name, let errno, let count):
      let found = errno.map { now.failed(name, with: $0.number) } ?? now.succeeded(name)
      result.observed = [
        "\(name) has \(errno == nil ? "succeeded" : "failed so") \(found == 1 ? "once" : "\(found) times")."
      ]
      if found < count ?? 1, errno == nil { result.missing = name.description }
      if let failed = failure(of: Array(name.calls)) {
        result.observed.append(failed)
        // It is not missing, but goes wrong.
        result.missing = nil
        result.hint = now.lastFailure.flatMap(Self.advice)
      }
    case .order(let names):
      result.observed = names.map { name in "\(name): \(now.first(name).map { "step \($0)" } ?? "never")" }
      result.missing = names.first { now.first($0) == nil }?.description
    case .exit:
      if now.end == nil { result.observed = sockets.filter { !$0.hasPrefix("The program has no") } }
    case .output(let text, let isWhole):
      describe(now.output, "standard output", judgement.wanted(text), isWhole, &result)
    case .errors(let text, let isWhole):
      describe(now.errors, "standard error", judgement.wanted(text), isWhole, &result)
    case .descriptors(let count):
      let open = program.descriptors()
      result.observed = [open.map { "It has \(counted($0, "descriptor")) open." } ?? "It has none."] + sockets
      if let open, open > count { result.missing = "close" }
    case .threads: result.observed = ["It had \(now.mostThreads) threads at one time."]
    case .waitsIn:
      result.hint =
        program.isBusy
        ? "It makes call after call although nothing has happened: that costs a whole processor. What is it told, again and again?"
        : nil
    }
    result.observed += standing
    return result
  }

  /// Of sockets that nearly match, what the field is instead.
  private func fieldsSeen(_ fields: [SocketField: String], _ found: [ProgramState.Socket]) -> [String] {
    guard found.isEmpty else { return [] }
    let shown: Set<SocketField> = [
      .state, .localPort, .peerPort, .localAddress, .peerAddress, .acceptQueue, .backlog,
    ]
    return program.sockets().flatMap { socket in
      fields.keys.filter { !shown.contains($0) }.sorted { $0.rawValue < $1.rawValue }.map {
        "fd \(socket.descriptor): \($0.rawValue) is \($0.text(of: socket.state) ?? "not told")"
      }
    }
  }

  private func describe(
    _ bytes: [UInt8], _ what: String, _ text: String, _ isWhole: Bool, _ result: inout Failure
  ) {
    result.observed = [
      bytes.isEmpty ? "Nothing came on \(what)." : "On \(what): \(ByteDifference.quoted(bytes, limit: 200))"
    ]
    guard !bytes.isEmpty, isWhole || bytes.count < 200 else { return }
    let wanted = Array(text.utf8)
    // Which part of it was meant is clear where it begins alike.
    if isWhole || bytes.first == wanted.first {
      result.difference = ByteDifference(expected: wanted, got: bytes)
    }
  }
}
