/**
 * The device side of a split virtqueue whose driver is from before virtio 1.0 and runs on a
 * big-endian machine (virtio 1.3, 2.7.3; vhost-user: SET_VRING_ENDIAN).
 *
 * What it does and in which order is explained in split.ts, which it equals but for the byte order and
 * for speed. Loads and stores that order others are those of the little-endian words, swapped.
 */
import { runtime } from "../ffi/mod.ts";
import type { AddressSpace } from "./address-space.ts";
import type { Chain, HeldChain } from "./chain.ts";
import { BigEndianChain, BigEndianHeldChain } from "./chain-big-endian.ts";
import { SplitInflight } from "./inflight-split.ts";
import {
  badAddress,
  badIndex,
  Descriptor,
  looped,
  nestedTable,
  Queue,
  type QueueOptions,
} from "./queue.ts";
import { badNext, jumped, splitRingBytes, splitRules, takenTwice } from "./split.ts";

const { NEXT, WRITE, INDIRECT, ADDRESS_LIMIT } = Descriptor;

/** As they are in the words: NO_INTERRUPT of avail.flags and NO_NOTIFY of used.flags. */
const NO_CALLS = swap16(1);
const NO_KICKS = swap16(1);

/** Places of fields in the u16 views of the two rings. */
const FLAGS = 0;
const INDEX = 1;
const RING = 2;

function swap16(word: number): number {
  return ((word & 0xff) << 8) | ((word >> 8) & 0xff);
}

/** The result is signed. */
function swap32(word: number): number {
  return (swap16(word) << 16) | swap16(word >>> 16);
}

export class SplitBigEndianQueue extends Queue {
  readonly #mask: number;
  readonly #descriptors: Int32Array<ArrayBuffer>;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used16: Uint16Array<ArrayBuffer>;
  readonly #used32: Int32Array<ArrayBuffer>;
  readonly #usedEvent: number;
  readonly #availEvent: number;
  readonly #eventIdx: boolean;
  readonly #notifyOnEmpty: boolean;
  /** 1 for each head taken and not completed. */
  readonly #taken: Uint8Array<ArrayBuffer>;
  readonly #inflight: SplitInflight | null;
  /** Heads to submit again, before anything else, and those that were. */
  readonly #replay: number[];
  readonly #replayed: number[] = [];
  /** Chains taken from the ring itself. */
  #fresh = 0;
  #nextAvailable: number;
  #seenAvailable: number;
  #nextUsed: number;
  #publishedUsed: number;
  #notified = false;

  constructor(options: QueueOptions) {
    super(options, splitRules);
    const { size, inflight } = options;
    const bytes = splitRingBytes(size);
    this.#mask = size - 1;
    this.#descriptors = new Int32Array(runtime.view(options.descriptor, bytes.descriptor));
    this.#available = new Uint16Array(runtime.view(options.available, bytes.available));
    const used = runtime.view(options.used, bytes.used);
    this.#used16 = new Uint16Array(used);
    this.#used32 = new Int32Array(used, 0, 1 + 2 * size);
    this.#usedEvent = RING + size;
    this.#availEvent = RING + 4 * size;
    this.#eventIdx = options.eventIdx;
    this.#notifyOnEmpty = options.notifyOnEmpty === true;
    this.#taken = new Uint8Array(size);
    this.#nextUsed = swap16(Atomics.load(this.#used16, INDEX));
    this.#publishedUsed = this.#nextUsed;
    this.#nextAvailable = options.base;
    // The region is ours and has our byte order.
    this.#inflight = inflight
      ? new SplitInflight(inflight.bytes, inflight.queueSize, size, this.#nextUsed)
      : null;
    this.#replay = [...(this.#inflight?.replay ?? [])];
    if (this.#inflight?.resumed) {
      this.#nextAvailable = (this.#nextUsed + this.#replay.length) & 0xffff;
    }
    this.#seenAvailable = this.#nextAvailable;
  }

  protected override makeChain(memory: AddressSpace): Chain {
    return new BigEndianChain(this, memory);
  }

  protected override makeHeld(): HeldChain {
    return new BigEndianHeldChain(this, this.chain);
  }

  get base(): number {
    return this.#nextAvailable;
  }

  get replays(): number {
    return this.#replay.length;
  }

  protected load(): boolean {
    if (this.#replay.length > 0) {
      this.#loadHead(this.#replay[0]!);
      this.#replayed.push(this.#replay[0]!);
      this.#replay.shift();
      return true;
    }
    const at = this.#nextAvailable;
    if (at === this.#seenAvailable && !this.#refresh(at)) return false;
    const head = swap16(this.#available[RING + (at & this.#mask)]!);
    if (head >= this.size) throw badIndex("available ring entry", at & this.#mask, head, this.size);
    this.#loadHead(head);
    this.#fresh++;
    this.#nextAvailable = (at + 1) & 0xffff;
    return true;
  }

  #loadHead(head: number): void {
    if (this.#taken[head] !== 0) throw takenTwice(head);
    this.chain.head = head;
    this.chain.setCounts(0, 0, 0, 0);
    this.#walk(this.#descriptors, 0, this.size, head);
    this.checkTotal();
    this.#taken[head] = 1;
    this.inFlight++;
    this.#inflight?.take(head);
    if (this.log !== null) this.remember(head);
  }

  putBack(head: number = this.chain.head): void {
    if (this.closed) return;
    this.#taken[head] = 0;
    this.inFlight--;
    if (this.#fresh === 0 && this.#replayed.length > 0) {
      this.#replay.unshift(this.#replayed.pop()!);
      return;
    }
    this.#fresh--;
    this.#nextAvailable = (this.#nextAvailable - 1) & 0xffff;
    this.#inflight?.putBack(head);
  }

  /** Throws when `head` is not in flight. */
  complete(head: number, written: number): void {
    if (this.closed) return;
    if (this.#taken[head] !== 1) {
      throw new Error(`Cannot complete chain ${head} of queue ${this.index}: it is not in flight`);
    }
    this.#taken[head] = 0;
    this.inFlight--;
    const at = 1 + ((this.#nextUsed & this.#mask) << 1);
    this.#used32[at] = swap32(head);
    this.#used32[at + 1] = swap32(written);
    this.#inflight?.complete(head);
    if (this.log !== null) {
      this.markChain(head);
      this.markRing(at * 4, 8);
    }
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    if (!this.draining) this.requestPublish();
  }

  publish(): void {
    const next = this.#nextUsed;
    const old = this.#publishedUsed;
    if (next === old || this.closed) return;
    // Orders the used elements before the index, and the index before the suppression fields.
    Atomics.store(this.#used16, INDEX, swap16(next));
    this.#publishedUsed = next;
    this.#inflight?.published(next);
    if (this.log !== null) {
      this.markRing(INDEX * 2, 2);
      this.log.log.signal.send();
    }
    if (this.#wantsCall(old, next)) this.call();
  }

  suppressKicks(): void {
    if (!this.#eventIdx) this.#used16[FLAGS] = NO_KICKS;
  }

  requestKick(): boolean {
    const at = this.#nextAvailable;
    // The store must be visible before the index is read again; Atomics order the two.
    if (this.#eventIdx) Atomics.store(this.#used16, this.#availEvent, swap16(at));
    else Atomics.store(this.#used16, FLAGS, 0);
    if (this.log !== null) {
      this.markRing(FLAGS, 2);
      this.markRing(this.#availEvent * 2, 2);
    }
    return swap16(Atomics.load(this.#available, INDEX)) !== at;
  }

  /** Looks for new chains; false when there are none. */
  #refresh(at: number): boolean {
    // Orders the ring entry and the descriptors, which are read next, after the index.
    const seen = swap16(Atomics.load(this.#available, INDEX));
    if (((seen - at) & 0xffff) > this.size) throw jumped(at, seen, this.size);
    this.#seenAvailable = seen;
    return seen !== at;
  }

  #wantsCall(old: number, next: number): boolean {
    const available = swap16(this.#nextAvailable);
    const empty = this.#notifyOnEmpty && Atomics.load(this.#available, INDEX) === available;
    if (!this.#eventIdx) {
      return empty || (Atomics.load(this.#available, FLAGS) & NO_CALLS) === 0;
    }
    const event = swap16(Atomics.load(this.#available, this.#usedEvent));
    const first = !this.#notified;
    this.#notified = true;
    // virtio 1.3, 2.7.10.1: the index passed the event, in 16-bit arithmetic.
    return empty || first || ((next - event - 1) & 0xffff) < ((next - old) & 0xffff);
  }

  /** Appends the buffers of the descriptors from `first` on; see `SplitQueue`. */
  #walk(table: Int32Array<ArrayBuffer>, base: number, size: number, first: number): void {
    let index = first;
    for (let steps = 0; ; steps++) {
      if (steps === size) throw looped(first, size);
      const at = base + (index << 2);
      // The address's high half comes first here; flags and next come in one word, in this order.
      const high = swap32(table[at]!);
      const low = swap32(table[at + 1]!);
      const length = swap32(table[at + 2]!);
      const link = swap32(table[at + 3]!);
      const flags = link >>> 16;
      if ((flags & INDIRECT) !== 0) {
        if (table !== this.#descriptors) throw nestedTable(index);
        const inner = this.openTable(index, low, high, length, flags);
        return this.#walk(inner, this.tableBase, length >>> 4, 0);
      }
      if ((high & ADDRESS_LIMIT) !== 0) throw badAddress(index, low, high);
      this.chain.append(high, low, length, (flags & WRITE) !== 0);
      if ((flags & NEXT) === 0) return;
      index = link & 0xffff;
      if (index >= size) throw badNext((at - base) >> 2, index, size);
    }
  }
}
