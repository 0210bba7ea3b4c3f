import CLinux
import Glibc
import SystemCalls

/// A fault to be injected into a followed program's socket calls: an errno instead of the call, or the call with its length
/// shortened. Neither loses a byte: a call that was not made has moved nothing, and of a shortened one the program is told
/// how far it came. A program that goes by what its calls return does the same as ever, only slower.
///
/// One that goes by more than that does not: who takes a short read, or an EAGAIN, for the sign that an edge-triggered socket is
/// drained (epoll(7) allows that) is not told again of what still waits there.
public struct Fault: Sendable, Hashable {
  public enum Effect: Sendable, Hashable {
    /// The call is not made, and fails with this. Two are made all the same, since they are on Linux, too: `close`, which
    /// releases the descriptor whatever it returns, and a `connect` that returns EINTR or EINPROGRESS, which goes on by itself.
    case errno(ErrorNumber)
    /// The call is made with room for, or with, so many bytes at most; from 1 on, since a read of 0 bytes would look like
    /// the end of the stream. Streams only, since what a datagram has no room for is gone; and not with MSG_WAITALL, whose
    /// caller does not look at how much came.
    case length(UInt64)
  }

  /// Which of the calls are meant, counted over all that is followed.
  public enum Occasion: Sendable, Hashable {
    case always
    /// This one only, from 1 on.
    case when(UInt64)
    /// This one, and each further one after as many again.
    case every(UInt64)

    func includes(_ count: UInt64) -> Bool {
      switch self {
      case .always: true
      case .when(let number): count == number
      case .every(let number): count % max(1, number) == 0
      }
    }
  }

  public let call: SystemCall
  public let effect: Effect
  public let occasion: Occasion

  /// Why a specification makes no sense.
  public struct Mistake: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    /// A word that is unknown, and those that would be known there.
    public let unknown: (word: String, known: [String])?

    init(_ description: String, unknown: (String, [String])? = nil) {
      self.description = description
      self.unknown = unknown
    }

    public static func == (a: Mistake, b: Mistake) -> Bool { a.description == b.description }
    public func hash(into hasher: inout Hasher) { hasher.combine(description) }
  }

  /// Reads "read:length=1:every=2", "accept4:errno=EMFILE:when=3", "write:errno=EINTR".
  public init(_ specification: String) throws(Mistake) {
    let parts = specification.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    let name = parts.first ?? ""
    let calls = SystemCall.allCases.filter { $0 != .restartSyscall }
    guard let call = SystemCall(rawValue: Self.wrapped[name] ?? name), calls.contains(call) else {
      throw Mistake(
        "'\(name)' is no call that is followed", unknown: (name, calls.map(\.name)))
    }
    var effect: Effect?
    var occasion: Occasion?
    for part in parts.dropFirst() {
      guard let equals = part.firstIndex(of: "=") else {
        throw Mistake("'\(part)' is not KEY=VALUE; there are errno=, length=, when= and every=")
      }
      let value = String(part[part.index(after: equals)...])
      switch part[..<equals] {
      case "errno":
        guard let number = ErrorNumber(name: value) else {
          throw Mistake("'\(value)' is no errno", unknown: (value, ErrorNumber.names))
        }
        try Self.set(&effect, .errno(number), "errno= or length=")
      case "length":
        guard call.lengthArgument != nil else {
          throw Mistake("\(call.name) has no length to shorten; use errno=")
        }
        try Self.set(&effect, .length(try Self.count(part, value)), "errno= or length=")
      case "when": try Self.set(&occasion, .when(try Self.count(part, value)), "when= or every=")
      case "every": try Self.set(&occasion, .every(try Self.count(part, value)), "when= or every=")
      default:
        throw Mistake(
          "'\(part[..<equals])=' is unknown; there are errno=, length=, when= and every=",
          unknown: (String(part[..<equals]), ["errno", "length", "when", "every"]))
      }
    }
    guard let effect else {
      throw Mistake("'\(specification)' says no fault; add :errno=NAME or :length=BYTES")
    }
    self.call = call
    self.effect = effect
    self.occasion = occasion ?? .always
  }

  /// What the C library calls them, where the kernel has another name.
  private static let wrapped = ["recv": "recvfrom", "send": "sendto"]

  private static func set<Value>(_ place: inout Value?, _ value: Value, _ what: String) throws(Mistake) {
    if place != nil { throw Mistake("only one of \(what) can be given for one call") }
    place = value
  }

  private static func count(_ part: String, _ value: String) throws(Mistake) -> UInt64 {
    guard let number = UInt64(value), number > 0, number <= UInt64(UInt32.max) else {
      throw Mistake("'\(part)': a whole number from 1 to \(UInt32.max) is wanted")
    }
    return number
  }
}

extension Fault: CustomStringConvertible {
  /// As it is written.
  public var description: String {
    let what =
      switch effect {
      case .errno(let number): "errno=\(number.name)"
      case .length(let bytes): "length=\(bytes)"
      }
    let when =
      switch occasion {
      case .always: ""
      case .when(let number): ":when=\(number)"
      case .every(let number): ":every=\(number)"
      }
    return "\(call.name):\(what)\(when)"
  }
}

/// What was done to one call.
public struct Injection: Sendable, Hashable, CustomStringConvertible {
  public let fault: Fault
  /// The call's own length, in bytes, where it was shortened.
  public let length: UInt64?
  /// What was left of it: no more than the fault says, and less where a vector has many parts.
  public let left: UInt64?

  /// "EMFILE instead of the call", "length 4096 → 1"
  public var description: String {
    switch fault.effect {
    case .errno(let number):
      fault.isMade ? "\(number.name) in place of the call's result" : "\(number.name) instead of the call"
    case .length(let bytes): "length \(length ?? 0) → \(left ?? bytes)"
    }
  }
}

extension Fault {
  /// Whether the call is made, and only its result is another.
  var isMade: Bool {
    guard case .errno(let number) = effect else { return true }
    return call == .close || call == .connect && [EINTR, EINPROGRESS].contains(number.rawValue)
  }
}

extension SystemCall {
  /// Which argument says how many bytes the call may move, or how many parts its vector has. `sendmsg` and `recvmsg` have
  /// that in the structure that their second argument leads to.
  var lengthArgument: Int? {
    switch self {
    case .read, .write, .sendto, .recvfrom, .readv, .writev, .preadv2, .pwritev2: 2
    case .sendmsg, .recvmsg: 1
    case .sendfile: 3
    case .splice: 4
    default: nil
    }
  }
}

/// A call at its entry that is shortened, and put right again at its exit.
///
/// Only the registers of its own thread are changed, and memory below its stack that nobody uses during the call: a vector may be
/// another thread's as well, or stand where nothing can be written.
struct Shortening {
  private let thread: pid_t
  private var registers: [(index: Int, value: UInt64)] = []
  /// The program's own message header, and the copy that the kernel fills in.
  private var header: (own: UInt64, copy: UInt64)?
  /// What stood where the copies are.
  private var overwritten: [(address: UInt64, bytes: [UInt8])] = []
  /// In bytes: what the call had, and what is left of it.
  private(set) var length: UInt64 = 0
  private(set) var left: UInt64 = 0

  /// A signal handler, and the leaf function that made the call, may use so many bytes below the stack pointer. See: the System
  /// V ABI for x86-64, section 3.2.2
  private static let redZone: UInt64 = 128
  /// More parts than this are cut off, whatever their length: some stacks, Go's for one, are small.
  private static let manyParts = 16

  /// Nil where the call is no longer than that, or its length cannot be found.
  init?(_ call: Call, to limit: UInt64) {
    thread = call.thread
    guard let index = call.systemCall.lengthArgument else { return nil }
    switch call.systemCall {
    case .readv, .writev, .preadv2, .pwritev2:
      guard let cut = cut(vector: call.arguments[1], count: call.arguments[2], to: limit),
        let copy = copy(cut)
      else { return nil }
      guard set([(1, copy), (index, UInt64(cut.count / 2))]) else { return nil }
    case .sendmsg, .recvmsg:
      let memory = ProcessMemory(process: thread)
      guard let vector = memory.value(UInt64.self, at: call.arguments[1] &+ MessageHeader.vector),
        let count = memory.value(UInt64.self, at: call.arguments[1] &+ MessageHeader.count),
        let cut = cut(vector: vector, count: count, to: limit), let copy = copy(cut)
      else { return nil }
      var words = memory.values(UInt64.self, at: call.arguments[1], count: MessageHeader.size / 8)
      guard words.count == MessageHeader.size / 8 else { return nil }
      words[Int(MessageHeader.vector) / 8] = copy
      words[Int(MessageHeader.count) / 8] = UInt64(cut.count / 2)
      let place = copy &- UInt64(MessageHeader.size) - 8  // aligned to 16
      guard write(Self.bytes(words), to: place), set([(1, place)]) else { return nil }
      if call.systemCall == .recvmsg { header = (call.arguments[1], place) }
    default:
      length = call.arguments[index]
      left = limit
      // What no call can move is refused by the kernel, and is to be.
      guard length > limit, length <= UInt64(Int64.max), set([(index, limit)]) else { return nil }
    }
  }

  /// As much of a vector as holds `limit` bytes, two words a part. See: readv(2), struct iovec
  private mutating func cut(vector: UInt64, count: UInt64, to limit: UInt64) -> [UInt64]? {
    guard count > 0, count <= 1024 else { return nil }  // UIO_MAXIOV
    var words = ProcessMemory(process: thread).values(UInt64.self, at: vector, count: Int(count) * 2)
    guard words.count == Int(count) * 2 else { return nil }
    var total: UInt64 = 0
    var kept = 0
    var moved: UInt64 = 0
    for part in 0..<Int(count) {
      let (sum, isTooMuch) = total.addingReportingOverflow(words[part * 2 + 1])
      guard !isTooMuch, sum <= UInt64(Int64.max) else { return nil }
      if moved < limit, part < Self.manyParts {
        words[part * 2 + 1] = min(words[part * 2 + 1], limit - moved)
        moved += words[part * 2 + 1]
        kept = part + 1
      }
      total = sum
    }
    guard total > limit, moved > 0 else { return nil }
    length = total
    left = moved
    return Array(words.prefix(kept * 2))
  }

  /// Puts a vector below the thread's stack, and returns its address.
  private mutating func copy(_ words: [UInt64]) -> UInt64? {
    guard let stack = Registers(of: thread)?.stackPointer else { return nil }
    let place = (stack &- Self.redZone &- UInt64(words.count * 8)) & ~15
    return write(Self.bytes(words), to: place) ? place : nil
  }

  private mutating func write(_ bytes: [UInt8], to address: UInt64) -> Bool {
    let memory = ProcessMemory(process: thread)
    let before = memory.read(address, bytes.count)
    guard before.count == bytes.count, memory.write(bytes, to: address) else { return false }
    overwritten.append((address, before))
    return true
  }

  private static func bytes(_ words: [UInt64]) -> [UInt8] { words.withUnsafeBytes { Array($0) } }

  private mutating func set(_ values: [(index: Int, value: UInt64)]) -> Bool {
    guard var state = Registers(of: thread) else { return false }
    for (index, value) in values {
      registers.append((index, state[argument: index]))
      state[argument: index] = value
    }
    return state.store()
  }

  /// Undoes it.
  func putRight() {
    if let header {
      let memory = ProcessMemory(process: thread)
      for (offset, size) in MessageHeader.results {
        let bytes = memory.read(header.copy &+ offset, size)
        if bytes.count == size { _ = memory.write(bytes, to: header.own &+ offset) }
      }
    }
    for (address, bytes) in overwritten { _ = ProcessMemory(process: thread).write(bytes, to: address) }
    guard var state = Registers(of: thread) else { return }
    for (index, value) in registers { state[argument: index] = value }
    state.store()
  }
}

/// `struct msghdr` as a 64-bit kernel lays it out. See: recvmsg(2)
private enum MessageHeader {
  static let size = 56
  static let vector: UInt64 = 16
  static let count: UInt64 = 24
  /// What recvmsg fills in: msg_namelen, msg_controllen, msg_flags.
  static let results: [(offset: UInt64, size: Int)] = [(8, 4), (40, 8), (48, 4)]
}
