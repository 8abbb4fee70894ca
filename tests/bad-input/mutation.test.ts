import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { RequestType, Segment } from "../../devices/blk/wire.ts";
import { ANSWER_LIMIT } from "./client.ts";
import { type Guest, MEMORY_SIZE, memRegion, REGION_SIZE } from "./guest.ts";
import { Control, type MutatorOrder, type Target } from "./mutation.ts";
import { DISK_SIZE } from "./program.ts";
import { Random } from "./random.ts";
import { type Descriptor, describe, INDIRECT, NEXT, type Ring, WRITE } from "./ring.ts";
import { full, suite, TIME_LIMIT } from "./row.ts";

const { row, guest } = suite();

const DURATION = full ? 30_000 : 2_000;
const TABLE = 0x400000;
const CONTROL = MEMORY_SIZE - 4096;
/** Memory that no value of any field leads to. */
const GUARD = { start: REGION_SIZE + 0x100000, end: CONTROL } as const;
/**
 * Half a page at its own guest address. Buffers that reach into the other half, which is guarded,
 * are refused: only a length that was not the checked one gets there.
 */
const EDGE = { guest: 2 ** 32 + TABLE, user: 2 ** 45, size: 2048, offset: REGION_SIZE - 65536 };
const { IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES } = RequestType;

const addressLow = (ring: Ring) => [
  ring.data,
  ring.data + 4096,
  REGION_SIZE - 256,
  MEMORY_SIZE - 8,
  TABLE,
  0xfffffff0,
];
const addressHigh = [0, 0, 0, 0, 0, 1, 1, 0x1fffff, 0x200000, 0xffffffff];
const lengths = [0, 1, 15, 16, 17, 48, 511, 512, 513, 4096, 32768, 0xfffffff0, 0xffffffff];
const flags = [0, NEXT, WRITE, NEXT | WRITE, INDIRECT, INDIRECT | NEXT, 0xffff];
/** Of slots in both laps, mostly available. */
const packedFlags = flags.flatMap((value) => [value | 0x80, value | 0x80, value | 0x8000, value]);
/** Next indices, and buffer ids. */
const nexts = [0, 1, 2, 3, 63, 64, 65535];

/** The four fields of a descriptor as targets. */
function descriptorTargets(at: number, ring: Ring): Target[] {
  return [
    { at, bytes: 4, values: addressLow(ring) },
    { at: at + 4, bytes: 4, values: addressHigh },
    { at: at + 8, bytes: 4, values: lengths },
    { at: at + 12, bytes: 2, values: ring.packed ? nexts : flags },
    { at: at + 14, bytes: 2, values: ring.packed ? packedFlags : nexts },
  ];
}

/** Everything a back-end reads while it serves a request of `ring`. */
function targetsOf(ring: Ring): Target[] {
  const types = [IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, 2, 0xffffffff];
  const low = [1000, 5000, DISK_SIZE / 512 - 1, DISK_SIZE / 512, 0xffffffff];
  const high = [0, 0, 0, 1, 0x7fffffff, 0xffffffff];
  const segment = ring.data + 4096;
  return [
    ...[0, 1, 2, 3].flatMap((i) => descriptorTargets(ring.base + 16 * i, ring)),
    ...[0, 1, 2].flatMap((i) => descriptorTargets(TABLE + 16 * i, ring)),
    { at: ring.data, bytes: 4, values: types },
    { at: ring.data + 8, bytes: 4, values: low },
    { at: ring.data + 12, bytes: 4, values: high },
    { at: segment + Segment.sector, bytes: 4, values: low },
    { at: segment + Segment.sector + 4, bytes: 4, values: high },
    { at: segment + Segment.sectors, bytes: 4, values: [0, 1, 8, 65536, 0xffffffff] },
    { at: segment + Segment.flags, bytes: 4, values: [0, 1, 2, 0xffffffff] },
  ];
}

/** Starts the Worker. Resolves when it waits for its order, with a promise of its end. */
async function startMutator(g: Guest, seed: number, targets: Target[]) {
  const worker = new Worker(new URL("mutator.ts", import.meta.url), { type: "module" });
  const memfd = g.memfd.number;
  const order: MutatorOrder = { memfd, size: MEMORY_SIZE, seed, targets, control: CONTROL };
  const ended = new Promise<number>((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data === "up") worker.postMessage(order);
      else resolve(data);
    };
    worker.onerror = ({ message }) => reject(new Error(message));
  });
  while (g.view.getUint32(CONTROL, true) !== Control.READY) {
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 5))]);
  }
  return { ended };
}

/** Offers one request, whose fields are right only for a moment. */
function offerRandom(g: Guest, ring: Ring, random: Random): void {
  const type = random.pick([IN, OUT, DISCARD, WRITE_ZEROES]);
  const data = type === IN ? undefined : new Uint8Array(type === OUT ? 512 : Segment.size);
  const length = type === IN ? 512 : undefined;
  const parts = g.buffers(ring, { type, sector: 1000, data, length });
  if (random.chance(0.5)) ring.offer(ring.chain(0, parts));
  else {
    const table: Descriptor[] = parts.map((part, i) => ({
      ...part,
      flags: (part.flags ?? 0) | (i < 2 ? NEXT : 0),
      next: i + 1,
    }));
    table.forEach((part, i) => {
      const { flags = 0 } = part;
      describe(g.view, TABLE + 16 * i, ring.packed ? { ...part, flags: 0, next: flags } : part);
    });
    ring.descriptor(3, { address: TABLE, length: 48, flags: INDIRECT });
    ring.offer(3);
  }
  ring.kick();
}

/** Waits until the request is completed or has broken the queue. */
function ends(ring: Ring): "completed" | "broken" {
  for (const until = performance.now() + ANSWER_LIMIT; performance.now() < until; ) {
    if (ring.complete(1, 0)) return "completed";
    if (ring.broken(0)) return "broken";
  }
  throw new Error("A request is neither completed nor does it break the queue");
}

const title = "R7 what is used is what was checked, while the driver changes everything";
for (const packed of [false, true]) {
  row(
    packed ? `${title}, packed` : title,
    { log: [/The driver broke the queue: /, /Refused a request: /] },
    async (program) => {
      const random = new Random();
      console.log(`R7: RINGSIDE_SEED=${random.seed}`);
      using g = guest(packed ? { packed, size: 4 } : {});
      const ring = g.ring(1);
      const memory = Buffer.from(g.memory.buffer, g.memory.byteOffset, g.memory.length);
      const guard = memory.subarray(GUARD.start, GUARD.end);
      const edge = memory.subarray(EDGE.offset + EDGE.size, EDGE.offset + 4096);
      guard.fill(0x5a);
      edge.fill(0x5a);
      g.must("ADD_MEM_REG", memRegion(EDGE), [g.memfd]);
      const untouched = Buffer.from(guard);
      const words = new Int32Array(g.memory.buffer);
      const { ended } = await startMutator(g, random.seed, targetsOf(ring));
      let completed = 0;
      let broken = 0;
      const enough = () => completed > 20 && broken > 5;
      Atomics.store(words, CONTROL >> 2, Control.RUN);
      try {
        const start = performance.now();
        // A busy machine leaves little of the time to either side.
        while (performance.now() < start + (enough() ? DURATION : TIME_LIMIT / 2)) {
          offerRandom(g, ring, random);
          const end = ends(ring);
          if (end === "completed") completed++;
          else broken++;
          // What the driver's side makes of spoiled slots of a packed ring is of no interest.
          if (end === "broken" || packed) g.restart(ring);
          if (random.chance(0.01)) g.verify(g.ring(0));
        }
      } finally {
        Atomics.store(words, CONTROL >> 2, Control.STOP);
      }
      const writes = await ended;
      console.log(`R7: ${completed} completed, ${broken} broken, ${writes} fields written`);
      assert.ok(enough() && writes > 10_000);
      assert.ok(guard.equals(untouched), "memory that no field led to is as it was");
      assert.ok(
        edge.every((byte) => byte === 0x5a),
        "nothing was written behind the end of a region",
      );
      assert.equal(statSync(program.image).size, DISK_SIZE, "the disk has its size");
      g.restart(ring);
      g.verifyAll();
    },
  );
}
