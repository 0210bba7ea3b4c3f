import CommandLineTool
import Glibc
import Story
import SystemCalls

/// A failure as it is printed: what was expected, what the kernel shows, the last steps, the likely missing call.
struct VerdictText {
  let appearance: Judge.Appearance
  /// Where files may be written.
  let folder: String
  private var lines: [String] = []
  private var width: Int { min(appearance.width, 100) }
  private var color: Bool { appearance.color }

  /// So many steps before a failure are told.
  private static let steps = 6

  init(appearance: Judge.Appearance, folder: String) {
    self.appearance = appearance
    self.folder = folder
  }

  /// - Parameters:
  ///   - failure: what was not as it was to be.
  ///   - place: "trial 1 of 2: a client dials"
  ///   - now: what is known of the run.
  /// - Returns: all of it, with a newline at its end.
  mutating func tell(_ failure: Failure, place: String, now: Record.State) -> String {
    lines = []
    paragraph(" ✗ ", place, style: .bad)
    lines.append("")
    paragraph("   Expected  ", sentence(failure.expected), style: .strong)
    for (index, line) in failure.observed.enumerated() {
      paragraph(index == 0 ? "   Instead   " : "             ", line)
    }
    if let difference = failure.difference {
      lines.append("")
      for line in difference.lines(width: width - 3) { lines.append("   " + line) }
    }
    tellSteps(now)
    for (what, bytes) in [("standard output", now.output), ("standard error", now.errors)] {
      let printed = Self.head(bytes)
      if printed.isEmpty { continue }
      lines += ["", "   Its \(what):"]
      lines += printed.map { "   │ " + $0.truncated(to: width - 5) }
    }
    if failure.missing != nil || failure.hint != nil { lines.append("") }
    if let missing = failure.missing { paragraph("   Likely missing: ", missing, style: .strong) }
    if let hint = failure.hint { paragraph("   ▸ ", hint) }
    return lines.map(\.trimmedRight).joined(separator: "\n") + "\n"
  }

  private func sentence(_ text: String) -> String { text.hasSuffix(".") ? text : text + "." }

  /// Text with a beginning, and what does not fit into a line below it.
  private mutating func paragraph(_ beginning: String, _ text: String, style: Style? = nil) {
    let indent = String(repeating: " ", count: beginning.count)
    let parts = text.printable.wrapped(to: max(20, width - beginning.count))
    for (index, part) in parts.enumerated() {
      lines.append((index == 0 ? beginning : indent) + (style.map { $0(part, color: color) } ?? part))
    }
  }

  private mutating func tellSteps(_ now: Record.State) {
    let steps = now.story.indices.filter { if case .step = now.story[$0] { true } else { false } }
    guard let first = steps.suffix(Self.steps).first else { return }
    lines += ["", steps.count > Self.steps ? "   The last steps:" : "   Its steps:", ""]
    var story = now.story[first...].filter {
      switch $0 {
      case .step, .waiting: true
      default: false
      }
    }
    if case .waiting? = story.last {
    } else {
      story = story.filter { if case .waiting = $0 { false } else { true } }
    }
    lines += told(Array(story), opening: now.opening)
  }

  /// The story's own lines.
  private func told(_ story: [StoryItem], opening: StoryItem.Opening?) -> [String] {
    guard let file = try? Descriptor.open("\(folder)/story", O_RDWR | O_CREAT | O_TRUNC).release() else {
      return []
    }
    defer { close(file) }
    var options = TerminalTeller.Options()
    options.color = color
    options.width = appearance.width
    options.collapsesRepetitions = true
    options.isFiltered = true
    options.showsOwners = false
    let teller = TerminalTeller(output: Output(descriptor: file), options: options)
    // Who the first process is, is told at the beginning. The title is not wanted here.
    if let opening { teller.tell(.opening(opening)) }
    _ = teller.flush()
    let title = contents(ofFile: "\(folder)/story")?.count ?? 0
    for item in story { teller.tell(item) }
    _ = teller.flush()
    guard let bytes = contents(ofFile: "\(folder)/story") else { return [] }
    return String(decoding: bytes.dropFirst(title), as: UTF8.self).split(
      separator: "\n", omittingEmptySubsequences: false
    )
    .map(
      String.init
    ).trimmed
  }

  /// The first lines of what a program printed.
  private static func head(_ bytes: [UInt8]) -> [String] {
    let text = String(decoding: bytes.prefix(4096), as: UTF8.self)
    // Of a program that Swift has stopped the reason is wanted, and not the addresses.
    let said = text.range(of: "\nCurrent stack trace:").map { text[..<$0.lowerBound] } ?? text[...]
    let lines = said.split(separator: "\n", omittingEmptySubsequences: false).map { String($0).printable }
      .trimmed
    return lines.count > 8 ? lines.prefix(8) + ["…"] : lines
  }
}

extension [String] {
  /// Without empty lines at the ends.
  fileprivate var trimmed: [String] {
    var lines = self[...]
    while let last = lines.last, last.allSatisfy(\.isWhitespace) { lines.removeLast() }
    while let first = lines.first, first.allSatisfy(\.isWhitespace) { lines.removeFirst() }
    return Array(lines)
  }
}
