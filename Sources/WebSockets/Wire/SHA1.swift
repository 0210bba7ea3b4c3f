/// SHA-1 of a few bytes: what the handshake is made of. It protects nothing there, and is not to be used where something is to be
/// protected.
///
/// See: FIPS 180-4, sections 5.1.1, 5.3.1 and 6.1.2; RFC 6455, section 10.8
public func sha1(_ message: some Collection<UInt8>) -> [UInt8] {
  var padded = Array(message) + [0x80]
  while padded.count % 64 != 56 { padded.append(0) }
  let bits = UInt64(message.count) &* 8
  for shift in stride(from: UInt64(56), through: 0, by: -8) {
    padded.append(UInt8(truncatingIfNeeded: bits >> shift))
  }

  var hash: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]
  var words = [UInt32](repeating: 0, count: 80)
  for block in stride(from: 0, to: padded.count, by: 64) {
    for t in 0..<16 {
      words[t] = padded[(block + 4 * t)..<(block + 4 * t + 4)].reduce(0) { $0 << 8 | UInt32($1) }
    }
    for t in 16..<80 { words[t] = rotated(words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16], 1) }
    var (a, b, c, d, e) = (hash[0], hash[1], hash[2], hash[3], hash[4])
    for t in 0..<80 {
      let (f, k): (UInt32, UInt32) =
        switch t {
        case 0..<20: (b & c ^ ~b & d, 0x5a82_7999)
        case 20..<40: (b ^ c ^ d, 0x6ed9_eba1)
        case 40..<60: (b & c ^ b & d ^ c & d, 0x8f1b_bcdc)
        default: (b ^ c ^ d, 0xca62_c1d6)
        }
      (a, b, c, d, e) = (rotated(a, 5) &+ f &+ e &+ k &+ words[t], a, rotated(b, 30), c, d)
    }
    for (place, value) in [a, b, c, d, e].enumerated() { hash[place] &+= value }
  }
  return hash.flatMap { word in [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: word >> UInt32($0)) } }
}

private func rotated(_ word: UInt32, _ bits: UInt32) -> UInt32 { word << bits | word >> (32 - bits) }
