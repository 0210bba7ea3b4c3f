/// Something that has happened in a server, for its log.
public struct ServerEvent: Sendable {
  /// What kind: "link up", "contact taken" …
  public let name: String
  /// The rest of the sentence, for people.
  public let text: String
  /// The same for programs.
  public let fields: [(name: String, value: Value)]

  public enum Value: Sendable {
    case text(String)
    case number(UInt64)
    case flag(Bool)
  }

  init(_ name: String, _ text: String, _ fields: [(name: String, value: Value)] = []) {
    self.name = name
    self.text = text
    self.fields = fields
  }
}

extension ServerEvent.Value {
  static func number(_ value: some BinaryInteger) -> Self { .number(UInt64(clamping: value)) }
}

func text(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }
