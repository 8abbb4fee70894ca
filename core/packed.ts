/**
 * The device side of a packed virtqueue (virtio 1.3, 2.8).
 *
 * One ring holds what the driver makes available and what the device has used. Whose a slot is, its
 * flags tell against a wrap counter that changes with every lap. A chain takes as many slots as it
 * has descriptors; the one used descriptor that completes it goes into the next slot of the device's
 * own, and as many are skipped. Chains are named by buffer ids, which are the driver's choice.
 *
 * The driver's memory is untrusted and changes under our feet: every field is read once, checked,
 * and only the checked copy is used.
 *
 * Ordering: `Atomics` accesses are sequentially consistent. Loading the word with a slot's flags
 * orders the other fields read after it. Storing the flags of the first used descriptor of a batch
 * orders all that was written before it, and the suppression fields read after it. Everything else is
 * a plain access.
 */
import { runtime } from "../ffi/mod.ts";
import { Place, placeOf } from "./address-space.ts";
import { readableAfterWritable } from "./chain.ts";
import { InOrder } from "./in-order.ts";
import { PackedInflight, type RecordedChain } from "./inflight-packed.ts";
import {
  cut,
  Event,
  Flags,
  mixed,
  overrun,
  Position,
  packedRingBytes,
  rules,
  trueBase,
  twice,
} from "./packed-format.ts";
import { badAddress, Descriptor, markPages, Queue, type QueueOptions } from "./queue.ts";
import { Replay } from "./replay.ts";

const { WRITE, INDIRECT, ADDRESS_LIMIT } = Descriptor;
const { SHIFT, END, SLOT: PLACE_SLOT, OFFSET_MASK } = Place;
const { AVAIL, OWNER, OWNER_BITS, NEXT_BIT, INDIRECT_BIT, WRITE_SHIFT } = Flags;
const { SIZE: EVENT_SIZE, ENABLE, DISABLE, DESC, FLAGS: EVENT_FLAGS } = Event;
const { SLOT, WRAP } = Position;
const USED = OWNER ^ AVAIL;
/** Buffer ids that there are. */
const IDS = 65_536;

/**
 * Its parts are the descriptor ring and the driver's and the device's event areas, aligned to 16, 4
 * and 4 bytes. Its size is any number up to 32768. Its base encodes both positions: bits 0 to 14 the
 * next available slot, 15 its wrap counter, 16 to 30 the next used slot, 31 its wrap counter.
 */
export class PackedQueue extends Queue {
  /** Four words each: the address's low and high half, the length, id and flags. */
  readonly #words: Int32Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #driverEvent: Int32Array<ArrayBuffer>;
  readonly #deviceEvent: Int32Array<ArrayBuffer>;
  readonly #eventIdx: boolean;
  readonly #order: InOrder | null;
  /** Slots of the chain with a buffer id, 0 for each id that is not in flight. */
  readonly #slots: Uint16Array<ArrayBuffer> = new Uint16Array(IDS);

  /** The next slot to be taken, and what OWNER shows there once it is available. */
  #nextAvailable: number;
  #availableFlags: number;
  /** The next slot to be used, and what OWNER shows there afterwards. */
  #nextUsed: number;
  #usedFlags: number;
  /** Slots that may be taken before some are shown as used: all, less those taken and not shown. */
  #room: number;
  /** The last word of the descriptor that `#walk` ended with. */
  #lastLink = 0;
  /** Slots used since the last `publish`, and the first of them with the flags that show it. */
  #staged = 0;
  #gate = 0;
  #gateFlags = 0;
  readonly #inflight: PackedInflight | null = null;
  readonly #replay: Replay<RecordedChain>;

  constructor(options: QueueOptions) {
    super(options, rules);
    const { size } = options;
    const ring = runtime.view(options.descriptor, packedRingBytes(size).descriptor);
    this.#words = new Int32Array(ring);
    this.#halves = new Uint16Array(ring);
    this.#driverEvent = new Int32Array(runtime.view(options.available, EVENT_SIZE));
    this.#deviceEvent = new Int32Array(runtime.view(options.used, EVENT_SIZE));
    this.#eventIdx = options.eventIdx;
    this.#order = options.inOrder ? new InOrder(size, IDS) : null;
    let base = trueBase(this.#halves, options.base);
    const { inflight } = options;
    if (inflight != null) {
      const { bytes, queueSize } = inflight;
      this.#inflight = new PackedInflight(bytes, queueSize, this.#halves, base >>> 16);
      base = this.#inflight.base ?? base;
    }
    this.#replay = new Replay(this.#inflight?.replay);
    if (this.log !== null) this.#markReplay(base >>> 16);
    const available = base & 0xffff;
    const used = base >>> 16;
    this.#nextAvailable = available & SLOT;
    this.#availableFlags = (available & WRAP) !== 0 ? AVAIL : USED;
    this.#nextUsed = used & SLOT;
    this.#usedFlags = (used & WRAP) !== 0 ? OWNER : 0;
    const ahead = this.#nextAvailable - this.#nextUsed;
    this.#room = size - ahead - (((available ^ used) & WRAP) !== 0 ? size : 0);
  }

  get replays(): number {
    return this.#replay.waiting.length;
  }

  get base(): number {
    const available = this.#nextAvailable | (this.#availableFlags === AVAIL ? WRAP : 0);
    const used = this.#nextUsed | (this.#usedFlags === OWNER ? WRAP : 0);
    return (available | (used << 16)) >>> 0;
  }

  protected load(): boolean {
    const first = this.#nextAvailable;
    const words = this.#words;
    if (this.#replay.waiting.length > 0) return this.#loadAgain(this.#replay.waiting[0]!);
    const at = first << 2;
    // Orders the rest of the chain, which is read next, after the flags.
    const link = Atomics.load(words, at + 3);
    const flags = link >>> 16;
    if ((flags & OWNER) !== this.#availableFlags) return false;
    this.chain.head = first;
    if ((flags & INDIRECT) !== 0) {
      const length = words[at + 2]!;
      const table = this.openTable(first, words[at]!, words[at + 1]!, length, flags);
      this.#walkTable(table, this.tableBase, length >> 4);
      this.#enter(first, 1, link & 0xffff);
    } else {
      const slots = this.#walk(words, at, link, this.#room, true);
      this.#enter(first, slots, this.#lastLink & 0xffff);
    }
    return true;
  }

  /** Loads a request that was in flight when an earlier back-end ended. */
  #loadAgain(recorded: RecordedChain): boolean {
    const { id, slots, words } = recorded;
    if (this.#slots[id] !== 0) throw twice(id, 0);
    this.chain.head = 0;
    const flags = words[3]! >>> 16;
    if (slots === 1 && (flags & INDIRECT) !== 0) {
      const length = words[2]!;
      const table = this.openTable(0, words[0]!, words[1]!, length, flags);
      this.#walkTable(table, this.tableBase, length >> 4);
    } else this.#walkTable(words, 0, slots);
    this.checkTotal();
    this.chain.head = id;
    this.#slots[id] = slots;
    this.inFlight++;
    this.#replay.submitted();
    if (this.log !== null) this.remember(id);
    if (this.#order !== null) this.#order.take(id);
    return true;
  }

  /** Makes the chain of all descriptors of a table; of their flags only WRITE counts (2.8.7). */
  #walkTable(table: Int32Array<ArrayBuffer>, base: number, count: number): void {
    this.#walk(table, base, table[base + 3]!, count, false);
  }

  /**
   * Makes the chain of the descriptors from word `first` on, whose own last word is `firstLink`: of a
   * list in the ring that ends where its flags say so, or of `limit` ones of a table. Returns how
   * many there were, and leaves the last one's last word in `#lastLink`.
   *
   * This is `Chain.append` for the common buffer, one that lies in the window found last, with
   * everything in locals: a request spends most of its time here.
   */
  #walk(
    table: Int32Array<ArrayBuffer>,
    first: number,
    firstLink: number,
    limit: number,
    listed: boolean,
  ): number {
    const { chain } = this;
    const { places } = this.memory;
    let { spans } = chain;
    let owner = this.#availableFlags << 16;
    let at = first;
    let link = firstLink;
    let count = 0;
    let readableCount = 0;
    let readableBytes = 0;
    let writableBytes = 0;
    for (let steps = 1; ; steps++) {
      const low = table[at]!;
      const high = table[at + 1]!;
      const length = table[at + 2]!;
      const write = (link >>> WRITE_SHIFT) & 1;
      const place = placeOf(high, low);
      const offset = ((low & OFFSET_MASK) + places[place + SHIFT]!) | 0;
      const end = places[place + END]!;
      const span = count << 2;
      if (
        places[place] !== high ||
        offset >>> 0 >= end >>> 0 ||
        // Also true for a length of 0.
        (length - 1) >>> 0 >= (end - offset) >>> 0 ||
        span >= spans.length
      ) {
        if ((high & ADDRESS_LIMIT) !== 0) {
          throw badAddress((listed ? at : at - first) >> 2, low, high, rules.descriptor);
        }
        chain.setCounts(count, readableCount, readableBytes, writableBytes);
        chain.append(high, low, length, write !== 0);
        ({ count, readableCount, readableBytes, writableBytes, spans } = chain);
      } else {
        spans[span] = places[place + PLACE_SLOT]!;
        spans[span + 1] = offset;
        spans[span + 2] = length;
        count++;
        if (write !== 0) writableBytes += length;
        else {
          readableBytes += length;
          if (++readableCount !== count) throw readableAfterWritable(high, low, chain.head);
        }
      }
      if (listed ? (link & NEXT_BIT) === 0 : steps === limit) {
        this.#lastLink = link;
        chain.setCounts(count, readableCount, readableBytes, writableBytes);
        return steps;
      }
      at += 4;
      if (!listed) {
        link = table[at + 3]!;
        continue;
      }
      if (steps >= limit) throw overrun(first >> 2, limit);
      if (at === table.length) {
        at = 0;
        owner ^= OWNER_BITS;
      }
      link = table[at + 3]!;
      if ((link & OWNER_BITS) !== owner) throw cut(first >> 2, at >> 2);
      if ((link & INDIRECT_BIT) !== 0) throw mixed(at >> 2);
    }
  }

  /** The chain that begins at slot `first` is complete: takes it. */
  #enter(first: number, slots: number, id: number): void {
    if (slots > this.#room) throw overrun(first, this.#room);
    if (this.#slots[id] !== 0) throw twice(id, first);
    this.checkTotal();
    this.chain.head = id;
    this.#slots[id] = slots;
    this.#room -= slots;
    this.inFlight++;
    let next = first + slots;
    if (next >= this.size) {
      next -= this.size;
      this.#availableFlags ^= OWNER;
    }
    this.#nextAvailable = next;
    if (this.#inflight !== null) {
      this.#replay.taken();
      this.#inflight.take(this.#words, first, slots, id);
    }
    if (this.log !== null) this.remember(id);
    if (this.#order !== null) this.#order.take(id);
  }

  putBack(id: number = this.chain.head): void {
    if (this.closed) return;
    const slots = this.#slots[id]!;
    this.#slots[id] = 0;
    this.inFlight--;
    if (this.log !== null) this.forget(id);
    this.#order?.putBack(id);
    if (this.#replay.putBack()) return;
    this.#inflight?.putBack(id);
    this.#room += slots;
    let next = this.#nextAvailable - slots;
    if (next < 0) {
      next += this.size;
      this.#availableFlags ^= OWNER;
    }
    this.#nextAvailable = next;
  }

  /** Throws when `head` is not in flight: completing twice would hand the driver a foreign buffer. */
  complete(head: number, written: number): void {
    if (this.closed) return;
    if (!(this.#slots[head]! > 0) || this.#order?.waits(head)) {
      throw new Error(`Cannot complete chain ${head} of queue ${this.index}: it is not in flight`);
    }
    this.inFlight--;
    if (this.#order === null) this.#use(head, written);
    else this.#completeInOrder(this.#order, head, written);
    if (!this.draining) this.requestPublish();
  }

  #completeInOrder(order: InOrder, early: number, written: number): void {
    order.complete(early, written);
    for (let id = order.next(); id >= 0; id = order.next()) this.#use(id, order.written);
  }

  /** Writes the used descriptor of a chain. */
  #use(id: number, written: number): void {
    const slots = this.#slots[id]!;
    const slot = this.#nextUsed;
    const flags = written > 0 ? this.#usedFlags | WRITE : this.#usedFlags;
    if (this.#inflight !== null) this.#inflight.complete(id);
    this.#slots[id] = 0;
    this.#words[(slot << 2) + 2] = written;
    this.#halves[(slot << 3) + 6] = id;
    if (this.#staged === 0) {
      // Shown last: the driver looks at no later slot before this one.
      this.#gate = slot;
      this.#gateFlags = flags;
    } else this.#halves[(slot << 3) + 7] = flags;
    if (this.log !== null) this.#mark(id, slot);
    this.#staged += slots;
    let next = slot + slots;
    if (next >= this.size) {
      next -= this.size;
      this.#usedFlags ^= OWNER;
    }
    this.#nextUsed = next;
  }

  publish(): void {
    const staged = this.#staged;
    if (staged === 0 || this.closed) return;
    const inflight = this.#inflight;
    if (inflight !== null) {
      inflight.publishing(this.#nextUsed, this.#usedFlags === OWNER ? 1 : 0);
    }
    // Orders the used descriptors before the flags that show them, and those before the driver's wish.
    Atomics.store(this.#halves, (this.#gate << 3) + 7, this.#gateFlags);
    this.#staged = 0;
    this.#room += staged;
    if (inflight !== null) inflight.published();
    if (this.log !== null) this.#markGate();
    if (this.#wantsCall(staged)) this.call();
  }

  suppressKicks(): void {
    this.#deviceEvent[0] = DISABLE;
    if (this.log !== null) this.#markEvent();
  }

  requestKick(): boolean {
    const slot = this.#nextAvailable;
    const wrap = this.#availableFlags === AVAIL ? WRAP : 0;
    // The store must be visible before the flags are read again; Atomics order the two.
    Atomics.store(this.#deviceEvent, 0, this.#eventIdx ? DESC | wrap | slot : ENABLE);
    if (this.log !== null) this.#markEvent();
    const flags = Atomics.load(this.#words, (slot << 2) + 3) >>> 16;
    return (flags & OWNER) === this.#availableFlags;
  }

  #mark(id: number, slot: number): void {
    this.markChain(id);
    this.#markRing(slot);
  }

  #markEvent(): void {
    this.markRing(0, EVENT_SIZE);
    this.log!.log.signal.send();
  }

  /** Marks the slots of what is submitted again: the in-flight part may have mended them. */
  #markReplay(used: number): void {
    let slot = used & SLOT;
    for (const { slots } of this.#replay.waiting) {
      for (let i = 0; i < slots; i++) this.#markRing((slot + i) % this.size);
      slot += slots;
    }
  }

  #markGate(): void {
    this.#markRing(this.#gate);
    this.log!.log.signal.send();
  }

  /** Marks a slot of the ring, which device and driver both write. */
  #markRing(slot: number): void {
    const { log, descriptors, pages } = this.log!;
    if (pages !== undefined) return markPages(this.log!, pages);
    log.mark(descriptors + slot * Descriptor.SIZE, Descriptor.SIZE);
  }

  #wantsCall(staged: number): boolean {
    const event = Atomics.load(this.#driverEvent, 0);
    const wish = event & EVENT_FLAGS;
    if (wish !== DESC || !this.#eventIdx) return wish !== DISABLE;
    // 2.8.10: the slot was used just now; one of another lap counts from there.
    const lap = (event & WRAP) !== 0 ? OWNER : 0;
    const slot = lap === this.#usedFlags ? event & SLOT : (event & SLOT) - this.size;
    return slot < this.#nextUsed && slot >= this.#nextUsed - staged;
  }
}
