import Glibc

/// What stands in a journal: a header, then records of one size, each appended and never changed.
///
/// | header | bytes | value |
/// | --- | --- | --- |
/// | magic | 8 | "contacts" |
/// | version | 4 | 1, big-endian, as all numbers |
/// | flags | 4 | 1: salvaged, and no peer has answered since |
/// | check | 4 | CRC-32C of the 16 bytes before |
///
/// | record | bytes |
/// | --- | --- |
/// | Clock | 4 |
/// | UserName | 256 |
/// | ContactName | 256 |
/// | PhoneNumber | 20 |
/// | check | 4 (CRC-32C of the 536 bytes before) |
enum JournalFormat {
  static let magic = Array("contacts".utf8)
  static let version: UInt32 = 1
  static let headerSize = 20
  static let recordSize = ContactLayout.sizeWithClock + 4

  static func header(awaitsAnswer: Bool) -> [UInt8] {
    var bytes = magic
    for number in [version, awaitsAnswer ? 1 : 0] {
      withUnsafeBytes(of: number.bigEndian) { bytes += $0 }
    }
    let check = bytes.withUnsafeBytes { bytes in bytes.baseAddress.map { CRC32C.check($0, bytes.count) } ?? 0
    }
    withUnsafeBytes(of: check.bigEndian) { bytes += $0 }
    return bytes
  }

  /// Writes a record.
  @inline(__always)
  static func store(_ entry: Entry, clock: UInt32, phone: Phone, at place: UnsafeMutableRawPointer) {
    place.storeBytes(of: clock.bigEndian, as: UInt32.self)
    entry.store(phone: phone, to: place + ContactLayout.clock)
    let check = CRC32C.check(place, ContactLayout.sizeWithClock)
    place.storeBytes(of: check.bigEndian, toByteOffset: ContactLayout.sizeWithClock, as: UInt32.self)
  }

  /// Takes a record apart; nil where it is damaged.
  @inline(__always)
  static func record(at place: UnsafeRawPointer) -> (clock: UInt32, contact: ContactView)? {
    let check = place.loadUnaligned(fromByteOffset: ContactLayout.sizeWithClock, as: UInt32.self)
    guard UInt32(bigEndian: check) == CRC32C.check(place, ContactLayout.sizeWithClock),
      let contact = try? ContactView(place + ContactLayout.clock)
    else { return nil }
    return (UInt32(bigEndian: place.loadUnaligned(as: UInt32.self)), contact)
  }
}
