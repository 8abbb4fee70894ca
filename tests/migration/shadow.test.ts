/**
 * A migration in small: each marked page is copied as soon as it is marked, the earliest moment that
 * a front-end could choose, and the mark is taken. Whatever a queue does, the copy equals memory.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DirtyLog } from "../../core/dirty-log.ts";
import type { Queue } from "../../core/queue.ts";
import { type Buffer, DriverRing } from "../core/driver.ts";
import { TestGuest } from "../core/guest.ts";
import { PackedDriver } from "../core/packed-driver.ts";

const full = process.env.RINGSIDE_TEST_FULL === "1";
const PAGE = 4096;
const MEMORY = 80 * PAGE;
/** Buffers lie behind ring and tables. */
const TABLES = 16 * PAGE;
const BUFFERS = 32 * PAGE;
/** Descriptors: a packed ring of so many, and the used part of a split one, are longer than a page. */
const SIZE = 512;

interface Side {
  readonly queue: Queue;
  readonly free: () => boolean;
  offer(token: number, buffers: readonly Buffer[], table?: number): void;
  reap(): void;
}

function splitSide(guest: TestGuest, log: DirtyLog, features: object): Side {
  const ring = new DriverRing(guest, { size: SIZE, at: 0 });
  const { used, descriptor: descriptors } = ring.at;
  return {
    queue: ring.queue({ ...features, log: { log, ring: used, descriptors } }),
    free: () => ring.free.length > 8,
    offer: (_, buffers, table) =>
      void ring.offer(buffers, table === undefined ? buffers.length : 0, table),
    reap: () => void ring.reap(),
  };
}

function packedSide(guest: TestGuest, log: DirtyLog, features: object): Side {
  const ring = new PackedDriver(guest, { size: SIZE, at: 0 });
  const { used, descriptor: descriptors } = ring.at;
  const next = (token: number): number =>
    ring.has(token % 65536) ? next(token + 1) : token % 65536;
  return {
    queue: ring.queue({ ...features, log: { log, ring: used, descriptors } }),
    free: () => ring.free > 8,
    offer: (token, buffers, table) => ring.offer(next(token), buffers, table),
    reap: () => void ring.reap(),
  };
}

/** The xorshift32 sequence: a number below `limit`. */
function randomFrom(seed: number): (limit: number) => number {
  let x = seed | 1;
  return (limit) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % limit;
  };
}

function simulate(makeSide: typeof splitSide, seed: number, steps: number): void {
  const random = randomFrom(seed);
  using guest = new TestGuest([
    { guestAddress: 0, size: MEMORY / 2, at: 0, file: 0 },
    { guestAddress: MEMORY / 2, size: MEMORY / 2, at: 0, file: 1 },
  ]);
  const copy = new Uint8Array(MEMORY);
  const log = new DirtyLog();
  log.mark = (address, length) => {
    if (length === 0) return;
    const from = Math.floor(address / PAGE) * PAGE;
    const to = Math.min(MEMORY, Math.ceil((address + length) / PAGE) * PAGE);
    copy.set(guest.read(from, to - from), from);
  };
  const eventIdx = seed % 2 === 0;
  const inOrder = seed % 3 === 0;
  const { queue, free, offer, reap } = makeSide(guest, log, { eventIdx, inOrder });
  const held: { head: number; fill: () => void }[] = [];
  /** What the driver writes is known by other means. */
  const driver = (action: () => void) => {
    action();
    copy.set(guest.read(0, MEMORY));
  };
  const buffer = (writable: boolean): Buffer => {
    const length = 1 + random(random(2) === 0 ? 64 : 3 * PAGE);
    return { address: BUFFERS + random(MEMORY - BUFFERS - length), length, writable };
  };
  let added = 0;
  const add = (step: number) => {
    const buffers = [
      ...Array.from({ length: random(3) }, () => buffer(false)),
      ...Array.from({ length: 1 + random(3) }, () => buffer(true)),
    ];
    const table = random(2) === 0 ? TABLES + 100 * (added++ % 600) : undefined;
    offer(step, buffers, table);
  };
  const take = (step: number) => {
    if (!queue.next()) return;
    if (random(8) === 0) return queue.putBack();
    const spans = Array.from({ length: queue.chain.writableCount }, (_, i) =>
      queue.chain.writable(i),
    );
    held.push({
      head: queue.chain.head,
      fill: () => spans.forEach((span, i) => void span.fill((step + i) & 0xff)),
    });
  };
  const complete = () => {
    if (held.length === 0) return;
    const [{ head, fill }] = held.splice(random(held.length), 1) as [(typeof held)[0]];
    fill();
    queue.complete(head, random(2));
  };
  const check = (step: number) => {
    // What waits for its turn is written, and marked when the driver may see it.
    while (inOrder && held.length > 0) complete();
    queue.publish();
    const real = guest.read(0, MEMORY);
    if (Buffer.compare(real, copy) === 0) return;
    const wrong = real.findIndex((byte, i) => byte !== copy[i]);
    assert.equal(wrong, -1, `seed ${seed}, step ${step}: memory differs from ${wrong} on`);
  };
  for (let step = 0; step < steps; step++) {
    const what = random(8);
    if (what < 3) {
      driver(() => {
        for (let i = random(8); i > 0 && free(); i--) add(step);
      });
    } else if (what < 5) for (let i = random(8); i > 0; i--) take(step);
    else if (what === 5) for (let i = random(24); i > 0; i--) complete();
    else if (what === 6) queue.requestKick();
    else queue.suppressKicks();
    if (random(4) === 0) {
      check(step);
      driver(reap);
    }
  }
  while (held.length > 0) complete();
  check(steps);
}

describe("a migration in small", () => {
  for (const [kind, makeSide] of Object.entries({ split: splitSide, packed: packedSide })) {
    test(`of a ${kind} queue copies all that it writes`, () => {
      for (let seed = 1; seed <= (full ? 400 : 6); seed++) simulate(makeSide, seed, 400);
    });
  }
});
