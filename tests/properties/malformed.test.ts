/** Rings that break the rules: refused with a reason, in bounded steps, without reading elsewhere. */
import assert from "node:assert/strict";
import { after, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { GuestError } from "../../core/errors.ts";
import type { Queue, QueueOptions } from "../../core/queue.ts";
import { SplitQueue } from "../../core/split.ts";
import { WINDOW_SIZE } from "../../ffi/mod.ts";
import { type Descriptor, DriverRing, INDIRECT, NEXT, WRITE } from "../core/driver.ts";
import { Arena } from "./arena.ts";
import { attempt, boundedSteps, survivesHostileRing } from "./hostile.ts";
import { full } from "./property.ts";

const LARGE = 0x10_0000_0000;
const SIZE = 8;
/** Descriptors looked at for one chain at most. */
const DIRECT_STEPS = SIZE;
const TABLE_STEPS = SIZE + 1024;

/** Calls `hook` for each word that the queue made by `make` reads of its descriptor table. */
function afterEachRead(hook: (words: Int32Array, at: number) => void, make: () => Queue): Queue {
  const RealArray = Int32Array;
  const watched = (words: Int32Array) =>
    new Proxy(words, {
      get(target, key) {
        const value = Reflect.get(target, key, target);
        if (typeof key === "string" && /^\d+$/.test(key)) hook(target, Number(key));
        return value;
      },
    });
  globalThis.Int32Array = new Proxy(RealArray, {
    construct(target, made: [ArrayBuffer, number?, number?]) {
      const words = new target(...made);
      const [source] = made;
      return source instanceof ArrayBuffer && source.byteLength === 16 * SIZE
        ? watched(words)
        : words;
    },
  });
  try {
    return make();
  } finally {
    globalThis.Int32Array = RealArray;
  }
}

describe("A malformed ring", () => {
  const arena = new Arena();
  after(() => arena[Symbol.dispose]());
  let ring: DriverRing;
  beforeEach(() => {
    arena.reset();
    ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings });
  });

  const data = (over: Partial<Descriptor> = {}): Descriptor => ({
    address: 0x8000,
    length: 16,
    flags: 0,
    next: 0,
    ...over,
  });

  /** Offers descriptor 0 and returns the refusal. */
  function refusal(
    limit: number,
    descriptors: readonly Descriptor[],
    options: Partial<QueueOptions> = {},
  ): GuestError {
    descriptors.forEach((descriptor, i) => {
      ring.describe(i, descriptor);
    });
    ring.push(0);
    ring.show();
    return refusalOf(ring.queue({ base: 0, ...options }), limit);
  }

  function refusalOf(queue: Queue, limit = DIRECT_STEPS): GuestError {
    try {
      boundedSteps(limit, () => queue.next());
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      assert.equal(queue.inFlight, 0, "a refused chain is not in flight");
      assert.equal(attempt(queue), "refused", "the queue stays where it is");
      return error;
    }
    assert.fail("the chain was taken");
  }

  test("is refused when the available ring names a descriptor beyond the table (R1)", () => {
    for (const head of [SIZE, SIZE + 1, 0xffff]) {
      ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings });
      ring.push(head);
      ring.show();
      assert.match(
        refusalOf(ring.queue({ base: 0 })).message,
        new RegExp(`holds ${head}, beyond 7`),
      );
    }
  });

  test("is refused when a next field points beyond the table (R1)", () => {
    for (const next of [SIZE, 0xffff]) {
      const error = refusal(DIRECT_STEPS, [data({ flags: NEXT, next })]);
      assert.match(error.message, /next field of a descriptor 0 holds/);
      ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings });
    }
  });

  test("is refused within as many steps as the table is long when a chain loops (R2)", () => {
    const loops = [
      [data({ flags: NEXT, next: 0 })],
      [data({ flags: NEXT, next: 1 }), data({ flags: NEXT, next: 0 })],
      [data({ flags: NEXT, next: 1, length: 0 }), data({ flags: NEXT, next: 0, length: 0 })],
    ];
    for (const loop of loops) {
      ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings });
      assert.match(refusal(DIRECT_STEPS, loop).message, /longer than its table of 8/);
    }
  });

  test("is refused within the table when an indirect chain loops (R2)", () => {
    const table = new Uint8Array(3 * 16);
    const view = new DataView(table.buffer);
    for (const [i, next] of [1, 2, 0].entries()) {
      view.setUint16(16 * i + 12, NEXT, true);
      view.setUint16(16 * i + 14, next, true);
    }
    arena.guest.write(0x9000, table);
    const error = refusal(4 + 4 * 3, [data({ address: 0x9000, length: 48, flags: INDIRECT })]);
    assert.match(error.message, /longer than its table of 3/);
  });

  test("is refused for each misuse of indirect descriptors (R3)", () => {
    const indirect = (over: Partial<Descriptor>) =>
      data({ address: 0x9000, length: 16, flags: INDIRECT, ...over });
    const wrong: readonly (readonly [Descriptor, RegExp])[] = [
      [indirect({ flags: INDIRECT | NEXT, next: 1 }), /has a next one/],
      [indirect({ length: 0 }), /table has 0 bytes/],
      [indirect({ length: 17 }), /table has 17 bytes/],
      [indirect({ length: 15 }), /table has 15 bytes/],
      [indirect({ length: 2 ** 32 - 16 }), /table has 4294967280 bytes/],
      [indirect({ length: 1025 * 16 }), /table has 1025 descriptors/],
      [indirect({ address: 0x4000_0000 }), /not in guest memory/],
      [
        indirect({ address: LARGE + WINDOW_SIZE + 0x10000 - 16, length: 32 }),
        /not in guest memory/,
      ],
    ];
    for (const [descriptor, reason] of wrong) {
      ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings });
      assert.match(refusal(TABLE_STEPS, [descriptor]).message, reason);
    }
  });

  test("is refused for a table within a table and without the feature (R3)", () => {
    const nested = new DataView(new ArrayBuffer(16));
    nested.setUint32(8, 16, true);
    nested.setUint16(12, INDIRECT, true);
    arena.guest.write(0x9000, new Uint8Array(nested.buffer));
    const descriptor = data({ address: 0x9000, flags: INDIRECT });
    assert.match(refusal(8, [descriptor]).message, /of a table is indirect/);
    ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings });
    assert.match(refusal(4, [descriptor], { indirect: false }).message, /descriptor 0 is indirect/);
  });

  test("works when a buffer or a table lies across two regions (R3, R4)", () => {
    const bytes = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
    arena.guest.write(0x10000 - 40, bytes);
    const table = 0x2000_1000 - 8;
    ring.offer([{ address: 0x10000 - 40, length: 64, writable: false }], 0, table);
    const queue = ring.queue({ base: 0 });
    assert.equal(queue.next(), true);
    const copy = new Uint8Array(64);
    assert.equal(queue.chain.read(copy), 64);
    assert.deepEqual(copy, bytes);
  });

  test("is refused when part of a buffer is not guest memory (R5)", () => {
    const outside: readonly (readonly [address: number | bigint, length: number])[] = [
      [0x20000 - 8, 9],
      [0x4000_0000, 1],
      [0x3000_0000 - 1, 2],
      [LARGE + WINDOW_SIZE + 0x10000 - 1, 2],
      [2n ** 53n - 1n, 1],
      [2n ** 53n + 0x8000n, 16],
      [2n ** 63n + 0x8000n, 16],
      [2n ** 64n - 8n, 16],
      [0, 2 ** 32 - 1],
    ];
    for (const [address, length] of outside) {
      for (const flags of [0, WRITE]) {
        ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings });
        const error = refusal(DIRECT_STEPS, [data({ address, length, flags })]);
        assert.match(error.message, /guest memory/);
      }
    }
  });

  test("is refused when a readable buffer follows a writable one (R6)", () => {
    const chain = [data({ flags: NEXT | WRITE, next: 1 }), data()];
    assert.match(refusal(DIRECT_STEPS, chain).message, /follows a device-writable one/);
  });

  test("is refused when a chain covers more than 4 GiB", () => {
    const part = { address: LARGE, length: 2 ** 30, flags: NEXT };
    const chain = [1, 2, 3, 4].map((next) => data({ ...part, next }));
    assert.match(refusal(DIRECT_STEPS, [...chain, data({ length: 1 })]).message, /2\^32|4 GiB/);
  });

  test("cannot change what was checked (R7)", () => {
    arena.guest.write(0x8000, Uint8Array.of(1, 2, 3, 4));
    const buffers = [
      { address: 0x8000, length: 4, writable: false },
      { address: 0x8100, length: 4, writable: true },
    ];
    let taken = 0;
    for (let reads = 1; reads <= 9; reads++) {
      ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings });
      ring.chain(buffers);
      ring.push(0);
      ring.show();
      // After so many reads, the driver makes the word that was just read point outside of everything.
      let count = 0;
      const spoil = (words: Int32Array, at: number) => {
        if (++count === reads) words[at] = -1;
      };
      const queue = afterEachRead(spoil, () => ring.queue({ base: 0 }));
      if (attempt(queue) === "refused") continue;
      taken++;
      const copy = new Uint8Array(4);
      assert.equal(queue.chain.read(copy), 4);
      assert.deepEqual([...copy], [1, 2, 3, 4]);
      assert.equal(queue.chain.writableBytes, 4);
      queue.complete(0, 0);
      assert.equal(ring.availableIndex, queue.base);
    }
    assert.ok(taken >= 8, "a field is read again");
  });

  test("is refused when the available index jumps (R8)", () => {
    for (const jump of [SIZE + 1, 0x8000, 0xfffe, 0xffff]) {
      ring = new DriverRing(arena.guest, { size: SIZE, at: arena.rings, base: 3 });
      const queue = ring.queue();
      ring.availableIndex = (3 + jump) % 65536;
      ring.show();
      assert.match(refusalOf(queue).message, /moved from 3 to/);
    }
  });

  test("is refused when a descriptor in flight is made available again (R11)", () => {
    ring.offer([{ address: 0x8000, length: 4, writable: true }]);
    const queue = ring.queue({ base: 0 });
    assert.equal(queue.next(), true);
    ring.push(0);
    ring.show();
    assert.throws(() => queue.next(), /descriptor 0 .* in flight/);
    queue.complete(0, 0);
    assert.equal(queue.next(), true, "once completed it may come again");
  });

  test("takes exactly what the specification describes, whatever the driver writes", () => {
    fc.assert(survivesHostileRing(arena, SplitQueue), { numRuns: full ? 20_000 : 2000 });
  });
});
