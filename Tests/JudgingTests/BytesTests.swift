import Foundation
import Testing

@testable import Judging

/// Bytes, as a check file has them, and how two rows of them are told apart.
@Suite struct BytesTests {
  private func bytes(_ text: String) throws -> [UInt8] {
    let decoder = JSONDecoder()
    decoder.allowsJSON5 = true
    return try decoder.decode([Bytes].self, from: Data("[\(text)]".utf8)).first?.resolved(port: 4711) ?? []
  }

  @Test(arguments: [
    ("\"hé\"", [0x68, 0xc3, 0xa9]), ("\"p PORT\"", Array("p 4711".utf8)), ("{hex: \"00 fF\"}", [0, 255]),
    ("{u8: 1}", [1]), ("{u16: 258}", [1, 2]), ("{u32: 4294967295}", [255, 255, 255, 255]),
    ("{field: \"ab\", size: 4}", [97, 98, 0, 0]), ("{field: \"ab\", size: 2}", [97, 98]),
    ("{repeat: [{u8: 1}, \"x\"], times: 2}", [1, 120, 1, 120]), ("{repeat: \"x\", times: 0}", []),
    ("[\"a\", [{u8: 0}, \"b\"], {hex: \"\"}]", [97, 0, 98]), ("[]", []),
  ])
  func parts(text: String, expected: [UInt8]) throws { #expect(try bytes(text) == expected) }

  /// Whatever is lost, doubled or exchanged shows.
  @Test func noTwoStretchesOfAPatternAreAlike() throws {
    let pattern = try bytes("{pattern: 65537}")
    #expect(pattern.count == 65537)
    var seen: Set<[UInt8]> = []
    for start in stride(from: 0, to: 65532, by: 4) {
      #expect(seen.insert(Array(pattern[start..<start + 4])).inserted)
    }
    #expect(try bytes("{pattern: 100}") == Array(pattern.prefix(100)))
  }

  @Test(arguments: [
    ("hello", "hellO", 4, "byte 4: 0x4f instead of 0x6f"),
    ("hello", "hel", 3, "byte 3: nothing instead of 0x6c"),
    ("hel", "hello", 3, "byte 3: 0x6c instead of nothing"), ("", "x", 0, "byte 0: 0x78 instead of nothing"),
    ("a\nb", "a\rb", 1, "byte 1: 0x0d instead of 0x0a"),
  ])
  func theFirstDifference(expected: String, got: String, offset: Int, words: String) {
    let difference = ByteDifference(expected: Array(expected.utf8), got: Array(got.utf8))
    #expect(difference.offset == offset)
    let lines = difference.lines(width: 60)
    #expect(lines.count == 3)
    #expect(lines[2].contains(words))
  }

  /// The caret stands below the byte, whatever stands before it.
  @Test(arguments: [20, 40, 77], [0, 1, 9, 300]) func theCaret(width: Int, place: Int) throws {
    var expected = try bytes("{pattern: 400}")
    expected[place] = UInt8(ascii: "A")
    var got = expected
    got[place] = UInt8(ascii: "B")
    let lines = ByteDifference(expected: expected, got: got).lines(width: width)
    let caret = try #require(lines[2].firstIndex(of: "^")).utf16Offset(in: lines[2])
    #expect(Array(lines[0])[caret] == "A")
    #expect(Array(lines[1])[caret] == "B")
    for line in lines.prefix(2) { #expect(line.count <= width) }
  }
}
