/**
 * Guest memory: the regions a front-end shares, and the two ways into them: by guest-physical
 * address (buffers) and by front-end user address (rings).
 */
import type { Fd, Mapping } from "../ffi/mod.ts";
import { AddressSpace, MemoryWindow } from "./address-space.ts";
import type { Chain } from "./chain.ts";
import { ProtocolError } from "./errors.ts";
import { hex } from "./hex.ts";
import { mapSharedFile } from "./shared-file.ts";

/**
 * Guest memory that one front-end may map, in bytes: what virtual machines have, and far less than
 * the address space, which the process needs for itself.
 */
const MAX_GUEST_MEMORY = 2 ** 44;

/** A region as the front-end describes it. All in bytes. */
export interface RegionSpec {
  readonly guestAddress: number;
  readonly size: number;
  readonly userAddress: number;
  readonly mmapOffset: number;
}

/** Where the pages of memory come from that was mapped before they have come. */
export interface PageSource {
  /** Lets whoever touches a page of a new mapping wait for it. Throws when that cannot be. */
  awaitPages(address: number, length: number): void;
  /**
   * Waits for what a device reads of a chain. Returns false when some of it will never come and reads
   * as zeros: the chain itself may be made of those.
   */
  receive(chain: Chain): boolean;
}

/** A mapped region. */
export class MemoryRegion implements Disposable {
  readonly spec: RegionSpec;
  readonly windows: readonly MemoryWindow[];
  /** Process address of the region's first byte. */
  readonly host: number;
  readonly #mapping: Mapping;

  /** The pages of the file that are mapped, in the address space of the process. */
  get range(): { readonly address: number; readonly length: number } {
    return this.#mapping;
  }

  /**
   * Maps the region and keeps the memory from shrinking where the file allows that. Does not take
   * `fd`. Throws `ProtocolError` when the file is too small, `SystemError` when it cannot be mapped.
   */
  constructor(spec: RegionSpec, fd: Fd, source: PageSource | null = null) {
    const { mapping, skip } = mapSharedFile("a memory region", fd, spec.mmapOffset, spec.size);
    this.spec = spec;
    this.#mapping = mapping;
    this.host = this.#mapping.address + skip;
    try {
      source?.awaitPages(this.#mapping.address, this.#mapping.length);
    } catch (error) {
      this.#mapping[Symbol.dispose]();
      throw error;
    }
    this.windows = this.#makeWindows(spec.guestAddress - skip);
  }

  /** `start` is the guest address that the mapping's first byte would have. */
  #makeWindows(start: number): MemoryWindow[] {
    const { guestAddress, size } = this.spec;
    const windows = this.#mapping.windows.map((views) => {
      const origin = start + (views.address - this.#mapping.address);
      const base = Math.max(origin, guestAddress);
      const end = Math.min(origin + views.length, guestAddress + size);
      return new MemoryWindow({ base, end, origin, physical: origin, views });
    });
    // The mapping's range may reach beyond the region by more than a window.
    return windows.filter(({ base, end }) => base < end);
  }

  /** Tells whether a front-end user address is in the region. */
  holds(userAddress: number): boolean {
    const at = userAddress - this.spec.userAddress;
    return at >= 0 && at < this.spec.size;
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

function overlaps(a: number, b: number, size: number, otherSize: number): boolean {
  return a < b + otherSize && b < a + size;
}

/** The memory table of one session. */
export class GuestMemory extends AddressSpace implements Disposable {
  #regions: readonly MemoryRegion[] = [];
  /** The region that a user address was found in last. */
  #lastUser: MemoryRegion | null = null;
  /** A device was given up while it held buffers in this memory. */
  #haunted = false;
  /** While it is set, new regions get their pages from there: touching one may put us to sleep. */
  source: PageSource | null = null;

  get regions(): readonly MemoryRegion[] {
    return this.#regions;
  }

  /** Finds `length` bytes at a front-end user address, in one region. Null when they are not. */
  findUser(userAddress: number, length: number): UserRange | null {
    return this.#findIn(userAddress, length, "userAddress");
  }

  /** The same by guest-physical address. */
  findGuest(guestAddress: number, length: number): UserRange | null {
    return this.#findIn(guestAddress, length, "guestAddress");
  }

  #findIn(address: number, length: number, kind: "userAddress" | "guestAddress"): UserRange | null {
    for (const { spec, host } of this.#regions) {
      const at = address - spec[kind];
      if (at < 0 || at + length > spec.size) continue;
      return { host: host + at, guestAddress: spec.guestAddress + at };
    }
    return null;
  }

  /** The window of a front-end user address, or null; sets `offset` to the index in its views. */
  findUserWindow(userAddress: number): MemoryWindow | null {
    if (!this.#lastUser?.holds(userAddress)) {
      this.#lastUser = this.#regions.find((region) => region.holds(userAddress)) ?? null;
      if (this.#lastUser === null) return null;
    }
    const { guestAddress, userAddress: start } = this.#lastUser.spec;
    const address = guestAddress + (userAddress - start);
    const window = this.find(address);
    if (window !== null) this.offset = address - window.origin;
    return window;
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
        regions.push(new MemoryRegion(spec, fds[i]!, this.source));
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
    this.#install([...this.#regions, new MemoryRegion(spec, fd, this.source)]);
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
    this.#lastUser = null;
    this.install(regions.flatMap((region) => region.windows));
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
