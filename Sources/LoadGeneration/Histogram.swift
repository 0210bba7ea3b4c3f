/// How often each duration occurred, within 1.6 % of it: 64 steps between a number and its double.
///
/// Adding is a few instructions, and the memory is the same for a thousand values and for a thousand million.
public struct Histogram: Sendable {
  private static let bits = 6
  private var counts = [UInt64](repeating: 0, count: (64 - bits + 1) << bits)
  public private(set) var count: UInt64 = 0
  public private(set) var maximum: UInt64 = 0

  public init() {}

  /// - Parameters:
  ///   - value: nanoseconds.
  ///   - times: how often it occurred.
  public mutating func add(_ value: UInt64, times: UInt64 = 1) {
    guard times > 0 else { return }
    counts[Self.place(value)] &+= times
    count &+= times
    if value > maximum { maximum = value }
  }

  /// The value that so many of all values do not exceed, 0 where there is none.
  ///
  /// - Parameter share: from 0 to 1: 0.99 is the 99th percentile.
  /// - Returns: nanoseconds, at most 1.6 % more than the value that was added.
  public func percentile(_ share: Double) -> UInt64 {
    guard count > 0 else { return 0 }
    let rank = min(count, max(1, UInt64((Double(count) * share).rounded(.up))))
    var seen: UInt64 = 0
    for (place, number) in counts.enumerated() where number > 0 {
      seen &+= number
      if seen >= rank { return min(Self.highest(place), maximum) }
    }
    return maximum
  }

  private static func place(_ value: UInt64) -> Int {
    let width = 64 - value.leadingZeroBitCount
    guard width > bits + 1 else { return Int(value) }
    let shift = width - bits - 1
    return (shift << bits) + Int(value >> UInt64(shift))
  }

  /// The greatest value that is counted at a place.
  private static func highest(_ place: Int) -> UInt64 {
    guard place >= 2 << bits else { return UInt64(place) }
    let shift = (place >> bits) - 1
    let base = UInt64(place - (shift << bits))
    return ((base &+ 1) << UInt64(shift)) &- 1
  }
}
