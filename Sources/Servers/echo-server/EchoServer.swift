import CommandLineTool
import Glibc
import Sockets
import SystemCalls

/// The workers, one of them on the main thread, and the signals that all of them obey.
final class EchoServer {
  private let workers: [EchoWorker]
  private let figures: [Figures]

  /// - Throws: what stands in the way of listening, or of starting a loop.
  init(at address: SocketAddress, threads: Int, limits: EchoLimits) throws(SystemCallError) {
    var workers: [EchoWorker] = []
    var figures: [Figures] = []
    var address = address
    // With SO_REUSEPORT a second server would not be refused: both would get some of the clients.
    if threads > 1 { try Listener.check(address) }
    for _ in 0..<threads {
      figures.append(Figures())
      let worker = try EchoWorker(
        at: address, sharesPort: threads > 1, limits: limits, figures: figures[figures.count - 1])
      // All listen on the port that the first one got.
      address = worker.address ?? address
      workers.append(worker)
    }
    self.workers = workers
    self.figures = figures
    self.address = address
  }

  let address: SocketAddress

  /// Serves until a signal ends it.
  func run() throws(SystemCallError) {
    let main = workers[0]
    var wakers: [LoopWaker] = []
    for worker in workers { wakers.append(try LoopWaker(on: worker.loop) { worker.drain() }) }
    let handles = wakers.map(\.handle)
    let figures = figures
    let signals = try LoopSignals([SIGTERM, SIGINT, SIGUSR1], on: main.loop) { signal in
      if signal == SIGUSR1 { return printToStandardError(Figures.line(figures) + "\n") }
      for handle in handles { handle.wake() }
    }
    var threads: [pthread_t] = []
    for worker in workers.dropFirst() { threads.append(try start(worker)) }
    try main.loop.run()
    // A worker that is alone with a deaf client goes on for its patience.
    for thread in threads { pthread_join(thread, nil) }
    withExtendedLifetime((signals, wakers)) {}
  }

  private func start(_ worker: EchoWorker) throws(SystemCallError) -> pthread_t {
    var thread = pthread_t()
    let box = Unmanaged.passRetained(worker)
    let failure = pthread_create(
      &thread, nil,
      { box in
        guard let box else { return nil }
        let worker = Unmanaged<EchoWorker>.fromOpaque(box).takeRetainedValue()
        do throws(SystemCallError) { try worker.loop.run() } catch {
          printToStandardError("echo-server: \(error)\n")
        }
        return nil
      }, box.toOpaque())
    if failure != 0 {
      box.release()
      throw SystemCallError(call: "pthread_create", errno: ErrorNumber(failure))
    }
    return thread
  }
}
