/* MIT licence. Copyright the Ringside authors.
 *
 * The yardstick of bench/ring.ts: a device's side of a split ring in C, which checks what
 * core/split.ts, core/chain.ts and core/memory.ts check, on the same memory. It is loaded into the
 * process that measures both.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { MAX_REGIONS = 509, MAX_SPANS = 1024, MAX_SIZE = 32768, MIN_TABLE_LIMIT = 1024 };

struct descriptor { uint64_t address; uint32_t length; uint16_t flags, next; };
struct used_element { uint32_t id, length; };
struct region { uint64_t base, end; uint8_t *host; };
struct span { uint8_t *host; uint32_t length; };

static struct {
    /* guest memory, ascending */
    struct region regions[MAX_REGIONS];
    int region_count;
    const struct region *last;
    /* ring */
    const struct descriptor *descriptors;
    _Atomic uint16_t *available;
    _Atomic uint16_t *used;
    uint32_t size, mask;
    bool indirect_allowed, event_idx;
    uint16_t next_available, seen_available, next_used, published_used;
    bool notified;
    uint8_t taken[MAX_SIZE];
    uint32_t in_flight;
    /* the chain of the current request */
    struct span spans[MAX_SPANS];
    uint32_t head, count, readable_count;
    uint64_t readable_bytes, writable_bytes;
    uint64_t capacity;
    uint64_t calls;
} q;

static const struct region *find(uint64_t address)
{
    const struct region *last = q.last;
    if (address >= last->base && address < last->end) return last;
    int low = 0, high = q.region_count - 1;
    while (low <= high) {
        int middle = (low + high) >> 1;
        const struct region *r = &q.regions[middle];
        if (address < r->base) high = middle - 1;
        else if (address >= r->end) low = middle + 1;
        else return q.last = r;
    }
    return NULL;
}

/* Adds a buffer, cut where it crosses from one region into the next. */
static bool append(uint64_t address, uint32_t length, bool writable)
{
    if (writable) q.writable_bytes += length;
    else {
        if (q.count != q.readable_count) return false;
        q.readable_bytes += length;
    }
    while (length > 0) {
        const struct region *r = find(address);
        if (!r || q.count == MAX_SPANS) return false;
        uint64_t rest = r->end - address;
        uint32_t size = rest < length ? (uint32_t)rest : length;
        q.spans[q.count++] = (struct span){ r->host + (address - r->base), size };
        address += size;
        length -= size;
    }
    if (!writable) q.readable_count = q.count;
    return true;
}

static bool walk(const struct descriptor *table, uint32_t size, uint32_t index, bool direct)
{
    for (uint32_t steps = 0;; steps++) {
        if (steps == size) return false;
        /* Read once: the driver may change it meanwhile. */
        struct descriptor d;
        memcpy(&d, (const void *)&table[index], sizeof d);
        atomic_signal_fence(memory_order_seq_cst);
        if (d.address >= 1ull << 53) return false;
        if (d.flags & INDIRECT) {
            if (!q.indirect_allowed || !direct || d.flags & NEXT) return false;
            if (d.length == 0 || d.length % 16) return false;
            uint32_t count = d.length / 16;
            if (count > (q.size > MIN_TABLE_LIMIT ? q.size : MIN_TABLE_LIMIT)) return false;
            const struct region *r = find(d.address);
            if (!r || d.address + d.length > r->end) return false;
            return walk((const void *)(r->host + (d.address - r->base)), count, 0, false);
        }
        if (!append(d.address, d.length, d.flags & WRITE)) return false;
        if (!(d.flags & NEXT)) return true;
        index = d.next;
        if (index >= size) return false;
    }
}

/* 1: a chain was loaded. 0: there is none. -1: the driver is wrong. */
static int next(void)
{
    uint16_t at = q.next_available;
    if (at == q.seen_available) {
        uint16_t seen = atomic_load_explicit(&q.available[1], memory_order_acquire);
        if ((uint16_t)(seen - at) > q.size) return -1;
        q.seen_available = seen;
        if (seen == at) return 0;
    }
    uint16_t head = atomic_load_explicit(&q.available[2 + (at & q.mask)], memory_order_relaxed);
    if (head >= q.size || q.taken[head]) return -1;
    q.head = head;
    q.count = q.readable_count = 0;
    q.readable_bytes = q.writable_bytes = 0;
    if (!walk(q.descriptors, q.size, head, true)) return -1;
    q.next_available = at + 1;
    q.taken[head] = 1;
    q.in_flight++;
    return 1;
}

static bool complete(uint32_t head, uint32_t written)
{
    if (q.taken[head] != 1) return false;
    q.taken[head] = 0;
    q.in_flight--;
    struct used_element *ring = (struct used_element *)((uint8_t *)q.used + 4);
    ring[q.next_used & q.mask] = (struct used_element){ head, written };
    q.next_used++;
    return true;
}

static void publish(void)
{
    uint16_t now = q.next_used, old = q.published_used;
    if (now == old) return;
    atomic_store_explicit(&q.used[1], now, memory_order_seq_cst);
    q.published_used = now;
    if (!q.event_idx) {
        if (!(atomic_load_explicit(&q.available[0], memory_order_seq_cst) & 1)) q.calls++;
        return;
    }
    uint16_t event = atomic_load_explicit(&q.available[2 + q.size], memory_order_seq_cst);
    bool first = !q.notified;
    q.notified = true;
    if (first || (uint16_t)(now - event - 1) < (uint16_t)(now - old)) q.calls++;
}

static bool request_kick(void)
{
    if (q.event_idx) atomic_store_explicit(&q.used[2 + 4 * q.size], q.next_available, memory_order_seq_cst);
    else atomic_store_explicit(&q.used[0], 0, memory_order_seq_cst);
    return atomic_load_explicit(&q.available[1], memory_order_seq_cst) != q.next_available;
}

/* A block device's part: reads the header, checks the range, answers with the status byte. */
static int64_t handle(void)
{
    if (q.readable_count == 0 || q.readable_bytes < 16 || q.writable_bytes < 1) return -1;
    if (q.spans[0].length < 16) return -1;
    uint32_t type;
    uint64_t sector;
    memcpy(&type, q.spans[0].host, 4);
    memcpy(&sector, q.spans[0].host + 8, 8);
    uint64_t length = q.writable_bytes - 1, offset = sector * 512;
    if (type != 0 || offset > q.capacity || length > q.capacity - offset) return -1;
    const struct span *tail = &q.spans[q.count - 1];
    tail->host[tail->length - 1] = 0;
    return (int64_t)q.writable_bytes;
}

/*
 * setup: descriptors, available, used, size, base, indirect, event_idx, capacity, number of regions,
 * then guest address, size and process address of each region.
 */
int ring_setup(const uint64_t *setup)
{
    memset(&q, 0, sizeof q);
    q.descriptors = (const void *)setup[0];
    q.available = (void *)setup[1];
    q.used = (void *)setup[2];
    q.size = (uint32_t)setup[3];
    q.mask = q.size - 1;
    q.next_available = q.seen_available = (uint16_t)setup[4];
    q.indirect_allowed = setup[5];
    q.event_idx = setup[6];
    q.capacity = setup[7];
    q.region_count = (int)setup[8];
    if (q.size > MAX_SIZE || q.region_count > MAX_REGIONS) return -1;
    for (int i = 0; i < q.region_count; i++) {
        const uint64_t *r = setup + 9 + 3 * i;
        q.regions[i] = (struct region){ r[0], r[0] + r[1], (uint8_t *)r[2] };
    }
    q.last = &q.regions[0];
    q.next_used = q.published_used = atomic_load(&q.used[1]);
    return 0;
}

/*
 * Serves everything that is available, with or without a look at the requests themselves. Returns
 * the number of requests, -1 for a wrong driver.
 */
int ring_drain(int look)
{
    int done = 0;
    for (;;) {
        int got = next();
        if (got < 0) return -1;
        if (got == 0) {
            publish();
            if (!request_kick()) return done;
            continue;
        }
        int64_t written = look ? handle() : (int64_t)q.writable_bytes;
        if (written < 0 || !complete(q.head, (uint32_t)written)) return -1;
        done++;
    }
}
