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

/** Takes all there is, completes it, and takes what the driver makes available after that. */
function use(queue: Queue, size: number, offer: () => void): number[] {
  const heads: number[] = [];
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
  assert.equal(new Set(heads).size, heads.length, "a request is submitted twice");
  for (const head of [...heads].reverse()) queue.complete(head, 0);
  queue.publish();
  for (let i = 0; i < 2 * size; i++) {
    offer();
    heads.length = 0;
    if (take()) queue.complete(heads[0]!, 0);
    queue.publish();
  }
  return heads;
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
    const survives = fc.property(plan(sizes), ({ size, extra, words, offers, inOrder }) => {
      const ring = new PackedDriver(guest, { size, at: 0 });
      for (let i = 0; i < Math.min(offers, size); i++) ring.offer(i, buffers);
      const queueSize = size + extra;
      const { part, intact } = makePart(inflightQueueBytes(queueSize, true), words, queueSize);
      // Entries that begin with a valid byte have buffers in memory.
      const view = new DataView(part.buffer, part.byteOffset);
      for (let entry = 0; entry < queueSize; entry++) {
        if (words[entry]! % 2 === 0) view.setBigUint64(32 * (entry + 1) + 24, BigInt(DATA), true);
        if (words[entry]! % 3 === 0) view.setUint16(32 * (entry + 1) + 18, 2, true);
      }
      const queue = ring.queue({ inflight: { bytes: part, queueSize }, inOrder });
      let id = 100;
      use(queue, size, () => {
        if (ring.free > 0) ring.offer(id++, buffers);
      });
      intact();
      const next = ring.queue({ inflight: { bytes: part, queueSize } });
      assert.ok(next.replays <= size);
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
