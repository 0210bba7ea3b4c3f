// Would put a stream for each direction onto a socket that is connected already.

import Foundation

func streams(on descriptor: Int32) -> (InputStream?, OutputStream?) {
  var input: Unmanaged<CFReadStream>?
  var output: Unmanaged<CFWriteStream>?
  CFStreamCreatePairWithSocket(nil, descriptor, &input, &output)
  return (input?.takeRetainedValue(), output?.takeRetainedValue())
}
