import Glibc

/// Where the parts of a contact stand in the bytes that carry it: in messages, in answers and in the journal.
///
/// | part | bytes |
/// | --- | --- |
/// | UserName | 256 |
/// | ContactName | 256 |
/// | PhoneNumber | 20 |
///
/// Between servers and in the journal a Clock of 4 bytes comes before it.
enum ContactLayout {
  static let clock = 4
  static let user = 256
  static let name = 256
  static let phone = 20
  /// A contact without its clock.
  static let size = user + name + phone
  static let sizeWithClock = clock + size

  /// Writes the three fields, padding and all.
  @inline(__always)
  static func store(
    user userName: UnsafeRawBufferPointer, name contactName: UnsafeRawBufferPointer,
    phone number: UnsafeRawBufferPointer, to place: UnsafeMutableRawPointer
  ) {
    memset(place, 0, size)
    if let from = userName.baseAddress { memcpy(place, from, min(userName.count, user)) }
    if let from = contactName.baseAddress { memcpy(place + user, from, min(contactName.count, name)) }
    if let from = number.baseAddress { memcpy(place + user + name, from, min(number.count, phone)) }
  }
}

/// A contact as it stands in a message, without a copy. It lives no longer than the bytes that it was read from.
public struct ContactView {
  public let user: UnsafeRawBufferPointer
  public let name: UnsafeRawBufferPointer
  public let phone: UnsafeRawBufferPointer

  init(user: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, phone: UnsafeRawBufferPointer) {
    self.user = user
    self.name = name
    self.phone = phone
  }

  /// Takes 532 bytes apart.
  ///
  /// - Throws: what is no value, and why.
  init(_ fields: UnsafeRawPointer) throws(ProtocolViolation) {
    user = try TextField.userName.value(in: fields)
    name = try TextField.contactName.value(in: fields + ContactLayout.user)
    phone = try TextField.phoneNumber.value(in: fields + ContactLayout.user + ContactLayout.name)
  }
}

/// A contact by itself. Its key are the user's name and the contact's; keys and phone numbers are compared as bytes, never as
/// `String`s, to which different bytes may be equal.
public struct Contact: Hashable, Sendable {
  public let user: [UInt8]
  public let name: [UInt8]
  public let phone: [UInt8]

  /// - Throws: what does not fit, or is no text, and why.
  public init(user: String, name: String, phone: String) throws(ProtocolViolation) {
    self.user = try TextField.userName.bytes(of: user)
    self.name = try TextField.contactName.bytes(of: name)
    self.phone = try TextField.phoneNumber.bytes(of: phone)
  }

  public init(_ view: ContactView) {
    user = Array(view.user)
    name = Array(view.name)
    phone = Array(view.phone)
  }

  /// Hands its parts on, in place.
  public func withView<Result>(_ body: (ContactView) -> Result) -> Result {
    user.withUnsafeBytes { user in
      name.withUnsafeBytes { name in
        phone.withUnsafeBytes { body(ContactView(user: user, name: name, phone: $0)) }
      }
    }
  }
}
