import TestSupport
import Testing

/// Clients and servers that others have written: two of Python's libraries, curl, a browser.
@Suite(.enabled(if: Witness.havePython)) struct WebSocketForeignTests {
  @Test(.enabled(if: Witness.haveWebSocketPython)) func websockets() async throws {
    try await WebSocketWitness.run(
      #"""
      import websockets
      from websockets.sync.client import connect
      from websockets.sync.server import serve
      a = Server("--name", "A"); b = Server("--name", "B", "--peer", a.url, "--wait", 0); b.says("link up")
      # It offers compression, which is not taken.
      with connect(a.url, max_size=None) as c, connect(b.url, subprotocols=["chat", NAMED]) as d:
          assert c.subprotocol is None and d.subprotocol == NAMED and not c.protocol.extensions
          for data in ("", "hello", "é" * 100000, b"", os.urandom(1 << 20), "x" * (16 << 20)): c.send(data); assert c.recv() == data
          c.send(["in ", "many ", "parts"]); assert c.recv() == "in many parts"
          assert c.ping(b"here").wait(20)
          c.send("/all both"); assert c.recv() == "both"; assert d.recv() == "/all A %s:%d\nboth" % c.local_address
          c.close(4000, "enough"); assert (c.protocol.close_rcvd.code, c.protocol.close_sent.code) == (4000, 4000)
          a.says("client left: ", "4000: enough")
          b.signal(signal.SIGINT)
          try: d.recv(); raise AssertionError("it is still there")
          except websockets.ConnectionClosedOK as e: assert (e.rcvd.code, e.rcvd.reason, e.rcvd_then_sent) == (1001, "the server ends", True)
          assert b.ends() == 0
      # What it is told for a message that is too big, and where there is no WebSocket.
      s = Server("--max-message", 1000)
      with connect(s.url) as c:
          c.send("x" * 1001)
          try: c.recv(); raise AssertionError("an echo")
          except websockets.ConnectionClosedError as e: assert e.rcvd.code == 1009 and "more than 1000 bytes" in e.rcvd.reason
      for path, origin, status in (("other", None, 404), ("ws", "http://evil.example", 403)):
          try:
              with connect("ws://127.0.0.1:%d/%s" % (s.port, path), origin=origin): raise AssertionError("it is open")
          except websockets.InvalidStatus as e: assert e.response.status_code == status
      with connect(s.url, origin="http://127.0.0.1:%d" % s.port) as c: c.send("x"); assert c.recv() == "x"
      # As a server of our client.
      said = []
      def serve_one(c):
          c.send("welcome")
          for message in c: said.append(message); c.send(message)
          said.append((c.protocol.close_rcvd.code, c.protocol.close_rcvd_then_sent))
      with serve(serve_one, LOOPBACK, 0, subprotocols=[NAMED], max_size=None) as server:
          threading.Thread(target=server.serve_forever, daemon=True).start()
          url = "ws://127.0.0.1:%d/" % server.socket.getsockname()[1]; long = "é" * 400000
          p = start_client(url)
          for line in ("welcome", "hello", "/all you", long):
              assert p.stdout.readline().decode() == line + "\n"
              p.stdin.write({"welcome": "1 hello\n", "hello": "2 you\n", "/all you": "1 %s\n" % long}.get(line, "q\n").encode()); p.stdin.flush()
          assert end_of(p) == (0, "", "")
          until(lambda: len(said) == 4); assert said == ["hello", "/all you", long, (1000, True)]
          server.shutdown()
      print("right")
      """#, python: Witness.webSocketPython)
  }

  @Test(.enabled(if: Witness.haveWebSocketPython)) func aiohttp() async throws {
    try await WebSocketWitness.run(
      #"""
      import aiohttp, asyncio
      from aiohttp import web, WSMsgType
      async def with_our_server():
          a = Server("--name", "A"); b = Server("--name", "B", "--peer", a.url, "--wait", 0); b.says("link up")
          async with aiohttp.ClientSession() as session:
              async with session.get("http://127.0.0.1:%d/" % a.port) as r: assert r.status == 200 and "<title>A: WebSocket" in await r.text()
              async with session.head("http://127.0.0.1:%d/ws" % a.port) as r: assert r.status == 405
              async with session.ws_connect(a.url, max_msg_size=0, compress=15) as c, session.ws_connect(b.url, protocols=[NAMED]) as d:
                  assert c.compress == 0 and d.protocol == NAMED
                  for text in ("", "hello", "é" * 100000): await c.send_str(text); assert await c.receive_str() == text
                  data = os.urandom(1 << 20); await c.send_bytes(data); assert await c.receive_bytes() == data
                  await d.send_str("/all both"); assert await c.receive_str() == "both"; assert (await d.receive_str()).endswith("\nboth")
                  await c.close(code=4001, message=b"bye"); assert c.close_code == 4001; await asyncio.to_thread(a.says, "client left: ", "4001: bye")
                  a.kill(); b.signal(signal.SIGTERM); m = await d.receive(); assert (m.type, m.data, m.extra) == (WSMsgType.CLOSE, 1001, "the server ends"), m
              assert await asyncio.to_thread(b.ends) == 0
      async def with_our_client():
          said = []
          async def handler(request):
              c = web.WebSocketResponse(protocols=[NAMED], max_msg_size=0); await c.prepare(request)
              async for m in c: said.append(m.data); await c.send_str(m.data)
              said.append(c.close_code); return c
          app = web.Application(); app.router.add_get("/ws", handler); runner = web.AppRunner(app); await runner.setup()
          site = web.TCPSite(runner, LOOPBACK, 0); await site.start(); port = site._server.sockets[0].getsockname()[1]
          url = "ws://127.0.0.1:%d/" % port; long = "é" * 400000
          assert await asyncio.to_thread(client, url + "ws", input="1 hello\n1 %s\nq\n" % long) == (0, "hello\n%s\n" % long, "")
          assert said == ["hello", long, 1000], said[2:]
          status, output, errors = await asyncio.to_thread(client, url + "other"); assert status == 1 and "the server answers 404 Not Found" in errors, errors
          # A link wants more than a WebSocket.
          s = Server("--peer", url + "ws", "--wait", 0); await asyncio.to_thread(s.says, "no link: " + url + "ws: it is a WebSocket, and no websocket-server")
          await runner.cleanup()
      asyncio.run(with_our_server()); asyncio.run(with_our_client())
      print("right")
      """#, python: Witness.webSocketPython)
  }

  @Test(.enabled(if: Witness.have("curl"))) func curl() async throws {
    try await WebSocketWitness.run(
      #"""
      s = Server(); url = "http://127.0.0.1:%d" % s.port; headers = []
      for h in ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="):
          headers += ["-H", h]
      def curl(*words): r = subprocess.run(["curl", "-sS", *words], capture_output=True, timeout=30); return r.returncode, r.stdout.decode()
      p = subprocess.Popen(["curl", "--http1.1", "-sS", "-i", "-N", *headers, url + "/ws"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
      running.append(p); s.says("client connected")
      # It hands out what it has when more comes.
      c = Client(s); c.say("/all hello"); assert c.message() == "hello"; lines = []
      while not lines or lines[-1] not in (b"\r\n", b""): lines.append(p.stdout.readline())
      assert lines[0] == b"HTTP/1.1 101 Switching Protocols\r\n" and b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in lines, lines
      # A frame, as it stands on the wire.
      assert p.stdout.read(7) == b"\x81\x05hello"; s.signal(signal.SIGINT); assert c.close_frame()[0] == 1001; c.close()
      assert p.stdout.read(4) == b"\x88\x11\x03\xe9" and p.stdout.read() == b"the server ends"; assert s.ends() == 0; p.wait(20)
      s = Server(); url = "http://127.0.0.1:%d" % s.port
      assert "<title>server: WebSocket</title>" in curl(url + "/")[1]; assert curl("--http2-prior-knowledge", url + "/")[0] != 0
      for words, status in (([url + "/ws"], "426"), ([url + "/x"], "404"), (["-I", url + "/"], "200"), (["-I", url + "/ws"], "405"), (["-d", "x", url + "/ws"], "405"),
                            (["-H", "Origin: http://evil.example", *headers, "--http1.1", url + "/ws"], "403")):
          assert curl("-o", "/dev/null", "-w", "%{http_code}", *words) == (0, status), (words, status)
      # What curl knows of WebSockets itself, where it does.
      if " ws " in subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.replace("\n", " "):
          s2 = Server(); p = subprocess.Popen(["curl", "-sS", "-N", s2.url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE); running.append(p)
          s2.says("client connected"); c = Client(s2); c.say("/all hello"); assert p.stdout.read(5) == b"hello"
          s2.signal(signal.SIGINT); p.wait(20)
      print("right")
      """#)
  }

  /// The page at `/`, in a browser that nobody sees, driven as W3C's WebDriver has it.
  @Test(.enabled(if: Witness.have("chromium", "chromedriver"))) func chromium() async throws {
    try await WebSocketWitness.run(
      #"""
      import shutil, urllib.request
      class Browser:
          def __init__(self):
              os.mkdir("profile"); self.log = open("driver", "w+b")
              # It and its browser stay in this script's group, which is ended as one.
              self.process = subprocess.Popen(["chromedriver", "--port=0"], stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
              running.append(self.process)
              def look():
                  assert self.process.poll() is None, open("driver").read()
                  return re.search(r"started successfully on port (\d+)", open("driver").read())
              self.base = "http://127.0.0.1:" + until(look)[1]; self.session = None
              options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                                  "--disable-background-networking", "--disable-component-update", "--user-data-dir=" + os.path.abspath("profile")],
                         "binary": shutil.which("chromium")}
              self.session = self.ask("POST", "/session", capabilities={"alwaysMatch": {"goog:chromeOptions": options}})["sessionId"]
          def ask(self, method, path, **body):
              path = "/session/" + self.session + path if self.session else path
              data = json.dumps(body).encode() if method == "POST" else None
              r = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
              try: return json.load(urllib.request.urlopen(r, timeout=60))["value"]
              except urllib.error.HTTPError as e: raise AssertionError(e.read().decode())
          def open(self, url): self.ask("POST", "/url", url=url)
          def find(self, selector): return list(self.ask("POST", "/element", using="css selector", value=selector).values())[0]
          def click(self, selector): self.ask("POST", "/element/%s/click" % self.find(selector))
          def type(self, selector, text): self.ask("POST", "/element/%s/value" % self.find(selector), text=text)
          def run(self, script): return self.ask("POST", "/execute/sync", script=script, args=[])
          def state(self): return self.run("return document.getElementById('state').textContent")
          def rows(self): return self.run("return [...document.querySelectorAll('#log li')].map(e => e.textContent)")
          def shows(self, row): until(lambda: row in self.rows(), lambda: "%s in %s" % (row, self.rows()))
          def close(self):
              try:
                  if self.session: self.ask("DELETE", "")
              finally: self.process.kill(); self.process.wait()
      a = Server("--name", "A"); b = Server("--name", "B", "--peer", a.url, "--wait", 0); b.says("link up"); other = Client(b)
      browser = Browser()
      try:
          page = "http://127.0.0.1:%d/" % a.port; browser.open(page); until(lambda: browser.state() == "open", browser.state)
          assert browser.run("return document.title") == "A: WebSocket"; own, = a.says("client connected: "); own = own.split(": ")[1]
          assert browser.run("return [socket.protocol, socket.extensions, socket.url]") == [NAMED, "", "ws" + page[4:] + "ws"]
          # By the button, and by Enter; what comes back is text, never HTML.
          browser.type("#text", "hello"); browser.click("#one"); browser.shows("→ hello"); browser.shows("← hello")
          browser.type("#text", "<b>é\u20ac</b>\ue007"); browser.shows("← <b>é€</b>"); a.says("message: from %s: <b>é€</b>" % own)
          assert browser.run("return document.querySelectorAll('#log b').length") == 0
          # For all: from the page, and from a client of the other server.
          browser.type("#text", "to all"); browser.click("#all"); browser.shows("→ to all   (for all)"); assert other.message() == "to all"
          browser.shows("← to all   (for all, from A %s)" % own)
          other.say("/all from B"); browser.shows("← from B   (for all, from B %s)" % other.address); assert other.message() == "from B"
          assert browser.rows().count("← from B   (for all, from B %s)" % other.address) == 1
          # Binary, and large ones.
          browser.run("socket.send(new Uint8Array(100000))"); browser.shows("← 100000 bytes")
          # Close, with code 1000, and open again.
          browser.click("#close"); browser.shows("closed: 1000"); assert browser.state() == "closed"
          a.says("client left: " + own, "1000 (normal): the page says goodbye")
          assert browser.run("return document.getElementById('one').disabled") is True
          browser.click("#open"); until(lambda: browser.state() == "open"); browser.type("#text", "again"); browser.click("#one"); browser.shows("← again")
          # Its policy lets it do no more than that.
          assert browser.run("return fetch('/').then(() => 'fetched', () => 'refused')") == "refused"
          # The server ends.
          a.signal(signal.SIGINT); browser.shows("closed: 1001 the server ends"); assert browser.state() == "closed" and a.ends(5) == 0
          # Under localhost it is its own page, too; and a page from elsewhere is none.
          browser.open("http://localhost:%d/" % b.port); until(lambda: browser.state() == "open")
          browser.run("window.foreign = new WebSocket('ws://127.0.0.1:%d/ws'); foreign.onclose = e => window.code = e.code" % b.port)
          until(lambda: browser.run("return window.code") == 1006); b.says("refused: ", "403: pages of http://localhost:%d may not" % b.port)
      finally: browser.close()
      print("right")
      """#)
  }
}
