import CommandLineTool
import Glibc
import KernelState
import SystemCalls
import Tracing

/// One socket at one moment, and who holds it.
public struct SocketSnapshot: Sendable, Hashable {
  /// The socket's number in this story. It stays when the cookie cannot be read.
  public let id: Int
  public var state: SocketState
  /// The descriptors that followed processes have for it, in the order of the processes.
  public var holders: [Holder]
  /// Whether each of them is closed on exec: that belongs to the descriptor, not to the socket. See: fcntl(2), FD_CLOEXEC
  public var closeOnExec: [Holder: Bool] = [:]
  /// The last descriptor that one of them had, where none has one any more.
  public var formerDescriptor: Int32?
  /// Whether it was read at this time, and not only carried over from an earlier one.
  public var wasRead = true
  /// Whether it is, or was, in another program's hands.
  public var isPeer = false
  /// Another program that holds it, where that is so and can be seen.
  public var owner: SocketOwner?

  public struct Holder: Sendable, Hashable {
    public let process: pid_t
    public let descriptor: Int32
  }

  /// Its first descriptor, or nil.
  public var descriptor: Int32? { holders.first?.descriptor }

  /// The label once it is gone, and its descriptors with it.
  public var formerLabel: String {
    var last = self
    last.holders = []
    return last.label
  }

  /// "fd 3", "fd 3, 4", "was fd 3", "no fd", "peer": how a person tells it from the others.
  public var label: String {
    var numbers: [Int32] = []
    for holder in holders where !numbers.contains(holder.descriptor) { numbers.append(holder.descriptor) }
    if !numbers.isEmpty { return "fd " + numbers.map(String.init).joined(separator: ", ") }
    if let formerDescriptor { return "was fd \(formerDescriptor)" }
    return isPeer ? "peer" : "no fd"
  }
}

/// What is different about one socket at the second of two readings.
public struct SocketChange: Sendable, Hashable {
  public enum Kind: Sendable, Hashable {
    /// It was not there, or not known, before.
    case appeared
    /// The kernel knows it no more.
    case vanished
    case holders(from: [SocketSnapshot.Holder], to: [SocketSnapshot.Holder])
    case closeOnExec(SocketSnapshot.Holder, Bool)
    case field(FieldChange)
  }

  /// The socket as it is now; as it was last, where it has gone.
  public let socket: SocketSnapshot
  public let kind: Kind
}

/// The descriptors of the process that made a call, before and after it. See: proc_pid_fd(5)
public struct DescriptorList: Sendable, Hashable {
  public let before: [Int32]
  public let after: [Int32]
}

/// One call, and what the kernel said before and after it.
public struct Step: Sendable {
  /// From 1 on.
  public let number: Int
  /// When the call was let go on, in nanoseconds since 1970.
  public let time: UInt64
  public let call: Call
  /// As strace prints it.
  public let text: CallText.Finished
  /// The same with short addresses.
  public let shortText: CallText.Finished
  public let before: [SocketSnapshot]
  public let after: [SocketSnapshot]
  /// What changed between the step before and this call's entry: the peer's doing, or time's.
  public let meanwhile: [SocketChange]
  /// What changed from this call's entry to its exit.
  public let changes: [SocketChange]
  /// What passed the loopback interface since the step before, and is no doing of this call.
  public let strayPackets: [Packet]
  /// What this call sent, and what was answered.
  public let ownPackets: [Packet]
  /// Both, in the order in which they passed.
  public var packets: [Packet] {
    strayPackets.isEmpty ? ownPackets : (strayPackets + ownPackets).sorted { $0.time < $1.time }
  }
  public let descriptors: DescriptorList
  /// Who has the port that bind was refused for, where that can be found out.
  public let portHolder: String?

  /// Whether the call failed, and that is more than a way to say "later".
  public var isFailure: Bool {
    guard let error = call.error else { return false }
    return !error.isRestart && ![EAGAIN, EINPROGRESS, EINTR].contains(error.rawValue)
  }

  /// The sockets that the call names or made.
  public func concerns(_ socket: SocketSnapshot) -> Bool {
    let numbers = call.descriptors
    if socket.holders.isEmpty, let former = socket.formerDescriptor {
      // Closed by this very call.
      return call.systemCall == .close && former == call.descriptor
        && changes.contains { $0.socket.id == socket.id }
    }
    return socket.holders.contains { $0.process == call.process && numbers.contains($0.descriptor) }
  }
}

/// What a story consists of, in the order in which it happens.
public enum StoryItem: Sendable {
  case opening(Opening)
  /// The program's own words: a lesson's `say`; and which process has said them.
  case said(String, by: pid_t)
  case step(Step)
  /// A call has not returned for a while.
  case waiting(Call, text: String)
  /// A word of the toolkit's: what it cannot show, and why.
  case note(String)
  case process(pid_t, ProcessEvent)
  /// What will the call do that stands at its entry? Asked before it runs.
  case question(Question)
  /// How the answer to the last question compares with the kernel's.
  case prediction(Prediction)
  /// What a lab is about to find out.
  case experiment(Experiment)
  /// What it has found.
  case verdict(Verdict)
  case ending(Ending)

  public enum ProcessEvent: Sendable {
    case started(parent: pid_t?)
    case executed(program: String)
    case signalled(Int32, isIgnored: Bool)
    case ended(Tracer.Status)
  }

  public struct Opening: Sendable {
    /// "lesson3-listen", "follow".
    public let tool: String
    /// What is followed, where it is not the tool itself.
    public let command: [String]
    public let process: pid_t
    /// It ran before it was followed.
    public let isAttached: Bool
    /// The sockets that it has already, and what belongs to them.
    public let sockets: [SocketSnapshot]

    public init(
      tool: String, command: [String] = [], process: pid_t, isAttached: Bool = false,
      sockets: [SocketSnapshot] = []
    ) {
      self.tool = tool
      self.command = command
      self.process = process
      self.isAttached = isAttached
      self.sockets = sockets
    }
  }

  public struct Ending: Sendable {
    public let process: pid_t
    /// How the program ended, or nil where it was ended by us, or let go.
    public let status: Tracer.Status?
    /// It was let go, and runs on.
    public let isLetGo: Bool
    /// How many predictions came true, of how many; nil where none was asked for.
    public let score: (right: Int, of: Int)?
    /// What its end did to the sockets it had.
    public let changes: [SocketChange]
    public let packets: [Packet]
    public let sockets: [SocketSnapshot]
  }
}

/// Tells a story as it happens.
public protocol Teller: AnyObject {
  /// Where it is told.
  var output: Output { get }
  /// All places where it is told.
  var outputs: [Output] { get }
  func tell(_ item: StoryItem)
  /// Hands over what is buffered. False when nobody reads it any more.
  func flush() -> Bool
  /// Whether the story is to go on. Where it is not, the program is ended.
  var wantsMore: Bool { get }
  /// A signal is about to end the program and its story.
  func willBeInterrupted()
}

extension Teller {
  public var outputs: [Output] { [output] }
  public var wantsMore: Bool { true }
  public func willBeInterrupted() {}

  public func flush() -> Bool {
    output.flush()
    return output.failure == nil
  }
}
