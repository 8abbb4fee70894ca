/** Rings full of near-valid nonsense, and what a queue must make of them. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Chain } from "../../core/chain.ts";
import { GuestError } from "../../core/errors.ts";
import { Iovecs, WINDOW_SIZE } from "../../ffi/mod.ts";
import { DriverRing, type QueueClass, writeDescriptor } from "../core/driver.ts";
import type { TestGuest } from "../core/guest.ts";
import type { Arena } from "./arena.ts";
import { type Piece, type TableEntry, walk } from "./model.ts";

const LARGE = 0x10_0000_0000;
export const TABLE_LIMIT = 1024;

/** Where indirect tables are: inside a region, across two, across a window, and at the very end. */
export const tables = [
  0x9000,
  0x10000 - 40,
  LARGE + WINDOW_SIZE - 24,
  LARGE + WINDOW_SIZE + 0x10000 - 64,
];
const TABLE_ENTRIES = 12;

export const address = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0x10000n - 8n, 0x8000n, BigInt(LARGE) + 5n) },
  { weight: 6, arbitrary: fc.constantFrom(...tables.map(BigInt)) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(0n, 0x1fff0n, 0x2000_0fffn, 0x3000_0000n - 1n, 2n ** 32n - 5n),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(2n ** 53n - 1n, 2n ** 53n, 2n ** 63n + 0x8000n, 2n ** 64n - 1n),
  },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) },
);

export const length = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 1, max: 40 }) },
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 6 }).map((count) => count * 16) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      0,
      0x8000,
      2 ** 30,
      2 ** 31,
      2 ** 32 - 16,
      2 ** 32 - 1,
      16384,
      16400,
    ),
  },
);

const flags = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom(0, 1, 2, 3) },
  { weight: 2, arbitrary: fc.constantFrom(4, 6) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff }) },
);

/** An index that is mostly within a table of `size`. */
const near = (size: number) =>
  fc.oneof(
    { weight: 12, arbitrary: fc.nat({ max: size - 1 }) },
    { weight: 1, arbitrary: fc.constantFrom(size, size + 1, 0xffff) },
  );

const entry = (size: number): fc.Arbitrary<TableEntry> =>
  fc.record({ address, length, flags, next: near(size) });

export interface HostileRing {
  readonly size: number;
  readonly indirect: boolean;
  readonly base: number;
  readonly descriptors: readonly TableEntry[];
  readonly tables: readonly (readonly TableEntry[])[];
  readonly heads: readonly number[];
  /** Added to the available index. */
  readonly advance: number;
}

export const hostileRing: fc.Arbitrary<HostileRing> = fc.nat({ max: 4 }).chain((exponent) => {
  const size = 2 ** exponent;
  const list = (length: number, of: number) =>
    fc.array(entry(of), { minLength: length, maxLength: length });
  return fc.record({
    size: fc.constant(size),
    indirect: fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, fc.boolean()),
    base: fc.constantFrom(0, 5, 0xfffe, 0xffff),
    descriptors: list(size, size),
    tables: fc.tuple(...tables.map(() => list(TABLE_ENTRIES, 6))),
    heads: fc.array(near(size), { minLength: size, maxLength: size }),
    advance: fc.oneof(
      { weight: 8, arbitrary: fc.nat({ max: size }) },
      { weight: 1, arbitrary: fc.constantFrom(size + 1, 0x8000, 0xffff) },
    ),
  });
});

/** Every chain is the one that the specification describes, or the queue refuses with a reason. */
export function survivesHostileRing(arena: Arena, Kind: QueueClass, littleEndian = true) {
  return fc.property(hostileRing, (plan) => {
    const ring = writeRing(arena, plan, littleEndian);
    const queue = ring.queue({ indirect: plan.indirect, base: plan.base }, Kind);
    const expected = expectations(arena.guest, plan, littleEndian);
    for (const pieces of expected) {
      const limit = plan.size + Math.max(plan.size, TABLE_LIMIT);
      const outcome = boundedSteps(limit, () => attempt(queue));
      if (pieces === null) return assert.equal(outcome, "refused", "a wrong chain was taken");
      assert.equal(outcome, "taken", "a good chain was not taken");
      compare(arena.guest, queue.chain, pieces);
    }
    assert.equal(attempt(queue), "none");
  });
}

function writeRing(arena: Arena, plan: HostileRing, littleEndian: boolean): DriverRing {
  const { guest } = arena;
  const { size, base } = plan;
  const ring = new DriverRing(guest, { size, at: arena.rings, base, littleEndian });
  plan.tables.forEach((entries, i) => {
    const bytes = new Uint8Array(TABLE_ENTRIES * 16);
    entries.forEach((entry, j) => {
      writeDescriptor(new DataView(bytes.buffer), j, entry, littleEndian);
    });
    const whole = guest.maps(tables[i]!, bytes.length) ? bytes.length : 64;
    guest.write(tables[i]!, bytes.subarray(0, whole));
  });
  plan.descriptors.forEach((descriptor, i) => {
    ring.describe(i, descriptor);
  });
  for (const head of plan.heads) ring.push(head);
  ring.availableIndex = (plan.base + plan.advance) % 65536;
  ring.show();
  return ring;
}

/** For each available chain its buffers, or null where the queue must stop. */
function expectations(
  guest: TestGuest,
  plan: HostileRing,
  littleEndian: boolean,
): (readonly Piece[] | null)[] {
  const { size, indirect, heads, advance, descriptors } = plan;
  if (advance > size) return [null];
  const result: (readonly Piece[] | null)[] = [];
  const inFlight = new Set<number>();
  for (const head of heads.slice(0, advance)) {
    const pieces = inFlight.has(head)
      ? null
      : walk(descriptors, head, {
          indirect,
          maps: maps(guest),
          table: (at, count) => readEntries(guest, at, count, littleEndian),
        });
    inFlight.add(head);
    result.push(pieces);
    if (pieces === null) break;
  }
  return result;
}

/** Tells whether the guest has all of a buffer. */
export const maps = (guest: TestGuest) => (at: bigint, length: number) =>
  at + BigInt(length) <= 2n ** 53n && guest.maps(Number(at), length);

export function readEntries(
  guest: TestGuest,
  address: number,
  count: number,
  littleEndian = true,
): TableEntry[] {
  const bytes = guest.read(address, count * 16);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: count }, (_, i) => ({
    address: view.getBigUint64(16 * i, littleEndian),
    length: view.getUint32(16 * i + 8, littleEndian),
    flags: view.getUint16(16 * i + 12, littleEndian),
    next: view.getUint16(16 * i + 14, littleEndian),
  }));
}

/** Anything but a `GuestError` is an error of ours. */
export function attempt(queue: { next(): boolean }): "taken" | "none" | "refused" {
  try {
    return queue.next() ? "taken" : "none";
  } catch (error) {
    if (!(error instanceof GuestError)) throw error;
    assert.match(error.rule, /^virtio 1\.3 2\.[78]/);
    assert.match(error.message, /^[^\n]+$/);
    return "refused";
  }
}

/**
 * Fails when `body` appends more than `limit` buffers to a chain the long way, which is the one that a
 * walk without end takes sooner or later.
 */
export function boundedSteps<T>(limit: number, body: () => T): T {
  const { append } = Chain.prototype;
  let steps = 0;
  Chain.prototype.append = function (...buffer) {
    if (++steps > limit) throw new Error(`more than ${limit} descriptors`);
    append.apply(this, buffer);
  };
  try {
    return body();
  } finally {
    Chain.prototype.append = append;
  }
}

/** The chain consists of exactly these buffers, at the right addresses of this process. */
export function compare(guest: TestGuest, chain: Chain, pieces: readonly Piece[]): void {
  const iovecs = new Iovecs();
  assert.ok(chain.readableIovecs(iovecs, 0, chain.readableBytes));
  assert.ok(chain.writableIovecs(iovecs, 0, chain.writableBytes));
  const sum = (writable: boolean) =>
    pieces.reduce((sum, piece) => sum + (piece.writable === writable ? piece.length : 0), 0);
  assert.equal(chain.readableBytes, sum(false));
  assert.equal(chain.writableBytes, sum(true));
  let i = 0;
  let within = 0;
  for (const { address, length } of pieces) {
    for (let at = address; at < address + length; ) {
      const [low, high, size] = iovecs.words.subarray(4 * i, 4 * i + 3);
      const host = high! * 2 ** 32 + low! + within;
      const step = Math.min(address + length - at, size! - within);
      assert.equal(host, guest.host(at, 1), "the address of a buffer");
      assert.equal(host + step - 1, guest.host(at + step - 1, 1), "the end of a buffer");
      at += step;
      within += step;
      if (within === size) {
        i++;
        within = 0;
      }
    }
  }
  assert.equal(i, iovecs.count, "there are more buffers than offered");
}
