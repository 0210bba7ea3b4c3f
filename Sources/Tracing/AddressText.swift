import Glibc
import SystemCalls

/// A `struct sockaddr` as strace prints it.
enum AddressText {
  static func text(_ bytes: [UInt8], style: CallText.Style) -> String {
    guard bytes.count >= 2 else { return DataText.quoted(bytes, isCut: false) }
    let family = Int32(bytes[0]) | Int32(bytes[1]) << 8
    guard let address = SocketAddress(bytes: bytes) else {
      if family == AF_NETLINK, bytes.count >= 12 {
        let numbers = bytes.withUnsafeBytes {
          (
            port: $0.loadUnaligned(fromByteOffset: 4, as: UInt32.self),
            groups: $0.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
          )
        }
        let groups = String(numbers.groups, radix: 16)
        let padding = String(repeating: "0", count: 8 - groups.count)
        return "{sa_family=AF_NETLINK, nl_pid=\(numbers.port), nl_groups=\(padding)\(groups)}"
      }
      let name = Symbols.name(family, Symbols.families, unknown: "AF_???")
      return bytes.count == 2
        ? "{sa_family=\(name)}"
        : "{sa_family=\(name), sa_data=\(DataText.quoted(Array(bytes[2...]), isCut: false))}"
    }
    return style == .full ? full(address) : short(address)
  }

  private static func full(_ address: SocketAddress) -> String {
    switch address {
    case .ipv4(_, let port):
      "{sa_family=AF_INET, sin_port=htons(\(port)), sin_addr=inet_addr(\"\(address.host)\")}"
    case .ipv6(_, let port, let flow, let scope):
      "{sa_family=AF_INET6, sin6_port=htons(\(port)), sin6_flowinfo=htonl(\(flow)), "
        + "inet_pton(AF_INET6, \"\(address.host)\", &sin6_addr), sin6_scope_id=\(scope)}"
    case .unixPath(let path): "{sa_family=AF_UNIX, sun_path=\(DataText.quoted(path, isCut: false))}"
    case .unixAbstract(let name): "{sa_family=AF_UNIX, sun_path=@\(DataText.quoted(name, isCut: false))}"
    case .unixUnnamed: "{sa_family=AF_UNIX}"
    }
  }

  private static func short(_ address: SocketAddress) -> String {
    switch address {
    case .ipv4: "{AF_INET, \(address)}"
    case .ipv6: "{AF_INET6, \(address)}"
    case .unixPath(let path): "{AF_UNIX, \(DataText.quoted(path, isCut: false))}"
    case .unixAbstract(let name): "{AF_UNIX, @\(DataText.quoted(name, isCut: false))}"
    case .unixUnnamed: "{AF_UNIX}"
    }
  }
}

/// A program's bytes, quoted and escaped as in C.
enum DataText {
  static func quoted(_ bytes: [UInt8], isCut: Bool) -> String {
    var text = "\""
    for (index, byte) in bytes.enumerated() {
      switch byte {
      case UInt8(ascii: "\""): text += "\\\""
      case UInt8(ascii: "\\"): text += "\\\\"
      case UInt8(ascii: "\n"): text += "\\n"
      case UInt8(ascii: "\r"): text += "\\r"
      case UInt8(ascii: "\t"): text += "\\t"
      case 0x0b: text += "\\v"
      case 0x0c: text += "\\f"
      case 0x20..<0x7f: text.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        let octal = String(byte, radix: 8)
        // A digit behind it would be read as part of the number: then all three places are needed.
        let isFollowedByDigit = index + 1 < bytes.count && (0x30...0x37).contains(bytes[index + 1])
        text += "\\" + (isFollowedByDigit ? String(repeating: "0", count: 3 - octal.count) : "") + octal
      }
    }
    return text + "\"" + (isCut ? "..." : "")
  }
}
