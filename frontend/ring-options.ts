/** What both kinds of rings are made with, and the flags of their descriptors. */
import type { RingPlace } from "./ring-place.ts";

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

/** A descriptor with any content, for rings that are wrong on purpose. */
export interface RawDescriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

export interface RingOptions {
  /** Descriptors: a power of 2 up to 32768 on a split ring, any number up to it on a packed one. */
  readonly size: number;
  readonly eventIdx?: boolean;
  /** The device completes in order and may show the last completion of a batch only. */
  readonly inOrder?: boolean;
  /** The base to begin with, on both sides of the ring, as SET_VRING_BASE has it. */
  readonly base?: number;
  /** Place the used ring on a page of its own, as drivers before virtio 1.0 do. */
  readonly legacy?: boolean;
  /** The byte order of a driver from before virtio 1.0 on a big-endian machine. */
  readonly bigEndian?: boolean;
  /** Where the parts lie; allocated together when absent. */
  readonly place?: RingPlace;
}
