import CommandLineTool
import Glibc
import SystemCalls

/// One story told several times: to the reader, and to files beside.
public final class Chorus: Teller {
  /// Where the first one tells it.
  public var output: Output { lead.output }
  public var outputs: [Output] { lead.outputs + others.flatMap(\.teller.outputs) }
  private let lead: any Teller
  private let others: [(path: String, teller: any Teller)]

  public init(_ lead: any Teller, beside others: [(path: String, teller: any Teller)]) {
    self.lead = lead
    self.others = others
  }

  public func tell(_ item: StoryItem) {
    lead.tell(item)
    for other in others { other.teller.tell(item) }
  }

  public var wantsMore: Bool { lead.wantsMore && others.allSatisfy(\.teller.wantsMore) }

  public func willBeInterrupted() {
    lead.willBeInterrupted()
    for other in others { other.teller.willBeInterrupted() }
  }

  /// A file that cannot be written is no reason to end the story.
  public func flush() -> Bool {
    for other in others { _ = other.teller.flush() }
    return lead.flush()
  }

  /// The files that could not be written to their end, and why.
  public var failures: [(path: String, reason: ErrorNumber)] {
    others.compactMap { path, teller in teller.output.failure.map { (path, $0) } }
  }
}
