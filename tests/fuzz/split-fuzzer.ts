/**
 * Contents of a split ring (virtio 1.3, 2.7) in bulk: chains that can be served, chains with a fault
 * or two, and noise. Everything is written straight into guest memory.
 */
import type { Random } from "../bad-input/random.ts";
import { AVAILABLE, INDIRECT, NEXT, type Ring, USED, WRITE } from "../bad-input/ring.ts";
import { TABLE_BYTES, TABLES } from "./arena.ts";
import { type Buffers, faultyAddress, faultyFlags, faultyLength } from "./buffers.ts";
import { type RingFuzzer, type RingFuzzerOptions, TABLE_ENTRIES } from "./ring-fuzzer.ts";

/** Words of a descriptor: address low and high, length, flags and next. */
const HIGH = 1;
const LENGTH = 2;
const LINK = 3;

export class SplitFuzzer implements RingFuzzer {
  readonly ring: Ring;
  offered = 0;
  walked = 0;
  readonly strict = true;
  readonly #random: Random;
  readonly #buffers: Buffers;
  readonly #indirect: boolean;
  readonly #words: Int32Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #tables: number;
  /** First words of the descriptors of the last batch. */
  readonly #slots = new Int32Array(TABLE_ENTRIES + 2048);
  #slotCount = 0;
  /** Descriptors of each chain of the last batch. */
  readonly #chains = new Int32Array(2048);
  #chainCount = 0;
  #start = 0;
  #target = 0;
  /** Chains are not what they were. */
  #flipped = false;

  constructor({ arena, ring, random, buffers, indirect }: RingFuzzerOptions) {
    this.ring = ring;
    this.#random = random;
    this.#buffers = buffers;
    this.#indirect = indirect;
    this.#words = arena.i32;
    this.#view = arena.view;
    this.#tables = (TABLES + ring.index * TABLE_BYTES) >> 2;
  }

  randomBase(): number {
    const random = this.#random;
    return random.chance(0.5) ? random.below(65536) : 65535 - random.below(300);
  }

  begin(base: number): void {
    this.ring.availableIndex = base;
    this.ring.usedIndex = base;
  }

  fill(): void {
    const random = this.#random;
    this.#start = this.ring.availableIndex;
    this.#slotCount = 0;
    this.#chainCount = 0;
    this.#flipped = false;
    this.#makeChains();
    this.#target = (this.#start + this.#chainCount) & 0xffff;
    this.#askForCall();
    if (random.chance(0.3)) for (let i = random.below(3); i >= 0; i--) this.#spoil();
    else if (random.chance(0.05)) this.#noise();
    this.ring.availableIndex = this.#target;
  }

  get done(): boolean {
    return this.ring.usedIndex === this.#target;
  }

  settle(): void {
    if (this.#flipped) return;
    const back = Math.min((this.ring.usedIndex - this.#start) & 0xffff, this.#chainCount);
    for (let i = 0; i < back; i++) this.walked += this.#chains[i]!;
  }

  flip(): void {
    this.#flipped = true;
    const random = this.#random;
    const kind = random.below(10);
    if (kind === 0 || this.#slotCount === 0) {
      const idx = this.ring.base + AVAILABLE + 2;
      this.#view.setUint16(idx, this.#target + random.below(3), true);
    } else if (kind === 1) this.#buffers.flip();
    else this.#spoilDescriptor(this.#slots[random.below(this.#slotCount)]!);
  }

  /** The ring says again what it said before. */
  restore(): void {
    this.ring.availableIndex = this.#target;
  }

  /** One notification, for the last chain. */
  #askForCall(): void {
    const { base, size } = this.ring;
    this.#view.setUint16(base + AVAILABLE, 0, true);
    this.#view.setUint16(base + AVAILABLE + 4 + 2 * size, this.#target - 1, true);
  }

  #makeChains(): void {
    const random = this.#random;
    const { size, base } = this.ring;
    const limit = random.chance(0.8) ? size : 1 + random.below(size);
    const first = random.below(size);
    let direct = 0;
    let entries = 0;
    while (this.#chainCount < limit) {
      if (this.#indirect && random.chance(0.6)) {
        const count = random.chance(0.97) ? 1 + random.below(40) : 1 + random.below(1024);
        if (direct === size || entries + count > TABLE_ENTRIES) break;
        const table = this.#tables + entries * 4;
        this.#chain(table, 0, 0xffff, count);
        const head = (first + direct++) & (size - 1);
        this.#set((base >> 2) + head * 4, table * 4, count * 16, INDIRECT);
        this.#offer(head, count + 1);
        entries += count;
      } else {
        const count = random.chance(0.5) ? Math.min(3, size) : 1 + random.below(Math.min(size, 24));
        if (direct + count > size) break;
        const head = (first + direct) & (size - 1);
        this.#chain(base >> 2, head, size - 1, count);
        this.#offer(head, count);
        direct += count;
      }
    }
  }

  #offer(head: number, count: number): void {
    const slot = (this.#start + this.#chainCount) & (this.ring.size - 1);
    this.#view.setUint16(this.ring.base + AVAILABLE + 4 + 2 * slot, head, true);
    this.#chains[this.#chainCount++] = count;
    this.offered += count;
  }

  /** Writes `count` descriptors from `first` on, one after another, indices cut by `mask`. */
  #chain(table: number, first: number, mask: number, count: number): void {
    const buffers = this.#buffers;
    buffers.begin(count);
    for (let i = 0; i < count; i++) {
      buffers.next();
      const more = i + 1 < count;
      const next = more ? ((first + i + 1) & mask) << 16 : 0;
      const at = table + ((first + i) & mask) * 4;
      const flags = (buffers.writable ? WRITE : 0) | (more ? NEXT : 0);
      this.#set(at, buffers.address, buffers.length, flags | next);
    }
  }

  #set(at: number, address: number, length: number, link: number): void {
    const words = this.#words;
    words[at] = address;
    words[at + HIGH] = 0;
    words[at + LENGTH] = length;
    words[at + LINK] = link;
    if (this.#slotCount < this.#slots.length) this.#slots[this.#slotCount++] = at;
  }

  /** Makes one thing wrong, or only odd. */
  #spoil(): void {
    const random = this.#random;
    const view = this.#view;
    const { base, size } = this.ring;
    const kind = random.below(12);
    if (kind < 7 && this.#slotCount > 0) {
      this.#spoilDescriptor(this.#slots[random.below(this.#slotCount)]!);
    } else if (kind === 7) {
      const slot = random.below(size);
      const head = random.chance(0.5) ? random.below(size) : random.pick([size, 65535]);
      view.setUint16(base + AVAILABLE + 4 + 2 * slot, head, true);
    } else if (kind === 8) {
      const step = random.pick([1, -1, size, size + 1, -size, 0x8000, random.below(65536)]);
      this.#target = (this.#target + step) & 0xffff;
    } else if (kind === 9) {
      // used_event, avail.flags, avail_event and used.flags: whatever they say, nothing is lost.
      view.setUint16(base + AVAILABLE + 4 + 2 * size, random.bits(), true);
      view.setUint16(base + AVAILABLE, random.below(3), true);
      view.setUint16(base + USED + 4 + 8 * size, random.bits(), true);
      view.setUint16(base + USED, random.bits(), true);
    } else if (kind === 10) {
      view.setUint32(base + USED + 4 + 8 * random.below(size), random.bits(), true);
    } else {
      const at = (base >> 2) + random.below(size * 4);
      this.#words[at] = random.bits();
    }
  }

  #spoilDescriptor(at: number): void {
    const random = this.#random;
    const words = this.#words;
    const { base, size } = this.ring;
    switch (random.below(6)) {
      case 0:
        words[at] = faultyAddress(random, base);
        return;
      case 1:
        words[at + HIGH] = random.pick([0, 1, 0x1fffff, 0x200000, -1]);
        return;
      case 2:
        words[at + LENGTH] = faultyLength(random);
        return;
      case 3:
        words[at + LINK] = (words[at + LINK]! & ~0xffff) | faultyFlags(random);
        return;
      default: {
        // Back to where the chain came from, as often as not, and without adding a byte to it.
        if (random.chance(0.3)) words[at + LENGTH] = 0;
        const own = (at - (base >> 2)) >> 2;
        const next = random.pick([own, own - 1, 0, 1, size - 1, size, 65535, random.below(size)]);
        words[at + LINK] = (next << 16) | (words[at + LINK]! & 0xffff) | NEXT;
      }
    }
  }

  /** Fills the whole table with noise that begins like descriptors. */
  #noise(): void {
    const random = this.#random;
    const { base, size } = this.ring;
    for (let i = 0; i < size; i++) {
      const at = (base >> 2) + i * 4;
      const next = random.chance(0.95) ? random.below(size) : random.below(65536);
      this.#set(at, faultyAddress(random, base), faultyLength(random), 0);
      this.#words[at + LINK] = (next << 16) | faultyFlags(random);
    }
  }
}
