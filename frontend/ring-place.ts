/** Where the parts of a ring lie in guest memory. */
import type { GuestMemory } from "./guest-memory.ts";

/**
 * Guest addresses. On a split ring they are aligned to 16, 2 and 4 bytes. On a packed ring
 * `available` is the driver's event area and `used` the device's, aligned to 4 bytes both.
 */
export interface RingPlace {
  readonly descriptor: number;
  readonly available: number;
  readonly used: number;
}

/** The alignment of the used ring that drivers before virtio 1.0 keep (virtio 1.3, 2.7.2). */
const LEGACY_ALIGNMENT = 4096;

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** Allocates a ring of `size` descriptors, its parts one after another. */
export function placeRing(memory: GuestMemory, size: number, legacy: boolean): RingPlace {
  const available = 16 * size;
  const used = alignUp(available + 6 + 2 * size, legacy ? LEGACY_ALIGNMENT : 4);
  const start = memory.allocate(used + 6 + 8 * size, LEGACY_ALIGNMENT);
  return { descriptor: start, available: start + available, used: start + used };
}

/** Allocates a packed ring of `size` descriptors and its two event areas. */
export function placePackedRing(memory: GuestMemory, size: number): RingPlace {
  const start = memory.allocate(16 * size + 8, LEGACY_ALIGNMENT);
  return { descriptor: start, available: start + 16 * size, used: start + 16 * size + 4 };
}
