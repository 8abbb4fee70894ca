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
 * Ordering: `Atomics` accesses are sequentially consistent. Loading a slot's flags orders the other
 * fields read after it. Storing the flags of the first used descriptor of a batch orders all that was
 * written before it, and the suppression fields read after it. Everything else is a plain access.
 */
import { runtime } from "../ffi/mod.ts";
import { Chain, type ChainOwner, HeldChain } from "./chain.ts";
import type { Virtqueue } from "./device.ts";
import { GuestError, ProtocolError } from "./errors.ts";
import { hex } from "./hex.ts";
import { InOrder } from "./in-order.ts";
import { type GuestMemory, OFFSET_MASK, PLACE_SHIFT } from "./memory.ts";

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
/** The two flags that tell whose a slot is (2.8.1). */
const AVAIL = 1 << 7;
const USED = 1 << 15;
const OWNER = AVAIL | USED;
const DESCRIPTOR_SIZE = 16;
/** The bytes of an event suppression area: a position, then flags (2.8.14). */
const EVENT_SIZE = 4;

/** Flags of an event suppression area (2.8.10), as bits of its 32-bit word. */
const ENABLE = 0;
const DISABLE = 1 << 16;
const DESC = 2 << 16;
const EVENT_FLAGS = 3 << 16;

/** A position in 16 bits: the slot, and the wrap counter above it. */
const SLOT = 0x7fff;
const WRAP = 0x8000;
/** Both positions of a ring that nobody has used, as SET_VRING_BASE encodes them. */
const FRESH = 0x8000_8000;

/** Buffer ids that there are. */
const IDS = 65_536;
/** As on a split ring: descriptors an indirect table may have, and bytes a driver may chain. */
const MIN_TABLE_LIMIT = 1024;
const MAX_CHAIN_BYTES = 2 ** 32;

/** Bytes of the three parts for a ring of `size` descriptors. */
export const packedRingBytes = (size: number) => ({
  descriptor: DESCRIPTOR_SIZE * size,
  available: EVENT_SIZE,
  used: EVENT_SIZE,
});

/** Throws `ProtocolError` unless both positions of a base are in the ring and at most a lap apart. */
export function checkPackedBase(base: number, size: number): void {
  const available = base & SLOT;
  const used = (base >>> 16) & SLOT;
  const sameLap = ((base ^ (base >>> 16)) & WRAP) === 0;
  if (available >= size || used >= size || (sameLap ? available < used : available > used)) {
    throw new ProtocolError(`Cannot start a packed ring of ${size} descriptors at ${hex(base)}`);
  }
}

export interface PackedQueueOptions {
  readonly index: number;
  readonly name: string;
  /** Any number up to 32768. */
  readonly size: number;
  readonly memory: GuestMemory;
  /** Process addresses of the descriptor ring, the driver's and the device's event area. */
  readonly descriptor: number;
  readonly available: number;
  readonly used: number;
  /** Both positions, as SET_VRING_BASE encodes them. */
  readonly base: number;
  readonly indirect: boolean;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
  /** Signals the driver. */
  readonly call: () => void;
  /** Learns of a broken driver outside a drain; without it `next` always throws. */
  readonly broken?: (error: GuestError) => void;
  /** Publishes soon; called for completions outside a drain. */
  readonly requestPublish: () => void;
  /** Drains soon. */
  readonly requestDrain: () => void;
}

export class PackedQueue implements Virtqueue, ChainOwner {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  readonly chain: Chain;
  closed = false;
  paused = false;
  inFlight = 0;
  draining = false;

  readonly #memory: GuestMemory;
  readonly #descriptors: DataView<ArrayBuffer>;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #driverEvent: Uint32Array<ArrayBuffer>;
  readonly #deviceEvent: Uint32Array<ArrayBuffer>;
  readonly #indirect: boolean;
  readonly #eventIdx: boolean;
  readonly #call: () => void;
  readonly #broken: ((error: GuestError) => void) | undefined;
  readonly #requestPublish: () => void;
  readonly #requestDrain: () => void;
  readonly #order: InOrder | null;
  /** Slots of the chain with a buffer id, 0 for each id that is not in flight. */
  readonly #slots: Uint16Array<ArrayBuffer> = new Uint16Array(IDS);
  readonly #held = new Set<HeldChain>();
  #tableCopy: DataView<ArrayBuffer> | null = null;

  /** The next slot to be taken, and what OWNER shows there once it is available. */
  #nextAvailable: number;
  #availableFlags: number;
  /** The next slot to be used, and what OWNER shows there afterwards. */
  #nextUsed: number;
  #usedFlags: number;
  /** Slots that may be taken before some must be used: all, less those taken and not used yet. */
  #room: number;
  /** Slots used since the last `publish`, and the first of them with the flags that show it. */
  #staged = 0;
  #gate = 0;
  #gateFlags = 0;

  constructor(options: PackedQueueOptions) {
    const { size } = options;
    this.index = options.index;
    this.name = options.name;
    this.size = size;
    this.chain = new Chain(this);
    this.#memory = options.memory;
    const ring = runtime.view(options.descriptor, DESCRIPTOR_SIZE * size);
    this.#descriptors = new DataView(ring);
    this.#words = new Uint32Array(ring);
    this.#halves = new Uint16Array(ring);
    this.#driverEvent = new Uint32Array(runtime.view(options.available, EVENT_SIZE));
    this.#deviceEvent = new Uint32Array(runtime.view(options.used, EVENT_SIZE));
    this.#indirect = options.indirect;
    this.#eventIdx = options.eventIdx;
    this.#call = options.call;
    this.#broken = options.broken;
    this.#requestPublish = options.requestPublish;
    this.#requestDrain = options.requestDrain;
    this.#order = options.inOrder ? new InOrder(size, IDS) : null;
    const base = this.#trueBase(options.base);
    const available = base & 0xffff;
    const used = base >>> 16;
    this.#nextAvailable = available & SLOT;
    this.#availableFlags = (available & WRAP) !== 0 ? AVAIL : USED;
    this.#nextUsed = used & SLOT;
    this.#usedFlags = (used & WRAP) !== 0 ? OWNER : 0;
    const ahead = this.#nextAvailable - this.#nextUsed;
    this.#room = size - ahead - (((available ^ used) & WRAP) !== 0 ? size : 0);
  }

  /**
   * Front-ends that know of split rings only send 0 for a ring that nobody has used, as UML does:
   * slot 0 with both wrap counters 0, which is where a ring stands after an odd number of laps. The
   * flags of slot 0 tell: on an unused ring it is zero or available in the first lap.
   *
   * 0x80008000, which QEMU sends for a ring in use when the back-end was restarted, cannot be mended
   * like this: only in-flight tracking knows where such a ring stands.
   */
  #trueBase(base: number): number {
    return base === 0 && (this.#halves[7]! & USED) === 0 ? FRESH : base;
  }

  /** Both positions that a later start must go on from (the `num` of GET_VRING_BASE). */
  get base(): number {
    const available = this.#nextAvailable | (this.#availableFlags === AVAIL ? WRAP : 0);
    const used = this.#nextUsed | (this.#usedFlags === OWNER ? WRAP : 0);
    return (available | (used << 16)) >>> 0;
  }

  next(): boolean {
    if (this.paused || this.closed) return false;
    if (this.draining || this.#broken === undefined) return this.#load();
    try {
      return this.#load();
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      this.#broken(error);
      return false;
    }
  }

  #load(): boolean {
    const first = this.#nextAvailable;
    // Orders the rest of the chain, which is read next, after the flags.
    const flags = Atomics.load(this.#halves, ((first << 3) + 7) | 0);
    if ((flags & OWNER) !== this.#availableFlags) return false;
    this.chain.begin(first);
    if ((flags & (NEXT | INDIRECT)) === 0) {
      this.#append(first, flags);
      this.#enter(first, 1, this.#halves[((first << 3) + 6) | 0]!);
    } else if ((flags & INDIRECT) !== 0) {
      const id = this.#halves[((first << 3) + 6) | 0]!;
      this.#appendTable(first, flags);
      this.#enter(first, 1, id);
    } else this.#loadChain(first, flags);
    return true;
  }

  /** Loads a chain of several descriptors. */
  #loadChain(first: number, firstFlags: number): void {
    let slot = first;
    let flags = firstFlags;
    let owner = this.#availableFlags;
    let link = 0;
    let slots = 1;
    for (; ; slots++) {
      if (slots > this.#room) throw overrun(first, this.#room);
      this.#append(slot, flags);
      if ((flags & NEXT) === 0) break;
      if (++slot === this.size) {
        slot = 0;
        owner ^= OWNER;
      }
      link = this.#descriptors.getInt32(((slot << 4) + 12) | 0, true);
      flags = link >>> 16;
      if ((flags & OWNER) !== owner) throw cut(first, slot);
      if ((flags & INDIRECT) !== 0) throw mixed(slot);
    }
    this.#enter(first, slots, link & 0xffff);
  }

  /** The chain that begins at slot `first` is complete: takes it. */
  #enter(first: number, slots: number, id: number): void {
    const chain = this.chain;
    if (slots > this.#room) throw overrun(first, this.#room);
    if (this.#slots[id] !== 0) throw twice(id, first);
    if (chain.readableBytes + chain.writableBytes >= MAX_CHAIN_BYTES) throw tooLong(first);
    chain.head = id;
    this.#slots[id] = slots;
    this.#room -= slots;
    this.inFlight++;
    let next = first + slots;
    if (next >= this.size) {
      next -= this.size;
      this.#availableFlags ^= OWNER;
    }
    this.#nextAvailable = next;
    this.#order?.take(id);
  }

  putBack(): void {
    if (this.closed) return;
    const id = this.chain.head;
    const slots = this.#slots[id]!;
    this.#slots[id] = 0;
    this.#room += slots;
    this.inFlight--;
    let next = this.#nextAvailable - slots;
    if (next < 0) {
      next += this.size;
      this.#availableFlags ^= OWNER;
    }
    this.#nextAvailable = next;
    this.#order?.putBack(id);
  }

  hold(): HeldChain {
    const held = new HeldChain(this, this.chain);
    this.#held.add(held);
    return held;
  }

  completeHeld(held: HeldChain, written: number): void {
    this.#held.delete(held);
    this.complete(held.head, written);
  }

  /** Throws when `head` is not in flight: completing twice would hand the driver a foreign buffer. */
  complete(head: number, written: number): void {
    if (this.closed) return;
    const order = this.#order;
    if (!(this.#slots[head]! > 0) || order?.waits(head)) {
      throw new Error(`Cannot complete chain ${head} of queue ${this.index}: it is not in flight`);
    }
    this.inFlight--;
    if (order === null) this.#use(head, written);
    else {
      order.complete(head, written);
      for (let id = order.next(); id >= 0; id = order.next()) this.#use(id, order.written);
    }
    if (!this.draining) this.#requestPublish();
  }

  /** Writes the used descriptor of a chain. */
  #use(id: number, written: number): void {
    const slots = this.#slots[id]!;
    const slot = this.#nextUsed;
    const flags = written > 0 ? this.#usedFlags | WRITE : this.#usedFlags;
    this.#slots[id] = 0;
    this.#room += slots;
    this.#words[((slot << 2) + 2) | 0] = written;
    this.#halves[((slot << 3) + 6) | 0] = id;
    if (this.#staged === 0) {
      // Shown last: the driver looks at no later slot before this one.
      this.#gate = slot;
      this.#gateFlags = flags;
    } else this.#halves[((slot << 3) + 7) | 0] = flags;
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
    // Orders the used descriptors before the flags that show them, and those before the driver's wish.
    Atomics.store(this.#halves, ((this.#gate << 3) + 7) | 0, this.#gateFlags);
    this.#staged = 0;
    if (this.#wantsCall(staged)) this.#call();
  }

  resume(): void {
    if (!this.closed) this.#requestDrain();
  }

  /** Asks the driver not to kick while the ring is being drained. */
  suppressKicks(): void {
    this.#deviceEvent[0] = DISABLE;
  }

  /**
   * Asks for a kick with the next available chain. Returns true when chains came meanwhile: the
   * driver may not have kicked for them, so they must be drained now.
   */
  requestKick(): boolean {
    const slot = this.#nextAvailable;
    const wish = this.#eventIdx
      ? DESC | slot | (this.#availableFlags === AVAIL ? WRAP : 0)
      : ENABLE;
    // The store must be visible before the flags are read again; Atomics order the two.
    Atomics.store(this.#deviceEvent, 0, wish);
    const flags = Atomics.load(this.#halves, ((slot << 3) + 7) | 0);
    return (flags & OWNER) === this.#availableFlags;
  }

  /** Ends the use of the ring. Completions that come later change nothing; held chains are empty. */
  close(): void {
    this.closed = true;
    for (const held of this.#held) held.release();
    this.#held.clear();
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

  /** Appends the buffer of a descriptor whose flags are known. */
  #append(slot: number, flags: number): void {
    const at = slot << 4;
    const low = this.#descriptors.getInt32(at, true);
    const high = this.#descriptors.getInt32((at + 4) | 0, true);
    const length = this.#descriptors.getInt32((at + 8) | 0, true);
    if (high >>> 0 >= 0x200000) throw badAddress(slot, low, high);
    this.chain.append(this.#memory, high, low, length, (flags & WRITE) !== 0);
  }

  #appendTable(slot: number, flags: number): void {
    if (!this.#indirect) throw new GuestError(`slot ${slot} is indirect`, "virtio 1.3 2.8.19");
    if ((flags & NEXT) !== 0) throw mixed(slot);
    const at = slot << 4;
    const low = this.#descriptors.getInt32(at, true);
    const high = this.#descriptors.getInt32((at + 4) | 0, true);
    const length = this.#descriptors.getInt32((at + 8) | 0, true);
    if (high >>> 0 >= 0x200000) throw badAddress(slot, low, high);
    const rule = "virtio 1.3 2.8.7";
    if (length <= 0 || length % DESCRIPTOR_SIZE !== 0) {
      throw new GuestError(`the indirect table has ${length >>> 0} bytes`, rule);
    }
    const count = length / DESCRIPTOR_SIZE;
    if (count > Math.max(this.size, MIN_TABLE_LIMIT)) {
      throw new GuestError(`the indirect table has ${count} descriptors`, rule);
    }
    const memory = this.#memory;
    const place = memory.locate(high, low, length);
    if (place >= 0) {
      const start = (low & OFFSET_MASK) + memory.places[place + 3]!;
      this.#appendAll(memory.placeWindows[place >> PLACE_SHIFT]!.data, start, count);
    } else {
      const address = high * 4294967296 + (low >>> 0);
      this.#appendAll(this.#copyTable(address, length), 0, count);
    }
  }

  /** Appends all buffers of an indirect table; of its flags only WRITE counts (2.8.7). */
  #appendAll(table: DataView, base: number, count: number): void {
    const chain = this.chain;
    const memory = this.#memory;
    for (let i = 0, at = base; i < count; i++, at = (at + DESCRIPTOR_SIZE) | 0) {
      const low = table.getInt32(at, true);
      const high = table.getInt32((at + 4) | 0, true);
      const length = table.getInt32((at + 8) | 0, true);
      const flags = table.getInt32((at + 12) | 0, true) >>> 16;
      if (high >>> 0 >= 0x200000) throw badAddress(i, low, high);
      chain.append(memory, high, low, length, (flags & WRITE) !== 0);
    }
  }

  /** Gathers an indirect table that crosses the end of a memory window. */
  #copyTable(address: number, length: number): DataView {
    if (this.#tableCopy === null || this.#tableCopy.byteLength < length) {
      this.#tableCopy = new DataView(new ArrayBuffer(length));
    }
    const copy = new Uint8Array(this.#tableCopy.buffer);
    for (let done = 0; done < length; ) {
      const window = this.#memory.find(address + done);
      if (window === null) {
        throw new GuestError(
          "part of an indirect table is not in guest memory",
          "virtio 1.3 2.8.7",
        );
      }
      const start = address + done - window.origin;
      const size = Math.min(length - done, window.end - address - done);
      copy.set(window.u8.subarray(start, start + size), done);
      done += size;
    }
    return this.#tableCopy;
  }
}

function overrun(first: number, room: number): GuestError {
  return new GuestError(
    `the chain from slot ${first} is longer than the ${room} slots that are not in use`,
    "virtio 1.3 2.8.17",
  );
}

function cut(first: number, slot: number): GuestError {
  return new GuestError(
    `the chain from slot ${first} goes on in slot ${slot}, which is not available`,
    "virtio 1.3 2.8.6",
  );
}

function mixed(slot: number): GuestError {
  return new GuestError(
    `the indirect descriptor in slot ${slot} is part of a list`,
    "virtio 1.3 2.8.19",
  );
}

function twice(id: number, first: number): GuestError {
  return new GuestError(
    `the chain from slot ${first} has buffer id ${id}, which is in flight`,
    "virtio 1.3 2.8.21.1",
  );
}

function tooLong(first: number): GuestError {
  return new GuestError(
    `the chain from slot ${first} has more than 4 GiB of buffers`,
    "virtio 1.3 2.8.17",
  );
}

function badAddress(index: number, low: number, high: number): GuestError {
  const digits = (value: number) => (value >>> 0).toString(16).padStart(8, "0");
  return new GuestError(
    `descriptor ${index} points to 0x${digits(high)}${digits(low)}, beyond any guest memory`,
    "virtio 1.3 2.8.13",
  );
}
