import Foundation

/// What a FileHandle does with a peer that has gone.
let writing = [
  Attempt(
    name: "FileHandle-write-reset",
    promise: "write(contentsOf:) to a peer that has gone: an error that a program can handle"
  ) { _ in
    let pair = try Pair()
    pair.reset()
    let handle = FileHandle(fileDescriptor: pair.server)
    var told = ""
    for number in 1...2 {  // the first error of a socket is reported once; from then on it is EPIPE
      do { try handle.write(contentsOf: Data("hello".utf8)) } catch { told += "write \(number): \(error). " }
    }
    return told.isEmpty ? "no error" : told
  },
  Attempt(
    name: "FileHandle-close-FIN",
    promise: "close() with a readabilityHandler set: the peer gets the end of the stream when close returns"
  ) { _ in
    // The last descriptor is closed by another thread, which may be quicker or slower: so it is tried more than once.
    let tries = 10
    var (leading, stillOpen, later) = (0, 0, 0)
    for _ in 0..<tries {
      let pair = try Pair()
      func left() -> Int { Pair.sockets().count { Pair.isPeer($0, of: pair.client) } }
      let handle = FileHandle(fileDescriptor: pair.server, closeOnDealloc: true)
      handle.readabilityHandler = { _ in }
      leading = max(leading, left())
      try handle.close()
      stillOpen += left() > 0 ? 1 : 0
      _ = Pair.wait { left() == 0 }
      later += left()
    }
    return
      "up to \(leading) descriptors led to a connection; when close had returned, one still did in \(stillOpen) of "
      + "\(tries) tries; later \(later == 0 ? "none" : "\(later)")"
  },
]
