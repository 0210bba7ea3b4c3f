import Foundation

/// Ways to bring InputStream and OutputStream onto a connected socket.
let streams = [
  Attempt(
    name: "InputStream-descriptor",
    promise: "InputStream(fileAtPath: \"/dev/fd/N\"): a stream that reads from descriptor N"
  ) { _ in
    let pair = try Pair()
    write(pair.client, "hello", 5)
    guard let stream = InputStream(fileAtPath: "/dev/fd/\(pair.server)") else { return "no stream" }
    stream.open()
    var buffer = [UInt8](repeating: 0, count: 100)
    let count = stream.read(&buffer, maxLength: buffer.count)
    return "read returned \(count), the stream's error is \(stream.streamError.map { "\($0)" } ?? "nil")"
  },
  Attempt(
    name: "OutputStream-descriptor",
    promise: "OutputStream(toFileAtPath: \"/proc/self/fd/N\"): a stream that writes to descriptor N"
  ) { _ in
    let pair = try Pair()
    guard let stream = OutputStream(toFileAtPath: "/proc/self/fd/\(pair.server)", append: true) else {
      return "no stream"
    }
    stream.open()
    let count = stream.write(Array("hello".utf8), maxLength: 5)
    return "write returned \(count), the stream's error is \(stream.streamError.map { "\($0)" } ?? "nil")"
  },
  Attempt(
    name: "CFStreamCreatePairWithSocket",
    promise:
      "a pair of streams on a connected socket, from the library's own symbol, as no header declares it"
  ) { _ in
    let pair = try Pair()
    typealias Create =
      @convention(c) (
        UnsafeRawPointer?, Int32, UnsafeMutablePointer<UnsafeRawPointer?>,
        UnsafeMutablePointer<UnsafeRawPointer?>
      ) -> Void
    guard let symbol = dlsym(nil, "CFStreamCreatePairWithSocket") else { return "no such symbol" }
    var (input, output) = (UnsafeRawPointer?.none, UnsafeRawPointer?.none)
    unsafeBitCast(symbol, to: Create.self)(nil, pair.server, &input, &output)
    return "the streams are \(input.map { "\($0)" } ?? "nil") and \(output.map { "\($0)" } ?? "nil")"
  },
]
