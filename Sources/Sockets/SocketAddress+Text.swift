import Glibc
import SystemCalls

extension SocketAddress {
  /// Reads what a person writes: "127.0.0.1:80", "[::1]:80", "/run/x.sock", "@abstract". Names of hosts are not looked up.
  ///
  /// - Throws: `AddressMistake`, which says what is wrong.
  public init(_ text: String) throws(AddressMistake) {
    if text.hasPrefix("/") || text.hasPrefix("./") {
      self = .unixPath(try Self.unixName(text.utf8, of: text))
      return
    }
    if text.hasPrefix("@") {
      self = .unixAbstract(try Self.unixName(text.utf8.dropFirst(), of: text))
      return
    }
    guard let colon = text.lastIndex(of: ":") else {
      throw AddressMistake(
        UInt16(text) == nil
          ? "'\(text)' has no port; write HOST:PORT" : "'\(text)' has no host; write 127.0.0.1:\(text)")
    }
    if colon == text.startIndex { throw AddressMistake("'\(text)' has no host; write 127.0.0.1\(text)") }
    try self.init(
      host: String(text[..<colon]), port: try Self.port(text[text.index(after: colon)...], of: text))
  }

  /// An IPv4 address, or an IPv6 address with or without brackets, and a port.
  public init(host: String, port: UInt16) throws(AddressMistake) {
    let isBracketed = host.hasPrefix("[") && host.hasSuffix("]")
    let name = isBracketed ? String(host.dropFirst().dropLast()) : host
    var four = in_addr()
    var six = in6_addr()
    if !isBracketed, inet_pton(AF_INET, name, &four) == 1 {
      self = .ipv4(address: withUnsafeBytes(of: four) { Array($0) }, port: port)
    } else if inet_pton(AF_INET6, String(name.prefix { $0 != "%" }), &six) == 1 {
      self = .ipv6(
        address: withUnsafeBytes(of: six) { Array($0) }, port: port, scope: try Self.scope(of: name))
    } else if name == "localhost" {
      self = .ipv4(address: [127, 0, 0, 1], port: port)
    } else {
      throw AddressMistake(
        "'\(host)' is no IP address; write 127.0.0.1, ::1 or [::1]. Of names 'localhost' alone is known, for 127.0.0.1"
      )
    }
  }

  /// The interface behind the "%" of "fe80::1%eth0", by its name or number. See: RFC 4007, section 11
  private static func scope(of name: String) throws(AddressMistake) -> UInt32 {
    guard let percent = name.firstIndex(of: "%") else { return 0 }
    let zone = String(name[name.index(after: percent)...])
    if let number = UInt32(zone) { return number }
    let number = if_nametoindex(zone)
    if number == 0 { throw AddressMistake("'\(name)': there is no network interface '\(zone)'") }
    return number
  }

  private static func port(_ text: Substring, of whole: String) throws(AddressMistake) -> UInt16 {
    guard !text.isEmpty, text.allSatisfy({ $0.isASCII && $0.isNumber }), let port = UInt16(text) else {
      throw AddressMistake("'\(whole)': the port is a whole number from 0 to 65535, not '\(text)'")
    }
    return port
  }

  /// See: unix(7): 108 bytes, one of them for the NUL.
  private static func unixName(_ bytes: some Collection<UInt8>, of text: String) throws(AddressMistake)
    -> [UInt8]
  {
    guard !bytes.isEmpty, bytes.count <= 107 else {
      throw AddressMistake("'\(text)': the name of a Unix socket has 1 to 107 bytes")
    }
    return Array(bytes)
  }

  /// The address family. See: socket(2)
  public var family: Int32 {
    switch self {
    case .ipv4: AF_INET
    case .ipv6: AF_INET6
    case .unixPath, .unixAbstract, .unixUnnamed: AF_UNIX
    }
  }

  /// Hands it to a call, in the kernel's form.
  public func withSockaddr<Result>(_ call: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    var storage = sockaddr_storage()
    let length: Int
    switch self {
    case .ipv4(let address, let port):
      var form = sockaddr_in()
      form.sin_family = sa_family_t(AF_INET)
      form.sin_port = port.bigEndian
      withUnsafeMutableBytes(of: &form.sin_addr) { $0.copyBytes(from: address.prefix(4)) }
      length = Self.store(form, in: &storage)
    case .ipv6(let address, let port, let flow, let scope):
      var form = sockaddr_in6()
      form.sin6_family = sa_family_t(AF_INET6)
      form.sin6_port = port.bigEndian
      form.sin6_flowinfo = flow.bigEndian
      form.sin6_scope_id = scope
      withUnsafeMutableBytes(of: &form.sin6_addr) { $0.copyBytes(from: address.prefix(16)) }
      length = Self.store(form, in: &storage)
    case .unixPath(let path): length = Self.store(name: path + [0], in: &storage)
    case .unixAbstract(let name): length = Self.store(name: [0] + name, in: &storage)
    case .unixUnnamed: length = Self.store(name: [], in: &storage)
    }
    return withUnsafePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, socklen_t(length)) }
    }
  }

  private static func store<Form>(_ form: Form, in storage: inout sockaddr_storage) -> Int {
    withUnsafeBytes(of: form) { bytes in withUnsafeMutableBytes(of: &storage) { $0.copyBytes(from: bytes) } }
    return MemoryLayout<Form>.size
  }

  private static func store(name: [UInt8], in storage: inout sockaddr_storage) -> Int {
    storage.ss_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &storage) { bytes in
      for (place, byte) in name.prefix(108).enumerated() { bytes[2 + place] = byte }
    }
    return 2 + min(name.count, 108)
  }
}

/// Why a text is no address.
public struct AddressMistake: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
