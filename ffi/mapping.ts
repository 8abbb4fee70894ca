/**
 * Shared memory as ArrayBuffers.
 *
 * JavaScript may hold a view of whatever was mapped here, and touching unmapped memory would end the
 * process. So files come and go at ranges of ours that stay: a released range holds anonymous zero
 * pages and serves, views included, the next mapping of its size. Ranges come in a few sizes per
 * power of two, so that memory tables of any kind leave the address space as it was.
 */
import {
  MADV_DONTDUMP,
  MAP_ANONYMOUS,
  MAP_FAILED,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_READ,
  PROT_WRITE,
} from "./abi.ts";
import type { Fd } from "./fd.ts";
import { errno, libc, runtime, SystemError } from "./libc.ts";

export const PAGE_SIZE = 4096;

/** The largest view: int32 offsets stay exact, and Bun slows down from 2 GiB and stops at 4 GiB. */
export const WINDOW_SIZE = 2 ** 30;

/** Range sizes per power of two: at most an eighth of a range lies idle. */
const SIZES_PER_OCTAVE = 8;

/** Address space that released ranges may keep. Beyond it the oldest ones are given back. */
const RETIRED_LIMIT = 2 ** 40;

/**
 * At most `WINDOW_SIZE` bytes of a mapping. The views are made when they are first looked at: each
 * one of a GiB costs Deno milliseconds, and a front-end chooses how many there are.
 */
export class Window {
  readonly address: number;
  readonly length: number;
  #u8: Uint8Array<ArrayBuffer> | null = null;
  #data: DataView<ArrayBuffer> | null = null;
  #i32: Int32Array<ArrayBuffer> | null = null;

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

  /** Whole 32-bit words, in the byte order of the machine. */
  get i32(): Int32Array<ArrayBuffer> {
    this.#i32 ??= new Int32Array(this.u8.buffer, 0, this.length >> 2);
    return this.#i32;
  }
}

interface Range {
  readonly address: number;
  readonly length: number;
  readonly windows: readonly Window[];
}

const retired: Range[] = [];
let retiredBytes = 0;

const roundUp = (value: number, unit: number) => Math.ceil(value / unit) * unit;

/** The size of the range that serves a mapping of `length` bytes. */
function rangeSize(length: number, alignment: number): number {
  const octave = 2 ** Math.floor(Math.log2(length));
  return roundUp(length, Math.max(alignment, octave / SIZES_PER_OCTAVE));
}

function makeWindows(address: number, length: number): Window[] {
  const windows: Window[] = [];
  for (let at = 0; at < length; at += WINDOW_SIZE) {
    windows.push(new Window(address + at, Math.min(WINDOW_SIZE, length - at)));
  }
  return windows;
}

/** Maps zero pages that take no memory until they are written to; at `address` unless that is 0. */
function mapBlank(address: number, length: number): number {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (address === 0 ? 0 : MAP_FIXED);
  const got = libc.mmap(address, length, PROT_READ | PROT_WRITE, flags, -1, 0);
  // Where memory is accounted strictly, pages that can only be read are still free of charge.
  return got === MAP_FAILED ? libc.mmap(address, length, PROT_READ, flags, -1, 0) : got;
}

function takeRetired(length: number): Range | null {
  const index = retired.findLastIndex((range) => range.length === length);
  if (index < 0) return null;
  retiredBytes -= length;
  return retired.splice(index, 1)[0]!;
}

function retire(range: Range): void {
  retired.push(range);
  retiredBytes += range.length;
  while (retiredBytes > RETIRED_LIMIT) {
    const oldest = retired.shift()!;
    retiredBytes -= oldest.length;
    libc.munmap(oldest.address, oldest.length);
  }
}

function newRange(length: number): Range {
  const address = mapBlank(0, length);
  if (address === MAP_FAILED) throw new SystemError("mmap", errno());
  return wrap(address, length);
}

/** Makes a range of what is mapped at `address`. */
function wrap(address: number, length: number): Range {
  return { address, length, windows: makeWindows(address, length) };
}

/** `length` bytes of a file, shared, in whole pages. `windows` view at least those. */
export class Mapping implements Disposable {
  readonly address: number;
  readonly length: number;
  readonly windows: readonly Window[];
  #range: Range | null;

  /**
   * `offset` and the mapping's end are rounded to `alignment`, the file's block size where that is a
   * huge page. Throws `SystemError` from mmap.
   */
  constructor(fd: Fd, length: number, offset = 0, alignment = PAGE_SIZE) {
    if (!(length > 0) || !Number.isSafeInteger(length) || !Number.isSafeInteger(offset)) {
      throw new RangeError(`Cannot map ${length} bytes at offset ${offset}`);
    }
    this.length = roundUp(length, alignment);
    const range = Mapping.#map(fd, this.length, offset, alignment);
    this.#range = range;
    this.address = range.address;
    this.windows = range.windows;
    // Guest memory in a core dump helps nobody and may hold secrets.
    libc.madvise(range.address, this.length, MADV_DONTDUMP);
  }

  /**
   * Maps the file where the kernel likes first: a file that cannot be mapped must not leave a hole
   * in a range of ours, which another thread of the runtime could fill. Moving it cannot fail so.
   */
  static #map(fd: Fd, length: number, offset: number, alignment: number): Range {
    const protection = PROT_READ | PROT_WRITE;
    const address = libc.mmap(0, length, protection, MAP_SHARED, fd.number, offset);
    if (address === MAP_FAILED) throw new SystemError("mmap", errno());
    // Huge pages can only move between aligned addresses: they keep the place they got.
    if (alignment !== PAGE_SIZE) return wrap(address, length);
    let range: Range;
    try {
      const size = rangeSize(length, alignment);
      range = takeRetired(size) ?? newRange(size);
    } catch (error) {
      libc.munmap(address, length);
      throw error;
    }
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    const moved = libc.mremap(address, length, length, flags, range.address);
    // The range, which may have a hole now, is given up; the mapping stays where it is.
    return moved === range.address ? range : wrap(address, length);
  }

  /** Maps another file in the place of this one: views show it from now on. Does not take `fd`. */
  replace(fd: Fd, offset = 0): void {
    const protection = PROT_READ | PROT_WRITE;
    const flags = MAP_SHARED | MAP_FIXED;
    const got = libc.mmap(this.address, this.length, protection, flags, fd.number, offset);
    if (got !== this.address) throw new SystemError("mmap", errno());
  }

  /** Releases the file. Views that are still around read zeros from now on. */
  [Symbol.dispose](): void {
    const range = this.#release();
    if (range !== null) retire(range);
  }

  /**
   * Releases the file for good: nothing else will ever be mapped there. For memory that somebody may
   * still write to.
   */
  abandon(): void {
    this.#release();
  }

  #release(): Range | null {
    const range = this.#range;
    if (range === null) return null;
    this.#range = null;
    return mapBlank(range.address, range.length) === range.address ? range : null;
  }
}

/** A part of a mapping, in whole pages. */
export interface Pages {
  readonly address: number;
  readonly length: number;
}

/** Pages of shared mappings once more, one after another, for what has to lie in one piece. */
export class Patchwork implements Disposable {
  readonly address: number;
  #range: Range | null;

  /** Throws `SystemError` from mremap, as for parts of huge pages. */
  constructor(pieces: readonly Pages[]) {
    const size = rangeSize(
      pieces.reduce((sum, { length }) => sum + length, 0),
      PAGE_SIZE,
    );
    const range = takeRetired(size) ?? newRange(size);
    this.#range = range;
    this.address = range.address;
    let to = range.address;
    for (const { address, length } of pieces) {
      // With an old length of 0 a shared mapping stays where it is, and is mapped again.
      const got = libc.mremap(address, 0, length, MREMAP_MAYMOVE | MREMAP_FIXED, to);
      if (got !== to) {
        const error = new SystemError("mremap", errno());
        this[Symbol.dispose]();
        throw error;
      }
      to += length;
    }
    libc.madvise(range.address, to - range.address, MADV_DONTDUMP);
  }

  /** Views that are still around read zeros from now on. */
  [Symbol.dispose](): void {
    const range = this.#range;
    if (range === null) return;
    this.#range = null;
    if (mapBlank(range.address, range.length) === range.address) retire(range);
  }
}
