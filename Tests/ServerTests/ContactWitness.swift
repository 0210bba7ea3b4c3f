import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// Scripts that start contact servers, and speak with them as clients and as other servers: written from the protocol's tables, and
/// with nothing of this package in them.
enum ContactWitness {
  /// Runs a script, in a folder, a network and with mounts of its own, where those can be had. It is to print "right" at its end.
  static func run(_ body: String, environment: [String: String] = [:], deadline: Double = 150) throws {
    try Place.withTemporaryFolder { folder in
      judge(try start(body, in: folder, environment).finish(deadline: deadline))
    }
  }

  /// The same for a script that waits more than it works: other tests have their turns meanwhile.
  static func runBeside(_ body: String, deadline: Double = 150) async throws {
    let folder = try Place.temporaryFolder()
    defer { Place.remove(folder) }
    let program = try start(body, in: folder, [:])
    let end = Clock.now() + deadline
    while !program.hasEnded, Clock.now() < end { try await Task.sleep(for: .milliseconds(50)) }
    judge(try program.finish(deadline: 1))
  }

  private static func start(_ body: String, in folder: String, _ environment: [String: String]) throws
    -> Program
  {
    let script = try Place.file("witness.py", in: folder, library + body)
    let mounts = Privilege.isRoot ? ["unshare", "-m"] : []
    return try Program(
      mounts
        + inItsOwnNetwork([
          "/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", folder, try #require(Witness.python), "-W", "ignore",
          script,
          Place.product("contact-server"), Place.product("follow"),
        ]), environment: environment)
  }

  private static func judge(_ result: Program.Result) {
    #expect(result.status == 0 && result.output == "right\n", "\(result.output)\(result.errors)")
  }

  private static let library = #"""
    import itertools, os, random, resource, signal, socket, struct, subprocess, sys, threading, time
    PROGRAM, FOLLOW = sys.argv[1:3]
    LOOPBACK = "127.0.0.1"

    def pad(text, size):
        data = text if isinstance(text, bytes) else text.encode()
        assert len(data) <= size
        return data + bytes(size - len(data))
    def hello(role=2, name="witness"): return bytes([role]) + pad(name, 256)
    def fields(user, contact, phone): return pad(user, 256) + pad(contact, 256) + pad(phone, 20)
    def update(user, contact, phone): return b"\1" + fields(user, contact, phone)
    LIST = b"\2"
    ASK = b"\4"
    def record(clock, user, contact, phone): return struct.pack(">I", clock) + fields(user, contact, phone)
    def server_update(clock, user, contact, phone): return b"\1" + record(clock, user, contact, phone)
    def heartbeat(clock, status=1): return struct.pack(">BBI", 2, status, clock)
    def update_clock(clock): return struct.pack(">BI", 3, clock)
    def answer(records): return struct.pack(">I", len(records)) + b"".join(record(*r) for r in records)

    def take(s, count):
        data = bytearray(count); view = memoryview(data); got = 0
        while got < count:
            n = s.recv_into(view[got:])
            if n == 0: raise EOFError("%d of %d bytes" % (got, count))
            got += n
        return bytes(data)
    def value(data): return data.split(b"\0", 1)[0].decode()
    def contact(data): return value(data[:256]), value(data[256:512]), value(data[512:532])
    def listing(s):
        count, = struct.unpack(">I", take(s, 4)); data = take(s, 532 * count); book = {}
        for n in range(count):
            user, name, phone = contact(data[532 * n:532 * n + 532])
            assert (user, name) not in book, "twice: %s/%s" % (user, name)
            book[user, name] = phone
        return book

    def until(look, what="it", deadline=20):
        # Looks again and again until there is something.
        end = time.monotonic() + deadline
        while True:
            found = look()
            if found: return found
            assert time.monotonic() < end, "%s did not happen in %s s" % (what() if callable(what) else what, deadline)
            time.sleep(0.01)
    def free_port(host=LOOPBACK):
        with socket.socket() as s: s.bind((host, 0)); return s.getsockname()[1]
    ports_dialled = set()
    def dial(port, host=LOOPBACK, source=None, small=False):
        # Somebody's lines in the log are found by the port: the kernel would give one that is free again to the next.
        while True:
            s = socket.socket(); s.bind((source or "0.0.0.0", 0))
            if s.getsockname()[1] not in ports_dialled: break
            s.close()
        ports_dialled.add(s.getsockname()[1])
        if small:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262144)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); s.settimeout(30)
        s.connect((host, port)); return s
    def ended(s):
        # Whether the other side has closed it, with FIN or RST; what it has sent before is passed over.
        try:
            while s.recv(65536): pass
        except ConnectionResetError: pass
        return True

    class Client:
        def __init__(self, server, host=LOOPBACK, name="witness", **options):
            self.s = dial(getattr(server, "port", server), host, **options); self.s.sendall(hello(name=name))
            self.address = "%s:%d" % self.s.getsockname()
        def update(self, user, name, phone): self.s.sendall(update(user, name, phone))
        def list(self): self.s.sendall(LIST); return listing(self.s)
        def put(self, user, name, phone): self.update(user, name, phone); return self.list()
        def fill(self, contacts):
            for n in range(0, len(contacts), 2000):
                self.s.sendall(b"".join(update(*c) for c in contacts[n:n + 2000]))
        def close(self): self.s.close()

    class Server:
        numbers = itertools.count(1)
        def __init__(self, *options, name="alpha", within=(), limit=None, **more):
            self.log_file = "log-%d" % next(Server.numbers)
            self.command = [*within, PROGRAM, "--name", name, *map(str, options)]
            def limits():
                if limit: resource.setrlimit(*limit)
            with open(self.log_file, "wb") as log:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                    preexec_fn=limits if limit else None, **more)
            line = self.process.stdout.readline().decode()
            assert line.startswith("listening on "), "%s %s" % (self.process.wait(), self.log())
            self.host, port = line[13:-1].rsplit(":", 1); self.port = int(port); self.pid = self.process.pid
        def log(self):
            # Whole lines: the last one may be about to be written.
            data = open(self.log_file, "rb").read(); return data[:data.rfind(b"\n") + 1].decode()
        def lines(self, *words): return [l for l in self.log().splitlines() if all(w in l for w in words)]
        def says(self, *words, deadline=20):
            return until(lambda: self.lines(*words), lambda: "%s in %s" % (words, self.log()), deadline)
        def list(self):
            c = Client(self)
            try: return c.list()
            finally: c.close()
        def kill(self): self.process.kill(); return self.process.wait()
        def stop(self, number=signal.SIGTERM): self.process.send_signal(number); return self.process.wait(30)
        def memory(self): return int(open("/proc/%d/status" % self.pid).read().split("VmRSS:")[1].split()[0])
        def ticks(self):
            f = open("/proc/%d/stat" % self.pid).read().rsplit(")", 1)[1].split(); return int(f[11]) + int(f[12])

    def fails(*options, **more):
        # A server that does not start: how it ends, and what it says.
        r = subprocess.run([PROGRAM, *map(str, options)], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, **more)
        return r.returncode, r.stderr.decode()

    class Peer:
        # Another server: reads what comes into `heard`, and answers AskForUpdate with `book`, unless that is None.
        def __init__(self, s, book=(), greets=True, reads=True):
            self.s = s; self.book = book; self.heard = []; self.end = None; self.lock = threading.Lock()
            self.place = 0
            if greets: self.send(hello(1, "python"))
            self.thread = threading.Thread(target=self.read, daemon=True)
            if reads: self.thread.start()
        @classmethod
        def to(cls, server, host=LOOPBACK, source=None, small=False, **more):
            return cls(dial(getattr(server, "port", server), host, source, small), **more)
        @classmethod
        def at(cls, listener, **more):
            s, _ = listener.accept(); s.settimeout(60); p = cls(s, greets=False, reads=False, **more)
            assert take(s, 257) == hello(1, "alpha"); p.thread.start(); return p
        def send(self, data):
            with self.lock: self.s.sendall(data)
        def read(self):
            try:
                self.s.settimeout(60)
                while True: self.message()
            except (EOFError, OSError) as e: self.end = str(e)
        def number(self, size=4): return int.from_bytes(take(self.s, size), "big")
        def record(self): clock = self.number(); return (clock, *contact(take(self.s, 532)))
        def message(self):
            kind = self.number(1)
            if kind == 0: m = ("answer", [self.record() for _ in range(self.number(3))])
            elif kind == 1: m = ("update", *self.record())
            elif kind == 2: m = ("heartbeat", self.number(1), self.number())
            elif kind == 3: m = ("clock", self.number())
            elif kind == 4: m = ("ask",)
            else: raise AssertionError("byte %d is no command" % kind)
            if kind == 4 and self.book is not None: self.send(answer(self.book))
            self.heard.append(m)
        def wait(self, kind, *values, deadline=20, anywhere=False):
            # The next message of a kind, behind the one that was waited for last.
            def look():
                for n in range(0 if anywhere else self.place, len(self.heard)):
                    m = self.heard[n]
                    if m[0] == kind and m[1:1 + len(values)] == values: self.place = n + 1; return [m]
            return until(look, lambda: "%s %s in %s %s" % (kind, values, self.heard[-20:], self.end), deadline)[0]
        def count(self, kind): return sum(m[0] == kind for m in self.heard)
        def close(self):
            try: self.s.shutdown(socket.SHUT_RDWR)
            except OSError: pass
            self.s.close()
        def beat(self, seconds=0.1):
            # Is not silent from here on.
            def run():
                try:
                    while True: self.send(heartbeat(0)); time.sleep(seconds)
                except OSError: pass
            threading.Thread(target=run, daemon=True).start()

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

    def agree(servers, wanted=None, deadline=30):
        # All show the same, at some time.
        clients = [Client(s) for s in servers]
        def look():
            books = [c.list() for c in clients]
            return all(b == (books[0] if wanted is None else wanted) for b in books) and [books[0]]
        book = until(look, lambda: "agreement: %s" % [sorted(c.list().items())[:5] for c in clients], deadline)[0]
        for c in clients: c.close()
        return book

    """#
}
