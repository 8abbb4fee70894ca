/**
 * The part of an in-flight region for a packed ring (vhost-user: Inflight I/O tracking).
 *
 * Used descriptors overwrite those of requests that are still in flight, so the part keeps copies: an
 * entry for each descriptor, taken off a list of free ones. The header has everything that a
 * completion changes twice: as it was, and as it will be. The ring's flags tell which is true.
 *
 * Stores are plain: nobody reads a part while its back-end lives, so only the order of the program counts,
 * and the atomic store that shows a completion in the ring stands between those before and after it.
 */
import { announce, clearPart, isAnnounced, words16, words64 } from "./inflight.ts";

/** Places in the header, in 16-bit words and in bytes. */
const FREE_HEAD = 6;
const OLD_FREE_HEAD = 7;
/** Both in one 32-bit word. */
const FREE_HEADS = 3;
const USED_INDEX = 8;
const OLD_USED_INDEX = 9;
const USED_WRAP = 20;
const OLD_USED_WRAP = 21;

/** Entries begin after the header and are as long as it: places in bytes, 16-bit and 32-bit words. */
const BYTES = 32;
const HALVES = 16;
const WORDS = 8;
const LONG_WORDS = 4;
const NEXT = 1;
const NUM = 3;
const LAST_AND_NUM = 1;
const COUNTER = 2;
const LONG_COUNTER = 1;
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
  /** The first free entry, `#size` when there is none. The list in the region is for a successor. */
  #free: number;
  /** What the lists in the region say: the entry after each one, and the last one of each request. */
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
    this.#free = size;
    this.#nexts = new Uint16Array(size);
    this.#lasts = new Uint16Array(size);
    this.#staged = new Uint16Array(size);
    const resumed = isAnnounced(part);
    if (!resumed) {
      clearPart(part, size);
      this.#setUsed(used & ~WRAP, (used & WRAP) !== 0 ? 1 : 0);
    } else this.#settle(ring);
    const lists = new Map<RecordedChain, readonly number[]>();
    this.replay = this.#recorded(ring.length >> 3, lists);
    this.#rebuildFree(new Set([...lists.values()].flat()));
    if (!resumed) announce(part);
    this.#adopt(lists);
    this.#counterLow = this.replay.length;
    this.base = resumed ? this.#baseOf(ring.length >> 3) : null;
    if (this.base !== null) this.#hideUnshown(ring, this.base >>> 16);
  }

  /**
   * Says that the chain of `slots` descriptors from slot `first` on is taken. There are entries for it:
   * the queue takes no more than its ring has.
   */
  take(words: Int32Array<ArrayBuffer>, first: number, slots: number, id: number): void {
    const head = this.#free;
    const u32 = this.#u32;
    const nexts = this.#nexts;
    const ringWords = words.length;
    let at = first << 2;
    let free = head;
    let last = head;
    for (let i = 0; i < slots; i++) {
      last = free;
      free = nexts[last]!;
      const entry = (last + 1) * WORDS;
      u32[entry + LINK] = words[at + 3]!;
      u32[entry + LENGTH] = words[at + 2]!;
      u32[entry + ADDRESS] = words[at]!;
      u32[entry + ADDRESS + 1] = words[at + 1]!;
      at += 4;
      if (at === ringWords) at = 0;
    }
    const entry = (head + 1) * WORDS;
    u32[entry + LAST_AND_NUM] = last | (slots << 16);
    u32[entry + COUNTER] = this.#counterLow;
    u32[entry + COUNTER + 1] = this.#counterHigh;
    this.#counterLow = (this.#counterLow + 1) >>> 0;
    if (this.#counterLow === 0) this.#counterHigh++;
    this.#entries[id] = head;
    this.#lasts[head] = last;
    this.#free = free;
    this.#showFree();
    // After the copy.
    this.#bytes[(head + 1) * BYTES] = 1;
  }

  /** Says that the chain taken last is available again. */
  putBack(id: number): void {
    const head = this.#entries[id]!;
    this.#bytes[(head + 1) * BYTES] = 0;
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
    this.#u16[FREE_HEAD] = this.#free;
    // Before the index, so that a smaller index with the old wrap counter means an unfinished commit.
    this.#bytes[USED_WRAP] = wrap;
    this.#u16[USED_INDEX] = slot;
  }

  /** Says that it is shown. */
  published(): void {
    for (let i = 0; i < this.#stagedCount; i++) this.#bytes[(this.#staged[i]! + 1) * BYTES] = 0;
    this.#stagedCount = 0;
    this.#commit();
  }

  /** Makes the new half of the header the old one. */
  #commit(): void {
    this.#u16[OLD_FREE_HEAD] = this.#u16[FREE_HEAD]!;
    this.#bytes[OLD_USED_WRAP] = this.#bytes[USED_WRAP]!;
    // Last: until then, a successor finds the ring as it is now and takes the new half.
    this.#u16[OLD_USED_INDEX] = this.#u16[USED_INDEX]!;
  }

  /** Makes the free list of the header that of this moment, when no completion is pending in it. */
  #showFree(): void {
    this.#u32[FREE_HEADS] = this.#free | (this.#free << 16);
  }

  /** Puts the entries of a request before the free ones. */
  #giveBack(head: number): void {
    const last = this.#lasts[head]!;
    this.#u16[(last + 1) * HALVES + NEXT] = this.#free;
    this.#nexts[last] = this.#free;
    this.#free = head;
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
    if (this.#wasShown(ring, slot, wrap)) {
      this.#clearFree(this.#u16[FREE_HEAD]!);
      this.#commit();
      return;
    }
    this.#clearFree(this.#u16[OLD_FREE_HEAD]!);
    // In this order: the other way round, what is left looks like a commit that was not finished.
    this.#u16[USED_INDEX] = slot;
    this.#bytes[USED_WRAP] = wrap;
  }

  /** Tells whether the driver has seen the completion that leads on from the old half of the header. */
  #wasShown(ring: Uint16Array<ArrayBuffer>, slot: number, wrap: number): boolean {
    // Only a commit that wrote the wrap counter and not yet the index leaves this.
    if (this.#u16[USED_INDEX]! < slot && (this.#bytes[USED_WRAP]! & 1) === wrap) return true;
    // Not whether it is used: the driver may have made the slot available again, in the next lap.
    const flags = ring[(slot << 3) + 7] ?? 0;
    return (flags & (AVAIL | USED)) !== (wrap === 1 ? AVAIL : USED);
  }

  /** Clears what is recorded of the entries in a list of free ones. */
  #clearFree(head: number): void {
    let entry = head;
    for (let i = 0; i < this.#size && entry < this.#size; i++) {
      this.#bytes[(entry + 1) * BYTES] = 0;
      entry = this.#u16[(entry + 1) * HALVES + NEXT]!;
    }
  }

  /**
   * The recorded requests, oldest first, with the entries of each in `lists`. What makes no sense is left
   * out: lists that leave the part or share entries, ids that are there already, more slots than the
   * ring has.
   */
  #recorded(ringSize: number, lists: Map<RecordedChain, readonly number[]>): RecordedChain[] {
    const seen = new Uint8Array(this.#size);
    const ids = new Set<number>();
    let room = ringSize;
    for (const head of this.#heads()) {
      const entries = this.#entriesOf(head, room, seen);
      if (entries === null) continue;
      const chain = this.#copyOf(entries);
      if (ids.has(chain.id)) continue;
      ids.add(chain.id);
      lists.set(chain, entries);
      room -= entries.length;
    }
    return [...lists.keys()];
  }

  /** First entries of what is recorded, oldest request first. */
  #heads(): number[] {
    const words = words64(this.#bytes);
    const requests: { readonly head: number; readonly counter: bigint }[] = [];
    for (let head = 0; head < this.#size; head++) {
      if (this.#bytes[(head + 1) * BYTES] === 0) continue;
      requests.push({ head, counter: words[(head + 1) * LONG_WORDS + LONG_COUNTER]! });
    }
    requests.sort((a, b) => (a.counter < b.counter ? -1 : a.counter > b.counter ? 1 : 0));
    return requests.map(({ head }) => head);
  }

  /**
   * The entries of a request, or null when they are not a list of at most `room` of them. Marks what it
   * has seen and looks at no entry twice, so that all lists together take no more time than one.
   */
  #entriesOf(head: number, room: number, seen: Uint8Array<ArrayBuffer>): number[] | null {
    const count = this.#u16[(head + 1) * HALVES + NUM]!;
    if (count === 0 || count > room) return null;
    const entries: number[] = [];
    for (let entry = head; entries.length < count; ) {
      if (entry >= this.#size || seen[entry] !== 0) return null;
      seen[entry] = 1;
      entries.push(entry);
      entry = this.#u16[(entry + 1) * HALVES + NEXT]!;
    }
    return entries;
  }

  #copyOf(entries: readonly number[]): RecordedChain {
    const words = new Int32Array(new ArrayBuffer(16 * entries.length));
    entries.forEach((entry, i) => {
      const from = (entry + 1) * WORDS;
      words.set([this.#u32[from + ADDRESS]!, this.#u32[from + ADDRESS + 1]!], 4 * i);
      words.set([this.#u32[from + LENGTH]!, this.#u32[from + LINK]!], 4 * i + 2);
    });
    return { id: words.at(-1)! & 0xffff, slots: entries.length, words };
  }

  /** Takes recorded requests over. */
  #adopt(lists: ReadonlyMap<RecordedChain, readonly number[]>): void {
    const words = words64(this.#bytes);
    let rank = 0n;
    for (const [{ id }, entries] of lists) {
      const head = entries[0]!;
      this.#entries[id] = head;
      this.#lasts[head] = entries.at(-1)!;
      entries.forEach((entry, i) => {
        this.#nexts[entry] = entries[i + 1] ?? this.#size;
      });
      // Numbers from 0 on keep the order, at each step, because no counter is below its rank.
      words[(head + 1) * LONG_WORDS + LONG_COUNTER] = rank++;
    }
  }

  /** Lists all entries that no recorded request has as free, the first one on top. */
  #rebuildFree(taken: ReadonlySet<number>): void {
    let below = this.#size;
    for (let entry = this.#size - 1; entry >= 0; entry--) {
      if (taken.has(entry)) continue;
      this.#bytes[(entry + 1) * BYTES] = 0;
      this.#u16[(entry + 1) * HALVES + NEXT] = below;
      this.#nexts[entry] = below;
      below = entry;
    }
    this.#free = below;
    this.#showFree();
  }

  #baseOf(ringSize: number): number {
    const used = this.#u16[USED_INDEX]! % ringSize;
    const wrap = this.#bytes[USED_WRAP]! & 1;
    const ahead = used + slotsOf(this.replay);
    const lapped = ahead >= ringSize ? 1 : 0;
    const available = (ahead - lapped * ringSize) | ((wrap ^ lapped) === 1 ? WRAP : 0);
    return (available | ((used | (wrap === 1 ? WRAP : 0)) << 16)) >>> 0;
  }

  /**
   * Makes used descriptors available again that the last life wrote and did not show: the driver
   * would take them for shown as soon as those before them are. `base`: the used half of one.
   */
  #hideUnshown(ring: Uint16Array<ArrayBuffer>, base: number): void {
    const size = ring.length >> 3;
    let slot = base & ~WRAP;
    let wrap = base >>> 15;
    for (let left = slotsOf(this.replay); left > 0; left--) {
      const at = (slot << 3) + 7;
      const used = wrap === 1 ? AVAIL | USED : 0;
      if ((ring[at]! & (AVAIL | USED)) === used) ring[at] = wrap === 1 ? AVAIL : USED;
      if (++slot === size) {
        slot = 0;
        wrap ^= 1;
      }
    }
  }
}

const slotsOf = (chains: readonly RecordedChain[]) =>
  chains.reduce((sum, { slots }) => sum + slots, 0);
