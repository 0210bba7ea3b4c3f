import CommandLineTool
import Glibc
import SystemCalls
import Tracing

/// How a story is to be told, as the options of a command line have it.
public struct Telling {
  /// The options that every teller of stories has.
  public static let options: [CommandLineSyntax.Option] = [
    .init("format", choices: ["text", "json"], help: "how to tell it; json is one object a line"),
    .init(
      "pcap", value: "FILE", help: "write the packets to FILE too, for Wireshark, each with its step (pcapng)"
    ),
    .init("svg", value: "FILE", help: "draw the whole run into FILE: states and packets, one picture"),
    .init("isolated", help: "run it in its own network: packets and any port without root, nothing foreign"),
    .init(
      "verbose", short: "v", help: "all that the kernel says, and through which call, not only what changed"),
    .init("color", choices: ColorMode.allCases.map(\.rawValue), help: "when to colour (auto: at a terminal)"),
  ]

  public let isJSON: Bool
  /// For the text form; further ones may be set.
  public var text = TerminalTeller.Options()
  /// Whether packets are to be written down.
  public let needsPackets: Bool
  private let besides: [(path: String, teller: any Teller)]

  /// Opens the files that are asked for, before anything is done.
  ///
  /// - Throws: a `Complaint` where one cannot be written.
  public init(_ arguments: Arguments, to descriptor: Int32) throws(Complaint) {
    let terminal = Terminal(descriptor: descriptor)
    isJSON = arguments["format"] == "json"
    needsPackets = arguments.has("pcap")
    text.color = terminal.wantsColor(arguments["color"].flatMap(ColorMode.init) ?? .auto)
    text.isVerbose = arguments.has("verbose")
    text.width = terminal.width
    var besides: [(path: String, teller: any Teller)] = []
    for (option, what) in [("pcap", "the packets"), ("svg", "the picture")] {
      guard let path = arguments[option] else { continue }
      let output = try Self.file(path, what)
      let others = [descriptor] + besides.map(\.teller.output.descriptor)
      if others.contains(where: { Self.isSameFile($0, output.descriptor) }) {
        throw .usage("--\(option) \(path): something else is written to that file already")
      }
      besides.append((path, option == "pcap" ? CaptureTeller(output: output) : PictureTeller(output: output)))
    }
    self.besides = besides
  }

  private static func isSameFile(_ one: Int32, _ other: Int32) -> Bool {
    var first = stat()
    var second = stat()
    guard fstat(one, &first) == 0, fstat(other, &second) == 0, first.st_mode & S_IFMT == S_IFREG else {
      return false
    }
    return first.st_dev == second.st_dev && first.st_ino == second.st_ino
  }

  /// An output to a file. `what` goes there. What the file holds is kept until something is written.
  public static func file(_ path: String, _ what: String) throws(Complaint) -> Output {
    do throws(SystemCallError) {
      let output = Output(descriptor: try Descriptor.open(path, O_WRONLY | O_CREAT).release())
      output.emptiesFile = true
      return output
    } catch {
      throw Complaint("cannot write \(what) to \(path): \(error.errno)")
    }
  }

  public func teller(output: Output) -> Chorus {
    let lead: any Teller =
      isJSON ? JSONTeller(output: output) : TerminalTeller(output: output, options: text)
    return Chorus(lead, beside: besides)
  }

  /// Moves this process into namespaces of its own, where `--isolated` wants that. To be called before there is a second
  /// thread. Returns the namespaces as nsenter(1) names them; nothing for none.
  public static func isolate(_ arguments: Arguments, port: UInt16 = 0) throws(Complaint) -> String {
    guard arguments.has("isolated") else { return "" }
    do throws(SystemCallError) { return try Isolation.enter(allowing: port) ? "-U -n" : "-n" } catch {
      throw Complaint("--isolated is not possible here (\(error)): \(IsolationRefusal.advice(error))")
    }
  }
}

extension Telling {
  /// The same where it is only better so.
  ///
  /// - Returns: the namespaces; and where they were refused, what to say of that.
  public static func isolateIfPossible(port: UInt16) -> (namespaces: String, note: String?) {
    do throws(SystemCallError) { return (try Isolation.enter(allowing: port) ? "-U -n" : "-n", nil) } catch {
      let reason = "\(error): \(IsolationRefusal.advice(error))"
      return ("", "No network of its own (\(reason)); what the kernel counts, others' sockets count in.")
    }
  }
}

/// Why namespaces were refused, and what to do.
enum IsolationRefusal {
  static func advice(_ error: SystemCallError) -> String {
    func setting(_ path: String) -> Int? {
      text(ofFile: "/proc/sys/\(path)").flatMap { Int($0.prefix { $0.isNumber }) }
    }
    let limits = ["net", "user"].map { "user.max_\($0)_namespaces" }
    let exhausted = limits.filter { setting($0.split(separator: ".").joined(separator: "/")) == 0 }
    if error.errno.rawValue == ENOSPC || !exhausted.isEmpty {
      // Where none is 0, one of them is used up, and which one nobody says.
      let settings = (exhausted.isEmpty ? limits : exhausted).map { "\($0)=10000" }.joined(separator: " ")
      return "no more namespaces are allowed; as root: sysctl \(settings)"
    }
    if setting("kernel/unprivileged_userns_clone") == 0 {
      return "user namespaces are for root alone; as root: sysctl kernel.unprivileged_userns_clone=1"
    }
    if setting("kernel/apparmor_restrict_unprivileged_userns") == 1 {
      return
        "AppArmor restricts user namespaces; as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    }
    if error.call == "write" {
      return
        "this user cannot be mapped into a namespace of its own; uid 0 needs CAP_SETFCAP for that (user_namespaces(7))"
    }
    if error.errno.rawValue == EINVAL { return "this kernel has no user or network namespaces" }
    return
      "this user has no number in its own user namespace, or a container forbids it, with Docker's default profile for one: --security-opt seccomp=unconfined"
  }
}
