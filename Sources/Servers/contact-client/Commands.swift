import CommandLineTool
import Contacts
import Glibc
import Sockets
import SystemCalls

/// What the client can do: from the command line, or at its prompt.
struct Commands {
  let server: SocketAddress
  let hello: Hello
  /// Whose contacts are meant where nobody is named.
  let ownName: String
  let output: Output

  /// A contact's key and its phone number, as text.
  private struct Entry: Comparable {
    let user: String
    let contact: String
    let phone: String

    init(_ view: ContactView) {
      user = String(decoding: view.user, as: UTF8.self)
      contact = String(decoding: view.name, as: UTF8.self)
      phone = String(decoding: view.phone, as: UTF8.self)
    }

    static func < (one: Entry, other: Entry) -> Bool {
      (one.user, one.contact) < (other.user, other.contact)
    }
  }

  private struct Key: Hashable {
    let user: [UInt8]
    let name: [UInt8]

    init(_ contact: Contact) { (user, name) = (contact.user, contact.name) }
    init(_ view: ContactView) { (user, name) = (Array(view.user), Array(view.name)) }
  }

  // --- add ---

  /// Adds a contact, or gives it another phone number.
  ///
  /// - Throws: where the server does not show it afterwards.
  func add(_ contact: String, _ phone: String, user: String?) throws(Complaint) {
    let new: Contact
    do throws(ProtocolViolation) {
      new = try Contact(user: user ?? ownName, name: contact, phone: phone)
    } catch {
      throw Complaint.usage("\(error)")
    }
    try store([new]) { _ in "" }
    output.write("\(String(decoding: new.user, as: UTF8.self)): \(contact) = \(phone)\n")
  }

  // --- import ---

  /// Adds all contacts of a file, or none.
  ///
  /// - Throws: what is wrong with the file, and in which line; or which contact the server does not show.
  func importFile(_ path: String, user: String?) throws(Complaint) {
    let bytes = path == "-" ? contents(ofFile: "/dev/stdin") : contents(ofFile: path)
    guard let bytes else { throw Complaint("\(path): \(ErrorNumber.last)") }
    let rows: [CSV.Row]
    do throws(CSV.Mistake) { rows = try CSV.rows(bytes) } catch {
      throw Complaint("\(path), line \(error.line): \(error.reason). Nothing was sent")
    }
    var contacts: [Contact] = []
    var lines: [Int] = []
    for (place, row) in rows.enumerated() {
      let fields = row.fields
      if place == 0,
        [["user", "contact", "phone"], ["contact", "phone"]].contains(fields.map { $0.lowercased() })
      {
        continue
      }
      guard fields.count == 3 || fields.count == 2, fields.count == rows[0].fields.count else {
        throw Complaint(
          "\(path), line \(row.line): \(counted(fields.count, "value")), and there are to be user,contact,phone in every line, or "
            + "contact,phone in every line. Nothing was sent")
      }
      do throws(ProtocolViolation) {
        contacts.append(
          try Contact(
            user: fields.count == 3 ? fields[0] : user ?? ownName, name: fields[fields.count - 2],
            phone: fields[fields.count - 1]))
      } catch { throw Complaint("\(path), line \(row.line): \(error). Nothing was sent") }
      lines.append(row.line)
    }
    try store(contacts) { " (\(path), line \(lines[$0]))" }
    output.write("\(counted(contacts.count, "contact")) imported\n")
  }

  /// Sends contacts, and looks whether the server shows them.
  private func store(_ contacts: [Contact], _ place: (Int) -> String) throws(Complaint) {
    // Of several with one name the last one counts.
    var wanted: [Key: Int] = [:]
    for (number, contact) in contacts.enumerated() { wanted[Key(contact)] = number }
    var others: [(number: Int, phone: String)] = []
    try connected { client throws(ClientFailure) in
      try client.update(contacts)
      try client.listAll { view in
        guard let number = wanted.removeValue(forKey: Key(view)) else { return }
        if !view.phone.elementsEqual(contacts[number].phone) {
          others.append((number, String(decoding: view.phone, as: UTF8.self)))
        }
      }
    }
    func title(_ number: Int) -> String {
      let contact = contacts[number]
      return
        "\(String(decoding: contact.user, as: UTF8.self))/\(String(decoding: contact.name, as: UTF8.self))"
        + place(number)
    }
    let count = wanted.count + others.count
    guard count > 0 else { return }
    if let first = wanted.values.min() {
      throw Complaint(
        "\(title(first)) is not among the server's contacts"
          + (count > 1 ? ", nor \(count - 1) more as they were sent" : "")
          + ": it has refused it, and its log says why")
    }
    if let first = others.min(by: { $0.number < $1.number }) {
      throw Complaint(
        "\(title(first.number)) has the phone number \(first.phone) at the server"
          + (count > 1 ? ", and \(count - 1) more differ" : "")
          + ": it has refused the new one, and its log says why, or somebody else has changed it since")
    }
  }

  // --- list ---

  /// Prints the contacts of all users, or of one.
  func list(user: String?, format: String) throws(Complaint) {
    let wanted = user.map { Array($0.utf8) }
    var entries: [Entry] = []
    try connected { client throws(ClientFailure) in
      try client.listAll { view in
        if wanted.map({ view.user.elementsEqual($0) }) ?? true { entries.append(Entry(view)) }
      }
    }
    entries.sort()
    switch format {
    case "json":
      for entry in entries {
        output.write(
          JSON.object([
            .init("user", .string(entry.user)), .init("contact", .string(entry.contact)),
            .init("phone", .string(entry.phone)),
          ]).line + "\n")
      }
    case "csv":
      output.write(CSV.line(["user", "contact", "phone"]))
      for entry in entries { output.write(CSV.line([entry.user, entry.contact, entry.phone])) }
    default:
      if entries.isEmpty {
        output.write("no contacts\n")
        return
      }
      let rows = [["USER", "CONTACT", "PHONE"]] + entries.map { [$0.user, $0.contact, $0.phone] }
      let widths = (0..<2).map { column in rows.map { $0[column].columns }.max() ?? 0 }
      for row in rows {
        output.write("\(row[0].filled(to: widths[0]))  \(row[1].filled(to: widths[1]))  \(row[2])\n")
      }
    }
  }

  // --- watch ---

  /// Asks again and again, and prints what has changed, until ctrl-C.
  ///
  /// - Parameters:
  ///   - user: whose contacts; nil for everybody's.
  ///   - interval: milliseconds between two questions.
  /// - Throws: where the server cannot be reached the first time.
  func watch(user: String?, interval: Int32) throws(Complaint) {
    let wanted = user.map { Array($0.utf8) }
    let signals: Interruption
    do throws(SystemCallError) { signals = try Interruption() } catch { throw Complaint("\(error)") }
    let interruption = signals.descriptor
    defer { signals.end() }
    var known: [Key: [UInt8]]?
    var isLost = false
    var client: ContactClient?
    while true {
      do throws(ClientFailure) {
        if client == nil { client = try ContactClient(to: server, hello, interruption: interruption) }
        var now: [Key: [UInt8]] = [:]
        try client?.listAll { view in
          if wanted.map({ view.user.elementsEqual($0) }) ?? true { now[Key(view)] = Array(view.phone) }
        }
        if isLost { output.write("the server is back\n") }
        isLost = false
        if let known { tell(known, now) } else { output.write("watching \(counted(now.count, "contact"))\n") }
        known = now
      } catch {
        client = nil
        if error.isInterruption { return }
        // At the first time there is nothing to watch.
        if known == nil { throw Complaint(error.description) }
        if !isLost { output.write("the server is not to be had: \(error); trying again\n") }
        isLost = true
      }
      output.flush()
      if output.failure != nil { return }
      var entry = pollfd(fd: interruption, events: Int16(POLLIN), revents: 0)
      if poll(&entry, 1, interval) > 0 { return }
    }
  }

  private func tell(_ before: [Key: [UInt8]], _ now: [Key: [UInt8]]) {
    func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
    var lines: [String] = []
    for (key, phone) in now where before[key] != phone {
      let old = before[key].map { ", was \(text($0))" } ?? ", new"
      lines.append("\(text(key.user)): \(text(key.name)) = \(text(phone))\(old)\n")
    }
    // A server that has lost its book, or is another one.
    for (key, phone) in before where now[key] == nil {
      lines.append("\(text(key.user)): \(text(key.name)) = \(text(phone)), gone\n")
    }
    for line in lines.sorted() { output.write(line) }
  }

  private func connected(_ body: (ContactClient) throws(ClientFailure) -> Void) throws(Complaint) {
    do throws(ClientFailure) {
      try body(try ContactClient(to: server, hello))
    } catch { throw Complaint(error.description) }
  }
}

extension String {
  /// With spaces behind it, up to so many columns of a terminal.
  fileprivate func filled(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - columns))
  }
}
