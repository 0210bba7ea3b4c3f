import Glibc
import SystemCalls

/// Makes a folder, and those above it. One that is there is right. See: mkdir(2)
func makeFolder(_ path: String) throws(SystemCallError) {
  if mkdir(path, 0o777) == 0 { return }
  switch errno {
  case EEXIST: return
  case ENOENT:
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { fallthrough }
    try makeFolder(String(path[..<slash]))
    if mkdir(path, 0o777) != 0, errno != EEXIST {
      throw SystemCallError(call: "mkdir", asked: path, errno: .last)
    }
  default: throw SystemCallError(call: "mkdir", asked: path, errno: .last)
  }
}

/// Gives a file other contents, in one step for whoever reads it: they are written beside it, and renamed. See: rename(2)
func replaceFile(_ path: String, with bytes: [UInt8]) throws(SystemCallError) {
  let beside = "\(path).\(getpid())"
  var before = stat()
  let mode = stat(path, &before) == 0 ? before.st_mode & 0o7777 : nil
  let file = try Descriptor.open(beside, O_WRONLY | O_CREAT | O_TRUNC)
  do throws(SystemCallError) {
    if let mode { fchmod(file.number, mode) }
    try writeAll(bytes, to: file.number)
    try systemCall("fsync", path) { fsync(file.number) }
    try systemCall("rename", path) { rename(beside, path) }
  } catch {
    unlink(beside)
    throw error
  }
}

/// A new file. Throws EEXIST where there is one of this name.
func makeFile(_ path: String, _ bytes: [UInt8]) throws(SystemCallError) {
  let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL)
  try writeAll(bytes, to: file.number)
  try file.close()
}
