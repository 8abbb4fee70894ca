/**
 * The guest's memory as its front-end has it: shared regions, and an arena to allocate from.
 *
 * Guest addresses, user addresses and offsets in files are all different numbers in a different
 * order, so that a back-end that takes one for another does not get away with it.
 */
import { createMemfd, type Fd, Mapping, PAGE_SIZE, WINDOW_SIZE } from "../ffi/mod.ts";

/** One region of the memory table. All in bytes. */
export interface RegionPlan {
  readonly guestAddress: number;
  /** Where the front-end claims to have it; only a name for the back-end. */
  readonly userAddress: number;
  readonly size: number;
  /** Offset in the file. */
  readonly offset: number;
}

export interface MemoryOptions {
  /** Regions, adjacent in guest addresses; 1 by default. */
  readonly regions?: number;
  /** Bytes of each region; 32 MiB by default. */
  readonly size?: number;
  /** All regions in one file instead of one each. */
  readonly oneFile?: boolean;
  /** Bytes at both ends of each region that are not allocated from; 0 by default. */
  readonly margin?: number;
  /** User addresses repeat the guest addresses, as GPA_ADDRESSES wants it. */
  readonly mirrored?: boolean;
}

/** Beyond what fits 32 bits. */
const GUEST_START = 0x1_0800_0000;
const USER_START = 0x7e12_3400_0000;
/** Between the user addresses of two regions; none may be larger. */
const USER_STRIDE = 0x8_0000_0000;

const MEBIBYTE = 1024 * 1024;

/** The plan of region `index` of adjacent regions; further regions follow the last one. */
export function planRegion(index: number, size: number, offset: number): RegionPlan {
  return {
    guestAddress: GUEST_START + index * size,
    userAddress: USER_START - index * USER_STRIDE,
    size,
    offset,
  };
}

export class GuestRegion implements Disposable {
  readonly plan: RegionPlan;
  #fd: Fd;
  readonly #mapping: Mapping;
  readonly #limit: number;
  #next: number;

  /** Takes `fd`. Throws `SystemError` when it cannot be mapped. */
  constructor(plan: RegionPlan, fd: Fd, margin = 0) {
    this.plan = plan;
    this.#fd = fd;
    this.#mapping = new Mapping(fd, plan.size, plan.offset);
    this.#next = margin;
    this.#limit = plan.size - margin;
  }

  get fd(): Fd {
    return this.#fd;
  }

  /** Process address of the region's first byte. */
  get host(): number {
    return this.#mapping.address;
  }

  /**
   * Puts an empty file in the place of the region's own, at the same addresses here and in the
   * guest. Returns the old file, now the caller's.
   */
  renew(): Fd {
    const { offset, size } = this.plan;
    const old = this.#fd;
    const fd = createMemfd("ringside-guest", offset + size);
    this.#mapping.replace(fd, offset);
    this.#fd = fd;
    return old;
  }

  get end(): number {
    return this.plan.guestAddress + this.plan.size;
  }

  contains(address: number): boolean {
    return address >= this.plan.guestAddress && address < this.end;
  }

  /** Bytes that are certain to lie in one typed array, or null when there is no room. */
  allocate(length: number, alignment: number): number | null {
    let start = Math.ceil(this.#next / alignment) * alignment;
    const window = Math.floor(start / WINDOW_SIZE);
    if (Math.floor((start + length - 1) / WINDOW_SIZE) !== window) {
      start = (window + 1) * WINDOW_SIZE;
    }
    if (start + length > this.#limit) return null;
    this.#next = start + length;
    return this.plan.guestAddress + start;
  }

  /** The longest piece from `address` on, at most `length`, that lies in one typed array. */
  piece(address: number, length: number): Uint8Array<ArrayBuffer> {
    const at = address - this.plan.guestAddress;
    const window = this.#mapping.windows[Math.floor(at / WINDOW_SIZE)]!;
    const start = at % WINDOW_SIZE;
    return window.u8.subarray(start, start + Math.min(length, this.end - address));
  }

  [Symbol.dispose](): void {
    this.#mapping[Symbol.dispose]();
    this.fd.close();
  }
}

export class GuestMemory implements Disposable {
  readonly #regions: GuestRegion[] = [];
  readonly #margin: number;
  readonly #mirrored: boolean;
  /** What makes an address of the guest's devices of a guest address. */
  ioOffset = 0;
  /** Ring addresses are the devices', too. */
  behindIommu = false;

  constructor(options: MemoryOptions = {}) {
    const { regions = 1, size = 32 * MEBIBYTE, oneFile, margin = 0, mirrored = false } = options;
    this.#margin = margin;
    this.#mirrored = mirrored;
    if (!oneFile) {
      for (let i = 0; i < regions; i++) this.add(planRegion(i, size, (i + 1) * PAGE_SIZE));
      return;
    }
    using file = createMemfd("ringside-guest", regions * size);
    for (let i = 0; i < regions; i++) {
      this.add(planRegion(i, size, (regions - 1 - i) * size), file.duplicate());
    }
  }

  get regions(): readonly GuestRegion[] {
    return this.#regions;
  }

  /** Adds a region, in a new file unless one is given; takes that. */
  add(wanted: RegionPlan, file?: Fd): GuestRegion {
    const plan = this.#mirrored ? { ...wanted, userAddress: wanted.guestAddress } : wanted;
    const fd = file ?? createMemfd("ringside-guest", plan.offset + plan.size);
    const region = new GuestRegion(plan, fd, this.#margin);
    this.#regions.push(region);
    return region;
  }

  /** Adds a region after the last one. */
  append(size: number = this.#regions[0]!.plan.size): GuestRegion {
    const end = Math.max(...this.#regions.map((region) => region.end));
    const lowest = Math.min(...this.#regions.map((region) => region.plan.userAddress));
    return this.add({
      guestAddress: end,
      userAddress: lowest - USER_STRIDE,
      size,
      offset: PAGE_SIZE,
    });
  }

  /** Takes a region out, which the caller disposes of when nothing uses its memory any more. */
  remove(region: GuestRegion): void {
    this.#regions.splice(this.#regions.indexOf(region), 1);
  }

  /** The guest address of `length` bytes in one region. Throws RangeError when there is no room. */
  allocate(length: number, alignment = 16): number {
    for (const region of this.#regions) {
      const address = region.allocate(length, alignment);
      if (address !== null) return address;
    }
    throw new RangeError(`Cannot allocate ${length} bytes of guest memory: it is used up`);
  }

  /** The region of a guest address. Throws RangeError when there is none. */
  regionOf(address: number): GuestRegion {
    const region = this.#regions.find((candidate) => candidate.contains(address));
    if (region !== undefined) return region;
    throw new RangeError(`Cannot use guest address 0x${address.toString(16)}: it is in no region`);
  }

  /** The front-end's address of a guest address. */
  userAddress(address: number): number {
    const { plan } = this.regionOf(address);
    return plan.userAddress + (address - plan.guestAddress);
  }

  /** Guest memory in place. Throws RangeError when it is not in one region. */
  bytes(address: number, length: number): Uint8Array<ArrayBuffer> {
    const piece = this.regionOf(address).piece(address, length);
    if (piece.length === length) return piece;
    throw new RangeError(`Cannot view ${length} bytes at 0x${address.toString(16)} as one array`);
  }

  /** A copy of guest memory, which may cross regions. */
  read(address: number, length: number): Uint8Array<ArrayBuffer> {
    const result = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const piece = this.#pieceAt(address + done, length - done);
      result.set(piece, done);
      done += piece.length;
    }
    return result;
  }

  /** Writes guest memory, which may cross regions. */
  write(address: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; ) {
      const piece = this.#pieceAt(address + done, data.length - done);
      piece.set(data.subarray(done, done + piece.length));
      done += piece.length;
    }
  }

  [Symbol.dispose](): void {
    for (const region of this.#regions.splice(0)) region[Symbol.dispose]();
  }

  #pieceAt(address: number, length: number): Uint8Array<ArrayBuffer> {
    return this.regionOf(address).piece(address, length);
  }
}
