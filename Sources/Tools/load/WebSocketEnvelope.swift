import CommandLineTool
import Glibc
import LoadGeneration
import Sockets
import SystemCalls
import WebSockets

/// load websocket: binary messages, as frames of a client's, that come back as a server's.
///
/// One mask does for all of them: what it is to prevent, nobody is here to try.
func webSocketEnvelope(_ size: Int, _ address: SocketAddress, interruption: Int32) throws -> LoadPlan.Envelope
{
  let key = [UInt8](Base64.decode(WebSocketKey.random())?.prefix(4) ?? [1, 2, 3, 4])
  let mask = key.withUnsafeBytes { Mask($0) }
  let url: WebSocketURL
  do throws(AddressMistake) { url = try WebSocketURL("ws://\(address)/ws") } catch {
    throw Complaint("\(error)")
  }
  return LoadPlan.Envelope(
    sent: FrameHeader(.binary, length: size, mask: mask).bytes,
    received: FrameHeader(.binary, length: size).bytes, mask: mask.bytes
  ) { socket in
    let rest: [UInt8]
    do throws(WebSocketFailure) {
      (_, rest) = try ClientHandshake(url).perform(on: socket, patience: 10_000, interruption: interruption)
    } catch {
      // As every other waiting that a signal ends.
      if error.isInterruption { throw SystemCallError(call: "poll", errno: ErrorNumber(EINTR)) }
      throw error
    }
    guard rest.isEmpty else { throw Complaint("\(url) has sent \(rest.count) bytes before it was sent any") }
  }
}
