/**
 * The part of an in-flight region for a packed ring (vhost-user: Inflight I/O tracking).
 *
 * Used descriptors overwrite those of requests that are still in flight, so the part keeps copies: an
 * entry for each descriptor, taken off a list of free ones. The header has everything that a
 * completion changes twice; where the two differ, the ring's flags tell which is true.
 */
import { initialiseHeader, isInitialised, words16 } from "./inflight.ts";

/** Places in the header, in 16-bit words and in bytes. */
const FREE_HEAD = 6;
const OLD_FREE_HEAD = 7;
const USED_INDEX = 8;
const OLD_USED_INDEX = 9;
const USED_WRAP = 20;
const OLD_USED_WRAP = 21;

/** Entries begin after the header and are as long as it: places in bytes, 16-bit and 32-bit words. */
const BYTES = 32;
const HALVES = 16;
const WORDS = 8;
const NEXT = 1;
const LAST = 2;
const NUM = 3;
const COUNTER = 2;
const LINK = 4;
const LENGTH = 5;
const ADDRESS = 6;

/** Flags in a packed ring. */
const AVAIL = 1 << 7;
const USED = 1 << 15;
const WRAP = 0x8000;
const IDS = 65_536;

/** A request as it was in the ring: descriptors of four words, as a packed ring has them. */
export interface RecordedChain {
  readonly id: number;
  readonly slots: number;
  readonly words: Int32Array<ArrayBuffer>;
}

export class PackedInflight {
  /** Requests to submit again, in the order in which they were taken. */
  readonly replay: readonly RecordedChain[];
  /** Where the ring goes on, as in SET_VRING_BASE, or null when the part tells nothing yet. */
  readonly base: number | null;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #u16: Uint16Array<ArrayBuffer>;
  readonly #u32: Uint32Array<ArrayBuffer>;
  readonly #size: number;
  /** The first entry of the request with a buffer id. Ours, like `#staged`: the region may change. */
  readonly #entries: Uint16Array<ArrayBuffer> = new Uint16Array(IDS);
  /** Free entries, as a stack; the list in the region is written for a successor. */
  readonly #free: Uint16Array<ArrayBuffer>;
  #freeCount = 0;
  /** What the list in the region says: the entry after each one, and the last one of each request. */
  readonly #nexts: Uint16Array<ArrayBuffer>;
  readonly #lasts: Uint16Array<ArrayBuffer>;
  /** First entries of requests that the driver is about to see as used. */
  readonly #staged: Uint16Array<ArrayBuffer>;
  #stagedCount = 0;
  #counterLow: number;
  #counterHigh = 0;

  /**
   * `size`: descriptors in the queues of the region, at least those of this ring. `ring`: the ring in
   * 16-bit words. `used`: the used half of a base, for a part that tells nothing yet.
   */
  constructor(
    part: Uint8Array<ArrayBuffer>,
    size: number,
    ring: Uint16Array<ArrayBuffer>,
    used: number,
  ) {
    this.#bytes = part;
    this.#u16 = words16(part);
    this.#u32 = new Uint32Array(part.buffer, part.byteOffset, part.length >> 2);
    this.#size = size;
    this.#free = new Uint16Array(size);
    this.#nexts = new Uint16Array(size);
    this.#lasts = new Uint16Array(size);
    this.#staged = new Uint16Array(size);
    const resumed = isInitialised(part);
    if (!resumed) {
      initialiseHeader(part, size);
      this.#setUsed(used & ~WRAP, (used & WRAP) !== 0 ? 1 : 0);
    } else this.#settle(ring);
    const recorded = this.#recorded().map((head) => this.#entriesOf(head)!);
    this.replay = recorded.map((entries, rank) => this.#adopt(entries, rank));
    this.#counterLow = recorded.length;
    this.#rebuildFree(new Set(recorded.flat()));
    this.base = resumed ? this.#baseOf(ring.length >> 3) : null;
  }

  /** Says that the chain of `slots` descriptors from slot `first` on is taken. */
  take(words: Int32Array<ArrayBuffer>, first: number, slots: number, id: number): void {
    const head = this.#free[this.#freeCount - 1]!;
    const ringWords = words.length;
    let at = first << 2;
    let last = head;
    for (let i = 0; i < slots; i++) {
      last = this.#free[--this.#freeCount]!;
      const entry = (last + 1) * WORDS;
      this.#u32[entry + LINK] = words[at + 3]!;
      this.#u32[entry + LENGTH] = words[at + 2]!;
      this.#u32[entry + ADDRESS] = words[at]!;
      this.#u32[entry + ADDRESS + 1] = words[at + 1]!;
      this.#nexts[last] = this.#freeHead();
      at += 4;
      if (at === ringWords) at = 0;
    }
    const entry = (head + 1) * HALVES;
    this.#u16[entry + LAST] = last;
    this.#u16[entry + NUM] = slots;
    const counter = (head + 1) * WORDS + COUNTER;
    this.#u32[counter] = this.#counterLow;
    this.#u32[counter + 1] = this.#counterHigh;
    this.#counterLow = (this.#counterLow + 1) >>> 0;
    if (this.#counterLow === 0) this.#counterHigh++;
    this.#entries[id] = head;
    this.#lasts[head] = last;
    this.#showFree();
    // After the copy, before anything that the request does.
    Atomics.store(this.#bytes, (head + 1) * BYTES, 1);
  }

  /** Says that the chain taken last is available again. */
  putBack(id: number): void {
    const head = this.#entries[id]!;
    Atomics.store(this.#bytes, (head + 1) * BYTES, 0);
    this.#giveBack(head);
    this.#showFree();
  }

  /** Says that a request is about to be shown to the driver as used. */
  complete(id: number): void {
    this.#staged[this.#stagedCount++] = this.#entries[id]!;
  }

  /** Says that what `complete` announced is about to be shown. `slot` and `wrap`: where using goes on. */
  publishing(slot: number, wrap: number): void {
    // A successor that finds the ring as it was takes the old half of the header.
    for (let i = 0; i < this.#stagedCount; i++) this.#giveBack(this.#staged[i]!);
    this.#u16[FREE_HEAD] = this.#freeHead();
    this.#bytes[USED_WRAP] = wrap;
    Atomics.store(this.#u16, USED_INDEX, slot);
  }

  /** Says that it is shown. */
  published(): void {
    for (let i = 0; i < this.#stagedCount; i++) this.#bytes[(this.#staged[i]! + 1) * BYTES] = 0;
    this.#stagedCount = 0;
    this.#u16[OLD_FREE_HEAD] = this.#u16[FREE_HEAD]!;
    this.#bytes[OLD_USED_WRAP] = this.#bytes[USED_WRAP]!;
    // Last: until then, a successor finds the ring as it is now and takes the new half.
    Atomics.store(this.#u16, OLD_USED_INDEX, this.#u16[USED_INDEX]!);
  }

  #freeHead(): number {
    return this.#freeCount > 0 ? this.#free[this.#freeCount - 1]! : this.#size;
  }

  /** Makes the free list of the header that of this moment, when no completion is pending in it. */
  #showFree(): void {
    const head = this.#freeHead();
    this.#u16[FREE_HEAD] = head;
    this.#u16[OLD_FREE_HEAD] = head;
  }

  /** Puts the entries of a request on top of the free ones, in their order. */
  #giveBack(head: number): void {
    const last = this.#lasts[head]!;
    this.#u16[(last + 1) * HALVES + NEXT] = this.#freeHead();
    this.#nexts[last] = this.#freeHead();
    let entry = head;
    let count = 1;
    for (; entry !== last; count++) entry = this.#nexts[entry]!;
    entry = head;
    for (let i = 1; i <= count; i++) {
      this.#free[this.#freeCount + count - i] = entry;
      entry = this.#nexts[entry]!;
    }
    this.#freeCount += count;
  }

  #setUsed(slot: number, wrap: number): void {
    this.#u16[USED_INDEX] = slot;
    this.#u16[OLD_USED_INDEX] = slot;
    this.#bytes[USED_WRAP] = wrap;
    this.#bytes[OLD_USED_WRAP] = wrap;
  }

  /** Finishes or takes back the completion that the last life may have been in the middle of. */
  #settle(ring: Uint16Array<ArrayBuffer>): void {
    const slot = this.#u16[OLD_USED_INDEX]!;
    const wrap = this.#bytes[OLD_USED_WRAP]! & 1;
    const pending = slot !== this.#u16[USED_INDEX] || wrap !== (this.#bytes[USED_WRAP]! & 1);
    const flags = ring[(slot << 3) + 7] ?? 0;
    const shown = (flags & (AVAIL | USED)) === (wrap === 1 ? AVAIL | USED : 0);
    let free = this.#u16[FREE_HEAD]!;
    if (pending && !shown) {
      free = this.#u16[OLD_FREE_HEAD]!;
      this.#setUsed(slot, wrap);
    } else this.#setUsed(this.#u16[USED_INDEX]!, this.#bytes[USED_WRAP]! & 1);
    for (let i = 0; i < this.#size && free < this.#size; i++) {
      this.#bytes[(free + 1) * BYTES] = 0;
      free = this.#u16[(free + 1) * HALVES + NEXT]!;
    }
  }

  /** First entries of the recorded requests, oldest first. What makes no sense is left out. */
  #recorded(): number[] {
    const heads: number[] = [];
    for (let head = 0; head < this.#size; head++) {
      if (this.#bytes[(head + 1) * BYTES] !== 0) heads.push(head);
    }
    const counters = new Map(heads.map((head) => [head, this.#counterOf(head)]));
    heads.sort((a, b) => counters.get(a)! - counters.get(b)!);
    const taken = new Set<number>();
    const ids = new Set<number>();
    return heads.filter((head) => {
      const entries = this.#entriesOf(head);
      const id = entries === null ? -1 : this.#u16[(entries.at(-1)! + 1) * HALVES + 2 * LINK]!;
      if (entries === null || ids.has(id) || entries.some((entry) => taken.has(entry)))
        return false;
      ids.add(id);
      for (const entry of entries) taken.add(entry);
      return true;
    });
  }

  #counterOf(head: number): number {
    const at = (head + 1) * WORDS + COUNTER;
    return this.#u32[at + 1]! * 2 ** 32 + this.#u32[at]!;
  }

  /** The entries of a request, or null when they are not a list in this part. */
  #entriesOf(head: number): number[] | null {
    const count = this.#u16[(head + 1) * HALVES + NUM]!;
    const entries: number[] = [];
    for (let entry = head; entries.length < count; ) {
      if (entry >= this.#size || entries.length === this.#size) return null;
      entries.push(entry);
      entry = this.#u16[(entry + 1) * HALVES + NEXT]!;
    }
    return count > 0 && new Set(entries).size === count ? entries : null;
  }

  /** Takes a recorded request over. */
  #adopt(entries: readonly number[], rank: number): RecordedChain {
    const head = entries[0]!;
    const last = entries.at(-1)!;
    const words = new Int32Array(new ArrayBuffer(16 * entries.length));
    entries.forEach((entry, i) => {
      const from = (entry + 1) * WORDS;
      words.set([this.#u32[from + ADDRESS]!, this.#u32[from + ADDRESS + 1]!], 4 * i);
      words.set([this.#u32[from + LENGTH]!, this.#u32[from + LINK]!], 4 * i + 2);
      this.#nexts[entry] = entries[i + 1] ?? this.#size;
    });
    const id = words.at(-1)! & 0xffff;
    this.#entries[id] = head;
    this.#lasts[head] = last;
    this.#bytes[(head + 1) * BYTES] = 1;
    // Numbers from 0 on keep the order, at each step, because no counter is below its rank.
    const counter = (head + 1) * WORDS + COUNTER;
    this.#u32[counter] = rank;
    this.#u32[counter + 1] = 0;
    return { id, slots: entries.length, words };
  }

  /** Lists all entries that no recorded request has as free, the first one on top. */
  #rebuildFree(taken: ReadonlySet<number>): void {
    let below = this.#size;
    for (let entry = this.#size - 1; entry >= 0; entry--) {
      if (taken.has(entry)) continue;
      this.#bytes[(entry + 1) * BYTES] = 0;
      this.#u16[(entry + 1) * HALVES + NEXT] = below;
      this.#nexts[entry] = below;
      this.#free[this.#freeCount++] = entry;
      below = entry;
    }
    this.#showFree();
  }

  #baseOf(ringSize: number): number {
    const used = this.#u16[USED_INDEX]! % ringSize;
    const wrap = this.#bytes[USED_WRAP]! & 1;
    const ahead = used + this.replay.reduce((sum, { slots }) => sum + slots, 0);
    const lapped = ahead >= ringSize ? 1 : 0;
    const available = (ahead - lapped * ringSize) | ((wrap ^ lapped) === 1 ? WRAP : 0);
    return (available | ((used | (wrap === 1 ? WRAP : 0)) << 16)) >>> 0;
  }
}
