import TestSupport
import Testing

@testable import Contacts

func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

/// A text in a field of some bytes, as the tables of the protocol have it.
func field(_ text: String, _ size: Int) -> [UInt8] { Array(text.utf8) + zeros(size - text.utf8.count) }

/// The 532 bytes of a contact, as the tables of the protocol have them.
func fields(_ user: String, _ name: String, _ phone: String) -> [UInt8] {
  field(user, 256) + field(name, 256) + field(phone, 20)
}

func bigEndian(_ number: UInt32) -> [UInt8] {
  [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }
}

/// What is thrown, in words; nil where nothing is.
func problem(_ body: () throws -> Void) -> String? {
  do { try body() } catch { return "\(error)" }
  return nil
}

/// A contact with its clock, as texts.
struct Line: Hashable {
  var user: String
  var name: String
  var phone: String
  var clock: UInt32

  init(_ user: String, _ name: String, _ phone: String, clock: UInt32) {
    self.user = user
    self.name = name
    self.phone = phone
    self.clock = clock
  }

  init(_ contact: Contact, _ clock: UInt32) {
    user = String(decoding: contact.user, as: UTF8.self)
    name = String(decoding: contact.name, as: UTF8.self)
    phone = String(decoding: contact.phone, as: UTF8.self)
    self.clock = clock
  }
}

extension Book {
  /// Stages a contact.
  func stage(_ line: Line, from source: LinkID? = nil, most: Int = mostContacts, breaksTies: Bool = true)
    throws
    -> Change
  {
    try Contact(user: line.user, name: line.name, phone: line.phone).withView {
      stage($0, clock: line.clock, from: source, most: most, breaksTies: breaksTies)
    }
  }

  /// All contacts, as texts, in the order in which they came.
  var lines: [Line] { all.map { Line($0.contact, $0.clock) } }
}
