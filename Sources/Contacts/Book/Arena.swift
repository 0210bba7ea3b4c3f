/// Memory that entries are put into, one after the other, and that never move. In pieces of 1 MiB: it grows without a copy.
struct Arena: ~Copyable {
  private static let pieceSize = 1 << 20
  /// Units of four bytes in a piece: an address is 32 bits.
  private static let unitBits = 18
  private var pieces: [UnsafeMutableRawPointer] = []
  /// Bytes in use of each piece.
  private var used: [Int] = []

  /// Where an entry stands.
  typealias Address = UInt32

  deinit { for piece in pieces { piece.deallocate() } }

  /// Bytes that it has taken.
  var size: Int { pieces.count * Self.pieceSize }

  @inline(__always)
  subscript(address: Address) -> Entry {
    Entry(base: pieces[Int(address >> Self.unitBits)] + Int(address & (1 << Self.unitBits - 1)) << 2)
  }

  mutating func allocate(_ size: Int) -> Address {
    if pieces.isEmpty || used[used.count - 1] + size > Self.pieceSize {
      pieces.append(.allocate(byteCount: Self.pieceSize, alignment: 16))
      used.append(0)
    }
    let place = used.count - 1
    let offset = used[place]
    used[place] += size
    return UInt32(truncatingIfNeeded: place << Self.unitBits | offset >> 2)
  }

  /// Takes back the last that was allocated.
  mutating func takeBack(_ address: Address) {
    let place = Int(address >> Self.unitBits)
    used[place] = Int(address & (1 << Self.unitBits - 1)) << 2
    while used.count > place + 1 {
      used.removeLast()
      pieces.removeLast().deallocate()
    }
  }

  /// The first entry, where there is one.
  var start: Address { 0 }

  /// Where the entry after this one stands, if there is one.
  @inline(__always)
  func address(after address: Address, of size: Int) -> Address {
    let place = Int(address >> Self.unitBits)
    let next = address &+ UInt32(truncatingIfNeeded: size >> 2)
    let offset = Int(address & (1 << Self.unitBits - 1)) << 2 + size
    return offset < used[place] ? next : UInt32(truncatingIfNeeded: (place + 1) << Self.unitBits)
  }
}
