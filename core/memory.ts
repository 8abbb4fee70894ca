/**
 * Guest memory: the regions a front-end shares, and the two ways into them: by guest-physical
 * address (buffers) and by front-end user address (rings).
 */
import {
  F_ADD_SEALS,
  F_SEAL_SHRINK,
  type Fd,
  libc,
  Mapping,
  PAGE_SIZE,
  S_IFMT,
  S_IFREG,
  type Window,
} from "../ffi/mod.ts";
import { ProtocolError } from "./errors.ts";
import { hex } from "./hex.ts";

/**
 * Guest memory that one front-end may map, in bytes: what virtual machines have, and far less than
 * the address space, which the process needs for itself.
 */
const MAX_GUEST_MEMORY = 2 ** 44;

/** Files with blocks of this size or more are made of huge pages, which map at their boundaries. */
const HUGE_PAGE = 2 ** 21;

/** A region as the front-end describes it. All in bytes. */
export interface RegionSpec {
  readonly guestAddress: number;
  readonly size: number;
  readonly userAddress: number;
  readonly mmapOffset: number;
}

const noBytes = new Uint8Array(0);
const noData = new DataView(noBytes.buffer);

/** At most 1 GiB of a region, with views. `data` and `u8` are indexed by `address - origin`. */
export class MemoryWindow {
  /** First guest address. */
  readonly base: number;
  /** First guest address after it. */
  readonly end: number;
  /** The guest address of index 0 of the views, which may begin before the region does. */
  readonly origin: number;
  /** The process address of index 0 of the views. */
  readonly host: number;
  /** Empty until `open`, which `GuestMemory.find` calls. Plain fields: every request reads them. */
  u8: Uint8Array<ArrayBuffer> = noBytes;
  data: DataView<ArrayBuffer> = noData;
  readonly #views: Window | null;

  constructor(base: number, end: number, origin: number, views: Window | null) {
    this.base = base;
    this.end = end;
    this.origin = origin;
    this.host = views?.address ?? 0;
    this.#views = views;
  }

  open(): this {
    if (this.#views !== null) {
      this.u8 = this.#views.u8;
      this.data = this.#views.data;
    }
    return this;
  }
}

/** A mapped region. */
export class MemoryRegion implements Disposable {
  readonly spec: RegionSpec;
  readonly windows: readonly MemoryWindow[];
  /** Process address of the region's first byte. */
  readonly host: number;
  readonly #mapping: Mapping;

  /**
   * Maps the region and keeps the memory from shrinking where the file allows that. Does not take
   * `fd`. Throws `ProtocolError` when the file is too small, `SystemError` when it cannot be mapped.
   */
  constructor(spec: RegionSpec, fd: Fd) {
    // Sealed first: whatever is measured afterwards stays. Only memfds can be sealed.
    libc.fcntl(fd.number, F_ADD_SEALS, F_SEAL_SHRINK);
    const { mode, size, blockSize } = fd.stat();
    if ((mode & S_IFMT) !== S_IFREG) {
      throw new ProtocolError("Cannot map a memory region: its descriptor is no file of memory");
    }
    if (spec.mmapOffset + spec.size > size) {
      throw new ProtocolError(
        `Cannot map ${spec.size} bytes at offset ${spec.mmapOffset}: the file has ${size}`,
      );
    }
    const alignment = blockSize >= HUGE_PAGE ? blockSize : PAGE_SIZE;
    const skip = spec.mmapOffset % alignment;
    this.spec = spec;
    this.#mapping = new Mapping(fd, spec.size + skip, spec.mmapOffset - skip, alignment);
    this.host = this.#mapping.address + skip;
    this.windows = this.#makeWindows(spec.guestAddress - skip);
  }

  /** `start` is the guest address that the mapping's first byte would have. */
  #makeWindows(start: number): MemoryWindow[] {
    const { guestAddress, size } = this.spec;
    const windows = this.#mapping.windows.map((views) => {
      const origin = start + (views.address - this.#mapping.address);
      const base = Math.max(origin, guestAddress);
      const end = Math.min(origin + views.length, guestAddress + size);
      return new MemoryWindow(base, end, origin, views);
    });
    // The mapping's range may reach beyond the region by more than a window.
    return windows.filter(({ base, end }) => base < end);
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
  }

  /** Like dispose, for memory that a device may still write to. */
  abandon(): void {
    this.#mapping.abandon();
  }
}

/** Where a user address range lies. */
export interface UserRange {
  /** Process address. */
  readonly host: number;
  readonly guestAddress: number;
}

const nowhere = new MemoryWindow(-1, -1, -1, null);

function overlaps(a: number, b: number, size: number, otherSize: number): boolean {
  return a < b + otherSize && b < a + size;
}

const GIB = 2 ** 30;
/** The offset of an address in its GiB. */
export const OFFSET_MASK = GIB - 1;
/** Guests put the buffers of a request into several regions, so each GiB has a place of its own. */
const CACHE_BITS = 6;
const CACHE_SIZE = 2 ** CACHE_BITS;
/** Spreads the numbers of GiBs, which differ by powers of two, over the places. */
const SPREAD = 0x9e3779b1;
/** A place has four numbers: its index is that of its window, shifted so far. */
export const PLACE_SHIFT = 2;

/** The memory table of one session. */
export class GuestMemory implements Disposable {
  #regions: readonly MemoryRegion[] = [];
  /** All windows, ascending; they do not overlap. */
  #windows: MemoryWindow[] = [];
  /**
   * For each GiB of guest addresses, as far as they do not share a place, where the buffer found last there was: the
   * GiB's number, the first and the end offset in it that one window holds, and what makes an index
   * into that window's views of such an offset. Integers only: they cost a third of doubles.
   */
  readonly places: Int32Array = new Int32Array(CACHE_SIZE << PLACE_SHIFT).fill(-1);
  /** The windows of `places`. */
  readonly placeWindows: MemoryWindow[] = new Array(CACHE_SIZE).fill(nowhere);
  /** A device was given up while it held buffers in this memory. */
  #haunted = false;

  get regions(): readonly MemoryRegion[] {
    return this.#regions;
  }

  /**
   * Finds a buffer that lies in one window, by the two halves of its guest address. Returns the index
   * of its place in `places`, or -1 when it is empty, not in guest memory, or cut by an end of a
   * window. `length` above 2 GiB may be negative.
   */
  locate(high: number, low: number, length: number): number {
    const gib = (high << 2) | (low >>> 30);
    const place = (Math.imul(gib, SPREAD) >>> (32 - CACHE_BITS)) << PLACE_SHIFT;
    const offset = low & OFFSET_MASK;
    const places = this.places;
    if (
      places[place] === gib &&
      offset >= places[place + 1]! &&
      length <= places[place + 2]! - offset &&
      length > 0
    ) {
      return place;
    }
    return this.#relocate(high, low, length, place);
  }

  /** Makes the window that holds an address the one that is remembered for its GiB. */
  #relocate(high: number, low: number, length: number, place: number): number {
    const start = high * 4294967296 + (low >>> 0);
    const window = this.find(start);
    if (window === null || length <= 0 || start + length > window.end) return -1;
    const offset = low & OFFSET_MASK;
    const gibStart = start - offset;
    const end = Math.min(window.end - gibStart, GIB);
    if (length > end - offset) return -1;
    this.places[place] = (high << 2) | (low >>> 30);
    this.places[place + 1] = Math.max(window.base - gibStart, 0);
    this.places[place + 2] = end;
    this.places[place + 3] = gibStart - window.origin;
    this.placeWindows[place >> PLACE_SHIFT] = window;
    return place;
  }

  /**
   * The window that holds a guest address, or null. The rest of a buffer may lie in the next one.
   */
  find(guestAddress: number): MemoryWindow | null {
    const windows = this.#windows;
    let low = 0;
    let high = windows.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const window = windows[middle]!;
      if (guestAddress < window.base) high = middle - 1;
      else if (guestAddress >= window.end) low = middle + 1;
      else return window.open();
    }
    return null;
  }

  /** Finds `length` bytes at a front-end user address, in one region. Null when they are not. */
  findUser(userAddress: number, length: number): UserRange | null {
    for (const { spec, host } of this.#regions) {
      const at = userAddress - spec.userAddress;
      if (at < 0 || at + length > spec.size) continue;
      return { host: host + at, guestAddress: spec.guestAddress + at };
    }
    return null;
  }

  /**
   * Replaces the whole table. The old one stays in force when this throws.
   * Nothing may use the old table's memory any more.
   */
  replace(specs: readonly RegionSpec[], fds: readonly Fd[]): void {
    checkTotal(specs);
    const regions: MemoryRegion[] = [];
    try {
      specs.forEach((spec, i) => {
        checkDisjoint(spec, regions);
        regions.push(new MemoryRegion(spec, fds[i]!));
      });
    } catch (error) {
      for (const region of regions) region[Symbol.dispose]();
      throw error;
    }
    const old = this.#regions;
    this.#install(regions);
    for (const region of old) this.#release(region);
  }

  /** Adds a region. Throws `ProtocolError` when it overlaps one or there are `limit` already. */
  add(spec: RegionSpec, fd: Fd, limit: number): void {
    if (this.#regions.length >= limit) {
      throw new ProtocolError(`Cannot add a memory region: all ${limit} slots are in use`);
    }
    checkDisjoint(spec, this.#regions);
    checkTotal([...this.#regions.map((region) => region.spec), spec]);
    this.#install([...this.#regions, new MemoryRegion(spec, fd)]);
  }

  /** The region with these addresses and this size; the offset in the file does not matter. */
  match(spec: RegionSpec): MemoryRegion | undefined {
    return this.#regions.find(
      (region) =>
        region.spec.guestAddress === spec.guestAddress &&
        region.spec.userAddress === spec.userAddress &&
        region.spec.size === spec.size,
    );
  }

  /** Removes a region. Nothing may use its memory any more. */
  remove(region: MemoryRegion): void {
    this.#install(this.#regions.filter((other) => other !== region));
    this.#release(region);
  }

  /** Says that a device may go on writing to this memory, which is then never used for another. */
  haunt(): void {
    this.#haunted = true;
  }

  [Symbol.dispose](): void {
    const old = this.#regions;
    this.#install([]);
    for (const region of old) this.#release(region);
  }

  #release(region: MemoryRegion): void {
    if (this.#haunted) region.abandon();
    else region[Symbol.dispose]();
  }

  #install(regions: readonly MemoryRegion[]): void {
    this.#regions = regions;
    this.#windows = regions.flatMap((region) => region.windows).sort((a, b) => a.base - b.base);
    this.places.fill(-1);
    this.placeWindows.fill(nowhere);
  }
}

function checkTotal(specs: readonly RegionSpec[]): void {
  const total = specs.reduce((sum, { size }) => sum + size, 0);
  if (total > MAX_GUEST_MEMORY) {
    throw new ProtocolError(
      `Cannot use ${hex(total)} bytes of guest memory: ${hex(MAX_GUEST_MEMORY)} at most`,
    );
  }
}

function checkDisjoint(spec: RegionSpec, regions: readonly MemoryRegion[]): void {
  for (const { spec: other } of regions) {
    if (overlaps(spec.guestAddress, other.guestAddress, spec.size, other.size)) {
      throw new ProtocolError(
        `Cannot use the memory region at guest address ${hex(spec.guestAddress)}: ` +
          `it overlaps the one at ${hex(other.guestAddress)}`,
      );
    }
    if (overlaps(spec.userAddress, other.userAddress, spec.size, other.size)) {
      throw new ProtocolError(
        `Cannot use the memory region at guest address ${hex(spec.guestAddress)}: ` +
          `its user addresses overlap those of the region at ${hex(other.guestAddress)}`,
      );
    }
  }
}
