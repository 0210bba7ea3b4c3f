// Would listen on a port, with a queue for the connections that come, and TLS where it is asked for.

import Network

func serve() throws {
  let listener = try NWListener(using: .tcp, on: .any)
  listener.newConnectionHandler = { connection in connection.start(queue: .main) }
  listener.start(queue: .main)
}
