import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { AVAIL, GuestMemory, PackedRing, type RingOptions, USED } from "../../frontend/mod.ts";
import { PackedDeviceModel, type TakenPacked } from "./packed-device-model.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const MEMORY = { size: 2 ** 20 };
/** Room for indirect tables; nothing looks at the buffers themselves. */
const TABLES = 512 * 1024;

function setUp(options: RingOptions) {
  const memory = new GuestMemory(MEMORY);
  const ring = new PackedRing(memory, options);
  const tables = memory.allocate(TABLES);
  const device = new PackedDeviceModel(memory, ring, options.base);
  return { memory, ring, device, tables, [Symbol.dispose]: () => memory[Symbol.dispose]() };
}

/** Both positions at a slot with a wrap counter. */
const at = (slot: number, wrap: number) => ((slot | (wrap << 15)) * 0x10001) >>> 0;

/** Adds a chain of `readable` and `writable` buffers whose addresses and lengths follow the token. */
function add(ring: PackedRing, token: number, readable: number, writable: number, table = 0) {
  ring.clear();
  for (let i = 0; i < readable + writable; i++) {
    ring.push(token * 4096 + i * 16, i + 1, i >= readable);
  }
  return table === 0 ? ring.add(token) : ring.addIndirect(table, token);
}

function checkChain({ buffers }: TakenPacked, token: number, readable: number, writable: number) {
  const expected = Array.from({ length: readable + writable }, (_, i) => ({
    address: token * 4096 + i * 16,
    length: i + 1,
    writable: i >= readable,
  }));
  assert.deepEqual(buffers, expected);
}

const room = ({ buffers }: TakenPacked) =>
  buffers.reduce((sum, b) => sum + (b.writable ? b.length : 0), 0);

const steps = fc.array(
  fc.record({
    add: fc.integer({ min: 0, max: 5 }),
    readable: fc.integer({ min: 0, max: 3 }),
    writable: fc.integer({ min: 1, max: 3 }),
    indirect: fc.boolean(),
    take: fc.integer({ min: 0, max: 5 }),
    complete: fc.array(fc.nat(), { maxLength: 5 }),
    reap: fc.boolean(),
  }),
  { maxLength: 60 },
);

describe("PackedRing", () => {
  for (const inOrder of [false, true]) {
    const order = inOrder ? "in order and in batches" : "in any order of completion";
    it(`agrees with a device on every chain, ${order}, across the wrap`, () => {
      const property = fc.property(
        steps,
        fc.constantFrom([1, 0], [2, 1], [3, 0], [7, 5], [8, 7], [64, 60], [100, 99] as const),
        fc.constantFrom(0, 1),
        (moves, [size, slot], wrap) => {
          using world = setUp({ size: size!, base: at(slot!, wrap), inOrder });
          const { ring, device, tables } = world;
          const shape = new Map<number, [number, number]>();
          const held: [TakenPacked, number][] = [];
          const offered: number[] = [];
          const finished: [number, number][] = [];
          let token = 0;
          for (const move of moves) {
            for (let i = 0; i < move.add; i++) {
              token++;
              const table = move.indirect ? tables + (token % 512) * 128 : 0;
              const before = ring.freeDescriptors;
              const needed = move.indirect ? 1 : move.readable + move.writable;
              const id = add(ring, token, move.readable, move.writable, table);
              assert.equal(id < 0, needed > before);
              assert.equal(ring.freeDescriptors, id < 0 ? before : before - needed);
              if (id < 0) break;
              offered.push(token);
              shape.set(token, [move.readable, move.writable]);
            }
            ring.publish();
            for (let i = 0; i < move.take; i++) {
              const chain = device.take();
              if (chain === null) {
                assert.equal(offered.length, 0);
                break;
              }
              const taken = offered.shift()!;
              checkChain(chain, taken, ...shape.get(taken)!);
              held.push([chain, taken]);
            }
            if (inOrder && move.complete.length > 0 && held.length > 0) {
              const batch = held.splice(0, move.complete.length);
              const last = batch.at(-1)![0];
              const slots = batch.reduce((sum, [{ slots }]) => sum + slots, 0);
              const written = move.complete[0]! % (room(last) + 1);
              device.complete(last.id, slots, written);
              finished.push(
                ...batch.map(
                  ([chain, done]) =>
                    [done, chain === last ? written : room(chain)] as [number, number],
                ),
              );
            }
            for (const choice of inOrder ? [] : move.complete) {
              if (held.length === 0) break;
              const [[chain, done]] = held.splice(choice % held.length, 1) as [
                [TakenPacked, number],
              ];
              device.complete(chain.id, chain.slots, choice % (room(chain) + 1));
              finished.push([done, choice % (room(chain) + 1)]);
            }
            assert.equal(ring.ready, finished.length > 0);
            const { used } = device;
            assert.equal(ring.shownUsedIndex, used.slot | (used.lap % 2 === 0 ? 0x8000 : 0));
            if (!move.reap) continue;
            for (const [expected, written] of finished.splice(0)) {
              assert.ok(ring.next());
              assert.deepEqual([ring.token, ring.written], [expected, written]);
            }
            assert.equal(ring.next(), false);
            assert.equal(ring.inFlight, held.length + offered.length);
          }
        },
      );
      fc.assert(property, { numRuns: full ? 10_000 : 300 });
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
        for (let j = 0; j < count; j++) {
          const { id, slots } = device.take()!;
          device.complete(id, slots, 0);
        }
        while (ring.next());
        device.suppress(1);
        add(ring, 9, 0, 1);
        assert.equal(ring.publish(), false, "kicks are off");
        device.complete(device.take()!.id, 1, 0);
        assert.ok(ring.next());
      }
    }
  });

  it("asks for calls exactly when it waits", () => {
    for (const eventIdx of [false, true]) {
      using world = setUp({ size: 11, base: at(10, 1), eventIdx });
      const { ring, device } = world;
      const completeOne = (): boolean => {
        const { id, slots } = device.take()!;
        device.complete(id, slots, 0);
        return device.wantsCall(slots);
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
    const wrong: Readonly<Record<string, (device: PackedDeviceModel, id: number) => void>> = {
      "a buffer id beyond the ring": (device) => device.complete(8, 2, 0),
      "a buffer id that is not in flight": (device, id) => device.complete((id + 5) % 8, 2, 0),
      "more bytes than there was room for": (device, id) => device.complete(id, 2, 4),
    };
    for (const [name, act] of Object.entries(wrong)) {
      using world = setUp({ size: 8 });
      const { ring, device } = world;
      const id = add(ring, 1, 1, 1);
      ring.publish();
      act(device, id);
      assert.throws(() => ring.next(), { fault: "malformed" }, name);
    }
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    const id = add(ring, 1, 1, 1);
    device.complete(id, 2, 0);
    assert.throws(() => ring.next(), { fault: "malformed" }, "before it is published");
  });

  it("takes the length for nothing when the device says that it wrote nothing", () => {
    using world = setUp({ size: 8 });
    const { ring, memory, device } = world;
    const id = add(ring, 1, 1, 1);
    ring.publish();
    device.complete(id, 2, 2);
    memory.bytes(ring.place.descriptor + 14, 1)[0]! &= ~2;
    assert.ok(ring.next());
    assert.equal(ring.written, 0);
  });

  it("offers what is in flight again to a device that remembers nothing", () => {
    using world = setUp({ size: 11, base: at(9, 0) });
    const { memory, ring, device } = world;
    const tokens = [1, 2, 3, 4, 5];
    for (const token of tokens) add(ring, token, token % 2, 1);
    ring.publish();
    const chains = tokens.map(() => device.take()!);
    // 4 and 2 are finished, out of order.
    for (const i of [3, 1]) device.complete(chains[i]!.id, chains[i]!.slots, 0);
    assert.ok(ring.next());
    const base = ring.rewind();
    assert.equal(base, at(0, 1));
    const next = new PackedDeviceModel(memory, ring, base);
    for (const token of [1, 3, 5]) checkChain(next.take()!, token, 1, 1);
    assert.equal(next.take(), null);
    assert.ok(ring.next() && ring.token === 2, "taken after the change");
    for (const i of [4, 0, 2]) next.complete(chains[i]!.id, chains[i]!.slots, 0);
    for (const token of [5, 1, 3]) {
      assert.ok(ring.next());
      assert.equal(ring.token, token);
    }
    assert.equal(ring.freeDescriptors, 11);
    assert.equal(ring.base, at(6, 1));
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
    device.complete(id, 2, 9);
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
