/** Random entries of an IOTLB against a plain table of what each address leads to. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { Access } from "../../core/address-space.ts";
import { AccessFailure, Iotlb, MAX_ENTRIES, TranslationMiss } from "../../core/iotlb.ts";
import { RangeMap } from "../../core/range-map.ts";
import { regionSpec, TestGuest, userAddress } from "../core/guest.ts";
import { full } from "./property.ts";

/** What addresses, sizes and borders are multiples of, in bytes. */
const UNIT = 512;
/** I/O addresses begin here, beyond 32 bits, and there are so many units of them. */
const BASE = 0x3_ffff_f000;
const UNITS = 96;
/** Units of guest memory. */
const MEMORY = 128;

interface Known {
  /** Guest-physical address. */
  readonly address: number;
  readonly access: number;
}

type Step =
  | { kind: "update"; at: number; count: number; target: number; access: number }
  | { kind: "invalidate"; at: number; count: number }
  | { kind: "table"; regions: number };

const count = fc.oneof(fc.constantFrom(8, 8, 16), fc.integer({ min: 1, max: 40 }));
const at = fc.oneof(
  fc.integer({ min: 0, max: 11 }).map((page) => page * 8),
  fc.integer({ min: 0, max: UNITS - 1 }),
);
const access = fc.integer({ min: 1, max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("update" as const),
      at,
      count,
      target: fc.oneof(at, fc.integer({ min: 0, max: MEMORY - 1 })),
      access,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("invalidate" as const), at, count }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("table" as const),
      regions: fc.integer({ min: 1, max: 3 }),
    }),
  },
);
const look = fc.record({ at, skew: fc.nat(UNIT - 1), length: fc.nat(20 * UNIT), access });

describe("Iotlb", () => {
  // Adjacent regions, which lie in another order in their file, and whose user addresses differ.
  const regions = [
    { guestAddress: 0x10000, size: 48 * UNIT, at: 0x10000 },
    { guestAddress: 0x10000 + 48 * UNIT, size: 40 * UNIT, at: 0 },
    { guestAddress: 0x10000 + 88 * UNIT, size: 40 * UNIT, at: 0x20000 },
  ];
  const guest = new TestGuest(regions);
  after(() => guest[Symbol.dispose]());

  class World {
    readonly iotlb = new Iotlb(guest.memory);
    readonly table = new Map<number, Known>();
    #regions = 3;
    readonly #byGuest: boolean;

    constructor(byGuest: boolean) {
      this.#byGuest = byGuest;
      this.iotlb.guestAddresses = byGuest;
      this.share(3);
    }

    share(regionCount: number): void {
      this.#regions = regionCount;
      const some = regions.slice(0, regionCount);
      const fds = some.map(() => guest.files[0]!);
      guest.memory.replace(some.map(regionSpec), fds);
    }

    /** What a unit leads to, as far as there is memory. */
    known(unit: number): Known | undefined {
      const known = this.table.get(unit);
      const { guestAddress, size } = regions[this.#regions - 1]!;
      return known !== undefined && known.address < guestAddress + size ? known : undefined;
    }

    run(step: Step): void {
      if (step.kind === "table") return this.share(step.regions);
      const end = Math.min(step.at + step.count, UNITS);
      const start = BASE + step.at * UNIT;
      const size = (end - step.at) * UNIT;
      if (step.kind === "invalidate") return this.#invalidate(step.at, end);
      const target = 0x10000 + step.target * UNIT;
      const wire = this.#byGuest ? target : userAddress(target);
      const last = regions[this.#regions - 1]!;
      const reaches = target + size <= last.guestAddress + last.size;
      assert.equal(this.iotlb.reaches(wire, size), reaches);
      if (!reaches) return;
      this.#update(step, end, start, size, target);
    }

    #update(
      { at: first, access: allowed }: { at: number; access: number },
      end: number,
      start: number,
      size: number,
      target: number,
    ): void {
      const wire = this.#byGuest ? target : userAddress(target);
      let contradicts = false;
      for (let unit = first; unit < end; unit++) {
        const old = this.table.get(unit);
        const address = target + (unit - first) * UNIT;
        if (old !== undefined && (old.address !== address || (old.access & ~allowed) !== 0)) {
          contradicts = true;
        }
        this.table.set(unit, { address, access: allowed });
      }
      assert.equal(this.iotlb.contradicts(start, size, wire, allowed), contradicts);
      this.iotlb.set(start, size, wire, allowed);
    }

    #invalidate(first: number, end: number): void {
      const expected = new Set<number>();
      for (let unit = first; unit < end; unit++) {
        const known = this.known(unit);
        if (known !== undefined) expected.add(known.address);
        this.table.delete(unit);
      }
      const pieces = this.iotlb.remove(BASE + first * UNIT, BASE + end * UNIT);
      const got = new Set<number>();
      for (const { slot, from, to } of pieces!) {
        const { physical } = guest.memory.slots[slot]!;
        for (let offset = from; offset < to; offset += UNIT) got.add(physical + offset);
      }
      assert.deepEqual(got, expected);
    }

    /** The guest address of each byte's unit from an I/O address on, as far as it can be accessed. */
    expected(address: number, length: number, wanted: number): number[] {
      const result: number[] = [];
      for (let done = 0; done < length; ) {
        const within = (address + done) % UNIT;
        const known = this.known((address + done - within - BASE) / UNIT);
        if (known === undefined || (known.access & wanted) !== wanted) break;
        const size = Math.min(UNIT - within, length - done);
        for (let i = 0; i < size; i++) result.push(known.address + within + i);
        done += size;
      }
      return result;
    }
  }

  function check(world: World, address: number, length: number, wanted: number): void {
    const { iotlb } = world;
    const { slots } = guest.memory;
    const expected = world.expected(address, length, wanted);
    const got: number[] = [];
    while (got.length < length) {
      const window = iotlb.find(address + got.length, wanted);
      if (window === null) break;
      assert.ok(window.base <= address + got.length && address + got.length < window.end);
      const first = address + got.length - window.origin;
      const end = Math.min(window.end, address + length) - window.origin;
      for (let i = first; i < end; i++) got.push(window.physical + i);
      assert.equal(slots[window.slot]?.u8, window.u8);
    }
    assert.deepEqual(got, expected);
    if (got.length < length) {
      const missed = address + got.length;
      const lacks = world.known(Math.floor((missed - BASE) / UNIT)) === undefined;
      const fault = iotlb.fault("a buffer", address, length, missed, wanted);
      assert.ok(fault instanceof (lacks ? TranslationMiss : AccessFailure));
      assert.equal(fault.address, missed);
    }
    for (const [high, low] of [[Math.floor(address / 2 ** 32), address | 0]] as const) {
      // Twice: the second time it may be remembered.
      for (let i = 0; i < 2; i++) {
        const slot = iotlb.locate(high, low, length, wanted);
        const whole = expected.length === length && length > 0;
        const straight = whole && expected.at(-1)! - expected[0]! === length - 1;
        if (slot < 0) continue;
        assert.ok(straight, "what is located is in one piece");
        assert.equal(slots[slot]!.physical + iotlb.offset, expected[0]);
      }
    }
  }

  for (const byGuest of [false, true]) {
    const kind = byGuest ? "guest" : "user";
    test(`finds what a plain table of ${kind} addresses does`, { timeout: 100_000 }, () => {
      const scenario = fc.array(fc.tuple(step, fc.array(look, { maxLength: 4 })), {
        minLength: 1,
        maxLength: 30,
      });
      const property = fc.property(scenario, (steps) => {
        const world = new World(byGuest);
        for (const [what, looks] of steps) {
          world.run(what);
          for (const { at: unit, skew, length, access: wanted } of looks) {
            check(world, BASE + unit * UNIT + skew, length, wanted);
          }
        }
        for (let page = 0; page < UNITS; page += 8) {
          check(world, BASE + page * UNIT, 8 * UNIT, Access.READ);
        }
      });
      fc.assert(property, { numRuns: full ? 10_000 : 1000 });
    });
  }

  test("remembers what is in one piece", () => {
    const iotlb = new Iotlb(guest.memory);
    guest.memory.replace(
      regions.map(regionSpec),
      [0, 1, 2].map(() => guest.files[0]!),
    );
    for (let page = 0; page < 4; page++) {
      iotlb.set(BASE + page * 4096, 4096, userAddress(0x10000 + page * 4096), 3);
    }
    const [high, low] = [Math.floor(BASE / 2 ** 32), BASE | 0];
    // Neighbours whose memory is adjacent are one.
    const slot = iotlb.locate(high, low, 4 * 4096, Access.WRITE);
    assert.ok(slot >= 0);
    assert.equal(iotlb.locate(high, low, 4 * 4096 + 1, Access.WRITE), -1);
    assert.equal(iotlb.locate(high, low, 0, Access.READ), -1);
    assert.equal(iotlb.locate(high, low, -1, Access.READ), -1);
    assert.equal(iotlb.locate(high, low, 4 * 4096, Access.READ), slot);
    iotlb.remove(BASE + 4096, BASE + 4097);
    assert.equal(iotlb.locate(high, low, 4097, Access.READ), -1);
    assert.equal(iotlb.locate(high, low, 4096, Access.READ), slot);
  });

  test("has a limit, beyond which it forgets some entries and finds the others", () => {
    const iotlb = new Iotlb(guest.memory);
    const target = userAddress(0x10000);
    const all = MAX_ENTRIES + 5000;
    for (let i = 0; i < all; i++) iotlb.set(i * 8192, 4096, target, 3);
    assert.ok(iotlb.size <= MAX_ENTRIES && iotlb.size > MAX_ENTRIES - 1000, `${iotlb.size}`);
    assert.ok(
      iotlb.locate(Math.floor(((all - 1) * 8192) / 2 ** 32), ((all - 1) * 8192) | 0, 4096, 1) >= 0,
    );
    let found = 0;
    for (let i = 0; i < all; i++) if (iotlb.find(i * 8192) !== null) found++;
    assert.equal(found, iotlb.size);
    iotlb.remove(0, 2 ** 64);
    assert.equal(iotlb.size, 0);
  });
});

describe("RangeMap", () => {
  test("holds what a plain table holds, in blocks that are full or empty or joined", () => {
    const change = fc.record({
      start: fc.nat(4000),
      length: fc.oneof(fc.constant(1), fc.nat(8), fc.nat(3000)),
      set: fc.boolean(),
      step: fc.integer({ min: 1, max: 3 }),
      repeat: fc.oneof(fc.constant(1), fc.nat(600)),
    });
    const property = fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
      const map = new RangeMap();
      const table = new Map<number, number>();
      for (const { start, length, set, step: by, repeat } of changes) {
        for (let i = 0; i < repeat; i++) {
          const first = start + i * by;
          const end = first + (repeat > 1 ? 1 : length + 1);
          if (set) map.set(first, end, first * 3 + 1, 1);
          else map.delete(first, end);
          for (let at = first; at < end; at++) {
            if (set) table.set(at, first * 2 + 1);
            else table.delete(at);
          }
        }
      }
      let sum = 0;
      for (let at = 0; map.seekFrom(at); at = map.end) {
        sum += map.end - map.start;
        assert.ok(map.start >= at && map.end > map.start);
        for (let unit = map.start; unit < map.end; unit++) {
          // The target less the address, which a cut must not change.
          assert.equal(map.target - map.start, table.get(unit), `${unit}`);
        }
      }
      assert.equal(sum, table.size);
    });
    fc.assert(property, { numRuns: full ? 10_000 : 1000 });
  });
});
