/** Packed rings full of near-valid nonsense, and what a queue must make of them. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { PackedQueue } from "../../core/packed.ts";
import { PackedDriver } from "../core/packed-driver.ts";
import type { Arena } from "./arena.ts";
import {
  address,
  attempt,
  boundedSteps,
  compare,
  length,
  maps,
  readEntries,
  TABLE_LIMIT,
  tables,
} from "./hostile.ts";
import { type PackedEntry, type WalkedChain, walkPacked } from "./packed-model.ts";

const TABLE_ENTRIES = 12;

const flags = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0, 2, 2) },
  { weight: 4, arbitrary: fc.constantFrom(1, 3) },
  { weight: 2, arbitrary: fc.constantFrom(4, 6) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0x7f }) },
);

/** Whether a slot is what it should be for the queue to take it, or else. */
const owner = fc.oneof(
  { weight: 14, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: fc.constantFrom(0, 0x80, 0x8000, 0x8080) },
);

interface SlotPlan extends PackedEntry {
  readonly owner: number | null;
}

const slot: fc.Arbitrary<SlotPlan> = fc.record({
  address,
  length,
  id: fc.oneof({ weight: 4, arbitrary: fc.nat({ max: 0xffff }) }, fc.nat({ max: 5 })),
  flags,
  owner,
});

const entry: fc.Arbitrary<PackedEntry> = fc.record({
  address,
  length,
  id: fc.nat({ max: 0xffff }),
  flags: fc.oneof(
    { weight: 4, arbitrary: fc.constant(2) },
    fc.constant(0),
    fc.nat({ max: 0xffff }),
  ),
});

interface HostilePacked {
  readonly size: number;
  readonly start: number;
  /** The ring as it is made, or as it is after a lap, and both sides begin where a lap ends. */
  readonly base0: "fresh" | "lap" | null;
  readonly indirect: boolean;
  readonly slots: readonly SlotPlan[];
  readonly tables: readonly (readonly PackedEntry[])[];
}

const hostilePacked: fc.Arbitrary<HostilePacked> = fc.integer({ min: 1, max: 17 }).chain((size) =>
  fc.record({
    size: fc.constant(size),
    start: fc.nat({ max: 2 * size - 1 }),
    base0: fc.oneof(
      { weight: 7, arbitrary: fc.constant(null) },
      fc.constantFrom("fresh" as const, "lap" as const),
    ),
    indirect: fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, fc.boolean()),
    slots: fc.array(slot, { minLength: size, maxLength: size }),
    tables: fc.tuple(
      ...tables.map(() => fc.array(entry, { minLength: TABLE_ENTRIES, maxLength: TABLE_ENTRIES })),
    ),
  }),
);

/** Every chain is the one that the specification describes, or the queue refuses with a reason. */
export function survivesHostilePackedRing(arena: Arena, Queue: typeof PackedQueue) {
  return fc.property(hostilePacked, (drawn) => {
    const plan = drawn.base0 === null ? drawn : { ...drawn, start: drawn.size };
    const ring = writeRing(arena, plan);
    const queue = ring.queue({ indirect: plan.indirect }, Queue);
    for (const expected of expectations(arena, ring, plan)) {
      const limit = plan.size + Math.max(plan.size, TABLE_LIMIT);
      const outcome = boundedSteps(limit, () => attempt(queue));
      if (expected === null) return assert.equal(outcome, "refused", "a wrong chain was taken");
      assert.equal(outcome, "taken", "a good chain was not taken");
      assert.equal(queue.chain.head, expected.id, "the buffer id");
      compare(arena.guest, queue.chain, expected.pieces);
    }
    assert.equal(attempt(queue), "none");
  });
}

function writeRing({ guest, rings }: Arena, plan: HostilePacked): PackedDriver {
  const { size, start } = plan;
  const ring = new PackedDriver(guest, { size, at: rings, start });
  plan.tables.forEach((entries, i) => {
    const bytes = new Uint8Array(TABLE_ENTRIES * 16);
    entries.forEach((entry, j) => {
      writeEntry(new DataView(bytes.buffer), j, entry);
    });
    const whole = guest.maps(tables[i]!, bytes.length) ? bytes.length : 64;
    guest.write(tables[i]!, bytes.subarray(0, whole));
  });
  plan.slots.forEach((entry, i) => {
    const at = start + i;
    const made = 0x80 & (entry.owner ?? 0x80);
    const lap = i === size - 1 || entry.owner !== null ? 0x8080 : 0x80;
    const own = entry.owner ?? ring.owner(at);
    const whose = plan.base0 === "fresh" ? made : plan.base0 === "lap" ? lap : own;
    ring.describe(at, { ...entry, flags: entry.flags | whose });
  });
  return ring;
}

function writeEntry(table: DataView, i: number, { address, length, id, flags }: PackedEntry): void {
  table.setBigUint64(16 * i, address, true);
  table.setUint32(16 * i + 8, length, true);
  table.setUint16(16 * i + 12, id, true);
  table.setUint16(16 * i + 14, flags, true);
}

/** Descriptors of memory, in the words of packed rings. */
const entriesAt = (arena: Arena, at: number, count: number): PackedEntry[] =>
  readEntries(arena.guest, at, count).map(({ address, length, flags: id, next: flags }) => ({
    address,
    length,
    id,
    flags,
  }));

/** The available chains, null where the queue must stop. */
function expectations(
  arena: Arena,
  ring: PackedDriver,
  { size, start, indirect }: HostilePacked,
): (WalkedChain | null)[] {
  const entries = entriesAt(arena, arena.rings, size);
  const inFlight = new Set<number>();
  const result: (WalkedChain | null)[] = [];
  // A base of 0 means a ring that nobody has used when it looks like one.
  const unused = entries.every(({ flags }) => (flags & 0x8000) === 0);
  const first = start === size && unused ? 0 : start;
  let at = first;
  for (;;) {
    const chain = walkPacked(entries, at, ring.size - (at - first), {
      indirect,
      maps: maps(arena.guest),
      table: (address, count) => entriesAt(arena, address, count),
    });
    if (chain === undefined) return result;
    if (chain === null || inFlight.has(chain.id)) return [...result, null];
    inFlight.add(chain.id);
    result.push(chain);
    at += chain.slots;
  }
}
