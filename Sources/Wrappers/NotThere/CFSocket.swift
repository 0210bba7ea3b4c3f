// Would put a descriptor under a run loop, with a callback for each connection that it accepts.

import Foundation

func watch(_ descriptor: Int32) {
  let accepted: CFSocketCallBack = { _, _, _, data, _ in print(data as Any) }
  let socket = CFSocketCreateWithNative(
    nil, descriptor, CFSocketCallBackType.acceptCallBack.rawValue, accepted, nil)
  let source = CFSocketCreateRunLoopSource(nil, socket, 0)
  CFRunLoopAddSource(CFRunLoopGetMain(), source, .commonModes)
}
