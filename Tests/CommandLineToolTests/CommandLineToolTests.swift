import CommandLineTool
import Foundation
import Testing

@Suite struct CommandLineSyntaxTests {
  private let syntax = CommandLineSyntax(
    command: "tool", purpose: "Does a thing.",
    options: [
      .init("bare", help: "no narrator"), .init("port", short: "p", value: "N", help: "the port"),
      .init("format", choices: ["text", "json"], help: "how"),
    ])

  @Test func takesWhatItKnows() throws {
    let arguments = try syntax.parse(["--bare", "--port=80", "--format", "json"])
    #expect(arguments.has("bare"))
    #expect(try arguments.number("port", in: 0...65535) == 80)
    #expect(arguments["format"] == "json")
    #expect(try syntax.parse(["-p", "7"])["port"] == "7")
  }

  @Test(arguments: [
    (["--prot", "1"], "there is no option --prot; did you mean --port?"),
    (["--zzz"], "there is no option --zzz"),
    (["--port"], "--port needs a value: N"),
    (["--bare=1"], "--bare takes no value"),
    (["--format", "xml"], "--format is text, json, not 'xml'"),
    (["extra"], "'extra' was not expected; options begin with --"),
    (["--", "extra"], "'extra' was not expected"),
  ])
  func saysWhatMadeNoSense(words: [String], message: String) {
    let complaint = #expect(throws: Complaint.self) { try syntax.parse(words) }
    #expect(complaint?.description == "\(message) (--help lists what there is)")
    #expect(complaint?.status == 2)
  }

  @Test(arguments: ["70000", "-1", "x", "", "99999999999999999999"])
  func refusesNumbersOutOfRange(value: String) throws {
    let arguments = try syntax.parse(["--port", value])
    let complaint = #expect(throws: Complaint.self) { try arguments.number("port", in: 0...65535) }
    #expect(complaint?.description.contains("from 0 to 65535, not '\(value)'") == true)
  }

  @Test func operandsEndTheOptions() throws {
    let syntax = CommandLineSyntax(
      command: "tool", purpose: "", options: [.init("x", help: "")], operands: "COMMAND")
    #expect(try syntax.parse(["--x", "--", "ls", "--x"]).operands == ["ls", "--x"])
    #expect(try syntax.parse(["ls", "-l"]).operands == ["ls", "-l"])
    #expect(try syntax.parse([]).operands.isEmpty)
    let mixed = CommandLineSyntax(
      command: "tool", purpose: "", options: [.init("x", help: "")], operands: "A B", mixesOperands: true)
    let both = try mixed.parse(["a", "--x", "b", "--", "--x"])
    #expect(both.operands == ["a", "b", "--x"] && both.has("x"))
  }

  @Test(arguments: [40, 80, 200])
  func helpFits(width: Int) {
    let help = syntax.help(width: width)
    for line in help.split(separator: "\n") { #expect(line.count <= max(width, 60)) }
    #expect(help.contains("--port N"))
    #expect(help.contains("--help"))
  }
}

@Suite struct JSONTests {
  @Test func whatFoundationReadsIsWhatWasMeant() throws {
    let text = "quote \" backslash \\ newline \n tab \t nul \0 delete \u{7f} é 🙂"
    let value = JSON.object([
      .init("text", .string(text)), .init("large", .unsigned(.max)), .init("small", .integer(.min)),
      .init("list", .array([.null, .boolean(true), .number(7)])),
    ])
    #expect(!value.line.contains("\n"))
    let read = try #require(try JSONSerialization.jsonObject(with: Data(value.line.utf8)) as? [String: Any])
    #expect(read["text"] as? String == text)
    #expect((read["large"] as? NSNumber)?.uint64Value == .max)
    #expect((read["small"] as? NSNumber)?.int64Value == .min)
    #expect((read["list"] as? [Any])?.count == 3)
  }
}

@Suite struct LayoutTests {
  @Test func wrapsAtSpaces() {
    #expect("one two three".wrapped(to: 7) == ["one two", "three"])
    #expect("averylongword x".wrapped(to: 5) == ["avery", "longw", "ord x"])
    #expect("".wrapped(to: 5) == [""])
    #expect("a\nb".wrapped(to: 5) == ["a", "b"])
  }

  @Test func wordsFromElsewhereDoNotSteerTheTerminal() {
    #expect("a\u{1b}[2Jb\u{9b}c\n".printable == "a\\u{1b}[2Jb\\u{9b}c\\u{a}")
    #expect("plain é →".printable == "plain é →")
  }

  @Test func padsAndCuts() {
    #expect("ab".padded(to: 4) == "ab  ")
    #expect("ab".paddedLeft(to: 4) == "  ab")
    #expect("abcdef".truncated(to: 4) == "abc…")
    #expect(counted(1, "byte") == "1 byte")
    #expect(counted(2, "byte") == "2 bytes")
  }
}
