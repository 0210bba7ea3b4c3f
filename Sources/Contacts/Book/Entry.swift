import Glibc

/// One contact of a book, where it stands: a header of 36 bytes, then the user's and the contact's name, without padding.
///
/// The header holds what is committed. What is staged stands in the book's list.
struct Entry {
  let base: UnsafeMutableRawPointer

  static let header = 36

  /// What an entry takes, so that the next one begins at a multiple of four.
  static func size(user: Int, name: Int) -> Int { (header + user + name + 3) & ~3 }

  var size: Int { Self.size(user: userLength, name: nameLength) }

  var clock: UInt32 {
    get { base.load(as: UInt32.self) }
    nonmutating set { base.storeBytes(of: newValue, as: UInt32.self) }
  }

  /// Which of the book's contacts it is, in the order in which they came.
  var number: UInt32 { numberAndMark & ~Self.keptMark }

  /// Whether a snapshot may have kept an older value of it. Never taken back.
  var isKept: Bool {
    get { numberAndMark & Self.keptMark != 0 }
    nonmutating set { numberAndMark = newValue ? number | Self.keptMark : number }
  }

  /// There are less than 2^24 entries.
  private static let keptMark: UInt32 = 1 << 31

  private var numberAndMark: UInt32 {
    get { base.load(fromByteOffset: 4, as: UInt32.self) }
    nonmutating set { base.storeBytes(of: newValue, toByteOffset: 4, as: UInt32.self) }
  }

  /// Its place in the list of what is staged, from 1 on; 0 where nothing is.
  var staged: UInt32 {
    get { base.load(fromByteOffset: 8, as: UInt32.self) }
    nonmutating set { base.storeBytes(of: newValue, toByteOffset: 8, as: UInt32.self) }
  }

  private var userLength: Int { Int(base.load(fromByteOffset: 12, as: UInt16.self)) }
  private var nameLength: Int { Int(base.load(fromByteOffset: 14, as: UInt16.self)) }

  var phone: Phone {
    get { Phone(at: base + 16) }
    nonmutating set { newValue.store(at: base + 16) }
  }

  var user: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base + Self.header, count: userLength)
  }

  var name: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base + Self.header + userLength, count: nameLength)
  }

  func setUp(number: UInt32, user: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer) {
    clock = 0
    numberAndMark = number
    staged = 0
    base.storeBytes(of: UInt16(truncatingIfNeeded: user.count), toByteOffset: 12, as: UInt16.self)
    base.storeBytes(of: UInt16(truncatingIfNeeded: name.count), toByteOffset: 14, as: UInt16.self)
    phone = Phone()
    if let from = user.baseAddress { memcpy(base + Self.header, from, user.count) }
    if let from = name.baseAddress { memcpy(base + Self.header + user.count, from, name.count) }
  }

  @inline(__always)
  func hasKey(_ user: UnsafeRawBufferPointer, _ name: UnsafeRawBufferPointer) -> Bool {
    guard userLength == user.count, nameLength == name.count else { return false }
    guard let user = user.baseAddress, let name = name.baseAddress else { return false }
    return memcmp(base + Self.header, user, userLength) == 0
      && memcmp(base + Self.header + userLength, name, nameLength) == 0
  }

  /// Writes its three fields, padded, with this phone number.
  @inline(__always)
  func store(phone: Phone, to place: UnsafeMutableRawPointer) {
    ContactLayout.store(
      user: user, name: name, phone: UnsafeRawBufferPointer(start: nil, count: 0), to: place)
    phone.store(at: place + ContactLayout.user + ContactLayout.name)
  }
}
