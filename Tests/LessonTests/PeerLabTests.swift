import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// The labs on a peer that vanishes, a socket that connects to itself, and wake-ups: their verdicts, against `ss`, `strace` and what
/// Python reads in /proc; and what they say where the effect does not occur.
@Suite struct PeerLabTests {
  // --- half open ---

  @Test(.enabled(if: Witness.have("ss", "nsenter") && Witness.havePython))
  func aHalfOpenConnectionIsWhatSSSays() throws {
    let run = try LabRun("lab-half-open")
    let broken = try run.pause { $0.isVerdict("broken") }
    let (server, rows) = (try #require(run.listener), try SSRow.all(inNetworkOf: run.network))
    let own = rows.filter { $0.local == server && $0.state == "ESTABLISHED" }
    // Of four servers' ends two are left: one that nobody looks after, and one that sends again.
    #expect(own.count == 2)
    let silent = try #require(own.first { !$0.rest.contains("timer:(") })
    #expect(!rows.contains { $0.local == silent.peer }, "its client is still there")
    #expect(silent.sendQueue == 0)
    let trying = try #require(own.first { $0.rest.contains("timer:(on,") })
    #expect(trying.sendQueue == 5)
    // "timer:(on,1.2sec,3)"; meanwhile it may have run out once more.
    let again = try #require(
      trying.rest.firstMatch(of: /timer:\(on,[^,]*,(\d+)\)/).flatMap { Int($0.output.1) })
    let told = try #require(broken.firstMatch(of: /run out (\d+) times/).flatMap { Int($0.output.1) })
    #expect((told...told + 2).contains(again))
    // The sum that the manual has for the default of 15 attempts.
    #expect(broken.contains("15 times (tcp_retries2), or 924 s"))
    // In a network of its own the kernel has counted nothing but this, and what it has sent again meanwhile.
    for name in ["TcpRetransSegs", "TcpExtTCPTimeouts", "TcpExtTCPKeepAlive", "TcpExtTCPMinTTLDrop"] {
      let said = try #require(
        run.said.joined(separator: "\n").firstMatch(of: try Regex("\(name) +\\+(\\d+)")))
      let number = try #require(said.output[1].substring.flatMap { Int($0) })
      #expect((number...number + 3).contains(try run.counter(name)), "\(name)")
    }
    // Which connections the kernel has ended, the other clients' ends do not know.
    #expect(rows.filter { $0.peer == server && $0.state == "ESTABLISHED" }.count == 3)

    let cured = try run.pause { $0.isVerdict("cured") }
    let after = try SSRow.all(inNetworkOf: run.network)
    #expect(try run.counter("TcpExtTCPAbortOnTimeout") == 2)
    #expect(cured.contains("TcpExtTCPAbortOnTimeout +2"))
    #expect(after.filter { $0.local == server && $0.state == "ESTABLISHED" }.map(\.peer) == [trying.peer])
    #expect(after.first { $0.local == trying.peer }?.receiveQueue == 4)
    // A second and another one, and 1000 ms: not before, and what came later the machine was busy with.
    let times = cured.matches(of: /after (\d+) ms/).compactMap { Int($0.output.1) }
    #expect(times.count == 2 && times[0] >= 1990 && times[1] >= 990, "\(cured)")
    #expect(try run.finish() == 0)
  }

  /// The errors are what strace sees, too.
  @Test(.enabled(if: Witness.have("strace"))) func straceSeesTheErrors() throws {
    let calls = try Strace.socketCalls(
      of: [Place.product("lab-half-open"), "--bare"], within: Course.alone
    ).flatMap(\.value)
    let failed = calls.filter { $0.contains("= -1 ") }
    #expect(failed.count == 3)
    #expect(failed.filter { $0.hasPrefix("read(") && $0.contains("ETIMEDOUT") }.count == 2)
    #expect(failed.filter { $0.hasPrefix("read(") && $0.contains("ECONNRESET") }.count == 1)
  }

  /// A kernel that gives up after one attempt: whoever sends needs no cure, and the lab says that it cannot show one.
  @Test(.enabled(if: Privilege.isRoot && Witness.have("unshare", "ip")), arguments: [true, false])
  func aHastyKernelIsNotHalfOpen(bare: Bool) throws {
    // Under the narrator the lab would make a network of its own, with settings of its own, were it not refused.
    let script = """
      ip link set lo up && echo 1 >/proc/sys/net/ipv4/tcp_retries2 && echo 0 >/proc/sys/user/max_net_namespaces && exec "$0" "$1"
      """
    let result = try Program.run([
      "unshare", "-Urn", "/bin/sh", "-c", script, Place.product("lab-half-open"),
      bare ? "--bare" : "--no-step",
    ])
    #expect(result.status == 1)
    #expect(
      result.errors.contains("cannot show what this lab is about: poll has heard of"), "\(result.errors)")
    #expect(!result.output.contains("broken:"))
  }

  // --- self connect ---

  @Test(.enabled(if: Witness.have("ss", "nsenter"))) func aSelfConnectionIsOneSocket() throws {
    let run = try LabRun("lab-self-connect")
    let broken = try run.pause { $0.isVerdict("broken") }
    let rows = try SSRow.all(inNetworkOf: run.network).filter { $0.state == "ESTABLISHED" }
    #expect(rows.count == 1)
    let only = try #require(rows.first)
    #expect(only.local == only.peer)
    let port = try #require(only.local.split(separator: ":").last)
    #expect(broken.contains("ESTABLISHED, from port \(port) to port \(port)"))
    #expect(broken.contains("1 row "))

    let cured = try run.pause { $0.isVerdict("cured") }
    let after = try SSRow.all(inNetworkOf: run.network)
    #expect(after.contains { $0.state == "LISTEN" && $0.local == "127.0.0.1:\(port)" })
    let ends = after.filter { $0.state == "ESTABLISHED" }
    #expect(ends.count == 2 && ends.allSatisfy { $0.local != $0.peer })
    #expect(Set(ends.map(\.local)) == Set(ends.map(\.peer)))
    #expect(!after.contains { $0.state == "TIME_WAIT" })
    #expect(cured.contains("listens on port \(port)") && cured.contains("2 rows"))
    #expect(try run.finish() == 0)
  }

  /// A port outside the range: the effect is not there, with a narrator or without, and nothing is said to be broken.
  @Test(.enabled(if: Privilege.isRoot && Witness.have("unshare", "ip")), arguments: ["--no-step", "--bare"])
  func outsideTheRangeThereIsNoSelfConnection(option: String) throws {
    let range = try #require(text(ofFile: "/proc/sys/net/ipv4/ip_local_port_range"))
    let low = try #require(range.split(whereSeparator: \.isWhitespace).first.flatMap { Int($0) })
    let result = try Program.run(
      inItsOwnNetwork([Place.product("lab-self-connect"), "--port", "\(low - 2)", option]))
    #expect(result.status == 1)
    #expect(
      result.errors.contains("cannot show what this lab is about: port \(low - 2) is outside"),
      "\(result.errors)")
    #expect(!result.output.contains("broken:"))
  }

  /// So it is where the administrator has moved the range, and where the port was reserved for its server.
  @Test(
    .enabled(if: Privilege.isRoot && Witness.have("unshare", "ip")),
    arguments: [
      (
        "echo 40000 41000 >/proc/sys/net/ipv4/ip_local_port_range", "port 50000 is outside 40000 to 41000"
      ),
      ("echo 50000 >/proc/sys/net/ipv4/ip_local_reserved_ports", "is that one of ip_local_reserved_ports?"),
    ])
  func theServersCureHelps(command: String, reason: String) throws {
    let script = "ip link set lo up && \(command) && exec \"$0\" --bare --port 50000"
    let result = try Program.run([
      "unshare", "-n", "/bin/sh", "-c", script, Place.product("lab-self-connect"),
    ])
    #expect(result.status == 1)
    #expect(result.errors.contains("cannot show what this lab is about"), "\(result.errors)")
    #expect(result.errors.contains(reason), "\(result.errors)")
    #expect(!result.output.contains("broken:"))
  }

  /// What the text says of dials that nobody narrows, by a client that is none of ours.
  @Test(.enabled(if: Privilege.isRoot && Witness.havePython && Witness.have("unshare", "ip")))
  func plainDialsGetThere() throws {
    let script = """
      import socket
      for dial in range(400000):
          client = socket.socket()
          try: client.connect(("127.0.0.1", 50000)); break
          except ConnectionRefusedError: client.close()
      print(client.getsockname() == client.getpeername() == ("127.0.0.1", 50000))
      """
    let result = try Program.run(inItsOwnNetwork([try #require(Witness.python), "-c", script]))
    #expect(result.output == "True\n", "\(result.errors)")
  }

  // --- wake-ups ---

  /// Who was woken, Python reads at the pauses; who got something, the story has and strace has.
  @Test(.enabled(if: Witness.havePython)) func wakeUpsAreWhatPythonCounts() throws {
    let run = try LabRun("lab-wakeups")
    _ = try run.pause { $0.call == "socket" && $0["result"] as? Int == 8 }
    let asleep = try run.switches()
    #expect(asleep.count == 4)
    let broken = try run.pause { $0.isVerdict("broken") }
    let woken = try run.switches().filter { $0.value > asleep[$0.key] ?? .max }.count
    #expect(woken == 4)
    #expect(broken.contains("For one connection \(woken) of 4 threads were woken"))
    #expect(run.results("epoll_wait") == ["1", "1", "1", "1"])
    #expect(run.results("accept4") == ["9", "EAGAIN", "EAGAIN", "EAGAIN"])

    _ = try run.pause { $0.call == "socket" && $0["result"] as? Int == 10 }
    let again = try run.switches()
    _ = try run.pause { $0.call == "epoll_wait" }
    // The next pause is at the socket of the second client.
    _ = try run.pause { $0.call == "socket" }
    let one = try run.switches().filter { $0.value > again[$0.key] ?? .max }.count
    #expect(one == 1)
    let cured = try run.pause { $0.isVerdict("cured") }
    #expect(cured.contains("one connection woke \(one) of 4 threads"))
    #expect(run.results("accept4").dropFirst(4).allSatisfy { $0 != "EAGAIN" })
    #expect(try run.finish() == 0)
  }

  /// The narrator neither makes the effect nor hides it.
  @Test(.enabled(if: Witness.have("strace"))) func wakeUpsAreTheSameWithoutTheNarrator() throws {
    let threads = try Strace.socketCalls(of: [Place.product("lab-wakeups"), "--bare"], within: Course.alone)
    let waits = threads.values.map { calls in calls.filter { $0.hasPrefix("epoll_wait(") } }.filter {
      !$0.isEmpty
    }
    #expect(waits.count == 4 && waits.allSatisfy { $0.count == 2 })
    let accepts = threads.values.flatMap { calls in calls.filter { $0.hasPrefix("accept4(") } }
    #expect(accepts.count == 8)
    #expect(accepts.filter { $0.contains("EAGAIN") }.count == 3)
  }

  /// Somebody else has the same listening socket, and is quicker: nobody gets anything, and the lab does not pretend.
  @Test(.enabled(if: Witness.havePython)) func aStolenConnectionIsNoProof() throws {
    let run = try LabRun("lab-wakeups")
    _ = try run.pause { line in line.call == "epoll_wait" && run.results("epoll_wait").count == 4 }
    // The program stands before its first accept4.
    let script = """
      import ctypes, os, socket, sys
      process = os.pidfd_open(int(sys.argv[1]))
      libc = ctypes.CDLL(None, use_errno=True)
      number = libc.syscall(438, process, 3, 0)
      if number < 0: sys.exit(os.strerror(ctypes.get_errno()))
      socket.socket(fileno=number).accept()
      """
    let thief = try Program.run([try #require(Witness.python), "-c", script, "\(run.process)"])
    #expect(thief.status == 0, "\(thief.errors)")
    #expect(try run.finish() == 1)
    #expect(
      run.errors.contains(
        "cannot show what this lab is about: of 4 threads 0 have accepted the one connection"))
    #expect(!run.isBroken)
  }
}
