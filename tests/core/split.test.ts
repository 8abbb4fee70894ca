/** What the properties of tests/properties do not reach: the end of a queue, and very many rounds. */
import assert from "node:assert/strict";
import { after, beforeEach, describe, test } from "node:test";
import { placeOf } from "../../core/address-space.ts";
import { GuestError } from "../../core/errors.ts";
import type { Queue } from "../../core/queue.ts";
import { SplitQueue } from "../../core/split.ts";
import { splitRingBytes } from "../../core/split-format.ts";
import { DriverRing } from "./driver.ts";
import { TestGuest } from "./guest.ts";

const SIZE = 8;

describe("SplitQueue", () => {
  const guest = new TestGuest([{ guestAddress: 0, size: 0x10000, at: 0 }]);
  after(() => guest[Symbol.dispose]());
  let ring: DriverRing;
  let calls: string[];
  let queue: Queue;
  const options = {
    call: () => void calls.push("call"),
    requestPublish: () => void calls.push("publish"),
    requestDrain: () => void calls.push("drain"),
  };
  beforeEach(() => {
    ring = new DriverRing(guest, { size: SIZE, at: 0 });
    calls = [];
    queue = ring.queue(options);
  });

  const offer = () => ring.offer([{ address: 0x1000, length: 4, writable: true }]);

  test("has rings of the sizes that virtio gives them, event fields included", () => {
    assert.deepEqual(splitRingBytes(1), { descriptor: 16, available: 8, used: 14 });
    assert.deepEqual(splitRingBytes(256), { descriptor: 4096, available: 518, used: 2054 });
    assert.deepEqual(splitRingBytes(32768), { descriptor: 524288, available: 65542, used: 262150 });
  });

  test("finds buffers of several GiB that share a place", () => {
    const GIB = 2 ** 30;
    const place = (gib: number) => placeOf(gib >> 2, gib << 30);
    const shared = Array.from({ length: 1000 }, (_, gib) => gib).filter(
      (gib) => place(gib) === place(0),
    );
    assert.ok(shared.length > 2 && shared[0] === 0);
    const PART = 0x10000;
    using far = new TestGuest(
      shared.map((gib, i) => ({ guestAddress: gib * GIB, size: PART, at: i * PART })),
    );
    const addresses = shared.map((gib) => gib * GIB + 0x8000);
    addresses.forEach((address, i) => {
      far.write(address, Uint8Array.of(i + 1));
    });
    ring = new DriverRing(far, { size: 1024, at: 0 });
    queue = ring.queue(options);
    for (const address of [...addresses, ...addresses.reverse()]) {
      ring.offer([{ address, length: 1, writable: false }]);
      assert.ok(queue.next());
      assert.equal(queue.chain.readU8(0), far.read(address, 1)[0]);
      queue.complete(queue.chain.head, 0);
    }
    // And what is in none of them is in none of them.
    const absent = Array.from({ length: 9999 }, (_, gib) => gib).find(
      (gib) => gib > 1000 && place(gib) === place(0),
    )!;
    ring.offer([{ address: absent * GIB + 0x8000, length: 1, writable: false }]);
    assert.throws(() => queue.next(), GuestError);
  });

  test("asks to be published only for completions outside a drain", () => {
    offer();
    offer();
    queue.draining = true;
    assert.ok(queue.next());
    queue.complete(queue.chain.head, 0);
    assert.deepEqual(calls, []);
    queue.draining = false;
    assert.ok(queue.next());
    queue.complete(queue.chain.head, 0);
    assert.deepEqual(calls, ["publish"]);
    assert.equal(ring.shownUsed, 0, "nothing is shown before it is published");
    queue.publish();
    assert.deepEqual(calls, ["publish", "call"]);
    queue.publish();
    assert.equal(calls.length, 2, "there is nothing more to publish");
  });

  test("goes on where the driver last saw it", () => {
    ring = new DriverRing(guest, { size: SIZE, at: 0, base: 65530, used: 65528 });
    queue = ring.queue(options);
    assert.equal(queue.base, 65530);
    offer();
    assert.ok(queue.next());
    queue.complete(queue.chain.head, 3);
    queue.publish();
    assert.equal(queue.base, 65531);
    assert.deepEqual(ring.reap(), [{ id: 0, length: 3 }]);
    assert.equal(ring.usedIndex, 65529);
  });

  test("changes nothing once it is closed", () => {
    offer();
    offer();
    assert.ok(queue.next());
    const held = queue.hold();
    assert.equal(held.live, true);
    assert.ok(queue.next());
    queue.complete(queue.chain.head, 1);
    calls.length = 0;
    queue.close();
    assert.equal(held.live, false);
    held.complete(4);
    queue.complete(held.head, 4);
    queue.publish();
    queue.resume();
    assert.deepEqual(calls, []);
    assert.equal(ring.shownUsed, 0);
  });

  test("hands out a held chain per descriptor, filled anew for each request", () => {
    guest.write(0x1000, Uint8Array.of(1, 2, 3, 4, 5));
    ring.offer([{ address: 0x1000, length: 2, writable: false }]);
    ring.offer([{ address: 0x1002, length: 3, writable: false }]);
    assert.ok(queue.next());
    const first = queue.hold();
    assert.ok(queue.next());
    const second = queue.hold();
    assert.notEqual(first, second);
    assert.deepEqual([first.readU16(0), second.readU16(1)], [0x0201, 0x0504]);
    assert.equal(first.hold(), first);
    second.complete(0);
    first.complete(0);
    queue.publish();
    assert.deepEqual(
      ring.reap().map(({ id }) => id),
      [1, 0],
    );
  });

  test("takes nothing while it is paused", () => {
    offer();
    queue.paused = true;
    assert.equal(queue.next(), false);
    queue.paused = false;
    assert.equal(queue.next(), true);
  });

  test("tells its owner of a broken driver where nobody would catch it", () => {
    const told: string[] = [];
    queue = ring.queue({ ...options, broken: (error) => void told.push(error.rule) });
    ring.push(99);
    ring.show();
    assert.equal(queue.next(), false);
    assert.deepEqual(told, ["virtio 1.3 2.7.5"]);
    assert.throws(() => queue.advance(), GuestError);
    assert.equal(told.length, 1);
  });

  test("resumes by asking for a drain", () => {
    queue.resume();
    assert.deepEqual(calls, ["drain"]);
  });

  test("passes the end of the index again and again, full and with EVENT_IDX", () => {
    for (const eventIdx of [false, true]) {
      ring = new DriverRing(guest, { size: SIZE, at: 0, base: 65000, used: 65000 });
      let called = 0;
      const queue = ring.queue({ eventIdx, call: () => void called++ }, SplitQueue);
      let sum = 0;
      const rounds = 20_000;
      for (let i = 0; i < rounds; i++) {
        while (ring.free.length > 0) offer();
        // The driver waits for the last completion of each round.
        ring.usedEvent = (ring.usedIndex + SIZE - 1) & 0xffff;
        while (queue.next()) queue.complete(queue.chain.head, i & 0xff);
        queue.publish();
        assert.equal(queue.requestKick(), false);
        for (const { length } of ring.reap()) sum += length === (i & 0xff) ? 1 : 0;
      }
      assert.equal(sum, rounds * SIZE);
      assert.equal(called, rounds);
      assert.equal(queue.base, (65000 + rounds * SIZE) & 0xffff);
    }
  });
});
