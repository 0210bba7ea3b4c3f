import Glibc
import SystemCalls

/// Says something to the reader: one write to standard output.
public func say(_ text: String) {
  var line = text + "\n"
  line.withUTF8 { _ = write(STDOUT_FILENO, $0.baseAddress, $0.count) }
}

/// Ends the lesson because a call failed: prints the call, errno's name and its text. Exit status 1.
public func fail(_ call: String) -> Never {
  let error = ErrorNumber.last
  end("\(call): \(error)")
}

/// Ends the lesson because the kernel did something else than the lesson is about. Exit status 1.
public func cannotShow(_ what: String) -> Never {
  let isLab = CommandLine.arguments.first?.split(separator: "/").last?.hasPrefix("lab-") ?? false
  end("cannot show what this \(isLab ? "lab" : "lesson") is about: \(what)")
}

private func end(_ text: String) -> Never {
  let name = CommandLine.arguments.first?.split(separator: "/").last ?? "lesson"
  var line = "\(name): \(text)\n"
  line.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
  exit(1)
}

/// The cast that C does with `(struct sockaddr *)`: hands the address and its length to a call.
public func withSockaddr<Address, Result>(
  _ address: Address, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
  withUnsafePointer(to: address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, socklen_t(MemoryLayout<Address>.size)) }
  }
}

/// The same for a call that fills the address in.
public func withSockaddr<Address, Result>(
  _ address: inout Address,
  filled call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Result
) -> Result {
  var length = socklen_t(MemoryLayout<Address>.size)
  return withUnsafeMutablePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, &length) }
  }
}
