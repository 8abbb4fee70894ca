/** What a split virtqueue's memory holds (virtio 1.3, 2.7), and what can be wrong with it. */
import { GuestError } from "./errors.ts";
import { badIndex, Descriptor, type Rules } from "./queue.ts";

/** Places of fields in the 16-bit words of the available and of the used ring. */
export const Field = { FLAGS: 0, INDEX: 1, RING: 2 } as const;

/** The flags by which the driver (in avail.flags) and the device (in used.flags) ask for quiet. */
export const Suppress = { NO_INTERRUPT: 1, NO_NOTIFY: 1 } as const;

export const splitRules: Rules = {
  descriptor: "virtio 1.3 2.7.5",
  chain: "virtio 1.3 2.7.5.2",
  table: "virtio 1.3 2.7.5.3",
  tableUse: "virtio 1.3 2.7.5.3.1",
};

/** Bytes of the three parts for a ring of `size` descriptors, the event fields included. */
export const splitRingBytes = (size: number) => ({
  descriptor: Descriptor.SIZE * size,
  available: 6 + 2 * size,
  used: 6 + 8 * size,
});

export function badNext(at: number, next: number, size: number): GuestError {
  return badIndex("next field of a descriptor", at, next, size);
}

export function takenTwice(head: number): GuestError {
  return new GuestError(
    `descriptor ${head} was made available again while in flight`,
    "virtio 1.3 2.7.13",
  );
}

export function jumped(at: number, seen: number, size: number): GuestError {
  return new GuestError(
    `the available index moved from ${at} to ${seen} on a ring of ${size}`,
    "virtio 1.3 2.7.13",
  );
}
