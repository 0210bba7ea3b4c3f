import Glibc

/// The address of one end of a socket.
///
/// See: ip(7), ipv6(7), unix(7)
public enum SocketAddress: Hashable, Sendable {
  /// `address` holds 4 bytes, in network order.
  case ipv4(address: [UInt8], port: UInt16)
  /// `address` holds 16 bytes, in network order.
  case ipv6(address: [UInt8], port: UInt16, flowInformation: UInt32 = 0, scope: UInt32 = 0)
  /// A socket in the file system. The path may be any bytes but NUL.
  case unixPath([UInt8])
  /// A name in Linux's abstract namespace, without the NUL that marks it.
  case unixAbstract([UInt8])
  /// A Unix socket that was never bound.
  case unixUnnamed

  /// Takes apart a `struct sockaddr`, as the kernel filled it or a program passed it. Nil for other families, and where
  /// the bytes end too early.
  public init?(bytes: some Collection<UInt8>) {
    let bytes = Array(bytes)
    guard bytes.count >= 2 else { return nil }
    let family = UInt16(bytes[0]) | UInt16(bytes[1]) << 8
    func port() -> UInt16 { UInt16(bytes[2]) << 8 | UInt16(bytes[3]) }
    switch Int32(family) {
    case AF_INET:
      guard bytes.count >= 8 else { return nil }
      self = .ipv4(address: Array(bytes[4..<8]), port: port())
    case AF_INET6:
      guard bytes.count >= 24 else { return nil }
      let flow = bytes[4..<8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      let scope = bytes.count >= 28 ? bytes[24..<28].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) } : 0
      self = .ipv6(address: Array(bytes[8..<24]), port: port(), flowInformation: flow, scope: scope)
    case AF_UNIX:
      let name = bytes[2...]
      if name.isEmpty {
        self = .unixUnnamed
      } else if name.first == 0 {
        self = .unixAbstract(Array(name.dropFirst()))
      } else {
        self = .unixPath(Array(name.prefix { $0 != 0 }))
      }
    default: return nil
    }
  }

  /// 0 for a Unix socket.
  public var port: UInt16 {
    switch self {
    case .ipv4(_, let port), .ipv6(_, let port, _, _): port
    case .unixPath, .unixAbstract, .unixUnnamed: 0
    }
  }

  /// Whether this is an internet address that names neither a host nor a port: what a socket has before bind.
  public var isUnspecified: Bool { isWildcard && port == 0 }

  /// Whether this is 0.0.0.0 or ::, any address of this host.
  public var isWildcard: Bool {
    switch self {
    case .ipv4(let address, _), .ipv6(let address, _, _, _): address.allSatisfy { $0 == 0 }
    case .unixPath, .unixAbstract, .unixUnnamed: false
    }
  }

  /// 127.0.0.1 where this is ::ffff:127.0.0.1: an IPv6 socket that speaks IPv4. Otherwise itself, without scope and flow
  /// information. Two ends of one connection compare equal in this form.
  public var canonical: SocketAddress {
    guard case .ipv6(let address, let port, _, _) = self, address.count == 16 else { return self }
    if address[..<10].allSatisfy({ $0 == 0 }), address[10] == 0xff, address[11] == 0xff {
      return .ipv4(address: Array(address[12...]), port: port)
    }
    return .ipv6(address: address, port: port)
  }
}

extension SocketAddress: CustomStringConvertible {
  /// "127.0.0.1:80", "[::1]:80", "/run/x.sock", "@abstract", "unnamed".
  public var description: String {
    switch self {
    case .ipv4(_, let port): "\(host):\(port)"
    case .ipv6(_, let port, _, _): "[\(host)]:\(port)"
    case .unixPath(let path): String(decoding: path, as: UTF8.self)
    case .unixAbstract(let name): "@" + String(decoding: name, as: UTF8.self)
    case .unixUnnamed: "unnamed"
    }
  }

  /// The address without its port: "127.0.0.1", "::1". A Unix address is its own host.
  public var host: String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    switch self {
    case .ipv4(let address, _) where address.count == 4:
      _ = inet_ntop(AF_INET, address, &text, socklen_t(text.count))
    case .ipv6(let address, _, _, _) where address.count == 16:
      _ = inet_ntop(AF_INET6, address, &text, socklen_t(text.count))
    case .ipv4, .ipv6: return "(not an address)"
    case .unixPath, .unixAbstract, .unixUnnamed: return description
    }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
