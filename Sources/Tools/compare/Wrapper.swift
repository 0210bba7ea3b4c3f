import Glibc
import SystemCalls

/// One of the programs in `Sources/Wrappers`.
struct Wrapper: Sendable {
  /// As the folder is called, and the command line has it.
  let name: String
  /// What stands between the program and the system calls.
  let about: String
  let isServer: Bool
  /// The program of raw calls that does the same; nil for such a program.
  var rawName: String?

  var isRaw: Bool { rawName == nil }
  /// The one that it is compared with; a raw one is its own.
  var raw: Wrapper { Self.all.first { $0.name == rawName } ?? self }
  var jobs: [Job] { Job.allCases.filter { $0.isServers == isServer } }

  static let all: [Wrapper] =
    [Wrapper(name: "Raw", about: "Glibc's calls and nothing else", isServer: true)]
    + [
      ("FileHandle", "FileHandle(fileDescriptor:), availableData, write"),
      ("FileHandleReadData", "FileHandle, read(upToCount: 1)"),
      ("FileHandleReadability", "FileHandle, readabilityHandler"),
      ("FileHandleNotification", "FileHandle, waitForDataInBackgroundAndNotify"),
      ("SocketPort", "SocketPort(tcpPort:), then raw calls"),
      ("DispatchSource", "DispatchSource.makeReadSource"),
      ("DispatchIO", "DispatchIO channels"),
    ].map { Wrapper(name: $0, about: $1, isServer: true, rawName: "Raw") } + [
      Wrapper(name: "RawClient", about: "Glibc's calls, one connection for all requests", isServer: false),
      Wrapper(name: "RawClientAnew", about: "Glibc's calls, a connection a request", isServer: false),
      Wrapper(name: "URLSession", about: "URLSession.data(from:)", isServer: false, rawName: "RawClient"),
      Wrapper(
        name: "DataContentsOf", about: "Data(contentsOf:), a connection a request", isServer: false,
        rawName: "RawClientAnew"),
      Wrapper(
        name: "FileHandleClient", about: "FileHandle, readToEnd, a connection a request", isServer: false,
        rawName: "RawClientAnew"),
    ]
}

/// Where the programs and their sources are.
struct Place {
  /// The folder of this executable, in which `swift build` puts the others too.
  let products: String
  /// The folder with the package's description; nil where it cannot be found from here.
  let package: String?

  /// - Parameter executable: this program's own path.
  init(executable: String) {
    var folder = executable.split(separator: "/").dropLast()
    products = "/" + folder.joined(separator: "/")
    var package: String?
    while !folder.isEmpty, package == nil {
      folder = folder.dropLast()
      let path = "/" + folder.joined(separator: "/")
      if access("\(path)/Package.swift", R_OK) == 0, access("\(path)/Sources/Wrappers", R_OK) == 0 {
        package = path
      }
    }
    self.package = package
  }

  func program(_ wrapper: String) -> String { "\(products)/wrapper-\(wrapper)" }

  /// A program's source; nil where it cannot be read.
  func source(_ wrapper: String) -> String? {
    package.flatMap { text(ofFile: "\($0)/Sources/Wrappers/\(wrapper)/main.swift") }
  }
}
