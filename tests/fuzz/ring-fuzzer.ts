/** What a burst needs of the fuzzer of one ring, whatever kind of ring it is. */
import type { Random } from "../bad-input/random.ts";
import type { Ring } from "../bad-input/ring.ts";
import { type Arena, TABLE_BYTES } from "./arena.ts";
import type { Buffers } from "./buffers.ts";

/** Descriptors that the indirect tables of a ring have room for. */
export const TABLE_ENTRIES = TABLE_BYTES / 16;

export interface RingFuzzerOptions {
  readonly arena: Arena;
  readonly ring: Ring;
  readonly random: Random;
  readonly buffers: Buffers;
  readonly indirect: boolean;
}

export interface RingFuzzer {
  readonly ring: Ring;
  /** Descriptors made available, and those that were taken for certain. */
  readonly offered: number;
  readonly walked: number;
  /** The batch must come to an end: complete, or with a broken ring. */
  readonly strict: boolean;
  /** Everything that was made available came back. */
  readonly done: boolean;
  /** Where to start a ring, as in SET_VRING_BASE. */
  randomBase(): number;
  /** The ring was started there. */
  begin(base: number): void;
  /** Writes a batch into a ring that is at rest and makes it available. */
  fill(): void;
  /** Changes one field that the device may be reading. */
  flip(): void;
  /** Ends flipping. */
  restore(): void;
  /** Counts what came back of the last batch; `base` is where the ring was stopped, if it was. */
  settle(base: number | null): void;
}
