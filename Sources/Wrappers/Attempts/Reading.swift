import Foundation

/// What a FileHandle does with a socket that has less than was asked for, nothing yet, or an error.
let reading = [
  Attempt(
    name: "FileHandle-readData",
    promise: "readData(ofLength: 100): what is there, up to 100 bytes"
  ) { _ in
    let pair = try Pair()
    write(pair.client, "hello", 5)
    let data = Box<Data>()
    let handle = FileHandle(fileDescriptor: pair.server)
    Thread.detachNewThread { data.value = handle.readData(ofLength: 100) }
    if Pair.wait(0.5, until: { data.value != nil }) { return "it returned \(data.value?.count ?? 0) bytes" }
    shutdown(pair.client, Int32(SHUT_WR))
    _ = Pair.wait(5) { data.value != nil }
    return
      "it waited for more than the 5 bytes that had come; when the stream ended it returned \(data.value?.count ?? -1) bytes"
  },
  Attempt(
    name: "FileHandle-readToEnd-nonblocking",
    promise: "readToEnd on a non-blocking socket: all of it, or an error and nothing lost"
  ) { _ in
    let pair = try Pair()
    write(pair.client, "hello", 5)
    _ = fcntl(pair.server, F_SETFL, O_NONBLOCK)
    do {
      return "it returned \(try FileHandle(fileDescriptor: pair.server).readToEnd()?.count ?? 0) bytes"
    } catch {
      var left: Int32 = 0
      _ = ioctl(pair.server, UInt(FIONREAD), &left)
      return "error: \(error); of the 5 bytes that had come, \(left) are still there"
    }
  },
  Attempt(
    name: "FileHandle-readDataToEndOfFile-nonblocking",
    promise: "readDataToEndOfFile on a non-blocking socket: an error that a program can handle"
  ) { _ in
    let pair = try Pair()
    _ = fcntl(pair.server, F_SETFL, O_NONBLOCK)
    return "it returned \(FileHandle(fileDescriptor: pair.server).readDataToEndOfFile().count) bytes"
  },
  Attempt(
    name: "FileHandle-availableData-reset",
    promise: "availableData after the peer's RST: an error that a program can handle, or an empty Data"
  ) { _ in
    let pair = try Pair()
    pair.reset()
    return "it returned \(FileHandle(fileDescriptor: pair.server).availableData.count) bytes"
  },
  Attempt(
    name: "FileHandle-availableData-signal",
    promise: "availableData while a signal handler runs (sigaction without SA_RESTART): it waits on"
  ) { _ in
    let pair = try Pair()
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(SIGUSR1, &action, nil)
    let reader = pthread_self()
    Thread.detachNewThread {
      for _ in 0..<5 {  // one of them at least while the reader sleeps in its read
        usleep(100_000)
        pthread_kill(reader, SIGUSR1)
      }
      write(pair.client, "hello", 5)
    }
    return "it returned \(FileHandle(fileDescriptor: pair.server).availableData.count) bytes"
  },
  Attempt(
    name: "FileHandle-close-in-handler",
    promise: "close() in a readabilityHandler, at the end of the stream"
  ) { _ in
    let pair = try Pair()
    let handle = FileHandle(fileDescriptor: pair.server, closeOnDealloc: true)
    handle.readabilityHandler = { if $0.availableData.isEmpty { try? $0.close() } }
    close(pair.client)
    return Pair.wait(2) { handle.fileDescriptor < 0 } ? "it is closed" : "it is not closed after two seconds"
  },
]
