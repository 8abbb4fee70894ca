/** In-flight regions full of nonsense (M9): whatever they hold, a queue goes on within its memory. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { GuestError } from "../../core/errors.ts";
import { inflightQueueBytes } from "../../core/inflight.ts";
import type { Queue } from "../../core/queue.ts";
import { DriverRing } from "../core/driver.ts";
import { TestGuest } from "../core/guest.ts";
import { PackedDriver } from "../core/packed-driver.ts";
import { full } from "./property.ts";

const GUARD = 64;
const DATA = 0x8000;
const MANY = 32_768;

const number = fc.oneof(
  { weight: 4, arbitrary: fc.nat({ max: 9 }) },
  { weight: 1, arbitrary: fc.constantFrom(0x7fff, 0x8000, 0xffff, 0x0101, 0xff01) },
);

interface HostilePlan {
  /** Descriptors in the ring, and those that the region's queues have more. */
  readonly size: number;
  readonly extra: number;
  /** What the part holds, in 16-bit words from its first one on. */
  readonly words: readonly number[];
  /** The chains that the driver has made available, and its used index. */
  readonly offers: number;
  readonly inOrder: boolean;
}

const plan = (sizes: fc.Arbitrary<number>) =>
  fc.record<HostilePlan>({
    size: sizes,
    extra: fc.nat({ max: 3 }),
    words: fc.array(number, { minLength: 16, maxLength: 240, size: "max" }),
    offers: fc.nat({ max: 8 }),
    inOrder: fc.boolean(),
  });

/** An entry of a packed ring's part; nearly all have a buffer that is in memory. */
const entry = fc.record({
  taken: fc.constantFrom(0, 1, 1, 1, 255),
  next: number,
  last: number,
  num: fc.constantFrom(0, 1, 1, 1, 2, 2, 3, 9, 0xffff),
  counter: fc.bigInt({ min: 0n, max: 3n }),
  id: fc.nat({ max: 5 }),
  address: fc.constantFrom(...new Array<number>(30).fill(DATA), 2 ** 40),
});

type Entry = typeof entry extends fc.Arbitrary<infer T> ? T : never;

function writeEntry(view: DataView, i: number, entry: Entry): void {
  const at = 32 * (i + 1);
  view.setUint8(at, entry.taken);
  view.setUint16(at + 2, entry.next, true);
  view.setUint16(at + 4, entry.last, true);
  view.setUint16(at + 6, entry.num, true);
  view.setBigUint64(at + 8, entry.counter, true);
  view.setUint16(at + 16, entry.id, true);
  view.setUint16(at + 18, 2, true);
  view.setUint32(at + 20, 8, true);
  view.setBigUint64(at + 24, BigInt(entry.address), true);
}

/** A part between two guards. */
function makePart(bytes: number, words: readonly number[], queueSize: number) {
  const memory = new Uint8Array(new ArrayBuffer(bytes + 2 * GUARD)).fill(0xaa);
  const part = memory.subarray(GUARD, GUARD + bytes);
  const view = new Uint16Array(part.buffer, part.byteOffset, bytes >> 1);
  view.fill(0);
  view.set(words.slice(0, view.length));
  // Regions of another version or size are refused before.
  view.set([1, queueSize], 4);
  const guards = () => [...memory.subarray(0, GUARD), ...memory.subarray(GUARD + bytes)];
  return { part, intact: () => assert.ok(guards().every((byte) => byte === 0xaa)) };
}

/**
 * Takes all there is, completes it, and takes what the driver makes available after that. Returns the
 * requests that were replayed before the driver was found to be wrong.
 */
function use(queue: Queue, size: number, offer: () => void): number {
  const heads: number[] = [];
  const { replays } = queue;
  const take = (): boolean => {
    try {
      if (!queue.next()) return false;
    } catch (error) {
      assert.ok(error instanceof GuestError, String(error));
      return false;
    }
    heads.push(queue.chain.head);
    assert.ok(heads.length <= size, "more requests than a ring has");
    return true;
  };
  assert.ok(queue.replays <= size);
  if (take()) {
    queue.putBack();
    heads.pop();
  }
  while (take());
  const replayed = Math.min(heads.length, replays);
  assert.equal(new Set(heads).size, heads.length, "a request is submitted twice");
  for (const head of [...heads].reverse()) queue.complete(head, 0);
  queue.publish();
  for (let i = 0; i < 2 * size; i++) {
    offer();
    heads.length = 0;
    if (take()) queue.complete(heads[0]!, 0);
    queue.publish();
  }
  return replayed;
}

describe("A hostile in-flight region", () => {
  const guest = new TestGuest([{ guestAddress: 0, size: 0x10000, at: 0 }]);
  after(() => guest[Symbol.dispose]());
  const numRuns = full ? 50_000 : 3000;
  const buffers = [{ address: DATA, length: 8, writable: true }];

  test("M9 of a split ring is put right: no head twice, no end of the memory passed", () => {
    const sizes = fc.constantFrom(1, 2, 4, 8);
    const survives = fc.property(plan(sizes), ({ size, extra, words, offers, inOrder }) => {
      const ring = new DriverRing(guest, { size, at: 0 });
      // All descriptors are right; which of them are in flight is the region's word.
      for (let i = 0; i < size; i++) ring.describe(i, { ...buffers[0]!, flags: 2, next: 0 });
      for (let i = 0; i < offers; i++) ring.push(i % size);
      ring.show();
      const queueSize = size + extra;
      const { part, intact } = makePart(inflightQueueBytes(queueSize, false), words, queueSize);
      const queue = ring.queue({ inflight: { bytes: part, queueSize }, inOrder });
      use(queue, size, () => {
        ring.push(ring.availableIndex % size);
        ring.show();
      });
      intact();
      assert.equal(ring.queue({ inflight: { bytes: part, queueSize } }).replays <= size, true);
    });
    fc.assert(survives, { numRuns });
  });

  test("M9 of a packed ring is put right: no id twice, no end of the memory passed", () => {
    const sizes = fc.integer({ min: 1, max: 9 });
    const scenario = fc.tuple(plan(sizes), fc.array(entry, { minLength: 12, maxLength: 12 }));
    const survives = fc.property(scenario, ([{ size, extra, words, offers, inOrder }, entries]) => {
      const ring = new PackedDriver(guest, { size, at: 0 });
      for (let i = 0; i < Math.min(offers, size); i++) ring.offer(i, buffers);
      const queueSize = size + extra;
      const header = words.slice(0, 16);
      const { part, intact } = makePart(inflightQueueBytes(queueSize, true), header, queueSize);
      const view = new DataView(part.buffer, part.byteOffset);
      for (let i = 0; i < queueSize; i++) writeEntry(view, i, entries[i]!);
      const inflight = { bytes: part, queueSize };
      const queue = ring.queue({ inflight, inOrder });
      const { replays } = queue;
      let id = 100;
      const replayed = use(queue, size, () => {
        if (ring.free > 0) ring.offer(id++, buffers);
      });
      intact();
      // Of what is kept, none breaks the queue but by its buffer.
      if (entries.every(({ address }) => address === DATA)) assert.equal(replayed, replays);
      assert.ok(ring.queue({ inflight }).replays <= size);
    });
    fc.assert(survives, { numRuns });
  });

  test("M9 with lists that cross and go round costs no more than its length", {
    timeout: 60_000,
  }, () => {
    for (const link of [
      (at: number) => at + 1,
      (at: number) => at ^ 1,
      () => 7,
      (at: number) => at,
    ]) {
      const ring = new PackedDriver(guest, { size: 8, at: 0 });
      const { part } = makePart(inflightQueueBytes(MANY, true), [], MANY);
      const view = new DataView(part.buffer, part.byteOffset);
      for (let entry = 0; entry < MANY; entry++) {
        const at = 32 * (entry + 1);
        view.setUint8(at, 255);
        view.setUint16(at + 2, link(entry), true);
        view.setUint16(at + 6, MANY, true);
        view.setBigUint64(at + 8, 2n ** 64n - 1n, true);
      }
      const queue = ring.queue({ inflight: { bytes: part, queueSize: MANY } });
      assert.equal(queue.replays, 0);
      assert.equal(queue.next(), false);
    }
  });
});
