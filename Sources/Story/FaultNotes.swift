import CommandLineTool
import Tracing

extension Tracer {
  /// What was to be injected and never was, and why.
  var faultNotes: [String] {
    unusedFaults.map { fault, calls in
      var isLength = false
      if case .length = fault.effect { isLength = true }
      let kind = isLength ? "on a stream socket" : "on a socket"
      let count =
        calls == 0
        ? "no such call \(kind)"
        : "\(counted(Int(clamping: calls), "such call")) \(kind), and none was \(isLength ? "due and longer" : "due")"
      let refusal =
        isLength
        ? shorteningRefusal.map { "; of some it could not be told what they are about: \($0)" } : nil
      return "--inject \(fault) was never done: there was \(count)\(refusal ?? "")."
    }
  }
}
