import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createMemfd } from "../../ffi/mod.ts";
import { GuestMemory, planRegion } from "../../frontend/mod.ts";

const SIZE = 64 * 1024;

describe("GuestMemory", () => {
  it("has regions next to each other whose other addresses are not", () => {
    for (const oneFile of [false, true]) {
      using memory = new GuestMemory({ regions: 3, size: SIZE, oneFile });
      const plans = memory.regions.map(({ plan }) => plan);
      plans.slice(1).forEach((plan, i) => {
        assert.equal(plan.guestAddress, plans[i]!.guestAddress + SIZE);
        assert.ok(Math.abs(plan.userAddress - plans[i]!.userAddress) > SIZE);
        assert.equal(Math.sign(plan.offset - plans[i]!.offset), oneFile ? -1 : 1);
      });
      for (const { guestAddress, userAddress } of plans) {
        assert.ok(guestAddress > 2 ** 32 && Number.isSafeInteger(userAddress + SIZE));
      }
    }
  });

  it("reads and writes across regions, and views within one", () => {
    using memory = new GuestMemory({ regions: 2, size: SIZE });
    const [first, second] = memory.regions;
    const data = Uint8Array.from({ length: 100 }, (_, i) => i);
    memory.write(first!.end - 40, data);
    assert.deepEqual(memory.read(first!.end - 40, 100), data);
    assert.deepEqual(memory.bytes(first!.end - 40, 40), data.subarray(0, 40));
    assert.deepEqual(memory.bytes(second!.plan.guestAddress, 60), data.subarray(40));
    assert.throws(() => memory.bytes(first!.end - 40, 41), /as one array/);
    assert.throws(() => memory.read(second!.end - 1, 2), /in no region/);
    assert.equal(memory.userAddress(second!.plan.guestAddress + 5), second!.plan.userAddress + 5);
  });

  it("ends with its regions, which need not be whole pages", () => {
    using memory = new GuestMemory({ regions: 0 });
    const { plan } = memory.add(planRegion(0, 5000, 0));
    assert.equal(memory.bytes(plan.guestAddress + 4900, 100).length, 100);
    assert.throws(() => memory.bytes(plan.guestAddress + 4900, 101), /as one array/);
    assert.throws(() => memory.read(plan.guestAddress + 4900, 101), /in no region/);
  });

  it("shares its regions through their files", () => {
    using file = createMemfd("test", 3 * SIZE);
    using memory = new GuestMemory({ regions: 0 });
    memory.add(planRegion(0, SIZE, 2 * SIZE), file.duplicate());
    memory.add(planRegion(1, SIZE, 0), file.duplicate());
    using whole = new GuestMemory({ regions: 0 });
    whole.add(planRegion(0, 3 * SIZE, 0), file.duplicate());
    memory.write(memory.regions[1]!.plan.guestAddress, Uint8Array.of(1));
    memory.write(memory.regions[0]!.plan.guestAddress, Uint8Array.of(2));
    const start = whole.regions[0]!.plan.guestAddress;
    assert.equal(whole.read(start, 1)[0], 1);
    assert.equal(whole.read(start + 2 * SIZE, 1)[0], 2);
  });

  it("allocates aligned and disjoint, in the next region when one is full, and not in margins", () => {
    using memory = new GuestMemory({ regions: 2, size: SIZE, margin: 4096 });
    const taken: [number, number][] = [];
    for (;;) {
      try {
        const address = memory.allocate(3000, 512);
        taken.push([address, address + 3000]);
      } catch (error) {
        assert.match((error as Error).message, /it is used up/);
        break;
      }
    }
    assert.ok(taken.length >= 2 * Math.floor((SIZE - 8192) / 3072));
    taken.forEach(([start, end], i) => {
      assert.equal(start % 512, 0);
      assert.ok(i === 0 || start >= taken[i - 1]![1]);
      const { plan, end: limit } = memory.regionOf(start);
      assert.ok(start >= plan.guestAddress + 4096 && end <= limit - 4096);
    });
  });

  it("appends and removes regions", () => {
    using memory = new GuestMemory({ regions: 2, size: SIZE });
    const region = memory.append();
    memory.write(region.plan.guestAddress - 1, Uint8Array.of(1, 2));
    assert.equal(memory.regions.length, 3);
    memory.remove(region);
    assert.throws(() => memory.read(region.plan.guestAddress, 1), /in no region/);
    region[Symbol.dispose]();
  });
});
