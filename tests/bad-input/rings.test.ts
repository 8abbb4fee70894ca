import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mask, RingFeature } from "../../core/features.ts";
import { MAX_MEM_SLOTS } from "../../core/protocol.ts";
import { RequestType, Status } from "../../devices/blk/wire.ts";
import {
  allRingFeatures,
  type Guest,
  type GuestOptions,
  MEMORY_SIZE,
  memRegion,
  REGION_SIZE,
} from "./guest.ts";
import { type Descriptor, describe, INDIRECT, NEXT, type Ring, WRITE } from "./ring.ts";
import { suite } from "./row.ts";

const { row, guest } = suite();
const UNMAPPED = 2 ** 40;
/** Guest memory that no ring uses, for tables and buffers. */
const SPARE = 0x400000;

interface Case {
  readonly what: string;
  /** Puts something into the ring. */
  readonly make: (g: Guest, ring: Ring) => void;
}

/** Checks that each case ends its queue, and only that. */
function allBreak(cases: readonly Case[], options?: GuestOptions): void {
  using g = guest(options);
  const ring = g.ring(1);
  for (const { what, make } of cases) {
    make(g, ring);
    ring.kick();
    assert.ok(ring.broken(), `the ring breaks: ${what}`);
    g.verify(g.ring(0));
    g.restart(ring);
    g.verify(ring);
  }
}

/** Offers a chain of direct descriptors that are written as they are. */
function offer(ring: Ring, ...descriptors: Descriptor[]): void {
  descriptors.forEach((descriptor, i) => {
    ring.descriptor(i, descriptor);
  });
  ring.offer(0);
}

/** Writes an indirect table into spare memory and offers it. */
function offerTable(g: Guest, ring: Ring, table: readonly Descriptor[], at = SPARE): void {
  table.forEach((descriptor, i) => {
    describe(g.view, at + 16 * i, descriptor);
  });
  offer(ring, { address: at, length: 16 * table.length, flags: INDIRECT });
}

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
    allBreak([head(64), head(65535), next(64), next(65535)]);
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
    allBreak([loop(1, 16), loop(1, 0), loop(2, 16), loop(2, 0), loop(64, 1), loop(64, 0)]);
    allBreak([table(1, 16), table(1, 0), table(2, 0), table(64, 1), table(1024, 0), beyond]);
  },
);

row("R2 a chain as long as its table is served", {}, () => {
  using g = guest({ size: 1024 });
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
  "R2 a chain in more parts than a driver can need breaks the queue",
  { log: [/the chain .* more than 65536 parts/] },
  () => {
    // One-byte regions cut each buffer into as many parts as there are slots.
    using g = guest({ size: 1024 });
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
  "R3 an indirect descriptor that may not be breaks the queue",
  {
    log: [
      /the indirect descriptor 0 has a next one/,
      /descriptor 0 of a table is indirect/,
      /the indirect table has 4294967280 bytes|the indirect table has 268435455 descriptors/,
      /the indirect table has 24 bytes/,
      /part of an indirect table is not in guest memory/,
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
    allBreak([
      table("INDIRECT with NEXT", { flags: INDIRECT | NEXT, next: 1 }),
      table("a length of 24", { length: 24 }),
      table("a length of 0", { length: 0 }),
      table("a length of 1", { length: 1 }),
      table("a length of 2^32 - 16", { length: 0xfffffff0 }),
      table("a length of 2^32 - 1", { length: 0xffffffff }),
      table("a table outside memory", { address: UNMAPPED }),
      table("a table that ends outside memory", { address: MEMORY_SIZE - 16, length: 32 }),
      table("a table at the end of all addresses", { address: 2n ** 64n - 16n, length: 32 }),
      nested,
    ]);
    const features = allRingFeatures & ~mask(RingFeature.INDIRECT_DESC);
    allBreak([table("not negotiated", {})], { features });
  },
);

row("R3 an indirect table may cross regions and be longer than the ring", {}, () => {
  using g = guest({ size: 64 });
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

row("R4 buffers across two adjacent regions work", {}, () => {
  using g = guest();
  const ring = g.ring(1);
  const border = REGION_SIZE;
  const data = randomBytes(4096);
  const [size, sector] = [4096, 700];
  const places = [border - 1, border - 4095, border - 8, border - 2048];
  for (const at of places) {
    for (const type of [RequestType.OUT, RequestType.IN]) {
      g.header(border - 8, type, sector);
      const write = type === RequestType.IN ? WRITE : 0;
      // The header is cut as well, unless the data lies there.
      const apart = at < border - 2000 || at === border - 1;
      const header = apart ? ring.data : border - 8;
      g.header(ring.data, type, sector);
      const place = apart ? at : border + 64;
      if (type === RequestType.OUT) g.memory.set(data, place);
      else g.memory.fill(0, place, place + size);
      g.memory[ring.data + 16] = 0xff;
      const chain = [
        { address: header, length: 16 },
        { address: place, length: size, flags: write },
        { address: ring.data + 16, length: 1, flags: WRITE },
      ];
      ring.offer(ring.chain(0, chain));
      ring.kick();
      assert.ok(ring.complete());
      assert.equal(g.memory[ring.data + 16], Status.OK, `type ${type} at ${at}`);
      if (type === RequestType.IN) {
        assert.deepEqual(Buffer.from(g.memory.subarray(place, place + size)), data);
      }
    }
  }
});

row(
  "R5 a buffer outside guest memory breaks the queue",
  { log: [/is not in guest memory from 0x1000000 on/, /beyond any guest memory/] },
  () => {
    const at = (address: number | bigint, length: number, flags: number): Case => ({
      what: `${length} bytes at 0x${address.toString(16)} with flags ${flags}`,
      make: (g, ring) => {
        const [header, , status] = g.buffers(ring, { type: flags ? 0 : 1, length: 512 });
        ring.offer(ring.chain(0, [header!, { address, length, flags }, status!]));
      },
    });
    for (const flags of [0, WRITE]) {
      allBreak([
        at(UNMAPPED, 512, flags),
        at(MEMORY_SIZE, 1, flags),
        at(MEMORY_SIZE - 256, 512, flags),
        at(0, 0xffffffff, flags),
        at(2n ** 64n - 256n, 512, flags),
        at(2n ** 64n - 1n, 1, flags),
        at(2n ** 53n, 512, flags),
        at(2n ** 53n - 1n, 512, flags),
        at(2n ** 63n, 0xffffffff, flags),
      ]);
    }
  },
);

row("R5 an empty buffer is nothing, wherever it is", {}, () => {
  using g = guest();
  const ring = g.ring(1);
  for (const address of [0, UNMAPPED, MEMORY_SIZE, 2 ** 52]) {
    const [header, data, status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
    const nothing = { address, length: 0 };
    const after = { ...nothing, flags: WRITE };
    ring.offer(ring.chain(0, [nothing, header!, nothing, after, data!, after, status!, after]));
    ring.kick();
    assert.ok(ring.complete());
    assert.equal(g.memory[ring.data + 16], Status.OK);
  }
});

row(
  "R6 buffers in the wrong order break the queue",
  { log: [/the device-readable buffer at .* follows a device-writable one/] },
  () => {
    const wrong: Case = {
      what: "the status before the header",
      make: (g, ring) => {
        const [header, , status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
        ring.offer(ring.chain(0, [status!, header!]));
      },
    };
    const between: Case = {
      what: "readable data behind the status",
      make: (g, ring) => {
        const [header, data, status] = g.buffers(ring, {
          type: RequestType.OUT,
          data: new Uint8Array(512),
        });
        ring.offer(ring.chain(0, [header!, status!, data!]));
      },
    };
    allBreak([wrong, between]);
  },
);

row(
  "R6 requests without a whole header or without a status fail alone",
  {
    log: [
      /Dropped a request that has no room for its status/,
      /Refused a request: it has no whole header/,
    ],
  },
  () => {
    using g = guest();
    const ring = g.ring(1);
    /** Runs a chain and returns the used length and the status. */
    const run = (buffers: Descriptor[]) => {
      g.memory[ring.data + 16] = 0xff;
      ring.offer(ring.chain(0, buffers));
      ring.kick();
      assert.ok(ring.complete(), JSON.stringify(buffers));
      const { length } = ring.used(ring.seen - 1);
      return { length, status: g.memory[ring.data + 16]! };
    };
    const [header, data, status] = g.buffers(ring, { type: RequestType.IN, length: 512 });
    const dropped = { length: 0, status: 0xff };
    const failed = { length: 1, status: Status.IOERR };
    assert.deepEqual(run([header!]), dropped, "no status");
    assert.deepEqual(run([header!, { ...status!, length: 0 }]), dropped, "an empty status");
    assert.deepEqual(run([{ ...header!, length: 0 }]), dropped, "nothing at all");
    assert.deepEqual(run([status!]), failed, "no header");
    assert.deepEqual(run([{ ...header!, length: 15 }, status!]), failed, "a short header");
    const writable = { ...header!, flags: WRITE };
    assert.equal(run([writable, status!]).status, Status.IOERR, "a writable header");
    // Wherever the cuts are, the last writable byte is the status.
    assert.equal(run([header!, status!, data!]).status !== 0xff, true);
    const parts = Array.from({ length: 16 }, (_, i) => ({ address: ring.data + i, length: 1 }));
    g.header(ring.data, RequestType.IN);
    assert.equal(run([...parts, data!, status!]).status, Status.OK, "a header of 16 buffers");
    const end = { address: MEMORY_SIZE - 1, length: 1, flags: WRITE };
    g.memory[MEMORY_SIZE - 1] = 0xff;
    run([header!, data!, end]);
    assert.equal(g.memory[MEMORY_SIZE - 1], Status.OK, "a status at the end of all memory");
    g.verify(ring);
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
    allBreak([jump(-1), jump(-3), jump(65), jump(0x7fff), jump(0x8000), jump(1000)]);
  },
);

row("R9 garbage in the suppression fields costs notifications at most", {}, () => {
  for (const features of [allRingFeatures, allRingFeatures & ~mask(RingFeature.EVENT_IDX)]) {
    using g = guest({ features });
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

row("R9 a used ring that the driver scribbles on harms only the driver", {}, () => {
  using g = guest();
  const ring = g.ring(1);
  for (let i = 0; i < 50; i++) {
    const at = ring.base + 0xa000;
    g.memory.set(randomBytes(518), at);
    ring.offer(ring.chain(0, g.buffers(ring, { type: RequestType.FLUSH })));
    ring.kick();
    g.verify(g.ring(0));
  }
  g.restart(ring);
  g.verify(ring);
});
