import Synchronization

/// What one worker has done. Counted by its thread, read by any.
final class Figures: Sendable {
  private let opened = Atomic<Int>(0)
  private let closed = Atomic<Int>(0)
  private let failed = Atomic<Int>(0)
  private let shortages = Atomic<Int>(0)
  private let bytesIn = Atomic<Int>(0)
  private let bytesOut = Atomic<Int>(0)

  // One thread alone writes: no need for a locked addition.
  private func add(_ count: Int, to figure: borrowing Atomic<Int>) {
    figure.store(figure.load(ordering: .relaxed) &+ count, ordering: .relaxed)
  }

  func open() { add(1, to: opened) }
  func close(isFailure: Bool) {
    add(1, to: closed)
    if isFailure { add(1, to: failed) }
  }
  func noteShortage() { add(1, to: shortages) }
  func received(_ bytes: Int) { add(bytes, to: bytesIn) }
  func sent(_ bytes: Int) { add(bytes, to: bytesOut) }

  /// One line for all workers.
  static func line(_ all: [Figures]) -> String {
    func sum(_ figure: (Figures) -> Int) -> Int { all.reduce(0) { $0 &+ figure($1) } }
    let opened = sum { $0.opened.load(ordering: .relaxed) }
    let closed = sum { $0.closed.load(ordering: .relaxed) }
    return
      "connections \(opened - closed) open, \(opened) in all, \(sum { $0.failed.load(ordering: .relaxed) }) ended by a reset or an error; "
      + "no room for one more \(sum { $0.shortages.load(ordering: .relaxed) }) times; bytes \(sum { $0.bytesIn.load(ordering: .relaxed) }) in, \(sum { $0.bytesOut.load(ordering: .relaxed) }) out"
  }
}
