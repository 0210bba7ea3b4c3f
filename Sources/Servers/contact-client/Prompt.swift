import CommandLineTool
import Glibc
import SystemCalls

/// The client's prompt: the commands of the command line, one after the other, until the end of the input.
struct Prompt {
  let commands: Commands
  /// Those of the command line; a command's own come before them.
  let options: Arguments

  private static let help = """
    add CONTACT PHONE     store a contact, or change its number; done once the server shows it
    list                  all contacts; list --user U, list --format json
    import FILE.csv       all contacts of a file, or none
    watch                 what changes, until ctrl-C
    help                  this
    quit                  the end; so is ctrl-D
    A name with spaces in it needs quotes: add "Bob Smith" 555. --user U may follow add, list, import and watch.

    """

  private static let words = Request.names + ["help", "quit"]
  private static let optionWords = ["--user", "--format", "--interval"]

  func run() throws(Complaint) {
    let editor = LineEditor()
    let isAtTerminal = [STDIN_FILENO, STDOUT_FILENO].allSatisfy { Terminal(descriptor: $0).isTerminal }
    editor.complete = { line in
      // Only the first word is a command.
      line.contains(" ")
        ? Self.optionWords + (line.hasPrefix("list --format ") ? ["table", "json", "csv"] : []) : Self.words
    }
    if isAtTerminal {
      commands.output.write("contacts at \(commands.server); 'help' lists the commands\n")
    }
    var hasFailed = false
    while true {
      commands.output.flush()
      if commands.output.failure != nil { return }
      let outcome: LineEditor.Outcome
      do throws(SystemCallError) { outcome = try editor.readLine(prompt: "contacts> ") } catch {
        // That line was too long, or no UTF-8; the next one may be better.
        guard [EMSGSIZE, EILSEQ].contains(error.errno.rawValue) else {
          throw Complaint("standard input: \(error)")
        }
        printToStandardError("a line that is longer than 1 MiB, or no valid UTF-8, is passed over\n")
        hasFailed = true
        continue
      }
      do throws(Complaint) {
        switch outcome {
        case .line(let line): if try perform(line) { continue }
        case .interrupted: continue
        case .end: break
        }
        // A script that has failed is to be seen to have.
        if hasFailed, !isAtTerminal { exit(ExitStatus.failure) }
        return
      } catch {
        commands.output.flush()
        // What a command line advises is a word here.
        let text = error.description.replacing("(--help lists", with: "('help' lists")
        printToStandardError("\(text)\n")
        hasFailed = true
      }
    }
  }

  /// False where it was the last one.
  private func perform(_ line: String) throws(Complaint) -> Bool {
    let words = try Self.split(line)
    switch words.first {
    case nil: return true
    case "help": commands.output.write(Self.help)
    case "quit", "exit": return false
    default:
      let own = try syntax.parse(words)
      if own.has("help") {
        commands.output.write(Self.help)
        return true
      }
      if own.operands.isEmpty { throw .usage("an option needs a command before it") }
      for option in ["server", "name"] where own.has(option) {
        throw .usage("--\(option) stands on the command line that has started this prompt")
      }
      try Request(own.operands, own, defaults: options).perform(by: commands)
    }
    return true
  }

  /// Takes a line apart at spaces, as a shell does: "quotes" and 'quotes' hold a word together, and \ takes the next character as it
  /// is, but not between single quotes.
  static func split(_ line: String) throws(Complaint) -> [String] {
    var words: [String] = []
    var word: String?
    var quote: Character?
    var isEscaped = false
    for character in line {
      if isEscaped {
        word = (word ?? "") + String(character)
        isEscaped = false
      } else if character == "\\", quote != "'" {
        word = word ?? ""
        isEscaped = true
      } else if let open = quote {
        if character == open { quote = nil } else { word = (word ?? "") + String(character) }
      } else if character == "\"" || character == "'" {
        quote = character
        word = word ?? ""
      } else if character == " " || character == "\t" {
        if let whole = word { words.append(whole) }
        word = nil
      } else {
        word = (word ?? "") + String(character)
      }
    }
    if quote != nil || isEscaped { throw .usage("a quote is not closed, or the line ends with a \\") }
    if let whole = word { words.append(whole) }
    return words
  }
}
