/* MIT licence. Copyright the Ringside authors. */
/*
 * vublk_bench - load generator and data checker for vhost-user-blk back-ends, without a virtual machine.
 *
 * It is a vhost-user front-end: it connects to the back-end's socket, shares a memfd, sets up N split
 * virtqueues and plays the guest's block driver on them.
 *
 *   cc -O2 -Wall -Wextra -pthread -o vublk_bench vublk_bench.c
 *   vublk_bench -s vub.sock -w randread -b 4k -q 1 -d 32 -t 2
 *
 * The exit status is 0 only when every request succeeded, no data differed and the rings closed consistently.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* ---- virtio and vhost-user definitions (from the specifications) ---- */

enum { F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9, F_MQ = 12, F_DISCARD = 13, F_WRITE_ZEROES = 14,
       F_RING_INDIRECT = 28, F_EVENT_IDX = 29, F_PROTOCOL = 30, F_VERSION_1 = 32 };
enum { PF_MQ = 0, PF_REPLY_ACK = 3, PF_CONFIG = 9 };
enum { GET_FEATURES = 1, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE, SET_LOG_BASE, SET_LOG_FD, SET_VRING_NUM,
       SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR,
       GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE, GET_CONFIG = 24 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8 };
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
#define BIT(n) (1ull << (n))
#define NOFD_MASK 0x100
#define GPA_BASE 0x100000000ull

struct vring_desc { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct vring_avail { uint16_t flags, idx, ring[]; };
struct vring_used_elem { uint32_t id, len; };
struct vring_used { uint16_t flags, idx; struct vring_used_elem ring[]; };
struct blk_hdr { uint32_t type, prio; uint64_t sector; };

struct vu_hdr { uint32_t req, flags, size; } __attribute__((packed));
struct vu_region { uint64_t gpa, size, ua, off; };
struct vu_mem { uint32_t n, pad; struct vu_region r[1]; };
struct vu_state { uint32_t index, num; };
struct vu_addr { uint32_t index, flags; uint64_t desc, used, avail, log; };

/* ---- options ---- */

enum work { W_READ, W_WRITE, W_RANDREAD, W_RANDWRITE, W_MIXED };
static const char *work_names[] = { "read", "write", "randread", "randwrite", "mixed" };
static struct {
    const char *sock;
    enum work work;
    unsigned nq, depth, ring, bs, segs, threads, mix, flush_every, retry_ms;
    uint64_t range, count;
    double secs, warm;
    bool busy, event_idx, indirect, verify, fill, huge, json, verbose;
    long pid;
    uint64_t seed;
} o = { .work = W_RANDREAD, .nq = 1, .depth = 32, .bs = 4096, .segs = 1, .mix = 70, .secs = 2, .warm = 0.2,
        .event_idx = true, .indirect = true, .retry_ms = 3000, .seed = 1 };

/* ---- small helpers ---- */

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "vublk_bench: ");
    va_start(ap, fmt); vfprintf(stderr, fmt, ap); va_end(ap);
    fprintf(stderr, "\n");
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t rnd(uint64_t *s) { uint64_t x = *s; x ^= x << 13; x ^= x >> 7; x ^= x << 17; return *s = x; }

static uint64_t parse_size(const char *s)
{
    char *e;
    double v = strtod(s, &e);
    switch (*e) {
    case 'k': case 'K': v *= 1024; e++; break;
    case 'm': case 'M': v *= 1048576; e++; break;
    case 'g': case 'G': v *= 1073741824.0; e++; break;
    }
    if (*e || v < 0 || e == s) die("not a size: %s", s);
    return (uint64_t)v;
}

/* CPU time of every thread of a process, in nanoseconds */
static uint64_t cpu_ns(long pid)
{
    char p[300];
    uint64_t sum = 0, v;
    snprintf(p, sizeof p, "/proc/%ld/task", pid);
    DIR *d = opendir(p);
    struct dirent *e;
    if (!d) return 0;
    while ((e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        snprintf(p, sizeof p, "/proc/%ld/task/%s/schedstat", pid, e->d_name);
        FILE *f = fopen(p, "r");
        if (!f) continue;
        if (fscanf(f, "%" SCNu64, &v) == 1) sum += v;
        fclose(f);
    }
    closedir(d);
    return sum;
}

/* latency histogram: 32 buckets to each power of two, so about 3 % resolution */
#define SUB 32
#define NBUCKET (SUB * 60)
static unsigned bucket(uint64_t ns)
{
    if (ns < SUB) return (unsigned)ns;
    unsigned sh = 63 - __builtin_clzll(ns) - 5;
    return (sh + 1) * SUB + (unsigned)((ns >> sh) - SUB);
}
static double bucket_us(unsigned b)
{
    if (b < SUB) return b / 1e3;
    unsigned sh = b / SUB - 1;
    return ((double)((uint64_t)(b % SUB + SUB) << sh) + (double)(1ull << sh) / 2) / 1e3;
}

/* ---- vhost-user messages ---- */

static int vu_fd = -1;
static bool reply_ack;

static void vu_write(uint32_t req, uint32_t flags, const void *p, uint32_t n, const int *fds, int nfd)
{
    struct vu_hdr h = { req, 1 | flags, n };
    struct iovec iov[2] = { { &h, sizeof h }, { (void *)p, n } };
    union { char b[CMSG_SPACE(8 * sizeof(int))]; struct cmsghdr a; } c;
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = n ? 2 : 1 };
    if (nfd) {
        memset(&c, 0, sizeof c);
        m.msg_control = c.b; m.msg_controllen = CMSG_SPACE(nfd * sizeof(int));
        struct cmsghdr *cm = CMSG_FIRSTHDR(&m);
        cm->cmsg_level = SOL_SOCKET; cm->cmsg_type = SCM_RIGHTS; cm->cmsg_len = CMSG_LEN(nfd * sizeof(int));
        memcpy(CMSG_DATA(cm), fds, nfd * sizeof(int));
    }
    ssize_t r;
    do r = sendmsg(vu_fd, &m, MSG_NOSIGNAL); while (r < 0 && errno == EINTR);
    if (r != (ssize_t)(sizeof h + n)) die("sending message %u: %s", req, r < 0 ? strerror(errno) : "short write");
}

static void read_full(void *p, size_t n, uint32_t req)
{
    for (size_t got = 0; got < n; ) {
        ssize_t r = recv(vu_fd, (char *)p + got, n - got, 0);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) die("reply to message %u: %s", req, r ? strerror(errno) : "the back-end closed the connection");
        got += r;
    }
}

static uint32_t vu_reply(uint32_t req, void *p, uint32_t max)
{
    struct vu_hdr h;
    read_full(&h, sizeof h, req);
    if (h.req != req || (h.flags & 7) != 5 || h.size > max) die("reply to message %u has request %u, flags %#x, size %u", req, h.req, h.flags, h.size);
    read_full(p, h.size, req);
    return h.size;
}

/* a message that has no reply of its own; with REPLY_ACK its success is awaited */
static void vu_set(uint32_t req, const void *p, uint32_t n, const int *fds, int nfd)
{
    vu_write(req, reply_ack ? 8 : 0, p, n, fds, nfd);
    if (reply_ack) {
        uint64_t v = 1;
        vu_reply(req, &v, sizeof v);
        if (v) die("the back-end refused message %u (%" PRIu64 ")", req, v);
    }
}
static void vu_set_u64(uint32_t req, uint64_t v) { vu_set(req, &v, sizeof v, NULL, 0); }
static void vu_set_state(uint32_t req, uint32_t i, uint32_t n) { struct vu_state s = { i, n }; vu_set(req, &s, sizeof s, NULL, 0); }
static void vu_set_fd(uint32_t req, uint32_t i, int fd) { uint64_t v = i; vu_set(req, &v, sizeof v, &fd, 1); }
static uint64_t vu_get_u64(uint32_t req)
{
    uint64_t v = 0;
    vu_write(req, 0, NULL, 0, NULL, 0);
    if (vu_reply(req, &v, sizeof v) != sizeof v) die("reply to message %u is short", req);
    return v;
}

static void vu_connect(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    uint64_t until = now_ns() + o.retry_ms * 1000000ull;
    if (strlen(o.sock) >= sizeof a.sun_path) die("socket path too long");
    strcpy(a.sun_path, o.sock);
    for (;;) {
        vu_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (vu_fd < 0) die("socket: %s", strerror(errno));
        if (!connect(vu_fd, (struct sockaddr *)&a, sizeof a)) break;
        if (now_ns() > until) die("connect %s: %s", o.sock, strerror(errno));
        close(vu_fd);
        usleep(20000);
    }
    struct ucred c;
    socklen_t n = sizeof c;
    if (!o.pid && !getsockopt(vu_fd, SOL_SOCKET, SO_PEERCRED, &c, &n)) o.pid = c.pid;
    struct timeval tv = { 10, 0 };                      /* a back-end that does not answer is an error */
    setsockopt(vu_fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
}

/* ---- virtqueues ---- */

struct slot {
    struct blk_hdr *hdr;
    uint8_t *status, *data;
    uint64_t block, t0;
    uint32_t type;
};

struct queue {
    unsigned index, mask;
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t avail_idx, last_used;
    int kick, call, err;
    struct slot *slots;
    unsigned *free_slots, n_free, inflight, per_req;
    uint64_t rng, seq, lo, hi;                          /* this queue's own blocks, [lo, hi) */
    uint64_t since_flush;
    uint64_t done, failed, bad, kicks, wakes, odd_len, bytes, fill_next;
    uint64_t hist[NBUCKET], max_ns;
};

static char *mem;
static size_t mem_size, mem_used;
static int mem_fd;
static struct queue *queues;
static uint64_t capacity_blocks, features;
static uint32_t *gens;                                  /* how often each block was written (-V) */
static uint8_t *busy_blk;
static _Atomic int phase;                               /* 0 warm-up, 1 measure, 2 stop submitting */
static _Atomic uint64_t tickets;                        /* requests left, with -n */
static bool filling;

static uint64_t gpa(const void *p) { return GPA_BASE + (uint64_t)((const char *)p - mem); }

static void *take(size_t n, size_t align)
{
    mem_used = (mem_used + align - 1) & ~(align - 1);
    void *p = mem + mem_used;
    mem_used += n;
    if (mem_used > mem_size) die("internal: arena too small");
    return p;
}

static void setup_memory(void)
{
    size_t per_q = 3 * 65536 + (size_t)o.ring * 64 + (size_t)o.depth * (((size_t)o.bs + 4095) / 4096 * 4096 + 4096 + 16 * (o.segs + 2) + 512);
    mem_size = (per_q * o.nq + 0x400000) & ~(size_t)0x1fffff;
    mem_fd = memfd_create("vublk_bench", MFD_CLOEXEC | (o.huge ? MFD_HUGETLB : 0));
    if (mem_fd < 0 || ftruncate(mem_fd, mem_size)) die("memfd: %s", strerror(errno));
    mem = mmap(NULL, mem_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, mem_fd, 0);
    if (mem == MAP_FAILED) die("mmap: %s", strerror(errno));
}

static void setup_queue(struct queue *q, unsigned i)
{
    q->index = i;
    q->mask = o.ring - 1;
    q->desc = take(16ull * o.ring, 4096);
    q->avail = take(6 + 2ull * o.ring, 4096);
    q->used = take(6 + 8ull * o.ring, 4096);
    q->kick = eventfd(0, EFD_CLOEXEC); q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); q->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->kick < 0 || q->call < 0 || q->err < 0) die("eventfd: %s", strerror(errno));
    q->rng = (o.seed * 0x9e3779b97f4a7c15ull) ^ (i + 1) * 0xbf58476d1ce4e5b9ull;
    q->lo = q->seq = q->fill_next = capacity_blocks * i / o.nq;
    q->hi = capacity_blocks * (i + 1) / o.nq;
    bool ind = features & BIT(F_RING_INDIRECT);
    q->per_req = ind ? 1 : o.segs + 2;
    q->slots = calloc(o.depth, sizeof *q->slots);
    q->free_slots = calloc(o.depth, sizeof *q->free_slots);
    for (unsigned s = 0; s < o.depth; s++) {
        struct slot *l = &q->slots[s];
        struct vring_desc *t = ind ? take(16ull * (o.segs + 2), 16) : q->desc + s * q->per_req;
        unsigned base = ind ? 0 : s * q->per_req, left = o.bs, n = 0;
        l->hdr = take(sizeof *l->hdr, 64);
        l->status = take(1, 64);
        l->data = take(o.bs, o.bs >= 4096 ? 4096 : 512);
        t[n] = (struct vring_desc){ gpa(l->hdr), 16, DESC_NEXT, base + 1 };
        for (n = 1; n <= o.segs; n++) {
            unsigned len = n == o.segs ? left : (o.bs / o.segs) & ~511u;
            t[n] = (struct vring_desc){ gpa(l->data + o.bs - left), len, DESC_NEXT, base + n + 1 };
            left -= len;
        }
        t[n] = (struct vring_desc){ gpa(l->status), 1, DESC_WRITE, 0 };
        if (ind) q->desc[s] = (struct vring_desc){ gpa(t), 16 * (o.segs + 2), DESC_INDIRECT, 0 };
        q->free_slots[q->n_free++] = o.depth - 1 - s;
    }
}

static struct vring_desc *slot_table(struct queue *q, unsigned s)
{
    return q->per_req == 1 ? (struct vring_desc *)(mem + (q->desc[s].addr - GPA_BASE)) : q->desc + s * q->per_req;
}

static void start_queue(struct queue *q)
{
    struct vu_addr a = { q->index, 0, (uintptr_t)q->desc, (uintptr_t)q->used, (uintptr_t)q->avail, 0 };
    vu_set_state(SET_VRING_NUM, q->index, o.ring);
    vu_set_state(SET_VRING_BASE, q->index, 0);
    vu_set(SET_VRING_ADDR, &a, sizeof a, NULL, 0);
    vu_set_fd(SET_VRING_ERR, q->index, q->err);
    vu_set_fd(SET_VRING_CALL, q->index, q->call);
    vu_set_fd(SET_VRING_KICK, q->index, q->kick);
    vu_set_state(SET_VRING_ENABLE, q->index, 1);
}

static void stop_queue(struct queue *q)
{
    struct vu_state s = { q->index, 0 };
    vu_write(GET_VRING_BASE, 0, &s, sizeof s, NULL, 0);
    vu_reply(GET_VRING_BASE, &s, sizeof s);
    if (s.num != q->avail_idx) { fprintf(stderr, "queue %u: GET_VRING_BASE says %u, the ring stands at %u\n", q->index, s.num, q->avail_idx); q->failed++; }
}

/* pattern of a block: every 8-byte word depends on the block, its generation and the place in the block */
static uint64_t pat(uint64_t block, uint32_t gen, unsigned w)
{
    uint64_t x = (block + 1) * 0x9e3779b97f4a7c15ull + gen * 0xd6e8feb86659fd93ull + w * 0xa0761d6478bd642full + o.seed;
    x ^= x >> 32; x *= 0xd6e8feb86659fd93ull;
    return x ^ x >> 29;
}
static void put_pattern(uint8_t *d, uint64_t block, uint32_t gen)
{
    for (unsigned w = 0; w < o.bs / 8; w++) { uint64_t v = pat(block, gen, w); memcpy(d + w * 8, &v, 8); }
}
static bool has_pattern(const uint8_t *d, uint64_t block, uint32_t gen)
{
    for (unsigned w = 0; w < o.bs / 8; w++) { uint64_t v = pat(block, gen, w); if (memcmp(d + w * 8, &v, 8)) return false; }
    return true;
}

/* chooses what to do next; false when there is nothing to do now */
static bool choose(struct queue *q, uint32_t *type, uint64_t *block)
{
    if (filling) {
        if (q->fill_next >= q->hi) return false;
        *type = T_OUT; *block = q->fill_next++;
        return true;
    }
    bool wr = o.work == W_WRITE || o.work == W_RANDWRITE || (o.work == W_MIXED && rnd(&q->rng) % 100 >= o.mix);
    if (wr && o.flush_every && ++q->since_flush > o.flush_every) { q->since_flush = 0; *type = T_FLUSH; *block = 0; return true; }
    *type = wr ? T_OUT : T_IN;
    for (unsigned tries = 0; tries < 64; tries++) {
        if (o.work == W_READ || o.work == W_WRITE) { *block = q->seq++; if (q->seq >= q->hi) q->seq = q->lo; }
        else *block = q->lo + rnd(&q->rng) % (q->hi - q->lo);
        if (!o.verify || !busy_blk[*block]) return true;
    }
    return false;
}

static unsigned submit(struct queue *q)
{
    unsigned n = 0;
    uint64_t t = 0;
    while (q->n_free) {
        uint32_t type;
        uint64_t block;
        if (o.count && !filling) {
            uint64_t left = atomic_load_explicit(&tickets, memory_order_relaxed);
            do if (!left) goto out; while (!atomic_compare_exchange_weak(&tickets, &left, left - 1));
        }
        if (!choose(q, &type, &block)) { if (o.count && !filling) atomic_fetch_add(&tickets, 1); break; }
        if (!t) t = now_ns();
        unsigned s = q->free_slots[--q->n_free];
        struct slot *l = &q->slots[s];
        struct vring_desc *d = slot_table(q, s);
        *l->hdr = (struct blk_hdr){ htole32(type), 0, htole64(type == T_FLUSH ? 0 : block * (o.bs / 512)) };
        *l->status = 0xff;
        l->type = type; l->block = block; l->t0 = t;
        if (o.verify && type != T_FLUSH) {
            busy_blk[block] = 1;
            if (type == T_OUT) put_pattern(l->data, block, ++gens[block]);
            else memset(l->data, 0xa5, o.bs);
        }
        if (type == T_FLUSH) {                          /* header and status only */
            d[0].next = d[o.segs].next;
            if (q->per_req == 1) { d[1] = d[o.segs + 1]; d[0].next = 1; q->desc[s].len = 32; }
        } else {
            unsigned base = q->per_req == 1 ? 0 : s * q->per_req;
            if (q->per_req == 1 && q->desc[s].len == 32) {
                d[1] = (struct vring_desc){ gpa(l->data), o.segs == 1 ? o.bs : (o.bs / o.segs) & ~511u, DESC_NEXT, 2 };
                q->desc[s].len = 16 * (o.segs + 2);
            }
            d[0].next = base + 1;
            for (unsigned i = 1; i <= o.segs; i++) d[i].flags = DESC_NEXT | (type == T_IN ? DESC_WRITE : 0);
        }
        q->avail->ring[(q->avail_idx + n) & q->mask] = htole16(s * q->per_req);
        n++;
    }
out:
    if (!n) return 0;
    uint16_t old = q->avail_idx;
    q->avail_idx += n;
    q->inflight += n;
    atomic_store_explicit((_Atomic uint16_t *)&q->avail->idx, q->avail_idx, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    bool kick;
    if (features & BIT(F_EVENT_IDX)) {
        volatile uint16_t *avail_event = (void *)&q->used->ring[o.ring];
        uint16_t ev = *avail_event;
        kick = (uint16_t)(q->avail_idx - ev - 1) < (uint16_t)(q->avail_idx - old);
    } else
        kick = !(*(volatile uint16_t *)&q->used->flags & 1);
    if (kick) {
        uint64_t one = 1;
        if (write(q->kick, &one, 8) != 8) die("kick: %s", strerror(errno));
        q->kicks++;
    }
    return n;
}

static unsigned reap(struct queue *q)
{
    uint16_t idx = atomic_load_explicit((_Atomic uint16_t *)&q->used->idx, memory_order_acquire);
    unsigned n = (uint16_t)(idx - q->last_used);
    if (!n) return 0;
    if (n > q->inflight) die("queue %u: the back-end returned %u requests, only %u are in flight", q->index, n, q->inflight);
    uint64_t t = now_ns();
    int ph = atomic_load_explicit(&phase, memory_order_relaxed);
    for (unsigned i = 0; i < n; i++, q->last_used++) {
        struct vring_used_elem *e = &q->used->ring[q->last_used & q->mask];
        unsigned s = e->id / q->per_req;
        if (e->id % q->per_req || s >= o.depth || !q->slots[s].t0) die("queue %u: used id %u is not in flight", q->index, e->id);
        struct slot *l = &q->slots[s];
        uint8_t st = *(volatile uint8_t *)l->status;
        if (st) {
            if (q->failed++ < 5) fprintf(stderr, "queue %u: request type %u block %" PRIu64 " ended with status %u\n", q->index, l->type, l->block, st);
        } else if (o.verify && l->type == T_IN && gens[l->block] && !has_pattern(l->data, l->block, gens[l->block])) {
            if (q->bad++ < 5) fprintf(stderr, "queue %u: block %" PRIu64 " (generation %u) holds other data\n", q->index, l->block, gens[l->block]);
        }
        if (e->len != (l->type == T_IN ? o.bs + 1 : 1)) q->odd_len++;
        if (o.verify && l->type != T_FLUSH) busy_blk[l->block] = 0;
        if (ph == 1 && !filling) {
            uint64_t d = t - l->t0;
            q->hist[bucket(d)]++;
            if (d > q->max_ns) q->max_ns = d;
            q->done++;
            if (l->type != T_FLUSH) q->bytes += o.bs;
        }
        l->t0 = 0;
        q->free_slots[q->n_free++] = s;
    }
    q->inflight -= n;
    return n;
}

/* asks for a notification on the next completion (or for none at all) */
static void want_call(struct queue *q, bool want)
{
    if (features & BIT(F_EVENT_IDX))
        atomic_store_explicit((_Atomic uint16_t *)&q->avail->ring[o.ring], (uint16_t)(q->last_used + (want ? 0 : 0x7fff)), memory_order_relaxed);
    else
        atomic_store_explicit((_Atomic uint16_t *)&q->avail->flags, want ? 0 : 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

static void check_alive(uint64_t since)
{
    struct pollfd p = { vu_fd, POLLIN, 0 };
    if (poll(&p, 1, 0) > 0) die("the back-end closed the connection%s", p.revents & POLLIN ? " or sent something unasked" : "");
    if (now_ns() - since > 10000000000ull) die("no completion for 10 s");
}

static void *worker(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg, nq = 0;
    struct queue *mine[o.nq];
    struct pollfd pf[o.nq + 1];
    for (unsigned i = me; i < o.nq; i += o.threads) { pf[nq] = (struct pollfd){ queues[i].call, POLLIN, 0 }; mine[nq++] = &queues[i]; }
    pf[nq] = (struct pollfd){ vu_fd, POLLIN, 0 };
    uint64_t last = now_ns();
    for (unsigned i = 0; i < nq; i++) want_call(mine[i], !o.busy);
    for (uint64_t spin = 0;;) {
        unsigned got = 0, flying = 0, sent = 0;
        bool stop = atomic_load_explicit(&phase, memory_order_relaxed) == 2;
        for (unsigned i = 0; i < nq; i++) {
            got += reap(mine[i]);
            if (!stop) sent += submit(mine[i]);
            flying += mine[i]->inflight;
        }
        if (!flying && (stop || filling || (o.count && !atomic_load(&tickets)))) return NULL;
        if (got) { last = 0; spin = 0; if (o.busy) { for (unsigned i = 0; i < nq; i++) if (features & BIT(F_EVENT_IDX)) want_call(mine[i], false); continue; } }
        if (o.busy) {
            if (!(++spin & 0xffff)) { if (!last) last = now_ns(); check_alive(last); }
            __builtin_ia32_pause();
            continue;
        }
        if (got || sent) { for (unsigned i = 0; i < nq; i++) want_call(mine[i], true); }
        bool ready = false;
        for (unsigned i = 0; i < nq; i++) ready |= *(volatile uint16_t *)&mine[i]->used->idx != mine[i]->last_used;
        if (ready) continue;
        int r = poll(pf, nq + 1, 10000);
        if (r < 0 && errno != EINTR) die("poll: %s", strerror(errno));
        if (r == 0 && flying) die("no completion for 10 s");
        if (pf[nq].revents) die("the back-end closed the connection or sent something unasked");
        for (unsigned i = 0; i < nq; i++)
            if (pf[i].revents) { uint64_t v; if (read(mine[i]->call, &v, 8) == 8) mine[i]->wakes++; }
    }
}

static void measure(void);

static void run_threads(void)
{
    pthread_t th[o.threads];
    for (unsigned i = 0; i < o.threads; i++)
        if (pthread_create(&th[i], NULL, worker, (void *)(uintptr_t)i)) die("pthread_create");
    if (!filling && !o.count) {
        usleep((useconds_t)(o.warm * 1e6));
        measure();
    }
    for (unsigned i = 0; i < o.threads; i++) pthread_join(th[i], NULL);
}

static double took, cpu_be, cpu_fe;

static double self_cpu(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* lets the running threads go on for the measured time, then stops them */
static void measure(void)
{
    uint64_t c0 = cpu_ns(o.pid), t0 = now_ns();
    double s0 = self_cpu();
    atomic_store(&phase, 1);
    usleep((useconds_t)(o.secs * 1e6));
    atomic_store(&phase, 2);
    uint64_t t1 = now_ns(), c1 = cpu_ns(o.pid);
    took = (t1 - t0) / 1e9; cpu_be = (c1 - c0) / 1e9 / took; cpu_fe = (self_cpu() - s0) / took;
}

static double percentile(const uint64_t *h, uint64_t total, double p)
{
    uint64_t want = (uint64_t)(total * p), sum = 0;
    for (unsigned b = 0; b < NBUCKET; b++) { sum += h[b]; if (sum > want) return bucket_us(b); }
    return 0;
}

static void usage(void)
{
    fputs("usage: vublk_bench -s SOCKET [options]\n"
          "  -w WORK   read write randread randwrite mixed          (randread)\n"
          "  -m PCT    reads among the requests of mixed            (70)\n"
          "  -b SIZE   block size, a multiple of 512                (4k)\n"
          "  -S N      data descriptors to a request                (1)\n"
          "  -q N      queues              -d N  requests in flight to a queue (1, 32)\n"
          "  -j N      threads             (one to a queue)\n"
          "  -t SECS   measured time       -W SECS  warm-up before it  (2, 0.2)\n"
          "  -n COUNT  this many requests instead of a time\n"
          "  -r SIZE   use only the first SIZE bytes of the disk\n"
          "  -p        busy-poll the used ring instead of waiting for the call eventfd\n"
          "  -E / -I   without EVENT_IDX / without indirect descriptors\n"
          "  -F N      a flush after every N writes\n"
          "  -V        check data: blocks carry a pattern of block number and generation\n"
          "  -f        with -V: write the whole range first (implied by read work)\n"
          "  -R SIZE   ring size (power of two)   -H  huge pages   -x SEED\n"
          "  -P PID    back-end whose CPU time is shown (default: the socket's peer)\n"
          "  -J        one line of JSON    -v  show what was negotiated\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    int c;
    while ((c = getopt(argc, argv, "s:w:m:b:S:q:d:j:t:W:n:r:pEIF:VfR:Hx:P:Jv")) != -1) {
        switch (c) {
        case 's': o.sock = optarg; break;
        case 'w':
            for (o.work = 0; o.work <= W_MIXED && strcmp(optarg, work_names[o.work]); o.work++) ;
            if (o.work > W_MIXED) usage();
            break;
        case 'm': o.mix = atoi(optarg); break;
        case 'b': o.bs = parse_size(optarg); break;
        case 'S': o.segs = atoi(optarg); break;
        case 'q': o.nq = atoi(optarg); break;
        case 'd': o.depth = atoi(optarg); break;
        case 'j': o.threads = atoi(optarg); break;
        case 't': o.secs = atof(optarg); break;
        case 'W': o.warm = atof(optarg); break;
        case 'n': o.count = parse_size(optarg); break;
        case 'r': o.range = parse_size(optarg); break;
        case 'p': o.busy = true; break;
        case 'E': o.event_idx = false; break;
        case 'I': o.indirect = false; break;
        case 'F': o.flush_every = atoi(optarg); break;
        case 'V': o.verify = true; break;
        case 'f': o.fill = true; break;
        case 'R': o.ring = parse_size(optarg); break;
        case 'H': o.huge = true; break;
        case 'x': o.seed = strtoull(optarg, NULL, 0); break;
        case 'P': o.pid = atol(optarg); break;
        case 'J': o.json = true; break;
        case 'v': o.verbose = true; break;
        default: usage();
        }
    }
    if (!o.sock || optind != argc) usage();
    if (!o.bs || o.bs % 512 || !o.nq || !o.depth || !o.segs || (o.segs > 1 && o.bs / o.segs < 512)) die("block size, queues, depth or segments out of range");
    if (!o.threads || o.threads > o.nq) o.threads = o.nq;
    signal(SIGPIPE, SIG_IGN);

    /* handshake */
    vu_connect();
    vu_set(SET_OWNER, NULL, 0, NULL, 0);
    uint64_t offered = vu_get_u64(GET_FEATURES), want = BIT(F_VERSION_1) | BIT(F_PROTOCOL) | BIT(F_MQ) | BIT(F_FLUSH) | BIT(F_BLK_SIZE) | BIT(F_RO);
    if (!(offered & BIT(F_PROTOCOL)) || !(offered & BIT(F_VERSION_1))) die("the back-end offers %#" PRIx64 ": no protocol features or no VERSION_1", offered);
    uint64_t poffered = vu_get_u64(GET_PROTOCOL_FEATURES), pf = poffered & (BIT(PF_MQ) | BIT(PF_REPLY_ACK) | BIT(PF_CONFIG));
    vu_set_u64(SET_PROTOCOL_FEATURES, pf);
    reply_ack = pf & BIT(PF_REPLY_ACK);
    if (o.event_idx) want |= BIT(F_EVENT_IDX);
    if (o.indirect) want |= BIT(F_RING_INDIRECT);
    features = offered & want;
    uint64_t maxq = pf & BIT(PF_MQ) ? vu_get_u64(GET_QUEUE_NUM) : 1;
    if (o.nq > maxq) die("the back-end has %" PRIu64 " queues", maxq);
    if (!(pf & BIT(PF_CONFIG))) die("the back-end does not offer CONFIG, its size cannot be known");
    struct { uint32_t off, size, flags; uint8_t d[256]; } __attribute__((packed)) cfg = { 0, 60, 0, { 0 } };
    vu_write(GET_CONFIG, 0, &cfg, 12 + cfg.size, NULL, 0);
    if (vu_reply(GET_CONFIG, &cfg, sizeof cfg) < 12 + 24) die("GET_CONFIG failed");
    uint64_t sectors;
    uint32_t blk_size;
    uint16_t cfg_queues;
    memcpy(&sectors, cfg.d, 8); memcpy(&blk_size, cfg.d + 20, 4); memcpy(&cfg_queues, cfg.d + 34, 2);
    capacity_blocks = le64toh(sectors) * 512 / o.bs;
    if (o.range && o.range / o.bs < capacity_blocks) capacity_blocks = o.range / o.bs;
    if (capacity_blocks < (uint64_t)o.nq * o.depth) die("only %" PRIu64 " blocks for %u queues of %u", capacity_blocks, o.nq, o.depth);
    if ((features & BIT(F_RO)) && o.work != W_READ && o.work != W_RANDREAD) die("the disk is read-only");
    if (o.flush_every && !(features & BIT(F_FLUSH))) die("no flush offered");
    vu_set_u64(SET_FEATURES, features);
    if (o.verbose)
        fprintf(stderr, "features offered %#" PRIx64 " taken %#" PRIx64 ", protocol offered %#" PRIx64 " taken %#" PRIx64 ", queues %" PRIu64 " (config %u), sectors %" PRIu64 ", block size %u, back-end pid %ld\n",
                offered, features, poffered, pf, maxq, cfg_queues, sectors, blk_size, o.pid);

    unsigned need = o.depth * (features & BIT(F_RING_INDIRECT) ? 1 : o.segs + 2);
    if (!o.ring) for (o.ring = 128; o.ring < need; o.ring *= 2) ;
    if (o.ring & (o.ring - 1) || o.ring < need || o.ring > 32768) die("ring size %u does not fit %u descriptors", o.ring, need);

    setup_memory();
    queues = calloc(o.nq, sizeof *queues);
    if (o.verify) { gens = calloc(capacity_blocks, sizeof *gens); busy_blk = calloc(capacity_blocks, 1); if (!gens || !busy_blk) die("memory for -V"); }
    for (unsigned i = 0; i < o.nq; i++) setup_queue(&queues[i], i);
    struct vu_mem mt = { 1, 0, { { GPA_BASE, mem_size, (uintptr_t)mem, 0 } } };
    vu_set(SET_MEM_TABLE, &mt, sizeof mt, &mem_fd, 1);
    for (unsigned i = 0; i < o.nq; i++) start_queue(&queues[i]);

    /* work */
    if (o.verify && (o.fill || o.work == W_READ || o.work == W_RANDREAD)) { filling = true; run_threads(); filling = false; }
    if (o.count) {
        uint64_t c0 = cpu_ns(o.pid), t0 = now_ns();
        double s0 = self_cpu();
        atomic_store(&tickets, o.count);
        atomic_store(&phase, 1);
        run_threads();
        took = (now_ns() - t0) / 1e9; cpu_be = (cpu_ns(o.pid) - c0) / 1e9 / took; cpu_fe = (self_cpu() - s0) / took;
    } else
        run_threads();
    if (o.verify) {                                     /* read every written block once more */
        enum work w = o.work;
        o.work = W_READ; o.count = capacity_blocks;
        for (unsigned i = 0; i < o.nq; i++) queues[i].seq = queues[i].lo;
        /* each queue reads its own part in order; a ticket per block */
        atomic_store(&phase, 0);
        if (o.nq == 1) { atomic_store(&tickets, o.count); run_threads(); }
        else for (unsigned i = 0; i < o.nq; i++) {      /* one queue after the other, so that no part is left out */
            unsigned nq = o.nq, th = o.threads;
            struct queue *all = queues;
            queues = &all[i]; o.nq = o.threads = 1;
            atomic_store(&tickets, queues->hi - queues->lo);
            run_threads();
            queues = all; o.nq = nq; o.threads = th;
        }
        o.work = w; o.count = 0;
    }
    for (unsigned i = 0; i < o.nq; i++) stop_queue(&queues[i]);
    close(vu_fd);

    /* result */
    static uint64_t h[NBUCKET];
    uint64_t done = 0, failed = 0, bad = 0, kicks = 0, wakes = 0, odd = 0, bytes = 0, maxns = 0;
    for (unsigned i = 0; i < o.nq; i++) {
        struct queue *q = &queues[i];
        done += q->done; failed += q->failed; bad += q->bad; kicks += q->kicks; wakes += q->wakes; odd += q->odd_len; bytes += q->bytes;
        if (q->max_ns > maxns) maxns = q->max_ns;
        for (unsigned b = 0; b < NBUCKET; b++) h[b] += q->hist[b];
    }
    double p50 = percentile(h, done, .5), p99 = percentile(h, done, .99), p999 = percentile(h, done, .999);
    if (took <= 0) took = 1;
    if (o.json)
        printf("{\"work\":\"%s\",\"bs\":%u,\"queues\":%u,\"depth\":%u,\"threads\":%u,\"wait\":\"%s\",\"iops\":%.0f,\"mib_s\":%.1f,\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.1f,"
               "\"backend_cpu\":%.3f,\"frontend_cpu\":%.3f,\"kicks\":%" PRIu64 ",\"calls\":%" PRIu64 ",\"done\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"bad_data\":%" PRIu64 ",\"odd_used_len\":%" PRIu64 "}\n",
               work_names[o.work], o.bs, o.nq, o.depth, o.threads, o.busy ? "poll" : "eventfd", done / took, bytes / took / 1048576, p50, p99, p999, maxns / 1e3,
               cpu_be, cpu_fe, kicks, wakes, done, failed, bad, odd);
    else
        printf("%s bs=%u q=%u qd=%u %s: %.0f IOPS, %.1f MiB/s, p50 %.1f us, p99 %.1f us, p99.9 %.1f us, max %.0f us; CPU back-end %.0f %%, front-end %.0f %%; %" PRIu64 " done, kicks %" PRIu64 ", calls %" PRIu64 ", failed %" PRIu64 ", wrong data %" PRIu64 ", odd used.len %" PRIu64 "\n",
               work_names[o.work], o.bs, o.nq, o.depth, o.busy ? "poll" : "eventfd", done / took, bytes / took / 1048576, p50, p99, p999, maxns / 1e3, cpu_be * 100, cpu_fe * 100,
               done, kicks, wakes, failed, bad, odd);
    return failed || bad;
}
