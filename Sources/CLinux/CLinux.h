// What Linux offers and Swift's Glibc module does not import: the kernel's own structures for ptrace, sock_diag,
// packet sockets and seccomp, and plain wrappers for calls that are variadic or hidden behind
// _GNU_SOURCE. (Defining _GNU_SOURCE here would change types that the Glibc module already has.)
//
// Header only: every function is `static inline`. A wrapper has the kernel's name and hides nothing.

#pragma once

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

// Numbers that older headers lack; from 424 on they are the same on every architecture.
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

// --- calls that are variadic in Glibc, or declared for _GNU_SOURCE only -----------------------------------------------
// Every argument of syscall(2) is cast to long: it is variadic, and reads whole registers.

/// See: close_range(2), Linux 5.9. Where there is none, nothing is closed.
static inline void clinux_close_range(unsigned first, unsigned last) {
#ifdef SYS_close_range
  syscall(SYS_close_range, (long)first, (long)last, 0L);
#endif
}

/// See: pipe2(2)
static inline int clinux_pipe2(int *_Nonnull ends, int flags) {
  return (int)syscall(SYS_pipe2, (long)ends, (long)flags);
}

/// See: accept4(2). Glibc declares it for _GNU_SOURCE only.
extern int accept4(int descriptor, struct sockaddr *_Nullable address, socklen_t *_Nullable length, int flags);

/// See: ptrace(2). The raw call: PTRACE_PEEK* store through `data`, and every request returns -1 and errno on failure.
static inline long clinux_ptrace(long request, pid_t pid, unsigned long address, unsigned long data) {
  return syscall(SYS_ptrace, request, (long)pid, (long)address, (long)data);
}

/// See: process_vm_readv(2)
static inline long clinux_process_vm_read(pid_t pid, void *_Nonnull local, unsigned long remote, unsigned long length) {
  struct iovec here = {local, length};
  struct iovec there = {(void *)remote, length};
  return syscall(SYS_process_vm_readv, (long)pid, (long)&here, 1L, (long)&there, 1L, 0L);
}

/// See: process_vm_writev(2)
static inline long clinux_process_vm_write(pid_t pid, const void *_Nonnull local, unsigned long remote, unsigned long length) {
  struct iovec here = {(void *)local, length};
  struct iovec there = {(void *)remote, length};
  return syscall(SYS_process_vm_writev, (long)pid, (long)&here, 1L, (long)&there, 1L, 0L);
}

/// See: pidfd_open(2)
static inline int clinux_pidfd_open(pid_t pid, unsigned flags) {
  return (int)syscall(SYS_pidfd_open, (long)pid, (long)flags);
}

/// See: pidfd_getfd(2)
static inline int clinux_pidfd_getfd(int pidfd, int target, unsigned flags) {
  return (int)syscall(SYS_pidfd_getfd, (long)pidfd, (long)target, (long)flags);
}

/// See: waitpid(2), with __WALL: threads as well as children.
static inline pid_t clinux_wait_any(int *_Nonnull status, int options) {
  return waitpid(-1, status, options | 0x40000000 /* __WALL */);
}

/// See: prctl(2)
static inline int clinux_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  return prctl(option, a, b, c, d);
}

/// See: seccomp(2), SECCOMP_SET_MODE_FILTER
static inline int clinux_seccomp_set_filter(unsigned flags, const struct sock_fprog *_Nonnull program) {
  return (int)syscall(SYS_seccomp, (long)SECCOMP_SET_MODE_FILTER, (long)flags, (long)program);
}

/// See: ioctl(2), for requests whose argument is a pointer
static inline int clinux_ioctl(int fd, unsigned long request, void *_Nullable argument) {
  return ioctl(fd, request, argument);
}

/// The symbolic name of an errno ("EADDRINUSE"), or null. See: strerrorname_np(3)
extern const char *_Nullable strerrorname_np(int number);

/// Lets a thread, and all that it will start, run on some of the first 64 processors only, a bit each.
/// See: sched_setaffinity(2)
static inline int clinux_pin(pid_t thread, unsigned long processors) {
  return (int)syscall(SYS_sched_setaffinity, (long)thread, (long)sizeof processors, (long)&processors);
}

/// Which of the first 64 processors a process may run on, a bit each; 0 where that cannot be asked.
/// See: sched_getaffinity(2)
static inline unsigned long clinux_processors(pid_t process) {
  unsigned long mask[128] = {0};
  return syscall(SYS_sched_getaffinity, (long)process, (long)sizeof mask, (long)mask) > 0 ? mask[0] : 0;
}

/// See: tgkill(2)
static inline int clinux_tgkill(pid_t process, pid_t thread, int signal) {
  return (int)syscall(SYS_tgkill, (long)process, (long)thread, (long)signal);
}

/// Has the kernel begin to write a part of a file to the disk, and does not wait. See: sync_file_range(2)
static inline int clinux_begin_sync(int fd, long offset, long count) {
  return (int)syscall(SYS_sync_file_range, (long)fd, offset, count, 2L /* SYNC_FILE_RANGE_WRITE */);
}

/// Keeps room on the disk for a part of a file, and leaves the file's length alone. See: fallocate(2)
static inline int clinux_reserve(int fd, long offset, long count) {
  return (int)syscall(SYS_fallocate, (long)fd, 1L /* FALLOC_FL_KEEP_SIZE */, offset, count);
}

/// See: unshare(2)
static inline int clinux_unshare(int flags) { return (int)syscall(SYS_unshare, (long)flags); }

/// Brings a network interface up. See: netdevice(7), SIOCSIFFLAGS
static inline int clinux_interface_up(const char *_Nonnull name) {
  struct ifreq request = {0};
  int failure, probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return -1;
  for (int place = 0; place < IFNAMSIZ - 1 && name[place]; place++) request.ifr_name[place] = name[place];
  failure = ioctl(probe, SIOCGIFFLAGS, &request);
  request.ifr_flags |= IFF_UP;
  if (failure == 0) failure = ioctl(probe, SIOCSIFFLAGS, &request);
  int reason = errno;
  close(probe);
  errno = reason;
  return failure;
}

// --- capabilities of this thread ------------------------------------------------------------------------------------------

#define CLINUX_CAP_NET_BIND_SERVICE 10

/// Takes one capability out of this thread's effective set. See: capset(2), capabilities(7)
static inline int clinux_drop_effective_capability(unsigned capability) {
  struct { uint32_t version; int pid; } header = {0x20080522 /* _LINUX_CAPABILITY_VERSION_3 */, 0};
  struct { uint32_t effective, permitted, inheritable; } data[2];
  if (capability > 63) { errno = EINVAL; return -1; }
  if (syscall(SYS_capget, (long)&header, (long)data) != 0) return -1;
  data[capability / 32].effective &= ~(1u << (capability % 32));
  return (int)syscall(SYS_capset, (long)&header, (long)data);
}

// --- instructions that Swift has no words for ------------------------------------------------------------------------------

/// Whether the processor computes CRC-32C by itself: SSE 4.2, or the CRC32 extension of ARMv8.
static inline int clinux_has_crc32c(void) {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2") != 0;
#else
  return (getauxval(AT_HWCAP) & (1 << 7) /* HWCAP_CRC32 */) != 0;
#endif
}

/// Goes on with a CRC-32C (Castagnoli) over some bytes, without the inversions before and after. Only where
/// `clinux_has_crc32c`. See: RFC 9260, appendix A
#if defined(__x86_64__)
__attribute__((target("sse4.2")))
#else
__attribute__((target("crc")))
#endif
static inline uint32_t clinux_crc32c(uint32_t crc, const void *_Nonnull bytes, unsigned long count) {
  const unsigned char *from = (const unsigned char *)bytes;
#if defined(__x86_64__)
  unsigned long long wide = crc;
  for (; count >= 8; from += 8, count -= 8) {
    unsigned long long word;
    __builtin_memcpy(&word, from, 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  crc = (uint32_t)wide;
  for (; count > 0; from++, count--) crc = __builtin_ia32_crc32qi(crc, *from);
#else
  for (; count >= 8; from += 8, count -= 8) {
    uint64_t word;
    __builtin_memcpy(&word, from, 8);
    crc = __builtin_arm_crc32cd(crc, word);
  }
  for (; count > 0; from++, count--) crc = __builtin_arm_crc32cb(crc, *from);
#endif
  return crc;
}

// --- macros that Swift cannot import ----------------------------------------------------------------------------------------

static const int CLINUX_CLONE_NEWUSER = 0x10000000;      // See: namespaces(7)
static const int CLINUX_CLONE_NEWNET = 0x40000000;
static const unsigned CLINUX_PIDFD_THREAD = 0x80;        // O_EXCL. See: pidfd_open(2)
static const unsigned long CLINUX_SIOCOUTQNSD = 0x894B;  // bytes not sent at all. See: linux/sockios.h
static const unsigned long CLINUX_SIOCOUTQ = 0x5411;     // TIOCOUTQ: bytes not acknowledged. See: tcp(7)
static const unsigned long CLINUX_SIOCINQ = 0x541B;      // FIONREAD: bytes that a read would return. See: tcp(7)
static const unsigned long CLINUX_TIOCGWINSZ = 0x5413;

static const uint32_t CLINUX_SECCOMP_RET_TRACE = SECCOMP_RET_TRACE;
static const uint32_t CLINUX_SECCOMP_RET_ALLOW = SECCOMP_RET_ALLOW;
static const uint32_t CLINUX_AUDIT_ARCH_X86_64 = AUDIT_ARCH_X86_64;
static const uint32_t CLINUX_AUDIT_ARCH_AARCH64 = AUDIT_ARCH_AARCH64;

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "SocketSteps knows x86-64 and arm64"
#endif

static const uint16_t CLINUX_ETH_P_ALL = 0x0003;   // See: linux/if_ether.h
static const uint16_t CLINUX_ETH_P_IP = 0x0800;
static const uint16_t CLINUX_ETH_P_IPV6 = 0x86DD;

static const int CLINUX_SKF_AD_PKTTYPE = SKF_AD_OFF + SKF_AD_PKTTYPE;

// --- struct tcp_info, as of Linux 6.18 ------------------------------------------------------------------------------------------
// linux/tcp.h clashes with netinet/tcp.h, and both declare less than the kernel returns. The kernel only ever appends, so a
// field is there when the returned length reaches it. See: tcp(7), include/uapi/linux/tcp.h

struct linux_tcp_info {
  uint8_t tcpi_state, tcpi_ca_state, tcpi_retransmits, tcpi_probes, tcpi_backoff, tcpi_options;
  uint8_t tcpi_wscale;       // two bit-fields of four: send, receive
  uint8_t tcpi_limited;      // bit-fields
  uint32_t tcpi_rto, tcpi_ato, tcpi_snd_mss, tcpi_rcv_mss;
  uint32_t tcpi_unacked, tcpi_sacked, tcpi_lost, tcpi_retrans, tcpi_fackets;
  uint32_t tcpi_last_data_sent, tcpi_last_ack_sent, tcpi_last_data_recv, tcpi_last_ack_recv;
  uint32_t tcpi_pmtu, tcpi_rcv_ssthresh, tcpi_rtt, tcpi_rttvar, tcpi_snd_ssthresh, tcpi_snd_cwnd, tcpi_advmss, tcpi_reordering;
  uint32_t tcpi_rcv_rtt, tcpi_rcv_space, tcpi_total_retrans;
  uint64_t tcpi_pacing_rate, tcpi_max_pacing_rate, tcpi_bytes_acked, tcpi_bytes_received;
  uint32_t tcpi_segs_out, tcpi_segs_in, tcpi_notsent_bytes, tcpi_min_rtt, tcpi_data_segs_in, tcpi_data_segs_out;
  uint64_t tcpi_delivery_rate, tcpi_busy_time, tcpi_rwnd_limited, tcpi_sndbuf_limited;
  uint32_t tcpi_delivered, tcpi_delivered_ce;
  uint64_t tcpi_bytes_sent, tcpi_bytes_retrans;
  uint32_t tcpi_dsack_dups, tcpi_reord_seen, tcpi_rcv_ooopack, tcpi_snd_wnd, tcpi_rcv_wnd, tcpi_rehash;
};
