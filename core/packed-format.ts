/** What a packed virtqueue's memory holds (virtio 1.3, 2.8), and what can be wrong with it. */
import { GuestError, ProtocolError } from "./errors.ts";
import { hex } from "./hex.ts";
import { Descriptor, type Rules } from "./queue.ts";

const { NEXT, INDIRECT } = Descriptor;
const AVAIL = 1 << 7;
const USED = 1 << 15;
const OWNER = AVAIL | USED;

/**
 * Flags of descriptors: the two that tell whose a slot is (2.8.1), and some as they are in the last
 * word of a descriptor, above the id.
 */
export const Flags = {
  AVAIL,
  OWNER,
  OWNER_BITS: OWNER << 16,
  NEXT_BIT: NEXT << 16,
  INDIRECT_BIT: INDIRECT << 16,
  WRITE_SHIFT: 17,
} as const;

/**
 * An event suppression area: its bytes (2.8.14), and its flags (2.8.10) as bits of its 32-bit word,
 * which has a position below them.
 */
export const Event = {
  SIZE: 4,
  ENABLE: 0,
  DISABLE: 1 << 16,
  DESC: 2 << 16,
  FLAGS: 3 << 16,
} as const;

const SLOT = 0x7fff;
const WRAP = 0x8000;
/** A position in 16 bits: the slot, and the wrap counter above it. */
export const Position = { SLOT, WRAP } as const;

/** Both positions of a ring that nobody has used, as SET_VRING_BASE encodes them. */
export const FRESH = 0x8000_8000;

export const rules: Rules = {
  descriptor: "virtio 1.3 2.8.13",
  chain: "virtio 1.3 2.8.17",
  table: "virtio 1.3 2.8.7",
  tableUse: "virtio 1.3 2.8.19",
};

/** Bytes of the three parts for a ring of `size` descriptors. */
export const packedRingBytes = (size: number) => ({
  descriptor: Descriptor.SIZE * size,
  available: Event.SIZE,
  used: Event.SIZE,
});

/** Throws `ProtocolError` unless both positions of a base are in the ring and at most a lap apart. */
export function checkPackedBase(base: number, size: number): void {
  const available = base & SLOT;
  const used = (base >>> 16) & SLOT;
  const sameLap = ((base ^ (base >>> 16)) & WRAP) === 0;
  if (available >= size || used >= size || (sameLap ? available < used : available > used)) {
    throw new ProtocolError(`Cannot start a packed ring of ${size} descriptors at ${hex(base)}`);
  }
}

/**
 * The base that a front-end means. Those that know of split rings only send 0 for a ring that nobody
 * has used, as UML does: slot 0 with both wrap counters 0, which is where a ring stands after an odd
 * number of laps. DPDK's sends 0x8000, for it knows of one position only: with the other at 0 the
 * whole ring would be in flight. The flags tell: a lap leaves USED in one slot at least, and on an unused ring
 * nobody has set it. `ring`: the ring in 16-bit words.
 *
 * 0x80008000, which QEMU sends for a ring in use when the back-end was restarted, cannot be mended
 * like this: only in-flight tracking knows where such a ring stands.
 */
export function trueBase(ring: Uint16Array, base: number): number {
  if (base !== 0 && base !== WRAP) return base;
  for (let at = 7; at < ring.length; at += 8) {
    if ((ring[at]! & USED) !== 0) return base;
  }
  return FRESH;
}

export function overrun(first: number, room: number): GuestError {
  return new GuestError(
    `the chain from slot ${first} is longer than the ${room} slots that are not in use`,
    rules.chain,
  );
}

export function cut(first: number, slot: number): GuestError {
  return new GuestError(
    `the chain from slot ${first} goes on in slot ${slot}, which is not available`,
    "virtio 1.3 2.8.6",
  );
}

export function mixed(slot: number): GuestError {
  return new GuestError(
    `the indirect descriptor in slot ${slot} is part of a list`,
    rules.tableUse,
  );
}

export function twice(id: number, first: number): GuestError {
  return new GuestError(
    `the chain from slot ${first} has buffer id ${id}, which is in flight`,
    "virtio 1.3 2.8.21.1",
  );
}
