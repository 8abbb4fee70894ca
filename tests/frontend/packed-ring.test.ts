import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { AVAIL, PackedRing, type RingOptions, USED } from "../../frontend/mod.ts";
import { PackedDeviceModel } from "./packed-device-model.ts";
import { add, agrees, checkChain, offersAgain, refuses, setUp as setUpKind } from "./ring-world.ts";

const packed = { Ring: PackedRing, Device: PackedDeviceModel };
const setUp = (options: RingOptions) => setUpKind(packed, options);

/** Both positions at a slot with a wrap counter. */
const at = (slot: number, wrap: number) => ((slot | (wrap << 15)) * 0x10001) >>> 0;

/** Sizes, and slots to begin at. */
const starts = [
  [1, 0],
  [2, 1],
  [3, 0],
  [7, 5],
  [8, 7],
  [64, 60],
  [100, 99],
] as const;

describe("PackedRing", () => {
  for (const inOrder of [false, true]) {
    const order = inOrder ? "in order and in batches" : "in any order of completion";
    it(`agrees with a device on every chain, ${order}, across the wrap`, () => {
      const options = fc
        .tuple(fc.constantFrom(...starts), fc.constantFrom(0, 1))
        .map(([[size, slot], wrap]) => ({ size, base: at(slot, wrap), inOrder }));
      agrees(packed, options, ({ ring, device: { used } }) =>
        assert.equal(ring.shownUsedIndex, used.slot | (used.lap % 2 === 0 ? 0x8000 : 0)),
      );
    });
  }

  it("shows nothing of a batch before it is published", () => {
    using world = setUp({ size: 7, base: at(5, 1) });
    const { ring, device } = world;
    for (const token of [1, 2]) {
      add(ring, token, 1, 2);
      assert.equal(device.take(), null);
    }
    ring.publish();
    checkChain(device.take()!, 1, 1, 2);
    checkChain(device.take()!, 2, 1, 2);
    assert.equal(device.take(), null);
  });

  it("kicks exactly when the device asks for it", () => {
    for (const eventIdx of [false, true]) {
      using world = setUp({ size: 9, base: at(6, 0), eventIdx });
      const { ring, device } = world;
      for (let i = 0; i < 60; i++) {
        const count = 1 + (i % 3);
        const wanted = i % 7;
        // The device wants to hear of the slot `wanted` ahead; without EVENT_IDX it says yes or no.
        const flags = eventIdx ? 2 : i % 2;
        device.suppress(flags, wanted);
        for (let j = 0; j < count; j++) add(ring, j, 1, 1);
        assert.equal(ring.publish(), eventIdx ? wanted < 2 * count : flags === 0);
        assert.equal(ring.publish(), false, "nothing new");
        for (let j = 0; j < count; j++) device.complete(device.take()!, 0);
        while (ring.next());
        device.suppress(1);
        add(ring, 9, 0, 1);
        assert.equal(ring.publish(), false, "kicks are off");
        device.complete(device.take()!, 0);
        assert.ok(ring.next());
      }
    }
  });

  it("asks for calls exactly when it waits", () => {
    for (const eventIdx of [false, true]) {
      using world = setUp({ size: 11, base: at(10, 1), eventIdx });
      const { ring, device } = world;
      const completeOne = (): boolean => {
        const chain = device.take()!;
        device.complete(chain, 0);
        return device.wantsCall(chain.slots);
      };
      for (let round = 0; round < 24; round++) {
        for (let i = 0; i < 3; i++) add(ring, i, 1, 1);
        ring.publish();
        ring.disableCalls();
        assert.equal(completeOne(), false, "calls are off");
        assert.equal(ring.enableCalls(), true, "a completion is there");
        assert.ok(ring.next());
        assert.equal(ring.enableCalls(2), false);
        assert.equal(completeOne(), !eventIdx, "the first of two");
        assert.equal(ring.enableCalls(2), !eventIdx, "one of two is there");
        assert.equal(completeOne(), true, "the second of two");
        assert.equal(ring.enableCalls(2), true);
        assert.ok(ring.next() && ring.next());
      }
    }
  });

  it("refuses completions that cannot be right", () => {
    const slots = 2;
    refuses(packed, {
      "a buffer id beyond the ring": (device) => device.complete({ id: 8, slots }, 0),
      "a buffer id that is not in flight": (device, id) =>
        device.complete({ id: (id + 5) % 8, slots }, 0),
      "more bytes than there was room for": (device, id) => device.complete({ id, slots }, 4),
    });
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    const id = add(ring, 1, 1, 1);
    device.complete({ id, slots }, 0);
    assert.throws(() => ring.next(), { fault: "malformed" }, "before it is published");
  });

  it("takes the length for nothing when the device says that it wrote nothing", () => {
    using world = setUp({ size: 8 });
    const { ring, memory, device } = world;
    const id = add(ring, 1, 1, 1);
    ring.publish();
    device.complete({ id, slots: 2 }, 2);
    memory.bytes(ring.place.descriptor + 14, 1)[0]! &= ~2;
    assert.ok(ring.next());
    assert.equal(ring.written, 0);
  });

  it("offers what is in flight again to a device that remembers nothing", () => {
    using world = setUp({ size: 11, base: at(9, 0) });
    offersAgain(packed, world, (token) => token % 2, at(0, 1));
    assert.equal(world.ring.base, at(6, 1));
  });

  it("writes whatever it is told to", () => {
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    const [id] = ring.reserve(1) as [number];
    ring.describe(1, { address: 3, length: 9, flags: 2 | ring.ownerFlags(1), next: id });
    ring.describe(0, { address: 1n << 40n, length: 7, flags: 1 | ring.ownerFlags(), next: 5 });
    ring.offer(id, 77, 9, 2);
    const chain = device.take()!;
    assert.deepEqual(chain, {
      id,
      slots: 2,
      buffers: [
        { address: 2 ** 40, length: 7, writable: false },
        { address: 3, length: 9, writable: true },
      ],
    });
    device.complete(chain, 9);
    assert.ok(ring.next());
    assert.equal(ring.token, 77);
    ring.release([id]);
    assert.equal(ring.freeDescriptors, 8);
    assert.equal(ring.ownerFlags(), AVAIL);
    assert.equal(ring.ownerFlags(6), USED, "the next lap");
    ring.publishIndex(0x8005);
    assert.equal(ring.availableIndex, 0x8005);
  });
});
