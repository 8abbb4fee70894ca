/**
 * Contents of a packed ring (virtio 1.3, 2.8) in bulk. Here a wrong flag changes where chains begin
 * and end, so a batch with a fault in it is not waited for: the ring is stopped and tells how far it
 * got.
 */
import type { Random } from "../bad-input/random.ts";
import { AVAILABLE, INDIRECT, NEXT, type Ring, USED, WRITE } from "../bad-input/ring.ts";
import { TABLE_BYTES, TABLES } from "./arena.ts";
import { type Buffers, faultyAddress, faultyFlags, faultyLength } from "./buffers.ts";
import { type RingFuzzer, type RingFuzzerOptions, TABLE_ENTRIES } from "./ring-fuzzer.ts";

const AVAIL_FLAG = 0x80;
const USED_FLAG = 0x8000;
const OWNER = AVAIL_FLAG | USED_FLAG;
const WRAP = 0x8000;
const SLOT = 0x7fff;
/** Words of a descriptor: address low and high, length, id and flags. */
const HIGH = 1;
const LENGTH = 2;
const LINK = 3;

export class PackedFuzzer implements RingFuzzer {
  readonly ring: Ring;
  offered = 0;
  walked = 0;
  strict = true;
  readonly #random: Random;
  readonly #buffers: Buffers;
  readonly #indirect: boolean;
  readonly #words: Int32Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #base: number;
  readonly #tables: number;
  /** The next slot to fill and the next one to be used, with the wrap counters. */
  #slot = 0;
  #wrap = true;
  #usedSlot = 0;
  #usedWrap = true;
  /** Of the last batch: its chains, and slots and descriptors by buffer id. */
  #chains = 0;
  #seen = 0;
  #first = 0;
  #firstLink = 0;
  #slots = 0;
  readonly #slotsOf = new Uint16Array(65_536);
  readonly #countOf = new Uint16Array(65_536);
  /** First words of the indirect descriptors of the last batch. */
  #entries = 0;
  #back = 0;

  constructor({ arena, ring, random, buffers, indirect }: RingFuzzerOptions) {
    this.ring = ring;
    this.#random = random;
    this.#buffers = buffers;
    this.#indirect = indirect;
    this.#words = arena.i32;
    this.#halves = new Uint16Array(arena.u8.buffer);
    this.#base = ring.base >> 2;
    this.#tables = (TABLES + ring.index * TABLE_BYTES) >> 2;
  }

  randomBase(): number {
    const random = this.#random;
    const slot = random.below(this.ring.size);
    // Slot 0 with both counters 0 means a ring that nobody has used.
    const wrap = slot === 0 || random.chance(0.5) ? WRAP : 0;
    return ((slot | wrap) * 0x10001) >>> 0;
  }

  begin(base: number): void {
    this.#slot = base & SLOT;
    this.#wrap = (base & WRAP) !== 0;
    this.#usedSlot = this.#slot;
    this.#usedWrap = this.#wrap;
  }

  fill(): void {
    const random = this.#random;
    this.#chains = 0;
    this.#seen = 0;
    this.#back = 0;
    this.#slots = 0;
    this.#entries = 0;
    this.#first = this.#slot;
    this.strict = true;
    this.#words[(this.ring.base + AVAILABLE) >> 2] = 0;
    this.#makeChains();
    if (random.chance(0.3)) {
      this.strict = false;
      for (let i = random.below(3); i >= 0; i--) this.flip();
    }
    // The device looks at no later slot before this one.
    const at = this.#base + this.#first * 4;
    if (this.strict || random.chance(0.9)) Atomics.store(this.#words, at + LINK, this.#firstLink);
  }

  #makeChains(): void {
    const random = this.#random;
    const { size } = this.ring;
    const limit = random.chance(0.8) ? size : 1 + random.below(size);
    const ids = random.bits();
    while (this.#slots < limit) {
      const id = (ids + this.#chains) & 0xffff;
      if (this.#indirect && random.chance(0.6)) {
        const count = random.chance(0.97) ? 1 + random.below(40) : 1 + random.below(1024);
        if (this.#entries + count > TABLE_ENTRIES) return;
        const table = this.#tables + this.#entries * 4;
        this.#table(table, count);
        this.#put(table * 4, count * 16, id, INDIRECT);
        this.#enter(id, 1, count + 1);
      } else {
        const count = random.chance(0.5) ? Math.min(3, size) : 1 + random.below(Math.min(size, 24));
        if (this.#slots + count > size) return;
        const buffers = this.#buffers;
        buffers.begin(count);
        for (let i = 1; i <= count; i++) {
          buffers.next();
          const flags = (buffers.writable ? WRITE : 0) | (i < count ? NEXT : 0);
          this.#put(buffers.address, buffers.length, id, flags);
        }
        this.#enter(id, count, count);
      }
    }
  }

  #enter(id: number, slots: number, count: number): void {
    this.#slotsOf[id] = slots;
    this.#countOf[id] = count;
    this.#chains++;
    this.#slots += slots;
    this.offered += count;
  }

  #table(at: number, count: number): void {
    const buffers = this.#buffers;
    const words = this.#words;
    buffers.begin(count);
    for (let i = 0; i < count; i++, at += 4) {
      buffers.next();
      words[at] = buffers.address;
      words[at + HIGH] = 0;
      words[at + LENGTH] = buffers.length;
      words[at + LINK] = buffers.writable ? WRITE << 16 : 0;
    }
    this.#entries += count;
  }

  /** Fills the next slot; the first one of a batch is shown last. */
  #put(address: number, length: number, id: number, flags: number): void {
    const words = this.#words;
    const at = this.#base + this.#slot * 4;
    const link = id | ((flags | (this.#wrap ? AVAIL_FLAG : USED_FLAG)) << 16);
    words[at] = address;
    words[at + HIGH] = 0;
    words[at + LENGTH] = length;
    if (this.#slot === this.#first && this.#slots === 0) this.#firstLink = link;
    else words[at + LINK] = link;
    if (++this.#slot < this.ring.size) return;
    this.#slot = 0;
    this.#wrap = !this.#wrap;
  }

  get done(): boolean {
    while (this.#seen < this.#chains) {
      const at = (this.#base + this.#usedSlot * 4) * 2;
      const flags = Atomics.load(this.#halves, at + 7) & OWNER;
      if (flags !== (this.#usedWrap ? OWNER : 0)) return false;
      const id = this.#halves[at + 6]!;
      this.#back += this.#countOf[id]!;
      this.#seen++;
      this.#usedSlot += this.#slotsOf[id]!;
      if (this.#usedSlot < this.ring.size) continue;
      this.#usedSlot -= this.ring.size;
      this.#usedWrap = !this.#usedWrap;
    }
    return true;
  }

  settle(base: number | null): void {
    if (base === null || this.strict) {
      this.walked += this.#back;
      return;
    }
    // How many slots it has taken is all that a ring with a fault can tell.
    const { size } = this.ring;
    const taken = ((base & SLOT) - this.#first + size) % size;
    this.walked += Math.min(taken, this.#slots);
  }

  flip(): void {
    const random = this.#random;
    this.strict = false;
    const inTable = this.#entries > 0 && random.chance(0.5);
    const at = inTable
      ? this.#tables + random.below(this.#entries) * 4
      : this.#base + ((this.#first + random.below(this.#slots)) % this.ring.size) * 4;
    this.#spoil(at);
  }

  restore(): void {}

  #spoil(at: number): void {
    const random = this.#random;
    const words = this.#words;
    const link = words[at + LINK]!;
    switch (random.below(7)) {
      case 0:
        words[at] = faultyAddress(random, this.ring.base);
        return;
      case 1:
        words[at + HIGH] = random.pick([0, 1, 0x1fffff, 0x200000, -1]);
        return;
      case 2:
        words[at + LENGTH] = faultyLength(random);
        return;
      case 3:
        words[at + LINK] = (link & ~0xffff) | random.pick([0, 1, 65535, random.below(65536)]);
        return;
      case 4: {
        const area = random.pick([AVAILABLE, USED]);
        words[(this.ring.base + area) >> 2] = random.bits();
        return;
      }
      default: {
        const owner = random.chance(0.7) ? (link >>> 16) & OWNER : random.bits() & OWNER;
        words[at + LINK] = (link & 0xffff) | (((faultyFlags(random) & ~OWNER) | owner) << 16);
      }
    }
  }
}
