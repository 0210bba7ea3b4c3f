import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// A contact server in memory, and the client under test.
struct ContactsUnderTest {
  let program: Program
  let address: String

  init(_ options: [String] = ["--in-memory"], port: String = "0") throws {
    program = try Program([Place.product("contact-server"), "--name", "test", "--port", port] + options)
    let line = try #require(try program.line())
    address = String(line.dropFirst("listening on ".count))
  }

  func command(_ words: [String]) -> [String] {
    [Place.product("contact-client"), "--server", address, "--name", "ann"] + words
  }

  func client(_ words: String..., input: String = "") throws -> Program.Result {
    try Program.run(command(words), input: input)
  }
}

/// Somebody who says he is a contact server, in plain Python: `body` has the accepted connection as `c`.
struct FakeServer {
  let program: Program
  let address: String

  init(_ body: String) throws {
    let script = """
      import socket, struct, sys
      s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1], flush=True)
      c, _ = s.accept()
      def take(n):
          b = b""
          while len(b) < n:
              d = c.recv(n - len(b))
              if not d: sys.exit()
              b += d
          return b
      take(257)

      """
    program = try Program([try #require(Witness.python), "-c", script + body])
    address = "127.0.0.1:\(try #require(try program.line()))"
  }

  func client(_ words: String...) throws -> Program.Result {
    try Program.run([Place.product("contact-client"), "--server", address, "--name", "ann"] + words)
  }
}

@Suite struct ContactClientTests {
  @Test func addEndsWellOnceTheServerShowsIt() throws {
    let server = try ContactsUnderTest()
    let result = try server.client("add", "Bob Smith", "+43 1 555")
    #expect(result.status == 0)
    #expect(result.output == "ann: Bob Smith = +43 1 555\n")
    #expect(try server.client("add", "Bob Smith", "777", "--user", "eve").status == 0)
    #expect(try server.client("add", "--", "-x", "--user").output == "ann: -x = --user\n")
    let list = try server.client("list", "--format", "csv").output
    #expect(list == "user,contact,phone\nann,-x,--user\nann,Bob Smith,+43 1 555\neve,Bob Smith,777\n")
    #expect(try server.client("list", "--user", "eve", "--format", "csv").lines.count == 3)
  }

  @Test(.enabled(if: Witness.havePython)) func addFailsWhereTheServerDoesNotShowIt() throws {
    let refuses = try FakeServer("take(534); c.sendall(struct.pack('>I', 0)); c.recv(1)")
    var result = try refuses.client("add", "Bob", "555")
    #expect(result.status == 1)
    #expect(
      result.errors.contains(
        "ann/Bob is not among the server's contacts: it has refused it, and its log says why"))

    let keeps = try FakeServer(
      "u = take(534); c.sendall(struct.pack('>I', 1) + u[1:513] + b'111'.ljust(20, b'\\0')); c.recv(1)")
    result = try keeps.client("add", "Bob", "555")
    #expect(result.status == 1)
    #expect(result.errors.contains("ann/Bob has the phone number 111 at the server"))
  }

  @Test(
    .enabled(if: Witness.havePython),
    arguments: [
      (
        "take(1); c.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')",
        "is no contact server, or a broken one: the answer announces"
      ),
      (
        "take(1); c.sendall(struct.pack('>I', 2) + b'a' * 700); c.shutdown(2)",
        "has closed the connection before the answer was whole"
      ),
      ("take(1); c.sendall(struct.pack('>I', 1) + bytes(532))", "the user name is empty"),
    ]) func aServerThatIsNoneIsToldSo(body: String, says: String) throws
  {
    let result = try FakeServer(body).client("list")
    #expect(result.status == 1)
    #expect(result.errors.contains(says), "\(result.errors)")
  }

  @Test func nobodyListens() throws {
    let result = try Program.run([Place.product("contact-client"), "--server", "127.0.0.1:1", "list"])
    #expect(result.status == 1)
    #expect(result.errors.contains("connect 127.0.0.1:1: ECONNREFUSED"))
  }

  @Test func theTableHasColumnsAndTheFormsComeBack() throws {
    let server = try ContactsUnderTest()
    let rows = [
      ("ann", "東京", "1"), ("ann", "a, \"b\"", "2"), ("a long name", "Zoë", "3"), ("ann", "x", "\" 4 \""),
    ]
    for (user, contact, phone) in rows {
      #expect(try server.client("add", contact, phone, "--user", user).status == 0)
    }
    #expect(
      try server.client("list").output == """
        USER         CONTACT  PHONE
        a long name  Zoë      3
        ann          a, "b"   2
        ann          x        " 4 "
        ann          東京     1

        """)
    let csv = try server.client("list", "--format", "csv").output
    #expect(csv.contains("ann,\"a, \"\"b\"\"\",2\n"))
    let other = try ContactsUnderTest()
    #expect(try other.client("import", "-", input: csv).output == "4 contacts imported\n")
    #expect(try other.client("list").output == server.client("list").output)
    let json = try server.client("list", "--format", "json").output
    let first = try #require(json.split(separator: "\n").first)
    let object = try JSONSerialization.jsonObject(with: Data(first.utf8)) as? [String: String]
    #expect(object == ["user": "a long name", "contact": "Zoë", "phone": "3"])
  }

  // --- import ---

  @Test func importTakesWhatSpreadsheetsWrite() throws {
    let server = try ContactsUnderTest()
    let text = "\u{feff}User,Contact,Phone\r\neve,Bob,1\r\n\r\neve,\"Smith, John\",2\r\neve,Bob,3"
    #expect(try server.client("import", "-", input: text).output == "3 contacts imported\n")
    #expect(
      try server.client("list", "--format", "csv").output
        == "user,contact,phone\neve,Bob,3\neve,\"Smith, John\",2\n")
    #expect(try server.client("import", "-", input: "Dan,4\nEve,5\n").status == 0)
    #expect(try server.client("list", "--user", "ann", "--format", "csv").lines.count == 4)
    #expect(try server.client("import", "-", input: "").output == "0 contacts imported\n")
    let many = (0..<20_000).map { "u\($0 % 7),contact \($0),\($0)\n" }.joined()
    #expect(try server.client("import", "-", input: many).output == "20000 contacts imported\n")
    #expect(try server.client("list", "--user", "u3", "--format", "csv").lines.count == 20_000 / 7 + 2)
  }

  @Test(arguments: [
    ("a,b,1\nc,d\n", "line 2: 2 values, and there are to be user,contact,phone in every line"),
    (
      "a,b,1\n\nc,d,123456789012345678901\n",
      "line 3: the phone number has 21 bytes, and there is room for 20"
    ),
    ("a,b,1\n\"c\nd\",e,2\n", "line 2: the user name has the control character U+000A in it"),
    ("a,b,1\nx,\"y,2\n", "line 2: a quoted value has no closing quote"),
    ("a,b,1\nx,y\"z,2\n", "line 2: a quote in a value without quotes"),
    ("a,b,1\nx,\"y\"z,2\n", "line 2: something stands behind a closing quote"),
    ("a,b,1\na,,2\n", "line 2: the contact name is empty"),
    ("a,b,1,2\n", "line 1: 4 values"), ("one\n", "line 1: 1 value"),
  ]) func aBadLineIsNamedAndNothingIsSent(text: String, says: String) throws {
    let server = try ContactsUnderTest()
    let result = try server.client("import", "-", input: text)
    #expect(result.status == 1)
    #expect(result.errors.contains(says), "\(result.errors)")
    #expect(result.errors.contains("Nothing was sent"))
    #expect(try server.client("list").lines.count == 2)
  }

  @Test func aFileThatIsNotThere() throws {
    let server = try ContactsUnderTest()
    let result = try server.client("import", "/nonexistent/contacts.csv")
    #expect(result.status == 1)
    #expect(result.errors.contains("/nonexistent/contacts.csv: ENOENT"))
  }

  // --- watch ---

  @Test func watchShowsWhatChangesAndOutlivesTheServer() throws {
    try Place.withTemporaryFolder { folder in
      let journal = ["--journal", "\(folder)/journal"]
      var server = try ContactsUnderTest(journal)
      #expect(try server.client("add", "Bob", "1").status == 0)
      let watch = try Program(server.command(["watch", "--interval", "0.05"]))
      #expect(try watch.line() == "watching 1 contact")
      #expect(try server.client("add", "Eve", "2").status == 0)
      #expect(try watch.line() == "ann: Eve = 2, new")
      #expect(try server.client("add", "Bob", "3").status == 0)
      #expect(try watch.line() == "ann: Bob = 3, was 1")
      let port = String(server.address.split(separator: ":").last ?? "")
      server.program.send(SIGKILL)
      #expect(try server.program.finish().status == 128 + SIGKILL)
      #expect(try #require(try watch.line()).hasPrefix("the server is not to be had: "))
      server = try ContactsUnderTest(journal, port: port)
      #expect(try watch.line() == "the server is back")
      #expect(try server.client("add", "Bob", "4").status == 0)
      #expect(try watch.line() == "ann: Bob = 4, was 3")
      watch.send(SIGINT)
      #expect(try watch.finish().status == 0)
    }
  }

  // --- the prompt ---

  @Test func thePromptCompletesAndRemembers() throws {
    let server = try ContactsUnderTest()
    let prompt = try Program(server.command([]), onTerminal: true, outputOnTerminal: true)
    var position = try prompt.waitForTerminal("contacts> ")
    prompt.press("ad\t\"Bob Smith\" 555\r")
    position = try prompt.waitForTerminal("ann: Bob Smith = 555", from: position)
    position = try prompt.waitForTerminal("contacts> ", from: position)
    // The last line once more, with another number.
    prompt.press("\u{1b}[A\u{7f}\u{7f}\u{7f}777\r")
    position = try prompt.waitForTerminal("ann: Bob Smith = 777", from: position)
    position = try prompt.waitForTerminal("contacts> ", from: position)
    prompt.press("add Eve\r")
    position = try prompt.waitForTerminal("contacts> ", from: position)
    prompt.press("help\r")
    position = try prompt.waitForTerminal("what changes, until ctrl-C", from: position)
    position = try prompt.waitForTerminal("contacts> ", from: position)
    // Ctrl-C ends the watch, not the prompt.
    prompt.press("watch --interval 0.05\r")
    position = try prompt.waitForTerminal("watching 1 contact", from: position)
    prompt.press("\u{3}")
    position = try prompt.waitForTerminal("contacts> ", from: position)
    prompt.press("list --format csv\r")
    position = try prompt.waitForTerminal("ann,Bob Smith,777", from: position)
    try prompt.waitForTerminal("contacts> ", from: position)
    prompt.press("\u{4}")
    let result = try prompt.finish()
    #expect(result.status == 0)
    #expect(result.errors.contains("'add' takes CONTACT PHONE behind it"))
    #expect(result.errors.contains("('help' lists what there is)"))
  }

  @Test func aScriptIsDoneLineByLineAndItsFailureSeen() throws {
    let server = try ContactsUnderTest()
    let good = try server.client(
      input: "add 'x y' 1\nadd a\\ b 2 --user eve\nlist --format csv\nquit\nadd never 3\n")
    #expect(good.status == 0)
    #expect(good.errors == "")
    #expect(
      good.output == "ann: x y = 1\neve: a b = 2\nuser,contact,phone\nann,x y,1\neve,a b,2\n")
    let bad = try server.client(input: "lst\nadd \"x\nadd z 9\n")
    #expect(bad.status == 1)
    #expect(bad.output == "ann: z = 9\n")
    #expect(bad.errors.contains("there is no command 'lst'; did you mean list?"))
    #expect(bad.errors.contains("a quote is not closed"))
  }

  @Test(arguments: [
    (["list"], "which server?"), (["--server", "here", "list"], "has no port"),
    (["--server", "127.0.0.1:1", "lsit"], "did you mean list?"),
    (["--server", "127.0.0.1:1", "list", "--format", "xml"], "--format is table, json, csv, not 'xml'"),
    (["--server", "127.0.0.1:1", "add", "Bob", "5", "5"], "a name with spaces in it needs quotes"),
    (
      ["--server", "127.0.0.1:1", "add", "Bob", "5\u{7}"],
      "the phone number has the control character U+0007 in it"
    ),
    (["--server", "127.0.0.1:1", "watch", "--interval", "never"], "--interval takes seconds"),
    (["--server", "127.0.0.1:1", "--name", "", "list"], "--name: the name is empty"),
  ]) func aCommandLineThatMakesNoSense(words: [String], says: String) throws {
    let result = try Program.run([Place.product("contact-client")] + words)
    #expect(result.status == 2)
    #expect(result.errors.contains(says), "\(result.errors)")
  }

  @Test func whoeverReadsTheListMayGo() throws {
    let server = try ContactsUnderTest()
    let many = (0..<5000).map { "contact \($0),\($0)\n" }.joined()
    #expect(try server.client("import", "-", input: many).status == 0)
    let list = try Program(server.command(["list"]))
    #expect(try list.line() != nil)
    list.closeOutput()
    #expect(try list.finish().status == 128 + SIGPIPE)
  }
}

/// What tshark says of a real run, by the dissector that comes with lesson 13.
@Suite(.enabled(if: Privilege.canTap && Witness.have("tshark"))) struct DissectorTests {
  @Test func tsharkNamesWhatServerAndClientSay() throws {
    try Place.withTemporaryFolder { folder in
      let capture = "\(folder)/run.pcapng"
      // The server as a child of follow, which captures; the client dials it.
      let server = try Program([
        Place.product("follow"), "-o", "\(folder)/story", "--pcap", capture, "--",
        Place.product("contact-server"),
        "--name", "one", "--in-memory",
      ])
      let address = String(try #require(try server.line()).dropFirst("listening on ".count))
      func client(_ words: String...) throws {
        let command = [Place.product("contact-client"), "--server", address, "--name", "ann"]
        #expect(try Program.run(command + words).status == 0)
      }
      try client("add", "Bob", "555")
      try client("add", "Zoë", "777", "--user", "eve")
      try client("list")
      // A second server: hello, HeartBeat and the rest.
      let other = try Program([
        Place.product("contact-server"), "--name", "two", "--in-memory", "--peer", address, "--log", "json",
      ])
      let otherAddress = String(try #require(try other.line()).dropFirst("listening on ".count))
      // Until its book has come whole, and each has said how it is.
      _ = try Clock.poll {
        let listed = try Program.run([
          Place.product("contact-client"), "--server", otherAddress, "--name", "ann", "list",
        ])
        let isTold = text(ofFile: "\(folder)/story")?.contains("\\4\\2\\1") == true
        return listed.output.contains("Zoë") && isTold ? true : nil
      }
      server.send(SIGTERM)
      #expect(try server.finish().status == 0)

      func fields(_ filter: String, _ names: String...) throws -> [String] {
        let result = try Program.run(
          [
            "tshark", "-X", "lua_script:\(Place.root)/Lessons/13-contact-wire/contacts.lua", "-r", capture,
            "-Y", filter,
            "-T", "fields", "-E", "separator=|",
          ] + names.flatMap { ["-e", $0] })
        #expect(result.status == 0, "\(result.errors)")
        #expect(!result.errors.contains("Lua"), "\(result.errors)")
        return result.lines.filter { !$0.isEmpty }
      }
      let updates = try fields(
        "contacts.command == \"Update\"", "contacts.user", "contacts.contact", "contacts.phone")
      #expect(updates == ["ann|Bob|555", "eve|Zoë|777"])
      let hellos = try fields("contacts.role", "contacts.role", "contacts.name")
      #expect(hellos.prefix(3) == ["2|ann", "2|ann", "2|ann"])
      #expect(hellos.contains("1|two"))
      #expect(try fields("contacts.command == \"ListAll\"", "contacts.command").count >= 3)
      let answers = try fields("contacts.count", "contacts.count")
      #expect(answers.prefix(3) == ["1", "2", "2"])
      // Servers ask each other, and say how they are.
      let talk = try fields("contacts.command", "contacts.command").joined(separator: ",")
      #expect(talk.contains("AskForUpdate"))
      #expect(talk.contains("HeartBeat"))
      let clocks = try fields("contacts.record && contacts.clock", "contacts.user", "contacts.contact")
      #expect(clocks.contains { $0.contains("eve") && $0.contains("Zoë") })
      #expect(try fields("_ws.malformed || _ws.lua.error", "frame.number") == [])
    }
  }
}
