/** Fills one ring with batches of chains, right and wrong, whatever kind of ring it is. */
import type { Random } from "../bad-input/random.ts";
import type { Ring } from "../bad-input/ring.ts";
import { type Arena, TABLE_BYTES, TABLES } from "./arena.ts";
import { type Buffers, faultyAddress, faultyLength } from "./buffers.ts";

/** Descriptors that the indirect tables of a ring have room for. */
export const TABLE_ENTRIES = TABLE_BYTES / 16;

/** Words of a descriptor: address low and high, length, and the rest, which the kind of ring tells. */
export const HIGH = 1;
export const LENGTH = 2;
export const LINK = 3;

export interface RingFuzzerOptions {
  readonly arena: Arena;
  readonly ring: Ring;
  readonly random: Random;
  readonly buffers: Buffers;
  readonly indirect: boolean;
}

export abstract class RingFuzzer {
  readonly ring: Ring;
  /** Descriptors made available, and those that were taken for certain. */
  offered = 0;
  walked = 0;
  protected readonly random: Random;
  protected readonly buffers: Buffers;
  /** Guest memory. */
  protected readonly words: Int32Array<ArrayBuffer>;
  /** The first word of the ring's indirect tables. */
  protected readonly tables: number;
  /** Of the last batch: its chains, the ring's descriptors and those in tables. */
  protected chains = 0;
  protected slots = 0;
  protected entries = 0;
  readonly #indirect: boolean;

  constructor({ arena, ring, random, buffers, indirect }: RingFuzzerOptions) {
    this.ring = ring;
    this.random = random;
    this.buffers = buffers;
    this.words = arena.i32;
    this.tables = (TABLES + ring.index * TABLE_BYTES) >> 2;
    this.#indirect = indirect;
  }

  /** The batch must come to an end: complete, or with a broken ring. */
  abstract get strict(): boolean;
  /** Everything that was made available came back. */
  abstract get done(): boolean;
  /** Where to start a ring, as in SET_VRING_BASE. */
  abstract randomBase(): number;
  /** The ring was started there. */
  abstract begin(base: number): void;
  /** Writes a batch into a ring that is at rest and makes it available. */
  abstract fill(): void;
  /** Changes one field that the device may be reading. */
  abstract flip(): void;
  /** Ends flipping. */
  abstract restore(): void;
  /** Counts what came back of the last batch; `base` is where the ring was stopped, if it was. */
  abstract settle(base: number | null): void;

  /** Puts a chain of `count` descriptors into the ring. */
  protected abstract putList(count: number): void;
  /** Puts a chain into the ring that has `count` descriptors in a table, `table` being its first word. */
  protected abstract putTable(table: number, count: number): void;

  /** Makes the chains of a batch: as many as the ring takes, or fewer. */
  protected makeChains(): void {
    const { random } = this;
    const { size } = this.ring;
    const limit = random.chance(0.8) ? size : 1 + random.below(size);
    this.chains = 0;
    this.slots = 0;
    this.entries = 0;
    while (this.chains < limit) {
      const room = size - this.slots;
      if (this.#indirect && random.chance(0.6)) {
        const count = random.chance(0.97) ? 1 + random.below(40) : 1 + random.below(1024);
        if (room === 0 || this.entries + count > TABLE_ENTRIES) return;
        this.putTable(this.tables + this.entries * 4, count);
        this.entries += count;
        this.#count(1, count + 1);
      } else {
        const count = random.chance(0.5) ? Math.min(3, size) : 1 + random.below(Math.min(size, 24));
        if (count > room) return;
        this.putList(count);
        this.#count(count, count);
      }
    }
  }

  #count(slots: number, descriptors: number): void {
    this.slots += slots;
    this.chains++;
    this.offered += descriptors;
  }

  /** Spoils an address or a length, by one of the kinds 0 to 2. False for any other. */
  protected spoilBuffer(at: number, kind: number): boolean {
    const { random, words } = this;
    if (kind === 0) words[at] = faultyAddress(random, this.ring.base);
    else if (kind === 1) words[at + HIGH] = random.pick([0, 1, 0x1fffff, 0x200000, -1]);
    else if (kind === 2) words[at + LENGTH] = faultyLength(random);
    return kind < 3;
  }
}
