extension Unicode.Scalar {
  /// How many columns of a terminal it takes: 0 for what joins the scalar before it or is not shown, 2 for East Asian wide
  /// ones and emoji, else 1. No promise for control characters, which are never to be shown as they are.
  ///
  /// Most terminals count like this, scalar by scalar; one that draws a joined emoji (a family, say) as a single picture
  /// takes fewer columns for it. See: Unicode Standard Annex #11, wcwidth(3)
  public var columns: Int {
    // The common case, without a look at any table.
    if (0x20..<0x300).contains(value) { return 1 }
    // Vowels and final consonants of a Hangul syllable written in parts: drawn over its first letter.
    if (0x1160...0x11ff).contains(value) || (0xd7b0...0xd7fb).contains(value) { return 0 }
    // Half of a flag each.
    if (0x1f1e6...0x1f1ff).contains(value) { return 1 }
    switch properties.generalCategory {
    case .nonspacingMark, .enclosingMark: return 0
    case .format: return Self.signs.contains(value) ? 1 : 0
    default: return properties.isEmojiPresentation || isEastAsianWide ? 2 : 1
    }
  }

  /// The format characters that are drawn. See: PropList.txt, Prepended_Concatenation_Mark
  private static let signs: Set<UInt32> = [
    0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6dd, 0x70f, 0x890, 0x891, 0x8e2, 0x110bd, 0x110cd,
  ]

  private var isEastAsianWide: Bool {
    guard value >= 0x1100 else { return false }
    return Self.wide.contains { $0.contains(value) }
  }

  /// The ranges of EastAsianWidth.txt (Unicode 16) that are W or F, joined where what lies between them is not assigned.
  private static let wide: [ClosedRange<UInt32>] = [
    0x1100...0x115f, 0x2329...0x232a, 0x2630...0x2637, 0x268a...0x268f, 0x2e80...0x303e, 0x3041...0x3247,
    0x3250...0xa4c6, 0xa960...0xa97c, 0xac00...0xd7a3, 0xf900...0xfaff, 0xfe10...0xfe19, 0xfe30...0xfe6b,
    0xff01...0xff60, 0xffe0...0xffe6, 0x16fe0...0x18d08, 0x1aff0...0x1b2fb, 0x1d300...0x1d376,
    0x1f200...0x1f265, 0x20000...0x2fffd, 0x30000...0x3fffd,
  ]
}

extension Character {
  /// How many columns of a terminal it takes, as the sum over its scalars.
  public var columns: Int { unicodeScalars.reduce(0) { $0 + $1.columns } }
}

extension StringProtocol {
  /// How many columns of a terminal it takes, where it holds no control characters.
  public var columns: Int { unicodeScalars.reduce(0) { $0 + $1.columns } }
}
