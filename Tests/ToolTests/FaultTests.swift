import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `follow --inject`: faults that a program's loops have to bear, and that lose no byte.
@Suite(.enabled(if: Witness.havePython)) struct FaultTests {
  /// An echo server in a thread of its own, and a client that sends 200,000 bytes and compares what comes back. `naive`
  /// takes one send for all of it.
  private static let echo = """
    import os, socket, sys, threading
    naive = sys.argv[1] == "naive"
    data = os.urandom(200000)
    listener = socket.create_server(("127.0.0.1", 0))
    def serve():
        while True:
            try: connection, _ = listener.accept(); break
            except OSError: pass
        while True:
            block = connection.recv(65536)
            if not block: break
            if naive: connection.send(block)
            else:
                while block: block = block[connection.send(block):]
        connection.close()
    server = threading.Thread(target=serve); server.start()
    client = socket.create_connection(listener.getsockname())
    back = bytearray()
    def collect():
        while True:
            block = client.recv(65536)
            if not block: break
            back.extend(block)
    reader = threading.Thread(target=collect); reader.start()
    client.sendall(data); client.shutdown(socket.SHUT_WR); reader.join(); server.join()
    print(len(back), bytes(back) == data)
    """

  private func run(_ kind: String, _ faults: [String], options: [String] = ["--summary"]) throws -> (
    output: String, story: String, status: Int32
  ) {
    try Script.follow(Self.echo, arguments: [kind]) { command, story in
      var command = command
      command.insert(contentsOf: options + faults.flatMap { ["--inject", $0] }, at: 1)
      let result = try Program.run(command)
      return (result.output, text(ofFile: story) ?? "", result.status)
    }
  }

  @Test(arguments: [
    "sendto:length=1000:every=2", "recvfrom:length=77", "sendto:errno=EINTR:every=5",
    "recvfrom:errno=EINTR:every=3",
    "accept4:errno=EMFILE:when=1", "sendto:length=1:when=2",
  ])
  func aRightProgramLosesNothing(fault: String) throws {
    let (output, _, status) = try run("correct", [fault])
    #expect(output == "200000 True\n")
    #expect(status == 0)
  }

  @Test func aNaiveProgramDoes() throws {
    #expect(try run("naive", []).output == "200000 True\n")
    let (output, _, _) = try run("naive", ["sendto:length=1000:every=2"])
    #expect(output.hasSuffix("False\n"))
  }

  /// The story says what was done, and the rest of it is what the kernel did.
  @Test func theStorySaysWhatWasDone() throws {
    let script = """
      import os, socket
      a, b = socket.socketpair()
      print(os.writev(a.fileno(), [b"ab", b"", b"cdefg", b"hij"]), a.sendmsg([b"kl", b"mn"]))
      parts = [bytearray(4), bytearray(4)]
      print(os.readv(b.fileno(), parts), bytes(parts[0]), bytes(parts[1]))
      print(b.recvmsg(100)[0], b.recv(100))
      print(os.writev(a.fileno(), [b"op", b"q"]), b.recv(100))
      try: a.send(b"x")
      except OSError as error: print(error.errno)
      c = os.dup(a.fileno())
      try: os.close(c)
      except OSError as error: print(error.errno)
      print(os.path.exists("/proc/self/fd/%d" % c))
      """
    let faults = [
      "writev:length=4:when=1", "sendmsg:length=3", "readv:length=3", "recvmsg:length=2",
      "send:errno=ENOBUFS", "close:errno=EIO",
    ]
    let (lines, result) = try Script.story(script, options: faults.flatMap { ["--inject", $0] })
    #expect(
      result.lines.prefix(6) == [
        "4 3", "3 b'abc\\x00' b'\\x00\\x00\\x00\\x00'", "b'dk' b'lm'", "3 b'opq'", "105", "5",
      ])
    #expect(result.lines.dropFirst(6).first == "False")  // the descriptor is gone all the same
    let injected = lines.filter(\.isStep).compactMap { line -> String? in
      guard let injection = line["injected"] as? [String: Any] else { return nil }
      return
        "\(injection["fault"] ?? "") \(injection["length"] as? Int ?? -1) \(line.errno ?? "\(line["result"] ?? "")")"
    }
    #expect(injected.contains("close:errno=EIO -1 EIO"))
    #expect(
      injected.filter { !$0.hasPrefix("close") } == [
        "writev:length=4:when=1 10 4", "sendmsg:length=3 4 3", "readv:length=3 8 3", "recvmsg:length=2 100 2",
        "sendto:errno=ENOBUFS -1 ENOBUFS",
      ])
    // As the program made it: with its own length, and its own vector.
    #expect(
      lines.contains {
        $0.callText.hasPrefix("writev(") && $0.callText.contains("iov_base=\"hij\", iov_len=3}], 4) = 4")
      })
  }

  /// A datagram that is read short is lost: they are left alone, and that is said.
  @Test func datagramsAreNotShortened() throws {
    let script = """
      import socket
      s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0))
      s.sendto(b"hello", s.getsockname()); print(s.recv(100))
      """
    let (lines, result) = try Script.story(
      script, options: ["--inject", "recv:length=1", "--inject", "sendto:length=2"])
    #expect(result.output == "b'hello'\n")
    let notes = lines.compactMap { $0["note"] as? String }
    #expect(
      notes.contains("--inject recvfrom:length=1: never done; there was none on a stream socket."))
  }

  /// Registers are as they were: a program of many different calls does the same as ever, whatever is shortened.
  @Test func theProgramDoesNotNotice() throws {
    let script = """
      import socket, threading, hashlib
      listener = socket.create_server(("127.0.0.1", 0))
      def serve():
          connection, _ = listener.accept()
          with connection, connection.makefile("rwb") as file:
              for line in file: file.write(line.upper()); file.flush()
      threading.Thread(target=serve).start()
      with socket.create_connection(listener.getsockname()) as client, client.makefile("rwb") as file:
          digest = hashlib.sha256()
          for number in range(200):
              file.write(b"line %d of the text\\n" % number); file.flush(); digest.update(file.readline())
          print(digest.hexdigest())
      """
    let plain = try Script.story(script).result
    let faults = [
      "recvfrom:length=3", "sendto:length=2:every=3", "sendto:errno=EINTR:every=7",
      "recvfrom:errno=EINTR:every=11",
    ]
    let injected = try Script.story(script, options: ["--summary"] + faults.flatMap { ["--inject", $0] })
      .result
    #expect(plain.status == 0 && injected.status == 0)
    #expect(plain.output.count == 65 && plain.output == injected.output)
  }

  @Test(arguments: [
    ("foo:errno=EIO", "'foo' is no call that is followed"), ("reed:length=1", "did you mean read?"),
    ("read", "says no fault; add :errno=NAME or :length=BYTES"), ("read:errno=EFOO", "'EFOO' is no errno"),
    ("read:length=0", "a whole number from 1 to 4294967295"),
    ("read:length=-1", "a whole number from 1 to 4294967295"),
    ("read:length=99999999999999999999", "a whole number from 1 to 4294967295"),
    ("listen:length=3", "listen has no length to shorten"),
    ("read:errno=EIO:length=1", "only one of errno= or length="),
    ("read:errno=EIO:when=2:every=3", "only one of when= or every="),
    ("read:length=1:evry=2", "did you mean every?"), ("read:length", "is not KEY=VALUE"),
    ("", "'' is no call"),
  ])
  func badSpecificationsAreExplained(specification: String, expected: String) throws {
    let result = try Program.run([Place.product("follow"), "--inject", specification, "--", "true"])
    #expect(result.status == 2)
    #expect(result.errors.contains(expected), "\(result.errors)")
    #expect(result.errors.filter { $0 == "\n" }.count == 1)
  }
}
