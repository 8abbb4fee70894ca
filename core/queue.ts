/** What the device sides of split and packed virtqueues have in common. */
import { Access, type AddressSpace, Place, placeOf } from "./address-space.ts";
import { Chain, type ChainOwner, HeldChain } from "./chain.ts";
import type { Virtqueue } from "./device.ts";
import type { RingLog } from "./dirty-log.ts";
import { GuestError } from "./errors.ts";
import type { Piece } from "./iotlb.ts";
import type { PageSource } from "./memory.ts";

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const DESCRIPTOR_SIZE = 16;
const ADDRESS_LIMIT = ~0x1fffff;

/**
 * What both kinds of rings know of descriptors: their flags (virtio 1.3, 2.7.5 and 2.8.13), their size
 * in bytes, and the bits that the high half of an address below 2^53 has not.
 *
 * Loops copy these to constants of their own module: V8 loads an imported one each time it is used.
 */
export const Descriptor = { NEXT, WRITE, INDIRECT, SIZE: DESCRIPTOR_SIZE, ADDRESS_LIMIT } as const;

/**
 * Descriptors an indirect table may have on a small ring. Drivers use tables longer than their
 * rings; the walk stays bounded by the table.
 */
const MIN_TABLE_LIMIT = 1024;

const { READ } = Access;
const { SHIFT, END, SLOT, OFFSET_MASK } = Place;

/** Bytes a driver may chain. Overlapping buffers could ask for any amount of work otherwise. */
const MAX_CHAIN_BYTES = 2 ** 32;

/** Sections of virtio 1.3 that errors name. */
export interface Rules {
  readonly descriptor: string;
  readonly chain: string;
  /** The form of an indirect table, and when there may be one. */
  readonly table: string;
  readonly tableUse: string;
}

export interface QueueOptions {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  /** What the addresses in descriptors mean. */
  readonly memory: AddressSpace;
  /** Process addresses of the ring's three parts, aligned as the ring's kind wants it. */
  readonly descriptor: number;
  readonly available: number;
  readonly used: number;
  /** Where to go on, as in SET_VRING_BASE. */
  readonly base: number;
  /** The ring begins anew; false when absent. */
  readonly fresh?: boolean;
  /** The queue's part of the in-flight region. */
  readonly inflight?: InflightPart | null;
  /** Where to mark what is written to guest memory. */
  readonly log?: RingLog | null;
  /** Where pages of guest memory come from that have not come yet. */
  readonly pages?: PageSource | null;
  /** Negotiated ring features. */
  readonly indirect: boolean;
  readonly eventIdx: boolean;
  readonly inOrder?: boolean;
  readonly notifyOnEmpty?: boolean;
  /** Signals the driver. */
  readonly call: () => void;
  /** Learns of what `next` throws outside a drain; without it `next` always throws. */
  readonly broken?: (error: GuestError) => void;
  /** Publishes soon; called for completions outside a drain. */
  readonly requestPublish: () => void;
  /** Drains soon. */
  readonly requestDrain: () => void;
}

/** A part of an in-flight region and the size of the queues that the region was made for. */
export interface InflightPart {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly queueSize: number;
}

export abstract class Queue implements Virtqueue, ChainOwner {
  readonly index: number;
  readonly name: string;
  readonly size: number;
  readonly fresh: boolean;
  readonly chain: Chain;
  /** Set for good by `close`. */
  closed = false;
  /** No chain may be taken: memory is about to change. */
  paused = false;
  /** The next chain cannot be taken yet: what its addresses mean is not known. */
  waiting = false;
  inFlight = 0;
  /** True while the ring's owner drains it and publishes. */
  draining = false;

  protected readonly memory: AddressSpace;
  protected readonly call: () => void;
  protected readonly requestPublish: () => void;
  /** Where to mark what is written to guest memory, while it is migrated. */
  protected readonly log: RingLog | null;
  /** The first word of the table that `openTable` found. */
  protected tableBase = 0;
  readonly #rules: Rules;
  /** Bytes an indirect table may have, 0 where none is allowed. */
  readonly #tableLimit: number;
  readonly #broken: ((error: GuestError) => void) | undefined;
  readonly #requestDrain: () => void;
  readonly #pages: PageSource | null;
  readonly #held = new Set<HeldChain>();
  /** What to mark when a chain is completed, by its head. Filled only while memory is migrated. */
  readonly #writable = new Map<number, readonly number[]>();
  /** A copy of an indirect table that crosses memory windows or is not aligned. */
  #tableCopy: Int32Array<ArrayBuffer> = new Int32Array(new ArrayBuffer(0));

  constructor(options: QueueOptions, rules: Rules) {
    this.#rules = rules;
    this.index = options.index;
    this.fresh = options.fresh ?? false;
    this.name = options.name;
    this.size = options.size;
    this.chain = this.makeChain(options.memory);
    this.memory = options.memory;
    this.call = options.call;
    this.requestPublish = options.requestPublish;
    this.log = options.log ?? null;
    this.#tableLimit = options.indirect
      ? Math.max(options.size, MIN_TABLE_LIMIT) * DESCRIPTOR_SIZE
      : 0;
    this.#broken = options.broken;
    this.#requestDrain = options.requestDrain;
    this.#pages = options.pages ?? null;
  }

  /** Requests that a back-end before us had taken and not completed, and that are still to come. */
  abstract get replays(): number;

  /** Where a later start must go on (the `num` of GET_VRING_BASE). */
  abstract get base(): number;

  /** Loads the next available chain into `chain`. Throws `GuestError` when the driver is wrong. */
  protected abstract load(): boolean;

  abstract putBack(head?: number): void;
  abstract complete(head: number, written: number): void;
  abstract publish(): void;

  /** Asks the driver not to kick while the ring is being drained. */
  abstract suppressKicks(): void;

  /**
   * Asks for a kick with the next available chain. Returns true when chains came meanwhile: the
   * driver may not have kicked for them, so they must be drained now.
   */
  abstract requestKick(): boolean;

  /** `next` for the ring's owner, who catches what it throws. */
  advance(): boolean {
    if (this.paused || this.closed || this.waiting || !this.load()) return false;
    if (this.#pages !== null) this.#receive(this.#pages);
    return true;
  }

  /** A device must not act upon what never came: it would write zeros to a disk. */
  #receive(pages: PageSource): void {
    if (pages.receive(this.chain)) return;
    this.putBack();
    throw new GuestError(
      `chain ${this.chain.head} lies in memory that will never come: the front-end is gone`,
      "vhost-user: Migration",
    );
  }

  next(): boolean {
    if (this.#broken === undefined) return this.advance();
    try {
      return this.advance();
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      this.#broken(error);
      return false;
    }
  }

  /** Called by the constructor: what a subclass sets is not there yet. */
  protected makeChain(memory: AddressSpace): Chain {
    return new Chain(this, memory);
  }

  /** A copy of `chain`. */
  protected makeHeld(): HeldChain {
    return new HeldChain(this, this.chain);
  }

  hold(): HeldChain {
    const held = this.makeHeld();
    this.#held.add(held);
    return held;
  }

  completeHeld(held: HeldChain, written: number): void {
    this.#held.delete(held);
    this.complete(held.head, written);
  }

  /**
   * Tells whether a chain in flight may use one of `pieces`; null stands for any number of them. What
   * is known of chains that are not held is only that they are there.
   */
  uses(pieces: readonly Piece[] | null): boolean {
    if (this.inFlight === 0 || pieces?.length === 0) return false;
    if (pieces === null || this.#held.size < this.inFlight) return true;
    for (const held of this.#held) {
      if (held.uses(pieces)) return true;
    }
    return false;
  }

  resume(): void {
    if (!this.closed) this.#requestDrain();
  }

  /** Ends the use of the ring. Completions that come later change nothing; held chains are empty. */
  close(): void {
    this.closed = true;
    // Requests that are given up may have been carried out in part.
    if (this.#writable.size > 0) {
      for (const head of this.#writable.keys()) this.markChain(head);
      this.log!.log.signal.send();
    }
    for (const held of this.#held) held.release();
    this.#held.clear();
  }

  /**
   * The words that hold the indirect table of descriptor `index`; sets `tableBase`.
   * Throws `GuestError` for one that is not allowed or not in memory.
   */
  protected openTable(
    index: number,
    low: number,
    high: number,
    length: number,
    flags: number,
  ): Int32Array<ArrayBuffer> {
    const { memory } = this;
    const { places } = memory;
    const place = placeOf(high, low);
    const offset = ((low & OFFSET_MASK) + places[place + SHIFT]!) | 0;
    const end = places[place + END]!;
    // The common table lies in the window found last.
    if (
      places[place] === high &&
      ((flags & NEXT) | (length & (DESCRIPTOR_SIZE - 1)) | (offset & 3)) === 0 &&
      offset >>> 0 < end >>> 0 &&
      (length - 1) >>> 0 < (end - offset) >>> 0 &&
      (length - 1) >>> 0 < this.#tableLimit >>> 0
    ) {
      this.tableBase = offset >> 2;
      return memory.slots[places[place + SLOT]!]!.i32;
    }
    return this.#openRareTable(index, low, high, length, flags);
  }

  /** The same for one that lies anywhere, or is wrong. */
  #openRareTable(
    index: number,
    low: number,
    high: number,
    length: number,
    flags: number,
  ): Int32Array<ArrayBuffer> {
    const odd = (flags & NEXT) | (length & (DESCRIPTOR_SIZE - 1)) | (high & ADDRESS_LIMIT);
    // The limit is 0 where no table is allowed. Also true for a length of 0.
    if (odd !== 0 || (length - 1) >>> 0 >= this.#tableLimit) {
      throw this.#badTable(index, low, high, length, flags);
    }
    const { memory } = this;
    const slot = memory.locate(high, low, length, READ);
    if (slot < 0 || (memory.offset & 3) !== 0) {
      return this.#copyTable(high * 4294967296 + (low >>> 0), length);
    }
    this.tableBase = memory.offset >> 2;
    return memory.slots[slot]!.i32;
  }

  #badTable(index: number, low: number, high: number, length: number, flags: number): GuestError {
    const { descriptor, table, tableUse } = this.#rules;
    if (this.#tableLimit === 0) return new GuestError(`descriptor ${index} is indirect`, tableUse);
    if ((flags & NEXT) !== 0) {
      return new GuestError(`the indirect descriptor ${index} has a next one`, tableUse);
    }
    if (length <= 0 || length % DESCRIPTOR_SIZE !== 0) {
      return new GuestError(
        `descriptor ${index}: the indirect table has ${length >>> 0} bytes`,
        table,
      );
    }
    if (length <= this.#tableLimit) return badAddress(index, low, high, descriptor);
    const count = length / DESCRIPTOR_SIZE;
    return new GuestError(
      `descriptor ${index}: the indirect table has ${count} descriptors`,
      tableUse,
    );
  }

  #copyTable(address: number, length: number): Int32Array<ArrayBuffer> {
    if (this.#tableCopy.byteLength < length) {
      this.#tableCopy = new Int32Array(new ArrayBuffer(length));
    }
    const copy = new Uint8Array(this.#tableCopy.buffer);
    for (let done = 0; done < length; ) {
      const window = this.memory.find(address + done, READ);
      if (window === null) {
        throw this.memory.fault(
          `chain ${this.chain.head}: an indirect table`,
          address,
          length,
          address + done,
          READ,
        );
      }
      const start = address + done - window.origin;
      const size = Math.min(length - done, window.end - address - done);
      copy.set(window.u8.subarray(start, start + size), done);
      done += size;
    }
    this.tableBase = 0;
    return this.#tableCopy;
  }

  /** Remembers what is to be marked when the loaded chain is completed. For queues with a log. */
  protected remember(head: number): void {
    this.#writable.set(head, this.chain.writableRanges());
  }

  /** The loaded chain was put back unwritten: there is nothing to mark. For queues with a log. */
  protected forget(head: number): void {
    this.#writable.delete(head);
  }

  /**
   * Marks all that the device was allowed to write for a request, not only the bytes that it reports:
   * a status byte lies behind data that a failed request left as it was. For queues with a log.
   */
  protected markChain(head: number): void {
    const ranges = this.#writable.get(head)!;
    this.#writable.delete(head);
    for (let i = 0; i < ranges.length; i += 2) this.log!.log.mark(ranges[i]!, ranges[i + 1]!);
  }

  /** Marks `length` bytes at an offset of the ring's part that the device writes. */
  protected markRing(offset: number, length: number): void {
    const { log } = this;
    if (log === null || log.ring === null) return;
    if (log.pages === undefined) log.log.mark(log.ring + offset, length);
    else markPages(log, log.pages);
  }

  /** Refuses a chain that is complete otherwise. */
  protected checkTotal(): void {
    const { chain } = this;
    if (chain.readableBytes + chain.writableBytes >= MAX_CHAIN_BYTES) {
      throw new GuestError(
        `the chain from descriptor ${chain.head} has more than 4 GiB of buffers`,
        this.#rules.chain,
      );
    }
  }
}

/** Marks all pages of a ring that is scattered. */
export function markPages({ log }: RingLog, pages: readonly number[]): void {
  for (const page of pages) log.mark(page, 1);
}

export function badIndex(
  what: string,
  at: number,
  value: number,
  size: number,
  rule = "virtio 1.3 2.7.5",
): GuestError {
  return new GuestError(`${what} ${at} holds ${value}, beyond ${size - 1}`, rule);
}

/** A chain that comes back to itself. */
export function looped(first: number, size: number): GuestError {
  return new GuestError(
    `the chain from descriptor ${first} is longer than its table of ${size}`,
    "virtio 1.3 2.7.5.2",
  );
}

export function nestedTable(index: number): GuestError {
  return new GuestError(`descriptor ${index} of a table is indirect`, "virtio 1.3 2.7.5.3.1");
}

export function badAddress(
  index: number,
  low: number,
  high: number,
  rule = "virtio 1.3 2.7.5",
): GuestError {
  const digits = (value: number) => (value >>> 0).toString(16).padStart(8, "0");
  return new GuestError(
    `descriptor ${index} points to 0x${digits(high)}${digits(low)}, beyond any guest memory`,
    rule,
  );
}
