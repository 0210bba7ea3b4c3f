import Glibc
import KernelState
import SystemCalls
import TestSupport
import Testing

/// A raw socket of a test. Closed when it goes away.
final class TestSocket {
  let number: Int32
  private var isOpen = true

  init(_ family: Int32 = AF_INET, type: UInt32 = SOCK_STREAM.rawValue) {
    number = socket(family, Int32(type | SOCK_CLOEXEC.rawValue), 0)
  }
  init(owning number: Int32) { self.number = number }
  deinit { close() }

  func close() {
    if isOpen { Glibc.close(number) }
    isOpen = false
  }

  var port: UInt16 {
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(number, $0, &length) }
    }
    return UInt16(bigEndian: address.sin_port)
  }

  private func with(_ port: UInt16, _ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    address.sin_port = port.bigEndian
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        call($0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }

  @discardableResult func bindLoopback(_ port: UInt16 = 0) -> Int32 { with(port) { bind(number, $0, $1) } }
  @discardableResult func connectLoopback(_ port: UInt16) -> Int32 { with(port) { connect(number, $0, $1) } }

  static func listener(backlog: Int32 = 5) -> TestSocket {
    let listener = TestSocket()
    listener.bindLoopback()
    listen(listener.number, backlog)
    return listener
  }

  /// A connected pair: the side that dialled, and the one that accepted.
  static func connection() -> (listener: TestSocket, client: TestSocket, server: TestSocket) {
    let listener = TestSocket.listener()
    let client = TestSocket()
    client.connectLoopback(listener.port)
    return (listener, client, TestSocket(owning: accept(listener.number, nil, nil)))
  }
}

@Suite struct SocketStateTests {
  private let kernel = Kernel()

  private func state(_ socket: TestSocket) throws -> SocketState {
    try #require(kernel.socket(descriptor: socket.number))
  }

  @Test func aNewSocketIsClosedAndHasNoAddress() throws {
    let socket = TestSocket()
    let state = try state(socket)
    #expect(state.state == "CLOSE")
    #expect(state.local == nil && state.peer == nil)
    #expect(state.family == "AF_INET" && state.text(.type) == "SOCK_STREAM" && state.text(.protocol) == "TCP")
    #expect((state.cookie ?? 0) != 0 && (state.inode ?? 0) != 0)
    #expect(state[.closeOnExec] == .flag(true))
    #expect(state[.nonBlocking] == .flag(false))
    #expect(state.readings[.receiveBuffer]?.source == "getsockopt SO_RCVBUF")
  }

  @Test func optionsAreThoseThatWereSet() throws {
    let socket = TestSocket()
    var on: Int32 = 1
    let size = socklen_t(MemoryLayout<Int32>.size)
    for option in [SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE] {
      setsockopt(socket.number, SOL_SOCKET, option, &on, size)
    }
    setsockopt(socket.number, Int32(IPPROTO_TCP), TCP_NODELAY, &on, size)
    var wait = linger(l_onoff: 1, l_linger: 7)
    setsockopt(socket.number, SOL_SOCKET, SO_LINGER, &wait, socklen_t(MemoryLayout<linger>.size))
    _ = fcntl(socket.number, F_SETFL, O_RDWR | O_NONBLOCK)
    let state = try state(socket)
    for field: Field in [.reuseAddress, .reusePort, .keepAlive, .noDelay, .nonBlocking] {
      #expect(state[field] == .flag(true), "\(field)")
    }
    #expect(state.text(.linger) == "7 s")
  }

  @Test func aBoundSocketIsListedAsInactive() throws {
    let socket = TestSocket()
    socket.bindLoopback()
    let state = try state(socket)
    #expect(state.state == "CLOSE")
    #expect(state.local?.description == "127.0.0.1:\(socket.port)")
    // The bit came with Linux 6.8.
    if let listed = state.text(.listedAs) { #expect(listed == "bound-inactive") }
  }

  @Test func theAcceptQueueCounts() throws {
    let listener = TestSocket.listener(backlog: 3)
    #expect(try state(listener).number(.acceptQueue) == 0)
    #expect(try state(listener).number(.backlog) == 3)
    let clients = (0..<2).map { _ in TestSocket() }
    for client in clients { client.connectLoopback(listener.port) }
    let waiting = try Clock.poll {
      try self.state(listener).number(.acceptQueue) == 2 ? try self.state(listener) : nil
    }
    #expect(waiting.isListening)
    // The ends without a descriptor.
    let rows = kernel.sockets(ports: [listener.port]).filter {
      $0.local?.port == listener.port && !$0.isListening
    }
    #expect(rows.count == 2)
    #expect(rows.allSatisfy { $0.inode == 0 && $0.state == "ESTABLISHED" })
  }

  @Test func queuesAndAFINThatCountsInOneOfThem() throws {
    let (listener, client, server) = TestSocket.connection()
    defer { listener.close() }
    #expect(write(client.number, "hello", 5) == 5)
    let full = try Clock.poll {
      try self.state(server).number(.receiveQueue) == 5 ? try self.state(server) : nil
    }
    #expect(full.number(.readable) == 5)
    #expect(shutdown(client.number, Int32(SHUT_WR)) == 0)
    let ended = try Clock.poll { try self.state(server).state == "CLOSE_WAIT" ? try self.state(server) : nil }
    #expect(ended.number(.readable) == 5)
    #expect(ended.number(.receiveQueue) == 6)
    let half = try Clock.poll { try self.state(client).state == "FIN_WAIT2" ? try self.state(client) : nil }
    #expect(half.text(.shutdown) == "sending")
    #expect(half.number(.bytesSent) == 5)
  }

  @Test func aPendingErrorIsLeftWhereItIs() throws {
    let socket = TestSocket()
    let unused = TestSocket()
    unused.bindLoopback()
    _ = fcntl(socket.number, F_SETFL, O_RDWR | O_NONBLOCK)
    socket.connectLoopback(unused.port)
    _ = try Clock.poll { try self.state(socket).state == "CLOSE" ? true : nil }
    _ = try state(socket)
    var error: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    getsockopt(socket.number, SOL_SOCKET, SO_ERROR, &error, &length)
    #expect(error == ECONNREFUSED)
  }

  /// One cookie from the accept queue through the descriptor to TIME_WAIT.
  @Test func theCookieStays() throws {
    let listener = TestSocket.listener()
    let client = TestSocket()
    client.connectLoopback(listener.port)
    let near = try #require(try state(client).local)
    let far = try #require(try state(client).peer)
    let queued = try #require(kernel.socket(local: far, peer: near))
    #expect(queued.inode == 0)
    let server = TestSocket(owning: accept(listener.number, nil, nil))
    #expect(try state(server).cookie == queued.cookie)
    // The side that closes first keeps TIME_WAIT.
    let cookie = try state(client).cookie
    client.close()
    server.close()
    let waiting = try Clock.poll {
      self.kernel.socket(local: near, peer: far).flatMap { $0.state == "TIME_WAIT" ? $0 : nil }
    }
    #expect(waiting.cookie == cookie)
    #expect(waiting.text(.timer) == "timewait")
    #expect((1...60_000).contains(waiting.number(.timerRemaining) ?? 0))
    #expect(kernel.socket(cookie: try #require(cookie))?.state == "TIME_WAIT")
  }

  /// The kernel answers a question about a connection that is gone with the listening socket.
  @Test func aConnectionThatIsGoneIsNotItsListener() throws {
    let listener = TestSocket.listener()
    let local = try #require(try state(listener).local)
    #expect(kernel.socket(local: local, peer: .ipv4(address: [127, 0, 0, 1], port: 1)) == nil)
    #expect(kernel.socket(local: local, peer: nil)?.cookie == (try state(listener).cookie))
  }

  @Test func aDescriptorOfAnotherProcess() throws {
    let program = try Program([
      "/bin/sh", "-c", "exec 7<>/dev/null; echo ready; read line",
    ])
    #expect(try program.line() == "ready")
    #expect(kernel.socket(descriptor: 7, of: program.process) == nil)  // open, and no socket
    #expect(kernel.socket(descriptor: 99, of: program.process) == nil)
    #expect(kernel.socket(descriptor: -1, of: program.process) == nil)
  }

  @Test(.enabled(if: Witness.havePython)) func aSocketOfAnotherProcess() throws {
    let script =
      "import socket;s=socket.socket();s.bind(('127.0.0.1',0));s.listen(9);print(s.fileno(),s.getsockname()[1],flush=True);input()"
    let program = try Program([try #require(Witness.python), "-c", script])
    let words = try #require(try program.line()).split(separator: " ").compactMap { Int32($0) }
    let state = try #require(kernel.socket(descriptor: words[0], of: program.process))
    #expect(state.isListening && state.number(.backlog) == 9)
    #expect(state.local?.port == UInt16(words[1]))
    #expect(SocketOwner.find(inode: try #require(state.inode))?.process == program.process)
    #expect(kernel.duplicateRefusal == nil)
  }

  @Test func unixSockets() throws {
    var pair: [Int32] = [0, 0]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
    let (a, b) = (TestSocket(owning: pair[0]), TestSocket(owning: pair[1]))
    #expect(write(a.number, "abc", 3) == 3)
    let state = try state(b)
    #expect(state.family == "AF_UNIX")
    #expect(state.state == "ESTABLISHED")
    #expect(state.number(.readable) == 3)
  }

  @Test func datagramSockets() throws {
    let socket = TestSocket(AF_INET, type: SOCK_DGRAM.rawValue)
    socket.bindLoopback()
    let state = try state(socket)
    #expect(state.text(.protocol) == "UDP")
    #expect(state.state == "CLOSE")
    #expect(state.local?.port == socket.port)
  }

  /// What `ss` says of the same sockets, taken at the same time.
  @Test(.enabled(if: Witness.have("ss"))) func ssSaysTheSame() throws {
    let (listener, client, server) = TestSocket.connection()
    #expect(write(client.number, "hello", 5) == 5)
    _ = try Clock.poll { try self.state(server).number(.receiveQueue) == 5 ? true : nil }
    let rows = try SSRow.all()
    for socket in [listener, client, server] {
      let state = try state(socket)
      let cookie = "sk:" + String(try #require(state.cookie), radix: 16) + " "
      let row = try #require(rows.first { "\($0.rest) ".contains(cookie) }, "\(state)")
      #expect(row.state == state.state)
      #expect(row.local == state.local?.description)
      #expect(
        row.receiveQueue == Int(try #require(state.number(state.isListening ? .acceptQueue : .receiveQueue))))
      #expect(row.sendQueue == Int(try #require(state.number(state.isListening ? .backlog : .sendQueue))))
      #expect(row.rest.contains("ino:\(try #require(state.inode)) "))
      if !state.isListening {
        #expect(row.peer == state.peer?.description)
        #expect(row.rest.contains("mss:\(try #require(state.number(.mss))) "))
        #expect(row.rest.contains("cwnd:\(try #require(state.number(.congestionWindow))) "))
        if let sent = state.number(.bytesSent), sent > 0 { #expect(row.rest.contains("bytes_sent:\(sent) ")) }
      }
    }
  }
}

@Suite struct PacketTests {
  /// A SYN as it is on the wire, IPv4, with the options that Linux sends.
  private let syn: [UInt8] =
    [0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]
    + [0xc0, 0, 0x1f, 0x90, 0, 0, 0, 9, 0, 0, 0, 0, 0xa0, 2, 0xff, 0xd7, 0, 0, 0, 0]
    + [2, 4, 0xff, 0xd7, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]

  @Test func headersAreTakenApart() throws {
    let packet = try #require(Packet(bytes: syn, time: 5))
    #expect(packet.from.description == "127.0.0.1:49152" && packet.to.description == "127.0.0.1:8080")
    #expect(packet.flags == [.syn])
    #expect(packet.sequence == 9 && packet.window == 65495 && packet.length == 0)
    #expect(packet.options.map(\.description) == ["mss 65495", "sackOK", "TS val 1 ecr 0", "wscale 7"])
  }

  @Test func everyCutIsTakenOrRefused() {
    for length in 0..<syn.count { _ = Packet(bytes: Array(syn[..<length]), time: 0) }
    for index in syn.indices {
      for value: UInt8 in [0, 1, 0x0f, 0x7f, 0xff] {
        var damaged = syn
        damaged[index] = value
        _ = Packet(bytes: damaged, time: 0)
      }
    }
  }

  /// A handshake and a few bytes, each packet once, in order, with the kernel's time.
  @Test(.enabled(if: Privilege.canTap, "listening needs CAP_NET_RAW")) func theTapHearsEachPacketOnce() throws
  {
    let tap = try PacketTap()
    let (listener, client, server) = TestSocket.connection()
    defer { withExtendedLifetime((client, server)) {} }
    #expect(write(client.number, "hello", 5) == 5)
    var packets: [Packet] = []
    let port = listener.port
    _ = try Clock.poll {
      packets += tap.drain().filter { $0.from.port == port || $0.to.port == port }
      return packets.contains { $0.length == 5 } ? true : nil
    }
    #expect(packets.prefix(3).map(\.flags) == [[.syn], [.syn, .ack], [.ack]])
    #expect(packets.count { $0.has(.syn) } == 2)
    #expect(packets.count { $0.length == 5 } == 1)
    #expect(
      packets.map(\.time) == packets.map(\.time).sorted() && packets[0].time > 1_600_000_000_000_000_000)
    #expect(tap.lost == 0)
  }

  @Test(.enabled(if: !Privilege.canTap)) func withoutTheCapabilityTheTapSaysSo() {
    let error = #expect(throws: SystemCallError.self) { _ = try PacketTap() }
    #expect(error?.errno.rawValue == EPERM)
  }
}
