/**
 * What I/O addresses mean to a device behind an IOMMU: the entries that the front-end sends lead them
 * to guest memory (virtio 1.3, 6, VIRTIO_F_ACCESS_PLATFORM; vhost-user: IOMMU support).
 *
 * Entries are only looked at when a chain is taken. Its spans then name windows of guest memory itself,
 * so entries come and go without any harm to chains in flight.
 */
import { type Pages, Window } from "../ffi/mod.ts";
import { Access, AddressSpace, MemoryWindow } from "./address-space.ts";
import { GuestError } from "./errors.ts";
import { hex } from "./hex.ts";
import type { GuestMemory } from "./memory.ts";
import { RangeMap } from "./range-map.ts";

const RULE = "vhost-user: IOMMU support";

/** Entries kept at most; 4 KiB each they cover the buffers of the largest rings many times. */
export const MAX_ENTRIES = 2 ** 18;

const PAGE_BITS = 12;
const PAGE = 2 ** PAGE_BITS;
const PAGE_MASK = PAGE - 1;

/** The addresses of one page have one place in the cache. */
const CACHE_BITS = 10;
const SPREAD = 0x9e3779b1;
/** A place has eight words. */
const PLACE_BITS = 3;
/** Entries with the same place go on being used until the epoch ends. */
const EPOCH = 0;
/** The halves of the page's number: bits 32 and up of its address, bits 12 to 31. */
const HIGH = 1;
const LOW = 2;
const ALLOWED = 3;
const SLOT = 4;
/** The index into the window's views for the page's first byte, and the bytes there are from it on. */
const OFFSET = 5;
const LENGTH = 6;

/** Entries that are taken as one when their memory is. */
const MAX_JOINED = 64;

const { READ, WRITE } = Access;

const kinds = ["", "read", "written", "read and written"];

/** The front-end has not said what an I/O address means: the queue goes on when it has. */
export class TranslationMiss extends GuestError {
  /** The first address without a translation, and the bytes that are wanted from there on. */
  readonly address: number;
  readonly length: number;
  /** The `Access` that is wanted. */
  readonly access: number;

  constructor(what: string, address: number, length: number, access: number) {
    super(`${what} at I/O address ${hex(address)} has no translation`, RULE);
    this.name = "TranslationMiss";
    this.address = address;
    this.length = length;
    this.access = access;
  }
}

/** The IOMMU does not allow what a chain wants of its memory. */
export class AccessFailure extends GuestError {
  readonly address: number;
  readonly access: number;

  constructor(what: string, address: number, access: number) {
    const text = `${what} at I/O address ${hex(address)} must not be ${kinds[access]}`;
    super(text, "virtio 1.3 6.1");
    this.name = "AccessFailure";
    this.address = address;
    this.access = access;
  }
}

/** A part of a window's views. */
export interface Piece {
  readonly slot: number;
  readonly from: number;
  readonly to: number;
}

/** Bytes that follow one another in the process and in guest-physical memory. */
export interface HostPiece extends Pages {
  readonly physical: number;
}

/** Beyond so many pieces it is not looked at which of them are in use. */
const MAX_PIECES = 64;

/** What `find` returns, filled anew each time: a part of a window, by I/O addresses. */
class Stretch extends MemoryWindow {
  declare base: number;
  declare end: number;
  declare origin: number;
  declare physical: number;
  declare host: number;

  override open(): this {
    return this;
  }

  show(window: MemoryWindow, address: number, offset: number, length: number): this {
    this.base = address;
    this.end = address + length;
    this.origin = address - offset;
    this.physical = window.physical;
    this.host = window.host;
    this.slot = window.slot;
    this.u8 = window.u8;
    this.data = window.data;
    this.i32 = window.i32;
    return this;
  }
}

export class Iotlb extends AddressSpace {
  /** Entries lead to guest-physical addresses instead of user addresses (GPA_ADDRESSES). */
  guestAddresses = false;
  readonly #memory: GuestMemory;
  readonly #ranges = new RangeMap();
  readonly #cache = new Int32Array(1 << (CACHE_BITS + PLACE_BITS));
  #epoch = 1;
  /** The table of guest memory that the cache belongs to. */
  #memoryChanges = -1;
  #evicted = 0;
  readonly #stretch: Stretch;

  /** What `#resolve` found: a window, the index in its views, the bytes there, and before. */
  #window: MemoryWindow | null = null;
  #offset = 0;
  #rest = 0;
  #before = 0;
  #allowed = 0;

  constructor(memory: GuestMemory) {
    super(memory.slots);
    this.#memory = memory;
    const views = new Window(0, 0);
    this.#stretch = new Stretch({ base: 0, end: 0, origin: 0, physical: 0, views });
  }

  /** Entries there are; neighbours count one by one. */
  get size(): number {
    return this.#ranges.size;
  }

  override locate(high: number, low: number, length: number, access: number): number {
    const page = low >>> PAGE_BITS;
    const at = placeOf(high, page);
    const cache = this.#cache;
    if (this.#memoryChanges !== this.#memory.changes) this.#forget();
    const within = low & PAGE_MASK;
    if (
      cache[at + LOW] === page &&
      cache[at + HIGH] === high &&
      cache[at + EPOCH] === this.#epoch &&
      (cache[at + ALLOWED]! & access) === access &&
      // Also false for a length of 0.
      (length - 1) >>> 0 < cache[at + LENGTH]! - within
    ) {
      this.offset = (cache[at + OFFSET]! + within) | 0;
      return cache[at + SLOT]!;
    }
    return this.#relocate(high, low, length, access, at);
  }

  #relocate(high: number, low: number, length: number, access: number, at: number): number {
    if (length <= 0 || !this.#resolve(high * 4294967296 + (low >>> 0), access)) return -1;
    const within = low & PAGE_MASK;
    const { slot } = this.#window!;
    if (within <= this.#before) {
      const cache = this.#cache;
      cache[at + EPOCH] = this.#epoch;
      cache[at + HIGH] = high;
      cache[at + LOW] = low >>> PAGE_BITS;
      cache[at + ALLOWED] = this.#allowed;
      cache[at + SLOT] = slot;
      cache[at + OFFSET] = this.#offset - within;
      cache[at + LENGTH] = this.#rest + within;
    }
    this.offset = this.#offset;
    return length <= this.#rest ? slot : -1;
  }

  /** The part of a window from `address` on, which the next call replaces, or null. */
  override find(address: number, access: number = READ): MemoryWindow | null {
    if (!this.#resolve(address, access)) return null;
    return this.#stretch.show(this.#window!, address, this.#offset, this.#rest);
  }

  /** A miss, or a failure where there is an entry and it does not allow this. */
  override fault(
    what: string,
    start: number,
    length: number,
    at: number,
    access: number,
  ): GuestError {
    if (this.lacks(at, access)) {
      return new TranslationMiss(what, at, start + length - at, access);
    }
    return new AccessFailure(what, at, access);
  }

  /** Tells whether nothing is known of an address yet. */
  lacks(address: number, access: number): boolean {
    return !this.#resolve(address, access) && !this.#resolve(address, 0);
  }

  /**
   * Calls `found` with the first address in each page of `length` bytes at `address` that nothing is
   * known of, `limit` times at most.
   */
  missing(address: number, length: number, limit: number, found: (at: number) => void): void {
    const end = address + length;
    for (let at = address, count = 0; at < end && count < limit; ) {
      if (this.#resolve(at, 0)) at += this.#rest;
      else {
        found(at);
        count++;
        at += PAGE - (at % PAGE);
      }
    }
  }

  /** Where `length` bytes lie in the process, in order. Throws what `fault` makes. */
  hosts(what: string, address: number, length: number, access: number): HostPiece[] {
    const parts: { address: number; length: number; physical: number }[] = [];
    for (let done = 0; done < length; ) {
      if (!this.#resolve(address + done, access)) {
        throw this.fault(what, address, length, address + done, access);
      }
      const host = this.#window!.host + this.#offset;
      const physical = this.#window!.physical + this.#offset;
      const size = Math.min(this.#rest, length - done);
      const last = parts.at(-1);
      const joins =
        last?.address === host - (last?.length ?? 0) && last.physical === physical - last.length;
      if (joins) last.length += size;
      else parts.push({ address: host, length: size, physical });
      done += size;
    }
    return parts;
  }

  /** Tells whether guest memory has all of what an entry would lead to. */
  reaches(target: number, size: number): boolean {
    for (let at = target; at < target + size; ) {
      const window = this.#targetWindow(at);
      if (window === null) return false;
      at += window.end - (window.origin + this.#memory.offset);
    }
    return true;
  }

  /** Tells whether an update would take anything away from what is known. */
  contradicts(start: number, size: number, target: number, access: number): boolean {
    const ranges = this.#ranges;
    const end = start + size;
    for (let at = start; at < end && ranges.seekFrom(at) && ranges.start < end; at = ranges.end) {
      const other = ranges.target - ranges.start !== target - start;
      if (other || (ranges.access & ~access) !== 0) return true;
    }
    return false;
  }

  /** Enters what `start` leads to, whatever was known of that range. */
  set(start: number, size: number, target: number, access: number): void {
    const ranges = this.#ranges;
    while (ranges.size >= MAX_ENTRIES) {
      ranges.evict(this.#evicted++);
      this.#forget();
    }
    // What was not known is not in the cache.
    if (ranges.seekFrom(start) && ranges.start < start + size) this.#forget();
    ranges.set(start, start + size, target, access);
  }

  /**
   * Forgets what addresses from `start` up to `end` lead to. Returns the memory that they did lead to;
   * null when it is in too many pieces.
   */
  remove(start: number, end: number): Piece[] | null {
    const pieces = this.#pieces(start, end);
    this.#ranges.delete(start, end);
    this.#forget();
    return pieces;
  }

  clear(): void {
    this.#ranges.clear();
    this.#forget();
  }

  #pieces(start: number, end: number): Piece[] | null {
    const pieces: Piece[] = [];
    for (let at = start; at < end; ) {
      if (!this.#ranges.seekFrom(at) || this.#ranges.start >= end) break;
      at = Math.max(at, this.#ranges.start);
      const next = this.#ranges.end;
      while (at < Math.min(next, end) && this.#resolve(at, 0)) {
        if (pieces.length === MAX_PIECES) return null;
        const { slot } = this.#window!;
        const size = Math.min(this.#rest, end - at);
        pieces.push({ slot, from: this.#offset, to: this.#offset + size });
        at += size;
      }
      at = Math.max(at, next);
    }
    return pieces;
  }

  /** Ends the use of what the cache holds. */
  #forget(): void {
    this.#epoch = (this.#epoch + 1) | 0;
    this.#memoryChanges = this.#memory.changes;
    // After 2^32 changes old places would look new.
    if (this.#epoch === 0) this.#cache.fill(0);
  }

  /** Finds the window that holds an address. False when there is none that allows `access`. */
  #resolve(address: number, access: number): boolean {
    const ranges = this.#ranges;
    if (!ranges.seek(address) || (ranges.access & access) !== access) return false;
    const target = ranges.target + (address - ranges.start);
    const window = this.#targetWindow(target);
    if (window === null) return false;
    const offset = this.#memory.offset;
    const room = window.end - window.origin - offset;
    this.#window = window;
    this.#offset = offset;
    this.#before = Math.min(address - ranges.start, offset - (window.base - window.origin));
    this.#allowed = ranges.access;
    const delta = target - address;
    let end = ranges.end;
    for (let joined = 1; joined < MAX_JOINED && end - address < room; joined++) {
      if (!ranges.seek(end) || ranges.target - ranges.start !== delta) break;
      if ((ranges.access & access) !== access) break;
      this.#allowed &= ranges.access;
      end = ranges.end;
    }
    this.#rest = Math.min(end - address, room);
    return true;
  }

  /** The window of what an entry leads to, its index in `offset` of guest memory. */
  #targetWindow(target: number): MemoryWindow | null {
    if (!this.guestAddresses) return this.#memory.findUserWindow(target);
    const window = this.#memory.find(target);
    if (window !== null) this.#memory.offset = target - window.origin;
    return window;
  }
}

/** The index in the cache for a page. */
function placeOf(high: number, page: number): number {
  return (Math.imul(page ^ (high << 20), SPREAD) >>> (32 - CACHE_BITS)) << PLACE_BITS;
}

/** The kinds of access that a message's permission means, or 0. */
export function accessOf(permission: number): number {
  return permission <= (READ | WRITE) ? permission : 0;
}
