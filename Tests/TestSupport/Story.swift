import Foundation

/// The JSON form of a story, read by Foundation and not by the code that wrote it.
public struct StoryLine {
  public let members: [String: Any]
  public let text: String

  public init(_ line: String) throws {
    text = line
    guard let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] else {
      throw Program.Failure(description: "no JSON object: \(line)")
    }
    members = object
  }

  public static func all(_ text: String) throws -> [StoryLine] {
    try text.split(separator: "\n").map { try StoryLine(String($0)) }
  }

  public subscript(_ name: String) -> Any? { members[name] is NSNull ? nil : members[name] }
  public var isStep: Bool { members["step"] != nil }
  public var call: String { self["call"] as? String ?? "" }
  public var callText: String { self["text"] as? String ?? "" }
  public var errno: String? { self["errno"] as? String }
  public var say: String? { self["say"] as? String }
  /// A lab's, as its program writes it without a narrator.
  public var verdictText: String? {
    guard let text = self["verdict"] as? String, let half = self["half"] as? String else { return nil }
    return "\(half): \(text)"
  }
  public var sockets: [StorySocket] { (self["sockets"] as? [[String: Any]] ?? []).map(StorySocket.init) }
  public var changes: [[String: Any]] { self["changes"] as? [[String: Any]] ?? [] }
  public var packets: [[String: Any]] { self["packets"] as? [[String: Any]] ?? [] }
}

/// One socket of a step.
public struct StorySocket {
  public init(_ members: [String: Any]) { self.members = members }
  public let members: [String: Any]
  public subscript(_ name: String) -> Any? { members[name] is NSNull ? nil : members[name] }
  public var fd: Int? { self["fd"] as? Int }
  public var state: String? { self["state"] as? String }
  public var local: String? { self["local"] as? String }
  public var peer: String? { self["peer"] as? String }
  public func number(_ name: String) -> Int? { self[name] as? Int }
}

/// One row of `ss -tanomie`, read as ss prints it.
public struct SSRow {
  public let state: String
  public let receiveQueue: Int
  public let sendQueue: Int
  public let local: String
  public let peer: String
  /// Timer, inode, cookie and TCP's figures.
  public let rest: String

  /// What `ss` says now of all TCP sockets; of those in another process's network namespace, where one is given.
  public static func all(inNetworkOf process: Int? = nil) throws -> [SSRow] {
    guard let ss = Witness.path("ss") else { throw Program.Failure(description: "ss is not installed") }
    var command = [ss, "-tanomieHO"]
    if let process {
      // An ordinary user enters it through the user namespace that it belongs to.
      command = ["nsenter", "-t", "\(process)"] + (Privilege.isRoot ? [] : ["-U"]) + ["-n"] + command
    }
    let result = try Program.run(command)
    let names = [
      "ESTAB": "ESTABLISHED", "SYN-SENT": "SYN_SENT", "SYN-RECV": "SYN_RECV", "FIN-WAIT-1": "FIN_WAIT1",
      "FIN-WAIT-2": "FIN_WAIT2", "TIME-WAIT": "TIME_WAIT", "CLOSE-WAIT": "CLOSE_WAIT", "LAST-ACK": "LAST_ACK",
      "UNCONN": "CLOSE",
    ]
    return result.lines.compactMap { line in
      let words = line.split(separator: " ", maxSplits: 5).map(String.init)
      guard words.count >= 5, let receive = Int(words[1]), let send = Int(words[2]) else { return nil }
      return SSRow(
        state: names[words[0]] ?? words[0], receiveQueue: receive, sendQueue: send, local: words[3],
        peer: words[4],
        rest: words.count > 5 ? words[5] : "")
    }
  }
}
