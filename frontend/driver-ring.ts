/**
 * The driver's side of a split virtqueue (virtio 1.3, 2.7).
 *
 * Nothing here trusts the device: completions are checked against a private record of what was made
 * available, and the first one that cannot be right throws.
 *
 * `Atomics` accesses order the plain ones around them: entries before the index that shows them, and
 * an index before the suppression field of the other side.
 */
import { ByteOrder } from "./byte-order.ts";
import { malformed } from "./errors.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { INDIRECT, NEXT, type RawDescriptor, type RingOptions, WRITE } from "./ring-options.ts";
import { placeRing, type RingPlace } from "./ring-place.ts";

/** avail.flags: the driver wants no notification. */
const NO_INTERRUPT = 1;
/** used.flags: the device wants no notification. */
const NO_NOTIFY = 1;

/** Places in the u16 views of the two rings. */
const FLAGS = 0;
const INDEX = 1;
const RING = 2;

const WORDS_PER_DESCRIPTOR = 4;

export class DriverRing {
  readonly packed = false;
  readonly size: number;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
  /** Guest addresses of the parts. */
  readonly place: RingPlace;
  /** Chains made available and not completed yet. */
  inFlight = 0;

  /** The completion that `next` took: its chain's first descriptor, the token of `add`, and bytes. */
  head = -1;
  token = -1;
  written = 0;

  readonly #mask: number;
  readonly #bytes: ByteOrder;
  readonly #descriptors: Uint32Array<ArrayBuffer>;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used16: Uint16Array<ArrayBuffer>;
  readonly #used32: Uint32Array<ArrayBuffer>;
  readonly #memory: GuestMemory;

  /** Free descriptors, the next one to use at the end. */
  readonly #free: Uint16Array;
  #freeCount: number;
  /** Per chain, by its head; the descriptor table itself is the device's to spoil. */
  readonly #live: Uint8Array;
  readonly #chainLength: Uint16Array;
  readonly #writable: Float64Array;
  readonly #token: Int32Array;
  readonly #serial: Float64Array;
  /** Per descriptor: the next one of its chain. */
  readonly #link: Uint16Array;
  #serials = 0;

  /** The chain being built. */
  readonly #address: number[] = [];
  readonly #length: number[] = [];
  readonly #flags: number[] = [];
  #count = 0;

  #nextAvailable: number;
  #published: number;
  #nextUsed: number;
  #shownUsed: number;
  /** With IN_ORDER, the heads in flight in the order they were added: a queue on a ring. */
  readonly #order: Uint16Array;
  #oldest = 0;
  #newest = 0;
  /** The head that ends the batch being taken, -1 when there is none, and its bytes. */
  #batchLast = -1;
  #batchWritten = 0;

  /** Zeroes the ring's memory. */
  constructor(memory: GuestMemory, options: RingOptions) {
    const { size, base = 0, eventIdx = false, inOrder = false, legacy = false } = options;
    this.size = size;
    this.eventIdx = eventIdx;
    this.inOrder = inOrder;
    this.place = options.place ?? placeRing(memory, size, legacy);
    this.#memory = memory;
    this.#mask = size - 1;
    this.#bytes = new ByteOrder(options.bigEndian);
    const { descriptor, available, used } = this.place;
    const part = (address: number, length: number) => memory.bytes(address, length).fill(0);
    const table = part(descriptor, 16 * size);
    const availableBytes = part(available, 6 + 2 * size);
    const usedBytes = part(used, 6 + 8 * size);
    this.#descriptors = new Uint32Array(table.buffer, table.byteOffset, 4 * size);
    this.#available = new Uint16Array(availableBytes.buffer, availableBytes.byteOffset, 3 + size);
    this.#used16 = new Uint16Array(usedBytes.buffer, usedBytes.byteOffset, 3 + 4 * size);
    this.#used32 = new Uint32Array(usedBytes.buffer, usedBytes.byteOffset, 1 + 2 * size);
    this.#free = Uint16Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#freeCount = size;
    this.#live = new Uint8Array(size);
    this.#chainLength = new Uint16Array(size);
    this.#writable = new Float64Array(size);
    this.#token = new Int32Array(size);
    this.#serial = new Float64Array(size);
    this.#link = new Uint16Array(size);
    this.#order = new Uint16Array(size);
    this.#nextAvailable = base;
    this.#published = base;
    this.#nextUsed = base;
    this.#shownUsed = base;
    this.#available[INDEX] = this.#bytes.half(base);
    this.#used16[INDEX] = this.#bytes.half(base);
    // As a device leaves it that has taken everything up to here.
    this.#used16[RING + 4 * size] = this.#bytes.half(base);
  }

  get freeDescriptors(): number {
    return this.#freeCount;
  }

  /** The `num` of SET_VRING_BASE: a stopped ring goes on from there. */
  get base(): number {
    return this.#published;
  }

  /** True when a completion can be taken. */
  get ready(): boolean {
    return this.shownUsedIndex !== this.#nextUsed;
  }

  /** The available index as the device sees it. */
  get availableIndex(): number {
    return this.#published;
  }

  /** The used index up to which completions were taken. */
  get usedIndex(): number {
    return this.#nextUsed;
  }

  /** The used index in the ring. */
  get shownUsedIndex(): number {
    return this.#bytes.half(Atomics.load(this.#used16, INDEX));
  }

  /** used.flags. */
  get usedFlags(): number {
    return this.#bytes.half(Atomics.load(this.#used16, FLAGS));
  }

  /** The available index for which the device wants a kick, with EVENT_IDX. */
  get availEvent(): number {
    return this.#bytes.half(Atomics.load(this.#used16, RING + 4 * this.size));
  }

  /** Forgets the chain being built. */
  clear(): void {
    this.#count = 0;
  }

  /** Appends a buffer to the chain being built: readable ones first, then writable ones. */
  push(address: number, length: number, writable: boolean): void {
    const i = this.#count++;
    this.#address[i] = address;
    this.#length[i] = length;
    this.#flags[i] = writable ? WRITE : 0;
  }

  /**
   * Puts the chain that was built into the ring, one descriptor per buffer. The device sees it after
   * `publish`. Returns its head, or -1 when there are not enough descriptors.
   */
  add(token: number): number {
    const count = this.#count;
    if (count === 0) throw new RangeError("Cannot add a chain without buffers");
    if (count > this.#freeCount) return -1;
    let writable = 0;
    let head = -1;
    let previous = -1;
    for (let i = 0; i < count; i++) {
      const index = this.#free[--this.#freeCount]!;
      const flags = this.#flags[i]! | (i + 1 < count ? NEXT : 0);
      // Known only now: the descriptor before this one points here.
      if (previous < 0) head = index;
      else this.#setNext(previous, index);
      this.#describe(this.#descriptors, index, this.#address[i]!, this.#length[i]!, flags);
      if ((flags & WRITE) !== 0) writable += this.#length[i]!;
      previous = index;
    }
    return this.#enter(head, count, writable, token);
  }

  /** The same with one descriptor in the ring and all buffers in an indirect table at `table`. */
  addIndirect(table: number, token: number): number {
    const count = this.#count;
    if (count === 0) throw new RangeError("Cannot add a chain without buffers");
    if (this.#freeCount === 0) return -1;
    const bytes = this.#memory.bytes(table, 16 * count);
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, WORDS_PER_DESCRIPTOR * count);
    let writable = 0;
    for (let i = 0; i < count; i++) {
      const last = i + 1 === count;
      const flags = this.#flags[i]! | (last ? 0 : NEXT);
      this.#describe(words, i, this.#address[i]!, this.#length[i]!, flags);
      if (!last) words[i * WORDS_PER_DESCRIPTOR + 3]! |= this.#bytes.halves(0, i + 1);
      if ((flags & WRITE) !== 0) writable += this.#length[i]!;
    }
    const head = this.#free[--this.#freeCount]!;
    this.#describe(this.#descriptors, head, table, 16 * count, INDIRECT);
    return this.#enter(head, 1, writable, token);
  }

  /** Takes `count` descriptors out of use, for `describe` and `offer`. */
  reserve(count: number): number[] {
    return Array.from({ length: count }, () => this.#free[--this.#freeCount]!);
  }

  /** Gives back what `reserve` took. */
  release(indices: readonly number[]): void {
    for (const index of indices) this.#free[this.#freeCount++] = index;
  }

  /** Writes any descriptor, in the ring's table. */
  describe(index: number, { address, length, flags = 0, next = 0 }: RawDescriptor): void {
    const at = index * WORDS_PER_DESCRIPTOR;
    const wide = BigInt.asUintN(64, BigInt(address));
    this.#bytes.setU64(this.#descriptors, at, Number(wide & 0xffff_ffffn), Number(wide >> 32n));
    this.#descriptors[at + 2] = this.#bytes.word(length);
    this.#descriptors[at + 3] = this.#bytes.halves(flags, next);
  }

  /**
   * Puts any number into the next entry of the available ring. With `writable`, the most bytes the
   * device may write, a completion of it is expected; its descriptors stay the caller's.
   */
  offer(head: number, token = -1, writable = -1): void {
    if (writable >= 0) this.#enter(head, 0, writable, token);
    else this.#append(head);
  }

  /** Shows the device what was added. Returns true when it wants a kick. */
  publish(): boolean {
    const old = this.#published;
    const next = this.#nextAvailable;
    if (old === next) return false;
    Atomics.store(this.#available, INDEX, this.#bytes.half(next));
    this.#published = next;
    if (!this.eventIdx) return (this.usedFlags & NO_NOTIFY) === 0;
    // virtio 1.3, 2.7.10.1: the index has passed the event, in 16-bit arithmetic.
    return ((next - this.availEvent - 1) & 0xffff) < ((next - old) & 0xffff);
  }

  /** Shows any available index. */
  publishIndex(index: number): void {
    Atomics.store(this.#available, INDEX, this.#bytes.half(index));
    this.#published = index;
    this.#nextAvailable = index;
  }

  /** Takes the next completion. False when there is none. Throws when it cannot be right. */
  next(): boolean {
    const at = this.#nextUsed;
    if (at === this.#shownUsed && !this.#refresh(at)) return false;
    if (this.#batchLast < 0) this.#readElement(at);
    const last = this.#batchLast;
    const head = this.inOrder ? this.#order[this.#oldest++ & this.#mask]! : last;
    // Of those that a batch skips nothing is known but that they were used (virtio 1.3, 2.7.9).
    const written = head === last ? this.#batchWritten : this.#writable[head]!;
    if (head === last) this.#batchLast = -1;
    this.#nextUsed = (at + 1) & 0xffff;
    this.#live[head] = 0;
    this.inFlight--;
    this.head = head;
    this.token = this.#token[head]!;
    this.written = written;
    let index = head;
    for (let left = this.#chainLength[head]!; left > 0; left--) {
      this.#free[this.#freeCount++] = index;
      index = this.#link[index]!;
    }
    return true;
  }

  /** Reads the used element of a completion, or of a batch of them. */
  #readElement(at: number): void {
    const entry = 1 + ((at & this.#mask) << 1);
    const head = this.#bytes.word(this.#used32[entry]!);
    const written = this.#bytes.word(this.#used32[entry + 1]!);
    if (head >= this.size || this.#live[head] === 0) {
      malformed(`The used ring's entry ${at} names chain ${head}, which is not in flight`);
    }
    if (written > this.#writable[head]!) {
      malformed(`Chain ${head} has room for ${this.#writable[head]} bytes, not ${written}`);
    }
    this.#batchLast = head;
    this.#batchWritten = written;
    if (!this.inOrder) return;
    const shown = (this.#shownUsed - at) & 0xffff;
    for (let i = 0; this.#order[(this.#oldest + i) & this.#mask] !== head; i++) {
      if (i + 1 >= shown) malformed(`Chain ${head} is completed before one that is older`);
    }
  }

  /** Asks the device not to notify. */
  disableCalls(): void {
    // An event that is just over comes back after 65535 completions only.
    const event = (this.#nextUsed - 1) & 0xffff;
    if (this.eventIdx) this.#available[RING + this.size] = this.#bytes.half(event);
    else this.#available[FLAGS] = this.#bytes.half(NO_INTERRUPT);
  }

  /**
   * Asks for a notification once `count` more chains are completed (flag suppression knows only the
   * next one). Returns true when there are completions already: the device may not have notified.
   */
  enableCalls(count = 1): boolean {
    const event = (this.#nextUsed + count - 1) & 0xffff;
    if (this.eventIdx) Atomics.store(this.#available, RING + this.size, this.#bytes.half(event));
    else Atomics.store(this.#available, FLAGS, 0);
    const arrived = (this.shownUsedIndex - this.#nextUsed) & 0xffff;
    return arrived >= (this.eventIdx ? count : 1);
  }

  /**
   * Makes everything in flight available again, in the order it was added, after the completions
   * that are shown, which can still be taken: what a new back-end needs that knows nothing of the
   * last one. Returns the index to start it at.
   */
  rewind(): number {
    const base = this.shownUsedIndex;
    const open = new Set(Array.from(this.#live.keys()).filter((head) => this.#live[head] === 1));
    for (let at = this.#nextUsed, i = this.#oldest; at !== base; at = (at + 1) & 0xffff, i++) {
      const entry = 1 + ((at & this.#mask) << 1);
      open.delete(
        this.inOrder ? this.#order[i & this.#mask]! : this.#bytes.word(this.#used32[entry]!),
      );
    }
    this.#nextAvailable = base;
    const heads = [...open].sort((a, b) => this.#serial[a]! - this.#serial[b]!);
    for (const head of heads) this.#append(head);
    this.#used16[FLAGS] = 0;
    this.#published = this.#nextAvailable;
    Atomics.store(this.#available, INDEX, this.#bytes.half(this.#published));
    return base;
  }

  #refresh(at: number): boolean {
    // Orders the used entries, which are read next, after the index.
    const shown = this.shownUsedIndex;
    const unpublished = (this.#nextAvailable - this.#published) & 0xffff;
    if (((shown - at) & 0xffff) > this.inFlight - unpublished) {
      malformed(`The used index moved from ${at} to ${shown} with ${this.inFlight} in flight`);
    }
    this.#shownUsed = shown;
    return shown !== at;
  }

  #enter(head: number, length: number, writable: number, token: number): number {
    this.#live[head] = 1;
    this.#chainLength[head] = length;
    this.#writable[head] = writable;
    this.#token[head] = token;
    this.#serial[head] = this.#serials++;
    this.#order[this.#newest++ & this.#mask] = head;
    this.#count = 0;
    this.inFlight++;
    this.#append(head);
    return head;
  }

  #append(head: number): void {
    this.#available[RING + (this.#nextAvailable & this.#mask)] = this.#bytes.half(head);
    this.#nextAvailable = (this.#nextAvailable + 1) & 0xffff;
  }

  #describe(
    table: Uint32Array,
    index: number,
    guestAddress: number,
    length: number,
    flags: number,
  ) {
    const address = guestAddress + this.#memory.ioOffset;
    const at = index * WORDS_PER_DESCRIPTOR;
    this.#bytes.setU64(table, at, address >>> 0, (address / 4294967296) >>> 0);
    table[at + 2] = this.#bytes.word(length);
    table[at + 3] = this.#bytes.halves(flags, 0);
  }

  #setNext(index: number, next: number): void {
    this.#descriptors[index * WORDS_PER_DESCRIPTOR + 3]! |= this.#bytes.halves(0, next);
    this.#link[index] = next;
  }
}
