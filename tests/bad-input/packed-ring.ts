/**
 * The driver's side of one packed virtqueue with the words of `Ring`: descriptors are kept aside under
 * the indices that a split ring would have, and offering a head writes its list into the next slots.
 */
import { ANSWER_LIMIT, sleep } from "./client.ts";
import { AVAILABLE, type Descriptor, describe, NEXT, Ring, USED, WRITE } from "./ring.ts";

const AVAIL_FLAG = 0x80;
const USED_FLAG = 0x8000;

export class PackedRing extends Ring {
  override readonly packed = true;
  override readonly emptyBase = 0x80008000;
  readonly #kept: Descriptor[] = [];
  /** The next slots of both sides, counted without an end: even laps have wrap counter 1. */
  #available = 0;
  #used = 0;
  /** Slots of each buffer id in flight, and the completions taken. */
  readonly #slots = new Map<number, number>();
  #taken: { id: number; length: number }[] = [];

  override clear(): void {
    super.clear();
    this.#available = 0;
    this.#used = 0;
    this.#slots.clear();
    this.#taken = [];
  }

  /** The place of a slot, and the flags that make it available. */
  #at(slot: number): number {
    return this.base + 16 * (slot % this.size);
  }

  #even(slot: number): boolean {
    return Math.floor(slot / this.size) % 2 === 0;
  }

  owner(slot: number): number {
    return this.#even(slot) ? AVAIL_FLAG : USED_FLAG;
  }

  /** The next slot to be filled. */
  get nextSlot(): number {
    return this.#available;
  }

  override descriptor(i: number, descriptor: Descriptor): void {
    this.#kept[i] = descriptor;
  }

  /** Makes lists available whose buffer ids are their heads. A list without end fills the ring. */
  override offer(...heads: number[]): void {
    for (const head of heads) {
      const list: Descriptor[] = [];
      for (let i = head; list.length < this.size; i = this.#kept[i]!.next ?? 0) {
        list.push(this.#kept[i]!);
        if (((this.#kept[i]!.flags ?? 0) & NEXT) === 0) break;
      }
      this.offerList(list, head);
    }
  }

  /** Makes descriptors available as they are, but for their AVAIL and USED flags. */
  offerList(list: readonly Descriptor[], id: number): void {
    const first = this.#available;
    for (let i = list.length - 1; i >= 0; i--) {
      const slot = first + i;
      const last = i === list.length - 1;
      this.slot(slot, list[i]!, last ? id : 0x7777, (list[i]!.flags ?? 0) | this.owner(slot));
    }
    this.#available += list.length;
    this.#slots.set(id, list.length);
  }

  /** Writes anything into a slot, its flags last. */
  slot(slot: number, descriptor: Descriptor, id: number, flags: number): void {
    const at = this.#at(slot);
    const old = this.view.getUint16(at + 14, true);
    describe(this.view, at, { ...descriptor, flags: id, next: old });
    Atomics.store(this.words, (at + 14) >> 1, flags);
  }

  #next(): { id: number; length: number } | null {
    const at = this.#at(this.#used);
    const flags = Atomics.load(this.words, (at + 14) >> 1);
    const both = this.#even(this.#used) ? AVAIL_FLAG | USED_FLAG : 0;
    if ((flags & (AVAIL_FLAG | USED_FLAG)) !== both) return null;
    const length = (flags & WRITE) !== 0 ? this.view.getUint32(at + 8, true) : 0;
    return { id: this.view.getUint16(at + 12, true), length };
  }

  /** Takes what is completed. */
  #look(): void {
    while (this.#slots.size > 0) {
      const next = this.#next();
      if (next === null) return;
      this.#taken.push(next);
      this.#used += this.#slots.get(next.id) ?? 1;
      this.#slots.delete(next.id);
    }
  }

  /** Completions so far. */
  override get usedIndex(): number {
    this.#look();
    return this.#taken.length & 0xffff;
  }

  override used(index: number): { id: number; length: number } {
    return this.#taken[index]!;
  }

  override complete(count = 1, limit = ANSWER_LIMIT): boolean {
    const until = performance.now() + limit;
    for (let spins = 0; this.usedIndex - this.seen < count; spins++) {
      if (performance.now() > until) return false;
      if (spins > 200) sleep(1);
    }
    this.seen += count;
    return true;
  }

  override set usedEvent(value: number) {
    this.words[(this.base + AVAILABLE) >> 1] = value;
  }

  override set availableFlags(value: number) {
    this.words[(this.base + AVAILABLE + 2) >> 1] = value;
  }

  override set availEvent(value: number) {
    this.words[(this.base + USED) >> 1] = value;
  }
}
