import CLinux
import Foundation
import Glibc
import Testing

@testable import Tracing

/// A stop that was recorded: the arguments, the memory at entry and exit, the result, and what strace printed.
struct RecordedStop {
  let number: Int
  let arguments: CallArguments
  let entry: RecordedMemory
  let result: Int64
  let exit: RecordedMemory
  let strace: String

  init(line: String) throws {
    let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    number = try #require(object["number"] as? Int)
    let words = try #require(object["arguments"] as? [String]).map { UInt64($0) ?? 0 }
    try #require(words.count == 6)
    arguments = CallArguments((words[0], words[1], words[2], words[3], words[4], words[5]))
    entry = RecordedMemory(try #require(object["entry"] as? [String: String]))
    exit = RecordedMemory(try #require(object["exit"] as? [String: String]))
    result = try #require((object["result"] as? NSNumber)?.int64Value)
    strace = try #require(object["strace"] as? String)
  }
}

struct RecordedMemory: ProgramMemory {
  private let regions: [(start: UInt64, bytes: [UInt8])]

  init(_ regions: [String: String]) {
    self.regions = regions.map { address, hex in
      var bytes: [UInt8] = []
      var rest = hex[...]
      while rest.count >= 2 {
        bytes.append(UInt8(rest.prefix(2), radix: 16) ?? 0)
        rest = rest.dropFirst(2)
      }
      return (UInt64(address.dropFirst(2), radix: 16) ?? 0, bytes)
    }
  }

  func read(_ address: UInt64, _ count: Int) -> [UInt8] {
    for region in regions where address >= region.start && address < region.start + UInt64(region.bytes.count)
    {
      return Array(region.bytes[Int(address - region.start)...].prefix(count))
    }
    return []
  }
}

@Suite struct CallTextTests {
  /// 91 stops of a real arm64 kernel (Linux 6.1, emulated), each with the line that strace 6.1 printed of the same call in
  /// a run of its own. `Recorded/README.md` says how they were made.
  @Test func arm64StopsReadAsStracePrintsThem() throws {
    let path = "\(#filePath.split(separator: "/").dropLast().joined(separator: "/"))"
    let text = try String(contentsOfFile: "/\(path)/Recorded/arm64-stops.jsonl", encoding: .utf8)
    let stops = try text.split(separator: "\n").map { try RecordedStop(line: String($0)) }
    #expect(stops.count == 91)
    for stop in stops {
      let name = try #require(Architecture.arm64.systemCall(number: stop.number), "call \(stop.number)")
      let call = Call(name, stop.arguments)
      let text = CallText(call, memory: stop.entry, architecture: .arm64)
      let line = text.finished(result: stop.result, memory: stop.exit).line
      #expect(Self.comparable(line) == Self.comparable(stop.strace))
    }
  }

  /// strace pads before " = "; times that were left and TCP's clocks differ between the two runs; a timeout option is
  /// decoded here and not by strace 6.1; of io_uring only the flags are.
  private static func comparable(_ line: String) -> String {
    var line = line.replacing(/\) +=/, with: ") =")
    line = line.replacing(/left \{tv_sec=\d+, tv_nsec=\d+\}/, with: "left")
    line = line.replacing(
      /(TCP_INFO|SO_RCVTIMEO_OLD), (".*"(\.\.\.)?|\{[^}]*\}),/, with: { "\($0.output.1), …," })
    return line.replacing(/(flags=IORING_SETUP_\w+), .*\}\)/, with: { "\($0.output.1), ...})" })
  }

  private struct NoMemory: ProgramMemory {
    func read(_: UInt64, _: Int) -> [UInt8] { [] }
  }

  private struct Noise: ProgramMemory {
    let seed: UInt64
    func read(_ address: UInt64, _ count: Int) -> [UInt8] {
      var state = seed ^ address
      return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 33)
      }
    }
  }

  /// A program may pass anything: no pointer, a bad pointer, a size of 2^64 - 1.
  @Test func everyCallSurvivesEveryArgument() {
    let values: [UInt64] = [0, 1, 3, 4096, 0x7fff_ffff, 0xffff_ffff, 1 << 63, .max]
    for systemCall in SystemCall.allCases {
      for architecture in Architecture.allCases {
        for (index, value) in values.enumerated() {
          let other = values[(index * 3 + 1) % values.count]
          let call = Call(systemCall, CallArguments((value, other, value, other, value, other)))
          for memory: any ProgramMemory in [NoMemory(), Noise(seed: value)] {
            let text = CallText(call, memory: memory, architecture: architecture)
            for result: Int64 in [0, 1, 33, -1, -11, -512, .max, .min] {
              #expect(text.finished(result: result, memory: memory).line.hasPrefix(systemCall.name))
            }
          }
        }
      }
    }
  }

  @Test func dataIsEscapedAsInC() {
    func quoted(_ bytes: [UInt8]) -> String { DataText.quoted(bytes, isCut: false) }
    #expect(quoted(Array("a\"b\\c\n".utf8)) == #""a\"b\\c\n""#)
    #expect(quoted([0, 0x31]) == #""\0001""#)
    #expect(quoted([0, 0x39, 0xff]) == #""\09\377""#)
    #expect(DataText.quoted([0x61], isCut: true) == #""a"..."#)
  }

  @Test func shortAddresses() {
    struct Address: ProgramMemory {
      func read(_: UInt64, _ count: Int) -> [UInt8] {
        Array(([2, 0, 0x1f, 0x90, 127, 0, 0, 1] as [UInt8] + [UInt8](repeating: 0, count: 8)).prefix(count))
      }
    }
    let call = Call(.connect, CallArguments((4, 4096, 16, 0, 0, 0)))
    let text = CallText(call, memory: Address(), style: .short)
    #expect(
      text.finished(result: 0, memory: Address()).line == "connect(4, {AF_INET, 127.0.0.1:8080}, 16) = 0")
  }
}

@Suite struct ArchitectureTests {
  /// The kernel's own headers bear witness.
  @Test func x86NumbersAreThoseOfTheHeaders() throws {
    try compare(.amd64, header: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
  }

  @Test func arm64NumbersAreThoseOfTheHeaders() throws {
    try compare(.arm64, header: "/usr/include/asm-generic/unistd.h")
  }

  private func compare(_ architecture: Architecture, header: String) throws {
    guard let text = try? String(contentsOfFile: header, encoding: .utf8) else {
      // On another processor one of the two is missing; a Swift toolchain needs its own.
      #expect(architecture != .native, "\(header) is missing")
      return
    }
    var numbers: [String: Int] = [:]
    for line in text.split(separator: "\n") {
      let words = line.split(whereSeparator: \.isWhitespace)
      guard words.count >= 3, words[0] == "#define" else { continue }
      for prefix in ["__NR3264_", "__NR_"] where words[1].hasPrefix(prefix) {
        if let number = Int(words[2]) { numbers[String(words[1].dropFirst(prefix.count))] = number }
      }
    }
    for call in SystemCall.allCases {
      // A header may be older than the call.
      if let number = architecture.number(of: call), numbers[call.name] != nil {
        #expect(numbers[call.name] == number, "\(call)")
      }
      if architecture.number(of: call) == nil { #expect(numbers[call.name] == nil, "\(call)") }
    }
  }

  /// The filter is run here as the kernel would run it.
  @Test(arguments: Architecture.allCases)
  func filterPicksTheCallsAndNoOthers(architecture: Architecture) {
    let audit = architecture == .amd64 ? CLINUX_AUDIT_ARCH_X86_64 : CLINUX_AUDIT_ARCH_AARCH64
    let program = SocketFilter.program(for: architecture)
    func run(_ number: UInt32, _ arch: UInt32) -> UInt32 {
      var accumulator: UInt32 = 0
      var place = 0
      while true {
        let instruction = program[place]
        place += 1
        switch Int32(instruction.code) {
        case BPF_LD | BPF_W | BPF_ABS: accumulator = instruction.k == 0 ? number : arch
        case BPF_JMP | BPF_JEQ | BPF_K:
          place += Int(accumulator == instruction.k ? instruction.jt : instruction.jf)
        default: return instruction.k
        }
      }
    }
    for number in 0..<600 {
      let isOurs = architecture.systemCall(number: number) != nil
      let answer = run(UInt32(number), audit)
      #expect(answer == (isOurs ? CLINUX_SECCOMP_RET_TRACE : CLINUX_SECCOMP_RET_ALLOW))
      #expect(run(UInt32(number), audit ^ 1) == CLINUX_SECCOMP_RET_ALLOW)
    }
  }
}
