/// A phone number, padded with NUL to its 20 bytes: values hold no NUL, so padded ones compare as the numbers do.
struct Phone: Equatable {
  // Big-endian, so that numbers compare as bytes do.
  private var first: UInt64 = 0
  private var second: UInt64 = 0
  private var third: UInt32 = 0

  init() {}

  init(_ value: UnsafeRawBufferPointer) {
    withUnsafeMutableBytes(of: &self) { own in
      own.copyMemory(from: UnsafeRawBufferPointer(rebasing: value.prefix(ContactLayout.phone)))
    }
  }

  /// - Parameter place: 20 bytes.
  init(at place: UnsafeRawPointer) {
    first = place.loadUnaligned(as: UInt64.self)
    second = place.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
    third = place.loadUnaligned(fromByteOffset: 16, as: UInt32.self)
  }

  func store(at place: UnsafeMutableRawPointer) {
    place.storeBytes(of: first, as: UInt64.self)
    place.storeBytes(of: second, toByteOffset: 8, as: UInt64.self)
    place.storeBytes(of: third, toByteOffset: 16, as: UInt32.self)
  }

  static func > (one: Phone, other: Phone) -> Bool {
    if one.first != other.first { return one.first.bigEndian > other.first.bigEndian }
    if one.second != other.second { return one.second.bigEndian > other.second.bigEndian }
    return one.third.bigEndian > other.third.bigEndian
  }
}
