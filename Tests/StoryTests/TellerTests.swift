import CommandLineTool
import Foundation
import Glibc
import KernelState
import SystemCalls
import TestSupport
import Testing

@testable import Story
@testable import Tracing

@Suite struct PacketLadderTests {
  private func packet(_ from: UInt16, _ to: UInt16, _ flags: UInt8, sequence: UInt32 = 0, length: Int = 0)
    -> Packet
  {
    func port(_ port: UInt16) -> [UInt8] { [UInt8(port >> 8), UInt8(port & 255)] }
    func word(_ word: UInt32) -> [UInt8] { [24, 16, 8, 0].map { UInt8(word >> $0 & 255) } }
    let total = UInt16(40 + length)
    let ip = [0x45, 0] + port(total) + [0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]
    let tcp = port(from) + port(to) + word(sequence) + word(1) + [0x50, flags] + port(65535) + [0, 0, 0, 0]
    let bytes = ip + tcp + [UInt8](repeating: 0x61, count: length)
    guard let packet = Packet(bytes: bytes, time: 1) else { fatalError("not a packet") }
    return packet
  }

  private func draw(_ packets: [Packet], width: Int = 74) -> [String] {
    var ladder = PacketLadder()
    return ladder.lines(of: packets, width: width, color: false) { local, _ in
      local.port == 80 ? "fd 3" : "fd 4"
    }
  }

  @Test func whoDialsStandsOnTheLeft() {
    let lines = draw([packet(5000, 80, 2), packet(80, 5000, 0x12), packet(5000, 80, 0x10)])
    #expect(lines.count == 4)
    #expect(lines[0].contains("fd 4 :5000") && lines[0].contains(":80 fd 3"))
    #expect(lines[1].contains("SYN") && lines[1].contains("▶"))
    #expect(lines[2].contains("SYN ACK") && lines[2].contains("◀"))
    #expect(lines[3].contains("ACK") && lines[3].contains("▶"))
  }

  @Test(arguments: [34, 40, 60, 74, 94]) func nothingIsTooWide(width: Int) {
    for line in draw(
      [packet(50000, 80, 0x18, sequence: .max, length: 1400), packet(80, 50000, 0x14)], width: width)
    {
      #expect(line.count <= width, "\(line)")
    }
  }

  @Test func eachConnectionHasItsOwn() {
    let lines = draw([packet(5000, 80, 2), packet(6000, 80, 2), packet(80, 5000, 0x14)])
    #expect(lines.filter { $0.contains(":5000") || $0.contains(":6000") }.count == 2)
    #expect(lines.count == 5)
  }

  @Test func sequenceNumbersCountFromTheSYN() {
    var relative = RelativeSequences()
    let syn = relative.number(packet(5000, 80, 2, sequence: 4_294_967_295))
    let data = relative.number(packet(5000, 80, 0x18, sequence: 0, length: 3))
    #expect(syn.sequence == 0)
    #expect(data.sequence == 1)
  }
}

@Suite struct AdviceTests {
  private func step(_ systemCall: SystemCall, result: Int64, holder: String? = nil) -> Step {
    let call = Call(systemCall, CallArguments((3, 0, 0, 0, 0, 0)), process: 1, thread: 1, result: result)
    let text = CallText.Finished(call: "call()", result: "\(result)")
    return Step(
      number: 1, time: 0, call: call, text: text, shortText: text, before: [], after: [], meanwhile: [],
      changes: [],
      strayPackets: [], ownPackets: [], descriptors: DescriptorList(before: [], after: []), portHolder: holder
    )
  }

  @Test func failuresSayWhatToDo() {
    #expect(
      Advice.text(for: step(.bind, result: Int64(-EADDRINUSE), holder: "nc, pid 7, has the port"))?.hasPrefix(
        "nc, pid 7") == true)
    #expect(Advice.text(for: step(.connect, result: Int64(-ECONNREFUSED)))?.contains("RST") == true)
    // Whether it was the socket or a timeout, EAGAIN alone does not say.
    #expect(Advice.text(for: step(.recvfrom, result: Int64(-EAGAIN))) == nil)
    #expect(Advice.text(for: step(.bind, result: 0)) == nil)
  }
}

@Suite struct OverviewTests {
  @Test func aStoryOfDaysKeepsItsEnd() throws {
    var overview = Overview()
    for number in 1...500 {
      let call = Call(
        .socket, CallArguments((2, 1, 0, 0, 0, 0)), process: 1, thread: 1, result: Int64(-EMFILE))
      let text = CallText.Finished(call: "socket()", result: "-1")
      overview.add(
        Step(
          number: number, time: 0, call: call, text: text, shortText: text, before: [], after: [],
          meanwhile: [],
          changes: [],
          strayPackets: [], ownPackets: [], descriptors: DescriptorList(before: [], after: []),
          portHolder: nil), owner: { _ in nil })
    }
    let lines = overview.lines(width: 80, color: false)
    #expect(lines.count < 70)
  }
}

@Suite struct CallWrappingTests {
  /// A line's end changes nothing of what a call moved.
  @Test(
    arguments: [
      #"send(4, "hello   world  \377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377", 34, 0, NULL, 0)"#,
      #"read(10, "\17\0\0\0\0\0 \25 a, b \" c \\\n\r\0\0\0\0\0\0\0\0\0\0\0\0"..., 128)"#,
      #"connect(3, {AF_INET, 127.0.0.1:80}, 16)"#,
    ], [20, 33, 40, 74])
  func nothingIsLost(call: String, width: Int) {
    let lines = call.wrappedCall(to: width)
    for line in lines { #expect(line.count <= width) }
    var rest = call[...]
    for (number, line) in lines.enumerated() {
      if number > 0 { #expect(line.hasPrefix("    ")) }
      let piece = number == 0 ? line : String(line.dropFirst(4))
      #expect(rest.hasPrefix(piece), "\(lines)")
      rest = rest.dropFirst(piece.count)
      // Between two arguments stands one space, which the line's end replaces.
      if rest.hasPrefix(" "), !isInQuotes(call, before: rest.startIndex) { rest = rest.dropFirst() }
      // No escape is cut.
      #expect(rest.isEmpty || !endsInEscape(piece, rest), "\(lines)")
    }
    #expect(rest.isEmpty)
  }

  private func isInQuotes(_ text: String, before end: String.Index) -> Bool {
    text[..<end].replacing("\\\\", with: "").replacing("\\\"", with: "").filter { $0 == "\"" }.count % 2 == 1
  }

  private func endsInEscape(_ piece: String, _ rest: Substring) -> Bool {
    let tail = piece.suffix(4)
    guard let slash = tail.lastIndex(of: "\\"), let next = rest.first else { return false }
    let digits = tail[tail.index(after: slash)...]
    if digits.isEmpty { return !piece.hasSuffix("\\\\") }
    return digits.allSatisfy { ("0"..."7").contains($0) } && digits.count < 3 && ("0"..."7").contains(next)
  }
}
