import Foundation
import TestSupport
import Testing

/// `load contacts`: what it counts, and what it finds out.
@Suite struct LoadContactsTests {
  private func load(_ options: [String]) throws -> (result: Program.Result, row: [String: Any]) {
    let result = try Program.run(
      inItsOwnNetwork([Place.product("load"), "contacts", "--duration", "1", "--format", "json"] + options))
    let row = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
    return (result, try #require(row))
  }

  @Test(arguments: [
    [], ["--pipelining", "16"],
    ["--connections", "1", "--pipelining", "3", "--keys", "7", "--name-size", "256"],
  ])
  func everyContactIsShownAsItWasSentLast(options: [String]) throws {
    try Place.withTemporaryFolder { folder in
      let server = "\(Place.product("contact-server")) --name test --journal \(folder)/journal 2>/dev/null"
      let (result, row) = try load(options + ["--server", server])
      #expect(result.status == 0, "\(result.errors)")
      #expect(row["wrong"] as? Int == 0)
      #expect(row["failures"] as? Int == 0)
      let updates = try #require(row["updates"] as? Int)
      #expect(updates > 10)
      #expect(try #require(row["seconds"] as? Double) >= 1)
      #expect(try #require(row["serverNanosecondsPerUpdate"] as? Int) > 0)
      // The journal says it, too: the last clock is the number of Updates.
      let journal = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/journal"))
      let last = journal.suffix(540).prefix(4).reduce(0) { $0 << 8 | Int($1) }
      let highest = stride(from: 20, to: journal.count, by: 540).map { offset in
        journal[offset..<offset + 4].reduce(0) { $0 << 8 | Int($1) }
      }.max()
      #expect(highest == updates)
      #expect(last > 0)
    }
  }

  /// A server whose disk is full at some time refuses Updates, and goes on listing: that is no result.
  @Test(arguments: [[], ["--pipelining", "16"]]) func whatTheServerRefusesIsFoundOut(options: [String]) throws
  {
    try Place.withTemporaryFolder { folder in
      let server =
        "ulimit -f 200; exec \(Place.product("contact-server")) --name test --journal \(folder)/journal 2>/dev/null"
      let (result, row) = try load(options + ["--server", server])
      #expect(result.status == 1)
      #expect(try #require(row["wrong"] as? Int) > 0)
    }
  }

  @Test func whatDiesIsFoundOut() throws {
    let result = try Program.run([
      Place.product("load"), "contacts", "--duration", "1", "--connections", "3", "--server",
      "\(Place.product("contact-server")) --name test --in-memory 2>/dev/null & sleep 0.5; kill -9 $!",
    ])
    #expect(result.status == 1)
    #expect(result.output.contains("3 connections failed; the first: "), "\(result.output)")
  }

  @Test(arguments: [
    (["contacts", "--server", "true", "--rate", "5"], "--rate belongs to 'load echo'"),
    (["echo", "--server", "true", "--keys", "5"], "--keys belongs to 'load contacts'"),
    (
      ["contacts", "--server", "true", "--name-size", "300"], "--name-size takes a whole number from 8 to 256"
    ),
    (["contact"], "what is to be done?"), (["contacts"], "which server?"),
  ]) func aCommandLineThatMakesNoSense(words: [String], says: String) throws {
    let result = try Program.run([Place.product("load")] + words)
    #expect(result.status == 2)
    #expect(result.errors.contains(says), "\(result.errors)")
  }
}
