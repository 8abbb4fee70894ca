/**
 * Contents of a split ring (virtio 1.3, 2.7) in bulk: chains that can be served, chains with a fault
 * or two, and noise. Everything is written straight into guest memory.
 */
import { AVAILABLE, INDIRECT, NEXT, USED, WRITE } from "../bad-input/ring.ts";
import { faultyAddress, faultyFlags, faultyLength } from "./buffers.ts";
import {
  HIGH,
  LENGTH,
  LINK,
  RingFuzzer,
  type RingFuzzerOptions,
  TABLE_ENTRIES,
} from "./ring-fuzzer.ts";

export class SplitFuzzer extends RingFuzzer {
  override readonly strict = true;
  readonly #view: DataView<ArrayBuffer>;
  /** First words of the descriptors of the last batch. */
  readonly #descriptors = new Int32Array(TABLE_ENTRIES + 2048);
  #descriptorCount = 0;
  /** Descriptors of each chain of the last batch. */
  readonly #counts = new Int32Array(2048);
  /** The descriptor of the ring that the last batch begins with. */
  #first = 0;
  #start = 0;
  #target = 0;
  /** Chains are not what they were. */
  #flipped = false;

  constructor(options: RingFuzzerOptions) {
    super(options);
    this.#view = options.arena.view;
  }

  override randomBase(): number {
    const { random } = this;
    return random.chance(0.5) ? random.below(65536) : 65535 - random.below(300);
  }

  override begin(base: number): void {
    this.ring.availableIndex = base;
    this.ring.usedIndex = base;
  }

  override fill(): void {
    const { random } = this;
    this.#start = this.ring.availableIndex;
    this.#descriptorCount = 0;
    this.#flipped = false;
    this.#first = random.below(this.ring.size);
    this.makeChains();
    this.#target = (this.#start + this.chains) & 0xffff;
    this.#askForCall();
    if (random.chance(0.3)) for (let i = random.below(3); i >= 0; i--) this.#spoil();
    else if (random.chance(0.05)) this.#noise();
    this.ring.availableIndex = this.#target;
  }

  override get done(): boolean {
    return this.ring.usedIndex === this.#target;
  }

  override settle(): void {
    if (this.#flipped) return;
    const back = Math.min((this.ring.usedIndex - this.#start) & 0xffff, this.chains);
    for (let i = 0; i < back; i++) this.walked += this.#counts[i]!;
  }

  override flip(): void {
    this.#flipped = true;
    const { random } = this;
    const kind = random.below(10);
    if (kind === 0 || this.#descriptorCount === 0) {
      const idx = this.ring.base + AVAILABLE + 2;
      this.#view.setUint16(idx, this.#target + random.below(3), true);
    } else if (kind === 1) this.buffers.flip();
    else this.#spoilDescriptor(this.#descriptors[random.below(this.#descriptorCount)]!);
  }

  /** The ring says again what it said before. */
  override restore(): void {
    this.ring.availableIndex = this.#target;
  }

  /** One notification, for the last chain. */
  #askForCall(): void {
    const { base, size } = this.ring;
    this.#view.setUint16(base + AVAILABLE, 0, true);
    this.#view.setUint16(base + AVAILABLE + 4 + 2 * size, this.#target - 1, true);
  }

  protected override putTable(table: number, count: number): void {
    this.#chain(table, 0, 0xffff, count);
    const head = this.#offer(count + 1);
    this.#set((this.ring.base >> 2) + head * 4, table * 4, count * 16, INDIRECT);
  }

  protected override putList(count: number): void {
    const { base, size } = this.ring;
    this.#chain(base >> 2, this.#offer(count), size - 1, count);
  }

  /** Offers a chain of `count` descriptors, of which the next free one is the first. Returns that. */
  #offer(count: number): number {
    const mask = this.ring.size - 1;
    const head = (this.#first + this.slots) & mask;
    const slot = (this.#start + this.chains) & mask;
    this.#view.setUint16(this.ring.base + AVAILABLE + 4 + 2 * slot, head, true);
    this.#counts[this.chains] = count;
    return head;
  }

  /** Writes `count` descriptors from `first` on, one after another, indices cut by `mask`. */
  #chain(table: number, first: number, mask: number, count: number): void {
    const { buffers } = this;
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
    const { words } = this;
    words[at] = address;
    words[at + HIGH] = 0;
    words[at + LENGTH] = length;
    words[at + LINK] = link;
    const i = this.#descriptorCount;
    if (i === this.#descriptors.length) return;
    this.#descriptors[i] = at;
    this.#descriptorCount++;
  }

  /** Makes one thing wrong, or only odd. */
  #spoil(): void {
    const { random } = this;
    const view = this.#view;
    const { base, size } = this.ring;
    const kind = random.below(12);
    if (kind < 7 && this.#descriptorCount > 0) {
      this.#spoilDescriptor(this.#descriptors[random.below(this.#descriptorCount)]!);
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
      this.words[at] = random.bits();
    }
  }

  #spoilDescriptor(at: number): void {
    const { random, words } = this;
    const { base, size } = this.ring;
    const kind = random.below(6);
    if (this.spoilBuffer(at, kind)) return;
    if (kind === 3) {
      words[at + LINK] = (words[at + LINK]! & ~0xffff) | faultyFlags(random);
      return;
    }
    // Back to where the chain came from, as often as not, and without adding a byte to it.
    if (random.chance(0.3)) words[at + LENGTH] = 0;
    const own = (at - (base >> 2)) >> 2;
    const next = random.pick([own, own - 1, 0, 1, size - 1, size, 65535, random.below(size)]);
    words[at + LINK] = (next << 16) | (words[at + LINK]! & 0xffff) | NEXT;
  }

  /** Fills the whole table with noise that begins like descriptors. */
  #noise(): void {
    const { random } = this;
    const { base, size } = this.ring;
    for (let i = 0; i < size; i++) {
      const at = (base >> 2) + i * 4;
      const next = random.chance(0.95) ? random.below(size) : random.below(65536);
      this.#set(at, faultyAddress(random, base), faultyLength(random), 0);
      this.words[at + LINK] = (next << 16) | faultyFlags(random);
    }
  }
}
