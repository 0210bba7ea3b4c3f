/// Messages to an echo server, each looked at when it has come back.
public struct LoadPlan: Sendable {
  public var connections = 64
  /// Bytes a message, from 1 on.
  public var size = 64
  /// So many messages may be on their way on each connection.
  public var pipelining = 1
  /// Seconds that are counted, and seconds before, that are not.
  public var duration = 2.0
  public var warmUp = 0.3
  /// Messages a second over all connections, in turn; nil for as many as come back.
  ///
  /// With a rate a message's latency is counted from the time at which it was to be sent, be it sent later for want of room: a server
  /// that stands still for a second makes a second's worth of messages late, not one.
  public var rate: Double?
  /// What stands around the messages of another protocol than echo's own.
  public var envelope: Envelope?

  public init() {}

  /// A protocol in which a message comes back behind another header than it was sent behind.
  public struct Envelope: Sendable {
    /// Before each message that is sent, and before each that comes back.
    public var sent: [UInt8]
    public var received: [UInt8]
    /// Four bytes that each message is XORed with on its way to the server, over and over.
    public var mask: [UInt8]
    /// What has to be said first on a connection that was made; it throws where that is answered wrongly.
    public var open: @Sendable (_ socket: Int32) throws -> Void

    public init(
      sent: [UInt8], received: [UInt8], mask: [UInt8],
      open: @escaping @Sendable (_ socket: Int32) throws -> Void
    ) {
      self.sent = sent
      self.received = received
      self.mask = mask
      self.open = open
    }
  }
}

/// What came of a load.
public struct LoadResult: Sendable {
  /// In nanoseconds. Those that have not come back at the end are in it with the time that they have taken until then, where they
  /// were due in the counted time and there is a rate, or where that is more than any other has taken.
  public internal(set) var latencies = Histogram()
  public internal(set) var messages: UInt64 = 0
  /// Messages that came back with other bytes, or more bytes than were sent.
  public internal(set) var wrong: UInt64 = 0
  /// With a rate: messages that were due in the counted time and had not come back at its end.
  public internal(set) var unanswered: UInt64 = 0
  /// Connections on which nothing came back in the counted time, though something was to.
  public internal(set) var silent = 0
  /// Connections that ended, or could not be made; and why, of the first.
  public internal(set) var failures = 0
  public internal(set) var reason: String?
  /// Of the counted time, in seconds.
  public internal(set) var seconds = 0.0
  /// What the generator itself took of a processor in that time, in seconds.
  public internal(set) var processorSeconds = 0.0
  /// What the server took of processors in that time, in nanoseconds, where that was measured.
  public internal(set) var serverTime: UInt64?
  /// The signal that has ended it early.
  public internal(set) var interruption: Int32?

  public var perSecond: Double { seconds > 0 ? Double(messages) / seconds : 0 }
  /// The generator had no time left: the server may be faster than this.
  public var isGeneratorBusy: Bool { seconds > 0 && processorSeconds / seconds > 0.97 }
}
