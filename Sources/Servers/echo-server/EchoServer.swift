import CommandLineTool
import Glibc
import Sockets
import Synchronization
import SystemCalls

/// The workers, one of them on the main thread, and the signals that all of them obey.
final class EchoServer {
  private let workers: [EchoWorker]
  private let main: EchoWorker
  /// Signals to end, so far. Two that come at once are two.
  private let endings: Endings
  private var wakers: [LoopWaker] = []
  private var signals: LoopSignals?
  let address: SocketAddress

  private final class Endings: Sendable {
    let asked = Atomic<Int>(0)
    /// Threads whose loop has ended.
    let threadsDone = Atomic<Int>(0)
  }

  /// Listens. From before that on signals are minded: whoever has seen where it listens may send one.
  ///
  /// - Throws: what stands in the way of listening, or of making a loop.
  init(at address: SocketAddress, threads: Int, limits: EchoLimits) throws(SystemCallError) {
    var workers: [EchoWorker] = []
    for _ in 0..<max(1, threads) { workers.append(try EchoWorker(limits: limits)) }
    self.workers = workers
    main = workers[0]
    let endings = Endings()
    self.endings = endings
    for worker in workers {
      wakers.append(
        try LoopWaker(on: worker.loop) {
          worker.drain()
          if endings.asked.load(ordering: .relaxed) > 1 { worker.finish() }
        })
    }
    let (handles, figures) = (wakers.map(\.handle), workers.map(\.figures))
    signals = try LoopSignals([SIGTERM, SIGINT, SIGUSR1], on: main.loop) { signal in
      if signal == SIGUSR1 { return printToStandardError(Figures.line(figures) + "\n") }
      endings.asked.add(1, ordering: .relaxed)
      for handle in handles { handle.wake() }
    }
    // With SO_REUSEPORT a second server would not be refused: both would get some of the clients.
    if workers.count > 1 { try Listener.check(address) }
    var address = address
    // All listen on the port that the first one got.
    for worker in workers { address = try worker.listen(at: address, sharesPort: workers.count > 1) }
    self.address = address
  }

  /// Serves until a signal ends it.
  ///
  /// - Throws: where a thread cannot be started, or the main loop cannot go on.
  func run() throws(SystemCallError) {
    let (main, endings, others) = (main, endings, workers.dropFirst())
    // The main loop hears signals until the last thread has done its work.
    let endMain = {
      if main.isDone, endings.threadsDone.load(ordering: .acquiring) == others.count { main.loop.stop() }
    }
    let reports = try LoopWaker(on: main.loop, endMain)
    main.whenDone(endMain)
    var threads: [pthread_t] = []
    for worker in others {
      worker.whenDone { worker.loop.stop() }
      threads.append(try start(worker, reporting: reports.handle))
    }
    try main.loop.run()
    for thread in threads { pthread_join(thread, nil) }
  }

  private final class Job {
    let worker: EchoWorker
    let endings: Endings
    let report: LoopWaker.Handle

    init(_ worker: EchoWorker, _ endings: Endings, _ report: LoopWaker.Handle) {
      self.worker = worker
      self.endings = endings
      self.report = report
    }

    func run() {
      do throws(SystemCallError) { try worker.loop.run() } catch {
        printToStandardError("echo-server: one thread cannot go on: \(error)\n")
        // Others share its port, and are to get its clients.
        worker.finish()
      }
      endings.threadsDone.add(1, ordering: .acquiringAndReleasing)
      report.wake()
    }
  }

  private func start(_ worker: EchoWorker, reporting report: LoopWaker.Handle) throws(SystemCallError)
    -> pthread_t
  {
    var thread = pthread_t()
    let job = Unmanaged.passRetained(Job(worker, endings, report))
    let failure = pthread_create(
      &thread, nil,
      { job in
        guard let job else { return nil }
        Unmanaged<Job>.fromOpaque(job).takeRetainedValue().run()
        return nil
      }, job.toOpaque())
    if failure != 0 {
      job.release()
      throw SystemCallError(call: "pthread_create", errno: ErrorNumber(failure))
    }
    return thread
  }
}
