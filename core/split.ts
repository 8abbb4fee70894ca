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
import { Chain, type ChainOwner, HeldChain } from "./chain.ts";
import type { Virtqueue } from "./device.ts";
import { GuestError } from "./errors.ts";
import { type GuestMemory, OFFSET_MASK, PLACE_SHIFT } from "./memory.ts";

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const DESCRIPTOR_SIZE = 16;

/** avail.flags: the driver wants no notification. */
const NO_INTERRUPT = 1;
/** used.flags: the device wants no notification. */
const NO_NOTIFY = 1;

/** Places of fields in the u16 views of the two rings. */
const FLAGS = 0;
const INDEX = 1;
const RING = 2;

/**
 * Descriptors an indirect table may have on a small ring. Drivers use tables longer than their
 * rings; the walk stays bounded by the table.
 */
const MIN_TABLE_LIMIT = 1024;

/** Bytes a driver may chain. Overlapping buffers could ask for any amount of work otherwise. */
const MAX_CHAIN_BYTES = 2 ** 32;

/** Bytes of the three parts for a ring of `size` descriptors, the event fields included. */
export const splitRingBytes = (size: number) => ({
  descriptor: DESCRIPTOR_SIZE * size,
  available: 6 + 2 * size,
  used: 6 + 8 * size,
});

export interface SplitQueueOptions {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  readonly memory: GuestMemory;
  /** Process addresses of the three parts, aligned to 16, 2 and 4 bytes. */
  readonly descriptor: number;
  readonly available: number;
  readonly used: number;
  /** The next available index to take. */
  readonly base: number;
  /** Negotiated ring features. */
  readonly indirect: boolean;
  readonly eventIdx: boolean;
  /** Signals the driver. */
  readonly call: () => void;
  /** Learns of a broken driver outside a drain; without it `next` always throws. */
  readonly broken?: (error: GuestError) => void;
  /** Publishes soon; called for completions outside a drain. */
  readonly requestPublish: () => void;
  /** Drains soon. */
  readonly requestDrain: () => void;
}

export class SplitQueue implements Virtqueue, ChainOwner {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  readonly chain: Chain;
  /** Set for good by `close`. */
  closed = false;
  /** No chain may be taken: memory is about to change. */
  paused = false;
  inFlight = 0;
  /** True while the ring's owner drains it, publishes, and catches what `next` throws. */
  draining = false;

  readonly #memory: GuestMemory;
  readonly #mask: number;
  readonly #descriptors: DataView<ArrayBuffer>;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used16: Uint16Array<ArrayBuffer>;
  readonly #used32: Uint32Array<ArrayBuffer>;
  readonly #usedEvent: number;
  readonly #availEvent: number;
  readonly #indirect: boolean;
  readonly #eventIdx: boolean;
  readonly #call: () => void;
  readonly #broken: ((error: GuestError) => void) | undefined;
  readonly #requestPublish: () => void;
  readonly #requestDrain: () => void;
  /** 1 for each head taken and not completed. */
  readonly #taken: Uint8Array<ArrayBuffer>;
  readonly #held = new Set<HeldChain>();
  /** A copy of an indirect table that crosses memory windows. */
  #tableCopy: DataView<ArrayBuffer> | null = null;

  #nextAvailable: number;
  #seenAvailable: number;
  #nextUsed: number;
  #publishedUsed: number;
  /** False until the driver was notified once: before that there is nothing to suppress against. */
  #notified = false;

  constructor(options: SplitQueueOptions) {
    const { size } = options;
    const bytes = splitRingBytes(size);
    this.index = options.index;
    this.name = options.name;
    this.size = size;
    this.chain = new Chain(this);
    this.#memory = options.memory;
    this.#mask = size - 1;
    this.#descriptors = new DataView(runtime.view(options.descriptor, bytes.descriptor));
    this.#available = new Uint16Array(runtime.view(options.available, bytes.available));
    const used = runtime.view(options.used, bytes.used);
    this.#used16 = new Uint16Array(used);
    this.#used32 = new Uint32Array(used, 0, 1 + 2 * size);
    this.#usedEvent = RING + size;
    this.#availEvent = RING + 4 * size;
    this.#indirect = options.indirect;
    this.#eventIdx = options.eventIdx;
    this.#call = options.call;
    this.#broken = options.broken;
    this.#requestPublish = options.requestPublish;
    this.#requestDrain = options.requestDrain;
    this.#taken = new Uint8Array(size);
    this.#nextAvailable = options.base;
    this.#seenAvailable = options.base;
    // Firmware and drivers may have used the ring before: go on where the driver last saw us.
    this.#nextUsed = Atomics.load(this.#used16, INDEX);
    this.#publishedUsed = this.#nextUsed;
  }

  /** The available index that a later start must go on from (the `num` of GET_VRING_BASE). */
  get base(): number {
    return this.#nextAvailable;
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
    const at = this.#nextAvailable;
    if (at === this.#seenAvailable && !this.#refresh(at)) return false;
    const head = this.#available[RING + (at & this.#mask)]!;
    if (head >= this.size) throw badIndex("available ring entry", at & this.#mask, head, this.size);
    if (this.#taken[head] !== 0) {
      throw new GuestError(
        `descriptor ${head} was made available again while in flight`,
        "virtio 1.3 2.7.13",
      );
    }
    const chain = this.chain;
    chain.begin(head);
    this.#walk(this.#descriptors, 0, this.size, head, true);
    if (chain.readableBytes + chain.writableBytes >= MAX_CHAIN_BYTES) throw tooLong(head);
    this.#nextAvailable = (at + 1) & 0xffff;
    this.#taken[head] = 1;
    this.inFlight++;
    return true;
  }

  putBack(): void {
    if (this.closed) return;
    this.#taken[this.chain.head] = 0;
    this.inFlight--;
    this.#nextAvailable = (this.#nextAvailable - 1) & 0xffff;
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
    if (this.#taken[head] !== 1) {
      throw new Error(`Cannot complete chain ${head} of queue ${this.index}: it is not in flight`);
    }
    this.#taken[head] = 0;
    this.inFlight--;
    const at = 1 + ((this.#nextUsed & this.#mask) << 1);
    this.#used32[at] = head;
    this.#used32[at + 1] = written;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    if (!this.draining) this.#requestPublish();
  }

  publish(): void {
    const next = this.#nextUsed;
    const old = this.#publishedUsed;
    if (next === old || this.closed) return;
    // Orders the used elements before the index, and the index before the suppression fields.
    Atomics.store(this.#used16, INDEX, next);
    this.#publishedUsed = next;
    if (this.#wantsCall(old, next)) this.#call();
  }

  resume(): void {
    if (!this.closed) this.#requestDrain();
  }

  /** Asks the driver not to kick while the ring is being drained. */
  suppressKicks(): void {
    // With EVENT_IDX an avail_event that stays behind does the same.
    if (!this.#eventIdx) this.#used16[FLAGS] = NO_NOTIFY;
  }

  /**
   * Asks for a kick with the next available chain. Returns true when chains came meanwhile: the
   * driver may not have kicked for them, so they must be drained now.
   */
  requestKick(): boolean {
    const at = this.#nextAvailable;
    // The store must be visible before the index is read again; Atomics order the two.
    if (this.#eventIdx) Atomics.store(this.#used16, this.#availEvent, at);
    else Atomics.store(this.#used16, FLAGS, 0);
    return Atomics.load(this.#available, INDEX) !== at;
  }

  /** Ends the use of the ring. Completions that come later change nothing; held chains are empty. */
  close(): void {
    this.closed = true;
    for (const held of this.#held) held.release();
    this.#held.clear();
  }

  /** Looks for new chains; false when there are none. */
  #refresh(at: number): boolean {
    // Orders the ring entry and the descriptors, which are read next, after the index.
    const seen = Atomics.load(this.#available, INDEX);
    if (((seen - at) & 0xffff) > this.size) {
      throw new GuestError(
        `the available index moved from ${at} to ${seen} on a ring of ${this.size}`,
        "virtio 1.3 2.7.13",
      );
    }
    this.#seenAvailable = seen;
    return seen !== at;
  }

  #wantsCall(old: number, next: number): boolean {
    if (!this.#eventIdx) return (Atomics.load(this.#available, FLAGS) & NO_INTERRUPT) === 0;
    const event = Atomics.load(this.#available, this.#usedEvent);
    const first = !this.#notified;
    this.#notified = true;
    // virtio 1.3, 2.7.10.1: the index passed the event, in 16-bit arithmetic.
    return first || ((next - event - 1) & 0xffff) < ((next - old) & 0xffff);
  }

  /** Appends the descriptors from `first` on to the chain. `table` has `size` of them at `base`. */
  #walk(table: DataView, base: number, size: number, first: number, direct: boolean): void {
    const chain = this.chain;
    const memory = this.#memory;
    let index = first;
    for (let steps = 0; ; steps++) {
      if (steps === size) throw looped(first, size);
      const at = (base + (index << 4)) | 0;
      const low = table.getInt32(at, true);
      const high = table.getInt32((at + 4) | 0, true);
      const length = table.getInt32((at + 8) | 0, true);
      const link = table.getInt32((at + 12) | 0, true);
      const flags = link & 0xffff;
      if (high >>> 0 >= 0x200000) throw badAddress(index, low, high);
      if ((flags & INDIRECT) !== 0) {
        this.#indirectTable(index, high, low, length, flags, direct);
        return;
      }
      chain.append(memory, high, low, length, (flags & WRITE) !== 0);
      if ((flags & NEXT) === 0) return;
      index = link >>> 16;
      if (index >= size) {
        throw badIndex("next field of a descriptor", (at - base) >> 4, index, size);
      }
    }
  }

  #indirectTable(
    index: number,
    high: number,
    low: number,
    length: number,
    flags: number,
    direct: boolean,
  ): void {
    const rule = "virtio 1.3 2.7.5.3";
    if (!this.#indirect) throw new GuestError(`descriptor ${index} is indirect`, `${rule}.1`);
    if (!direct) throw new GuestError(`descriptor ${index} of a table is indirect`, `${rule}.1`);
    if ((flags & NEXT) !== 0) {
      throw new GuestError(`the indirect descriptor ${index} has a next one`, `${rule}.1`);
    }
    if (length <= 0 || length % DESCRIPTOR_SIZE !== 0) {
      throw new GuestError(`the indirect table has ${length >>> 0} bytes`, rule);
    }
    const count = length / DESCRIPTOR_SIZE;
    if (count > Math.max(this.size, MIN_TABLE_LIMIT)) {
      throw new GuestError(`the indirect table has ${count} descriptors`, `${rule}.1`);
    }
    const memory = this.#memory;
    const place = memory.locate(high, low, length);
    if (place >= 0) {
      const at = (low & OFFSET_MASK) + memory.places[place + 3]!;
      this.#walk(memory.placeWindows[place >> PLACE_SHIFT]!.data, at, count, 0, false);
    } else {
      const address = high * 4294967296 + (low >>> 0);
      this.#walk(this.#copyTable(address, length), 0, count, 0, false);
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
          "virtio 1.3 2.7.5",
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

function badIndex(what: string, at: number, value: number, size: number): GuestError {
  return new GuestError(`${what} ${at} holds ${value}, beyond ${size - 1}`, "virtio 1.3 2.7.5");
}

function looped(first: number, size: number): GuestError {
  return new GuestError(
    `the chain from descriptor ${first} is longer than its table of ${size}`,
    "virtio 1.3 2.7.5.2",
  );
}

function tooLong(head: number): GuestError {
  return new GuestError(
    `the chain from descriptor ${head} has more than 4 GiB of buffers`,
    "virtio 1.3 2.7.5.2",
  );
}

function badAddress(index: number, low: number, high: number): GuestError {
  const digits = (value: number) => (value >>> 0).toString(16).padStart(8, "0");
  return new GuestError(
    `descriptor ${index} points to 0x${digits(high)}${digits(low)}, beyond any guest memory`,
    "virtio 1.3 2.7.5",
  );
}
