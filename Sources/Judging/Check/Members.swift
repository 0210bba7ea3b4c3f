import CommandLineTool
import FoundationEssentials

/// The members of one object of a check file. Who has read them all asks for what is left over, so that a misspelt name is told
/// and not passed over.
struct Members {
  struct Name: CodingKey {
    let stringValue: String
    let intValue: Int?
    init(_ name: String) { (stringValue, intValue) = (name, nil) }
    init(stringValue: String) { self.init(stringValue) }
    init?(intValue: Int) { (stringValue, self.intValue) = ("\(intValue)", intValue) }
  }

  let container: KeyedDecodingContainer<Name>

  init(_ decoder: any Decoder) throws { container = try decoder.container(keyedBy: Name.self) }

  func has(_ name: String) -> Bool { container.contains(Name(name)) }

  func isNull(_ name: String) -> Bool { (try? container.decodeNil(forKey: Name(name))) ?? false }

  func required<Value: Decodable>(_ name: String, _ type: Value.Type = Value.self) throws -> Value {
    guard has(name) else { throw mistake("'\(name)' is missing") }
    return try container.decode(type, forKey: Name(name))
  }

  func optional<Value: Decodable>(_ name: String, _ type: Value.Type = Value.self) throws -> Value? {
    try container.decodeIfPresent(type, forKey: Name(name))
  }

  /// A whole number within bounds.
  func number(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
    if isNull(name) { throw mistake("'\(name)' is null; a whole number is to stand here") }
    guard let number: Int = try optional(name) else { return nil }
    guard range.contains(number) else {
      throw mistake("'\(name)' is \(number); it is to be from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// The one name of those that stands here, for an object that is one of several things.
  func verb(of verbs: [String], _ what: String) throws -> String {
    let names = container.allKeys.map(\.stringValue)
    let found = names.filter(verbs.contains)
    if found.count == 1 { return found[0] }
    if found.count > 1 {
      throw mistake("\(what) is one of these, not both: \(found.sorted().joined(separator: ", "))")
    }
    let near = names.compactMap { Self.nearest(to: $0, among: verbs) }.first
    throw mistake(
      "this is no \(what); one of these is to stand here: \(verbs.joined(separator: ", "))"
        + (near.map { "; did you mean '\($0)'?" } ?? ""))
  }

  /// To be called when all has been read.
  func refuse(allBut known: [String]) throws {
    guard let other = container.allKeys.map(\.stringValue).first(where: { !known.contains($0) }) else {
      return
    }
    let near = Self.nearest(to: other, among: known)
    throw mistake(
      "'\(other)' is unknown here" + (near.map { "; did you mean '\($0)'?" } ?? ".")
        + " There may stand: \(known.joined(separator: ", "))")
  }

  func mistake(_ text: String) -> DecodingError {
    .dataCorrupted(.init(codingPath: container.codingPath, debugDescription: text))
  }

  static func nearest(to word: String, among words: [String]) -> String? {
    words.filter { $0.distance(to: word) <= 2 }.min { $0.distance(to: word) < $1.distance(to: word) }
  }
}

extension DecodingError {
  /// "trials[0].peer[2]: 'byte' is unknown here"
  var inWords: String {
    func place(_ path: [any CodingKey]) -> String {
      let words = path.reduce("") { text, key in
        if let index = key.intValue { return text + "[\(index)]" }
        return text + (text.isEmpty ? "" : ".") + key.stringValue
      }
      return words.isEmpty ? "" : words + ": "
    }
    switch self {
    case .typeMismatch(let type, let context):
      let wanted =
        switch type {
        case is String.Type: "a string"
        case is Int.Type, is UInt8.Type, is UInt16.Type, is UInt32.Type, is UInt64.Type: "a whole number"
        case is Bool.Type: "true or false"
        case is [String: Any].Type: "an object {…}"
        case is [Any].Type: "a list […]"
        default: "something else"
        }
      return place(context.codingPath) + "\(wanted) is to stand here"
    case .valueNotFound(_, let context): return place(context.codingPath) + "null may not stand here"
    case .keyNotFound(let key, let context):
      return place(context.codingPath) + "'\(key.stringValue)' is missing"
    case .dataCorrupted(let context):
      let cause = (context.underlyingError as? CocoaError)?.userInfo["NSDebugDescription"] as? String
      return place(context.codingPath) + (cause ?? context.debugDescription)
    @unknown default: return "\(self)"
    }
  }
}
