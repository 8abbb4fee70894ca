/** Messages about in-flight regions, and what a live process does with what the regions hold. */
import assert from "node:assert/strict";
import { mask } from "../../core/features.ts";
import { inflightQueueBytes } from "../../core/inflight.ts";
import { Inflight, VringState } from "../../core/payloads.ts";
import { ProtocolFeature } from "../../core/protocol.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { createMemfd, type Fd, Mapping } from "../../ffi/mod.ts";
import { frame, u64 } from "./client.ts";
import { type Guest, protocolMask, RING_SIZE, state } from "./guest.ts";
import { describe, INDIRECT, NEXT, type Ring, USED } from "./ring.ts";
import { suite } from "./row.ts";

const { row, guest } = suite();
const QUEUES = 2;
const PART = inflightQueueBytes(RING_SIZE, false);

const region = (queues: number, queueSize: number, size = 0, offset = 0) =>
  Inflight.encode({ size: BigInt(size), offset: BigInt(offset), queues, queueSize });

/** A front-end that has negotiated INFLIGHT_SHMFD, and has no rings yet. */
function recording(): Guest {
  const g = guest({ until: "memory" });
  const bits = mask(
    ProtocolFeature.INFLIGHT_SHMFD,
    ProtocolFeature.GET_VRING_BASE_INFLIGHT,
    ProtocolFeature.GET_VRING_BASE_SKIP_DRAIN,
  );
  g.must("SET_PROTOCOL_FEATURES", u64(protocolMask | bits));
  return g;
}

/** Memory of a region, announced, with what `fill` writes into the first queue's part. */
function withRegion(body: (fd: Fd, words: Uint16Array<ArrayBuffer>) => void): void {
  using fd = createMemfd("bad-input-region", QUEUES * PART);
  using mapping = new Mapping(fd, QUEUES * PART);
  const { u8 } = mapping.windows[0]!;
  const words = new Uint16Array(u8.buffer, u8.byteOffset, u8.length >> 1);
  for (let queue = 0; queue < QUEUES; queue++) words.set([1, RING_SIZE], queue * (PART >> 1) + 4);
  body(fd, words);
}

/** Makes one write request available in each of the first `count` thirds of the descriptors. */
function offer(g: Guest, ring: Ring, count: number): void {
  const data = new Uint8Array(512).fill(7);
  for (let i = 0; i < count; i++) {
    ring.offer(ring.chain(3 * i, g.buffers(ring, { type: RequestType.OUT, data })));
  }
}

row("M8 GET_INFLIGHT_FD x10000 leaves nothing behind", {}, (program) => {
  using g = recording();
  const payload = region(QUEUES, RING_SIZE);
  g.client.ask("GET_INFLIGHT_FD", payload);
  // What the reply carried is closed when the next message is read.
  g.client.askU64("GET_FEATURES");
  const before = program.holdings();
  for (let i = 0; i < 10_000; i++) g.client.ask("GET_INFLIGHT_FD", payload);
  assert.deepEqual(program.differences(before), []);
});

row("M8 SET_INFLIGHT_FD x1000 leaves one region mapped", {}, (program) => {
  using g = recording();
  withRegion((fd) => {
    const payload = region(QUEUES, RING_SIZE, QUEUES * PART);
    g.must("SET_INFLIGHT_FD", payload, [fd]);
    const before = program.holdings();
    assert.ok(before.guestMaps > 0);
    for (let i = 0; i < 1000; i++) g.must("SET_INFLIGHT_FD", payload, [fd]);
    assert.deepEqual(program.differences(before), []);
  });
});

row(
  "M8 a region of no or too many queues or descriptors is not made",
  { log: [/an in-flight region of 0 queues/, /an in-flight region for queues of 65535/] },
  () => {
    for (const [queues, size] of [
      [0, 64],
      [65535, 64],
      [2, 0],
      [2, 65535],
    ] as const) {
      using g = recording();
      g.client.send("GET_INFLIGHT_FD", region(queues, size));
      assert.ok(g.client.closed(), "GET_INFLIGHT_FD has no other way to say no");
    }
  },
);

row(
  "M9 a region that does not fit is refused",
  {
    log: [
      /version 2/,
      /for 63 descriptors in a queue of 64/,
      /need \d+/,
      /the file has/,
      /at offset 8 of/,
    ],
  },
  () => {
    using g = recording();
    const size = QUEUES * PART;
    const refused = (payload: Uint8Array, fd: Fd) =>
      assert.equal(g.client.ack("SET_INFLIGHT_FD", payload, [fd]), "refused");
    withRegion((fd, words) => {
      refused(region(QUEUES, RING_SIZE, size - 1), fd);
      refused(region(QUEUES, RING_SIZE, size + 1), fd);
      refused(region(QUEUES, RING_SIZE, size, 8), fd);
      refused(region(QUEUES, RING_SIZE, size, 64), fd);
      refused(region(QUEUES, RING_SIZE, size, 2 ** 53 - 64), fd);
      words[4] = 2;
      refused(region(QUEUES, RING_SIZE, size), fd);
      words[4] = 1;
      words[5] = 63;
      refused(region(QUEUES, RING_SIZE, size), fd);
      // The second queue's part counts as well.
      words[5] = RING_SIZE;
      words[(PART >> 1) + 4] = 9;
      refused(region(QUEUES, RING_SIZE, size), fd);
      words[(PART >> 1) + 4] = 0;
      g.must("SET_INFLIGHT_FD", region(QUEUES, RING_SIZE, size), [fd]);
    });
    g.startAll();
    g.verifyAll();
  },
);

row(
  "M9 a ring that is longer than its region's queues is not started",
  { log: [/the in-flight region is for 2 split rings of 32/] },
  () => {
    using g = recording();
    using fd = createMemfd("bad-input-region", QUEUES * PART);
    g.must("SET_INFLIGHT_FD", region(QUEUES, 32, QUEUES * PART), [fd]);
    const ring = g.ring(0);
    g.prepare(ring);
    g.must("SET_VRING_ENABLE", state(0, 1));
    assert.equal(g.client.ack("SET_VRING_KICK", u64(0), [ring.kickFd]), "refused");
  },
);

row(
  "M9 everything in flight, by hostile numbers, is submitted once each",
  { log: [/Requests that were in flight are submitted again \(.*count=63/] },
  () => {
    const cases = [
      { flag: 1, next: 0xffff, counter: 0n },
      { flag: 255, next: 5, counter: 2n ** 64n - 1n },
    ];
    for (const { flag, next, counter } of cases) {
      using g = recording();
      withRegion((fd, words) => {
        const long = new BigUint64Array(words.buffer, words.byteOffset, words.length >> 2);
        for (let head = 0; head < RING_SIZE; head++) {
          words[8 + 8 * head] = flag;
          words[8 + 8 * head + 3] = next;
          long[2 + 2 * head + 1] = counter;
        }
        // As if 16 requests were shown as used: their list ends outside, or goes round.
        words[6] = 5;
        words[7] = 0xfff0;
        const ring = g.ring(0);
        g.prepare(ring);
        // All heads are the same request, in one indirect table.
        const table = ring.data + 0x8000;
        const buffers = g.buffers(ring, { type: RequestType.IN, length: 512 });
        buffers.forEach((buffer, i) => {
          const last = i === buffers.length - 1;
          const flags = (buffer.flags ?? 0) | (last ? 0 : NEXT);
          describe(ring.view, table + 16 * i, { ...buffer, flags, next: last ? 0 : i + 1 });
        });
        const length = 16 * buffers.length;
        for (let i = 0; i < RING_SIZE; i++) {
          ring.descriptor(i, { address: table, length, flags: INDIRECT });
        }
        ring.availableIndex = RING_SIZE - 1;
        g.must("SET_INFLIGHT_FD", region(QUEUES, RING_SIZE, QUEUES * PART), [fd]);
        g.must("SET_VRING_KICK", u64(0), [ring.kickFd]);
        g.must("SET_VRING_ENABLE", state(0, 1));
        assert.ok(ring.complete(RING_SIZE - 1));
        assert.equal(g.stop(ring), RING_SIZE - 1);
        const heads = Array.from({ length: RING_SIZE - 1 }, (_, i) => ring.used(i).id);
        assert.deepEqual(new Set(heads).size, RING_SIZE - 1);
        assert.ok(!heads.includes(5));
      });
    }
  },
);

row("V11 a stop ends what an earlier back-end had in flight first", {}, () => {
  using g = recording();
  withRegion((fd, words) => {
    const ring = g.ring(0);
    g.prepare(ring);
    offer(g, ring, 3);
    for (const i of [0, 2]) {
      words[8 + 8 * 3 * i] = 1;
      words[8 + 8 * 3 * i + 4] = 9 - i;
    }
    // The second of the three was shown as used.
    ring.view.setUint16(ring.base + USED + 2, 1, true);
    words[7] = 1;
    ring.seen = 1;
    g.must("SET_INFLIGHT_FD", region(QUEUES, RING_SIZE, QUEUES * PART), [fd]);
    g.must("SET_VRING_ENABLE", state(0, 1));
    // Both at once, so that the ring has no time to begin.
    const [kick, stop] = [frame("SET_VRING_KICK", u64(0)), frame("GET_VRING_BASE", state(0, 0))];
    g.client.raw(Buffer.concat([kick, stop]), [ring.kickFd]);
    const reply = g.client.receive();
    assert.ok(typeof reply !== "string");
    assert.equal(VringState.decode(reply.payload).num, 3);
    assert.equal(ring.usedIndex, 3, "both are completed before the answer");
    // A read that has to wait for its disk may come after a later one.
    const ids = [ring.used(1).id, ring.used(2).id].sort();
    assert.deepEqual(ids, [0, 6], "each of them once");
    assert.equal(g.memory[ring.data + 16], Status.OK);
  });
});
