/// What a command accepts: its options, what follows them, and the help that says so.
public struct CommandLineSyntax: Sendable {
  /// One option: `--name`, or `--name VALUE` where `value` is given; `-x` as well where `short` is.
  public struct Option: Sendable {
    public let name: String
    public let short: Character?
    /// How the value is called in the help ("N", "FILE", "text|json"), or nil for a flag.
    public let value: String?
    public let help: String
    /// The only values allowed, where they can be listed.
    public let choices: [String]

    public init(
      _ name: String, short: Character? = nil, value: String? = nil, choices: [String] = [], help: String
    ) {
      self.name = name
      self.short = short
      self.value = value ?? (choices.isEmpty ? nil : choices.joined(separator: "|"))
      self.choices = choices
      self.help = help
    }
  }

  public let command: String
  /// One sentence.
  public let purpose: String
  public let options: [Option]
  /// What follows the options ("-- COMMAND [ARGS…]"), or nil where nothing may.
  public let operands: String?
  /// Whether options may follow an operand. Not where the operands are another command with options of its own.
  public let mixesOperands: Bool

  public init(
    command: String, purpose: String, options: [Option], operands: String? = nil, mixesOperands: Bool = false
  ) {
    self.mixesOperands = mixesOperands
    self.command = command
    self.purpose = purpose
    self.options =
      options.contains { $0.name == "help" }
      ? options : options + [Option("help", short: "h", help: "print this and end")]
    self.operands = operands
  }

  /// The text of `--help`, at most `width` columns wide.
  public func help(width: Int) -> String {
    var lines = ["usage: \(command) [options]" + (operands.map { " \($0)" } ?? "")]
    lines += [""] + purpose.wrapped(to: width) + [""]
    let names = options.map { option in
      let short = option.short.map { "-\($0), " } ?? ""
      return "  \(short)--\(option.name)" + (option.value.map { " \($0)" } ?? "")
    }
    // Where little room is left beside the names, what they mean stands below them.
    let column = width < 60 ? 6 : min(30, (names.map(\.count).max() ?? 0) + 2)
    for (name, option) in zip(names, options) {
      let help = option.help.wrapped(to: max(20, width - column))
      if name.count + 2 > column {
        lines.append(name)
      } else {
        lines.append(name.padded(to: column) + (help.first ?? ""))
      }
      for line in name.count + 2 > column ? help[...] : help.dropFirst() {
        lines.append(String(repeating: " ", count: column) + line)
      }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Takes the command line apart. Throws a `Complaint` with status 2 that names the word that made no sense.
  ///
  /// Options may stand as `--name VALUE` or `--name=VALUE`. With `operands`, the first word that is no option, or `--`,
  /// ends the options, unless the syntax mixes both; then `--` alone does.
  public func parse(_ words: [String]) throws(Complaint) -> Arguments {
    var arguments = Arguments(command: command)
    var index = words.startIndex
    while index < words.endIndex {
      let word = words[index]
      index += 1
      if word == "--" {
        arguments.operands += words[index...]
        break
      }
      guard word.hasPrefix("-"), word != "-" else {
        if mixesOperands {
          arguments.operands.append(word)
          continue
        }
        if operands != nil {
          arguments.operands = Array(words[(index - 1)...])
          break
        }
        throw usage("'\(word)' was not expected; options begin with --")
      }
      let (name, attached) = split(word)
      guard let option = options.first(where: { matches($0, name) }) else {
        let near = options.map(\.name).min { $0.distance(to: name) < $1.distance(to: name) }
        let hint = near.flatMap { $0.distance(to: name) <= 2 ? "; did you mean --\($0)?" : nil } ?? ""
        throw usage("there is no option \(word)\(hint)")
      }
      guard option.value != nil else {
        if attached != nil { throw usage("--\(option.name) takes no value") }
        arguments.values[option.name] = ""
        continue
      }
      guard let value = attached ?? (index < words.endIndex ? words[index] : nil) else {
        throw usage("--\(option.name) needs a value: \(option.value ?? "")")
      }
      if attached == nil { index += 1 }
      if !option.choices.isEmpty, !option.choices.contains(value) {
        throw usage("--\(option.name) is \(option.choices.joined(separator: ", ")), not '\(value)'")
      }
      arguments.values[option.name] = value
      arguments.lists[option.name, default: []].append(value)
    }
    if operands == nil, let extra = arguments.operands.first {
      throw usage("'\(extra)' was not expected")
    }
    return arguments
  }

  private func split(_ word: String) -> (name: Substring, value: String?) {
    guard word.hasPrefix("--") else { return (word.dropFirst(), nil) }
    let body = word.dropFirst(2)
    guard let equals = body.firstIndex(of: "=") else { return (body, nil) }
    return (body[..<equals], String(body[body.index(after: equals)...]))
  }

  private func matches(_ option: Option, _ name: Substring) -> Bool {
    option.name == name || option.short.map { String($0) == name } ?? false
  }

  private func usage(_ message: String) -> Complaint { .usage(message) }
}

extension Complaint {
  /// A command line that makes no sense: status 2, and where to read on.
  public static func usage(_ message: String) -> Complaint {
    Complaint("\(message) (--help lists what there is)", status: ExitStatus.usage)
  }
}

/// The words of this process's command line, without its name.
///
/// - Returns: each as it was given.
/// - Throws: where one of them is not valid UTF-8: repaired it would be another word.
public func commandLineWords() throws(Complaint) -> [String] {
  var words: [String] = []
  for number in 1..<max(1, Int(CommandLine.argc)) {
    guard let pointer = CommandLine.unsafeArgv[number], let word = String(validatingCString: pointer) else {
      throw .usage("word \(number) of the command line is not valid UTF-8")
    }
    words.append(word)
  }
  return words
}

/// A command line taken apart.
public struct Arguments: Sendable {
  public let command: String
  fileprivate(set) var values: [String: String] = [:]
  fileprivate var lists: [String: [String]] = [:]
  public fileprivate(set) var operands: [String] = []

  public func has(_ option: String) -> Bool { values[option] != nil }
  /// The option's value; its last, where it was given more than once.
  public subscript(option: String) -> String? { values[option] }
  /// All values of an option that may be given more than once, in their order.
  public func all(_ option: String) -> [String] { lists[option] ?? [] }

  /// The option's value as a number within `range`, or nil where the option was not given.
  public func number(_ option: String, in range: ClosedRange<Int>) throws(Complaint) -> Int? {
    guard let value = values[option] else { return nil }
    guard let number = Int(value), range.contains(number) else {
      throw .usage(
        "--\(option) takes a whole number from \(range.lowerBound) to \(range.upperBound), not '\(value)'")
    }
    return number
  }
}

extension StringProtocol {
  /// How many letters must be added, taken away or changed to make one word the other.
  public func distance(to other: some StringProtocol) -> Int {
    let other = Array(other)
    var row = Array(0...other.count)
    for (i, a) in self.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, b) in other.enumerated() {
        let next = Swift.min(diagonal + (a == b ? 0 : 1), row[j] + 1, row[j + 1] + 1)
        diagonal = row[j + 1]
        row[j + 1] = next
      }
    }
    return row[other.count]
  }
}
