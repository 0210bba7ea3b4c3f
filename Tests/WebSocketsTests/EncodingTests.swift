import TestSupport
import Testing

@testable import WebSockets

@Suite struct SHA1Tests {
  /// See: FIPS 180-4; NIST, "Examples with Intermediate Values", SHA-1; RFC 3174, section 7.3
  @Test(arguments: [
    ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"), ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
    ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
    (
      "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
        + "nopqrstu", "a49b2446a02c645bf419f995b67091253a04a259"
    ),
  ])
  func knownAnswers(message: String, digest: String) { #expect(hex(sha1(message.utf8)) == digest) }

  @Test func aMillionLetters() {
    let message = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)
    #expect(hex(sha1(message)) == "34aa973cd4c4daa4f61eeb2bdbad27316534016f")
  }

  /// The padding fills its block, or needs another one, at 55, 56, 63, 64 and so on.
  @Test(.enabled(if: Witness.havePython)) func asPythonSays() throws {
    let lengths = Array(0...260) + [319, 320, 447, 448, 511, 512, 1000, 4095, 4096, 65535, 65536]
    let script = """
      import hashlib, sys
      for length in sys.argv[1:]:
        print(hashlib.sha1(bytes((7 * n + int(length)) & 255 for n in range(int(length)))).hexdigest())
      """
    let digests = try python(script, lengths.map { "\($0)" })
    try #require(digests.count == lengths.count)
    for (length, digest) in zip(lengths, digests) {
      let message = (0..<length).map { UInt8(truncatingIfNeeded: 7 * $0 + length) }
      #expect(hex(sha1(message)) == digest, "of \(length) bytes")
    }
  }
}

@Suite struct Base64Tests {
  /// See: RFC 4648, section 10
  @Test(arguments: [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
    ("foobar", "Zm9vYmFy"),
  ])
  func knownAnswers(text: String, coded: String) {
    #expect(Base64.encode(Array(text.utf8)) == coded)
    #expect(Base64.decode(coded) == Array(text.utf8))
  }

  @Test func everyLetter() {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    let bytes = hex(
      "00108310518720928b30d38f41149351559761969b71d79f8218a39259a7a29aabb2dbafc31cb3d35db7e39ebbf3dfbf")
    #expect(Base64.encode(bytes) == letters)
    #expect(Base64.decode(letters) == bytes)
  }

  /// Lengths that are no multiple of four, letters that are none, padding that is missing, too much, or not at the end, and bits that
  /// are left over. See: RFC 4648, sections 3.2, 3.3 and 3.5
  @Test(arguments: [
    "Z", "Zg", "Zg=", "Zm8", "Zg===", "Z===", "====", "=", "==", "Zm9vZg", "Zm9vZg=", "Zg==Zg==", "Zm8=Zm9v",
    "Z=g=", "=Zg=", "Zg=A", "Zh==", "Zn==", "Zm9=", "Zm+=", "Zm-_", "Zm 9", "Zm9v\n", "\nZm9v", "Zm9v ",
    "Zm\r\n",
    "Zm9é", "Zm9\0", "Zm9.", "/===",
  ])
  func nonsenseIsRefused(text: String) { #expect(Base64.decode(text) == nil) }

  @Test(.enabled(if: Witness.havePython)) func asPythonSays() throws {
    let script = """
      import base64, random
      random.seed(6455)
      for length in list(range(70)) + [1000, 4097]:
        for _ in range(4):
          data = random.randbytes(length)
          print('-' + data.hex(), base64.b64encode(data).decode() + '-')
      """
    let lines = try python(script)
    #expect(lines.count == 72 * 4)
    for line in lines {
      let words = line.split(separator: " ")
      try #require(words.count == 2)
      let (bytes, coded) = (hex(words[0].dropFirst()), String(words[1].dropLast()))
      #expect(Base64.encode(bytes) == coded)
      #expect(Base64.decode(coded) == bytes)
    }
  }
}

@Suite struct KeyTests {
  /// See: RFC 6455, sections 1.3 and 4.1
  @Test func theSamples() {
    #expect(WebSocketKey.accept(for: "dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    #expect(Base64.encode(Array("the sample nonce".utf8)) == "dGhlIHNhbXBsZSBub25jZQ==")
    #expect(Base64.encode(Array(1...16)) == "AQIDBAUGBwgJCgsMDQ4PEA==")
    #expect(WebSocketKey.isValid("AQIDBAUGBwgJCgsMDQ4PEA=="))
  }

  @Test func randomOnes() {
    let keys = (0..<200).map { _ in WebSocketKey.random() }
    #expect(Set(keys).count == keys.count)
    #expect(keys.allSatisfy { $0.utf8.count == 24 && WebSocketKey.isValid($0) })
  }

  @Test(arguments: [
    "", "AQIDBAUGBwgJCgsMDQ4P", "AQIDBAUGBwgJCgsMDQ4PEBE=", "AQIDBAUGBwgJCgsMDQ4PEA",
    "AQIDBAUGBwgJCgsMDQ4PEB==",
    "AQIDBAUGBwgJCgsMDQ4PEA== ", "AQIDBAUGBwgJ CgsMDQ4PEA==", "AQIDBAUGBwgJCgsMDQ4P-A==",
  ])
  func invalidOnes(key: String) { #expect(!WebSocketKey.isValid(key)) }
}

@Suite struct CloseCodeTests {
  /// See: RFC 6455, sections 7.4.1 and 7.4.2; the IANA registry "WebSocket Close Code Number"
  @Test func whichMayBeSent() {
    let registered: Set<UInt16> = [
      1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
    ]
    for value in UInt16.min...UInt16.max {
      let isAllowed = registered.contains(value) || value >= 3000 && value <= 4999
      if CloseCode(rawValue: value).isAllowed != isAllowed { Issue.record("\(value)") }
    }
  }

  @Test func inWords() {
    #expect("\(CloseCode.goingAway)" == "1001 (going away)")
    #expect("\(CloseCode(rawValue: 4711))" == "4711")
  }
}

@Suite struct MaskTests {
  private func mask(_ bytes: [UInt8]) -> Mask { bytes.withUnsafeBytes { Mask($0) } }

  @Test func bytesOfAKey() {
    #expect(mask([0x37, 0xfa, 0x21, 0x3d]).bytes == [0x37, 0xfa, 0x21, 0x3d])
    #expect(mask([1, 2, 3, 4]) == Mask(key: 0x0403_0201))
  }

  /// Words and single bytes say the same: for all lengths, wherever the bytes stand in memory, and nothing beside them is touched.
  @Test func allLengthsAndAlignments() {
    let key: [UInt8] = [0x9a, 0x01, 0xfe, 0x73]
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 300, alignment: 64)
    defer { room.deallocate() }
    for length in 0...100 {
      for start in 64..<96 {
        for place in room.indices { room[place] = UInt8(truncatingIfNeeded: 31 * place) }
        var mask = mask(key)
        mask.apply(to: UnsafeMutableRawBufferPointer(rebasing: room[start..<(start + length)]))
        let isRight = room.indices.allSatisfy { place in
          let inside = place >= start && place < start + length
          return room[place]
            == UInt8(truncatingIfNeeded: 31 * place) ^ (inside ? key[(place - start) % 4] : 0)
        }
        if !isRight { Issue.record("\(length) bytes at \(start)") }
        // Where it goes on.
        let next = (0..<4).map { key[(length + $0) % 4] }
        if mask.bytes != next { Issue.record("after \(length) bytes it goes on with \(mask.bytes)") }
      }
    }
  }

  @Test func inPieces() {
    var random = SplitMix(seed: 53)
    for _ in 0..<500 {
      let key = random.bytes(4)
      let bytes = random.bytes(Int.random(in: 0...200, using: &random))
      let expected = bytes.enumerated().map { $0.element ^ key[$0.offset % 4] }
      var piecewise = bytes
      var mask = mask(key)
      var from = 0
      for cut in random.cuts(Int.random(in: 0...6, using: &random), in: bytes.count) + [bytes.count] {
        piecewise.withUnsafeMutableBytes {
          mask.apply(to: UnsafeMutableRawBufferPointer(rebasing: $0[from..<cut]))
        }
        from = cut
      }
      #expect(piecewise == expected)
    }
    var mask = mask([1, 2, 3, 4])
    mask.apply(to: UnsafeMutableRawBufferPointer(start: nil, count: 0))
    #expect(mask.bytes == [1, 2, 3, 4])
  }
}

@Suite struct UTF8Tests {
  /// Whether they pass, in pieces, and whether the last character is whole.
  private func check(_ bytes: [UInt8], cutAt cuts: [Int] = []) -> Bool {
    var checker = UTF8Checker()
    var from = 0
    for cut in cuts + [bytes.count] {
      let passes = bytes.withUnsafeBytes { checker.take(UnsafeRawBufferPointer(rebasing: $0[from..<cut])) }
      if !passes { return false }
      from = cut
    }
    return checker.isWhole
  }

  /// How many bytes it takes before it refuses one; nil where it refuses none.
  private func place(in bytes: [UInt8]) -> Int? {
    var checker = UTF8Checker()
    return bytes.firstIndex { byte in !withUnsafeBytes(of: byte) { checker.take($0) } }
  }

  private func isValid(_ bytes: [UInt8]) -> Bool { String(validating: bytes, as: UTF8.self) != nil }

  @Test func allOfOneAndTwoBytes() {
    var wrong: [[UInt8]] = []
    for first in UInt8.min...UInt8.max {
      if check([first]) != isValid([first]) { wrong.append([first]) }
      for second in UInt8.min...UInt8.max where check([first, second]) != isValid([first, second]) {
        wrong.append([first, second])
      }
    }
    #expect(wrong == [])
  }

  /// All of them: where the first two bytes pass, each third byte is tried; where they are refused, nothing that comes third could help,
  /// and of Swift each sixteenth is asked.
  @Test func allOfThreeBytes() {
    var wrong: [[UInt8]] = []
    // What begins with ASCII goes on as two bytes do: a few of them show that.
    for first in [0, 0x7f] + Array(UInt8(0x80)...UInt8.max) {
      for second in UInt8.min...UInt8.max {
        var begun = UTF8Checker()
        let isRefused = [first, second].withUnsafeBytes { !begun.take($0) }
        for third in UInt8.min...UInt8.max {
          var passes = false
          if !isRefused {
            var checker = begun
            passes = withUnsafeBytes(of: third) { checker.take($0) } && checker.isWhole
          } else if third & 0x0f != 0 {
            continue
          }
          if passes != isValid([first, second, third]) { wrong.append([first, second, third]) }
        }
      }
    }
    #expect(wrong == [])
  }

  @Test func manyOfFourBytes() {
    var random = SplitMix(seed: 3629)
    var wrong: [[UInt8]] = []
    let edges: [UInt8] = [
      0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xed, 0xf0, 0xf4, 0xff,
    ]
    for first in UInt8(0xee)...UInt8.max {
      for second in edges {
        for third in edges {
          for fourth in edges {
            let bytes = [first, second, third, fourth]
            if check(bytes) != isValid(bytes) { wrong.append(bytes) }
          }
        }
      }
    }
    for _ in 0..<100_000 {
      var bytes = random.bytes(4)
      if Bool.random(using: &random) { bytes[0] = bytes[0] & 0x0f | 0xf0 }
      for place in 1..<4 where UInt8.random(in: 0...9, using: &random) > 0 {
        bytes[place] = bytes[place] & 0x3f | 0x80
      }
      if check(bytes) != isValid(bytes) { wrong.append(bytes) }
    }
    #expect(wrong == [])
  }

  /// The first and last characters of each length, and their neighbours, after Markus Kuhn's "UTF-8 decoder capability and stress
  /// test": and at which byte it is known.
  @Test(arguments: [
    ("00", nil), ("7f", nil), ("c2 80", nil), ("df bf", nil), ("e0 a0 80", nil), ("ef bf bf", nil),
    ("f0 90 80 80", nil), ("f4 8f bf bf", nil), ("ed 9f bf", nil), ("ee 80 80", nil), ("ef bf bd", nil),
    ("ce ba e1 bd b9 cf 83 ce bc ce b5", nil), ("ef bf be", nil), ("ef b7 90", nil), ("f0 9f bf bf", nil),
    // Five and six bytes, and beyond U+10FFFF.
    ("f8 88 80 80 80", 0), ("fc 84 80 80 80 80", 0), ("f7 bf bf bf", 0), ("f4 90 80 80", 1),
    ("f5 80 80 80", 0),
    // What should continue something, alone.
    ("80", 0), ("bf", 0), ("61 80 80", 1), ("c3 a4 a4", 2),
    // Beginnings, and nothing that continues them.
    ("c3 20", 1), ("e4 20", 1), ("f1 20", 1), ("e1 80 20", 2), ("f1 80 80 20", 3), ("c3 c3", 1),
    ("e1 80 e1", 2), ("fe", 0), ("ff", 0), ("fe fe ff ff", 0),
    // Longer than need be: "/" and NUL.
    ("c0 af", 0), ("e0 80 af", 1), ("f0 80 80 af", 1), ("f8 80 80 80 af", 0), ("c1 bf", 0), ("e0 9f bf", 1),
    ("f0 8f bf bf", 1), ("c0 80", 0), ("e0 80 80", 1),
    // Surrogates, alone and in pairs.
    ("ed a0 80", 1), ("ed ad bf", 1), ("ed ae 80", 1), ("ed bf bf", 1), ("ed a0 80 ed b0 80", 1),
    (
      "61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f 70 71 72 73 74 75 76 77 78 79 7a 30 31 32 33 34 35 36 ff",
      33
    ),
  ])
  func knownCases(text: String, wrongAt: Int?) {
    let bytes = hex(text)
    #expect(place(in: bytes) == wrongAt)
    #expect(isValid(bytes) == (wrongAt == nil))
    #expect(check(bytes) == (wrongAt == nil))
  }

  /// However it is cut. The long run of ASCII is looked at in large steps.
  @Test func everyCut() {
    let good = Array("κόσμε é 漢語 😀\u{10ffff} \(String(repeating: "a", count: 70))ß".utf8)
    #expect(isValid(good))
    for one in 0...good.count {
      for other in one...good.count where !check(good, cutAt: [one, other]) {
        Issue.record("\(one), \(other)")
      }
      // Its beginnings are whole where Swift says so.
      #expect(check(Array(good[..<one])) == isValid(Array(good[..<one])))
    }
    var random = SplitMix(seed: 8)
    for _ in 0..<3000 {
      var bytes = good
      for _ in 0...Int.random(in: 0...2, using: &random) {
        bytes[Int.random(in: bytes.indices, using: &random)] = random.bytes(1)[0]
      }
      let cuts = random.cuts(4, in: bytes.count)
      if check(bytes, cutAt: cuts) != isValid(bytes) { Issue.record("\(hex(bytes)) cut at \(cuts)") }
    }
  }

  /// A stray byte anywhere in a long text of ASCII, at any alignment.
  @Test func aStrayByteInALongText() {
    let letters = [UInt8](repeating: 0x61, count: 140)
    for start in 0..<32 {
      for stray in stride(from: start, to: 140, by: 1) {
        var bytes = letters
        bytes[stray] = 0xa9
        var checker = UTF8Checker()
        if bytes.withUnsafeBytes({ checker.take(UnsafeRawBufferPointer(rebasing: $0[start...])) }) {
          Issue.record("\(stray), from \(start)")
        }
      }
    }
  }
}
