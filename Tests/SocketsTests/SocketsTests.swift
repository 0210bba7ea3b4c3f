import Glibc
import Sockets
import SystemCalls
import Testing

@Suite struct AddressTextTests {
  @Test(arguments: [
    ("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:80", "[::1]:80"), ("0.0.0.0:0", "0.0.0.0:0"),
    ("[::]:65535", "[::]:65535"),
    ("localhost:1", "127.0.0.1:1"), ("/run/x.sock", "/run/x.sock"), ("@name", "@name"),
    ("::1:80", "[::1]:80"),
  ])
  func readAndPrinted(text: String, printed: String) throws {
    #expect("\(try SocketAddress(text))" == printed)
  }

  @Test(arguments: [
    "", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "1.2.3:80", "[1.2.3.4]:80",
    "host:1", "@", "127.0.0.1:-1",
  ])
  func nonsenseIsRefused(text: String) {
    #expect(throws: AddressMistake.self) { try SocketAddress(text) }
  }

  /// What the kernel gets and what it gives back are the same.
  @Test(arguments: ["127.0.0.1:0", "[::1]:0", "@socketsteps-test"]) func throughTheKernel(text: String) throws
  {
    let address = try SocketAddress(text)
    let socket = Descriptor(
      owning: try systemCall("socket") {
        Glibc.socket(address.family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      })
    try systemCall("bind") { address.withSockaddr { bind(socket.number, $0, $1) } }
    let bound = try #require(SocketAddress.local(of: socket.number))
    #expect(bound.host == address.host)
    #expect(bound.port != 0 || address.family == AF_UNIX)
  }
}

@Suite struct EventLoopTests {
  /// A connection through a listener, an answer, and the end of both, on one thread.
  @Test func aConnection() throws {
    final class Echo: EventHandler {
      let socket: Descriptor
      let loop: EventLoop
      var said = ""
      init(_ socket: consuming Descriptor, _ loop: EventLoop) {
        self.socket = socket
        self.loop = loop
      }
      func ready(_ readiness: Readiness) {
        let count = recv(socket.number, loop.scratch.baseAddress, loop.scratch.count, 0)
        if count > 0 { said += String(decoding: loop.scratch[..<count], as: UTF8.self) } else { loop.stop() }
      }
    }
    let loop = try EventLoop()
    var accepted: Echo?
    let listener = try Listener(at: try SocketAddress("127.0.0.1:0"), on: loop) { socket, _ in
      let number = socket.number
      let echo = Echo(socket, loop)
      try? loop.add(number, for: .readable, echo)
      accepted = echo
    }
    let client = Descriptor(
      owning: try systemCall("socket") {
        socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      })
    try systemCall("connect") { listener.address.withSockaddr { connect(client.number, $0, $1) } }
    #expect(send(client.number, "hello", 5, 0) == 5)
    shutdown(client.number, Int32(SHUT_WR))
    try loop.run()
    #expect(accepted?.said == "hello")
    listener.close()
  }

  @Test func timersAndWords() throws {
    let loop = try EventLoop()
    var ticks = 0
    let once = try LoopTimer(on: loop) { _ in ticks += 100 }
    let timer = try LoopTimer(on: loop) { _ in
      ticks += 1
      if ticks % 100 == 5 { loop.stop() }
    }
    let waker = try LoopWaker(on: loop) { ticks += 1000 }
    once.start(milliseconds: 1)
    timer.start(milliseconds: 2, repeats: true)
    waker.handle.wake()
    waker.handle.wake()
    try loop.run()
    // Two words at once may be one.
    #expect([1105, 2105].contains(ticks))
  }

  /// What one handler has forgotten, another event of the same turn does not reach.
  @Test func aForgottenDescriptorIsNobodys() throws {
    final class Once: EventHandler {
      var forget: () -> Void = {}
      var count = 0
      func ready(_ readiness: Readiness) {
        count += 1
        forget()
      }
    }
    let loop = try EventLoop()
    let (firstRead, firstWrite) = try Descriptor.pipe()
    let (secondRead, secondWrite) = try Descriptor.pipe()
    let ends = [firstRead, firstWrite, secondRead, secondWrite]
    defer { for end in ends { close(end) } }
    let handlers = [Once(), Once()]
    for (place, end) in [firstRead, secondRead].enumerated() {
      try loop.add(end, for: .readable, handlers[place])
    }
    for handler in handlers {
      handler.forget = {
        loop.forget(firstRead)
        loop.forget(secondRead)
        loop.stop()
      }
    }
    _ = write(firstWrite, "x", 1)
    _ = write(secondWrite, "x", 1)
    try loop.run()
    #expect(handlers[0].count + handlers[1].count == 1)
  }
}
