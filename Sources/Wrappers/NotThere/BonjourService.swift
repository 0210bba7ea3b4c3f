// Would listen on a port and publish it on the local network, with a stream for each direction of what connects.

import Foundation

func publish() {
  let service = NetService(domain: "local.", type: "_echo._tcp.", name: "echo", port: 0)
  service.publish(options: .listenForConnections)
}
