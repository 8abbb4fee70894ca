/**
 * A descriptor chain, checked and translated. Each virtqueue owns one `Chain` and refills it for
 * every request, so nothing here is allocated per request.
 *
 * The buffers of a chain form two byte streams: first the device-readable ones, then the
 * device-writable ones (virtio 1.3, 2.7.4.2). How the driver cut them into descriptors is of no
 * concern to a device (virtio 1.3, 2.7.4), so access is by offset in a stream.
 */
import type { Iovecs } from "../ffi/mod.ts";
import { Access, type AddressSpace, type MemoryWindow } from "./address-space.ts";
import { GuestError } from "./errors.ts";
import { hex } from "./hex.ts";
import type { Piece } from "./iotlb.ts";

const { READ, WRITE } = Access;

/** Spans a chain can hold at first; longer chains grow it once. */
const INITIAL_SPANS = 64;
/** A span has four numbers, of which three are used. */
const SPAN_SHIFT = 2;
const OFFSET = 1;
const LENGTH = 2;
/** What the largest ring's longest chain has when each of its buffers crosses a border. */
const MAX_SPANS = 65536;

/** What a chain needs of the queue it came from. */
export interface ChainOwner {
  /** A copy of the queue's chain that lives until it is completed. */
  hold(): HeldChain;
  /** Completes a held chain, which is empty by then. */
  completeHeld(held: HeldChain, written: number): void;
}

/** The checked buffers of one request. A span never crosses the end of a memory window. */
export class Chain {
  /** Identifies the request towards the queue until it is completed. */
  head = 0;
  /** Spans in all, and how many of them, the first ones, are device-readable. */
  count = 0;
  readableCount = 0;
  /** Bytes in the device-readable and in the device-writable buffers. */
  readableBytes = 0;
  writableBytes = 0;

  protected readonly owner: ChainOwner;
  /** What the addresses of the buffers mean. */
  readonly space: AddressSpace;
  /**
   * For each span its window's slot, its offset in the window's views and its length, in four words.
   * For virtqueues.
   */
  spans: Int32Array = new Int32Array(INITIAL_SPANS << SPAN_SHIFT);
  /** Offset within the span that `#locate` found. */
  #within = 0;

  /** `space`: what the addresses of the owner's descriptors mean. */
  constructor(owner: ChainOwner, space: AddressSpace) {
    this.owner = owner;
    this.space = space;
  }

  /** Keeps the request beyond its handler, which then answers `PENDING`. */
  hold(): HeldChain {
    return this.owner.hold();
  }

  /** Sets what is known of the buffers in `spans`. For virtqueues. */
  setCounts(count: number, readableCount: number, readable: number, writable: number): void {
    this.count = count;
    this.readableCount = readableCount;
    this.readableBytes = readable;
    this.writableBytes = writable;
  }

  /**
   * Appends a buffer, its address as two 32-bit halves. For virtqueues. Throws `GuestError` when part of
   * it is not in memory or when a device-readable buffer follows a device-writable one. `length` above
   * 2 GiB may be negative.
   */
  append(high: number, low: number, length: number, writable: boolean): void {
    const { count, space } = this;
    if (!writable && count !== this.readableCount)
      throw readableAfterWritable(high, low, this.head);
    const slot = space.locate(high, low, length, writable ? WRITE : READ);
    const at = count << SPAN_SHIFT;
    const spans = this.spans;
    if (slot < 0 || at >= spans.length) {
      return this.#appendParts(high, low, length >>> 0, writable);
    }
    spans[at] = slot;
    spans[at + OFFSET] = space.offset;
    spans[at + LENGTH] = length;
    this.count = count + 1;
    if (writable) this.writableBytes += length;
    else {
      this.readableBytes += length;
      this.readableCount = count + 1;
    }
  }

  /** Appends a buffer that is empty, or cut by the end of a window, or in need of more room. */
  #appendParts(high: number, low: number, length: number, writable: boolean): void {
    const start = high * 4294967296 + (low >>> 0);
    const access = writable ? WRITE : READ;
    if (writable) this.writableBytes += length;
    else this.readableBytes += length;
    let address = start;
    let left = length;
    while (left > 0) {
      const window = this.space.find(address, access);
      if (window === null)
        throw this.space.fault(`chain ${this.head}: a buffer`, start, length, address, access);
      const size = Math.min(window.end - address, left);
      const at = this.count << SPAN_SHIFT;
      if (at === this.spans.length) this.#grow();
      this.spans[at] = window.slot;
      this.spans[at + OFFSET] = address - window.origin;
      this.spans[at + LENGTH] = size;
      this.count++;
      address += size;
      left -= size;
    }
    if (!writable) this.readableCount = this.count;
  }

  /** Reads a byte of the device-readable stream. Throws RangeError past its end, like the others. */
  readU8(at: number): number {
    if (this.readableCount > 0 && at >= 0 && at < this.spans[LENGTH]!) {
      return this.#window(0).data.getUint8((this.spans[OFFSET]! + at) | 0);
    }
    const i = this.#locate(at, 0, this.readableCount);
    return this.#window(i).data.getUint8((this.#offset(i) + this.#within) | 0);
  }

  /** Reads a little-endian 16-bit number of the device-readable stream. */
  readU16(at: number): number {
    if (this.readableCount > 0 && at >= 0 && at + 2 <= this.spans[LENGTH]!) {
      return this.#window(0).data.getUint16((this.spans[OFFSET]! + at) | 0, true);
    }
    return this.readU8(at) | (this.readU8(at + 1) << 8);
  }

  /** Reads a little-endian 32-bit number of the device-readable stream. */
  readU32(at: number): number {
    if (this.readableCount > 0 && at >= 0 && at + 4 <= this.spans[LENGTH]!) {
      return this.#window(0).data.getUint32((this.spans[OFFSET]! + at) | 0, true);
    }
    return (this.readU16(at) | (this.readU16(at + 2) << 16)) >>> 0;
  }

  /** Reads a little-endian 64-bit number, exact up to 2^53 and rounded above. */
  readU64(at: number): number {
    if (this.readableCount > 0 && at >= 0 && at + 8 <= this.spans[LENGTH]!) {
      const { data } = this.#window(0);
      const offset = (this.spans[OFFSET]! + at) | 0;
      return data.getUint32((offset + 4) | 0, true) * 4294967296 + data.getUint32(offset, true);
    }
    return this.readU32(at + 4) * 4294967296 + this.readU32(at);
  }

  /** Writes a byte of the device-writable stream. */
  writeU8(at: number, value: number): void {
    const i = this.#locate(at, this.readableCount, this.count);
    this.#window(i).data.setUint8((this.#offset(i) + this.#within) | 0, value);
  }

  /** Writes the last byte of the device-writable stream, where block requests have their status. */
  writeLastU8(value: number): void {
    const i = this.count - 1;
    if (i < this.readableCount) throw pastEnd(0, 0);
    this.#window(i).u8[(this.#offset(i) + this.#length(i) - 1) | 0] = value;
  }

  /** Copies out of the device-readable stream, as much as there is. Returns the bytes copied. */
  read(into: Uint8Array, at = 0): number {
    return this.#copy(into, at, 0, this.readableCount, false);
  }

  /** Copies into the device-writable stream, as much as fits. Returns the bytes copied. */
  write(from: Uint8Array, at = 0): number {
    return this.#copy(from, at, this.readableCount, this.count, true);
  }

  /** Spans of the device-writable stream. */
  get writableCount(): number {
    return this.count - this.readableCount;
  }

  /**
   * A view of span `i` of the device-readable stream, `0 <= i < readableCount`. The driver can change
   * what it shows at any time, and it must not be kept after the chain is completed. Allocates: for
   * large or cold buffers.
   */
  readable(i: number): Uint8Array<ArrayBuffer> {
    return this.#view(i, 0, this.readableCount);
  }

  /** A view of span `i` of the device-writable stream, `0 <= i < writableCount`, as `readable`. */
  writable(i: number): Uint8Array<ArrayBuffer> {
    return this.#view(i, this.readableCount, this.writableCount);
  }

  /** Adds `length` bytes of the device-readable stream to `iovecs`. False when they do not fit. */
  readableIovecs(iovecs: Iovecs, at: number, length: number): boolean {
    return this.#pushSpans(iovecs, at, length, 0, this.readableCount);
  }

  /** Adds `length` bytes of the device-writable stream to `iovecs`. False when they do not fit. */
  writableIovecs(iovecs: Iovecs, at: number, length: number): boolean {
    return this.#pushSpans(iovecs, at, length, this.readableCount, this.count);
  }

  /** Tells whether a buffer lies in one of `pieces`. */
  uses(pieces: readonly Piece[]): boolean {
    for (let i = 0; i < this.count; i++) {
      const slot = this.spans[i << SPAN_SHIFT]!;
      const from = this.#offset(i);
      const to = from + this.#length(i);
      if (pieces.some((piece) => piece.slot === slot && from < piece.to && piece.from < to)) {
        return true;
      }
    }
    return false;
  }

  #view(i: number, first: number, count: number): Uint8Array<ArrayBuffer> {
    if (!(i >= 0 && i < count)) throw new RangeError(`Cannot view span ${i} of ${count}`);
    const offset = this.#offset(first + i);
    return this.#window(first + i).u8.subarray(offset, offset + this.#length(first + i));
  }

  #locate(at: number, first: number, last: number): number {
    let rest = at;
    if (at < 0) throw pastEnd(at, 0);
    for (let i = first; i < last; i++) {
      const length = this.#length(i);
      if (rest < length) {
        this.#within = rest;
        return i;
      }
      rest -= length;
    }
    throw pastEnd(at, at - rest);
  }

  #copy(bytes: Uint8Array, at: number, first: number, last: number, inward: boolean): number {
    if (at < 0) throw pastEnd(at, 0);
    let skip = at;
    let done = 0;
    for (let i = first; i < last && done < bytes.length; i++) {
      const length = this.#length(i);
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const size = Math.min(length - skip, bytes.length - done);
      const start = this.#offset(i) + skip;
      const memory = this.#window(i).u8;
      if (inward) memory.set(bytes.subarray(done, done + size), start);
      else bytes.set(memory.subarray(start, start + size), done);
      done += size;
      skip = 0;
    }
    return done;
  }

  #pushSpans(iovecs: Iovecs, at: number, length: number, first: number, last: number): boolean {
    if (at < 0) throw pastEnd(at, 0);
    let skip = at;
    let left = length;
    for (let i = first; i < last && left > 0; i++) {
      const span = this.#length(i);
      if (skip >= span) {
        skip -= span;
        continue;
      }
      const rest = span - skip;
      const size = Math.min(rest, left);
      if (!iovecs.push(this.#window(i).host + ((this.#offset(i) + skip) | 0), size)) return false;
      left -= size;
      skip = 0;
    }
    return left === 0;
  }

  #window(i: number): MemoryWindow {
    return this.space.slots[this.spans[i << SPAN_SHIFT]!]!;
  }

  #offset(i: number): number {
    return this.spans[(i << SPAN_SHIFT) + OFFSET]!;
  }

  #length(i: number): number {
    return this.spans[(i << SPAN_SHIFT) + LENGTH]!;
  }

  #grow(): void {
    const capacity = this.spans.length * 2;
    if (capacity > MAX_SPANS << SPAN_SHIFT) throw tooManySpans(this.head);
    const spans = new Int32Array(capacity);
    spans.set(this.spans);
    this.spans = spans;
  }

  /** Guest-physical addresses and lengths of the device-writable buffers, in turns. */
  writableRanges(): number[] {
    const ranges: number[] = [];
    for (let i = this.readableCount; i < this.count; i++) {
      ranges.push(this.#window(i).physical + this.#offset(i), this.#length(i));
    }
    return ranges;
  }

  /** Makes this chain equal to `other`. */
  protected copyFrom(other: Chain): void {
    this.head = other.head;
    this.spans = other.spans.slice(0, other.count << SPAN_SHIFT);
    this.setCounts(other.count, other.readableCount, other.readableBytes, other.writableBytes);
  }
}

/**
 * A chain that its device keeps until `complete`. It is empty afterwards, and also once its queue has
 * stopped without it: the memory may be another guest's by then.
 */
export class HeldChain extends Chain {
  #live = true;

  constructor(owner: ChainOwner, chain: Chain) {
    super(owner, chain.space);
    this.copyFrom(chain);
  }

  override hold(): HeldChain {
    return this;
  }

  /** False when it is completed or its queue has stopped. */
  get live(): boolean {
    return this.#live;
  }

  /** Returns the chain to the driver with `written` bytes in it. Does nothing the second time. */
  complete(written: number): void {
    if (!this.#live) return;
    this.release();
    this.owner.completeHeld(this, written);
  }

  /** Takes the buffers away. For virtqueues. */
  release(): void {
    this.#live = false;
    this.setCounts(0, 0, 0, 0);
  }
}

/** virtio 1.3, 2.7.4.2. */
export function readableAfterWritable(high: number, low: number, head: number): GuestError {
  const address = hex(high * 4294967296 + (low >>> 0));
  return new GuestError(
    `chain ${head}: the device-readable buffer at ${address} follows a device-writable one`,
    "virtio 1.3 2.7.4.2",
  );
}

function tooManySpans(head: number): GuestError {
  return new GuestError(
    `the chain from descriptor ${head} has more than ${MAX_SPANS} parts`,
    "virtio 1.3 2.7.5.2",
  );
}

function pastEnd(at: number, length: number): RangeError {
  return new RangeError(`Cannot access offset ${at} of ${length} bytes`);
}
