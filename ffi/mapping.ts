/**
 * Shared memory as ArrayBuffers.
 *
 * Nothing mapped here is unmapped while JavaScript may hold a view of it: touching it would end the
 * process. A released mapping is replaced by anonymous zero pages at the same address, and its range,
 * views included, serves the next mapping of that length. So repeated memory tables leave the number
 * of maps and the size of the address space as they were.
 */
import {
  MADV_DONTDUMP,
  MAP_ANONYMOUS,
  MAP_FAILED,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from "./abi.ts";
import type { Fd } from "./fd.ts";
import { errno, libc, runtime, SystemError } from "./libc.ts";

export const PAGE_SIZE = 4096;

/** The largest view: int32 offsets stay exact, and Bun slows down from 2 GiB and stops at 4 GiB. */
export const WINDOW_SIZE = 2 ** 30;

/** Refuses to land on a mapping that somebody else made meanwhile. */
const MAP_FIXED_NOREPLACE = 0x100000;

/**
 * Released ranges kept for reuse, and their bytes. Beyond that the oldest, whose views are long gone,
 * are unmapped: a front-end must not fill the address space with regions it has taken back.
 */
const RETIRED_LIMIT = 64;
const RETIRED_BYTES = 2 ** 40;

/**
 * At most `WINDOW_SIZE` bytes of a mapping. The views are made when they are first looked at: each
 * one of a GiB costs Deno milliseconds.
 */
export class Window {
  readonly address: number;
  readonly length: number;
  #u8: Uint8Array<ArrayBuffer> | null = null;
  #data: DataView<ArrayBuffer> | null = null;

  constructor(address: number, length: number) {
    this.address = address;
    this.length = length;
  }

  get u8(): Uint8Array<ArrayBuffer> {
    this.#u8 ??= new Uint8Array(runtime.view(this.address, this.length));
    return this.#u8;
  }

  get data(): DataView<ArrayBuffer> {
    this.#data ??= new DataView(this.u8.buffer);
    return this.#data;
  }
}

interface Range {
  readonly address: number;
  readonly length: number;
  readonly windows: readonly Window[];
}

const retired: Range[] = [];

function map(
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  at: number,
) {
  return libc.mmap(address, length, protection, flags, fd, at);
}

function roundUp(length: number): number {
  return Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
}

function makeWindows(address: number, length: number): Window[] {
  const windows: Window[] = [];
  for (let at = 0; at < length; at += WINDOW_SIZE) {
    windows.push(new Window(address + at, Math.min(WINDOW_SIZE, length - at)));
  }
  return windows;
}

/** Puts harmless zero pages over a range. Returns false when the range is not ours any more. */
function blank(range: Range, placement: number): boolean {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | placement;
  const got = map(range.address, range.length, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (got === range.address) return true;
  if (got !== MAP_FAILED) libc.munmap(got, range.length);
  return false;
}

function mapOverRetired(length: number, protection: number, fd: number, offset: number) {
  const index = retired.findIndex((range) => range.length === length);
  if (index < 0) return null;
  const [range] = retired.splice(index, 1);
  const flags = MAP_SHARED | MAP_FIXED;
  if (map(range!.address, length, protection, flags, fd, offset) !== MAP_FAILED) return range!;
  // The failed call may have left a hole.
  if (blank(range!, MAP_FIXED_NOREPLACE) || blank(range!, MAP_FIXED)) retired.push(range!);
  return null;
}

/**
 * `length` bytes of a file, shared. The mapping covers whole pages; `windows` view all of them.
 * Throws `SystemError` from mmap.
 */
export class Mapping implements Disposable {
  readonly address: number;
  readonly length: number;
  readonly windows: readonly Window[];
  #range: Range | null;

  constructor(fd: Fd, length: number, offset = 0, protection = PROT_READ | PROT_WRITE) {
    if (!(length > 0) || !Number.isSafeInteger(length) || !Number.isSafeInteger(offset)) {
      throw new RangeError(`Cannot map ${length} bytes at offset ${offset}`);
    }
    const size = roundUp(length);
    const range =
      mapOverRetired(size, protection, fd.number, offset) ??
      Mapping.#mapFresh(size, protection, fd.number, offset);
    this.#range = range;
    this.address = range.address;
    this.length = size;
    this.windows = range.windows;
    // Guest memory in a core dump helps nobody and may hold secrets.
    libc.madvise(this.address, size, MADV_DONTDUMP);
  }

  static #mapFresh(size: number, protection: number, fd: number, offset: number): Range {
    const address = map(0, size, protection, MAP_SHARED, fd, offset);
    if (address === MAP_FAILED) throw new SystemError("mmap", errno());
    return { address, length: size, windows: makeWindows(address, size) };
  }

  /** Releases the file. Views that are still around read zeros from now on. */
  [Symbol.dispose](): void {
    const range = this.#range;
    if (range === null) return;
    this.#range = null;
    if (!blank(range, MAP_FIXED)) return;
    retired.push(range);
    let bytes = retired.reduce((sum, { length }) => sum + length, 0);
    while (retired.length > RETIRED_LIMIT || (bytes > RETIRED_BYTES && retired.length > 1)) {
      const oldest = retired.shift()!;
      bytes -= oldest.length;
      libc.munmap(oldest.address, oldest.length);
    }
  }
}
