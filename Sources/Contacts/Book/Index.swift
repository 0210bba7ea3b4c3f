/// From a key to where its entry stands: open addressing with linear probing. A slot holds 32 bits of the key's hash and the
/// entry's address; 0 is an empty one.
struct Index: ~Copyable {
  private var slots: UnsafeMutableBufferPointer<UInt64>
  private var count = 0

  init() { slots = Self.empty(1 << 10) }

  deinit { slots.deallocate() }

  private static func empty(_ size: Int) -> UnsafeMutableBufferPointer<UInt64> {
    let slots = UnsafeMutableBufferPointer<UInt64>.allocate(capacity: size)
    slots.initialize(repeating: 0)
    return slots
  }

  /// Seeded anew for each process: nobody outside can choose keys that fall together.
  @inline(__always)
  static func hash(_ user: UnsafeRawBufferPointer, _ name: UnsafeRawBufferPointer) -> UInt32 {
    var hasher = Hasher()
    hasher.combine(UInt16(truncatingIfNeeded: user.count))
    hasher.combine(bytes: user)
    hasher.combine(bytes: name)
    return UInt32(truncatingIfNeeded: hasher.finalize())
  }

  /// The address with this hash for which `isIt` holds, or nil.
  @inline(__always)
  func find(_ hash: UInt32, _ isIt: (Arena.Address) -> Bool) -> Arena.Address? {
    let mask = slots.count - 1
    var place = Int(hash) & mask
    while true {
      let slot = slots[place]
      if slot == 0 { return nil }
      if UInt32(truncatingIfNeeded: slot >> 32) == hash {
        let address = UInt32(truncatingIfNeeded: slot) &- 1
        if isIt(address) { return address }
      }
      place = (place + 1) & mask
    }
  }

  /// Adds what is not in it.
  mutating func add(_ hash: UInt32, _ address: Arena.Address) {
    count += 1
    if count > slots.count / 4 * 3 { grow() }
    put(UInt64(hash) << 32 | UInt64(address &+ 1))
  }

  /// Empties it. What was in it is to be added again.
  mutating func removeAll() {
    slots.update(repeating: 0)
    count = 0
  }

  private mutating func put(_ slot: UInt64) {
    let mask = slots.count - 1
    var place = Int(slot >> 32) & mask
    while slots[place] != 0 { place = (place + 1) & mask }
    slots[place] = slot
  }

  private mutating func grow() {
    let old = slots
    slots = Self.empty(old.count * 2)
    for slot in old where slot != 0 { put(slot) }
    old.deallocate()
  }
}
