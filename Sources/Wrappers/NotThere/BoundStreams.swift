// Would make a pair of streams, of which one reads what the other writes: a socket's two directions without a socket.

import Foundation

func pair() {
  var input: InputStream?
  var output: OutputStream?
  Stream.getBoundStreams(withBufferSize: 4096, inputStream: &input, outputStream: &output)
  input?.open()
  output?.open()
}
