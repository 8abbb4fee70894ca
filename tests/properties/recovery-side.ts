/** The driver's side of a ring that outlives its back-ends, and what its front-end remembers. */
import type { Queue, QueueOptions } from "../../core/queue.ts";
import { type Buffer, DriverRing } from "../core/driver.ts";
import type { TestGuest } from "../core/guest.ts";
import { PackedDriver } from "../core/packed-driver.ts";
import type { crashable } from "./crash-points.ts";

export interface Shown {
  readonly id: number;
  readonly length: number;
}

export interface RingPlan {
  readonly size: number;
  /** Where both sides begin: an index, or a slot of the first two laps. */
  readonly start: number;
}

export interface DriverSide {
  readonly size: number;
  /** Makes a chain available, in one descriptor if there is a table; null when there is no room. */
  offer(buffers: readonly Buffer[], table: number | null): number | null;
  /** Completions that are shown and not taken, and those taken now. */
  shown(): Shown[];
  reap(): Shown[];
  /** Where the ring stands when so many chains or slots are behind it. */
  base(taken: number, used: number): number;
  /** What a front-end sends after its back-end has vanished; `choice` among what may be sent. */
  baseAfterCrash(choice: number): number;
  queue(options: Partial<QueueOptions>): Queue;
}

type Class<Q extends "SplitQueue" | "PackedQueue"> = Awaited<ReturnType<typeof crashable<Q>>>;

const RING = 0;

export function splitSide(
  guest: TestGuest,
  { size, start }: RingPlan,
  Queue: Class<"SplitQueue">,
): DriverSide {
  const ring = new DriverRing(guest, { size, at: RING, base: start, used: start });
  const index = (count: number) => (start + count) % 65536;
  return {
    size,
    offer(buffers, table) {
      const direct = table === null ? buffers.length : 0;
      if (ring.free.length < Math.max(direct, 1)) return null;
      return ring.offer(buffers, direct, table ?? 0);
    },
    shown() {
      const result: Shown[] = [];
      for (let at = ring.usedIndex; at !== ring.shownUsed; at = (at + 1) % 65536) {
        result.push(ring.usedElement(at));
      }
      return result;
    },
    reap: () => ring.reap(),
    base: (taken) => index(taken),
    // QEMU takes the used index; only the region knows better.
    baseAfterCrash: (choice) => [ring.shownUsed, ring.shownUsed, 0, 0xffff][choice % 4]!,
    queue: (options) => ring.queue(options, Queue),
  };
}

export function packedSide(
  guest: TestGuest,
  { size, start }: RingPlan,
  Queue: Class<"PackedQueue">,
): DriverSide {
  const ring = new PackedDriver(guest, { size, at: RING, start });
  let id = start * 7919;
  return {
    size,
    offer(buffers, table) {
      if (ring.free < (table === null ? buffers.length : 1)) return null;
      do id = (id * 5 + 12345) % 65536;
      while (ring.has(id));
      ring.offer(id, buffers, table);
      return id;
    },
    shown: () => ring.shown(),
    reap: () => ring.reap(),
    base: (taken, used) => ring.base(start + taken, start + used),
    // QEMU always takes this.
    baseAfterCrash: () => 0x8000_8000,
    queue: (options) => ring.queue(options, Queue),
  };
}
