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
  private var sequenceOut: UInt64 = 0
  private var sequenceIn: UInt64 = 0
  /// Of the message that is being sent; the whole size where none is.
  private var sent: Int
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
    sent = load.plan.size
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
    (number &* 251 &+ Int(truncatingIfNeeded: sequence) &* 17) & (EchoLoad.places - 1)
  }

  /// Sends what is due, as far as there is room for it.
  func send() {
    let size = load.plan.size
    while !hasEnded {
      if sent == size {
        guard due.count - dueFrom < load.plan.pipelining, let time = load.due(sequenceOut, of: number) else {
          break
        }
        due.append(time)
        sent = 0
        sequenceOut &+= 1
      }
      let count = Glibc.send(
        socket.number, load.bytes.baseAddress.map { $0 + place(sequenceOut &- 1) + sent }, size - sent,
        Int32(MSG_NOSIGNAL))
      if count < 0 {
        let failure = ErrorNumber.last
        guard [EAGAIN, EINTR].contains(failure.rawValue) else { return end("send: \(failure)") }
        watch(true)
        return
      }
      sent += count
    }
    watch(false)
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
    let size = load.plan.size
    var from = 0
    while from < count {
      guard dueFrom < due.count else {
        load.noteWrong()
        return end("more has come back than was sent")
      }
      let part = min(size - received, count - from)
      let expected = load.bytes.baseAddress.map { $0 + place(sequenceIn) + received }
      if let expected, let got = buffer.baseAddress, memcmp(got + from, expected, part) != 0 {
        isRight = false
      }
      received += part
      from += part
      guard received == size else { break }
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
