// A target for libFuzzer over the readers of the contact protocol. It stands by itself, beside the package:
//
//   swiftc -O -sanitize=fuzzer,address -parse-as-library Sources/Contacts/Wire/*.swift Tests/Fuzz/ContactWireFuzz.swift \
//     -o /tmp/fuzz-contacts
//   CONTACTS_CORPUS=/tmp/corpus /tmp/fuzz-contacts -runs=0
//   /tmp/fuzz-contacts -max_total_time=60 -max_len=4096 /tmp/corpus
//
// An input is a byte for the language, a byte for the number of cuts (at most 15), two bytes for each cut, and a stream. The stream
// is read whole, and cut: both have to say the same, and to fail alike. The address sanitizer sees a reader that looks beyond what
// it was given, for each piece has memory of its own, which is gone when the next one comes.
//
// See: https://llvm.org/docs/LibFuzzer.html

import Glibc

/// What became of a stream.
private struct Reading {
  /// Messages, one behind the other, as bytes that say which they are.
  var said: [UInt8] = []
  var messages = 0
  var problem: ProtocolViolation?
  var isInside = false

  mutating func say(_ kind: UInt8, _ number: UInt32 = 0) {
    said.append(kind)
    withUnsafeBytes(of: number) { said += $0 }
    messages += 1
  }

  mutating func say(_ kind: UInt8, _ number: UInt32 = 0, _ contact: ContactView) {
    say(kind, number)
    for (part, field) in [(contact.user, 256), (contact.name, 256), (contact.phone, 20)] {
      demand(part.count > 0 && part.count <= field, "a value does not fit its field")
      demand(!part.contains { $0 < 0x20 || $0 == 0x7f }, "a control character has come through")
      withUnsafeBytes(of: UInt16(truncatingIfNeeded: part.count)) { said += $0 }
      said += part
    }
  }
}

/// Stops the run where something does not hold: libFuzzer keeps the input.
private func demand(_ holds: Bool, _ what: StaticString) {
  if holds { return }
  fputs("\(what)\n", stderr)
  abort()
}

/// The largest message: a server's Update.
private let largest = 1 + 4 + 256 + 256 + 20

private func read<Language: WireLanguage>(
  _ stream: UnsafeRawBufferPointer, _ cuts: [Int], as language: Language,
  _ hear: (inout Reading, Language.Message) -> Void
) -> Reading {
  var reading = Reading()
  var reader = MessageReader(language)
  var (from, begun) = (0, 0)
  for cut in cuts + [stream.count] {
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: cut - from, alignment: 1)
    defer { piece.deallocate() }
    piece.copyMemory(from: UnsafeRawBufferPointer(rebasing: stream[from..<cut]))
    var rest = UnsafeRawBufferPointer(piece)
    do throws(ProtocolViolation) {
      while let message = try reader.next(from: &rest) {
        hear(&reading, message)
        begun = from + piece.count - rest.count
      }
    } catch {
      reading.problem = error
      return reading
    }
    from = cut
    // All is taken, and what has come since the last whole message is less than one.
    demand(rest.count == 0, "bytes were left over")
    demand(from - begun < largest, "more than one message is held")
    demand(reader.isInside == (from > begun), "it does not know whether it is inside a message")
  }
  reading.isInside = reader.isInside
  return reading
}

private func read(_ stream: UnsafeRawBufferPointer, _ cuts: [Int], language: UInt8) -> Reading {
  switch language & 3 {
  case 0:
    read(stream, cuts, as: HelloLanguage()) { reading, hello in
      demand(hello.name.count > 0 && hello.name.count <= 256, "a name does not fit its field")
      reading.say(hello.role.rawValue, UInt32(hello.name.count))
      reading.said += hello.name
    }
  case 1:
    read(stream, cuts, as: ClientLanguage()) { reading, command in
      switch command {
      case .update(let contact): reading.say(1, 0, contact)
      case .listAll: reading.say(2)
      }
    }
  case 2:
    read(stream, cuts, as: ServerLanguage()) { reading, message in
      switch message {
      case .update(let clock, let contact): reading.say(1, clock, contact)
      case .heartBeat(let status, let clock):
        reading.say(2, clock)
        reading.said.append(status.rawValue)
      case .updateClock(let clock): reading.say(3, clock)
      case .askForUpdate: reading.say(4)
      case .answer(let count):
        demand(count < 1 << 24, "an answer is too long")
        reading.say(5, UInt32(truncatingIfNeeded: count))
      case .record(let clock, let contact): reading.say(6, clock, contact)
      }
    }
  default:
    read(stream, cuts, as: ListingLanguage()) { reading, part in
      switch part {
      case .count(let count):
        demand(count < 1 << 24, "a listing is too long")
        reading.say(1, UInt32(truncatingIfNeeded: count))
      case .contact(let contact): reading.say(2, 0, contact)
      }
    }
  }
}

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  let input = UnsafeRawBufferPointer(start: data, count: size)
  guard input.count >= 2 else { return 0 }
  let cutCount = min(Int(input[1] & 15), (input.count - 2) / 2)
  let stream = UnsafeRawBufferPointer(rebasing: input[(2 + 2 * cutCount)...])
  let cuts = (0..<cutCount).map { number in
    let place = Int(input[2 + 2 * number]) << 8 | Int(input[3 + 2 * number])
    return place % (stream.count + 1)
  }
  let whole = read(stream, [], language: input[0])
  let cut = read(stream, cuts.sorted(), language: input[0])
  demand(whole.messages == cut.messages && whole.said == cut.said, "cut it says something else")
  demand(whole.problem == cut.problem, "cut it fails in another way")
  demand(whole.isInside == cut.isInside, "cut it ends elsewhere")
  return 0
}

/// Makes the first inputs, where a folder is named for them: every message of each language.
@_cdecl("LLVMFuzzerInitialize")
public func makeCorpus(
  _ count: UnsafeMutablePointer<CInt>?,
  _ words: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>?
) -> CInt {
  guard let folder = getenv("CONTACTS_CORPUS").map({ String(cString: $0) }) else { return 0 }
  mkdir(folder, 0o777)
  for (name, bytes) in corpus {
    guard let file = fopen("\(folder)/\(name)", "w") else { continue }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
  }
  return 0
}

private var corpus: [(name: String, bytes: [UInt8])] {
  func field(_ text: String, _ size: Int) -> [UInt8] {
    Array(text.utf8) + [UInt8](repeating: 0, count: size - text.utf8.count)
  }
  let ann = field("ann", 256) + field("bob", 256) + field("+49 1", 20)
  let zoe =
    field("Zoë", 256) + field(String(repeating: "é", count: 128), 256) + field("12345678901234567890", 20)
  let clock: [UInt8] = [0x01, 0x02, 0x03, 0x04]
  let small: [UInt8] = [2, 1, 0, 0, 0, 5, 4, 3, 0, 0, 0, 6, 0, 0, 0, 0]
  let answer: [UInt8] = [0, 0, 0, 2] + clock + ann + clock + zoe
  // Two cuts each: in the first bytes, and in the middle.
  let cuts: [UInt8] = [2, 0, 3, 1, 44]
  return [
    ("hello-server", [0] + cuts + [1] + field("one", 256)),
    ("hello-client", [0] + cuts + [2] + field("Zoë", 256)),
    ("client-update", [1] + cuts + [1] + ann), ("client-all", [1] + cuts + [2, 1] + ann + [2, 1] + zoe),
    ("server-small", [2, 3, 0, 2, 0, 8, 0, 14] + small), ("server-update", [2] + cuts + [1] + clock + zoe),
    ("server-answer", [2] + cuts + small + answer + small),
    ("server-all", [2] + cuts + answer + [1] + clock + ann + small),
    ("listing-empty", [3, 1, 0, 2, 0, 0, 0, 0]),
    ("listing", [3] + cuts + [0, 0, 0, 2] + ann + zoe + [0, 0, 0, 1] + ann),
  ]
}
