import Glibc
import SystemCalls
import Testing

@Suite struct DescriptorTests {
  private func isOpen(_ number: Int32) -> Bool { fcntl(number, F_GETFD) != -1 }

  /// The reader of a pipe sees the end when its writer is closed, whatever becomes of the number.
  @Test func closesWhenItsOwnerLetsGo() throws {
    let (readEnd, writeEnd) = try Descriptor.pipe()
    let reader = Descriptor(owning: readEnd)
    var entry = pollfd(fd: reader.number, events: Int16(POLLIN), revents: 0)
    do {
      let writer = Descriptor(owning: writeEnd)
      #expect(writer.number >= 0)
      #expect(poll(&entry, 1, 0) == 0)
    }
    #expect(poll(&entry, 1, 0) == 1)
    #expect(entry.revents & Int16(POLLHUP) != 0)
  }

  private func closeBadDescriptor() throws { try Descriptor(owning: 1_000_000).close() }

  @Test func closeReportsWhatTheKernelSays() throws {
    let error = #expect(throws: SystemCallError.self) { try closeBadDescriptor() }
    #expect(error?.errno.rawValue == EBADF)
    #expect(error?.call == "close")
  }

  @Test func releaseKeepsItOpen() throws {
    let number = try Descriptor.open("/dev/null", O_RDONLY).release()
    #expect(isOpen(number))
    #expect(Glibc.close(number) == 0)
  }

  @Test func openFailsWithThePath() {
    let error = #expect(throws: SystemCallError.self) { _ = try Descriptor.open("/nowhere/at/all", O_RDONLY) }
    #expect(error?.description == "open /nowhere/at/all: ENOENT (No such file or directory)")
  }
}

@Suite struct SystemCallTests {
  @Test func interruptedCallsAreMadeAgain() throws {
    var calls = 0
    let result = try systemCall("test") { () -> Int32 in
      calls += 1
      errno = EINTR
      return calls < 3 ? -1 : 7
    }
    #expect(result == 7)
    #expect(calls == 3)
  }

  @Test func errorsHaveTheKernelsNames() {
    #expect(ErrorNumber(EADDRINUSE).description == "EADDRINUSE (Address already in use)")
    #expect(ErrorNumber(ECONNREFUSED).name == "ECONNREFUSED")
    #expect(ErrorNumber(512).description == "ERESTARTSYS (To be restarted if SA_RESTART is set)")
    #expect(ErrorNumber(512).isRestart)
    #expect(!ErrorNumber(EINTR).isRestart)
    #expect(ErrorNumber(9999).name == "errno 9999")
  }
}

@Suite struct SocketAddressTests {
  private func bytes<Address>(_ address: Address) -> [UInt8] { withUnsafeBytes(of: address) { Array($0) } }

  @Test func ipv4() throws {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(8080).bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let read = try #require(SocketAddress(bytes: bytes(address)))
    #expect(read.description == "127.0.0.1:8080")
    #expect(read.port == 8080)
    #expect(!read.isUnspecified && !read.isWildcard)
  }

  @Test func ipv6AndItsMappedForm() throws {
    var address = sockaddr_in6()
    address.sin6_family = sa_family_t(AF_INET6)
    address.sin6_port = UInt16(80).bigEndian
    #expect(inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.sin6_addr) == 1)
    let mapped = try #require(SocketAddress(bytes: bytes(address)))
    #expect(mapped.canonical == .ipv4(address: [127, 0, 0, 1], port: 80))
    #expect(inet_pton(AF_INET6, "::1", &address.sin6_addr) == 1)
    let plain = try #require(SocketAddress(bytes: bytes(address)))
    #expect(plain.description == "[::1]:80")
    #expect(plain.canonical == plain)
  }

  @Test func unix() {
    let family = bytes(UInt16(AF_UNIX))
    #expect(SocketAddress(bytes: family) == .unixUnnamed)
    #expect(SocketAddress(bytes: family + Array("/run/x\0junk".utf8))?.description == "/run/x")
    #expect(SocketAddress(bytes: family + [0] + Array("name".utf8))?.description == "@name")
  }

  /// A program may pass any length with any family.
  @Test func everyCutIsTakenOrRefused() {
    for family in 0..<64 {
      let whole = bytes(UInt16(family)) + [UInt8](repeating: 0xff, count: 126)
      for length in 0...128 { _ = SocketAddress(bytes: whole.prefix(length))?.description }
    }
    #expect(SocketAddress(bytes: [UInt8](repeating: 0, count: 1)) == nil)
    #expect(SocketAddress.ipv4(address: [], port: 1).description == "(not an address):1")
  }
}

@Suite struct ProcessStatusTests {
  @Test func ofThisProcess() throws {
    let status = try #require(ProcessStatus(of: getpid()))
    #expect(status.number("Tgid") == Int(getpid()))
    #expect(status.number("PPid") == Int(getppid()))
    #expect(status.number("Uid") == Int(getuid()))
    #expect(status.number("NoSuchLine") == nil)
    #expect(!status.hasEnded && !status.isExiting)
    #expect(status.has(SIGKILL, in: "SigBlk") == false && status.has(SIGKILL, in: "SigIgn") == false)
    #expect(status.has(0, in: "SigIgn") == nil && status.has(65, in: "SigIgn") == nil)
    #expect(ProcessStatus(of: 0) == nil && ProcessStatus(of: .max) == nil)
  }
}
