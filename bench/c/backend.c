/*
 * The yardstick for `ram:`: a vhost-user-blk back-end in C of the same design. One thread waits in
 * epoll for the socket and the kicks; each kick drains its ring with kicks suppressed, copies blocks
 * between guest memory and a disk in memory, publishes 16 completions at a time, and polls the call
 * eventfd before it writes to it. It makes the checks that ours makes of indices, addresses and
 * ranges, and serves what benchmarks ask for: reads, writes, flushes, split rings, one front-end
 * after another.
 *
 *   backend SOCKET BYTES [POLL_US]    with POLL_US: looks that long for more before it sleeps
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { QUEUES = 8, REGIONS = 8, BUDGET = 512, BATCH = 16, SECTOR = 512 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { IN = 0, OUT = 1, FLUSH = 4 };
/* INDIRECT_DESC, EVENT_IDX, PROTOCOL_FEATURES, VERSION_1, MQ, FLUSH; MQ, REPLY_ACK, CONFIG. */
static const uint64_t features = 1ull << 28 | 1ull << 29 | 1ull << 30 | 1ull << 32 | 1 << 12 | 1 << 9;
static const uint64_t protocol_features = 1 << 0 | 1 << 3 | 1 << 9;

struct desc { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct avail { uint16_t flags, idx, ring[]; };
struct used { uint16_t flags, idx; struct { uint32_t id, len; } ring[]; };
struct region { uint64_t guest, size, user, offset; char *host; size_t mapped; };
struct queue {
  unsigned size;
  uint16_t last_avail, used_idx, signalled;
  struct desc *desc;
  struct avail *avail;
  struct used *used;
  int kick, call;
  bool enabled;
};
struct message {
  uint32_t request, flags, size;
  union { uint64_t u64; struct { uint32_t index, num; } state; uint8_t bytes[1024];
          struct { uint32_t index, flags; uint64_t desc, used, avail, log; } addr;
          struct { uint32_t count, pad; struct { uint64_t guest, size, user, offset; } r[REGIONS]; } table;
          struct { uint32_t offset, size, flags; uint8_t data[512]; } config; };
} __attribute__((packed));

static struct region regions[REGIONS];
static unsigned region_count;
static struct queue queues[QUEUES];
static char *disk;
static uint64_t disk_size, accepted;
static bool reply_ack;
static int epoll_fd;
/* The rings are looked at: drivers need not kick. */
static bool looking;

static void die(const char *what) { perror(what); exit(1); }

static void *guest(uint64_t address, uint64_t length)
{
  for (unsigned i = 0; i < region_count; i++) {
    uint64_t at = address - regions[i].guest;
    if (at < regions[i].size && length <= regions[i].size - at) return regions[i].host + at;
  }
  return NULL;
}

static void *user(uint64_t address)
{
  for (unsigned i = 0; i < region_count; i++)
    if (address - regions[i].user < regions[i].size) return regions[i].host + (address - regions[i].user);
  return NULL;
}

/* One request: header, data, status. Returns the bytes written, or -1 for a wrong chain. */
static int64_t serve(struct queue *q, unsigned head)
{
  struct desc *table = q->desc;
  unsigned count = q->size, i = head, seen = 0;
  uint64_t at = 0, sector = 0, written = 0;
  uint32_t type = 0;
  uint8_t *status = NULL;
  if (table[i].flags & INDIRECT) {
    count = table[i].len / sizeof *table;
    table = guest(table[i].addr, table[i].len);
    if (!table || count == 0) return -1;
    i = 0;
  }
  for (;; seen++) {
    struct desc d = table[i];
    char *data = guest(d.addr, d.len);
    if (!data || seen >= count) return -1;
    if (seen == 0) {
      if (d.len != 16) return -1;
      memcpy(&type, data, 4);
      memcpy(&sector, data + 8, 8);
      if (sector > disk_size / SECTOR) return -1;
      at = sector * SECTOR;
    } else if (!(d.flags & NEXT)) {
      status = (uint8_t *)data;
      break;
    } else {
      if (d.len > disk_size - at) return -1;
      if (type == IN) { memcpy(data, disk + at, d.len); written += d.len; }
      else if (type == OUT) memcpy(disk + at, data, d.len);
      at += d.len;
    }
    if (d.next >= count) return -1;
    i = d.next;
  }
  *status = type == IN || type == OUT || type == FLUSH ? 0 : 2;
  return written + 1;
}

static void publish(struct queue *q)
{
  if (q->used_idx == q->signalled) return;
  __atomic_store_n(&q->used->idx, q->used_idx, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  bool wanted;
  if (accepted & 1ull << 29) {
    uint16_t event = __atomic_load_n(&q->avail->ring[q->size], __ATOMIC_RELAXED);
    wanted = (uint16_t)(q->used_idx - event - 1) < (uint16_t)(q->used_idx - q->signalled);
  } else wanted = !(__atomic_load_n(&q->avail->flags, __ATOMIC_RELAXED) & 1);
  q->signalled = q->used_idx;
  struct pollfd p = { .fd = q->call, .events = POLLOUT };
  if (wanted && q->call >= 0 && poll(&p, 1, 0) == 1)
    if (write(q->call, &(uint64_t){ 1 }, 8) != 8) die("call");
}

/* Returns the number of requests served. */
static unsigned drain(struct queue *q)
{
  unsigned served = 0, staged = 0;
  if (!q->avail || !q->enabled || q->kick < 0) return 0;
  q->used->flags = 1;
  for (unsigned budget = BUDGET; budget > 0; budget--) {
    if (q->last_avail == __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE)) {
      publish(q);
      staged = 0;
      if (looking) return served;
      q->used->flags = 0;
      memcpy(&q->used->ring[q->size], &q->last_avail, 2);
      __atomic_thread_fence(__ATOMIC_SEQ_CST);
      if (q->last_avail == __atomic_load_n(&q->avail->idx, __ATOMIC_RELAXED)) return served;
      q->used->flags = 1;
      continue;
    }
    unsigned head = q->avail->ring[q->last_avail++ & (q->size - 1)];
    int64_t written = head < q->size ? serve(q, head) : -1;
    if (written < 0) { fprintf(stderr, "a chain is wrong\n"); exit(1); }
    unsigned slot = q->used_idx++ & (q->size - 1);
    q->used->ring[slot].id = head;
    q->used->ring[slot].len = written;
    served++;
    if (++staged == BATCH) { publish(q); staged = 0; }
  }
  publish(q);
  /* Others get their turn: the kick of our own comes back in the next round. */
  if (write(q->kick, &(uint64_t){ 1 }, 8) != 8) die("kick");
  return served;
}

static void watch(struct queue *q, int fd)
{
  if (q->kick >= 0) close(q->kick);
  q->kick = fd;
  struct epoll_event e = { .events = EPOLLIN | EPOLLET, .data.u32 = q - queues };
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
}

static void replace_table(struct message *m, const int *fds)
{
  for (unsigned i = 0; i < region_count; i++) munmap(regions[i].host - regions[i].offset, regions[i].mapped);
  region_count = m->table.count;
  for (unsigned i = 0; i < region_count && i < REGIONS; i++) {
    struct region r = { m->table.r[i].guest, m->table.r[i].size, m->table.r[i].user, m->table.r[i].offset, NULL, 0 };
    r.mapped = r.size + r.offset;
    char *at = mmap(NULL, r.mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fds[i], 0);
    if (at == MAP_FAILED) die("mmap");
    r.host = at + r.offset;
    regions[i] = r;
    close(fds[i]);
  }
}

static ssize_t receive(int fd, struct message *m, int *fds)
{
  char control[CMSG_SPACE(REGIONS * sizeof(int))];
  struct iovec head = { m, 12 };
  struct msghdr h = { .msg_iov = &head, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
  ssize_t n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC | MSG_WAITALL);
  if (n <= 0) return n;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c))
    memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
  if (m->size > sizeof m->bytes) { fprintf(stderr, "message too long\n"); exit(1); }
  return m->size == 0 ? n : recv(fd, m->bytes, m->size, MSG_WAITALL);
}

/* Answers one message. Returns false when the front-end is gone. */
static bool handle(int fd)
{
  struct message m;
  int fds[REGIONS];
  bool reply = false;
  memset(fds, -1, sizeof fds);
  if (receive(fd, &m, fds) <= 0) return false;
  struct queue *q = &queues[m.state.index % QUEUES];
  switch (m.request) {
  case 1: m.u64 = features; reply = true; break;
  case 2: accepted = m.u64; break;
  case 5: replace_table(&m, fds); break;
  case 8: q->size = m.state.num; break;
  case 9:
    q->desc = user(m.addr.desc);
    q->avail = user(m.addr.avail);
    q->used = user(m.addr.used);
    break;
  case 10: q->last_avail = q->used_idx = q->signalled = m.state.num; break;
  case 11:
    m.state.num = q->last_avail;
    close(q->kick);
    q->kick = -1;
    q->avail = NULL;
    reply = true;
    m.size = 8;
    break;
  case 12: watch(q, fds[0]); drain(q); break;
  case 13: if (q->call >= 0) close(q->call); q->call = fds[0]; break;
  case 14: close(fds[0]); break;
  case 15: m.u64 = protocol_features; reply = true; break;
  case 16: reply_ack = m.u64 & 8; break;
  case 17: m.u64 = QUEUES; reply = true; break;
  case 18: q->enabled = m.state.num; drain(q); break;
  case 24: {
    uint8_t config[512] = { 0 };
    memcpy(config, &(uint64_t){ disk_size / SECTOR }, 8);
    memcpy(config + 20, &(uint32_t){ 512 }, 4);
    memcpy(config + 34, &(uint16_t){ QUEUES }, 2);
    memcpy(m.config.data, config + m.config.offset % 256, m.config.size % 256);
    m.flags = 5;
    return write(fd, &m, 12 + m.size) > 0;
  }
  }
  if (reply) {
    m.size = 8;
    m.flags = 5;
    return write(fd, &m, 20) == 20;
  }
  if (!(m.flags & 8) || !reply_ack) return true;
  m.u64 = 0, m.size = 8, m.flags = 5;
  return write(fd, &m, 20) == 20;
}

static uint64_t now_us(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static void serve_front_end(int fd, uint64_t poll_us)
{
  struct epoll_event events[16], socket_event = { .events = EPOLLIN, .data.u32 = QUEUES };
  uint64_t busy_until = 0;
  for (unsigned i = 0; i < QUEUES; i++) queues[i] = (struct queue){ .kick = -1, .call = -1 };
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &socket_event);
  for (unsigned turn = 0;; turn++) {
    bool spin = poll_us > 0 && now_us() < busy_until, rest = looking && !spin;
    unsigned served = 0;
    looking = spin;
    int n = spin && turn % 64 != 0 ? 0 : epoll_wait(epoll_fd, events, 16, spin || rest ? 0 : -1);
    for (int i = 0; i < n; i++) {
      if (events[i].data.u32 < QUEUES) served += drain(&queues[events[i].data.u32]);
      else if (!handle(fd)) { looking = false; return; }
    }
    /* A drain without `looking` asks for kicks again. */
    if (spin || rest) for (unsigned i = 0; i < QUEUES; i++)
      if (queues[i].avail && (rest || queues[i].avail->idx != queues[i].last_avail)) served += drain(&queues[i]);
    if (served > 0 && poll_us > 0) busy_until = now_us() + poll_us;
  }
}

int main(int argc, char **argv)
{
  struct sockaddr_un name = { .sun_family = AF_UNIX };
  if (argc < 3) return 2;
  disk_size = strtoull(argv[2], NULL, 0);
  /* Huge pages, as ours. */
  size_t page = 2 << 20;
  disk = mmap(NULL, disk_size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (disk == MAP_FAILED) die("mmap");
  disk = (char *)(((uintptr_t)disk + page - 1) & ~(page - 1));
  madvise(disk, disk_size, MADV_HUGEPAGE);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
  if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 1)) die("bind");
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) die("accept");
    serve_front_end(fd, argc > 3 ? strtoull(argv[3], NULL, 0) : 0);
    for (unsigned i = 0; i < QUEUES; i++) {
      if (queues[i].kick >= 0) close(queues[i].kick);
      if (queues[i].call >= 0) close(queues[i].call);
    }
    close(fd);
  }
}
