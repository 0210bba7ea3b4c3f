// Would open a TCP connection to a host and a port, and hand out a stream for each of its directions.

import Foundation

func dial(_ port: Int) {
  var input: InputStream?
  var output: OutputStream?
  Stream.getStreamsToHost(withName: "127.0.0.1", port: port, inputStream: &input, outputStream: &output)
  input?.open()
  output?.open()
}
