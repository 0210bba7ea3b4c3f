import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `--isolated`: a network of its own.
@Suite(.enabled(if: Isolation.isPossible)) struct IsolationTests {
  private func asOrdinaryUser<Result>(_ body: ([String], String) throws -> Result) throws -> Result {
    let setpriv = try #require(Witness.path("setpriv"))
    return try Place.withTemporaryFolder { folder in
      for name in ["lesson2-bind", "lesson3-listen", "follow"] {
        #expect(try Program.run(["/bin/cp", Place.product(name), folder]).status == 0)
      }
      return try body(
        [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"], folder)
    }
  }

  @Test(.enabled(if: Privilege.isRoot && Witness.have("setpriv"))) func anOrdinaryUserSeesPackets() throws {
    try asOrdinaryUser { user, folder in
      let result = try Program.run(user + ["\(folder)/lesson3-listen", "--isolated", "--format", "json"])
      #expect(result.status == 0, "\(result.errors)")
      let lines = try StoryLine.all(result.output)
      #expect(lines.flatMap(\.packets).count == 7)
      #expect(!lines.contains { $0["note"] != nil })
    }
  }

  /// Users keep their numbers and get no capability: EACCES is what it always is. A low port that is asked for is allowed.
  @Test(.enabled(if: Privilege.isRoot && Witness.have("setpriv"))) func lowPortsKeepTheirRule() throws {
    try asOrdinaryUser { user, folder in
      for words in [["--isolated"], ["--isolated", "--bare"]] {
        let result = try Program.run(user + ["\(folder)/lesson2-bind"] + words)
        #expect(result.status == 0, "\(result.errors)")
        #expect(result.output.contains("EACCES: this process has no such capability."))
      }
      let low = try Program.run(
        user + ["\(folder)/lesson3-listen", "--isolated", "--port", "80", "--format", "json"])
      #expect(low.status == 0, "\(low.errors)")
      #expect(
        try StoryLine.all(low.output).flatMap(\.sockets).contains {
          $0.state == "LISTEN" && $0.local == "127.0.0.1:80"
        })
    }
  }

  /// What the hint says works, and shows what nobody outside sees.
  @Test(.enabled(if: Witness.have("nsenter", "ss"))) func theHintLeadsInside() throws {
    let program = try Program(
      [Place.product("lesson3-listen"), "--isolated"], onTerminal: true, outputOnTerminal: true, columns: 200)
    var position = 0
    for _ in 0..<6 {
      position = try program.waitForTerminal("q: quit", from: position)
      program.press("\n")
    }
    try program.waitForTerminal("nc 127.0.0.1", from: position)
    let shown = String(decoding: program.terminalBytes.dropFirst(position), as: UTF8.self)
    let command = try #require(
      shown.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }.first {
        $0.hasPrefix("nsenter -t ") && $0.contains(" ss ")
      })
    let inside = try Program.run(["/bin/sh", "-c", command])
    #expect(inside.status == 0, "\(command): \(inside.errors)")
    #expect(inside.output.contains("LISTEN"))
    let port = try #require(command.firstMatch(of: /:(\d+)/)?.output.1)
    #expect(try !SSRow.all().contains { $0.state == "LISTEN" && $0.local == "127.0.0.1:\(port)" })
    program.press("q")
    #expect(try program.finish().status == 0)
  }

  /// Where it is forbidden, one line says so, and how to allow it.
  @Test(.enabled(if: Witness.have("unshare"))) func whereItIsForbidden() throws {
    let script =
      "cd /proc/sys/user && echo 0 >max_net_namespaces && echo 0 >max_user_namespaces && exec \"$0\" --isolated"
    let result = try Program.run(["unshare", "-Ur", "/bin/sh", "-c", script, Place.product("lesson3-listen")])
    #expect(result.status == 1)
    #expect(result.output == "")
    #expect(result.errors.hasPrefix("lesson3-listen: --isolated is not possible here (unshare"))
    #expect(
      result.errors.contains("sysctl user.max_net_namespaces=10000 user.max_user_namespaces=10000"))
    #expect(result.errors.filter { $0 == "\n" }.count == 1)
  }

  /// Root keeps its powers: over other users' files, for one.
  @Test(.enabled(if: Privilege.isRoot)) func rootStaysRoot() throws {
    try Place.withTemporaryFolder { folder in
      let file = try Place.file("secret", in: folder, "hi\n")
      #expect(chown(file, 65534, 65534) == 0 && chmod(file, 0o600) == 0)
      let result = try Program.run([
        Place.product("follow"), "--isolated", "-o", "/dev/null", "--", "cat", file,
      ])
      #expect(result.output == "hi\n", "\(result.errors)")
    }
  }

  @Test func followHasOneToo() throws {
    let place = "/proc/self/ns/net"
    let result = try Program.run([
      Place.product("follow"), "--isolated", "-o", "/dev/null", "--", "readlink", place,
    ])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.lines.first?.hasPrefix("net:[") == true)
    #expect(result.lines.first != destination(ofLink: place))
  }
}
