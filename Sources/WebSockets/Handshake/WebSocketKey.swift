/// The two values that show that both sides mean a WebSocket: a server that knows nothing of it could not answer so, and no page could
/// make a browser ask so.
///
/// See: RFC 6455, sections 1.3 and 4.2.2
public enum WebSocketKey {
  /// What is put behind the key. See: RFC 6455, section 1.3
  public static let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

  /// Sec-WebSocket-Accept for a Sec-WebSocket-Key.
  public static func accept(for key: String) -> String { Base64.encode(sha1(Array((key + guid).utf8))) }

  /// Sixteen bytes that nobody can foresee.
  public static func random() -> String {
    var generator = SystemRandomNumberGenerator()
    return Base64.encode((0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) })
  }

  /// Whether it stands for sixteen bytes.
  public static func isValid(_ key: String) -> Bool { Base64.decode(key)?.count == 16 }
}
