import CommandLineTool
import Tracing

extension Tracer {
  /// What became of the faults that were to be injected, a line for each.
  var faultNotes: [String] {
    faultFigures.map { fault, calls, injected in
      var isLength = false
      if case .length = fault.effect { isLength = true }
      let seen =
        counted(Int(clamping: calls), "such call") + (isLength ? " on a stream socket" : " on a socket")
      if injected > 0 {
        return "--inject \(fault): done \(counted(Int(clamping: injected), "time")), in \(seen)."
      }
      var reason =
        calls == 0
        ? "there was none on a \(isLength ? "stream socket" : "socket")" : "of \(seen) none was due"
      if calls > 0, isLength { reason += " and longer" }
      if isLength, let refusal = shorteningRefusal {
        reason += "; what some are about could not be found out (\(refusal))"
      }
      if !isLength, hasOwnFilter {
        reason = "the program has a seccomp filter of its own, which a call that is left out may break"
      }
      return "--inject \(fault): never done; \(reason)."
    }
  }
}
