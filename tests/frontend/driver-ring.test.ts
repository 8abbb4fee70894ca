import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DriverRing, GuestMemory, type RingOptions } from "../../frontend/mod.ts";
import { DeviceModel, type TakenChain } from "./device-model.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const MEMORY = { size: 2 ** 20 };
/** Room for indirect tables; nothing looks at the buffers themselves. */
const TABLES = 512 * 1024;

function setUp(options: RingOptions) {
  const memory = new GuestMemory(MEMORY);
  const ring = new DriverRing(memory, options);
  const tables = memory.allocate(TABLES);
  const device = new DeviceModel(memory, ring, options.base);
  return { memory, ring, device, tables, [Symbol.dispose]: () => memory[Symbol.dispose]() };
}

/** Adds a chain of `readable` and `writable` buffers whose addresses and lengths follow the token. */
function add(
  ring: DriverRing,
  token: number,
  readable: number,
  writable: number,
  table = 0,
): number {
  ring.clear();
  for (let i = 0; i < readable + writable; i++) {
    ring.push(token * 4096 + i * 16, i + 1, i >= readable);
  }
  return table === 0 ? ring.add(token) : ring.addIndirect(table, token);
}

function checkChain({ buffers }: TakenChain, token: number, readable: number, writable: number) {
  const expected = Array.from({ length: readable + writable }, (_, i) => ({
    address: token * 4096 + i * 16,
    length: i + 1,
    writable: i >= readable,
  }));
  assert.deepEqual(buffers, expected);
}

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

describe("DriverRing", () => {
  it("agrees with a device on every chain, in any order of completion, across the wrap", () => {
    const property = fc.property(
      steps,
      fc.constantFrom(1, 2, 8, 64),
      fc.constantFrom(0, 65_500, 65_535),
      fc.boolean(),
      (moves, size, base, legacy) => {
        using world = setUp({ size, base, legacy });
        const { ring, device, tables } = world;
        const shape = new Map<number, [number, number]>();
        const held: [TakenChain, number][] = [];
        const offered: number[] = [];
        const finished: [number, number][] = [];
        let token = 0;
        for (const move of moves) {
          for (let i = 0; i < move.add; i++) {
            token++;
            const table = move.indirect ? tables + (token % 512) * 128 : 0;
            const before = ring.freeDescriptors;
            const needed = move.indirect ? 1 : move.readable + move.writable;
            const head = add(ring, token, move.readable, move.writable, table);
            assert.equal(head < 0, needed > before);
            assert.equal(ring.freeDescriptors, head < 0 ? before : before - needed);
            if (head < 0) break;
            offered.push(token);
            shape.set(token, [move.readable, move.writable]);
          }
          ring.publish();
          assert.equal(ring.availableIndex, (base + shape.size) % 65536);
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
          for (const choice of move.complete) {
            if (held.length === 0) break;
            const [[chain, done]] = held.splice(choice % held.length, 1) as [[TakenChain, number]];
            const room = chain.buffers.reduce((sum, b) => sum + (b.writable ? b.length : 0), 0);
            device.complete(chain.head, choice % (room + 1));
            finished.push([done, choice % (room + 1)]);
          }
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
        for (let j = 0; j < count; j++) device.complete(device.take()!.head, 0);
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
        device.complete(device.take()!.head, 0);
        assert.equal(device.wantsCall(old), false, "calls are off");
        assert.equal(ring.enableCalls(), true, "a completion is there");
        assert.ok(ring.next());
        assert.equal(ring.enableCalls(2), false);
        device.complete(device.take()!.head, 0);
        assert.equal(device.wantsCall((old + 1) % 65536), !eventIdx, "the first of two");
        device.complete(device.take()!.head, 0);
        assert.equal(device.wantsCall((old + 2) % 65536), true, "the second of two");
        assert.ok(ring.next() && ring.next());
      }
    }
  });

  it("refuses completions that cannot be right", () => {
    const wrong: Readonly<Record<string, (device: DeviceModel, head: number) => void>> = {
      "a chain beyond the ring": (device) => device.complete(8, 0),
      "a chain that is not in flight": (device, head) => device.complete((head + 5) % 8, 0),
      "more bytes than there was room for": (device, head) => device.complete(head, 4),
    };
    for (const [name, act] of Object.entries(wrong)) {
      using world = setUp({ size: 8 });
      const { ring, device } = world;
      const head = add(ring, 1, 1, 1);
      ring.publish();
      act(device, head);
      assert.throws(() => ring.next(), { fault: "malformed" }, name);
    }
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    const head = add(ring, 1, 1, 1);
    add(ring, 2, 1, 1);
    ring.publish();
    device.complete(head, 2);
    assert.ok(ring.next());
    device.complete(head, 2);
    assert.throws(() => ring.next(), { fault: "malformed" }, "the same chain twice");
    device.complete(head, 2);
    device.complete(head, 2);
    assert.throws(() => ring.next(), { fault: "malformed" }, "more than are in flight");
  });

  it("takes a batch by its last chain when the device works in order", () => {
    using world = setUp({ size: 8, base: 65_533, inOrder: true });
    const { ring, device } = world;
    const heads = [1, 2, 3, 4].map((token) => add(ring, token, 1, 1));
    ring.publish();
    // One element for three chains: the used index skips what it does not fill.
    device.complete(heads[2]!, 1);
    device.skip(2);
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
    device.complete(add(ring, 6, 1, 1), 0);
    assert.throws(() => ring.next(), { fault: "malformed" }, "the younger one first");
  });

  it("does not take completions of what it has not published", () => {
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    device.complete(add(ring, 1, 1, 1), 0);
    assert.throws(() => ring.next(), { fault: "malformed" });
  });

  it("offers what is in flight again to a device that remembers nothing", () => {
    using world = setUp({ size: 16, base: 65_533 });
    const { memory, ring, device } = world;
    // Leaves the free descriptors in disorder, so that the order of chains is not that of heads.
    for (const token of [1, 2, 3, 4]) add(ring, token, 1, 1);
    ring.publish();
    const early = [0, 1, 2, 3].map(() => device.take()!.head);
    for (const i of [2, 0, 3, 1]) device.complete(early[i]!, 0);
    while (ring.next());
    const tokens = [1, 2, 3, 4, 5];
    for (const token of tokens) add(ring, token, 1, 1);
    ring.publish();
    const chains = tokens.map(() => device.take()!);
    // 4 and 2 are finished, out of order.
    device.complete(chains[3]!.head, 0);
    device.complete(chains[1]!.head, 0);
    assert.ok(ring.next());
    const base = ring.rewind();
    assert.equal(base, (65_533 + 4 + 2) % 65536);
    const next = new DeviceModel(memory, ring, base);
    for (const token of [1, 3, 5]) checkChain(next.take()!, token, 1, 1);
    assert.equal(next.take(), null);
    assert.ok(ring.next() && ring.token === 2, "taken after the change");
    for (const i of [4, 0, 2]) next.complete(chains[i]!.head, 0);
    for (const token of [5, 1, 3]) {
      assert.ok(ring.next());
      assert.equal(ring.token, token);
    }
    assert.equal(ring.freeDescriptors, 16);
  });

  it("writes whatever it is told to", () => {
    using world = setUp({ size: 8 });
    const { ring, device } = world;
    const [first, second] = ring.reserve(2) as [number, number];
    ring.describe(first, { address: 1n << 40n, length: 7, flags: 1, next: second });
    ring.describe(second, { address: 3, length: 9, flags: 2 });
    ring.offer(first, 77, 9);
    ring.publish();
    const { head, buffers } = device.take()!;
    assert.deepEqual(buffers, [
      { address: 2 ** 40, length: 7, writable: false },
      { address: 3, length: 9, writable: true },
    ]);
    device.complete(head, 9);
    assert.ok(ring.next());
    assert.equal(ring.token, 77);
    ring.release([first, second]);
    assert.equal(ring.freeDescriptors, 8);
    ring.publishIndex(1234);
    assert.equal(ring.availableIndex, 1234);
  });
});
