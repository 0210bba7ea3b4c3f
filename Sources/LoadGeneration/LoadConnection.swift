import Glibc
import Sockets
import SystemCalls

/// One connection of a load: what is to be sent, and what is to come back.
final class LoadConnection: EventHandler {
  private let socket: Descriptor
  private unowned let load: EchoLoad
  let number: Int
  /// Messages on their way, oldest first: when each was to be sent.
  private var due: [UInt64] = []
  private var dueFrom = 0
  /// Messages that were due, and those of them that were sent whole.
  private var sequenceOut: UInt64 = 0
  private var sequenceSent: UInt64 = 0
  private var sequenceIn: UInt64 = 0
  /// What stands before each message that is sent, and before each that comes back.
  private let headerOut: [UInt8]
  private let headerIn: [UInt8]
  /// Bytes of the message behind those, header and all.
  private var sent = 0
  private var received = 0
  private var isRight = true
  private var wantsRoom = false
  private(set) var hasEnded = false
  /// Something has come back in the counted time.
  private(set) var hasAnswered = false

  init(_ number: Int, _ socket: consuming Descriptor, load: EchoLoad) throws(SystemCallError) {
    self.number = number
    self.load = load
    self.socket = socket
    headerOut = load.plan.envelope?.sent ?? []
    headerIn = load.plan.envelope?.received ?? []
    try load.loop.add(self.socket.number, for: .readable, self)
  }

  /// How many messages have come back.
  var answered: UInt64 { sequenceIn }

  /// When the oldest message that is on its way was to be sent.
  var oldest: UInt64? { dueFrom < due.count ? due[dueFrom] : nil }

  func ready(_ readiness: Readiness) {
    if readiness.contains(.writable) { send() }
    if readiness != .writable { receive() }
  }

  /// Where message `sequence` of this connection stands in the bytes.
  private func place(_ sequence: UInt64) -> Int {
    // At a mask's beginning.
    (number &* 251 &+ Int(truncatingIfNeeded: sequence) &* 17) & (EchoLoad.places - 4)
  }

  /// Sends what is due, as far as there is room for it.
  func send() {
    let size = load.plan.size + headerOut.count
    while !hasEnded {
      // As many as one call can take: those behind them are not sent before.
      while sequenceOut &- sequenceSent < UInt64(max(1, load.together.count / size)),
        due.count - dueFrom < load.plan.pipelining, let time = load.due(sequenceOut, of: number)
      {
        due.append(time)
        sequenceOut &+= 1
      }
      guard sequenceSent < sequenceOut else { break }
      let count = sequenceOut &- sequenceSent == 1 ? sendRest(of: sequenceSent) : sendTogether(size)
      if count < 0 {
        let failure = ErrorNumber.last
        guard [EAGAIN, EINTR].contains(failure.rawValue) else { return end("send: \(failure)") }
        watch(true)
        return
      }
      sequenceSent &+= UInt64((sent + count) / size)
      sent = (sent + count) % size
    }
    watch(false)
  }

  /// Hands to the kernel what is left of a message: with its header, where that was not sent yet, in the same call.
  private func sendRest(of sequence: UInt64) -> Int {
    let size = load.plan.size
    let payload = load.sentBytes.baseAddress.map { $0 + place(sequence) }
    guard sent < headerOut.count else {
      let from = sent - headerOut.count
      return Glibc.send(socket.number, payload.map { $0 + from }, size - from, Int32(MSG_NOSIGNAL))
    }
    return headerOut.withUnsafeBytes { header in
      let head = UnsafeMutableRawPointer(mutating: header.baseAddress.map { $0 + sent })
      var parts = [
        iovec(iov_base: head, iov_len: header.count - sent), iovec(iov_base: payload, iov_len: size),
      ]
      return parts.withUnsafeMutableBufferPointer { parts in
        var message = msghdr()
        message.msg_iov = parts.baseAddress
        message.msg_iovlen = parts.count
        return sendmsg(socket.number, &message, Int32(MSG_NOSIGNAL))
      }
    }
  }

  /// Hands all messages that are due to the kernel in one call.
  private func sendTogether(_ size: Int) -> Int {
    var to = 0
    for sequence in sequenceSent..<sequenceOut {
      UnsafeMutableRawBufferPointer(rebasing: load.together[to...]).copyBytes(from: headerOut)
      let from = place(sequence)
      UnsafeMutableRawBufferPointer(rebasing: load.together[(to + headerOut.count)...]).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: load.sentBytes[from..<(from + load.plan.size)]))
      to += size
    }
    return Glibc.send(
      socket.number, load.together.baseAddress.map { $0 + sent }, to - sent, Int32(MSG_NOSIGNAL))
  }

  /// What has to come back, from a place in a message, header and all: as many bytes as lie in a row, and are not more than `most`.
  private func compare(_ got: UnsafeRawPointer, most: Int) -> (count: Int, isRight: Bool) {
    if received < headerIn.count {
      let count = min(headerIn.count - received, most)
      return (
        count,
        headerIn.withUnsafeBytes { memcmp($0.baseAddress.map { $0 + received } ?? got, got, count) == 0 }
      )
    }
    let from = received - headerIn.count
    let count = min(load.plan.size - from, most)
    guard let expected = load.bytes.baseAddress else { return (count, false) }
    return (count, memcmp(expected + place(sequenceIn) + from, got, count) == 0)
  }

  private func receive() {
    let buffer = load.loop.scratch
    let count = recv(socket.number, buffer.baseAddress, buffer.count, 0)
    guard count > 0 else {
      let failure = ErrorNumber.last
      if count == 0 { return end("the server has closed it") }
      return [EAGAIN, EINTR].contains(failure.rawValue) ? () : end("recv: \(failure)")
    }
    if load.isCounting { hasAnswered = true }
    let size = load.plan.size + headerIn.count
    var from = 0
    while from < count {
      guard dueFrom < due.count else {
        load.noteWrong()
        return end("more has come back than was sent")
      }
      guard let got = buffer.baseAddress else { return }
      let part = compare(got + from, most: count - from)
      if !part.isRight {
        isRight = false
        // A frame of another kind, or of another length: where the next message begins, nobody knows.
        if received < headerIn.count {
          load.noteWrong()
          return end("something else came back than the message that was sent")
        }
      }
      received += part.count
      from += part.count
      guard received == size else { continue }
      load.done(from: due[dueFrom], isRight: isRight)
      dueFrom += 1
      forgetDone()
      sequenceIn &+= 1
      received = 0
      isRight = true
    }
    send()
  }

  private func forgetDone() {
    if dueFrom == due.count {
      due.removeAll(keepingCapacity: true)
      dueFrom = 0
    } else if dueFrom > 1024 {
      due.removeFirst(dueFrom)
      dueFrom = 0
    }
  }

  private func watch(_ room: Bool) {
    guard room != wantsRoom else { return }
    wantsRoom = room
    try? load.loop.change(socket.number, to: room ? [.readable, .writable] : .readable)
  }

  private func end(_ reason: String) {
    hasEnded = true
    load.loop.forget(socket.number)
    load.fail("connection \(number): \(reason)")
  }
}
