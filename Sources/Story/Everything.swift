import CommandLineTool
import KernelState

/// All that the kernel says, with where each value came from.
enum Everything {
  static func text(of sockets: [SocketSnapshot], width: Int) -> String {
    var text = ""
    for socket in sockets {
      text += "\n   \(socket.label)\n"
      for line in lines(of: socket.state, width: width - 6) { text += "     \(line)\n" }
    }
    return text + "\n"
  }

  /// "receive buffer           131072 bytes      getsockopt SO_RCVBUF"
  static func lines(of state: SocketState, width: Int) -> [String] {
    Field.allCases.flatMap { field -> [String] in
      guard let reading = state.readings[field] else { return [] }
      let value = "\(reading.value)".printable + (field.unit.isEmpty ? "" : " \(field.unit)")
      let line = field.label.padded(to: 27) + value.padded(to: 17) + " " + reading.source
      if line.count <= width { return [line] }
      let short = field.label.padded(to: 27) + value
      let first = short.count <= width ? [short] : [field.label, "  " + value]
      return first + reading.source.wrapped(to: width - 2).map { "  " + $0 }
    }
  }
}
