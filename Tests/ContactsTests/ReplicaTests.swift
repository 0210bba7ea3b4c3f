import Testing

@testable import Contacts

/// A server's replication by itself: what goes in, and what comes to lie in the outboxes.
@Suite struct ReplicaTests {
  /// A contact of `ada`'s.
  private func contact(_ name: String, _ phone: String) throws -> Contact {
    try Contact(user: "ada", name: name, phone: phone)
  }

  private func stage(_ replica: Replica, _ name: String, _ phone: String) throws {
    let refusal = try contact(name, phone).withView { view -> UpdateRefusal? in
      do throws(UpdateRefusal) { try replica.update(view) } catch { return error }
      return nil
    }
    if let refusal { throw refusal }
  }

  /// A client's Update, and its sync.
  private func update(_ replica: Replica, _ name: String, _ phone: String) throws {
    try stage(replica, name, phone)
    replica.synced()
  }

  private func receive(_ replica: Replica, _ link: ReplicationLink, _ message: ServerMessage) throws {
    try replica.received(message, on: link)
  }

  private func receiveUpdate(
    _ replica: Replica, _ link: ReplicationLink, _ name: String, _ phone: String, clock: UInt32,
    isRecord: Bool = false
  ) throws {
    let violation = try contact(name, phone).withView { view -> ProtocolViolation? in
      let message: ServerMessage =
        isRecord ? .record(clock: clock, view) : .update(clock: clock, view)
      do throws(ProtocolViolation) { try replica.received(message, on: link) } catch { return error }
      return nil
    }
    if let violation { throw violation }
  }

  /// All that lies in a link's outbox, in its order: it is taken out.
  private func sent(_ link: ReplicationLink) throws -> [String] {
    var bytes: [UInt8] = []
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
    defer { room.deallocate() }
    while !link.outbox.isEmpty {
      _ = link.outbox.send(by: room) { piece in
        bytes += piece
        return piece.count
      }
    }
    var messages: [String] = []
    try bytes.withUnsafeBytes { all in
      var rest = all
      var reader = MessageReader(ServerLanguage())
      while let message = try reader.next(from: &rest) {
        func value(_ clock: UInt32, _ view: ContactView) -> String {
          "\(String(decoding: view.name, as: UTF8.self)) \(String(decoding: view.phone, as: UTF8.self)) @\(clock)"
        }
        let text =
          switch message {
          case .update(let clock, let view): "Update \(value(clock, view))"
          case .heartBeat(let status, let clock): "HeartBeat \(status) \(clock)"
          case .updateClock(let clock): "UpdateClock \(clock)"
          case .askForUpdate: "AskForUpdate"
          case .answer(let count): "answer \(count)"
          case .record(let clock, let view): "record \(value(clock, view))"
          }
        messages.append(text)
      }
    }
    return messages
  }

  /// A link that has said what it says at first, and has its answer.
  private func settledLink(_ replica: Replica) throws -> ReplicationLink {
    let link = replica.open()
    try receive(replica, link, .answer(count: 0))
    _ = try sent(link)
    return link
  }

  // --- links ---

  @Test func aLinkBeginsWithAQuestionAndAHeartBeat() throws {
    let replica = Replica(Book())
    try update(replica, "bob", "1")
    let link = replica.open()
    #expect(try sent(link) == ["AskForUpdate", "HeartBeat healthy 1"])
    replica.stop()
    #expect(try sent(link) == ["HeartBeat stopping 1"])
  }

  @Test func aClientsUpdateGoesToAllLinksAndAServersToTheOthers() throws {
    let replica = Replica(Book())
    let (one, other) = (try settledLink(replica), try settledLink(replica))
    try update(replica, "bob", "1")
    #expect(try sent(one) == ["Update bob 1 @1"])
    #expect(try sent(other) == ["Update bob 1 @1"])
    try receiveUpdate(replica, one, "bob", "2", clock: 7)
    #expect(try sent(other) == [], "nothing is sent before it is on disk")
    replica.synced()
    #expect(try sent(one) == [])
    #expect(try sent(other) == ["Update bob 2 @7"])
    // It changes nothing, and stops here.
    try receiveUpdate(replica, one, "bob", "9", clock: 6)
    #expect(!replica.hasStaged)
    replica.synced()
    #expect(try sent(other) == [])
  }

  /// Two that come in one turn: the last one's source counts, for the other side has it.
  @Test func ofTwoUpdatesInATurnTheLargerOneGoesOn() throws {
    let replica = Replica(Book())
    let (one, other) = (try settledLink(replica), try settledLink(replica))
    try receiveUpdate(replica, one, "bob", "1", clock: 5)
    try receiveUpdate(replica, other, "bob", "2", clock: 6)
    replica.synced()
    #expect(try sent(one) == ["Update bob 2 @6"])
    #expect(try sent(other) == [])
  }

  /// The link is there before the sync ends: its answer may be without what is staged.
  @Test func aLinkThatComesUpBeforeTheSyncGetsTheUpdate() throws {
    let replica = Replica(Book())
    try stage(replica, "bob", "1")
    let link = replica.open()
    try receive(replica, link, .askForUpdate)
    replica.synced()
    #expect(
      try sent(link) == ["AskForUpdate", "HeartBeat healthy 0", "answer 0", "Update bob 1 @1"])
  }

  // --- values ---

  @Test func aTieGoesToTheLargerPhoneNumber() throws {
    for phones in [["5", "41", "5"], ["41", "5", "41"]] {
      let replica = Replica(Book())
      let link = replica.open()
      for phone in phones {
        try receiveUpdate(replica, link, "bob", phone, clock: 3)
        replica.synced()
      }
      let value = replica.book.value(user: "ada", name: "bob")
      #expect(value?.phone == "5", "as bytes, not as a number")
      #expect(value?.clock == 3)
    }
  }

  @Test func theClockNeverWraps() throws {
    let replica = Replica(Book())
    let link = replica.open()
    try receive(replica, link, .updateClock(.max - 1))
    try update(replica, "bob", "1")
    #expect(replica.clock == .max)
    #expect(throws: UpdateRefusal.clockAtMaximum) { try stage(replica, "bob", "2") }
    #expect(replica.clock == .max)
    #expect(replica.book.value(user: "ada", name: "bob")?.phone == "1")
  }

  @Test func aClockFarAheadIsNoClock() throws {
    let lead = Replica.largestLead
    let replica = Replica(Book())
    let link = replica.open()
    // A book with something staged is not empty any more.
    try stage(replica, "bob", "1")
    let messages: [ServerMessage] = [.heartBeat(.healthy, clock: lead + 2), .updateClock(lead + 2)]
    for message in messages {
      #expect(throws: ProtocolViolation.self) { try receive(replica, link, message) }
    }
    for isRecord in [false, true] {
      #expect(throws: ProtocolViolation.self) {
        try receiveUpdate(replica, link, "bob", "2", clock: lead + 2, isRecord: isRecord)
      }
    }
    #expect(replica.clock == 1)
    replica.synced()
    #expect(replica.book.value(user: "ada", name: "bob")?.phone == "1")
    try receiveUpdate(replica, link, "bob", "2", clock: lead + 1)
    #expect(replica.clock == lead + 1)
  }

  @Test func anEmptyBookBelievesEveryClock() throws {
    let replica = Replica(Book())
    let link = replica.open()
    let clock = UInt32.max - 5
    try receive(replica, link, .heartBeat(.healthy, clock: clock))
    #expect(replica.clock == clock)
    let other = Replica(Book())
    try receiveUpdate(other, other.open(), "bob", "1", clock: clock)
    #expect(other.clock == clock)
  }

  @Test func aBookTakesNoMoreThanItMay() throws {
    let book = Book()
    func stage(_ name: String, _ phone: String) throws -> Book.Change {
      try contact(name, phone).withView { book.stage($0, clock: 1, from: nil, most: 2) }
    }
    #expect(try stage("bob", "1") == .staged)
    #expect(try stage("eve", "1") == .staged)
    #expect(try stage("joe", "1") == .noRoom)
    book.commit()
    #expect(try stage("joe", "1") == .noRoom)
    #expect(try stage("eve", "2") == .staged, "one that is there may change")
    #expect(Replica.mostFromClients == 1_048_576)
  }

  // --- questions and answers ---

  @Test func anAnswerToNoQuestionIsWrong() throws {
    let replica = Replica(Book())
    let link = replica.open()
    try receive(replica, link, .answer(count: 1))
    try receiveUpdate(replica, link, "bob", "1", clock: 1, isRecord: true)
    #expect(link.unanswered == 0)
    #expect(throws: ProtocolViolation.self) { try receive(replica, link, .answer(count: 0)) }
  }

  @Test func oneMoreQuestionThanCanWaitIsWrong() throws {
    let replica = Replica(Book())
    let link = replica.open()
    for _ in 0..<Replica.mostAnswersWaiting { try receive(replica, link, .askForUpdate) }
    #expect(throws: ProtocolViolation.self) { try receive(replica, link, .askForUpdate) }
    // Once they are answered others may come.
    #expect(try sent(link).filter { $0 == "answer 0" }.count == 16)
    try receive(replica, link, .askForUpdate)
    #expect(try sent(link) == ["answer 0"])
  }

  /// The value of an answer is that of its moment, that of an Update the newest.
  @Test func anAnswerSaysWhatTheBookSaidThen() throws {
    let replica = Replica(Book())
    let link = try settledLink(replica)
    try update(replica, "bob", "1")
    try receive(replica, link, .askForUpdate)
    try update(replica, "bob", "2")
    try update(replica, "eve", "3")
    #expect(
      try sent(link) == ["Update bob 2 @2", "answer 1", "record bob 1 @1", "Update eve 3 @3"])
    #expect(replica.book.keptCount == 0)
  }

  // --- clocks ---

  @Test func anUpdateClockIsNotAnswered() throws {
    let replica = Replica(Book())
    let link = try settledLink(replica)
    for clock: UInt32 in [9, 4] {
      try receive(replica, link, .updateClock(clock))
      #expect(replica.clock == 9)
      #expect(try sent(link) == [])
    }
  }

  @Test func aHeartBeatOfASmallerOrEqualClockIsAnswered() throws {
    let replica = Replica(Book())
    let link = try settledLink(replica)
    try receive(replica, link, .updateClock(9))
    for clock: UInt32 in [9, 4] {
      try receive(replica, link, .heartBeat(.healthy, clock: clock))
      #expect(try sent(link) == ["UpdateClock 9"])
    }
    #expect(link.clock == 4)
  }

  @Test func aHeartBeatOfALargerClockIsTakenAndTheBookAskedForOnce() throws {
    let replica = Replica(Book())
    let link = try settledLink(replica)
    try receive(replica, link, .heartBeat(.degraded, clock: 9))
    #expect(link.health == .degraded)
    #expect(replica.clock == 9)
    #expect(try sent(link) == ["AskForUpdate"])
    try receive(replica, link, .heartBeat(.healthy, clock: 12))
    #expect(replica.clock == 12)
    #expect(try sent(link) == [], "one question is unanswered")
    try receive(replica, link, .answer(count: 0))
    try receive(replica, link, .heartBeat(.healthy, clock: 13))
    #expect(try sent(link) == ["AskForUpdate"])
  }

  /// The other one has what this one is about to have, and may be told of it when it is on disk.
  @Test func aHeartBeatBetweenThePublishedClockAndTheClockIsJustHeard() throws {
    let replica = Replica(Book())
    let (one, other) = (try settledLink(replica), try settledLink(replica))
    try receiveUpdate(replica, one, "bob", "1", clock: 7)
    #expect(replica.clock == 7)
    #expect(replica.publishedClock == 0)
    for clock: UInt32 in [1, 7] {
      try receive(replica, other, .heartBeat(.healthy, clock: clock))
      #expect(try sent(other) == [])
    }
    replica.beat()
    #expect(try sent(other) == ["HeartBeat healthy 0"])
    // What it hears of is not published before what is staged is on disk.
    try receive(replica, other, .updateClock(8))
    #expect(replica.publishedClock == 0)
    replica.synced()
    #expect(replica.publishedClock == 8)
    replica.beat()
    #expect(try sent(other) == ["Update bob 1 @7", "HeartBeat healthy 8"])
  }

  @Test func aClockComesFromTheJournal() throws {
    let book = Book()
    for (clock, phone) in [(7, "1"), (5, "2")] as [(UInt32, String)] {
      _ = try contact("n\(clock)", phone).withView {
        book.stage($0, clock: clock, from: nil, most: mostContacts)
      }
    }
    book.commit()
    let replica = Replica(book)
    #expect(replica.clock == 7)
    #expect(replica.publishedClock == 7)
  }

  // --- a journal that fails ---

  @Test func afterAFailureEveryLinkIsAsked() throws {
    let replica = Replica(Book())
    let (settled, asking) = (try settledLink(replica), replica.open())
    _ = try sent(asking)
    try stage(replica, "bob", "1")
    try receiveUpdate(replica, settled, "eve", "1", clock: 5)
    replica.failed()
    #expect(replica.health == .degraded)
    #expect(!replica.hasStaged)
    #expect(replica.book.count == 0)
    #expect(throws: UpdateRefusal.journalFails) { try stage(replica, "bob", "2") }
    try receiveUpdate(replica, settled, "eve", "2", clock: 6)
    #expect(!replica.hasStaged, "what cannot be written is refused")
    replica.beat()
    #expect(try sent(settled) == ["HeartBeat degraded 5"])
    _ = try sent(asking)

    replica.worksAgain()
    #expect(replica.health == .healthy)
    #expect(try sent(settled) == ["AskForUpdate"])
    #expect(try sent(asking) == ["AskForUpdate"], "the beginning of its answer may have been refused")
    #expect(asking.unanswered == 2)
    try receive(replica, settled, .answer(count: 1))
    try receiveUpdate(replica, settled, "eve", "2", clock: 6, isRecord: true)
    try update(replica, "bob", "3")
    #expect(replica.book.value(user: "ada", name: "eve")?.phone == "2")
    #expect(replica.book.value(user: "ada", name: "bob")?.clock == 7)
  }

  // --- after a salvage ---

  @Test func afterASalvageClientsWaitForAWholeAnswer() throws {
    let replica = Replica(Book(), awaitsAnswer: true)
    let link = replica.open()
    #expect(throws: UpdateRefusal.awaitsAnswer) { try stage(replica, "bob", "1") }
    try receive(replica, link, .answer(count: 2))
    try receiveUpdate(replica, link, "bob", "1", clock: 4, isRecord: true)
    #expect(throws: UpdateRefusal.awaitsAnswer) { try stage(replica, "bob", "2") }
    try receiveUpdate(replica, link, "eve", "1", clock: 3, isRecord: true)
    #expect(throws: UpdateRefusal.awaitsAnswer, "its contacts are not on disk yet") {
      try stage(replica, "bob", "2")
    }
    replica.synced()
    try update(replica, "bob", "2")
    #expect(replica.book.value(user: "ada", name: "bob")?.clock == 5)
    let empty = Replica(Book(), awaitsAnswer: true)
    try receive(empty, empty.open(), .answer(count: 0))
    #expect(!empty.awaitsAnswer)
  }

  @Test func anAnswerThatWasRefusedInPartIsNone() throws {
    let replica = Replica(Book(), awaitsAnswer: true)
    let link = replica.open()
    try receive(replica, link, .answer(count: 2))
    try receiveUpdate(replica, link, "bob", "1", clock: 4, isRecord: true)
    replica.failed()
    replica.worksAgain()
    try receiveUpdate(replica, link, "eve", "1", clock: 3, isRecord: true)
    replica.synced()
    #expect(replica.awaitsAnswer, "bob was lost with the journal's failure")
    try receive(replica, link, .answer(count: 1))
    try receiveUpdate(replica, link, "bob", "1", clock: 4, isRecord: true)
    replica.failed()
    replica.worksAgain()
    #expect(replica.awaitsAnswer, "it was whole, and was not written")
    replica.acceptLoss()
    #expect(!replica.awaitsAnswer)
  }
}
