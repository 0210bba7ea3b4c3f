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
  /// Of one that waits, that of the next that does not.
  var stage: Stage
  /// Whether it is one that waits for something, or prepares for it.
  let waits: Bool
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
  /// At the same time, at most; and all that there ever were.
  var threads = 0
  var threadsInAll = 0
  /// At the same time, at most, besides the three standard ones; as seen after its calls.
  var descriptors = 0
  /// What those led to: "socket", "eventpoll", "pipe".
  var kinds: [String: Int] = [:]
  /// Descriptors of the job's sockets that it had when it ended: the kernel has closed them.
  var leftOpen: [Int32] = []
  /// Why options could not be read, where that was so.
  var refusal: SystemCallError?
  /// Peak of the resident set, in KiB, as of its last call: VmHWM of /proc/PID/status.
  var resident = 0
  /// Peak of what it has allocated itself and that is resident, in KiB, as seen at its calls: RssAnon of /proc/PID/status.
  var anonymous = 0

  func calls(of stage: Stage) -> [ObservedCall] { calls.filter { $0.stage == stage } }

  /// What the kernel had of a socket when it was ready for use: the listener at `listen`, the connection at `accept` or `connect`.
  func state(of role: Role, at stage: Stage) -> SocketState? {
    states.first { $0.role == role && $0.stage == stage }?.state
  }
}
