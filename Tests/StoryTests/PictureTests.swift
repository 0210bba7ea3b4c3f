import Foundation
import Glibc
import SystemCalls
import Testing

@testable import KernelState
@testable import Story
@testable import Tracing

#if canImport(FoundationXML)
  import FoundationXML
#endif

@Suite struct PictureTests {
  private func socket(
    _ id: Int, _ state: TCPState, fd: Int32? = 3, local: UInt16? = nil, peer: UInt16? = nil
  ) -> SocketSnapshot {
    var readings = SocketState()
    readings.set(.state, .text(state.name), from: "")
    readings.set(.protocol, .text("TCP"), from: "")
    func address(_ port: UInt16) -> Reading.Value { .address(.ipv4(address: [127, 0, 0, 1], port: port)) }
    readings.set(.local, local.map(address), from: "")
    readings.set(.peer, peer.map(address), from: "")
    let holders = fd.map { [SocketSnapshot.Holder(process: 1, descriptor: $0)] } ?? []
    return SocketSnapshot(id: id, state: readings, holders: holders)
  }

  private func step(
    _ number: Int, _ systemCall: SystemCall = .socket, text: String = "call()", result: Int64 = 0,
    changes: [SocketChange] = [], after: [SocketSnapshot] = []
  ) -> Step {
    let call = Call(systemCall, CallArguments((3, 0, 0, 0, 0, 0)), process: 1, thread: 1, result: result)
    let text = CallText.Finished(call: text, result: "\(result)")
    return Step(
      number: number, time: 0, call: call, text: text, shortText: text, before: [], after: after,
      meanwhile: [], changes: changes, strayPackets: [], ownPackets: [],
      descriptors: DescriptorList(before: [], after: []), portHolder: nil)
  }

  private func drawing(_ picture: Picture, command: String = "true") -> String {
    PictureDrawing(picture, heading: .init(title: "A title", command: command)).text
  }

  private func isWellFormed(_ text: String) -> Bool { XMLParser(data: Data(text.utf8)).parse() }

  /// A connection from its beginning to its end, by itself.
  private func tellConnection(_ number: Int, _ picture: inout Picture) {
    let port = UInt16(1024 + number % 60000)
    let near = socket(2 * number + 1, .established, fd: 4, local: port, peer: 80)
    let far = socket(2 * number + 2, .established, fd: 5, local: 80, peer: port)
    let come = [near, far].map { SocketChange(socket: $0, kind: .appeared) }
    let go = [near, far].map { SocketChange(socket: $0, kind: .vanished) }
    picture.add(step(2 * number + 1, .connect, changes: come, after: [near, far]))
    picture.add(step(2 * number + 2, .close, changes: go))
  }

  @Test func hostileWordsLeaveItXML() {
    let hostile = "a<&\">]]>\u{1b}[31m\u{0}\u{202e}\u{fffe}\u{ffff}\u{1f600}'\u{85}"
    var picture = Picture()
    let new = socket(1, .close)
    picture.add(
      step(1, text: hostile, changes: [SocketChange(socket: new, kind: .appeared)], after: [new]))
    picture.add(words: hostile, of: 1)
    picture.add(note: hostile)
    let text = drawing(picture, command: hostile)
    #expect(isWellFormed(text))
    #expect(!text.unicodeScalars.contains { [0, 0x1b, 0x202e, 0xfffe, 0xffff].contains($0.value) })
    #expect(text.contains("&lt;&amp;&quot;&gt;]]&gt;\\u{1b}[31m"))
  }

  @Test func connectionsThatFollowEachOtherShareLanes() {
    var picture = Picture()
    for number in 0..<50 { tellConnection(number, &picture) }
    let lanes = PictureLanes(picture.lifelines, from: 0)
    #expect(lanes.count == 2)
    #expect(lanes.lanes.count == 100)
    #expect(lanes.leftOut == 0)
  }

  @Test func whoDialsStandsOnTheLeft() {
    var picture = Picture()
    tellConnection(0, &picture)
    let lanes = PictureLanes(picture.lifelines, from: 0).lanes
    #expect(lanes[1] == 0)
    #expect(lanes[2] == 1)
  }

  @Test func aLongStoryStaysSmall() {
    var picture = Picture()
    for number in 0..<5000 { tellConnection(number, &picture) }
    for number in 0..<2000 { picture.add(step(20000 + number, .getsockname)) }
    #expect(picture.bands.count <= 201)
    #expect(picture.lifelines.count <= 200)
    #expect(picture.stepsLeftOut == 9800)
    let text = drawing(picture)
    #expect(isWellFormed(text))
    #expect(text.contains("the last 200 of 10000 steps"))
    #expect(text.contains("1997 more calls that changed nothing: call"))
  }

  @Test func tooManySocketsAreCounted() {
    var picture = Picture()
    let sockets = (1...100).map { socket($0, .close, fd: Int32($0)) }
    let changes = sockets.map { SocketChange(socket: $0, kind: .appeared) }
    picture.add(step(1, changes: changes, after: sockets))
    let layout = PictureLayout(picture, top: 0)
    #expect(layout.lanes.count == PictureLanes.limit)
    #expect(picture.socketsLeftOut + layout.lanes.leftOut == 100 - PictureLanes.limit)
    #expect(drawing(picture).contains("and 76 more sockets"))
  }

  @Test func aFailureDoesNotDependOnColor() {
    var picture = Picture()
    picture.add(step(1, .connect, result: Int64(-ECONNREFUSED)))
    #expect(drawing(picture).contains("✗ -111"))
  }

  @Test func widthsCountWideLetters() {
    #expect(Lettering.columns("日本") == 4)
    #expect(Lettering.call.fit("日本語日本語", in: 60) == "日本語…")
    #expect(Lettering.call.fitEnd("/run/long/path.sock", in: 60) == "…h.sock")
    #expect(Lettering.call.fit("short", in: 60) == "short")
  }
}
