/**
 * The device side of a split virtqueue (virtio 1.3, 2.7).
 *
 * The driver's memory is untrusted and changes under our feet: every field is read once, checked,
 * and only the checked copy is used. Indices are 16 bits wide and wrap; ring slots are `index & mask`.
 *
 * Ordering: `Atomics` accesses are sequentially consistent. Loading `avail.idx` orders the
 * descriptors read after it; storing `used.idx` orders the elements written before it, and the
 * suppression fields read after it. Everything else is a plain access.
 */
import { runtime } from "../ffi/mod.ts";
import { Place, placeOf } from "./address-space.ts";
import { readableAfterWritable } from "./chain.ts";
import { InOrder } from "./in-order.ts";
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
import { Replay } from "./replay.ts";
import {
  badNext,
  Field,
  jumped,
  Suppress,
  splitRingBytes,
  splitRules,
  takenTwice,
} from "./split-format.ts";

const { NEXT, WRITE, INDIRECT, ADDRESS_LIMIT } = Descriptor;
const { SHIFT, END, SLOT, OFFSET_MASK } = Place;
const { FLAGS, INDEX, RING } = Field;
const { NO_INTERRUPT, NO_NOTIFY } = Suppress;

const MAX_INT32 = 0x7fffffff;

/**
 * Its ring's parts are aligned to 16, 2 and 4 bytes; its base is the next available index.
 *
 * What its methods that are not private read and write of the ring is little-endian words.
 */
export class SplitQueue extends Queue {
  /** Four words each: the address's low and high half, the length, flags and next index. */
  protected readonly descriptors: Int32Array<ArrayBuffer>;
  protected readonly available: Uint16Array<ArrayBuffer>;
  protected readonly used16: Uint16Array<ArrayBuffer>;
  protected readonly used32: Int32Array<ArrayBuffer>;
  readonly #mask: number;
  readonly #usedEvent: number;
  readonly #availEvent: number;
  readonly #eventIdx: boolean;
  readonly #notifyOnEmpty: boolean;
  readonly #order: InOrder | null;
  /** 1 for each head taken and not completed, 2 while it is completed too early to be used. */
  readonly #taken: Uint8Array<ArrayBuffer>;

  readonly #inflight: SplitInflight | null = null;
  /** Nothing is to be recorded of requests: what each of them asks for once. */
  readonly #plain: boolean;
  readonly #replay: Replay<number>;
  #nextAvailable: number;
  #seenAvailable: number;
  #nextUsed: number;
  #publishedUsed: number;
  /** False until the driver was notified once: before that there is nothing to suppress against. */
  #notified = false;

  constructor(options: QueueOptions) {
    super(options, splitRules);
    const { size } = options;
    const bytes = splitRingBytes(size);
    this.#mask = size - 1;
    this.descriptors = new Int32Array(runtime.view(options.descriptor, bytes.descriptor));
    this.available = new Uint16Array(runtime.view(options.available, bytes.available));
    const used = runtime.view(options.used, bytes.used);
    this.used16 = new Uint16Array(used);
    this.used32 = new Int32Array(used, 0, 1 + 2 * size);
    this.#usedEvent = RING + size;
    this.#availEvent = RING + 4 * size;
    this.#eventIdx = options.eventIdx;
    this.#notifyOnEmpty = options.notifyOnEmpty === true;
    this.#order = options.inOrder ? new InOrder(size, size) : null;
    this.#taken = new Uint8Array(size);
    // Firmware and drivers may have used the ring before: go on where the driver last saw us.
    this.#nextUsed = this.loadUsedIndex();
    this.#publishedUsed = this.#nextUsed;
    this.#nextAvailable = options.base;
    const { inflight } = options;
    if (inflight != null) {
      const { bytes, queueSize } = inflight;
      this.#inflight = new SplitInflight(bytes, queueSize, size, this.#nextUsed);
      // A front-end that saw its back-end vanish knows only the used index, and may send that.
      if (this.#inflight.resumed) {
        this.#nextAvailable = (this.#nextUsed + this.#inflight.replay.length) & 0xffff;
      }
    }
    this.#replay = new Replay(this.#inflight?.replay);
    this.#seenAvailable = this.#nextAvailable;
    this.#plain = this.#inflight === null && this.log === null && this.#order === null;
  }

  get base(): number {
    return this.#nextAvailable;
  }

  get replays(): number {
    return this.#replay.waiting.length;
  }

  protected load(): boolean {
    const at = this.#nextAvailable;
    if (!this.#plain && this.#replay.waiting.length > 0) return this.#loadAgain();
    if (at === this.#seenAvailable && !this.#refresh(at)) return false;
    const head = this.entry(at & this.#mask);
    if (head >= this.size) throw badIndex("available ring entry", at & this.#mask, head, this.size);
    this.#loadHead(head);
    if (!this.#plain) this.#recordTaken(head);
    this.#nextAvailable = (at + 1) & 0xffff;
    return true;
  }

  #recordTaken(head: number): void {
    this.#replay.taken();
    this.#inflight?.take(head);
  }

  /** Loads a request that was in flight when an earlier back-end ended, and is recorded as such. */
  #loadAgain(): boolean {
    this.#loadHead(this.#replay.waiting[0]!);
    this.#replay.submitted();
    return true;
  }

  #loadHead(head: number): void {
    if (this.#taken[head] !== 0) throw takenTwice(head);
    this.chain.head = head;
    this.walkFrom(head);
    this.#taken[head] = 1;
    this.inFlight++;
    if (!this.#plain) this.#track(head);
  }

  #track(head: number): void {
    if (this.log !== null) this.remember(head);
    this.#order?.take(head);
  }

  putBack(head: number = this.chain.head): void {
    if (this.closed) return;
    this.#taken[head] = 0;
    this.inFlight--;
    if (this.log !== null) this.forget(head);
    this.#order?.putBack(head);
    if (this.#replay.putBack()) return;
    this.#nextAvailable = (this.#nextAvailable - 1) & 0xffff;
    this.#inflight?.putBack(head);
  }

  /** Throws when `head` is not in flight: completing twice would hand the driver a foreign buffer. */
  complete(head: number, written: number): void {
    if (this.closed) return;
    if (this.#taken[head] !== 1) {
      throw new Error(`Cannot complete chain ${head} of queue ${this.index}: it is not in flight`);
    }
    this.inFlight--;
    if (this.#plain) this.#use(head, written);
    else this.#completeTracked(head, written);
    if (!this.draining) this.requestPublish();
  }

  #completeTracked(early: number, written: number): void {
    const order = this.#order;
    if (order === null) return this.#useTracked(early, written);
    this.#taken[early] = 2;
    order.complete(early, written);
    for (let head = order.next(); head >= 0; head = order.next()) {
      this.#useTracked(head, order.written);
    }
  }

  #useTracked(head: number, written: number): void {
    const slot = this.#nextUsed & this.#mask;
    this.#use(head, written);
    this.#inflight?.complete(head);
    if (this.log === null) return;
    this.markChain(head);
    this.markRing(4 + slot * 8, 8);
  }

  /** Writes the used element of a chain. */
  #use(head: number, written: number): void {
    this.#taken[head] = 0;
    this.writeElement(this.#nextUsed & this.#mask, head, written);
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
  }

  publish(): void {
    const next = this.#nextUsed;
    const old = this.#publishedUsed;
    if (next === old || this.closed) return;
    // Orders the used elements before the index, and the index before the suppression fields.
    this.store(INDEX, next);
    this.#publishedUsed = next;
    if (this.#inflight !== null) this.#inflight.published(next);
    if (this.log !== null) this.#markIndex();
    if (this.#wantsCall(old, next)) this.call();
  }

  suppressKicks(): void {
    // With EVENT_IDX an avail_event that stays behind does the same.
    if (this.#eventIdx) return;
    this.store(FLAGS, NO_NOTIFY);
    if (this.log !== null) this.#markEvent();
  }

  requestKick(): boolean {
    const at = this.#nextAvailable;
    // The store must be visible before the index is read again; Atomics order the two.
    if (this.#eventIdx) this.store(this.#availEvent, at);
    else this.store(FLAGS, 0);
    if (this.log !== null) this.#markEvent();
    return this.look(INDEX) !== at;
  }

  #markIndex(): void {
    this.markRing(INDEX * 2, 2);
    this.log!.log.signal.send();
  }

  /** Marks the field that says whether kicks are wanted. */
  #markEvent(): void {
    this.markRing((this.#eventIdx ? this.#availEvent : FLAGS) * 2, 2);
    this.log!.log.signal.send();
  }

  /** Looks for new chains; false when there are none. */
  #refresh(at: number): boolean {
    // Orders the ring entry and the descriptors, which are read next, after the index.
    const seen = this.look(INDEX);
    if (((seen - at) & 0xffff) > this.size) throw jumped(at, seen, this.size);
    this.#seenAvailable = seen;
    return seen !== at;
  }

  #wantsCall(old: number, next: number): boolean {
    // virtio 1.3, 6.3: whatever the driver wants, it hears of running out of chains.
    const available = this.#nextAvailable;
    const empty = this.#notifyOnEmpty && this.look(INDEX) === available;
    if (!this.#eventIdx) return empty || (this.look(FLAGS) & NO_INTERRUPT) === 0;
    const event = this.look(this.#usedEvent);
    const first = !this.#notified;
    this.#notified = true;
    // virtio 1.3, 2.7.10.1: the index passed the event, in 16-bit arithmetic.
    return empty || first || ((next - event - 1) & 0xffff) < ((next - old) & 0xffff);
  }

  /** Field `at` of the available ring, and after it whatever the driver wrote before. */
  protected look(at: number): number {
    return Atomics.load(this.available, at);
  }

  /** Writes field `at` of the used ring, after all that was written before and before all that follows. */
  protected store(at: number, value: number): void {
    Atomics.store(this.used16, at, value);
  }

  protected loadUsedIndex(): number {
    return Atomics.load(this.used16, INDEX);
  }

  /** The head in a slot of the available ring. */
  protected entry(slot: number): number {
    return this.available[RING + slot]!;
  }

  protected writeElement(slot: number, head: number, written: number): void {
    const at = 1 + (slot << 1);
    this.used32[at] = head;
    this.used32[at + 1] = written;
  }

  /** Makes the chain of the descriptors from `head` on. */
  protected walkFrom(head: number): void {
    let table = this.descriptors;
    let base = 0;
    let size = this.size;
    let first = head;
    // Nearly all indirect tables belong to the head: the walk itself then stays in one table.
    const word = head << 2;
    const link = table[word + 3]!;
    if ((link & INDIRECT) !== 0) {
      const length = table[word + 2]!;
      table = this.openTable(head, table[word]!, table[word + 1]!, length, link);
      base = this.tableBase;
      size = length >> 4;
      first = 0;
    }
    this.#walk(table, base, size, first);
  }

  /**
   * Makes the chain of the descriptors from `first` on. `table` has `size` of them from word `base` on.
   *
   * This is `Chain.append` for the common buffer, one that lies in the window found last, with everything
   * in locals: a request spends most of its time here. Whatever is not common goes the long way.
   */
  #walk(table: Int32Array<ArrayBuffer>, base: number, size: number, first: number): void {
    const { chain } = this;
    const { places } = this.memory;
    const { spans } = chain;
    let index = first;
    let count = 0;
    let readableCount = 0;
    let readableBytes = 0;
    let writableBytes = 0;
    for (let steps = 0; ; steps++) {
      if (steps === size) throw looped(first, size);
      const at = (base + (index << 2)) | 0;
      const low = table[at]!;
      const high = table[at + 1]!;
      const length = table[at + 2]!;
      const link = table[at + 3]!;
      const place = placeOf(high, low);
      const offset = ((low & OFFSET_MASK) + places[place + SHIFT]!) | 0;
      const end = places[place + END]!;
      const span = count << 2;
      if (
        places[place] !== high ||
        // Unsigned on both sides, which engines compare as integers.
        offset >>> 0 >= end >>> 0 ||
        // Also true for a length of 0.
        (length - 1) >>> 0 >= (end - offset) >>> 0 ||
        span >= spans.length ||
        (link & INDIRECT) !== 0
      ) {
        chain.setCounts(count, readableCount, readableBytes, writableBytes);
        this.#walkOn(table, base, size, index, steps);
        return this.checkTotal();
      }
      spans[span] = places[place + SLOT]!;
      spans[span + 1] = offset;
      spans[span + 2] = length;
      count++;
      if ((link & WRITE) !== 0) writableBytes += length;
      else {
        readableBytes += length;
        if (++readableCount !== count) throw readableAfterWritable(high, low, chain.head);
      }
      if ((link & NEXT) === 0) break;
      index = link >>> 16;
      if (index >= size) throw badNext((at - base) >> 2, index, size);
    }
    chain.setCounts(count, readableCount, readableBytes, writableBytes);
    if (readableBytes + writableBytes > MAX_INT32) this.checkTotal();
  }

  /** Goes on with the descriptor `index`, the one after `steps` others, wherever its buffer lies. */
  #walkOn(
    table: Int32Array<ArrayBuffer>,
    base: number,
    size: number,
    first: number,
    before: number,
  ): void {
    let index = first;
    for (let steps = before; ; steps++) {
      if (steps === size) throw looped(this.chain.head, size);
      const at = (base + (index << 2)) | 0;
      const low = table[at]!;
      const high = table[at + 1]!;
      const length = table[at + 2]!;
      const link = table[at + 3]!;
      if ((link & INDIRECT) !== 0) {
        if (table !== this.descriptors) throw nestedTable(index);
        const inner = this.openTable(index, low, high, length, link);
        return this.#walkOn(inner, this.tableBase, length >> 4, 0, 0);
      }
      if ((high & ADDRESS_LIMIT) !== 0) throw badAddress(index, low, high);
      this.chain.append(high, low, length, (link & WRITE) !== 0);
      if ((link & NEXT) === 0) return;
      index = link >>> 16;
      if (index >= size) throw badNext((at - base) >> 2, index, size);
    }
  }
}
