import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `--pcap`: what tshark, which knows nothing of the toolkit, reads in the file.
@Suite(.enabled(if: Privilege.canTap && Witness.have("tshark"))) struct CaptureTests {
  private func read(_ file: String) throws -> [[String]] {
    let tshark = try #require(Witness.path("tshark"))
    let fields = ["frame.time_epoch", "tcp.srcport", "tcp.dstport", "tcp.flags", "tcp.len", "frame.comment"]
    let result = try Program.run([tshark, "-n", "-r", file, "-T", "fields"] + fields.flatMap { ["-e", $0] })
    #expect(result.status == 0, "\(result.errors)")
    return result.lines.filter { !$0.isEmpty }.map {
      $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
    }
  }

  @Test(arguments: Course.lessons.dropFirst(2)) func tsharkReadsTheStorysPackets(lesson: String) throws {
    try Place.withTemporaryFolder { folder in
      let file = "\(folder)/run.pcapng"
      let lines = try Course.story(lesson, ["--pcap", file])
      let bits = ["FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128]
      var told: [[String]] = []
      var last = 0
      for line in lines {
        if line.isStep { last = line["step"] as? Int ?? 0 }
        for packet in line.packets {
          let time = packet["time"] as? UInt64 ?? 0
          let nanoseconds = "\(time % 1_000_000_000)"
          func port(_ end: String) -> String {
            String((packet[end] as? String ?? "").split(separator: ":").last ?? "")
          }
          let flags = (packet["flags"] as? [String] ?? []).reduce(0) { $0 | (bits[$1] ?? 0) }
          told.append([
            "\(time / 1_000_000_000).\(String(repeating: "0", count: 9 - nanoseconds.count))\(nanoseconds)",
            port("from"), port("to"), "0x00" + (flags < 16 ? "0" : "") + String(flags, radix: 16),
            "\(packet["length"] ?? "")",
            comment(packet, line, last),
          ])
        }
      }
      let heard = try read(file)
      #expect(told.count >= 5)
      #expect(heard.count == told.count)
      for (one, other) in zip(told, heard) {
        #expect(one.prefix(5) == other.prefix(5))
        // tshark escapes quotes and backslashes in its own way.
        let plain: (String) -> String = { $0.replacing("\\\\", with: "\\").replacing("\\\"", with: "\"") }
        #expect(plain(other[5]) == plain(one[5]))
      }
    }
  }

  /// What a packet's comment has to be: the step, if it passed from the call's beginning on.
  private func comment(_ packet: [String: Any], _ line: StoryLine, _ last: Int) -> String {
    guard line.isStep else { return "after step \(last), at the program's end" }
    let isLate = packet["time"] as? UInt64 ?? 0 >= line["time"] as? UInt64 ?? 0
    let isSender = ["connect", "write", "sendto", "close", "shutdown"].contains(line.call)
    return isLate
      ? (isSender ? "" : "during ") + "step \(last): \(line.callText)"
      : "before step \(last), and not its doing"
  }

  /// A run that is broken off leaves a file that can be read up to there.
  @Test func aBrokenRunLeavesAWholeFile() throws {
    try Place.withTemporaryFolder { folder in
      let file = "\(folder)/run.pcapng"
      let program = try Program(
        [Place.product("lesson3-listen"), "--pcap", file], onTerminal: true, outputOnTerminal: true)
      var position = 0
      for _ in 0..<6 {
        position = try program.waitForTerminal("q: quit", from: position)
        program.press("\n")
      }
      try program.waitForTerminal("q: quit", from: position)
      program.send(SIGKILL)
      _ = try program.finish()
      let heard = try read(file)
      #expect(heard.count == 2)
      #expect(heard.allSatisfy { $0[5].hasPrefix("step 5: connect(") })
    }
  }

  @Test func aFileThatCannotBeWritten() throws {
    let missing = try Program.run([Place.product("lesson3-listen"), "--pcap", "/nonexistent/run.pcapng"])
    #expect(missing.status == 1 && missing.output == "")
    #expect(
      missing.errors
        == "lesson3-listen: cannot write the packets to /nonexistent/run.pcapng: ENOENT (No such file or directory)\n"
    )
    let full = try Program.run([Place.product("lesson3-listen"), "--no-step", "--pcap", "/dev/full"])
    #expect(full.status == 0)
    #expect(
      full.errors
        == "lesson3-listen: /dev/full is not whole, it could not be written: ENOSPC (No space left on device)\n"
    )
    #expect(full.output.contains("LISTEN 1/4096"))
  }

  /// No packets, no capture: said before anything is done.
  @Test(.enabled(if: Privilege.isRoot && Witness.have("setpriv"))) func withoutPackets() throws {
    let setpriv = try #require(Witness.path("setpriv"))
    try Place.withTemporaryFolder { folder in
      chmod(folder, 0o777)
      #expect(try Program.run(["/bin/cp", Place.product("lesson3-listen"), folder]).status == 0)
      let user = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
      let file = "\(folder)/run.pcapng"
      let result = try Program.run(user + ["\(folder)/lesson3-listen", "--pcap", file])
      #expect(result.status == 1 && result.output == "")
      #expect(result.errors.contains("it needs CAP_NET_RAW, which root has, or --isolated"))
      guard Isolation.isPossible else { return }
      let isolated = try Program.run(
        user + ["\(folder)/lesson3-listen", "--isolated", "--no-step", "--pcap", file])
      #expect(isolated.status == 0)
      #expect(try read(file).count == 7)
    }
  }
}
