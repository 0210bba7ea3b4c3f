/// An answer with a body, after which the connection ends.
///
/// See: RFC 9112, section 4; RFC 9110, section 15
public enum HTTPAnswer {
  /// As it stands on the wire. For a HEAD request it is the head alone, which tells of the body that GET would have had.
  public static func bytes(
    _ status: Int, _ fields: [HTTPHead.Field] = [], type: String = "text/plain; charset=utf-8", body: String,
    isHead: Bool = false
  ) -> [UInt8] {
    let body = Array(body.utf8)
    let head = HTTPHead(
      "HTTP/1.1 \(status) \(reason(status))",
      fields + [
        .init("Content-Type", type), .init("Content-Length", "\(body.count)"), .init("Connection", "close"),
        .init("Cache-Control", "no-store"), .init("X-Content-Type-Options", "nosniff"),
      ])
    return head.bytes + (isHead ? [] : body)
  }

  /// A refusal, with the reason as its body.
  public static func bytes(_ problem: HTTPProblem, isHead: Bool = false) -> [UInt8] {
    bytes(problem.status, problem.fields, body: problem.description + "\n", isHead: isHead)
  }

  private static func reason(_ status: Int) -> String {
    switch status {
    case 101: "Switching Protocols"
    case 200: "OK"
    case 400: "Bad Request"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 414: "URI Too Long"
    case 426: "Upgrade Required"
    case 431: "Request Header Fields Too Large"
    case 503: "Service Unavailable"
    case 505: "HTTP Version Not Supported"
    default: ""
    }
  }
}
