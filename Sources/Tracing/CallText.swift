import Glibc
import SystemCalls

/// A system call in words, as strace prints it: what is known at its entry, and the rest at its exit.
///
/// See: strace(1)
public struct CallText {
  /// How addresses are written.
  public enum Style: Sendable {
    /// `{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}`, as strace has it.
    case full
    /// `{AF_INET, 127.0.0.1:80}`, for a narrow screen.
    case short
  }

  /// An argument that is known already, or that the kernel fills in.
  fileprivate enum Part {
    case text(String)
    case later((Outcome) -> String)
  }

  /// What a call came back with, and the program's memory at that time.
  struct Outcome {
    let result: Int64
    let memory: any ProgramMemory
    var isFailure: Bool { (-4095 ... -1).contains(result) }
    /// How many bytes, messages or events it came back with.
    var count: Int { max(0, Int(clamping: result)) }
  }

  private let call: Call
  private var name: String
  private var parts: [Part] = []
  private var note: ((Outcome) -> String)?
  private var resultText: ((Int64) -> String)?

  /// Takes the arguments apart, at the stop at the call's entry.
  public init(
    _ call: Call, memory: any ProgramMemory, style: Style = .full, architecture: Architecture = .native
  ) {
    self.call = call
    name = call.systemCall.name
    var reader = ArgumentReader(call: call, memory: memory, style: style, architecture: architecture)
    reader.read()
    name = reader.name
    parts = reader.parts
    note = reader.note
    resultText = reader.resultText
  }

  /// "accept4(3, …, …, SOCK_CLOEXEC)": what is known while the call runs.
  public var pending: String {
    let arguments = parts.map { if case .text(let text) = $0 { text } else { "…" } }
    return "\(name)(\(arguments.joined(separator: ", ")))"
  }

  /// The whole call, in two pieces that belong around " = ".
  public struct Finished: Sendable, Hashable {
    /// "listen(3, 2)"
    public let call: String
    /// "0", "-1 EADDRINUSE (Address already in use)"
    public let result: String
    public var line: String { "\(call) = \(result)" }
  }

  /// The whole call, at the stop at its exit.
  public func finished(result: Int64, memory: any ProgramMemory) -> Finished {
    let outcome = Outcome(result: result, memory: memory)
    let arguments = parts.map { part in
      switch part {
      case .text(let text): text
      case .later(let text): text(outcome)
      }
    }
    return Finished(call: "\(name)(\(arguments.joined(separator: ", ")))", result: text(of: outcome))
  }

  private func text(of outcome: Outcome) -> String {
    if outcome.isFailure {
      let error = ErrorNumber(Int32(-outcome.result))
      return error.isRestart ? "? \(error)" : "-1 \(error)"
    }
    let text = resultText?(outcome.result) ?? "\(outcome.result)"
    let extra = note?(outcome) ?? ""
    return extra.isEmpty ? text : "\(text) (\(extra))"
  }
}

/// Reads the arguments of one call, in the order of its prototype.
private struct ArgumentReader {
  let call: Call
  let memory: any ProgramMemory
  let style: CallText.Style
  let architecture: Architecture
  var name: String
  var parts: [CallText.Part] = []
  var note: ((CallText.Outcome) -> String)?
  var resultText: ((Int64) -> String)?

  /// As much of a program's data as is printed. See: strace(1), -s
  static let dataLimit = 32
  /// As many elements of an array as are printed.
  static let arrayLimit = 32

  init(call: Call, memory: any ProgramMemory, style: CallText.Style, architecture: Architecture) {
    self.call = call
    self.memory = memory
    self.style = style
    self.architecture = architecture
    name = call.systemCall.name
  }

  private var arguments: CallArguments { call.arguments }

  mutating func read() {
    switch call.systemCall {
    case .socket: socketArguments()
    case .socketpair:
      socketArguments()
      let pointer = arguments[3]
      later { Self.pair(pointer, $0) }
    case .bind, .connect:
      int(0)
      text(address(arguments[1], length: arguments[2]))
      int(2)
    case .listen, .dup2:
      int(0)
      int(1)
    case .accept, .getsockname, .getpeername:
      int(0)
      addressResult(1, length: 2)
    case .accept4:
      int(0)
      addressResult(1, length: 2)
      flags(3, Symbols.socketFlags)
    case .read:
      int(0)
      dataResult(1)
      size(2)
    case .write:
      int(0)
      text(data(arguments[1], arguments[2]))
      size(2)
    case .readv:
      int(0)
      vectorsResult(1, count: arguments[2])
      size(2)
    case .writev:
      int(0)
      text(vectors(arguments[1], count: arguments[2], memory: memory, limit: nil))
      size(2)
    case .preadv2, .pwritev2:
      int(0)
      if call.systemCall == .preadv2 {
        vectorsResult(1, count: arguments[2])
      } else {
        text(vectors(arguments[1], count: arguments[2], memory: memory, limit: nil))
      }
      size(2)
      text("\(Int64(bitPattern: arguments[3]))")
      flags(5, [(1, "RWF_HIPRI"), (2, "RWF_DSYNC"), (4, "RWF_SYNC"), (8, "RWF_NOWAIT"), (16, "RWF_APPEND")])
    case .sendto:
      int(0)
      text(data(arguments[1], arguments[2]))
      size(2)
      flags(3, Symbols.messageFlags)
      text(address(arguments[4], length: arguments[5]))
      int(5)
    case .recvfrom:
      int(0)
      dataResult(1)
      size(2)
      flags(3, Symbols.messageFlags)
      addressResult(4, length: 5)
    case .sendmsg:
      int(0)
      text(message(arguments[1], memory: memory, dataLength: nil, nameLength: nil))
      flags(2, Symbols.messageFlags)
    case .recvmsg: receivedMessage()
    case .sendmmsg: sentMessages()
    case .recvmmsg: receivedMessages()
    case .shutdown:
      int(0)
      text(Symbols.name(arguments.int(1), Symbols.shutdown, unknown: "SHUT_???"))
    case .close, .dup: int(0)
    case .closeRange:
      text("\(UInt32(truncatingIfNeeded: arguments[0]))")
      text("\(UInt32(truncatingIfNeeded: arguments[1]))")
      flags(2, Symbols.closeRangeFlags)
    case .dup3:
      int(0)
      int(1)
      flags(2, [(0o2000000, "O_CLOEXEC")])
    case .fcntl: fcntlArguments()
    case .setsockopt: setOption()
    case .getsockopt: getOption()
    case .ioctl: ioctlArguments()
    case .sendfile:
      int(0)
      int(1)
      offset(2)
      size(3)
    case .splice:
      int(0)
      offset(1)
      int(2)
      offset(3)
      size(4)
      flags(5, Symbols.spliceFlags)
    case .poll, .ppoll: pollArguments()
    case .select, .pselect6: selectArguments()
    case .epollCreate: int(0)
    case .epollCreate1: flags(0, Symbols.epollCreateFlags)
    case .epollCtl:
      int(0)
      text(Symbols.name(arguments.int(1), Symbols.epollOperations, unknown: "EPOLL_CTL_???"))
      int(2)
      // A deletion needs no event: what the pointer leads to means nothing.
      let event = arguments.int(1) == 2 ? nil : epollEvents(arguments[3], count: 1, memory: memory).first
      text(event ?? Self.pointer(arguments[3]))
    case .epollWait, .epollPwait, .epollPwait2: epollWait()
    case .ioUringSetup:
      text("\(UInt32(truncatingIfNeeded: arguments[0]))")
      let flags = memory.value(UInt32.self, at: arguments[1] &+ 8)
      text(
        flags.map { "{flags=\(Symbols.flags(UInt64($0), Symbols.ioUringSetupFlags)), ...}" }
          ?? Self.pointer(arguments[1]))
    case .ioUringEnter:
      for index in 0..<3 { int(index) }
      flags(3, Symbols.ioUringEnterFlags)
      text(Self.pointer(arguments[4]))
      size(5)
    case .ioUringRegister:
      int(0)
      int(1)
      text(Self.pointer(arguments[2]))
      int(3)
    case .timerfdCreate:
      text(Symbols.name(arguments.int(0), Symbols.clocks, unknown: "CLOCK_???"))
      flags(1, Symbols.timerFlags)
    case .fsync, .fdatasync: int(0)
    case .kill:
      int(0)
      text(arguments.int(1) == 0 ? "0" : signalName(arguments.int(1)))
    case .timerfdSettime:
      int(0)
      flags(1, Symbols.timerSettings)
      let setting = arguments[2]
      text(
        memory.value(UInt64.self, at: setting) == nil
          ? Self.pointer(setting)
          : "{it_interval=\(time(setting, fraction: "nsec")), it_value=\(time(setting &+ 16, fraction: "nsec"))}"
      )
      text(Self.pointer(arguments[3]))
    case .signalfd4:
      int(0)
      signals(1, size: 2)
      flags(3, Symbols.signalFlags)
    case .eventfd2:
      text("\(UInt32(truncatingIfNeeded: arguments[0]))")
      flags(1, Symbols.eventFlags)
    case .restartSyscall: text("<... resuming interrupted system call ...>")
    }
  }

  // --- one argument ---

  private mutating func text(_ text: String) { parts.append(.text(text)) }
  private mutating func later(_ text: @escaping (CallText.Outcome) -> String) { parts.append(.later(text)) }
  private mutating func int(_ index: Int) { text("\(arguments.int(index))") }
  private mutating func size(_ index: Int) { text("\(arguments[index])") }
  private mutating func flags(_ index: Int, _ names: [(UInt64, String)]) {
    text(Symbols.flags(UInt64(UInt32(truncatingIfNeeded: arguments[index])), names))
  }

  static func pointer(_ address: UInt64) -> String {
    address == 0 ? "NULL" : "0x" + String(address, radix: 16)
  }

  private mutating func socketArguments() {
    let family = arguments.int(0)
    text(Symbols.name(family, Symbols.families, unknown: "AF_???"))
    text(Symbols.socketType(arguments.int(1)))
    text(Symbols.protocolName(arguments.int(2), family: family))
  }

  private static func pair(_ address: UInt64, _ outcome: CallText.Outcome) -> String {
    let ends = outcome.memory.values(Int32.self, at: address, count: 2)
    return outcome.isFailure || ends.count < 2 ? pointer(address) : "[\(ends[0]), \(ends[1])]"
  }

  // --- addresses ---

  private func address(_ pointer: UInt64, length: UInt64, memory: (any ProgramMemory)? = nil) -> String {
    let length = Int(UInt32(truncatingIfNeeded: length))
    if pointer == 0 { return "NULL" }
    let bytes = (memory ?? self.memory).read(pointer, min(length, 128))
    guard length > 0, bytes.count == min(length, 128) else { return Self.pointer(pointer) }
    return AddressText.text(bytes, style: style)
  }

  /// An address that the kernel fills in, and its length, `[room => used]`.
  private mutating func addressResult(_ index: Int, length lengthIndex: Int) {
    let pointer = arguments[index]
    let lengthPointer = arguments[lengthIndex]
    let room = memory.value(Int32.self, at: lengthPointer)
    let copy = self
    later { outcome in
      guard pointer != 0, !outcome.isFailure, let room,
        let used = outcome.memory.value(Int32.self, at: lengthPointer)
      else {
        return Self.pointer(pointer)
      }
      return copy.address(pointer, length: UInt64(max(0, min(room, used))), memory: outcome.memory)
    }
    later { outcome in
      guard let room else { return Self.pointer(lengthPointer) }
      let used = outcome.isFailure ? room : outcome.memory.value(Int32.self, at: lengthPointer) ?? room
      return used == room ? "[\(room)]" : "[\(room) => \(used)]"
    }
  }

  // --- data ---

  private func data(_ pointer: UInt64, _ length: UInt64, memory: (any ProgramMemory)? = nil) -> String {
    if pointer == 0 { return "NULL" }
    let wanted = Int(clamping: min(length, UInt64(Self.dataLimit)))
    let bytes = (memory ?? self.memory).read(pointer, wanted)
    guard bytes.count == wanted else { return Self.pointer(pointer) }
    return DataText.quoted(bytes, isCut: length > UInt64(Self.dataLimit))
  }

  private mutating func dataResult(_ index: Int) {
    let pointer = arguments[index]
    let copy = self
    later { outcome in
      outcome.isFailure
        ? Self.pointer(pointer) : copy.data(pointer, UInt64(outcome.count), memory: outcome.memory)
    }
  }

  /// The buffers of an iovec array; with `limit`, as many of their bytes as the call moved.
  private func vectors(_ pointer: UInt64, count: UInt64, memory: any ProgramMemory, limit: UInt64?) -> String
  {
    if pointer == 0 { return "NULL" }
    if count == 0 { return "[]" }
    let shown = Int(clamping: min(count, UInt64(Self.arrayLimit)))
    let vectors = memory.values(Vector.self, at: pointer, count: shown)
    guard vectors.count == shown else { return Self.pointer(pointer) }
    var rest = limit ?? .max
    var texts = vectors.map { vector in
      let length = min(vector.length, rest)
      rest -= limit == nil ? 0 : length
      return "{iov_base=\(data(vector.base, length, memory: memory)), iov_len=\(vector.length)}"
    }
    if count > UInt64(shown) { texts.append("...") }
    return "[\(texts.joined(separator: ", "))]"
  }

  private mutating func vectorsResult(_ index: Int, count: UInt64) {
    let pointer = arguments[index]
    let copy = self
    later { outcome in
      outcome.isFailure
        ? Self.pointer(pointer)
        : copy.vectors(pointer, count: count, memory: outcome.memory, limit: UInt64(outcome.count))
    }
  }

  // --- messages ---

  private struct Vector: BitwiseCopyable {
    var base: UInt64
    var length: UInt64
  }

  /// `struct msghdr` as the kernel lays it out.
  private struct Message: BitwiseCopyable {
    var name: UInt64
    var nameLength: UInt32
    var padding: UInt32
    var vectors: UInt64
    var vectorCount: UInt64
    var control: UInt64
    var controlLength: UInt64
    var flags: UInt32
    var padding2: UInt32
  }

  /// A message header. `dataLength` is what was received, nil for a message to send; `nameLength` the room for the name
  /// before the call.
  private func message(
    _ pointer: UInt64, memory: any ProgramMemory, dataLength: UInt64?, nameLength: UInt32?
  ) -> String {
    guard let header = memory.value(Message.self, at: pointer) else { return Self.pointer(pointer) }
    var text = "{msg_name="
    let used = min(header.nameLength, nameLength ?? header.nameLength)
    text +=
      header.name == 0 || used == 0 && nameLength != nil
      ? Self.pointer(header.name) : address(header.name, length: UInt64(used), memory: memory)
    text += ", msg_namelen="
    if let nameLength, nameLength != header.nameLength { text += "\(Int32(bitPattern: nameLength)) => " }
    text += "\(Int32(bitPattern: header.nameLength)), msg_iov="
    text += vectors(header.vectors, count: header.vectorCount, memory: memory, limit: dataLength)
    text += ", msg_iovlen=\(header.vectorCount)"
    if header.control != 0, header.controlLength > 0 {
      text += ", msg_control=\(control(header.control, length: header.controlLength, memory: memory))"
    }
    text += ", msg_controllen=\(header.controlLength), msg_flags="
    return text + Symbols.flags(UInt64(header.flags), Symbols.messageFlags) + "}"
  }

  private func control(_ pointer: UInt64, length: UInt64, memory: any ProgramMemory) -> String {
    let bytes = memory.read(pointer, Int(clamping: min(length, 4096)))
    var texts: [String] = []
    var offset = 0
    func int(_ at: Int) -> Int32 {
      bytes[at..<(at + 4)].withUnsafeBytes { $0.loadUnaligned(as: Int32.self) }
    }
    while offset + 16 <= bytes.count {
      let length = Int(UInt32(bitPattern: int(offset)))
      guard length >= 16, length <= bytes.count - offset else { break }
      let (level, type) = (int(offset + 8), int(offset + 12))
      let body = Array(bytes[(offset + 16)..<(offset + length)])
      let types: [Int32: String] = [1: "SCM_RIGHTS", 2: "SCM_CREDENTIALS"]
      let typeName =
        level == SOL_SOCKET
        ? types[type] ?? Symbols.option(type, level: level) : "0x" + String(type, radix: 16)
      let data: String
      if level == SOL_SOCKET, type == 1 {
        let descriptors = stride(from: 0, to: body.count - body.count % 4, by: 4).map {
          "\(int(offset + 16 + $0))"
        }
        data = "[\(descriptors.joined(separator: ", "))]"
      } else {
        data = DataText.quoted(Array(body.prefix(Self.dataLimit)), isCut: body.count > Self.dataLimit)
      }
      let levelName = Symbols.optionLevels[level] ?? "\(level)"
      texts.append("{cmsg_len=\(length), cmsg_level=\(levelName), cmsg_type=\(typeName), cmsg_data=\(data)}")
      offset += (length + 7) & ~7
    }
    return texts.isEmpty ? Self.pointer(pointer) : "[\(texts.joined(separator: ", "))]"
  }

  private mutating func receivedMessage() {
    int(0)
    let pointer = arguments[1]
    let nameLength = memory.value(Message.self, at: pointer)?.nameLength
    let copy = self
    later { outcome in
      outcome.isFailure
        ? Self.pointer(pointer)
        : copy.message(
          pointer, memory: outcome.memory, dataLength: UInt64(outcome.count), nameLength: nameLength)
    }
    flags(2, Symbols.messageFlags)
  }

  /// The messages of sendmmsg or recvmmsg. `done` of them were sent or received.
  private func messages(
    _ pointer: UInt64, count: Int, done: Int, memory: any ProgramMemory, isReceived: Bool,
    nameLengths: [UInt32] = []
  ) -> String {
    let texts = (0..<min(count, Self.arrayLimit)).map { index in
      let entry = pointer &+ UInt64(index) &* MessageEntry.size
      let length = memory.value(UInt32.self, at: entry &+ MessageEntry.lengthOffset)
      let nameLength = index < nameLengths.count ? nameLengths[index] : nil
      let header = message(
        entry, memory: memory, dataLength: isReceived ? length.map(UInt64.init) : nil, nameLength: nameLength)
      return "{msg_hdr=\(header)" + (index < done ? ", msg_len=\(length ?? 0)}" : "}")
    }
    return "[\(texts.joined(separator: ", "))]"
  }

  private mutating func sentMessages() {
    int(0)
    let pointer = arguments[1]
    let count = Int(UInt32(truncatingIfNeeded: arguments[2]))
    let copy = self
    later { outcome in
      let done = outcome.count
      return copy.messages(pointer, count: count, done: done, memory: outcome.memory, isReceived: false)
    }
    text("\(count)")
    flags(3, Symbols.messageFlags)
  }

  private mutating func receivedMessages() {
    int(0)
    let pointer = arguments[1]
    let count = Int(UInt32(truncatingIfNeeded: arguments[2]))
    let nameLengths = (0..<min(count, Self.arrayLimit)).map {
      memory.value(Message.self, at: pointer &+ UInt64($0) &* MessageEntry.size)?.nameLength ?? 0
    }
    let copy = self
    later { outcome in
      guard !outcome.isFailure else { return Self.pointer(pointer) }
      let done = outcome.count
      return copy.messages(
        pointer, count: done, done: done, memory: outcome.memory, isReceived: true, nameLengths: nameLengths)
    }
    text("\(count)")
    flags(3, Symbols.messageFlags)
    text(time(arguments[4], fraction: "nsec"))
    timeLeft(arguments[4], fraction: "nsec")
  }

  // --- descriptors and options ---

  private mutating func fcntlArguments() {
    let command = arguments.int(1)
    let architecture = architecture
    int(0)
    text(Symbols.name(command, Symbols.fcntlCommands, unknown: "F_???"))
    switch command {
    case F_GETFL:
      resultText = {
        "0x\(String($0, radix: 16)) (flags \(Symbols.openFlags(UInt64(max(0, $0)), on: architecture)))"
      }
    case F_GETFD: resultText = { $0 == 0 ? "0" : "0x\(String($0, radix: 16)) (flags FD_CLOEXEC)" }
    case F_SETFL: text(Symbols.openFlags(UInt64(UInt32(truncatingIfNeeded: arguments[2])), on: architecture))
    case F_SETFD: flags(2, [(1, "FD_CLOEXEC")])
    case F_DUPFD, F_DUPFD_CLOEXEC, 8: int(2)  // F_SETOWN
    case 9, 11, 1025, 1032, 1034: break  // F_GETOWN, F_GETSIG, F_GETLEASE, F_GETPIPE_SZ, F_GET_SEALS
    default: text("0x" + String(arguments[2], radix: 16))
    }
  }

  private mutating func optionName() {
    let level = arguments.int(1)
    int(0)
    text(Symbols.name(level, Symbols.optionLevels, unknown: "SOL_??"))
    text(Symbols.option(arguments.int(2), level: level))
  }

  private mutating func setOption() {
    optionName()
    text(optionValue(arguments[3], length: Int(arguments.int(4)), memory: memory))
    int(4)
  }

  private mutating func getOption() {
    optionName()
    let (pointer, lengthPointer) = (arguments[3], arguments[4])
    let room = memory.value(Int32.self, at: lengthPointer)
    let copy = self
    later { outcome in
      guard !outcome.isFailure, let room, let used = outcome.memory.value(Int32.self, at: lengthPointer)
      else {
        return Self.pointer(pointer)
      }
      return copy.optionValue(pointer, length: Int(min(room, used)), memory: outcome.memory)
    }
    later { outcome in
      guard let room else { return Self.pointer(lengthPointer) }
      let used = outcome.isFailure ? room : outcome.memory.value(Int32.self, at: lengthPointer) ?? room
      return used == room ? "[\(room)]" : "[\(room) => \(used)]"
    }
  }

  private func optionValue(_ pointer: UInt64, length: Int, memory: any ProgramMemory) -> String {
    if pointer == 0 { return "NULL" }
    let level = arguments.int(1)
    let option = arguments.int(2)
    let isSocketLevel = level == SOL_SOCKET
    func int32(_ index: UInt64) -> Int32? { memory.value(Int32.self, at: pointer &+ index * 4) }
    switch (option, length) {
    case (SO_LINGER, 8) where isSocketLevel:
      if let on = int32(0), let seconds = int32(1) { return "{l_onoff=\(on), l_linger=\(seconds)}" }
    case (SO_PEERCRED, 12) where isSocketLevel:
      if let pid = int32(0), let uid = int32(1), let gid = int32(2) {
        return "{pid=\(pid), uid=\(uid), gid=\(gid)}"
      }
    case (SO_RCVTIMEO, 16) where isSocketLevel, (SO_SNDTIMEO, 16) where isSocketLevel:
      return time(pointer, fraction: "usec", memory: memory)
    // struct sock_fprog: how many instructions, and where they are. See: linux/filter.h
    case (SO_ATTACH_FILTER, 16) where isSocketLevel:
      if let count = memory.value(UInt16.self, at: pointer),
        let filter = memory.value(UInt64.self, at: pointer &+ 8)
      {
        return "{len=\(count), filter=\(Self.pointer(filter))}"
      }
    case (SO_ERROR, 4) where isSocketLevel:
      if let value = int32(0) { return value == 0 ? "[0]" : "[\(ErrorNumber(value).name)]" }
    case (_, 4):
      if let value = int32(0) { return "[\(value)]" }
    default: return data(pointer, UInt64(max(0, length)), memory: memory)
    }
    return Self.pointer(pointer)
  }

  private mutating func ioctlArguments() {
    let request = UInt32(truncatingIfNeeded: arguments[1])
    let pointer = arguments[2]
    int(0)
    text(Symbols.ioctls[request] ?? "0x" + String(request, radix: 16))
    switch Symbols.integerIoctls[request] {
    case true?: text(memory.value(Int32.self, at: pointer).map { "[\($0)]" } ?? Self.pointer(pointer))
    case false?:
      later { outcome in
        let value = outcome.isFailure ? nil : outcome.memory.value(Int32.self, at: pointer)
        return value.map { "[\($0)]" } ?? Self.pointer(pointer)
      }
    case nil: text(Self.pointer(pointer))
    }
  }

  /// A file offset that the kernel moves on, `[from] => [to]`.
  private mutating func offset(_ index: Int) {
    let pointer = arguments[index]
    let before = memory.value(Int64.self, at: pointer)
    later { outcome in
      guard let before else { return Self.pointer(pointer) }
      let after = outcome.isFailure ? before : outcome.memory.value(Int64.self, at: pointer) ?? before
      return after == before ? "[\(before)]" : "[\(before)] => [\(after)]"
    }
  }

  // --- waiting ---

  private struct Time: BitwiseCopyable {
    var seconds: Int64
    var fraction: Int64
  }

  private func time(_ pointer: UInt64, fraction: String, memory: (any ProgramMemory)? = nil) -> String {
    guard let time = (memory ?? self.memory).value(Time.self, at: pointer) else {
      return Self.pointer(pointer)
    }
    return "{tv_sec=\(time.seconds), tv_\(fraction)=\(time.fraction)}"
  }

  /// What select and its relatives leave in their timeout, behind the result.
  private mutating func timeLeft(
    _ pointer: UInt64, fraction: String, before: ((CallText.Outcome) -> [String])? = nil
  ) {
    let copy = self
    note = { outcome in
      if outcome.result == 0 { return "Timeout" }
      var notes = before?(outcome) ?? []
      if pointer != 0 {
        notes.append("left " + copy.time(pointer, fraction: fraction, memory: outcome.memory))
      }
      return notes.joined(separator: ", ")
    }
  }

  private struct PollEntry: BitwiseCopyable {
    var descriptor: Int32
    var events: UInt16
    var returned: UInt16
  }

  private mutating func pollArguments() {
    let pointer = arguments[0]
    let count = Int(UInt32(truncatingIfNeeded: arguments[1]))
    let shown = min(count, Self.arrayLimit)
    func entries(_ memory: any ProgramMemory) -> [PollEntry] {
      memory.values(PollEntry.self, at: pointer, count: shown)
    }
    if pointer == 0 {
      text("NULL")
    } else {
      var texts = entries(memory).map { entry in
        entry.descriptor < 0
          ? "{fd=\(entry.descriptor)}"
          : "{fd=\(entry.descriptor), events=\(Symbols.flags(UInt64(entry.events), Symbols.pollEvents))}"
      }
      if count > shown { texts.append("...") }
      text("[\(texts.joined(separator: ", "))]")
    }
    text("\(count)")
    func ready(_ outcome: CallText.Outcome) -> [String] {
      let texts = entries(outcome.memory).filter { $0.returned != 0 }.map {
        "{fd=\($0.descriptor), revents=\(Symbols.flags(UInt64($0.returned), Symbols.pollEvents))}"
      }
      return ["[\(texts.joined(separator: ", "))]"]
    }
    if call.systemCall == .poll {
      int(2)
      note = { $0.result == 0 ? "Timeout" : ready($0).joined() }
    } else {
      text(time(arguments[2], fraction: "nsec"))
      signals(3, size: 4)
      timeLeft(arguments[2], fraction: "nsec", before: ready)
    }
  }

  /// A signal set, and its size where that is an argument of its own.
  private mutating func signals(_ index: Int, size sizeIndex: Int?) {
    text(signalSet(arguments[index]))
    if let sizeIndex { size(sizeIndex) }
  }

  private func signalSet(_ pointer: UInt64) -> String {
    guard let bits = memory.value(UInt64.self, at: pointer) else { return Self.pointer(pointer) }
    let isInverted = bits.nonzeroBitCount > 42
    let members = (1...64).filter { (bits >> UInt64($0 - 1) & 1 == 1) != isInverted }
    return (isInverted ? "~" : "") + "[\(members.map(Symbols.signal).joined(separator: " "))]"
  }

  private mutating func selectArguments() {
    let count = Int(min(max(0, arguments.int(0)), 4096))
    let pointers = arguments
    func members(_ index: Int, _ memory: any ProgramMemory) -> [Int]? {
      let pointer = pointers[index]
      guard pointer != 0 else { return nil }
      let words = memory.values(UInt64.self, at: pointer, count: (count + 63) / 64)
      return (0..<count).filter { $0 / 64 < words.count && words[$0 / 64] >> UInt64($0 % 64) & 1 == 1 }
    }
    func set(_ members: [Int]) -> String { "[\(members.map(String.init).joined(separator: " "))]" }
    int(0)
    for index in 1...3 { text(members(index, memory).map(set) ?? "NULL") }
    let isSelect = call.systemCall == .select
    let fraction = isSelect ? "usec" : "nsec"
    text(time(arguments[4], fraction: fraction))
    if !isSelect {
      let sets = memory.values(UInt64.self, at: arguments[5], count: 2)
      text(
        sets.count == 2
          ? "{sigmask=\(signalSet(sets[0])), sigsetsize=\(sets[1])}" : Self.pointer(arguments[5]))
    }
    timeLeft(arguments[4], fraction: fraction) { outcome in
      [(1, "in"), (2, "out"), (3, "except")].compactMap { index, word in
        guard let ready = members(index, outcome.memory), !ready.isEmpty else { return nil }
        return "\(word) \(set(ready))"
      }
    }
  }

  private func epollEvents(_ pointer: UInt64, count: Int, memory: any ProgramMemory) -> [String] {
    let size = UInt64(architecture.epollEventSize)
    return (0..<count).compactMap { index in
      let entry = pointer &+ UInt64(index) &* size
      guard pointer != 0, let events = memory.value(UInt32.self, at: entry),
        let data = memory.value(UInt64.self, at: entry &+ (size - 8))
      else { return nil }
      let names = Symbols.flags(UInt64(events), Symbols.epollEvents)
      return "{events=\(names), data={u32=\(UInt32(truncatingIfNeeded: data)), u64=\(data)}}"
    }
  }

  private mutating func epollWait() {
    let pointer = arguments[1]
    let copy = self
    int(0)
    later { outcome in
      guard !outcome.isFailure else { return Self.pointer(pointer) }
      let ready = outcome.count
      var texts = copy.epollEvents(pointer, count: min(ready, Self.arrayLimit), memory: outcome.memory)
      if ready > Self.arrayLimit { texts.append("...") }
      return "[\(texts.joined(separator: ", "))]"
    }
    int(2)
    if call.systemCall == .epollPwait2 { text(time(arguments[3], fraction: "nsec")) } else { int(3) }
    if call.systemCall != .epollWait { signals(4, size: 5) }
  }
}
