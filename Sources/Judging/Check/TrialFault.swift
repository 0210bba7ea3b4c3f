import Tracing

/// Something to be done to a program's calls, whichever of several it makes: what is done to `accept` is done to `accept4` as well.
struct TrialFault: Sendable, CustomStringConvertible {
  /// As it is written.
  let description: String
  /// One for each call that may be meant. Each counts its own calls.
  let faults: [Fault]

  init(_ specification: String) throws(Fault.Mistake) {
    description = specification
    let fault = try Fault(specification)
    var faults = [fault]
    let word = specification.prefix { $0 != ":" }
    // Who names one of a family means what a program can do instead of it.
    for other in CallName(family: fault.call)?.calls ?? [] where other != fault.call {
      // Not each of them has a length that can be cut.
      if let same = try? Fault(other.rawValue + specification.dropFirst(word.count)) { faults.append(same) }
    }
    self.faults = faults
  }
}
