/** Drivers' rings of both kinds with a device model each, and what both kinds must do. */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type DriverRing,
  GuestMemory,
  type PackedRing,
  type RingOptions,
} from "../../frontend/mod.ts";
import type { Completed, TakenChain } from "./device-model.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const MEMORY = { size: 2 ** 20 };
/** Room for indirect tables; nothing looks at the buffers themselves. */
const TABLES = 512 * 1024;

type Ring = DriverRing | PackedRing;

/** The device's side. */
interface Device {
  take(): TakenChain | null;
  complete(chain: Completed, written: number): void;
  completeBatch(chains: readonly TakenChain[], written: number): void;
}

/** A kind of ring and the model of its device. */
export interface RingKind<R extends Ring, D extends Device> {
  readonly Ring: new (memory: GuestMemory, options: RingOptions) => R;
  readonly Device: new (memory: GuestMemory, ring: R, base?: number) => D;
}

export interface RingWorld<R, D> extends Disposable {
  readonly memory: GuestMemory;
  readonly ring: R;
  readonly device: D;
  /** Guest address of room for tables. */
  readonly tables: number;
}

export function setUp<R extends Ring, D extends Device>(
  { Ring, Device }: RingKind<R, D>,
  options: RingOptions,
): RingWorld<R, D> {
  const memory = new GuestMemory(MEMORY);
  const ring = new Ring(memory, options);
  const tables = memory.allocate(TABLES);
  const device = new Device(memory, ring, options.base);
  return { memory, ring, device, tables, [Symbol.dispose]: () => memory[Symbol.dispose]() };
}

/**
 * Adds a chain of `readable` and `writable` buffers whose addresses and lengths follow the token.
 * Returns its head, or buffer id, or -1 when the ring is full.
 */
export function add(ring: Ring, token: number, readable: number, writable: number, table = 0) {
  ring.clear();
  for (let i = 0; i < readable + writable; i++) {
    ring.push(token * 4096 + i * 16, i + 1, i >= readable);
  }
  return table === 0 ? ring.add(token) : ring.addIndirect(table, token);
}

/** The chain is the one that `add` made. */
export function checkChain(
  { buffers }: TakenChain,
  token: number,
  readable: number,
  writable: number,
) {
  const expected = Array.from({ length: readable + writable }, (_, i) => ({
    address: token * 4096 + i * 16,
    length: i + 1,
    writable: i >= readable,
  }));
  assert.deepEqual(buffers, expected);
}

const room = ({ buffers }: TakenChain) =>
  buffers.reduce((sum, b) => sum + (b.writable ? b.length : 0), 0);

const moves = fc.array(
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
type Move = typeof moves extends fc.Arbitrary<readonly (infer M)[]> ? M : never;

/** A chain that the device has not taken. */
interface Offered {
  readonly token: number;
  readonly readable: number;
  readonly writable: number;
}

/** Random use of a ring: what goes in is what the device takes, and what it completes comes back. */
class RandomUse {
  /** Chains that were ever made available. */
  added = 0;
  readonly #world: RingWorld<Ring, Device>;
  readonly #inOrder: boolean;
  readonly #offered: Offered[] = [];
  readonly #held: [chain: TakenChain, token: number][] = [];
  readonly #finished: [token: number, written: number][] = [];
  #token = 0;

  constructor(world: RingWorld<Ring, Device>, inOrder: boolean) {
    this.#world = world;
    this.#inOrder = inOrder;
  }

  add({ add: count, readable, writable, indirect }: Move): void {
    const { ring, tables } = this.#world;
    for (let i = 0; i < count; i++) {
      const token = ++this.#token;
      const before = ring.freeDescriptors;
      const needed = indirect ? 1 : readable + writable;
      const table = indirect ? tables + (token % 512) * 128 : 0;
      const id = add(ring, token, readable, writable, table);
      assert.equal(id < 0, needed > before);
      assert.equal(ring.freeDescriptors, id < 0 ? before : before - needed);
      if (id < 0) break;
      this.#offered.push({ token, readable, writable });
      this.added++;
    }
    ring.publish();
  }

  take(count: number): void {
    for (let i = 0; i < count; i++) {
      const chain = this.#world.device.take();
      if (chain === null) return assert.equal(this.#offered.length, 0);
      const { token, readable, writable } = this.#offered.shift()!;
      checkChain(chain, token, readable, writable);
      this.#held.push([chain, token]);
    }
  }

  complete(choices: readonly number[]): void {
    if (this.#inOrder) this.#completeBatch(choices);
    else for (const choice of choices) this.#completeOne(choice);
    assert.equal(this.#world.ring.ready, this.#finished.length > 0);
  }

  #completeOne(choice: number): void {
    const [one] = this.#held.splice(choice % this.#held.length, 1);
    if (one === undefined) return;
    const [chain, token] = one;
    const written = choice % (room(chain) + 1);
    this.#world.device.complete(chain, written);
    this.#finished.push([token, written]);
  }

  /** As many of the oldest as there are choices; all but the last are taken to be filled. */
  #completeBatch(choices: readonly number[]): void {
    const batch = this.#held.splice(0, choices.length);
    const last = batch.at(-1)?.[0];
    if (last === undefined) return;
    const written = choices[0]! % (room(last) + 1);
    const chains = batch.map(([chain]) => chain);
    this.#world.device.completeBatch(chains, written);
    for (const [chain, token] of batch) {
      this.#finished.push([token, chain === last ? written : room(chain)]);
    }
  }

  reap(): void {
    const { ring } = this.#world;
    for (const completion of this.#finished.splice(0)) {
      assert.ok(ring.next());
      assert.deepEqual([ring.token, ring.written], completion);
    }
    assert.equal(ring.next(), false);
    assert.equal(ring.inFlight, this.#held.length + this.#offered.length);
  }
}

/** Agrees with a device on every chain, however the ring is made. `inspect` looks after each move. */
export function agrees<R extends Ring, D extends Device>(
  kind: RingKind<R, D>,
  options: fc.Arbitrary<RingOptions>,
  inspect: (world: RingWorld<R, D>, added: number, options: RingOptions) => void,
): void {
  const property = fc.property(moves, options, (moves, options) => {
    using world = setUp(kind, options);
    const use = new RandomUse(world, options.inOrder ?? false);
    for (const move of moves) {
      use.add(move);
      use.take(move.take);
      use.complete(move.complete);
      inspect(world, use.added, options);
      if (move.reap) use.reap();
    }
  });
  fc.assert(property, { numRuns: full ? 10_000 : 300 });
}

/** Refuses what each act makes of a chain of a readable and a writable buffer, given by its id. */
export function refuses<R extends Ring, D extends Device>(
  kind: RingKind<R, D>,
  wrong: Readonly<Record<string, (device: D, id: number) => void>>,
): void {
  for (const [name, act] of Object.entries(wrong)) {
    using world = setUp(kind, { size: 8 });
    const { ring, device } = world;
    const id = add(ring, 1, 1, 1);
    ring.publish();
    act(device, id);
    assert.throws(() => ring.next(), { fault: "malformed" }, name);
  }
}

/**
 * Offers what is in flight again to a device that remembers nothing: of five chains, `readable`
 * buffers and a writable one each, two are finished out of order. Checks the base to go on from.
 */
export function offersAgain<R extends Ring, D extends Device>(
  { Device }: RingKind<R, D>,
  { memory, ring, device }: RingWorld<R, D>,
  readable: (token: number) => number,
  expectedBase: number,
): void {
  const tokens = [1, 2, 3, 4, 5];
  for (const token of tokens) add(ring, token, readable(token), 1);
  ring.publish();
  const chains = tokens.map(() => device.take()!);
  // 4 and 2 are finished, out of order.
  for (const i of [3, 1]) device.complete(chains[i]!, 0);
  assert.ok(ring.next());
  const base = ring.rewind();
  assert.equal(base, expectedBase);
  const next = new Device(memory, ring, base);
  for (const token of [1, 3, 5]) checkChain(next.take()!, token, readable(token), 1);
  assert.equal(next.take(), null);
  assert.ok(ring.next() && ring.token === 2, "taken after the change");
  for (const i of [4, 0, 2]) next.complete(chains[i]!, 0);
  for (const token of [5, 1, 3]) {
    assert.ok(ring.next());
    assert.equal(ring.token, token);
  }
  assert.equal(ring.freeDescriptors, ring.size);
}
