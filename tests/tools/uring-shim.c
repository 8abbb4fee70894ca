/*
 * Stands in for libc (RINGSIDE_LIBC) and gets between a program and the files that it moves data of:
 *
 *   RINGSIDE_SYNC_COUNT=PATH each sync appends a byte to that file
 *   RINGSIDE_SYNC_MS=100     syncing takes that long, by fdatasync as well as by io_uring
 *   RINGSIDE_URING=refuse    there is no io_uring, as where kernel.io_uring_disabled is set
 *   RINGSIDE_URING=KIND/N    each N-th read or write by io_uring ends otherwise: KIND is `again`
 *                            (EAGAIN), `error` (EIO), `short` (half of the first buffer), or `late`
 *                            (300 ms pass, and 8 bytes seem to be moved that are not)
 *   RINGSIDE_CACHE=cold      nothing that preadv2 is asked for without waiting is in memory
 *
 * An operation that is to end otherwise is replaced by another one of the same length on a file of
 * ours: results come from the kernel, through the same ring.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

static struct io_uring_sqe *sqes;
static char *ring;
static struct io_sqring_offsets offsets;
static uint64_t sink;

static void *real(const char *name)
{
  static void *libc;
  if (!libc) libc = dlopen("libc.so.6", RTLD_NOW);
  return dlsym(libc, name);
}

static const char *setting(const char *name)
{
  const char *value = getenv(name);
  return value ? value : "";
}

static int timer(unsigned ms)
{
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  struct itimerspec when = { .it_value = { ms / 1000, ms % 1000 * 1000000L + 1 } };
  timerfd_settime(fd, 0, &when, NULL);
  return fd;
}

/* Reads 8 bytes of `fd` in place of what was asked for. The descriptor is never closed: tests end. */
static void replace(struct io_uring_sqe *sqe, int fd)
{
  uint64_t token = sqe->user_data;
  memset(sqe, 0, sizeof *sqe);
  sqe->opcode = IORING_OP_READ;
  sqe->fd = fd;
  sqe->addr = (uintptr_t)&sink;
  sqe->len = 8;
  sqe->user_data = token;
}

static void disturb(struct io_uring_sqe *sqe, const char *kind)
{
  static int empty = -1, memory = -1;
  if (!strncmp(kind, "again", 5)) {
    if (empty < 0) empty = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    replace(sqe, empty);
    sqe->rw_flags = RWF_NOWAIT;
  } else if (!strncmp(kind, "error", 5)) {
    if (memory < 0) memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    replace(sqe, memory);
  } else if (!strncmp(kind, "late", 4)) replace(sqe, timer(300));
  else if (sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_WRITE) sqe->len /= 2;
  else {
    struct iovec *first = (struct iovec *)(uintptr_t)sqe->addr;
    first->iov_len /= 2;
    sqe->len = 1;
  }
}

static void count_sync(void)
{
  const char *path = getenv("RINGSIDE_SYNC_COUNT");
  if (!path) return;
  int counter = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (counter < 0 || write(counter, ".", 1) != 1) abort();
  close(counter);
}

static void inspect(struct io_uring_sqe *sqe)
{
  static unsigned moved;
  const char *kind = setting("RINGSIDE_URING");
  const char *every = strchr(kind, '/');
  unsigned ms = atoi(setting("RINGSIDE_SYNC_MS"));
  if (sqe->opcode == IORING_OP_FSYNC) {
    count_sync();
    if (ms > 0) replace(sqe, timer(ms));
  } else if (sqe->opcode != IORING_OP_FALLOCATE && every && ++moved % atoi(every + 1) == 0) {
    disturb(sqe, kind);
  }
}

long syscall(long number, ...)
{
  long (*call)(long, ...) = real("syscall");
  va_list args;
  va_start(args, number);
  long a = va_arg(args, long), b = va_arg(args, long), c = va_arg(args, long);
  long d = va_arg(args, long), e = va_arg(args, long), f = va_arg(args, long);
  va_end(args);
  if (number == SYS_io_uring_setup) {
    if (!strcmp(setting("RINGSIDE_URING"), "refuse")) {
      errno = EPERM;
      return -1;
    }
    long fd = call(number, a, b);
    if (fd >= 0) offsets = ((struct io_uring_params *)b)->sq_off;
    return fd;
  }
  if (number == SYS_io_uring_enter) {
    unsigned mask = *(unsigned *)(ring + offsets.ring_mask);
    unsigned tail = *(unsigned *)(ring + offsets.tail);
    unsigned head = __atomic_load_n((unsigned *)(ring + offsets.head), __ATOMIC_ACQUIRE);
    for (unsigned i = head; i != tail; i++) inspect(&sqes[i & mask]);
  }
  return call(number, a, b, c, d, e, f);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
  void *(*call)(void *, size_t, int, int, int, off_t) = real("mmap");
  void *got = call(address, length, protection, flags, fd, offset);
  char path[64], target[64] = "";
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (fd >= 0 && readlink(path, target, sizeof target - 1) > 0 && strstr(target, "io_uring")) {
    if (offset == IORING_OFF_SQES) sqes = got;
    else ring = got;
  }
  return got;
}

int fdatasync(int fd)
{
  count_sync();
  usleep(atoi(setting("RINGSIDE_SYNC_MS")) * 1000);
  return ((int (*)(int))real("fdatasync"))(fd);
}

ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
  if (flags != 0 && !strcmp(setting("RINGSIDE_CACHE"), "cold")) {
    errno = EAGAIN;
    return -1;
  }
  return ((ssize_t (*)(int, const struct iovec *, int, off_t, int))real("preadv2"))(fd, iov, count, offset, flags);
}
