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
    let pair = try Pair()
    let handle = FileHandle(fileDescriptor: pair.server, closeOnDealloc: true)
    handle.readabilityHandler = { _ in }
    let during = Pair.sockets().filter { Pair.isPeer($0, of: pair.client) }.sorted()
    try handle.close()
    let left = Pair.sockets().filter { Pair.isPeer($0, of: pair.client) }.sorted()
    _ = Pair.wait { !Pair.sockets().contains { Pair.isPeer($0, of: pair.client) } }
    let later = Pair.sockets().filter { Pair.isPeer($0, of: pair.client) }.sorted()
    return
      "descriptors that lead to the connection: \(during), when close had returned \(left), later \(later)"
  },
]
