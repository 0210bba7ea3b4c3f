import CommandLineTool
import Glibc
import SystemCalls

/// Where a server's journal is.
enum JournalPlace {
  /// What `--journal` says, or a file of the server's name among the user's state. See: XDG Base Directory Specification
  static func path(_ arguments: Arguments) throws(Complaint) -> String {
    if let path = arguments["journal"] {
      if path.isEmpty { throw .usage("--journal needs the name of a file") }
      return path
    }
    let name = arguments["name"] ?? ""
    guard !name.contains("/"), !name.hasPrefix("."), name.utf8.count <= 200 else {
      throw .usage(
        "'\(name.printable)' makes no name of a file; --journal FILE says where to keep the contacts")
    }
    let folder = try stateFolder() + "/socketsteps"
    try make(folder)
    return "\(folder)/\(name).journal"
  }

  private static func stateFolder() throws(Complaint) -> String {
    // A relative path in it is to be passed over, the specification says.
    if let folder = getenv("XDG_STATE_HOME").map({ String(cString: $0) }), folder.hasPrefix("/") {
      return folder
    }
    if let home = getenv("HOME").map({ String(cString: $0) }), home.hasPrefix("/") {
      return "\(home)/.local/state"
    }
    throw Complaint("neither XDG_STATE_HOME nor HOME is set; --journal FILE says where to keep the contacts")
  }

  /// With the folders above it. See: mkdir(2)
  private static func make(_ folder: String) throws(Complaint) {
    var path = ""
    for part in folder.split(separator: "/") {
      path += "/\(part)"
      let parent = path.dropLast(part.count + 1)
      if mkdir(path, 0o700) == 0 {
        // A new name is on disk only when the folder that it stands in is. See: fsync(2)
        guard let above = try? Descriptor.open(parent.isEmpty ? "/" : String(parent), O_RDONLY | O_DIRECTORY),
          fsync(above.number) == 0
        else { throw Complaint("fsync \(parent): \(ErrorNumber.last)") }
        continue
      }
      let failure = ErrorNumber.last
      // A folder that is there already may stand where none could be made.
      var found = stat()
      if stat(path, &found) == 0, found.st_mode & S_IFMT == S_IFDIR { continue }
      throw Complaint(
        "mkdir \(path): \(failure); --journal FILE says where else to keep the contacts")
    }
  }
}
