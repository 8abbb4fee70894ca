/** Guest memory that a resource is made of: a list of pieces, seen as one row of bytes. */
import { Access, type AddressSpace } from "../../core/address-space.ts";
import type { Chain } from "../../core/chain.ts";
import { TranslationMiss } from "../../core/iotlb.ts";
import { libc } from "../../ffi/mod.ts";
import { Entry } from "./wire.ts";

/** Pieces of one resource at most; QEMU's limit. */
export const MAX_ENTRIES = 16384;

/** Bytes that an entry takes here, and in a list of iovecs. */
const ENTRY_COST = 40;

export class Backing {
  /** In bytes. */
  readonly size: number;
  /** Bytes that it takes of the host's memory. */
  readonly cost: number;
  /** Guest addresses of the pieces, and where in the whole each one begins; the end at the end. */
  readonly #address: Float64Array;
  readonly #start: Float64Array;
  /** The piece that was used last: the next row is in it most of the time. */
  #last = 0;

  /** Reads `count` entries of a command from offset `at` on, which must be there. */
  constructor(chain: Chain, at: number, count: number) {
    this.#address = new Float64Array(count);
    this.#start = new Float64Array(count + 1);
    let size = 0;
    for (let i = 0; i < count; i++) {
      const entry = at + i * Entry.size;
      this.#address[i] = chain.readU64(entry + Entry.address);
      this.#start[i] = size;
      size += chain.readU32(entry + Entry.length);
    }
    this.#start[count] = size;
    this.size = size;
    this.cost = Backing.costOf(count);
  }

  static costOf(count: number): number {
    return count * ENTRY_COST;
  }

  /** Tells whether all of it is memory. Throws `TranslationMiss` when that is not known yet. */
  lies(space: AddressSpace): boolean {
    for (let i = 0; i < this.#address.length; i++) {
      const end = this.#address[i]! + (this.#start[i + 1]! - this.#start[i]!);
      for (let address = this.#address[i]!; address < end; ) {
        const window = space.find(address, Access.READ);
        if (window === null) return absent(space, address, end - address);
        address = window.end;
      }
    }
    return true;
  }

  /**
   * Tells `take` where the pieces are in this process, one after another. False when the guest has no such
   * memory any more. Throws `TranslationMiss`.
   */
  locate(space: AddressSpace, take: (address: number, length: number) => void): boolean {
    for (let i = 0; i < this.#address.length; i++) {
      const end = this.#address[i]! + (this.#start[i + 1]! - this.#start[i]!);
      for (let address = this.#address[i]!; address < end; ) {
        const window = space.find(address, Access.WRITE);
        if (window === null) return absent(space, address, end - address);
        const stop = Math.min(window.end, end);
        take(window.host + (address - window.origin), stop - address);
        address = stop;
      }
    }
    return true;
  }

  /**
   * Copies `length` bytes from `offset` on, which must be within `size`, to an address of this process. False
   * when the guest has no such memory any more. Throws `TranslationMiss`. By addresses, because views of
   * thousands of pages would keep the garbage collector busy.
   */
  copy(space: AddressSpace, offset: number, length: number, target: number): boolean {
    let piece = this.#pieceAt(offset);
    let from = offset;
    let to = target;
    const end = offset + length;
    while (from < end) {
      const stop = Math.min(this.#start[piece + 1]!, end);
      let address = this.#address[piece]! + (from - this.#start[piece]!);
      while (from < stop) {
        const window = space.find(address, Access.READ);
        if (window === null) return absent(space, address, stop - from);
        const size = Math.min(window.end - address, stop - from);
        libc.memcpy(to, window.host + (address - window.origin), size);
        address += size;
        from += size;
        to += size;
      }
      if (from < end) piece++;
    }
    this.#last = piece;
    return true;
  }

  /** The piece that holds an offset. */
  #pieceAt(offset: number): number {
    const start = this.#start;
    const last = this.#last;
    if (start[last]! <= offset && offset < start[last + 1]!) return last;
    let low = 0;
    let high = this.#address.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (start[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Nothing is at an address: false, unless it may be there once it is translated. */
function absent(space: AddressSpace, address: number, length: number): false {
  const fault = space.fault("a resource", address, length, address, Access.READ);
  if (fault instanceof TranslationMiss) throw fault;
  return false;
}
