/**
 * Translation of the addresses in descriptors to views of memory: windows in ascending order, and
 * the one that was found last for each GiB.
 */
import type { Window } from "../ffi/mod.ts";
import { GuestError } from "./errors.ts";
import { hex } from "./hex.ts";

const noBytes = new Uint8Array(0);
const noData = new DataView(noBytes.buffer);
const noWords = new Int32Array(0);

const READ = 1;
const WRITE = 2;
/** What a buffer needs and what a translation allows, as bits: those of IOTLB messages. */
export const Access = { READ, WRITE } as const;

/** What makes a window. */
export interface WindowSpec {
  /** First address. */
  readonly base: number;
  /** First address after it. */
  readonly end: number;
  /** The address of index 0 of the views, which may begin before the window does. */
  readonly origin: number;
  /** The guest-physical address of index 0 of the views. */
  readonly physical: number;
  readonly views: Window;
}

/** At most 1 GiB of addresses, with views. `data` and `u8` are indexed by `address - origin`. */
export class MemoryWindow {
  readonly base: number;
  readonly end: number;
  readonly origin: number;
  readonly physical: number;
  /** The process address of index 0 of the views. */
  readonly host: number;
  /** Empty until `open`, which `AddressSpace.find` calls. Plain fields: every request reads them. */
  u8: Uint8Array<ArrayBuffer> = noBytes;
  data: DataView<ArrayBuffer> = noData;
  /** The same as little-endian words, as far as there are whole ones. */
  i32: Int32Array<ArrayBuffer> = noWords;
  /** The index in its space's `slots`. */
  slot = -1;
  readonly #views: Window;

  constructor({ base, end, origin, physical, views }: WindowSpec) {
    this.base = base;
    this.end = end;
    this.origin = origin;
    this.physical = physical;
    this.host = views.address;
    this.#views = views;
  }

  open(): this {
    this.u8 = this.#views.u8;
    this.data = this.#views.data;
    this.i32 = this.#views.i32;
    return this;
  }
}

const GIB = 2 ** 30;
/** The offset of an address in its GiB. */
const OFFSET_MASK = GIB - 1;
/** Guests put the buffers of a request into several regions, so each GiB has a place of its own. */
const CACHE_BITS = 4;
/** Spreads the upper halves of addresses, which differ by powers of two, over the places. */
const SPREAD = 0x9e3779b1;

const KEY = 0;
const SHIFT = 1;
const END = 2;
const SLOT = 3;

/**
 * The fields of a place: the upper half of the addresses that it is about, what makes an index into the
 * window's views of an offset in the GiB, the end of what the window holds as such an index, which is 0
 * for a place that is about nothing, and the window's slot.
 */
export const Place = { KEY, SHIFT, END, SLOT, OFFSET_MASK } as const;

/** The index in `places` for an address in two halves: four places of four numbers for each upper half. */
export function placeOf(high: number, low: number): number {
  return ((Math.imul(high, SPREAD) >>> (32 - CACHE_BITS)) << 4) | ((low >>> 28) & 12);
}

/** What addresses mean to the devices of one session. */
export class AddressSpace {
  /** All windows, ascending; they do not overlap. */
  #windows: MemoryWindow[] = [];
  /** Windows by an index that each keeps for its life: spans of chains hold it. */
  readonly slots: (MemoryWindow | undefined)[];
  /**
   * For each GiB, as far as they do not share a place, where the buffer found last there was. Integers only: they cost a third of doubles. For virtqueues, which look first.
   */
  readonly places: Int32Array = new Int32Array(1 << (CACHE_BITS + 4));
  /** Index into the views of the window that `locate` found, and the window's slot. */
  offset = 0;
  /** How often the windows have changed. */
  changes = 0;

  /** `slots`: those of the space whose windows this one shows by other addresses. */
  constructor(slots: (MemoryWindow | undefined)[] = []) {
    this.slots = slots;
  }

  get windows(): readonly MemoryWindow[] {
    return this.#windows;
  }

  /**
   * Finds a buffer that lies in one window, by the two halves of its address, which is below 2^53.
   * Returns the window's slot and sets `offset`, or returns -1 when it is empty, not there, not
   * for this access, or cut by an end of a window. `length` above 2 GiB may be negative. Guest memory
   * is for both kinds of access; a translation may not be.
   */
  locate(high: number, low: number, length: number, _access: number): number {
    const at = placeOf(high, low);
    const places = this.places;
    const offset = ((low & OFFSET_MASK) + places[at + SHIFT]!) | 0;
    const end = places[at + END]!;
    // Unsigned on both sides, which engines compare as integers.
    if (
      places[at] === high &&
      offset >>> 0 < end >>> 0 &&
      (length - 1) >>> 0 < (end - offset) >>> 0
    ) {
      this.offset = offset;
      return places[at + SLOT]!;
    }
    return this.#relocate(high, low, length, at);
  }

  /** Makes the window that holds an address the one that is remembered for its GiB. */
  #relocate(high: number, low: number, length: number, at: number): number {
    const start = high * 4294967296 + (low >>> 0);
    const window = this.find(start);
    if (window === null || length <= 0 || start + length > window.end) return -1;
    const shift = start - (low & OFFSET_MASK) - window.origin;
    const end = Math.min(window.end - window.origin, shift + GIB);
    this.offset = start - window.origin;
    if (length > end - this.offset) return -1;
    // A window that begins before its first address is rare, and found by the long way.
    if (window.base === window.origin) {
      const places = this.places;
      places[at + KEY] = high;
      places[at + SHIFT] = shift;
      places[at + END] = end;
      places[at + SLOT] = window.slot;
    }
    return window.slot;
  }

  /**
   * The window that holds an address and allows `access`, or null. The rest of a buffer may lie in the
   * next one.
   */
  find(address: number, _access?: number): MemoryWindow | null {
    const windows = this.#windows;
    let low = 0;
    let high = windows.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const window = windows[middle]!;
      if (address < window.base) high = middle - 1;
      else if (address >= window.end) low = middle + 1;
      else return window.open();
    }
    return null;
  }

  /** What to throw when `find` has nothing at `at` for `what`, `length` bytes at `start`. */
  fault(what: string, start: number, length: number, at: number, _access: number): GuestError {
    return new GuestError(
      `${what} of ${length} bytes at ${hex(start)} is not in guest memory from ${hex(at)} on`,
      "virtio 1.3 2.7.5",
    );
  }

  /** Uses these windows from now on. Chains may go on using those that are among the old ones too. */
  protected install(windows: MemoryWindow[]): void {
    const kept = new Set(windows);
    this.slots.forEach((window, slot) => {
      if (window !== undefined && !kept.has(window)) this.slots[slot] = undefined;
    });
    let free = 0;
    for (const window of windows) {
      if (window.slot >= 0) continue;
      while (this.slots[free] !== undefined) free++;
      window.slot = free;
      this.slots[free] = window;
    }
    this.#windows = windows.sort((a, b) => a.base - b.base);
    this.places.fill(0);
    this.changes++;
  }
}
