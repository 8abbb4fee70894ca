/**
 * Contents of a packed ring (virtio 1.3, 2.8) in bulk. Here a wrong flag changes where chains begin
 * and end, so a batch with a fault in it is not waited for: the ring is stopped and tells how far it
 * got.
 */
import { AVAILABLE, INDIRECT, NEXT, USED, WRITE } from "../bad-input/ring.ts";
import { faultyFlags } from "./buffers.ts";
import { HIGH, LENGTH, LINK, RingFuzzer, type RingFuzzerOptions } from "./ring-fuzzer.ts";

const AVAIL_FLAG = 0x80;
const USED_FLAG = 0x8000;
const OWNER = AVAIL_FLAG | USED_FLAG;
const WRAP = 0x8000;
const SLOT = 0x7fff;

export class PackedFuzzer extends RingFuzzer {
  override strict = true;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #base: number;
  /** The next slot to fill and the next one to be used, with the wrap counters. */
  #slot = 0;
  #wrap = true;
  #usedSlot = 0;
  #usedWrap = true;
  /** Of the last batch: the id of its first chain, and how many of its chains were used. */
  #firstId = 0;
  #seen = 0;
  #first = 0;
  #firstLink = 0;
  /** Slots and descriptors by buffer id. */
  readonly #slotsOf = new Uint16Array(65_536);
  readonly #countOf = new Uint16Array(65_536);
  #back = 0;

  constructor(options: RingFuzzerOptions) {
    super(options);
    this.#halves = new Uint16Array(options.arena.u8.buffer);
    this.#base = this.ring.base >> 2;
  }

  override randomBase(): number {
    const { random } = this;
    const slot = random.below(this.ring.size);
    // Slot 0 with both counters 0 means a ring that nobody has used.
    const wrap = slot === 0 || random.chance(0.5) ? WRAP : 0;
    return ((slot | wrap) * 0x10001) >>> 0;
  }

  override begin(base: number): void {
    this.#slot = base & SLOT;
    this.#wrap = (base & WRAP) !== 0;
    this.#usedSlot = this.#slot;
    this.#usedWrap = this.#wrap;
  }

  override fill(): void {
    const { random } = this;
    this.#seen = 0;
    this.#back = 0;
    this.#first = this.#slot;
    this.#firstId = random.bits();
    this.strict = true;
    this.words[(this.ring.base + AVAILABLE) >> 2] = 0;
    this.makeChains();
    if (random.chance(0.3)) {
      this.strict = false;
      for (let i = random.below(3); i >= 0; i--) this.flip();
    }
    // The device looks at no later slot before this one.
    const at = this.#base + this.#first * 4;
    if (this.strict || random.chance(0.9)) Atomics.store(this.words, at + LINK, this.#firstLink);
  }

  protected override putTable(table: number, count: number): void {
    const id = this.#enter(1, count + 1);
    this.#table(table, count);
    this.#put(table * 4, count * 16, id, INDIRECT, true);
  }

  protected override putList(count: number): void {
    const id = this.#enter(count, count);
    const { buffers } = this;
    buffers.begin(count);
    for (let i = 1; i <= count; i++) {
      buffers.next();
      const flags = (buffers.writable ? WRITE : 0) | (i < count ? NEXT : 0);
      this.#put(buffers.address, buffers.length, id, flags, i === 1);
    }
  }

  /** The id of the next chain, which takes `slots` of the ring and has `count` descriptors. */
  #enter(slots: number, count: number): number {
    const id = (this.#firstId + this.chains) & 0xffff;
    this.#slotsOf[id] = slots;
    this.#countOf[id] = count;
    return id;
  }

  #table(at: number, count: number): void {
    const { buffers, words } = this;
    buffers.begin(count);
    for (let i = 0; i < count; i++, at += 4) {
      buffers.next();
      words[at] = buffers.address;
      words[at + HIGH] = 0;
      words[at + LENGTH] = buffers.length;
      words[at + LINK] = buffers.writable ? WRITE << 16 : 0;
    }
  }

  /** Fills the next slot; the first one of a batch is shown last. */
  #put(address: number, length: number, id: number, flags: number, head: boolean): void {
    const { words } = this;
    const at = this.#base + this.#slot * 4;
    const link = id | ((flags | (this.#wrap ? AVAIL_FLAG : USED_FLAG)) << 16);
    words[at] = address;
    words[at + HIGH] = 0;
    words[at + LENGTH] = length;
    if (head && this.chains === 0) this.#firstLink = link;
    else words[at + LINK] = link;
    if (++this.#slot < this.ring.size) return;
    this.#slot = 0;
    this.#wrap = !this.#wrap;
  }

  override get done(): boolean {
    while (this.#seen < this.chains) {
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

  override settle(base: number | null): void {
    if (base === null || this.strict) {
      this.walked += this.#back;
      return;
    }
    // How many slots it has taken is all that a ring with a fault can tell.
    const { size } = this.ring;
    const taken = ((base & SLOT) - this.#first + size) % size;
    this.walked += Math.min(taken, this.slots);
  }

  override flip(): void {
    const { random } = this;
    this.strict = false;
    const inTable = this.entries > 0 && random.chance(0.5);
    const at = inTable
      ? this.tables + random.below(this.entries) * 4
      : this.#base + ((this.#first + random.below(this.slots)) % this.ring.size) * 4;
    this.#spoil(at);
  }

  override restore(): void {}

  #spoil(at: number): void {
    const { random, words } = this;
    const link = words[at + LINK]!;
    const kind = random.below(7);
    if (this.spoilBuffer(at, kind)) return;
    if (kind === 3) {
      words[at + LINK] = (link & ~0xffff) | random.pick([0, 1, 65535, random.below(65536)]);
    } else if (kind === 4) {
      const area = random.pick([AVAILABLE, USED]);
      words[(this.ring.base + area) >> 2] = random.bits();
    } else {
      const owner = random.chance(0.7) ? (link >>> 16) & OWNER : random.bits() & OWNER;
      words[at + LINK] = (link & 0xffff) | (((faultyFlags(random) & ~OWNER) | owner) << 16);
    }
  }
}
