/**
 * The driver's side of a packed virtqueue (virtio 1.3, 2.8), with the interface of `DriverRing`.
 *
 * Positions are counted as the wire does: a slot of the ring in the lower 15 bits, the wrap counter
 * above it. A chain occupies as many slots as it has descriptors; it is completed in any order by its
 * buffer id, which takes the part that a head has on a split ring.
 *
 * Nothing here trusts the device: completions are checked against `PackedChains`.
 */
import { malformed } from "./errors.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { describe, NO_ID, PackedChains } from "./packed-chains.ts";
import {
  AVAIL,
  availableFlags,
  EventFlags,
  PACKED_BASE,
  Position,
  step,
  stepBack,
  USED,
} from "./packed-position.ts";
import { INDIRECT, NEXT, type RawDescriptor, type RingOptions, WRITE } from "./ring-options.ts";
import { placePackedRing, type RingPlace } from "./ring-place.ts";

const OWNER = AVAIL | USED;
const { SLOT, WRAP } = Position;

export class PackedRing {
  readonly packed = true;
  readonly size: number;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
  /** Guest addresses of the descriptor ring, the driver's and the device's event area. */
  readonly place: RingPlace;
  /** The completion that `next` took: its buffer id, the token of `add`, and bytes. */
  head = -1;
  token = -1;
  written = 0;

  readonly #memory: GuestMemory;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #driverEvent: Uint32Array<ArrayBuffer>;
  readonly #deviceEvent: Uint32Array<ArrayBuffer>;

  readonly #chains: PackedChains;
  #freeCount: number;
  /** The id that ends the batch being taken, -1 when there is none, and its bytes. */
  #batchLast = -1;
  #batchWritten = 0;

  /** The chain being built. */
  readonly #address: number[] = [];
  readonly #length: number[] = [];
  readonly #flags: number[] = [];
  #count = 0;

  /** Positions. */
  #nextAvailable: number;
  #nextUsed: number;
  /** Slots filled since the last `publish`, and the slot and the flags that show them. */
  #added = 0;
  #gate = -1;
  #gateFlags = 0;

  /** Zeroes the ring's memory. */
  constructor(memory: GuestMemory, options: RingOptions) {
    const { size, base = PACKED_BASE, eventIdx = false, inOrder = false } = options;
    this.size = size;
    this.eventIdx = eventIdx;
    this.inOrder = inOrder;
    this.place = options.place ?? placePackedRing(memory, size);
    this.#memory = memory;
    const { descriptor, available, used } = this.place;
    const part = (address: number, length: number) => memory.bytes(address, length).fill(0);
    const table = part(descriptor, 16 * size);
    const driver = part(available, 4);
    const device = part(used, 4);
    this.#words = new Uint32Array(table.buffer, table.byteOffset, 4 * size);
    this.#halves = new Uint16Array(table.buffer, table.byteOffset, 8 * size);
    this.#driverEvent = new Uint32Array(driver.buffer, driver.byteOffset, 1);
    this.#deviceEvent = new Uint32Array(device.buffer, device.byteOffset, 1);
    this.#chains = new PackedChains(size);
    this.#freeCount = size;
    this.#nextAvailable = base & 0xffff;
    this.#nextUsed = base >>> 16;
    this.#clear();
  }

  /** Makes every slot look as if the device had used it in the lap before, or this one. */
  #clear(): void {
    const slot = this.#nextAvailable & SLOT;
    const wrap = (this.#nextAvailable & WRAP) !== 0;
    for (let i = 0; i < this.size; i++) {
      this.#halves[8 * i + 7] = wrap === i < slot ? OWNER : 0;
    }
  }

  /** Chains made available and not completed yet. */
  get inFlight(): number {
    return this.#chains.inFlight;
  }

  get freeDescriptors(): number {
    return this.#freeCount;
  }

  /** The `num` of SET_VRING_BASE: both positions, the driver's in the lower half. */
  get base(): number {
    const available = stepBack(this.size, this.#nextAvailable, this.#added);
    return (available | (this.#usedPosition() << 16)) >>> 0;
  }

  /** The position up to which chains are shown. */
  get availableIndex(): number {
    return stepBack(this.size, this.#nextAvailable, this.#added);
  }

  /** The position up to which completions were taken. */
  get usedIndex(): number {
    return this.#nextUsed;
  }

  /** The position up to which there are completions. */
  get shownUsedIndex(): number {
    return this.#usedPosition();
  }

  /** The flags with which the device asks for kicks. */
  get usedFlags(): number {
    return Atomics.load(this.#deviceEvent, 0) >>> 16;
  }

  /** The position for which the device wants a kick, with EVENT_IDX. */
  get availEvent(): number {
    return Atomics.load(this.#deviceEvent, 0) & 0xffff;
  }

  /** True when a completion can be taken. */
  get ready(): boolean {
    return this.#batchLast >= 0 || this.#isUsed(this.#nextUsed);
  }

  /** Forgets the chain being built. */
  clear(): void {
    this.#count = 0;
  }

  /** Appends a buffer to the chain being built: readable ones first, then writable ones. */
  push(address: number, length: number, writable: boolean): void {
    const i = this.#count++;
    this.#address[i] = address + this.#memory.ioOffset;
    this.#length[i] = length;
    this.#flags[i] = writable ? WRITE : 0;
  }

  /**
   * Puts the chain that was built into the ring, one descriptor per buffer. The device sees it after
   * `publish`. Returns its buffer id, or -1 when there is no room.
   */
  add(token: number): number {
    const count = this.#count;
    if (count === 0) throw new RangeError("Cannot add a chain without buffers");
    if (count > this.#freeCount) return -1;
    const id = this.#chains.takeId();
    if (id < 0) return -1;
    let writable = 0;
    let previous = -1;
    for (let i = 0; i < count; i++) {
      const flags = this.#flags[i]! | (i + 1 < count ? NEXT : 0);
      previous = this.#chains.save(id, previous, this.#address[i]!, this.#length[i]!, flags);
      if ((flags & WRITE) !== 0) writable += this.#length[i]!;
    }
    return this.#enter(id, count, writable, token);
  }

  /** The same with one descriptor in the ring and all buffers in an indirect table at `table`. */
  addIndirect(table: number, token: number): number {
    const count = this.#count;
    if (count === 0) throw new RangeError("Cannot add a chain without buffers");
    if (this.#freeCount === 0) return -1;
    const id = this.#chains.takeId();
    if (id < 0) return -1;
    const bytes = this.#memory.bytes(table, 16 * count);
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, 4 * count);
    let writable = 0;
    for (let i = 0; i < count; i++) {
      const flags = this.#flags[i]!;
      // Only WRITE has a meaning in a table (virtio 1.3, 2.8.7).
      describe(words, i, this.#address[i]!, this.#length[i]!, NO_ID, flags);
      if ((flags & WRITE) !== 0) writable += this.#length[i]!;
    }
    this.#chains.save(id, -1, table + this.#memory.ioOffset, 16 * count, INDIRECT);
    return this.#enter(id, 1, writable, token);
  }

  /** Takes `count` buffer ids out of use, for `describe` and `offer`. */
  reserve(count: number): number[] {
    return Array.from({ length: count }, () => this.#chains.takeId());
  }

  /** Gives back what `reserve` took. */
  release(ids: readonly number[]): void {
    for (const id of ids) this.#chains.freeId(id);
  }

  /**
   * Writes any descriptor into slot `index` of the ring; `next` is the buffer id, and the flags are
   * shown to the device at once.
   */
  describe(index: number, { address, length, flags = 0, next = 0 }: RawDescriptor): void {
    const wide = BigInt.asUintN(64, BigInt(address));
    const at = index * 4;
    this.#words[at] = Number(wide & 0xffff_ffffn);
    this.#words[at + 1] = Number(wide >> 32n);
    this.#words[at + 2] = length;
    this.#halves[8 * index + 6] = next;
    Atomics.store(this.#halves, 8 * index + 7, flags);
  }

  /** The flags that make slots available from `ahead` slots after the next one on. */
  ownerFlags(ahead = 0): number {
    return availableFlags(step(this.size, this.#nextAvailable, ahead));
  }

  /**
   * Counts `slots` that `describe` filled as made available. With `writable`, the most bytes the
   * device may write, a completion of the buffer `id` is expected.
   */
  offer(id: number, token = -1, writable = -1, slots = 1): void {
    this.#nextAvailable = step(this.size, this.#nextAvailable, slots);
    if (writable < 0) return;
    this.#freeCount -= slots;
    this.#chains.enter(id, slots, writable, token);
    this.#chains.show();
  }

  /** Shows the device what was added. Returns true when it wants a kick. */
  publish(): boolean {
    const added = this.#added;
    if (added === 0) return false;
    // Orders the descriptors before the flags that show them, and those before the device's wishes.
    Atomics.store(this.#halves, 8 * this.#gate + 7, this.#gateFlags);
    this.#gate = -1;
    this.#added = 0;
    this.#chains.show();
    const event = Atomics.load(this.#deviceEvent, 0);
    const flags = event >>> 16;
    if (flags !== EventFlags.DESC || !this.eventIdx) return flags !== EventFlags.DISABLE;
    // virtio 1.3, 2.8.10: the slot was made available just now, or its namesake of the lap before.
    const next = this.#nextAvailable & SLOT;
    const sameLap = (event & WRAP) === (this.#nextAvailable & WRAP);
    const wanted = (event & SLOT) - (sameLap ? 0 : this.size);
    return wanted < next && wanted >= next - added;
  }

  /** Lets the driver's position be anything, without a look at the ring. */
  publishIndex(position: number): void {
    this.#nextAvailable = position;
    this.#added = 0;
    this.#gate = -1;
  }

  /** Takes the next completion. False when there is none. Throws when it cannot be right. */
  next(): boolean {
    if (this.#batchLast < 0 && !this.#look()) return false;
    const chains = this.#chains;
    const last = this.#batchLast;
    const id = this.inOrder ? chains.inOrder(0) : last;
    // Of those that a batch skips nothing is known but that they were used (virtio 1.3, 2.8.8).
    this.written = id === last ? this.#batchWritten : chains.writable[id]!;
    if (id === last) this.#batchLast = -1;
    this.head = id;
    this.token = chains.token[id]!;
    this.#nextUsed = step(this.size, this.#nextUsed, chains.length[id]!);
    this.#freeCount += chains.length[id]!;
    chains.leave(id);
    return true;
  }

  /** Reads the next used descriptor. False when there is none. */
  #look(): boolean {
    if (!this.#isUsed(this.#nextUsed)) return false;
    const slot = this.#nextUsed & SLOT;
    const id = this.#halves[8 * slot + 6]!;
    const length = this.#words[4 * slot + 2]!;
    const wrote = (this.#halves[8 * slot + 7]! & WRITE) !== 0;
    if (!this.#chains.isOut(id))
      malformed(`Slot ${slot} completes chain ${id}, which is not in flight`);
    const written = wrote ? length : 0;
    if (written > this.#chains.writable[id]!) {
      malformed(`Chain ${id} has room for ${this.#chains.writable[id]} bytes, not ${written}`);
    }
    this.#batchLast = id;
    this.#batchWritten = written;
    return true;
  }

  /** Asks the device not to notify. */
  disableCalls(): void {
    Atomics.store(this.#driverEvent, 0, EventFlags.DISABLE << 16);
  }

  /**
   * Asks for a notification once `count` more chains are completed, or earlier when they differ in
   * length (flag suppression knows only the next one). Returns true when there are completions
   * already: the device may not have notified.
   */
  enableCalls(count = 1): boolean {
    if (this.eventIdx) {
      // The count-th completion ends behind this slot, whichever chains come first.
      const ahead = count === 1 ? 0 : (count - 1) * this.#chains.shortest;
      const event = step(this.size, this.#nextUsed, Math.min(ahead, this.size - 1));
      Atomics.store(this.#driverEvent, 0, event | (EventFlags.DESC << 16));
    } else Atomics.store(this.#driverEvent, 0, EventFlags.ENABLE << 16);
    return this.#arrived(this.eventIdx ? count : 1);
  }

  /**
   * Makes everything in flight available again, in the order it was added, after the completions
   * that are shown, which can still be taken: what a new back-end needs that knows nothing of the
   * last one. Returns the base to start it at.
   */
  rewind(): number {
    this.publish();
    const end = this.#nextAvailable;
    const open = new Set(this.#chains.open());
    const used = this.#usedPosition((id) => open.delete(id));
    this.#nextAvailable = used;
    for (const id of open) this.#write(id);
    if (this.#nextAvailable !== end) throw new RangeError("Cannot rewind: descriptors were lost");
    if (this.#added > 0) Atomics.store(this.#halves, 8 * this.#gate + 7, this.#gateFlags);
    this.#gate = -1;
    this.#added = 0;
    Atomics.store(this.#deviceEvent, 0, 0);
    return (used | (used << 16)) >>> 0;
  }

  #isUsed(position: number): boolean {
    // Orders the id and the length, which are read next, after the flags.
    const flags = Atomics.load(this.#halves, 8 * (position & SLOT) + 7);
    return (flags & OWNER) === ((position & WRAP) !== 0 ? OWNER : 0);
  }

  /** Tells whether `count` completions can be taken. */
  #arrived(count: number): boolean {
    if (count === 1) return this.ready;
    let left = count;
    this.#usedPosition(() => --left > 0);
    return left <= 0;
  }

  /**
   * The position behind the last completion that is shown. `each` is told of their ids; false ends
   * the walk. What makes no sense ends it as well: `next` will say so.
   */
  #usedPosition(each?: (id: number) => boolean): number {
    let position = this.#nextUsed;
    let last = this.#batchLast;
    for (let done = 0; done < this.inFlight; done++) {
      if (last < 0) {
        if (!this.#isUsed(position)) break;
        last = this.#halves[8 * (position & SLOT) + 6]!;
        if (!this.#chains.isOut(last)) break;
      }
      const id = this.inOrder ? this.#chains.inOrder(done) : last;
      if (id === last) last = -1;
      position = step(this.size, position, this.#chains.length[id]!);
      if (each?.(id) === false) break;
    }
    return position;
  }

  #enter(id: number, length: number, writable: number, token: number): number {
    this.#freeCount -= length;
    this.#count = 0;
    this.#chains.enter(id, length, writable, token);
    this.#write(id);
    return id;
  }

  /** Writes the descriptors of a chain into the next slots. */
  #write(id: number): void {
    const { first, link, saved } = this.#chains;
    for (let at = first[id]!; at >= 0; at = link[at]!) {
      const slot = this.#nextAvailable & SLOT;
      const flags = (saved[4 * at + 3]! >>> 16) | availableFlags(this.#nextAvailable);
      this.#words[4 * slot] = saved[4 * at]!;
      this.#words[4 * slot + 1] = saved[4 * at + 1]!;
      this.#words[4 * slot + 2] = saved[4 * at + 2]!;
      this.#halves[8 * slot + 6] = saved[4 * at + 3]! & 0xffff;
      if (this.#gate < 0) {
        // The first one is shown last: no later one is looked at before it.
        this.#gate = slot;
        this.#gateFlags = flags;
      } else this.#halves[8 * slot + 7] = flags;
      this.#nextAvailable = step(this.size, this.#nextAvailable, 1);
      this.#added++;
    }
  }
}
