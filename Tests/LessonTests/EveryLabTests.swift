import Foundation
import SystemCalls
import TestSupport
import Testing

/// What is true of every lab; what is true of lessons as well stands in `EveryLessonTests`.
@Suite struct EveryLabTests {
  /// Which answer comes true.
  private static let right = [
    "lab-broken-pipe": 3, "lab-close-wait": 1, "lab-descriptor-limit": 3, "lab-full-accept-queue": 1,
    "lab-half-open": 1, "lab-nagle": 2, "lab-port-taken": 2, "lab-reset": 2, "lab-self-connect": 2,
    "lab-wakeups": 2, "lab-zero-window": 1,
  ]
  private static let asNobody = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
  ]

  @Test(arguments: Course.labs) func itRunsWithoutANarrator(lab: String) throws {
    expectBothHalves(try Program.run([Place.product(lab), "--bare"]))
  }

  private func expectBothHalves(_ bare: Program.Result) {
    #expect(bare.status == 0, "\(bare.errors)")
    let halves = bare.lines.map { String($0.prefix { $0 != ":" }) }.filter {
      ["broken", "cured"].contains($0)
    }
    #expect(halves.first == "broken" && halves.last == "cured")
  }

  @Test(.enabled(if: Privilege.isRoot && Witness.have("setpriv")), arguments: Course.labs)
  func anOrdinaryUserMayRunIt(lab: String) throws {
    try Place.withTemporaryFolder { folder in
      #expect(try Program.run(["/bin/cp", Place.product(lab), folder]).status == 0)
      let told = try Program.run(Self.asNobody + ["\(folder)/\(lab)", "--format", "json", "--no-step"])
      #expect(told.status == 0, "\(told.errors)")
      let lines = try StoryLine.all(told.output)
      #expect(lines.contains { $0.isVerdict("broken") })
      #expect(lines.last { $0["half"] != nil }?["half"] as? String == "cured")
      // Where it has a network of its own it has its packets, too.
      if Isolation.isPossible, Course.withOwnNetwork.contains(lab) {
        #expect(lines.contains { !$0.packets.isEmpty })
      }
      expectBothHalves(try Program.run(Self.asNobody + ["\(folder)/\(lab)", "--bare"]))
    }
  }

  /// Without a network of its own it works, too, and one line says what differs.
  @Test(.enabled(if: Isolation.isPossible && Witness.have("unshare", "ip")), arguments: Course.labs)
  func itRunsWhereNamespacesAreRefused(lab: String) throws {
    // Who counts wake-ups needs a port at which nobody else knocks: there the network is another one beforehand.
    let isAlone = ["lab-half-open", "lab-self-connect", "lab-wakeups"].contains(lab)
    let script =
      (isAlone ? "ip link set lo up && " : "")
      + "cd /proc/sys/user && echo 0 >max_net_namespaces && echo 0 >max_user_namespaces && exec \"$0\" --format json"
    let result = try Program.run([
      "unshare", isAlone ? "-Urn" : "-Ur", "/bin/sh", "-c", script, Place.product(lab),
    ])
    #expect(result.status == 0, "\(result.errors)")
    let lines = try StoryLine.all(result.output)
    #expect(lines.contains { $0.isVerdict("broken") })
    #expect(lines.last { $0["half"] != nil }?["half"] as? String == "cured")
    let notes = lines.filter { ($0["note"] as? String ?? "").hasPrefix("No network of its own") }
    #expect(notes.count == (Course.withOwnNetwork.contains(lab) ? 1 : 0))
  }

  /// The lab's own question is asked first, and the run decides who was right.
  @Test(arguments: Course.labs, 1...3) func itsQuestionIsAnsweredByTheKernel(lab: String, answer: Int) throws
  {
    // To the questions about single calls: always the same answer, or none.
    let input = "\(answer)\n" + String(repeating: answer == 1 ? "1\n" : "\n", count: 200)
    let result = try Program.run([Place.product(lab), "--predict", "--format", "json"], input: input)
    #expect(result.status == 0, "\(result.errors)")
    let lines = try StoryLine.all(result.output)
    let asked = try #require(lines.firstIndex { $0["experiment"] != nil })
    #expect(asked < (lines.firstIndex(where: \.isStep) ?? 0))
    let decided = lines.filter { $0["truth"] != nil }
    #expect(decided.count == 1 && decided.first?.isVerdict("broken") == true)
    #expect(decided.first?["right"] as? Bool == (answer == Self.right[lab]))
    let choices = try #require(lines[asked]["choices"] as? [String])
    #expect(decided.first?["guess"] as? String == choices[answer - 1])
    // In words, no wider than the terminal that they are for.
    let told = try Program.run(
      [Place.product(lab), "--predict"], input: input, environment: ["COLUMNS": "80"])
    #expect(told.lines.allSatisfy { $0.count <= 80 })
  }
}
