import CLinux
import CommandLineTool
import Glibc
import Judging
import KernelState
import Story
import SystemCalls
import Tracing

/// Looks whether this system lets the judge work: each thing is tried, not guessed.
struct Doctor {
  struct Finding {
    enum Weight {
      case fine
      /// Something is missing that the judge can do without.
      case minor
      /// The judge cannot work.
      case grave
    }

    let thing: String
    let weight: Weight
    let text: String
  }

  /// The word by which this program starts itself again to be followed.
  private static let patient = "--to-be-followed"
  /// The same, to move into a network of its own.
  private static let hermit = "--to-be-alone"
  /// What a compiler needs for a small program, and what is little, in MiB.
  private static let room: (least: UInt64, enough: UInt64) = (50, 500)

  let place: Place

  /// What a copy of this program does that the doctor has started; nothing for any other command line.
  static func becomePatient(_ words: [String]) {
    if words.last == patient, Launcher.becomeTraced(words) != nil {
      // The call that is to be seen.
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      exit(descriptor < 0 ? ExitStatus.failure : ExitStatus.success)
    }
    guard words == [hermit] else { return }
    do throws(Complaint) {
      let syntax = CommandLineSyntax(command: name, purpose: "", options: Telling.options)
      _ = try Telling.isolate(try syntax.parse(["--isolated"]))
      exit(ExitStatus.success)
    } catch {
      print(error.description.replacing("--isolated is not possible here ", with: ""))
      exit(ExitStatus.failure)
    }
  }

  /// Looks at everything, and tells `progress` at what.
  func findings(_ progress: (String) -> Void) -> [Finding] {
    progress("ptrace")
    let (tracing, duplicates) = follow()
    progress("the kernel's sockets")
    let rows = [tracing, duplicates, sockets, namespaces, packets]
    progress("the disk")
    let disk = disk
    progress("the compiler")
    return rows + [compiler, disk]
  }

  /// Follows a program of one call, and asks for its socket, as the judge does.
  private func follow() -> (Finding, Finding) {
    let tracer = Tracer()
    var state: SocketState?
    let kernel = Kernel()
    func unseen(_ text: String) -> (Finding, Finding) {
      (
        Finding(thing: "ptrace", weight: .grave, text: text),
        Finding(thing: "pidfd_getfd", weight: .minor, text: "not tried, since no program can be followed")
      )
    }
    do throws(SystemCallError) {
      try tracer.start(name: name, arguments: [Self.patient])
      var wasSeen = false
      while let event = try tracer.next() {
        guard case .returned(let call) = event, call.systemCall == .socket else { continue }
        wasSeen = true
        state = kernel.socket(descriptor: Int32(call.result ?? -1), of: call.process)
        break
      }
      tracer.release()
      guard wasSeen else {
        return unseen("a program was followed, and its call was not seen; does a container forbid seccomp?")
      }
    } catch {
      tracer.release()
      return unseen(TracingRefusal.explain(error).description)
    }
    let tracing = Finding(thing: "ptrace", weight: .fine, text: "programs can be followed, call by call")
    if let refusal = kernel.duplicateRefusal {
      return (
        tracing,
        Finding(
          thing: "pidfd_getfd", weight: .minor,
          text:
            "a program's descriptors cannot be asked (\(refusal)); states come from sock_diag alone, and options such as "
            + "SO_REUSEADDR cannot be checked. Docker: --security-opt seccomp=unconfined; it takes Linux 5.6")
      )
    }
    guard state != nil else {
      return (
        tracing,
        Finding(
          thing: "pidfd_getfd", weight: .minor,
          text: "the program's socket was not found: states may be missing")
      )
    }
    return (
      tracing,
      Finding(thing: "pidfd_getfd", weight: .fine, text: "a program's sockets can be asked for their state")
    )
  }

  private var sockets: Finding {
    if let refusal = Kernel().sockDiagRefusal {
      return Finding(
        thing: "sock_diag", weight: .grave,
        text: "the kernel does not list its sockets (\(refusal)); as root: modprobe inet_diag tcp_diag")
    }
    return Finding(
      thing: "sock_diag", weight: .fine, text: "the kernel lists its sockets, those without a descriptor too")
  }

  private var namespaces: Finding {
    let itself = destination(ofLink: "/proc/self/exe") ?? "/proc/self/exe"
    guard let result = ChildProcess.run([itself, Self.hermit]), result.status != ExitStatus.success else {
      return Finding(thing: "namespaces", weight: .fine, text: "each program gets a network of its own")
    }
    // What to do stands behind what was refused.
    let why = String(decoding: result.output, as: UTF8.self).split(separator: "\n").last.map { line in
      line.firstRange(of: ")): ").map { String(line[$0.upperBound...]) } ?? String(line)
    }
    return Finding(
      thing: "namespaces", weight: .minor,
      text: "programs are judged in the network of all, where others' ports may be in the way: "
        + (why ?? "it was refused").printable)
  }

  private var packets: Finding {
    do throws(SystemCallError) { _ = try PacketTap() } catch {
      return Finding(
        thing: "packets", weight: .minor,
        text:
          "lessons show packets with --isolated only (\(error)); as root they always do. The judge needs none"
      )
    }
    return Finding(thing: "packets", weight: .fine, text: "lessons can show packets")
  }

  /// Where programs are compiled to. See: environ(7), TMPDIR
  private var folder: String { getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp" }

  private var disk: Finding {
    var state = statvfs()
    guard statvfs(folder, &state) == 0 else {
      return Finding(
        thing: "disk", weight: .grave,
        text: "\(folder) cannot be used: \(ErrorNumber.last); set TMPDIR to another folder")
    }
    let mebibytes =
      UInt64(state.f_bavail).multipliedReportingOverflow(by: UInt64(state.f_frsize)).partialValue >> 20
    let text = "\(mebibytes) MiB are free in \(folder), where programs are compiled"
    if mebibytes >= Self.room.enough { return Finding(thing: "disk", weight: .fine, text: text) }
    return Finding(
      thing: "disk", weight: mebibytes < Self.room.least ? .grave : .minor,
      text: "\(text); make room, or set TMPDIR to another folder")
  }

  /// Compiles a small program, and runs it.
  private var compiler: Finding {
    func grave(_ text: String) -> Finding { Finding(thing: "compiler", weight: .grave, text: text) }
    var template = Array("\(folder)/workshop-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      return grave("nothing can be written in \(folder): \(ErrorNumber.last); set TMPDIR to another folder")
    }
    let folder = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    let files = (source: "\(folder)/main.swift", program: "\(folder)/main")
    defer {
      for file in [files.source, files.program] { unlink(file) }
      rmdir(folder)
    }
    let source = "import CLinux\nimport Glibc\nprint(CLINUX_CLONE_NEWNET == 0 ? 0 : getpid() > 0 ? 42 : 0)\n"
    do throws(SystemCallError) { try makeFile(files.source, Array(source.utf8)) } catch {
      return grave("\(error)")
    }
    let begun = monotonicNanoseconds()
    let command = ["swiftc", "-I", place.headers, files.source, "-o", files.program]
    guard let result = ChildProcess.run(command, keepsErrors: true) else {
      return grave(
        "there is no swiftc in PATH; install Swift (swift.org/install), or put its usr/bin into PATH")
    }
    guard result.status == 0 else {
      let lines = String(decoding: result.output, as: UTF8.self).split(separator: "\n")
      let line = lines.first { $0.contains("error:") } ?? lines.first ?? "status \(result.status)"
      return grave("swiftc does not compile a small program: \(String(line).printable)")
    }
    let time = monotonicNanoseconds() &- begun
    guard let answer = ChildProcess.run([files.program]), answer.output == Array("42\n".utf8) else {
      return grave(
        "what swiftc compiles in \(folder) does not run; is that mounted noexec? Set TMPDIR to another folder"
      )
    }
    let version = ChildProcess.run(["swiftc", "--version"]).map { String(decoding: $0.output, as: UTF8.self) }
    let name = version?.split(separator: "\n").first { $0.contains("Swift version") }.map { line in
      line.firstRange(of: "Swift version").map {
        String(line[$0.lowerBound...].prefix { $0 != "(" }).trimmedRight
      } ?? String(line)
    }
    return Finding(
      thing: "compiler", weight: .fine,
      text: "\(name?.printable ?? "swiftc"): a small program takes \(Workshop.seconds(time))")
  }

  /// Prints what it finds.
  ///
  /// - Returns: the status to exit with.
  func run(_ output: Output, _ page: Page) -> Int32 {
    let line = StatusLine()
    let findings = findings { line.show("looking at \($0) …") }
    line.clear()
    for finding in findings {
      let (mark, style): (String, Style) =
        switch finding.weight {
        case .fine: ("✓", .good)
        case .minor: ("!", .changed)
        case .grave: ("✗", .bad)
        }
      let column = (findings.map(\.thing.count).max() ?? 0) + 2
      let isWide = page.width >= 60
      let lines = finding.text.wrapped(to: page.width - 4 - (isWide ? column : 0))
      output.write(" \(style(mark, color: page.color)) ")
      let thing = Style.heading(finding.thing, color: page.color)
      let pad = String(repeating: " ", count: column - finding.thing.count)
      output.write(isWide ? "\(thing)\(pad)\(lines.first ?? "")\n" : "\(thing)\n")
      for line in lines.dropFirst(isWide ? 1 : 0) {
        output.write(String(repeating: " ", count: 3 + (isWide ? column : 0)) + line + "\n")
      }
    }
    let isWell = !findings.contains { $0.weight == .grave }
    output.write("\n")
    output.write(
      isWell
        ? page.marked("✓", .good, "Exercises can be judged here.")
        : page.marked("✗", .bad, "Exercises cannot be judged here: see what is marked ✗."))
    return isWell ? ExitStatus.success : ExitStatus.failure
  }
}
