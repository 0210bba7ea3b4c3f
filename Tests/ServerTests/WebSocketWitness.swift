import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// Scripts that start WebSocket servers and clients, and speak with them: written from RFC 6455 and RFC 9112 on plain sockets, and with
/// nothing of this package, and nobody's library, in them.
enum WebSocketWitness {
  /// Runs a script, in a folder and a network of its own, where those can be had. It is to print "right" at its end.
  ///
  /// - Parameters:
  ///   - body: what follows the library below.
  ///   - python: what runs it; the one that has `websockets` and `aiohttp`, for scripts that import them.
  ///   - deadline: seconds.
  /// - Throws: what stands in the way of running it.
  static func run(_ body: String, python: String? = Witness.python, deadline: Double = 150) async throws {
    let folder = try Place.temporaryFolder()
    defer { Place.remove(folder) }
    let script = try Place.file("witness.py", in: folder, library + body)
    let program = try Program(
      inItsOwnNetwork([
        "/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", folder, try #require(python), "-W", "ignore", script,
        Place.product("websocket-server"), Place.product("websocket-client"),
      ]), environment: ["HOME": folder])
    // Most of them wait more than they work: other tests have their turns meanwhile.
    let end = Clock.now() + deadline
    while !program.hasEnded, Clock.now() < end { try await Task.sleep(for: .milliseconds(20)) }
    let result = try program.finish(deadline: 1)
    #expect(result.status == 0 && result.output == "right\n", "\(result.output)\(result.errors)")
  }

  /// A script that does what a test writes to its standard input.
  static func peer(_ body: String) throws -> Program {
    try Program([
      try #require(Witness.python), "-W", "ignore", "-c",
      "import sys; sys.argv[1:] = ['', '']\n" + library + body,
    ])
  }

  private static let library = #"""
    import base64, hashlib, itertools, json, os, random, re, resource, signal, socket, struct, subprocess, sys
    import threading, time
    SERVER, CLIENT = sys.argv[1:3]
    LOOPBACK = "127.0.0.1"
    MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
    NAMED, LINK = "named.socketsteps", "link.socketsteps"

    # --- RFC 6455 ---

    def accept_for(key):
        return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
    def masked(key, data):
        n = len(data); repeated = (key * (n // 4 + 1))[:n]
        return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(n, "big")
    def frame(opcode, payload=b"", fin=True, rsv=0, mask=True, length=None, form=None):
        # `length` is what the header says, and `form` in how many bits, whatever there really is.
        if isinstance(payload, str): payload = payload.encode()
        if length is None: length = len(payload)
        form = form or (7 if length < 126 else 16 if length < 65536 else 64)
        head = bytes([fin << 7 | rsv << 4 | opcode, mask << 7 | {7: length, 16: 126, 64: 127}[form]])
        head += {7: b"", 16: struct.pack(">H", length & 65535), 64: struct.pack(">Q", length)}[form]
        if not mask: return head + payload
        key = os.urandom(4); return head + key + masked(key, payload)
    def closing(code=None, reason=b"", **more):
        return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason, **more)
    def request(target="/ws", method="GET", version="HTTP/1.1", without=(), extra=(), **fields):
        own = {"Host": "127.0.0.1", "Upgrade": "websocket", "Connection": "Upgrade",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
        own.update({k.replace("_", "-"): v for k, v in fields.items()})
        lines = ["%s %s %s" % (method, target, version)] + ["%s: %s" % (k, v) for k, v in own.items() if k not in without]
        return "\r\n".join(lines + list(extra) + ["", ""]).encode()

    class Stream:
        # One end of a connection. `masks` says whether the other end has to.
        def __init__(self, s, masks=False):
            self.s = s; self.masks = masks; self.buffer = bytearray(); s.settimeout(30)
            self.address = "%s:%d" % s.getsockname()[:2]
        def send(self, *parts): self.s.sendall(b"".join(parts))
        def more(self):
            data = self.s.recv(1 << 20)
            if not data: raise EOFError("the end, with %d bytes before it" % len(self.buffer))
            self.buffer += data
        def take(self, n):
            while len(self.buffer) < n: self.more()
            data = bytes(self.buffer[:n]); del self.buffer[:n]; return data
        def head(self):
            while b"\r\n\r\n" not in self.buffer: self.more()
            first, *lines = self.take(self.buffer.index(b"\r\n\r\n") + 4)[:-4].decode().split("\r\n")
            fields = {}
            for line in lines: name, value = line.split(": ", 1); fields.setdefault(name.lower(), []).append(value)
            return first, fields
        def frame(self):
            a, b = self.take(2); fin, opcode, length = a >> 7, a & 15, b & 127
            assert a & 0x70 == 0 and opcode in (MORE, TEXT, BINARY, CLOSE, PING, PONG), (a, b)
            assert b >> 7 == self.masks, "masked" if b >> 7 else "not masked"
            if length == 126: length, = struct.unpack(">H", self.take(2)); assert length >= 126
            elif length == 127: length, = struct.unpack(">Q", self.take(8)); assert 65536 <= length < 1 << 63
            if opcode >= 8: assert fin and length < 126, (fin, length)
            if not self.masks: return opcode, self.take(length), fin
            key = self.take(4); return opcode, masked(key, self.take(length)), fin
        def message(self):
            # A text as str, anything else as bytes; a Ping is answered, a Pong passed over.
            kind, data = None, b""
            while True:
                opcode, payload, fin = self.frame()
                if opcode == PING: self.send(frame(PONG, payload, mask=not self.masks))
                if opcode in (PING, PONG): continue
                assert opcode != CLOSE, payload
                assert (opcode == MORE) == (kind is not None), opcode
                kind = kind or opcode; data += payload
                if fin: return data.decode() if kind == TEXT else data
        def messages(self, count): return [self.message() for _ in range(count)]
        def pong(self):
            opcode, payload, _ = self.frame(); assert opcode == PONG, (opcode, payload); return payload
        def close_frame(self):
            # The code and the reason of the Close; what comes before it is passed over.
            while True:
                opcode, payload, _ = self.frame()
                if opcode == CLOSE: return (struct.unpack(">H", payload[:2])[0], payload[2:].decode()) if payload else (None, "")
        def ended(self):
            # Whether the other end has closed it, with FIN or RST; what it has sent before is passed over.
            try:
                while True: self.more(); self.buffer.clear()
            except (EOFError, ConnectionResetError): return True
        def nothing_more(self):
            # The end, and nothing before it.
            try: data = self.s.recv(1)
            except ConnectionResetError: data = b""
            assert not data and not self.buffer, (data, self.buffer)
            return True
        def close(self): self.s.close()
        def reset(self):
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); self.s.close()

    ports_dialled = set()
    def dial(port, host=LOOPBACK, small=False):
        # Somebody's lines in the log are found by the port: the kernel would give one that is free again to the next.
        while True:
            s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            s.bind(("::" if ":" in host else "0.0.0.0", 0))
            if s.getsockname()[1] not in ports_dialled: break
            s.close()
        ports_dialled.add(s.getsockname()[1])
        if small:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262144)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); s.settimeout(30)
        s.connect((host, port)); return s
    class Raw(Stream):
        # Somebody who has asked for nothing yet.
        def __init__(self, server, **more): super().__init__(dial(getattr(server, "port", server), **more))
        def asked(self, data): self.send(data); return self.head()
        def status(self, data): first, fields = self.asked(data); self.fields = fields; return int(first.split()[1])
        def answer(self, data):
            # Status, fields and the body, with the end behind it.
            self.send(data); first, fields = self.head()
            body = self.take(int(fields["content-length"][0])); assert self.nothing_more(); self.close()
            assert "close" in fields["connection"], fields
            return int(first.split()[1]), fields, body.decode()
    class Client(Raw):
        # With an open WebSocket.
        def __init__(self, server, protocols=None, at_once=b"", small=False, **fields):
            super().__init__(server, small=small)
            key = base64.b64encode(os.urandom(16)).decode()
            if protocols: fields["Sec_WebSocket_Protocol"] = protocols
            first, self.fields = self.asked(request(Sec_WebSocket_Key=key, **fields) + at_once)
            assert first == "HTTP/1.1 101 Switching Protocols", first
            assert self.fields["sec-websocket-accept"] == [accept_for(key)], self.fields
            assert self.fields["upgrade"] == ["websocket"] and self.fields["connection"] == ["Upgrade"], self.fields
            assert "sec-websocket-extensions" not in self.fields
        def say(self, text): self.send(frame(TEXT, text))
        def echo(self, text): self.say(text); answer = self.message(); assert answer == text, answer[:200]
        def leave(self, code=1000):
            self.send(closing(code)); assert self.close_frame() == (code, ""); assert self.nothing_more(); self.close()
    class Link(Client):
        # Another server, as one sees it that was dialled.
        def __init__(self, server, instance=7, name="python", greets=True, **more):
            super().__init__(server, protocols=LINK, **more)
            assert self.fields["sec-websocket-protocol"] == [LINK]
            word, self.instance, self.name = self.message().split(" ", 2); assert word == "hello"
            if greets: self.say("hello %x %s" % (instance, name))

    def upgraded(fields, accept=None, protocol=NAMED, extra=()):
        # What a server answers.
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines.append("Sec-WebSocket-Accept: " + (accept or accept_for(fields["sec-websocket-key"][0])))
        if protocol: lines.append("Sec-WebSocket-Protocol: " + protocol)
        return "\r\n".join(lines + list(extra) + ["", ""]).encode()
    class Listener:
        # Where somebody may dial.
        def __init__(self):
            self.s = socket.create_server((LOOPBACK, 0)); self.s.settimeout(30); self.port = self.s.getsockname()[1]
            self.url = "ws://127.0.0.1:%d/ws" % self.port
        def stream(self): return Stream(self.s.accept()[0], masks=True)
        def client(self, **more):
            # With an open WebSocket, whose other end is a client.
            c = self.stream(); c.first, c.fields = c.head(); c.send(upgraded(c.fields, **more)); return c

    # --- waiting ---

    def until(look, what="it", deadline=20):
        # Looks again and again until there is something.
        end = time.monotonic() + deadline
        while True:
            found = look()
            if found: return found
            assert time.monotonic() < end, "%s did not happen in %s s" % (what() if callable(what) else what, deadline)
            time.sleep(0.01)
    def free_port():
        with socket.socket() as s: s.bind((LOOPBACK, 0)); return s.getsockname()[1]
    def at_once(*works):
        # Runs each beside the others, and fails where one does.
        failures = []
        def run(work):
            try: work()
            except BaseException as e: failures.append(e)
        threads = [threading.Thread(target=run, args=(w,)) for w in works]
        for t in threads: t.start()
        for t in threads: t.join()
        if failures: raise failures[0]

    # --- the programs under test ---

    running = []
    import atexit
    @atexit.register
    def end_all():
        for process in running:
            if process.poll() is None: process.kill(); process.wait()

    def client(*words, input="", timeout=30):
        # Runs a client to its end: its status, and what it prints.
        if isinstance(input, str): input = input.encode()
        r = subprocess.run([CLIENT, *map(str, words)], input=input, capture_output=True, timeout=timeout)
        return r.returncode, r.stdout.decode(), r.stderr.decode()
    def start_client(*words):
        p = subprocess.Popen([CLIENT, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        running.append(p); return p
    def end_of(p):
        # How a client ends by itself, with its input still open.
        p.wait(30); return p.returncode, p.stdout.read().decode(), p.stderr.read().decode()

    class Server:
        numbers = itertools.count(1)
        def __init__(self, *options, port=0, limit=None):
            self.log_file = "log-%d" % next(Server.numbers)
            command = [SERVER, "start", *options] + ([] if port is None else ["--port", port])
            def limits():
                if limit: resource.setrlimit(*limit)
            with open(self.log_file, "wb") as log:
                self.process = subprocess.Popen(
                    list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                    preexec_fn=limits if limit else None)
            running.append(self.process); self.pid = self.process.pid
            def look():
                assert self.process.poll() is None, self.log()
                return self.lines("listening on ")
            self.host, port = until(look)[0][13:].rsplit(":", 1); self.port = int(port)
            self.url = "ws://127.0.0.1:%d/ws" % self.port
        def log(self):
            # Whole lines: the last one may be about to be written.
            data = open(self.log_file, "rb").read(); return data[:data.rfind(b"\n") + 1].decode()
        def lines(self, *words): return [l for l in self.log().splitlines() if all(w in l for w in words)]
        def says(self, *words, times=1, deadline=20):
            return until(lambda: (lambda found: len(found) >= times and found)(self.lines(*words)),
                         lambda: "%s in %s" % (words, self.log()), deadline)
        def signal(self, number): self.process.send_signal(number)
        def ends(self, deadline=20): return self.process.wait(deadline)
        def kill(self): self.process.kill(); return self.process.wait()
        def stop(self): self.signal(signal.SIGINT); return self.ends()
        def memory(self, what="VmRSS"):
            return int(open("/proc/%d/status" % self.pid).read().split(what + ":")[1].split()[0])
        def ticks(self):
            f = open("/proc/%d/stat" % self.pid).read().rsplit(")", 1)[1].split(); return int(f[11]) + int(f[12])
        def figures(self):
            # Connections, clients, links, messages, bytes held.
            count = len(self.lines("figures:")); self.signal(signal.SIGUSR1)
            line = self.says("figures:", times=count + 1)[-1]
            return [int(n) for n in re.search(
                r"(\d+) connections?, (\d+) of them clients, (\d+) of them links; (\d+) messages; (\d+) bytes held$",
                line).groups()]

    """#
}
