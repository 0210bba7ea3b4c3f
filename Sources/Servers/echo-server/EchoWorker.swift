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
  private let wasShort = Atomic<Bool>(false)

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

  /// True the first time.
  func isShortageNew() -> Bool { !wasShort.exchange(true, ordering: .relaxed) }

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
  /// As coarse as time-outs need it: in seconds, and in tenths of a second while it ends.
  private(set) var now = 0
  private var clock: LoopTimer?
  private var endingSince: Int?
  /// Whether it has nothing more to do.
  private(set) var isDone = false
  /// Is called then, on its thread.
  private var done: () -> Void = {}

  /// How long a client may take nothing of what is its own before it is left, in tenths of a second; how long one has that owes
  /// nothing but its end; and how long all of it may last.
  private static let (patience, courtesy, longest) = (50, 10, 600)

  init(limits: EchoLimits) throws(SystemCallError) {
    loop = try EventLoop()
    figures = Figures()
    self.limits = limits
    clock = try LoopTimer(on: loop) { [unowned self] in tick(Int(clamping: $0)) }
  }

  /// Listens, and accepts from then on.
  ///
  /// - Returns: where: with the port that the kernel chose.
  func listen(at address: SocketAddress, sharesPort: Bool) throws(SystemCallError) -> SocketAddress {
    let listener = try Listener(at: address, sharesPort: sharesPort, limit: limits, on: loop) {
      [unowned self] in accept($0, from: $1)
    }
    listener.onShortage = { [figures, limits] failure in
      figures.noteShortage()
      // Once: it may come twenty times a second.
      if limits.isShortageNew() {
        printToStandardError(
          "echo-server: accept4: \(failure): further clients wait until others have gone\n")
      }
    }
    self.listener = listener
    if limits.idleTimeout > 0 { clock?.start(milliseconds: 1000, repeats: true) }
    return listener.address
  }

  func whenDone(_ action: @escaping () -> Void) { done = action }

  /// Lets nobody new in, serves those that wait to be accepted, sends back what has come, and is done when the last client has
  /// gone, or takes nothing any more. Asked once more, it is done at once.
  func drain() {
    guard endingSince == nil else { return finish() }
    // The clock goes faster from here on.
    endingSince = now
    clock?.start(milliseconds: 100, repeats: true)
    for connection in connections { connection?.drain() }
    listener?.finish { [unowned self] in
      listener = nil
      finishIfEmpty()
    }
  }

  /// Leaves everything as it is.
  func finish() {
    guard !isDone else { return }
    isDone = true
    listener?.close()
    listener = nil
    done()
  }

  private func finishIfEmpty() {
    if endingSince != nil, count == 0, listener == nil { finish() }
  }

  func end(_ connection: EchoConnection, error: ErrorNumber? = nil) {
    let number = connection.number
    guard connections.indices.contains(Int(number)), connections[Int(number)] === connection else { return }
    figures.close(isFailure: error != nil)
    loop.forget(number)
    connections[Int(number)] = nil  // its descriptor is closed with it
    count -= 1
    limits.giveBack()
    listener?.resume()
    finishIfEmpty()
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
    if endingSince != nil { connection.drain() }
  }

  private func tick(_ expirations: Int) {
    now += expirations
    guard let endingSince else {
      for case let connection? in connections where now - connection.lastActive > limits.idleTimeout {
        end(connection)
      }
      return
    }
    let isTooLong = now - endingSince > Self.longest
    var (left, owed) = (0, 0)
    for case let connection? in connections {
      let silence = now - max(connection.lastActive, endingSince)
      guard isTooLong || silence > (connection.isFinished ? Self.courtesy : Self.patience) else { continue }
      if !connection.isFinished {
        left += 1
        owed += connection.owed
      }
      end(connection)
    }
    if left > 0 {
      printToStandardError(
        "echo-server: left \(counted(left, "client")) that did not take the last \(counted(owed, "byte")) in time\n"
      )
    }
    if isTooLong {
      if listener != nil {
        printToStandardError(
          "echo-server: no room was left for clients that waited to be accepted; they are reset\n")
      }
      finish()
    }
  }
}
