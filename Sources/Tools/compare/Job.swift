import Glibc
import SystemCalls

/// What the programs are given to do.
enum Job: String, CaseIterable {
  /// To open a socket and wait for one client, which closes its connection at once.
  case open
  /// To send back what one client sends, until it ends its direction.
  case echo
  /// To get a page from a server.
  case http

  /// A server is dialled, a client is answered.
  var isServers: Bool { self != .http }

  /// The stages in the order in which they come.
  var stages: [Stage] {
    isServers
      ? [.open, .bind, .listen, .accept, .read, .write, .close] : [.open, .connect, .write, .read, .close]
  }

  /// What is timed of it.
  var measured: String {
    switch self {
    case .open: "from its start to its end"
    case .echo: "a round trip of \(Measurement.messageSize) bytes"
    case .http: "from one answer to the next request"
    }
  }
}

/// One of the programs in `Sources/Wrappers`.
struct Wrapper: Sendable {
  /// As the folder is called, and the command line has it.
  let name: String
  /// What stands between the program and the system calls.
  let about: String
  let isServer: Bool

  var isRaw: Bool { self.name == Self.rawServer.name || self.name == Self.rawClient.name }
  /// The one that it is compared with.
  var raw: Wrapper { isServer ? Self.rawServer : Self.rawClient }
  var jobs: [Job] { Job.allCases.filter { $0.isServers == isServer } }

  static let rawServer = Wrapper(name: "Raw", about: "Glibc's calls and nothing else", isServer: true)
  static let rawClient = Wrapper(name: "RawClient", about: "Glibc's calls and nothing else", isServer: false)

  static let all: [Wrapper] = [
    rawServer,
    Wrapper(name: "FileHandle", about: "FileHandle(fileDescriptor:), availableData, write", isServer: true),
    Wrapper(name: "FileHandleReadData", about: "FileHandle, read(upToCount:)", isServer: true),
    Wrapper(name: "FileHandleReadability", about: "FileHandle, readabilityHandler", isServer: true),
    Wrapper(
      name: "FileHandleNotification", about: "FileHandle, waitForDataInBackgroundAndNotify", isServer: true),
    Wrapper(name: "SocketPort", about: "SocketPort(tcpPort:), then raw calls", isServer: true),
    Wrapper(name: "DispatchSource", about: "DispatchSource.makeReadSource", isServer: true),
    Wrapper(name: "DispatchIO", about: "DispatchIO channels", isServer: true),
    rawClient,
    Wrapper(name: "URLSession", about: "URLSession.data(from:)", isServer: false),
    Wrapper(name: "DataContentsOf", about: "Data(contentsOf:), a connection each", isServer: false),
    Wrapper(name: "FileHandleClient", about: "FileHandle, readToEnd, a connection each", isServer: false),
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
