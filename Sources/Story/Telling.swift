import CommandLineTool

/// How a story is to be told, as the options of a command line have it.
public struct Telling: Sendable {
  /// The options that every teller of stories has.
  public static let options: [CommandLineSyntax.Option] = [
    .init("format", choices: ["text", "json"], help: "how to tell it; json is one object a line"),
    .init(
      "verbose", short: "v", help: "all that the kernel says, and through which call, not only what changed"),
    .init("color", choices: ColorMode.allCases.map(\.rawValue), help: "when to colour (auto: at a terminal)"),
  ]

  public let isJSON: Bool
  /// For the text form; further ones may be set.
  public var text = TerminalTeller.Options()

  public init(_ arguments: Arguments, to descriptor: Int32) {
    let terminal = Terminal(descriptor: descriptor)
    isJSON = arguments["format"] == "json"
    text.color = terminal.wantsColor(arguments["color"].flatMap(ColorMode.init) ?? .auto)
    text.isVerbose = arguments.has("verbose")
    text.width = terminal.width
  }

  public func teller(output: Output) -> any Teller {
    isJSON ? JSONTeller(output: output) : TerminalTeller(output: output, options: text)
  }
}
