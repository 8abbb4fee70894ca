import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mask, RingFeature } from "../../core/features.ts";
import { MAX_MEM_SLOTS } from "../../core/protocol.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import { allBreak, type Case, offer, offerTable, SPARE, UNMAPPED } from "./chains.ts";
import { allRingFeatures, MEMORY_SIZE, memRegion, REGION_SIZE } from "./guest.ts";
import { type Descriptor, INDIRECT, NEXT, type Ring, WRITE } from "./ring.ts";
import { suite } from "./row.ts";

const { row, guest } = suite();

const buffer = (ring: Ring, flags = 0, next = 0): Descriptor => ({
  address: ring.data,
  length: 16,
  flags,
  next,
});

row(
  "R1 an index beyond the ring breaks the queue",
  { log: [/available ring entry 0 holds 64, beyond 63/, /next field of a descriptor 0 holds 64/] },
  () => {
    const next = (value: number): Case => ({
      what: `a next of ${value}`,
      make: (_, ring) => offer(ring, buffer(ring, NEXT, value)),
    });
    const head = (value: number): Case => ({
      what: `a head of ${value}`,
      make: (_, ring) => ring.offer(value),
    });
    allBreak(guest(), [head(64), head(65535), next(64), next(65535)]);
  },
);

row(
  "R2 a chain without end breaks the queue",
  {
    log: [/The driver broke the queue: the chain from descriptor 0 is longer than its table of 64/],
  },
  () => {
    const ringOf = (ring: Ring, length: number, bytes: number): Descriptor[] =>
      Array.from({ length }, (_, i) => ({
        address: ring.data,
        length: bytes,
        flags: NEXT,
        next: (i + 1) % length,
      }));
    const loop = (length: number, bytes: number): Case => ({
      what: `a loop of ${length} with ${bytes} bytes each`,
      make: (_, ring) => offer(ring, ...ringOf(ring, length, bytes)),
    });
    const table = (length: number, bytes: number): Case => ({
      what: `a table with a loop of ${length} with ${bytes} bytes each`,
      make: (g, ring) => offerTable(g, ring, ringOf(ring, length, bytes)),
    });
    const beyond: Case = {
      what: "a next beyond its table",
      make: (g, ring) => offerTable(g, ring, [buffer(ring, NEXT, 1), buffer(ring, NEXT, 2)]),
    };
    allBreak(guest(), [loop(1, 16), loop(1, 0), loop(2, 16), loop(2, 0), loop(64, 1), loop(64, 0)]);
    allBreak(guest(), [
      table(1, 16),
      table(1, 0),
      table(2, 0),
      table(64, 1),
      table(1024, 0),
      beyond,
    ]);
  },
);

row(
  "R8 an available index that jumps breaks the queue",
  { log: [/the available index moved from \d+ to \d+ on a ring of 64/] },
  () => {
    const jump = (by: number): Case => ({
      what: `a jump by ${by}`,
      make: (g, ring) => {
        // From somewhere in the middle.
        g.verify(ring);
        ring.availableIndex += by;
      },
    });
    allBreak(guest(), [jump(-1), jump(-3), jump(65), jump(0x7fff), jump(0x8000), jump(1000)]);
  },
);

for (const packed of [false, true]) {
  const on = packed ? ", packed" : "";
  row(`R2 a chain as long as its table is served${on}`, {}, () => {
    using g = guest({ packed, size: 1024 });
    const ring = g.ring(1);
    const data = randomBytes(1022);
    g.header(ring.data, RequestType.OUT, 300);
    g.memory.set(data, ring.data + 4096);
    const bytes = Array.from({ length: 1024 }, (_, i) => ({
      address: ring.data + 4095 + i,
      length: 1,
    }));
    const chain: Descriptor[] = bytes.map((part) => part);
    chain[0] = { address: ring.data, length: 16 };
    chain[1023] = { address: ring.data + 16, length: 1, flags: WRITE };
    // 1022 bytes are no whole sectors; the walk is what matters.
    ring.offer(ring.chain(0, chain));
    ring.kick();
    assert.ok(ring.complete());
    assert.equal(g.memory[ring.data + 16], Status.IOERR);
    g.verify(ring);
  });

  row(
    `R2 a chain in more parts than a driver can need breaks the queue${on}`,
    { log: [/the chain .* more than 65536 parts/] },
    () => {
      // One-byte regions cut each buffer into as many parts as there are slots.
      using g = guest({ packed, size: 1024 });
      const ring = g.ring(1);
      const parts = MAX_MEM_SLOTS - 2;
      for (let i = 0; i < parts; i++) {
        const region = { guest: UNMAPPED + i, user: 2 ** 46 + i, size: 1, offset: SPARE + i };
        g.must("ADD_MEM_REG", memRegion(region), [g.memfd]);
      }
      const table = Array.from({ length: 1024 }, (_, i) => ({
        address: UNMAPPED,
        length: parts,
        flags: i < 1023 ? NEXT | WRITE : WRITE,
        next: (i + 1) % 1024,
      }));
      offerTable(g, ring, table, SPARE + 0x10000);
      ring.kick();
      assert.ok(ring.broken());
      g.verify(g.ring(0));
      g.restart(ring);
      g.verify(ring);
    },
  );

  row(
    `R3 an indirect descriptor that may not be breaks the queue${on}`,
    {
      log: [
        /the indirect descriptor 0 has a next one/,
        ...(packed ? [] : [/descriptor 0 of a table is indirect/]),
        /the indirect table has 4294967280 bytes|the indirect table has 268435455 descriptors/,
        /the indirect table has 24 bytes/,
        /an indirect table of \d+ bytes at 0x[0-9a-f]+ is not in guest memory/,
        /descriptor 0 is indirect/,
      ],
    },
    () => {
      const table = (what: string, descriptor: Partial<Descriptor>): Case => ({
        what,
        make: (_, ring) => {
          ring.descriptor(1, buffer(ring));
          offer(ring, { address: SPARE, length: 16, flags: INDIRECT, ...descriptor });
        },
      });
      const nested: Case = {
        what: "a table in a table",
        make: (g, ring) =>
          offerTable(g, ring, [{ address: SPARE + 64, length: 16, flags: INDIRECT }]),
      };
      allBreak(guest({ packed }), [
        table("INDIRECT with NEXT", { flags: INDIRECT | NEXT, next: 1 }),
        table("a length of 24", { length: 24 }),
        table("a length of 0", { length: 0 }),
        table("a length of 1", { length: 1 }),
        table("a length of 2^32 - 16", { length: 0xfffffff0 }),
        table("a length of 2^32 - 1", { length: 0xffffffff }),
        table("a table outside memory", { address: UNMAPPED }),
        table("a table that ends outside memory", { address: MEMORY_SIZE - 16, length: 32 }),
        table("a table at the end of all addresses", { address: 2n ** 64n - 16n, length: 32 }),
        // Flags other than WRITE mean nothing in the table of a packed ring (virtio 1.3, 2.8.7).
        ...(packed ? [] : [nested]),
      ]);
      const features = allRingFeatures & ~mask(RingFeature.INDIRECT_DESC);
      allBreak(guest({ packed, features }), [table("not negotiated", {})]);
    },
  );

  row(`R3 an indirect table may cross regions and be longer than the ring${on}`, {}, () => {
    using g = guest({ packed, size: 64 });
    const ring = g.ring(1);
    for (const at of [REGION_SIZE - 16, REGION_SIZE - 8, REGION_SIZE - 33]) {
      const [header, data, status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
      const chain = [header!, data!, status!];
      const table = chain.map((part, i) => ({
        ...part,
        flags: (part.flags ?? 0) | (i < 2 ? NEXT : 0),
        next: i + 1,
      }));
      offerTable(g, ring, table, at);
      ring.kick();
      assert.ok(ring.complete(), `a table at ${at}`);
      assert.equal(g.memory[ring.data + 16], Status.OK);
    }
    g.verify(ring);
  });

  row(`R9 garbage in the suppression fields costs notifications at most${on}`, {}, () => {
    for (const features of [allRingFeatures, allRingFeatures & ~mask(RingFeature.EVENT_IDX)]) {
      using g = guest({ packed, features });
      const ring = g.ring(1);
      for (let i = 0; i < 60; i++) {
        const [a, b, c] = new Uint16Array(randomBytes(6).buffer.slice(0, 6));
        ring.usedEvent = a!;
        ring.availEvent = b!;
        ring.availableFlags = c!;
        g.verify(ring);
      }
      g.verify(g.ring(0));
    }
  });

  row(`R9 a used ring that the driver scribbles on harms only the driver${on}`, {}, () => {
    using g = guest({ packed });
    const ring = g.ring(1);
    for (let i = 0; i < 50; i++) {
      const at = ring.base + (packed ? 0 : 0xa000);
      g.memory.set(randomBytes(518), at);
      ring.offer(ring.chain(0, g.buffers(ring, { type: RequestType.FLUSH })));
      ring.kick();
      g.verify(g.ring(0));
    }
    g.restart(ring);
    g.verify(ring);
  });
}
