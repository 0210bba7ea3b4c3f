/// Rules of the replication that look as if one could do without them. Tests break them one by one, and have a simulation find a
/// schedule in which contacts get lost, or books stay different.
struct ReplicationRules: OptionSet, Sendable {
  let rawValue: UInt32
  init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Where clocks are equal the larger phone number wins, everywhere alike.
  static let breaksTies = ReplicationRules(rawValue: 1 << 0)
  /// What has come from a server goes on to the others: a line of servers converges, too.
  static let forwards = ReplicationRules(rawValue: 1 << 1)
  /// Nothing is sent before it is on disk.
  static let syncsFirst = ReplicationRules(rawValue: 1 << 2)
  /// An Update goes to the links that are up when it is on disk, not when it came.
  static let picksLinksAfterSync = ReplicationRules(rawValue: 1 << 3)
  /// A link gets Updates from its first moment, not only once its AskForUpdate is answered.
  static let isUpAtOnce = ReplicationRules(rawValue: 1 << 4)
  /// The clock after a restart is the largest in the journal.
  static let takesClockFromJournal = ReplicationRules(rawValue: 1 << 5)
  /// What a restart has found is synced before it is shown or sent.
  static let syncsAtStart = ReplicationRules(rawValue: 1 << 6)
  /// Nothing is written into an answer.
  static let keepsAnswersWhole = ReplicationRules(rawValue: 1 << 7)
  /// At its maximum the clock refuses, and does not begin anew.
  static let refusesAtMaximum = ReplicationRules(rawValue: 1 << 8)
  /// UpdateClock is never answered.
  static let endsClockTalk = ReplicationRules(rawValue: 1 << 9)

  static let all = ReplicationRules(rawValue: 1 << 10 - 1)
}
