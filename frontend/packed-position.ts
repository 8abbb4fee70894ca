/** Places in a packed ring as the wire has them, and the numbers that go with them. */

/** Flags of a descriptor that tell, against the wrap counter, whose it is (virtio 1.3, 2.8.1). */
export const AVAIL = 1 << 7;
export const USED = 1 << 15;

/** Values of the flags in an event suppression structure (virtio 1.3, 2.8.10). */
export const EventFlags = { ENABLE: 0, DISABLE: 1, DESC: 2 } as const;

/** The base of a ring that nobody has used: slot 0 and wrap counter 1 on both sides. */
export const PACKED_BASE = 0x8000_8000;

const WRAP = 0x8000;
const SLOT = 0x7fff;
/** A position: a slot, and the wrap counter above it. */
export const Position = { SLOT, WRAP } as const;

/** The position `slots` after another one, a lap at most, in a ring of `size`. */
export function step(size: number, position: number, slots: number): number {
  const slot = (position & SLOT) + slots;
  if (slot < size) return (position & WRAP) | slot;
  return ((position & WRAP) ^ WRAP) | (slot - size);
}

/** The position `slots` before another one. */
export function stepBack(size: number, position: number, slots: number): number {
  const slot = (position & SLOT) - slots;
  if (slot >= 0) return (position & WRAP) | slot;
  return ((position & WRAP) ^ WRAP) | (slot + size);
}

/** The flags of a slot that the driver makes available. */
export function availableFlags(position: number): number {
  return (position & WRAP) !== 0 ? AVAIL : USED;
}
