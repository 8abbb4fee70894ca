import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DriverRing, type RingOptions } from "../../frontend/mod.ts";
import { DeviceModel } from "./device-model.ts";
import { add, agrees, offersAgain, refuses, setUp as setUpKind } from "./ring-world.ts";

const split = { Ring: DriverRing, Device: DeviceModel };
const setUp = (options: RingOptions) => setUpKind(split, options);

describe("DriverRing", () => {
  for (const inOrder of [false, true]) {
    const order = inOrder ? "in order and in batches" : "in any order of completion";
    it(`agrees with a device on every chain, ${order}, across the wrap`, () => {
      const options = fc.record({
        size: fc.constantFrom(1, 2, 8, 64),
        base: fc.constantFrom(0, 65_500, 65_535),
        legacy: fc.boolean(),
        inOrder: fc.constant(inOrder),
      });
      agrees(split, options, ({ ring }, added, { base = 0 }) =>
        assert.equal(ring.availableIndex, (base + added) % 65536),
      );
    });
  }

  it("kicks exactly when the device asks for it", () => {
    for (const eventIdx of [false, true]) {
      using world = setUp({ size: 8, base: 65_534, eventIdx });
      const { ring, device } = world;
      for (let i = 0; i < 20; i++) {
        const index = ring.availableIndex;
        const count = 1 + (i % 3);
        const wanted = i % 4;
        // The device wants to hear of the entry `wanted` steps ahead, or has said "no kicks".
        const flags = i % 2;
        device.suppress(flags, (index + wanted) % 65536);
        for (let j = 0; j < count; j++) add(ring, j, 1, 1);
        assert.equal(ring.publish(), eventIdx ? wanted < count : flags === 0);
        assert.equal(ring.publish(), false, "nothing new");
        for (let j = 0; j < count; j++) device.complete(device.take()!, 0);
        while (ring.next());
      }
    }
  });

  it("asks for calls exactly when it waits", () => {
    for (const eventIdx of [false, true]) {
      using world = setUp({ size: 8, base: 65_530, eventIdx });
      const { ring, device } = world;
      for (let round = 0; round < 12; round++) {
        for (let i = 0; i < 3; i++) add(ring, i, 1, 1);
        ring.publish();
        ring.disableCalls();
        const old = device.used;
        device.complete(device.take()!, 0);
        assert.equal(device.wantsCall(old), false, "calls are off");
        assert.equal(ring.enableCalls(), true, "a completion is there");
        assert.ok(ring.next());
        assert.equal(ring.enableCalls(2), false);
        device.complete(device.take()!, 0);
        assert.equal(device.wantsCall((old + 1) % 65536), !eventIdx, "the first of two");
        device.complete(device.take()!, 0);
        assert.equal(device.wantsCall((old + 2) % 65536), true, "the second of two");
        assert.ok(ring.next() && ring.next());
      }
    }
  });

  it("refuses completions that cannot be right", () => {
    refuses(split, {
      "a chain beyond the ring": (device) => device.complete({ id: 8 }, 0),
      "a chain that is not in flight": (device, head) => device.complete({ id: (head + 5) % 8 }, 0),
      "more bytes than there was room for": (device, id) => device.complete({ id }, 4),
    });
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    const id = add(ring, 1, 1, 1);
    add(ring, 2, 1, 1);
    ring.publish();
    device.complete({ id }, 2);
    assert.ok(ring.next());
    device.complete({ id }, 2);
    assert.throws(() => ring.next(), { fault: "malformed" }, "the same chain twice");
    device.complete({ id }, 2);
    device.complete({ id }, 2);
    assert.throws(() => ring.next(), { fault: "malformed" }, "more than are in flight");
  });

  it("takes a batch by its last chain when the device works in order", () => {
    using world = setUp({ size: 8, base: 65_533, inOrder: true });
    const { ring, device } = world;
    for (const token of [1, 2, 3, 4]) add(ring, token, 1, 1);
    ring.publish();
    const batch = [1, 2, 3].map(() => device.take()!);
    device.completeBatch(batch, 1);
    for (const [token, written] of [
      [1, 2],
      [2, 2],
      [3, 1],
    ]) {
      assert.ok(ring.next());
      assert.deepEqual([ring.token, ring.written], [token, written]);
    }
    assert.equal(ring.next(), false);
    assert.equal(ring.freeDescriptors, 6);
    add(ring, 5, 1, 1);
    ring.publish();
    device.complete({ id: add(ring, 6, 1, 1) }, 0);
    assert.throws(() => ring.next(), { fault: "malformed" }, "the younger one first");
  });

  it("does not take completions of what it has not published", () => {
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    device.complete({ id: add(ring, 1, 1, 1) }, 0);
    assert.throws(() => ring.next(), { fault: "malformed" });
  });

  it("offers what is in flight again to a device that remembers nothing", () => {
    using world = setUp({ size: 16, base: 65_533 });
    const { ring, device } = world;
    // Leaves the free descriptors in disorder, so that the order of chains is not that of heads.
    for (const token of [1, 2, 3, 4]) add(ring, token, 1, 1);
    ring.publish();
    const early = [0, 1, 2, 3].map(() => device.take()!);
    for (const i of [2, 0, 3, 1]) device.complete(early[i]!, 0);
    while (ring.next());
    offersAgain(split, world, () => 1, (65_533 + 4 + 2) % 65536);
  });

  it("writes whatever it is told to", () => {
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    const [first, second] = ring.reserve(2) as [number, number];
    ring.describe(first, { address: 1n << 40n, length: 7, flags: 1, next: second });
    ring.describe(second, { address: 3, length: 9, flags: 2 });
    ring.offer(first, 77, 9);
    ring.publish();
    const chain = device.take()!;
    assert.deepEqual(chain.buffers, [
      { address: 2 ** 40, length: 7, writable: false },
      { address: 3, length: 9, writable: true },
    ]);
    device.complete(chain, 9);
    assert.ok(ring.next());
    assert.equal(ring.token, 77);
    ring.release([first, second]);
    assert.equal(ring.freeDescriptors, 8);
    ring.publishIndex(1234);
    assert.equal(ring.availableIndex, 1234);
  });
});
