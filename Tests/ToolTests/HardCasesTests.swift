import Foundation
import Glibc
import SystemCalls
import TestSupport
import Testing

/// Programs in C that a tracer could break: what they see must not depend on being followed. The Swift toolchain brings
/// clang.
enum CProgram {
  static let compiler: String? = ["clang", "cc", "gcc"].lazy.compactMap(Witness.path).first
  static var canCompile: Bool { Witness.areRequired || compiler != nil }

  /// What each program may use.
  private static let prelude = """
    #define _GNU_SOURCE
    #include <stdio.h>
    #include <unistd.h>
    #include <sys/syscall.h>
    /* Until the kernel says that a thread sleeps in this call; at a stop of its tracer it is in another state. */
    static void await(int thread, long call) {
      for (;;) {
        char path[64], state = 0; long number = -1; FILE *f;
        sprintf(path, "/proc/self/task/%d/syscall", thread); if (f = fopen(path, "r")) { fscanf(f, "%ld", &number); fclose(f); }
        sprintf(path, "/proc/self/task/%d/stat", thread); if (f = fopen(path, "r")) { fscanf(f, "%*d (%*[^)]) %c", &state); fclose(f); }
        if (number == call && state == 'S') return;
        usleep(1000);
      }
    }

    """

  /// Compiles a program, and has `body` do something with it.
  static func with<Result>(_ source: String, _ body: (_ path: String, _ folder: String) throws -> Result)
    throws -> Result
  {
    let compiler = try #require(compiler)
    return try Place.withTemporaryFolder { folder in
      let file = try Place.file("program.c", in: folder, prelude + "\n" + source)
      let built = try Program.run([compiler, "-O1", "-w", "-pthread", "-o", "\(folder)/program", file])
      #expect(built.status == 0, "\(built.errors)")
      return try body("\(folder)/program", folder)
    }
  }

  /// Attaches to a running program, presses ctrl-C when its story holds what is wanted, and returns the story.
  static func attach(
    _ program: Program, _ options: [String] = [], in folder: String, until isDone: ([StoryLine]) -> Bool
  ) throws -> [StoryLine] {
    let path = "\(folder)/story"
    let follow = try Program(
      [Place.product("follow"), "--format", "json", "-o", path, "--pid", "\(program.process)"] + options)
    func lines() throws -> [StoryLine] {
      let whole = (text(ofFile: path) ?? "").split(separator: "\n", omittingEmptySubsequences: false)
        .dropLast()
      return try whole.map { try StoryLine(String($0)) }
    }
    _ = try Clock.poll { isDone(try lines()) ? true : nil }
    follow.send(SIGINT)
    let result = try follow.finish()
    #expect(result.status == 0, "\(result.errors)")
    return try lines()
  }
}

@Suite(.enabled(if: CProgram.canCompile)) struct HardCasesTests {
  /// What a call is given is as before once it has returned: vectors, headers, registers; and another thread that uses the same
  /// vector meanwhile, or a child that inherits it, sees it as it is.
  @Test func shorteningLeavesNoTrace() throws {
    let source = """
      #include <stdio.h>
      #include <unistd.h>
      #include <pthread.h>
      #include <sys/uio.h>
      #include <sys/wait.h>
      #include <sys/syscall.h>
      #include <sys/socket.h>
      static char b0[10], b1[10], b[64] = "abcdefghijklmnopqrstuvwxyz";
      static struct iovec v[2] = {{b0, 10}, {b1, 10}};
      static const struct iovec fixed[2] = {{b, 8}, {b + 8, 8}};
      static int s[2], d[2], p[2];
      static volatile int readerThread;
      static void *reader(void *x) { readerThread = gettid(); printf("readv %zd\\n", readv(s[0], v, 2)); return 0; }
      int main() {
        socketpair(AF_UNIX, SOCK_STREAM, 0, s); socketpair(AF_UNIX, SOCK_DGRAM, 0, d); socketpair(AF_UNIX, SOCK_STREAM, 0, p);
        pthread_t t; pthread_create(&t, 0, reader, 0);
        while (!readerThread) usleep(1000);
        await(readerThread, SYS_readv);
        printf("meanwhile %zu %zu\\n", v[0].iov_len, v[1].iov_len);
        write(d[1], "abcdefghijklmnopqrst", 20); printf("datagram %zd\\n", readv(d[0], v, 2)); fflush(stdout);
        if (!fork()) { printf("child %zu %zu\\n", v[0].iov_len, v[1].iov_len); fflush(stdout); _exit(0); }
        wait(0); write(s[1], "xxxxxxxxxxxxxxx", 15); pthread_join(t, 0);
        printf("after %zu %zu\\n", v[0].iov_len, v[1].iov_len);
        printf("constant %zd\\n", writev(p[0], fixed, 2));
        struct iovec x[2] = {{b, 10}, {b + 10, 10}}; struct msghdr m = {.msg_iov = x, .msg_iovlen = 2};
        printf("sendmsg %zd %zu %zu %zu\\n", sendmsg(p[0], &m, 0), m.msg_iovlen, x[0].iov_len, x[1].iov_len);
        char from[100], control[64]; struct iovec y[2] = {{from, 1}, {from + 1, 50}};
        struct msghdr n = {.msg_iov = y, .msg_iovlen = 2, .msg_control = control, .msg_controllen = 64};
        printf("recvmsg %zd %zu %zu %zu %zu %x\\n", recvmsg(p[1], &n, 0), n.msg_iovlen, y[0].iov_len, y[1].iov_len, n.msg_controllen, n.msg_flags);
      #ifdef __x86_64__
        unsigned long rdx = 20, rdi = p[0], rsi = (long)b, rax = 1;
        __asm__ volatile("syscall" : "+a"(rax), "+d"(rdx), "+D"(rdi), "+S"(rsi) :: "rcx", "r11", "memory");
        printf("registers %d %lu %d %d\\n", (long)rax > 0, rdx, rdi == p[0], rsi == (long)b);
      #endif
        printf("refused %zd\\n", write(p[0], b, -1));
      }
      """
    try CProgram.with(source) { path, _ in
      let plain = try Program.run([path])
      let faults = [
        "readv:length=3", "writev:length=3", "sendmsg:length=3", "recvmsg:length=2", "write:length=7:every=2",
      ]
      let injected = try Program.run(
        [Place.product("follow"), "--summary", "-o", "/dev/null"] + faults.flatMap { ["--inject", $0] } + [
          "--", path,
        ])
      #expect(plain.status == 0 && injected.status == 0)
      let same = ["meanwhile 10 10", "datagram 20", "child 10 10", "after 10 10", "refused -1"]
      for line in same {
        #expect(plain.lines.contains(line) && injected.lines.contains(line), "\(line): \(injected.output)")
      }
      #expect(injected.lines.contains("readv 3") && injected.lines.contains("constant 3"))
      #expect(injected.lines.contains("sendmsg 3 2 10 10"))
      #expect(injected.lines.contains("recvmsg 2 2 1 50 0 0"))
      #expect(
        plain.lines.filter { $0.hasPrefix("registers") }
          == injected.lines.filter { $0.hasPrefix("registers") })
    }
  }

  /// A vector of many parts that is no longer than the limit stays whole; what stood below the stack stands there again; and of
  /// an error queue nothing is cut.
  @Test func whatIsShortStaysWhole() throws {
    let source = """
      #include <stdio.h>
      #include <string.h>
      #include <unistd.h>
      #include <sys/uio.h>
      #include <sys/socket.h>
      int main() {
        int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p);
        char b[4096]; struct iovec v[100];
        for (int i = 0; i < 100; i++) v[i] = (struct iovec){b, 1};
        printf("whole %zd\\n", writev(p[0], v, 100));
        for (int i = 0; i < 100; i++) v[i].iov_len = 1000;
        printf("parts %zd\\n", writev(p[0], v, 100));
      #ifdef __x86_64__
        struct iovec x[2] = {{b, 3000}, {b, 3000}}; unsigned long rax = SYS_WRITEV, changed = 0; long fd = p[0];
        unsigned char below[512], *at;
        __asm__ volatile("mov %%rsp, %0" : "=r"(at));
        volatile unsigned char *stack = at - 640;
        for (int i = 0; i < 512; i++) stack[i] = i;
        __asm__ volatile("syscall" : "+a"(rax) : "D"(fd), "S"(x), "d"(2L) : "rcx", "r11", "memory");
        for (int i = 0; i < 512; i++) changed += stack[i] != (unsigned char)i;
        printf("moved %ld, changed %lu\\n", (long)rax, changed);
      #endif
      }
      """.replacing("SYS_WRITEV", with: "20")
    try CProgram.with(source) { path, folder in
      let story = "\(folder)/story"
      let result = try Program.run(
        [
          Place.product("follow"), "--format", "json", "-o", story, "--inject", "writev:length=4096", "--",
          path,
        ])
      #expect(result.status == 0)
      #expect(result.lines.prefix(2) == ["whole 100", "parts 4096"])
      #if arch(x86_64)
        #expect(result.lines.contains("moved 4096, changed 0"), "\(result.output)")
      #endif
      let calls = try StoryLine.all(text(ofFile: story) ?? "").filter { $0.call == "writev" }
      #expect(calls.first?["injected"] == nil)
      let second = calls.dropFirst().first?["injected"] as? [String: Any] ?? [:]
      #expect(second["length"] as? Int == 100_000 && second["left"] as? Int == 4096)
    }
  }

  /// What a refused run would have overwritten is kept.
  @Test func aRefusedRunKeepsTheFile() throws {
    try Place.withTemporaryFolder { folder in
      let follow = Place.product("follow")
      for words in [
        ["--pid", "99999999"], ["--svg", "/nonexistent/x", "--", "true"], ["--step", "--", "true"],
        ["--", "/nonexistent"],
      ] {
        let file = try Place.file("story", in: folder, "kept\n")
        #expect(try Program.run([follow, "-o", file] + words).status != 0)
        #expect(text(ofFile: file) == "kept\n", "\(words)")
      }
      let file = try Place.file("story", in: folder, String(repeating: "old ", count: 100_000))
      #expect(try Program.run([follow, "-o", file, "--", "true"]).status == 0)
      #expect(text(ofFile: file)?.contains("old") == false)
    }
  }

  /// Another program's packets to a listening socket that is this one's too are not kept without end.
  @Test(.enabled(if: Privilege.canTap && Witness.havePython)) func othersPacketsAreNotHoarded() throws {
    let script = """
      import os, socket, sys, threading
      a = socket.create_server(("127.0.0.1", 0)); x, y = socket.socketpair()
      if os.fork() == 0:
          print(os.getpid(), flush=True); x.recv(1); os._exit(0)
      def serve():
          c, _ = a.accept()
          while c.recv(1 << 20): pass
      threading.Thread(target=serve).start()
      s = socket.create_connection(a.getsockname()); sys.stdin.readline()
      for _ in range(2000): s.sendall(bytes(60000))
      s.close(); print("sent", flush=True); sys.stdin.read(); y.send(b"x"); os.wait()
      """
    try Place.withTemporaryFolder { folder in
      let program = try Program([try Script.python(), try Place.file("program.py", in: folder, script)])
      let worker = try #require((try program.line()).flatMap { pid_t($0) })
      let story = "\(folder)/story"
      let follow = try Program([
        Place.product("follow"), "--format", "json", "-o", story, "--pid", "\(worker)",
      ])
      _ = try Clock.poll { (text(ofFile: story) ?? "").contains("\"waiting\"") ? true : nil }
      program.write("\n")
      #expect(try program.line() == "sent")
      let status = text(ofFile: "/proc/\(follow.process)/status") ?? ""
      let peak = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }?.split(
        whereSeparator: \.isWhitespace
      ).dropFirst().first
      #expect(peak.flatMap { Int($0) } ?? .max < 120_000, "\(peak ?? "") KiB for 120 MB of packets")
      program.endInput()
      #expect(try follow.finish().status == 0)
      _ = try program.finish()
    }
  }

  /// An allow-list filter kills a program for a call without a number: errors are not injected into a program that has a
  /// filter and is attached to. And its own requests to a tracer are not answered.
  @Test func aSandboxedProgramIsNotKilled() throws {
    let source = """
      #include <stdio.h>
      #include <stddef.h>
      #include <unistd.h>
      #include <errno.h>
      #include <sys/prctl.h>
      #include <sys/syscall.h>
      #include <sys/socket.h>
      #include <linux/seccomp.h>
      #include <linux/filter.h>
      int main() {
        int s[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, s);
        struct sock_filter f[] = {
          BPF_STMT(BPF_LD|BPF_W|BPF_ABS, offsetof(struct seccomp_data, nr)),
          BPF_JUMP(BPF_JMP|BPF_JEQ|BPF_K, SYS_getsockname, 0, 1), BPF_STMT(BPF_RET|BPF_K, SECCOMP_RET_TRACE),
          BPF_JUMP(BPF_JMP|BPF_JGT|BPF_K, 1000, 0, 1), BPF_STMT(BPF_RET|BPF_K, SECCOMP_RET_KILL_PROCESS),
          BPF_STMT(BPF_RET|BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog p = {sizeof f / sizeof *f, f};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); syscall(SYS_seccomp, 1, 0, &p);
        puts("up"); fflush(stdout);
        char c; struct sockaddr a; socklen_t n = sizeof a; int wrong = 0;
        while (read(0, &c, 1) == 1) {
          if (send(s[0], "x", 1, 0) != 1) wrong++;
          if (getsockname(s[0], &a, &n) != -1 || errno != ENOSYS) wrong++;
        }
        printf("%d wrong\\n", wrong);
      }
      """
    try CProgram.with(source) { path, folder in
      let program = try Program([path])
      #expect(try program.line() == "up")
      let lines = try CProgram.attach(program, ["--inject", "sendto:errno=EIO"], in: folder) { lines in
        program.write("x")
        return lines.filter { $0.call == "sendto" }.count > 3
      }
      #expect(lines.filter { $0.call == "sendto" }.allSatisfy { $0["injected"] == nil && $0.errno == nil })
      #expect(lines.filter { $0.call == "getsockname" }.allSatisfy { $0.errno == "ENOSYS" })
      #expect(lines.contains { ($0["note"] as? String)?.contains("seccomp filter of its own") ?? false })
      program.endInput()
      let rest = try program.finish()
      #expect(rest.status == 0 && rest.output.hasSuffix("0 wrong\n"), "\(rest.output)")
    }
  }

  #if arch(x86_64)
    /// 32-bit calls of a 64-bit program have other numbers: they are neither told as what they are not, nor changed.
    @Test func callsByAnotherConventionAreLeftAlone() throws {
      let source = """
        #include <stdio.h>
        #include <unistd.h>
        #include <sys/socket.h>
        static long old(long n, long a) { long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11"); return r; }
        int main() {
          int s[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, s); puts("up"); fflush(stdout);
          char c; int wrong = 0;
          while (read(0, &c, 1) == 1) { if (old(49, 0) != geteuid() || old(20, 0) != getpid()) wrong++; send(s[0], "x", 1, MSG_DONTWAIT); }
          printf("%d wrong\\n", wrong);
        }
        """
      try CProgram.with(source) { path, folder in
        let program = try Program([path])
        #expect(try program.line() == "up")
        let lines = try CProgram.attach(program, ["--inject", "bind:errno=EACCES"], in: folder) { lines in
          program.write("x")
          return lines.filter { $0.call == "sendto" }.count > 3
        }
        #expect(Set(lines.filter(\.isStep).map(\.call)) == ["sendto"])
        program.endInput()
        #expect(try program.finish().output.hasSuffix("0 wrong\n"))
      }
    }
  #endif

  /// The first thread has ended; the others are followed.
  @Test func aProgramWithoutItsFirstThread() throws {
    let source = """
      #include <pthread.h>
      #include <stdio.h>
      #include <unistd.h>
      #include <sys/socket.h>
      static void *work(void *x) { char c; int p[2]; while (read(0, &c, 1) == 1) { socketpair(1, 1, 0, p); close(p[0]); close(p[1]); } return 0; }
      int main() { pthread_t t; puts("up"); fflush(stdout); pthread_create(&t, 0, work, 0); pthread_exit(0); }
      """
    try CProgram.with(source) { path, folder in
      let program = try Program([path])
      #expect(try program.line() == "up")
      let status = "/proc/\(program.process)/stat"
      _ = try Clock.poll { (text(ofFile: status) ?? "").contains(") Z ") ? true : nil }
      let lines = try CProgram.attach(program, in: folder) { lines in
        program.write("x")
        return lines.contains { $0.call == "socketpair" }
      }
      #expect(lines.first?["attached"] as? Bool == true)
      program.endInput()
      _ = try program.finish()
    }
  }

  /// A thread that somebody else traces cannot be followed, and who that is is said.
  @Test(.enabled(if: Witness.have("strace"))) func aThreadThatIsTracedAlready() throws {
    let source = """
      #include <pthread.h>
      #include <stdio.h>
      #include <unistd.h>
      #include <sys/syscall.h>
      static void *work(void *x) { printf("%ld\\n", syscall(SYS_gettid)); fflush(stdout); pause(); return 0; }
      int main() { char c; pthread_t t; pthread_create(&t, 0, work, 0); read(0, &c, 1); }
      """
    try CProgram.with(source) { path, _ in
      let program = try Program([path])
      let worker = try #require((try program.line()).flatMap { pid_t($0) })
      let strace = try Program([try #require(Witness.path("strace")), "-o", "/dev/null", "-p", "\(worker)"])
      _ = try Clock.poll { () -> Bool? in
        (text(ofFile: "/proc/\(program.process)/task/\(worker)/status") ?? "").contains(
          "TracerPid:\t\(strace.process)") ? true : nil
      }
      let result = try Program.run([Place.product("follow"), "--pid", "\(program.process)"])
      #expect(result.status == 1)
      #expect(
        result.errors.contains("strace, pid \(strace.process), traces its thread \(worker) already"),
        "\(result.errors)")
      strace.send(SIGTERM)
      _ = try strace.finish()
      program.endInput()
      #expect(try program.finish().status == 0)
    }
  }

  /// A program that never rests does not drown a ctrl-C.
  @Test func aBusyProgramIsLetGo() throws {
    let source = """
      #include <pthread.h>
      #include <stdio.h>
      #include <unistd.h>
      #include <sys/syscall.h>
      static void *work(void *x) { for (;;) syscall(SYS_getppid); }
      int main() { char c; pthread_t t; for (int i = 0; i < 32; i++) pthread_create(&t, 0, work, 0); puts("up"); fflush(stdout); read(0, &c, 1); }
      """
    try CProgram.with(source) { path, folder in
      let program = try Program([path])
      #expect(try program.line() == "up")
      let lines = try CProgram.attach(program, in: folder) { !$0.isEmpty }
      #expect(lines.last?["letGo"] as? Bool == true)
      program.endInput()
      #expect(try program.finish().status == 0)
    }
  }

  /// A call that another thread's exec has ended waits no longer.
  @Test func anExecEndsOtherThreadsCalls() throws {
    let source = """
      #include <pthread.h>
      #include <unistd.h>
      #include <sys/socket.h>
      #include <stdio.h>
      #include <sys/syscall.h>
      static void *work(void *x) { await(getpid(), SYS_accept); execl("/bin/sleep", "sleep", "0.7", (char *)0); return 0; }
      int main() { int l = socket(AF_INET, SOCK_STREAM, 0); listen(l, 4); pthread_t t; pthread_create(&t, 0, work, 0); accept(l, 0, 0); }
      """
    try CProgram.with(source) { path, folder in
      let story = "\(folder)/story"
      let result = try Program.run([Place.product("follow"), "--format", "json", "-o", story, "--", path])
      #expect(result.status == 0)
      let lines = try StoryLine.all(text(ofFile: story) ?? "")
      let exec = try #require(lines.firstIndex { ($0["program"] as? String)?.hasSuffix("sleep") ?? false })
      #expect(!lines[exec...].contains { $0["waiting"] != nil })
    }
  }

  /// A capture that nobody reads does not make it deaf.
  @Test(.enabled(if: Privilege.canTap)) func anUnreadPipeDoesNotHoldItUp() throws {
    try Place.withTemporaryFolder { folder in
      let pipe = "\(folder)/pipe"
      #expect(mkfifo(pipe, 0o600) == 0)
      let reading = try Descriptor.open(pipe, O_RDONLY | O_NONBLOCK)
      let script = try Place.file(
        "program.py", in: folder,
        """
        import socket
        a = socket.create_server(("127.0.0.1", 0)); b = socket.create_connection(a.getsockname()); c, _ = a.accept()
        while True: b.sendall(b"x" * 50000); c.recv(50000, socket.MSG_WAITALL)
        """)
      let follow = try Program(
        [Place.product("follow"), "-o", "/dev/null", "--pcap", pipe, "--", try Script.python(), script])
      // It stands still when the pipe is full.
      _ = try Clock.poll { () -> Bool? in
        var bytes: Int32 = 0
        return ioctl(reading.number, UInt(FIONREAD), &bytes) == 0 && bytes > 40_000 ? true : nil
      }
      follow.send(SIGTERM)
      _ = try Clock.poll { () -> Bool? in
        follow.hasEnded
          ? true
          : {
            follow.send(SIGTERM); return nil
          }()
      }
      _ = reading.number
    }
  }

  /// Packets that others have sent before a call, or while it waited, are not told as what it has sent.
  @Test(.enabled(if: Privilege.canTap && Witness.have("tshark") && Witness.havePython))
  func othersPacketsAreNotItsDoing() throws {
    let script = """
      import os, socket
      a = socket.create_server(("127.0.0.1", 0)); print(a.getsockname()[1], flush=True)
      c, _ = a.accept(); c.recv(100); os.read(0, 1); c.sendall(b"answer"); c.recv(100)
      """
    try Script.follow(script) { command, story in
      let capture = story + ".pcapng"
      var command = command
      command.insert(contentsOf: ["--pcap", capture], at: 1)
      let follow = try Program(command)
      let port = try #require((try follow.line()).flatMap { UInt16($0) })
      func has(_ prefix: String) -> Bool { (text(ofFile: story) ?? "").contains("\"text\":\"\(prefix)") }
      func waits(_ prefix: String) -> Bool { (text(ofFile: story) ?? "").contains("\"waiting\":\"\(prefix)") }
      _ = try Clock.poll { waits("accept4(") ? true : nil }
      let client = try Program([
        try Script.python(), "-c",
        """
        import socket, sys
        s = socket.create_connection(("127.0.0.1", \(port)), 20)
        sys.stdin.readline(); s.sendall(b"first"); sys.stdin.readline(); s.sendall(b"second"); sys.stdin.readline(); s.close()
        """,
      ])
      _ = try Clock.poll { has("accept4(") && waits("recvfrom(") ? true : nil }
      client.write("\n")
      _ = try Clock.poll { has("recvfrom(") ? true : nil }
      client.write("\n")
      // It has arrived when the kernel says so; the program makes no call meanwhile.
      _ = try Clock.poll { () -> Bool? in
        try SSRow.all().contains { $0.local == "127.0.0.1:\(port)" && $0.receiveQueue == 6 } ? true : nil
      }
      follow.write("x")
      _ = try Clock.poll { has("sendto(") ? true : nil }
      client.write("\n")
      #expect(try follow.finish().status == 0)
      _ = try client.finish()
      let tshark = try #require(Witness.path("tshark"))
      let fields = ["tcp.srcport", "tcp.len", "tcp.flags.str", "frame.comment"].flatMap { ["-e", $0] }
      let rows = try Program.run([tshark, "-n", "-r", capture, "-T", "fields"] + fields).lines.map {
        $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      }.filter { $0.count == 4 }
      #expect(rows.first { $0[2].contains("S") }?[3].hasPrefix("during step") == true)
      #expect(rows.first { $0[1] == "5" }?[3].contains("during step") == true)
      let answer = try #require(rows.first { $0[0] == "\(port)" && $0[1] == "6" })
      #expect(answer[3].hasPrefix("step ") && answer[3].contains("sendto("))
      let second = try #require(rows.first { $0[0] != "\(port)" && $0[1] == "6" })
      #expect(second[3].hasPrefix("before step "), "\(second)")
      // The same in the story.
      let sendto = try #require(try StoryLine.all(text(ofFile: story) ?? "").first { $0.call == "sendto" })
      #expect(sendto.packets.contains { $0["length"] as? Int == 6 })
    }
  }

  /// A signal for the program goes to its first thread, as the kernel would have it, be that held up in a stop just then or not.
  @Test(.enabled(if: Witness.havePython)) func anInterruptReachesTheFirstThread() throws {
    let script = """
      import socket, threading
      a = socket.create_server(("127.0.0.1", 0)); print(a.getsockname()[1], flush=True)
      def serve(c):
          while c.recv(1000): c.sendall(b"x")
          c.close()
      try:
          while True: threading.Thread(target=serve, args=(a.accept()[0],)).start()
      except KeyboardInterrupt: print("interrupted", flush=True)
      """
    for _ in 0..<6 {
      try Script.follow(script) { command, _ in
        let follow = try Program(command)
        let port = try #require(try follow.line())
        let client =
          "import socket\ns = socket.create_connection(('127.0.0.1', \(port)), 20)\ns.sendall(b'x'); s.recv(1)"
        #expect(try Program.run([try Script.python(), "-c", client]).status == 0)
        follow.send(SIGINT)
        #expect(try follow.line(deadline: 20) == "interrupted")
        #expect(try follow.finish().status == 0)
      }
    }
  }
}
