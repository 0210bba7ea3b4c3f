// swift-tools-version: 6.0
import PackageDescription

// One executable a lesson, a few libraries beneath them, no package dependencies. `Lessons/README.md` is the course's
// index; each folder of `Sources` holds one library or a family of executables.

func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies)
}

/// Some lessons are two programs, of which one starts the other: whoever runs the one has the other built.
func lesson(_ name: String) -> Target {
  let started = [
    "lesson8-minimal-server": "lesson8-minimal-client", "lesson9-echo-server": "lesson9-echo-client",
    "lesson14-contact-book": "lesson14-contact-book-server",
  ]
  let partner: [Target.Dependency] = started[name].map { [.init(stringLiteral: $0)] } ?? []
  return .executableTarget(
    name: name, dependencies: ["CLinux", "LessonSupport", "Contacts", "WebSockets"] + partner,
    path: "Sources/Lessons/\(name)")
}

func lab(_ name: String) -> Target {
  .executableTarget(name: name, dependencies: ["CLinux", "LessonSupport"], path: "Sources/Labs/\(name)")
}

func server(_ name: String, _ own: [Target.Dependency] = []) -> Target {
  .executableTarget(
    name: name, dependencies: ["CLinux", "SystemCalls", "CommandLineTool", "Sockets"] + own,
    path: "Sources/Servers/\(name)")
}

/// The programs that `compare` runs: raw calls, or a wrapper of Foundation's or Dispatch's. None of our libraries is in them.
func wrapper(_ name: String) -> Target {
  .executableTarget(name: "wrapper-\(name)", path: "Sources/Wrappers/\(name)")
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["TestSupport"], path: "Tests/\(name)",
    exclude: ["TracingTests": ["Recorded"], "WorkshopTests": ["Wrong"]][name] ?? [])
}

let lessons = [
  "lesson1-socket", "lesson2-bind", "lesson3-listen", "lesson4-accept", "lesson5-read", "lesson6-write",
  "lesson7-close", "lesson8-minimal-server", "lesson8-minimal-client",
  "lesson9-echo-server", "lesson9-echo-client", "lesson10-framing", "lesson11-threads",
  "lesson12-event-loop", "lesson13-contact-wire", "lesson14-contact-book-server", "lesson14-contact-book",
  "lesson15-replication", "lesson16-upgrade", "lesson17-frames", "lesson18-two-servers",
]

let labs = [
  "lab-broken-pipe",
  "lab-close-wait",
  "lab-descriptor-limit",
  "lab-full-accept-queue",
  "lab-half-open",
  "lab-nagle",
  "lab-port-taken",
  "lab-reset",
  "lab-self-connect",
  "lab-wakeups",
  "lab-zero-window",
]

let wrappers = [
  "Raw", "FileHandle", "FileHandleReadData", "FileHandleReadability", "FileHandleNotification", "SocketPort",
  "DispatchSource", "DispatchIO", "RawClient", "RawClientAnew", "URLSession", "DataContentsOf",
  "FileHandleClient", "Attempts",
]

let package = Package(
  name: "SocketSteps",
  targets: [
    .systemLibrary(name: "CLinux"),
    library("SystemCalls", ["CLinux"]),
    library("CommandLineTool", ["CLinux", "SystemCalls"]),
    library("KernelState", ["CLinux", "SystemCalls"]),
    library("Sockets", ["CLinux", "SystemCalls"]),
    library("Tracing", ["CLinux", "SystemCalls"]),
    library("Story", ["CLinux", "SystemCalls", "CommandLineTool", "KernelState", "Tracing"]),
    library(
      "LessonSupport", ["CLinux", "SystemCalls", "CommandLineTool", "KernelState", "Tracing", "Story"]),
    .executableTarget(
      name: "follow", dependencies: ["CLinux", "SystemCalls", "CommandLineTool", "Tracing", "Story"],
      path: "Sources/Tools/follow"),
    .executableTarget(
      name: "compare",
      dependencies: ["CLinux", "SystemCalls", "CommandLineTool", "KernelState", "Tracing"]
        + wrappers.map { .init(stringLiteral: "wrapper-\($0)") },
      path: "Sources/Tools/compare"),
    library("Judging", ["CLinux", "SystemCalls", "CommandLineTool", "KernelState", "Tracing", "Story"]),
    .executableTarget(
      name: "workshop",
      dependencies: [
        "CLinux", "SystemCalls", "CommandLineTool", "KernelState", "Tracing", "Story", "Sockets", "Judging",
      ],
      path: "Sources/Tools/workshop"),
    library("LoadGeneration", ["CLinux", "SystemCalls", "Sockets"]),
    .executableTarget(
      name: "load",
      dependencies: [
        "CLinux", "SystemCalls", "CommandLineTool", "Sockets", "LoadGeneration", "Contacts", "WebSockets",
      ],
      path: "Sources/Tools/load"),
    library("Contacts", ["CLinux", "SystemCalls", "Sockets"]),
    library("WebSockets", ["CLinux", "SystemCalls", "Sockets"]),
    server("echo-server"),
    server("echo-client"),
    server("contact-server", ["Contacts"]),
    server("contact-client", ["Contacts"]),
    server("websocket-server", ["WebSockets"]),
    server("websocket-client", ["WebSockets"]),
    .target(name: "TestSupport", dependencies: ["SystemCalls"], path: "Tests/TestSupport"),
    tests("SystemCallsTests", ["SystemCalls"]),
    tests("CommandLineToolTests", ["CommandLineTool"]),
    tests("SocketsTests", ["Sockets", "SystemCalls"]),
    tests(
      "ServerTests",
      [
        "echo-server", "echo-client", "contact-server", "contact-client", "websocket-server",
        "websocket-client", "load",
        "follow", "SystemCalls",
      ]),
    tests("ContactsTests", ["Contacts", "SystemCalls"]),
    tests("WebSocketsTests", ["WebSockets", "Sockets", "SystemCalls"]),
    tests("KernelStateTests", ["KernelState", "SystemCalls"]),
    tests("TracingTests", ["CLinux", "Tracing"]),
    tests("StoryTests", ["Story", "Tracing", "KernelState", "SystemCalls", "CommandLineTool"]),
    tests("LessonTests", (lessons + labs).map { .init(stringLiteral: $0) } + ["follow", "SystemCalls"]),
    tests("ToolTests", ["follow", "compare", "SystemCalls"]),
    tests("JudgingTests", ["Judging", "CommandLineTool"]),
    tests("WorkshopTests", ["workshop", "contact-server", "contact-client", "SystemCalls"]),
  ] + lessons.map(lesson) + labs.map(lab) + wrappers.map(wrapper),
  swiftLanguageModes: [.v6]
)
