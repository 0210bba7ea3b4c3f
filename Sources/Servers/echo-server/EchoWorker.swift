import CommandLineTool
import Glibc
import Sockets
import Synchronization
import SystemCalls

/// What all workers of a server share.
final class EchoLimits: ConnectionLimit {
  /// How many connections may be open at once, over all workers.
  let connections: Int
  /// After so many seconds without a byte a connection is ended; 0 for never.
  let idleTimeout: Int
  private let open = Atomic<Int>(0)

  init(connections: Int, idleTimeout: Int) {
    self.connections = connections
    self.idleTimeout = idleTimeout
  }

  /// Takes a place; false where there is none.
  func take() -> Bool {
    if open.add(1, ordering: .relaxed).newValue <= connections { return true }
    giveBack()
    return false
  }

  func giveBack() { open.subtract(1, ordering: .relaxed) }
}

/// One thread of the server: a loop, a listening socket, and the connections that it has accepted.
final class EchoWorker {
  let loop: EventLoop
  let figures: Figures
  private let limits: EchoLimits
  private var listener: Listener?
  /// By descriptor.
  private var connections: [EchoConnection?] = []
  private var count = 0
  /// In seconds, as coarse as time-outs need it.
  private(set) var now = 0
  private var clock: LoopTimer?
  private var deadline: LoopTimer?
  private var isEnding = false

  /// How long clients have to take what is theirs once the server is to end, in milliseconds.
  private static let patience = 5000

  init(at address: SocketAddress, sharesPort: Bool, limits: EchoLimits, figures: Figures)
    throws(SystemCallError)
  {
    loop = try EventLoop()
    self.figures = figures
    self.limits = limits
    listener = try Listener(at: address, sharesPort: sharesPort, limit: limits, on: loop) { [unowned self] in
      accept($0, from: $1)
    }
    if limits.idleTimeout > 0 {
      clock = try LoopTimer(on: loop) { [unowned self] in tick() }
      clock?.start(milliseconds: 1000, repeats: true)
    }
    deadline = try LoopTimer(on: loop) { [unowned self] in
      printToStandardError(
        "echo-server: left after \(Self.patience / 1000) s: \(counted(count, "client")) that had not closed, or not read\n")
      loop.stop()
    }
  }

  var address: SocketAddress? { listener?.address }

  /// Accepts nothing more, sends back what has come, and ends when the last client has gone, or after a while.
  func drain() {
    guard !isEnding else { return loop.stop() }
    isEnding = true
    // Those that have waited to be accepted are served, too.
    listener?.acceptAll()
    listener?.close()
    listener = nil
    for connection in connections { connection?.drain() }
    if count == 0 { loop.stop() } else { deadline?.start(milliseconds: Self.patience) }
  }

  func end(_ connection: EchoConnection, error: ErrorNumber? = nil) {
    let number = connection.number
    guard connections.indices.contains(Int(number)), connections[Int(number)] === connection else { return }
    figures.close(isFailure: error != nil)
    loop.forget(number)
    connections[Int(number)] = nil  // its descriptor is closed with it
    count -= 1
    limits.giveBack()
    if isEnding, count == 0 { loop.stop() }
    listener?.resume()
  }

  private func accept(_ socket: consuming Descriptor, from peer: SocketAddress?) {
    let number = socket.number
    let connection = EchoConnection(socket, worker: self)
    do throws(SystemCallError) { try loop.add(number, for: .readable, connection) } catch {
      figures.open()
      figures.close(isFailure: true)
      limits.giveBack()
      return
    }
    let place = Int(number)
    if place >= connections.count {
      connections += Array(repeating: nil, count: place + 1 - connections.count)
    }
    connections[place] = connection
    count += 1
    figures.open()
  }

  private func tick() {
    now += 1
    for case let connection? in connections where now - connection.lastActive > limits.idleTimeout {
      end(connection)
    }
  }
}
