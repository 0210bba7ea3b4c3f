import CLinux
import Glibc
import SystemCalls

/// A fault to be injected into a followed program's socket calls: an errno instead of the call, or the call with its length
/// shortened. Neither loses a byte: a call that was not made has moved nothing, and of a shortened one the program is told
/// how far it came. So a program whose loops are right does the same as ever, only slower.
public struct Fault: Sendable, Hashable {
  public enum Effect: Sendable, Hashable {
    /// The call is not made, and fails with this. `close` alone is made all the same: Linux releases a descriptor whatever
    /// close returns.
    case errno(ErrorNumber)
    /// The call is made with room for, or with, so many bytes at most; from 1 on, since a read of 0 bytes would look like
    /// the end of the stream. Streams only: what a datagram has no room for is gone.
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
    guard let call = SystemCall(rawValue: Self.wrapped[name] ?? name), call != .restartSyscall else {
      throw Mistake(
        "'\(name)' is no call that concerns sockets", unknown: (name, SystemCall.allCases.map(\.name)))
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
      throw Mistake("'\(part)': a whole number from 1 on is wanted")
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

  /// "EMFILE instead of the call", "length 4096 → 1"
  public var description: String {
    switch fault.effect {
    case .errno(let number):
      fault.call == .close ? "\(number.name), after the call" : "\(number.name) instead of the call"
    case .length(let bytes): "length \(length ?? 0) → \(bytes)"
    }
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

/// A call at its entry that is shortened, and put right again at its exit: neither the program's registers nor its memory
/// stay changed.
struct Shortening {
  private var savedArgument: (index: Int, value: UInt64)?
  private var savedWords: [(address: UInt64, value: UInt64)] = []
  private let thread: pid_t

  /// Nil where the call is no longer than that, or its length cannot be found. `total` is then the length it had.
  init?(_ call: Call, to limit: UInt64, total: inout UInt64) {
    thread = call.thread
    guard let index = call.systemCall.lengthArgument else { return nil }
    switch call.systemCall {
    case .readv, .writev, .preadv2, .pwritev2:
      guard
        let cut = Self.cut(vector: call.arguments[1], count: call.arguments[2], of: thread, to: limit, &total)
      else { return nil }
      guard setArgument(index, cut.count), poke(cut.place, cut.length) else { return nil }
    case .sendmsg, .recvmsg:
      let memory = ProcessMemory(process: thread)
      guard let vector = memory.value(UInt64.self, at: call.arguments[1] &+ MessageHeader.vector),
        let count = memory.value(UInt64.self, at: call.arguments[1] &+ MessageHeader.count),
        let cut = Self.cut(vector: vector, count: count, of: thread, to: limit, &total)
      else { return nil }
      guard poke(cut.place, cut.length), poke(call.arguments[1] &+ MessageHeader.count, cut.count) else {
        return nil
      }
    default:
      total = call.arguments[index]
      guard total > limit, setArgument(index, limit) else { return nil }
    }
  }

  /// Where a vector is to be cut: how many parts are left, and where the last one's length stands. See: readv(2), struct iovec
  private static func cut(
    vector: UInt64, count: UInt64, of thread: pid_t, to limit: UInt64, _ total: inout UInt64
  )
    -> (count: UInt64, place: UInt64, length: UInt64)?
  {
    guard count > 0, count <= 1024 else { return nil }  // UIO_MAXIOV
    let words = ProcessMemory(process: thread).values(UInt64.self, at: vector, count: Int(count) * 2)
    guard words.count == Int(count) * 2 else { return nil }
    var found: (count: UInt64, place: UInt64, length: UInt64)?
    total = 0
    for part in 0..<Int(count) {
      let length = words[part * 2 + 1]
      if found == nil, total &+ length >= limit {
        found = (UInt64(part) + 1, vector &+ UInt64(part) * 16 + 8, limit - total)
      }
      total = total &+ length
    }
    return total > limit ? found : nil
  }

  private mutating func setArgument(_ index: Int, _ value: UInt64) -> Bool {
    guard var registers = Registers(of: thread) else { return false }
    savedArgument = (index, registers[argument: index])
    registers[argument: index] = value
    return registers.store()
  }

  /// By ptrace: a vector may stand in memory that its own program cannot write.
  private mutating func poke(_ address: UInt64, _ value: UInt64) -> Bool {
    guard let before = ProcessMemory(process: thread).value(UInt64.self, at: address),
      clinux_ptrace(Int(PTRACE_POKEDATA), thread, UInt(address), UInt(value)) != -1
    else {
      putRight()
      return false
    }
    savedWords.append((address, before))
    return true
  }

  /// Undoes it.
  func putRight() {
    for (address, value) in savedWords.reversed() {
      _ = clinux_ptrace(Int(PTRACE_POKEDATA), thread, UInt(address), UInt(value))
    }
    guard let savedArgument, var registers = Registers(of: thread) else { return }
    registers[argument: savedArgument.index] = savedArgument.value
    registers.store()
  }
}

/// `struct msghdr` as a 64-bit kernel lays it out. See: recvmsg(2)
private enum MessageHeader {
  static let vector: UInt64 = 16
  static let count: UInt64 = 24
}
