// Lesson 14, the server: a book of contacts that outlives its process. `swift run lesson14-contact-book` starts it, ends it with
// SIGKILL, and starts it again.

import Glibc
import LessonSupport

begin()
// As inetd does it: whoever starts this program has called socket, bind and listen, and hands the socket over as descriptor 0.
let listener = STDIN_FILENO
guard let path = getenv("JOURNAL") else {
  cannotShow("no JOURNAL is named; lesson14-contact-book starts this")
}

// A record is the contact as it is on the wire: its key, that is user and contact, 512 bytes, and its phone number, 20.
let (keySize, recordSize) = (512, 532)
var book: [[UInt8]: [UInt8]] = [:]
let journal = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
guard journal >= 0 else { fail("open") }
while true {
  let record = readExactly(journal, recordSize)
  // A crash may have left a part of one. Nobody was shown it: cut it off.
  if record.count < recordSize { break }
  book[Array(record.prefix(keySize))] = Array(record.suffix(20))
}
let whole = lseek(journal, 0, SEEK_CUR) / recordSize * recordSize
guard ftruncate(journal, whole) == 0 else { fail("ftruncate") }
say(
  "Records in the journal: \(whole / recordSize). Some may be in the kernel's memory only: sync first, show then."
)
guard fdatasync(journal) == 0 else { fail("fdatasync") }

while true {
  let connection = accept(listener, nil, nil)
  guard connection >= 0 else { fail("accept") }
  let hello = readExactly(connection, 257)
  if hello.count == 257, hello[0] == 2 { serve(connection) }
  guard close(connection) == 0 else { fail("close") }
}

@MainActor func serve(_ connection: Int32) {
  while true {
    let command = readExactly(connection, 1)
    switch command.first {
    case 1?:
      let contact = readExactly(connection, recordSize)
      guard contact.count == recordSize else { return }
      // The book says only what the disk has: the record first, and the disk's word for it.
      guard write(journal, contact, recordSize) == recordSize else { fail("write") }
      guard fdatasync(journal) == 0 else { fail("fdatasync") }
      book[Array(contact.prefix(keySize))] = Array(contact.suffix(20))
    case 2?:
      var answer = withUnsafeBytes(of: UInt32(book.count).bigEndian) { Array($0) }
      for (key, phone) in book { answer += key + phone }
      guard writeAll(connection, answer) else { return }
    default: return  // EOF, or what is no command: this connection is over
    }
  }
}

// --- what earlier lessons have taught ---

/// So many bytes, or fewer where they end before.
func readExactly(_ descriptor: Int32, _ size: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: size)
  var have = 0
  while have < size {
    let count = bytes.withUnsafeMutableBytes {
      read(descriptor, $0.baseAddress.map { $0 + have }, size - have)
    }
    if count == -1, errno == EINTR { continue }
    if count <= 0 { break }
    have += count
  }
  return Array(bytes.prefix(have))
}

/// False where the peer has gone.
func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
  var from = 0
  while from < bytes.count {
    let count = bytes.withUnsafeBytes {
      send(descriptor, $0.baseAddress.map { $0 + from }, bytes.count - from, Int32(MSG_NOSIGNAL))
    }
    if count == -1, errno == EINTR { continue }
    if count < 0 { return false }
    from += count
  }
  return true
}
