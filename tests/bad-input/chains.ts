/** Wrong chains: how they get into a ring, and what has to come of it. */
import assert from "node:assert/strict";
import type { Guest } from "./guest.ts";
import { type Descriptor, describe, INDIRECT, type Ring } from "./ring.ts";

/** A guest address that no region has. */
export const UNMAPPED = 2 ** 40;
/** Guest memory that no ring uses, for tables and buffers. */
export const SPARE = 0x400000;

export interface Case {
  readonly what: string;
  /** Puts something into the ring. */
  readonly make: (g: Guest, ring: Ring) => void;
}

/** Checks that each case ends its queue, and only that. Takes the guest. */
export function allBreak(taken: Guest, cases: readonly Case[]): void {
  using g = taken;
  const ring = g.ring(1);
  for (const { what, make } of cases) {
    make(g, ring);
    ring.kick();
    assert.ok(ring.broken(), `the ring breaks: ${what}`);
    g.verify(g.ring(0));
    g.restart(ring);
    g.verify(ring);
  }
}

/** Offers a chain of direct descriptors that are written as they are. */
export function offer(ring: Ring, ...descriptors: Descriptor[]): void {
  descriptors.forEach((descriptor, i) => {
    ring.descriptor(i, descriptor);
  });
  ring.offer(0);
}

/** Writes an indirect table into guest memory and offers it. */
export function offerTable(g: Guest, ring: Ring, table: readonly Descriptor[], at = SPARE): void {
  table.forEach((descriptor, i) => {
    // On packed rings ids are where the flags are on split ones.
    const { flags = 0 } = descriptor;
    const entry = ring.packed ? { ...descriptor, flags: 0x7777, next: flags } : descriptor;
    describe(g.view, at + 16 * i, entry);
  });
  offer(ring, { address: at, length: 16 * table.length, flags: INDIRECT });
}
