/** What can be wrong with packed rings only, and what a split ring's rows mean for them. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mask, RingFeature } from "../../core/features.ts";
import { VringAddr } from "../../core/payloads.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { allBreak, type Case, SPARE } from "./chains.ts";
import { u64 } from "./client.ts";
import {
  allRingFeatures,
  baseFeatures,
  MEMORY_SIZE,
  REGION_SIZE,
  ringAddresses,
  state,
  user,
} from "./guest.ts";
import type { PackedRing } from "./packed-ring.ts";
import { AVAILABLE, type Descriptor, INDIRECT, NEXT, RING_STRIDE, Ring, USED } from "./ring.ts";
import { suite } from "./row.ts";

const { row, guest } = suite();
const packed = (ring: Ring) => ring as PackedRing;
const AVAIL_FLAG = 0x80;
const USED_FLAG = 0x8000;

const data = (ring: Ring, flags = 0): Descriptor => ({ address: ring.data, length: 16, flags });

row("R1 a buffer id beyond the ring is the driver's choice and is served, packed", {}, () => {
  using g = guest({ packed: true });
  const ring = packed(g.ring(1));
  for (const id of [64, 1000, 0x8000, 0xffff, 0]) {
    const parts = g.buffers(ring, { type: RequestType.IN, length: 512 });
    const list = parts.map((part, i) => ({
      ...part,
      flags: (part.flags ?? 0) | (i < 2 ? NEXT : 0),
    }));
    ring.offerList(list, id);
    ring.kick();
    assert.ok(ring.complete());
    assert.deepEqual(ring.used(ring.seen - 1), { id, length: 513 });
  }
  g.verify(ring);
});

row(
  "R2 a list longer than the ring breaks the queue, packed",
  { log: [/the chain from slot 0 is longer than the 64 slots that are not in use/] },
  () => {
    const endless = (length: number): Case => ({
      what: `64 descriptors of ${length} bytes, each with a next one`,
      make: (_, ring) => {
        const list = Array.from({ length: 64 }, () => ({ ...data(ring, NEXT), length }));
        packed(ring).offerList(list, 1);
      },
    });
    allBreak(guest({ packed: true }), [endless(16), endless(0), endless(1024)]);
  },
);

row(
  // The same id twice in flight is R11's test.
  "R10 flags against the wrap counter, and lists with tables, break the queue, packed",
  {
    log: [
      /the chain from slot 0 goes on in slot 1, which is not available/,
      /the indirect descriptor in slot 9 is part of a list/,
      /the indirect descriptor 8 has a next one/,
    ],
  },
  () => {
    const flagged = (what: string, flags: number): Case => ({
      what: `a list that goes on in a slot ${what}`,
      make: (_, anyRing) => {
        const ring = packed(anyRing);
        ring.slot(ring.nextSlot + 1, data(ring), 5, flags);
        ring.slot(ring.nextSlot, data(ring, NEXT), 5, NEXT | AVAIL_FLAG);
      },
    });
    const list = (what: string, second: number, first = NEXT): Case => ({
      what,
      make: (_, ring) => {
        const parts = [
          { ...data(ring), flags: first },
          { address: SPARE, length: 16, flags: second },
        ];
        packed(ring).offerList(parts, 5);
      },
    });
    allBreak(guest({ packed: true }), [
      flagged("of the lap before", 0),
      flagged("that is used", AVAIL_FLAG | USED_FLAG),
      flagged("of the next lap", USED_FLAG),
      list("a list that ends in a table", INDIRECT),
      list("a list that begins with a table", 0, NEXT | INDIRECT),
    ]);
  },
);

row("R10 slots that are not available in this lap are left alone, packed", {}, () => {
  using g = guest({ packed: true });
  const ring = packed(g.ring(1));
  for (const flags of [0, USED_FLAG, AVAIL_FLAG | USED_FLAG, NEXT, USED_FLAG | INDIRECT]) {
    ring.slot(ring.nextSlot, data(ring), 9, flags);
    ring.kick();
    g.verify(g.ring(0));
    assert.equal(ring.broken(0), false);
  }
  // A later slot is not looked at before this one.
  ring.slot(ring.nextSlot + 1, data(ring), 9, AVAIL_FLAG);
  ring.kick();
  g.verify(g.ring(0));
  assert.equal(ring.usedIndex, 0);
  g.verify(ring);
});

row("R10 lists go across the end of the ring, packed", {}, () => {
  for (const size of [4, 5, 7, 64]) {
    using g = guest({ packed: true, size });
    const ring = g.ring(1);
    for (let i = 0; i < 3 * size; i++) g.verify(ring);
    // Three requests a check, of 3, 2 and 3 slots.
    const slot = (24 * size) % (2 * size);
    const position = (slot % size) | (slot < size ? 0x8000 : 0);
    assert.equal(g.stop(ring), (position * 0x10001) >>> 0);
  }
});

row(
  "V2 a packed ring may have any size up to 32768",
  { log: [/Cannot use a ring of 32769 descriptors: it must be from 1 to 32768/] },
  () => {
    using g = guest({ packed: true });
    const [, ring] = g.rings as [Ring, Ring];
    g.stop(ring);
    for (const size of [0, 32769, 65535, 65536, 0x80000000, 0xffffffff]) {
      assert.equal(g.client.ack("SET_VRING_NUM", state(1, size)), "refused", `size ${size}`);
    }
    for (const size of [3, 48, 32767]) g.must("SET_VRING_NUM", state(1, size));
    assert.equal(g.client.ack("SET_VRING_NUM", state(0, 32)), "refused", "while started");
    g.start(ring);
    g.verifyAll();
  },
);

row(
  "V2 a size that is right for a packed ring only is refused when the ring starts split",
  { log: [/Cannot use a ring of 48 descriptors: it must be a power of 2/] },
  () => {
    using g = guest({ packed: true });
    const ring = g.ring(1);
    g.stop(ring);
    g.stop(g.ring(0));
    g.must("SET_VRING_NUM", state(1, 48));
    g.must("SET_FEATURES", u64(allRingFeatures));
    assert.equal(g.client.ack("SET_VRING_KICK", u64(1), [ring.kickFd]), "refused");
    g.must("SET_FEATURES", u64(allRingFeatures | mask(RingFeature.RING_PACKED)));
    for (const each of g.rings) g.restart(each);
    g.verifyAll();
  },
);

row(
  "V4 addresses of a packed ring outside the memory table or odd are refused",
  {
    log: [
      /its descriptor ring of 1024 bytes .* is not in one memory region/,
      /its driver event area of 4 bytes/,
      /must be aligned to 16, 4 and 4 bytes/,
    ],
  },
  () => {
    using g = guest({ packed: true });
    const ring = g.ring(1);
    const lastEnd = BigInt(user(MEMORY_SIZE - 16) + 16);
    const firstEnd = BigInt(user(REGION_SIZE - 16) + 16);
    const set = (changes: Partial<Record<"descriptor" | "available" | "used", bigint>>) => {
      const wire = { ...VringAddr.decode(ringAddresses(ring)), ...changes };
      const outcome = g.client.ack("SET_VRING_ADDR", VringAddr.encode(wire));
      if (outcome !== "ok") return outcome;
      return g.client.ack("SET_VRING_KICK", u64(1), [ring.kickFd]);
    };
    const wrong: Parameters<typeof set>[0][] = [
      { descriptor: 0n },
      { available: 0n },
      { used: 0n },
      { descriptor: lastEnd - 16n * 63n },
      { descriptor: firstEnd - 16n },
      { available: lastEnd },
      { used: lastEnd },
      { descriptor: BigInt(user(ring.base)) + 8n },
      { available: BigInt(user(ring.base + AVAILABLE)) + 2n },
      { used: BigInt(user(ring.base + USED)) + 2n },
      { descriptor: 2n ** 64n - 16n },
      { used: 2n ** 63n },
    ];
    for (const changes of wrong) {
      g.stop(ring);
      assert.notEqual(set(changes), "ok", `${Object.entries(changes)}`);
      g.verify(g.ring(0));
      g.restart(ring);
      g.verify(ring);
    }
    g.stop(ring);
    assert.equal(set({ available: lastEnd - 8n, used: lastEnd - 4n }), "ok", "to the last byte");
  },
);

row(
  "V6 a base that a packed ring cannot have is refused",
  { log: [/Cannot start a packed ring of 64 descriptors at 0x80008040/] },
  () => {
    using g = guest({ packed: true });
    const ring = g.ring(1);
    g.stop(ring);
    const wrong = [0x80008040, 0x80408000, 0xffffffff, 0x7fff7fff, 0x80058004, 0x00008001];
    for (const base of wrong) {
      assert.equal(g.client.ack("SET_VRING_BASE", state(1, base)), "refused", `base ${base}`);
    }
    for (const base of [0x803f803f, 0x003f003f, 0x803f0000, 0x003f8000, 0x80048005]) {
      g.must("SET_VRING_BASE", state(1, base));
    }
    g.start(ring);
    g.verify(ring);
    // Beyond a ring that became smaller: known when it starts.
    g.stop(ring);
    g.must("SET_VRING_BASE", state(1, 0x80308030));
    g.must("SET_VRING_NUM", state(1, 16));
    assert.equal(g.client.ack("SET_VRING_KICK", u64(1), [ring.kickFd]), "refused");
    g.restart(ring);
    g.verify(ring);
  },
);

row("V6 a base of 0 is taken for that of an unused packed ring where it is one", {}, () => {
  using g = guest({ packed: true });
  const ring = g.ring(1);
  const startAtZero = () => {
    g.must("SET_VRING_BASE", state(1, 0));
    g.must("SET_VRING_KICK", u64(1), [ring.kickFd]);
  };
  g.stop(ring);
  g.prepare(ring);
  startAtZero();
  g.verify(ring);
  // After one lap, 0 is where the ring stands: 24 slots of 8 a check.
  for (let i = 0; i < 7; i++) g.verify(ring);
  assert.equal(g.stop(ring), 0, "64 slots were used");
  startAtZero();
  for (let i = 0; i < 20; i++) g.verify(ring);
});

row("V6 a base with the available position alone is that of an unused packed ring", {}, () => {
  using g = guest({ packed: true });
  const ring = g.ring(1);
  g.stop(ring);
  g.prepare(ring);
  g.must("SET_VRING_BASE", state(1, 0x8000));
  g.must("SET_VRING_KICK", u64(1), [ring.kickFd]);
  for (let i = 0; i < 20; i++) g.verify(ring);
});

row("V6 rings start split and packed by turns on one connection", {}, () => {
  using g = guest({ packed: true });
  // Queue 0 as a split ring, in memory of its own.
  using other = new Ring(0, 64, g.view, 5 * RING_STRIDE);
  for (let i = 0; i < 3; i++) {
    for (const ring of g.rings) g.stop(ring);
    g.must("SET_FEATURES", u64(allRingFeatures));
    g.start(other);
    g.verify(other);
    assert.equal(g.stop(other), 3);
    const features = i === 1 ? baseFeatures : allRingFeatures;
    g.must("SET_FEATURES", u64(features | mask(RingFeature.RING_PACKED)));
    g.startAll();
    g.verifyAll();
  }
});

row("R9 random bytes in a packed ring harm only the driver", {}, () => {
  using g = guest({ packed: true });
  const ring = g.ring(1);
  for (let i = 0; i < 100; i++) {
    g.memory.set(randomBytes(64 * 16), ring.base);
    ring.kick();
    g.verify(g.ring(0));
    g.restart(ring);
    g.verify(ring);
  }
  assert.equal(g.io(ring, { type: RequestType.IN, length: 512 }), Status.OK);
});
